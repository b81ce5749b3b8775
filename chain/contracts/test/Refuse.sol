// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ILedger} from "./Reenter.sol";

/// An account that takes no payment.
contract Refuse {
    function run(ILedger ledger) external payable {
        ledger.deposit{value: msg.value}();
        ledger.withdraw(msg.value);
    }
}
