// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "./Types.sol";
import {Receipts} from "./Receipts.sol";

/// The settings of a deployment and the bounds of what it takes.
abstract contract Rules {
    error BadSettings();
    error TextTooLong();
    error NoStream();

    /// A block's hash can be read for this many blocks (EVM).
    uint256 internal constant HASH_BLOCKS = 256;
    uint256 internal constant MAX_STREAM_BYTES = 200;
    uint256 internal constant MAX_PROFILES = 16;
    uint256 internal constant MAX_PROFILE_BYTES = 32;

    uint128 internal immutable MIN_STAKE;
    uint128 internal immutable CHALLENGE_BOND;
    uint32 internal immutable RESERVE_SEGMENTS;
    uint32 internal immutable ACK_BLOCKS;
    uint32 internal immutable JOB_BLOCKS;
    uint32 internal immutable CLAIM_BLOCKS;
    uint32 internal immutable CHALLENGE_BLOCKS;
    uint32 internal immutable ANSWER_BLOCKS;
    uint32 internal immutable UNBOND_BLOCKS;

    constructor(Settings memory set) {
        bool blocks = set.ackBlocks > 0 && set.jobBlocks > 0 && set.claimBlocks > 0 && set.challengeBlocks > 0
            && set.answerBlocks > 0 && set.unbondBlocks > HASH_BLOCKS;
        if (!blocks || set.minStake == 0 || set.challengeBond == 0 || set.reserveSegments == 0) revert BadSettings();
        MIN_STAKE = set.minStake;
        CHALLENGE_BOND = set.challengeBond;
        RESERVE_SEGMENTS = set.reserveSegments;
        ACK_BLOCKS = set.ackBlocks;
        JOB_BLOCKS = set.jobBlocks;
        CLAIM_BLOCKS = set.claimBlocks;
        CHALLENGE_BLOCKS = set.challengeBlocks;
        ANSWER_BLOCKS = set.answerBlocks;
        UNBOND_BLOCKS = set.unbondBlocks;
    }

    /// The settings of this deployment.
    function settings() external view returns (Settings memory) {
        return Settings({
            minStake: MIN_STAKE,
            challengeBond: CHALLENGE_BOND,
            reserveSegments: RESERVE_SEGMENTS,
            ackBlocks: ACK_BLOCKS,
            jobBlocks: JOB_BLOCKS,
            claimBlocks: CLAIM_BLOCKS,
            challengeBlocks: CHALLENGE_BLOCKS,
            answerBlocks: ANSWER_BLOCKS,
            unbondBlocks: UNBOND_BLOCKS
        });
    }

    /// EIP-712 domain of everything that is signed for this ledger.
    function domainSeparator() public view returns (bytes32) {
        return Receipts.separator(block.chainid, address(this));
    }

    function _checkProfiles(string[] calldata profiles) internal pure {
        if (profiles.length > MAX_PROFILES) revert TextTooLong();
        for (uint256 n = 0; n < profiles.length; ++n) {
            if (bytes(profiles[n]).length > MAX_PROFILE_BYTES) revert TextTooLong();
        }
    }
}
