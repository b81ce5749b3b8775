// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "./Types.sol";
import {Claims} from "./Claims.sol";
import {Rules} from "./Rules.sol";

/// The ledger of Headwater on an Ethereum chain: transcoders and their stake, jobs and who holds them, and the
/// payment for their work. It has no owner and cannot be changed.
contract Headwater is Claims {
    constructor(Settings memory set) Rules(set) {}
}
