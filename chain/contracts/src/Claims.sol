// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Challenge, Claim, ClaimState, Holding, Job, JobState, Opening, Transcoder} from "./Types.sol";
import {Jobs} from "./Jobs.sol";
import {Receipts} from "./Receipts.sol";

/// Payment for work. A claim is a Merkle root over receipts. It is paid after a window in which anyone can show
/// a bad or doubly claimed receipt in it, or ask to see any of its receipts: one that is not shown in time counts
/// as bad, so keeping receipts secret does not help. A false claim costs half of the stake.
abstract contract Claims is Jobs {
    enum Fault {
        BadReceipt,
        DoubleClaim,
        Unanswered
    }

    event WorkClaimed(
        uint256 indexed claimId,
        uint256 indexed jobId,
        address indexed transcoder,
        bytes32 root,
        uint64 first,
        uint64 last,
        uint32 count,
        uint128 amount,
        uint64 settlesAt
    );
    event ClaimChallenged(uint256 indexed claimId, uint32 indexed index, address indexed challenger, uint64 answerBy);
    event ChallengeAnswered(
        uint256 indexed claimId,
        uint32 indexed index,
        uint64 segment,
        bytes32 sourceHash,
        bytes32 renditionsHash,
        uint64 settlesAt
    );
    event BondReturned(uint256 indexed claimId, uint32 indexed index, address indexed challenger);
    event ClaimSettled(uint256 indexed claimId, address indexed transcoder, uint128 amount);
    event ClaimSlashed(
        uint256 indexed claimId, address indexed transcoder, address indexed reporter, Fault fault, uint128 penalty, uint128 reward
    );

    error UnknownClaim();
    error ClaimClosed(ClaimState state);
    error ClaimingOver();
    error BadRange();
    error AlreadyClaimed();
    error ReserveSpent(uint256 needed, uint256 reserved);
    error NotInClaim();
    error ReceiptIsGood();
    error ReceiptIsBad();
    error NotDouble();
    error WrongBond(uint256 needed);
    error ChallengingOver();
    error AlreadyChallenged();
    error NotChallenged();
    error AnswerPending(uint256 until);
    error AnsweringOver();
    error NotSettleable(uint256 settlesAt, uint256 openChallenges);

    /// Receipts in one claim; the greatest proof has 12 steps.
    uint32 public constant MAX_RECEIPTS = 4096;
    /// Of the stake, for a false claim; rounded up.
    uint256 public constant PENALTY_PERCENT = 50;
    /// Of the penalty, for who showed it. The rest is burned, so that reporting oneself is a loss.
    uint256 public constant REWARD_PERCENT = 20;

    /// How many claims were ever made; their numbers start at 1.
    uint256 public claimCount;
    mapping(uint256 claimId => Claim) private _claims;
    mapping(uint256 claimId => mapping(uint32 index => Challenge)) private _challenges;
    mapping(uint256 jobId => mapping(bytes32 root => bool)) private _claimedRoots;

    /// Claims `count` segments of a job that the sender has acknowledged, all with numbers in `first..=last`, at
    /// the price of its election, and answers for them with its stake, which must be the least one or more. The same
    /// root is taken only once, so that a transaction sent again is harmless.
    function claimWork(uint256 jobId, bytes32 root, uint64 first, uint64 last, uint32 count)
        external
        returns (uint256 claimId)
    {
        Job storage job = _known(jobId);
        Holding storage held = _holdings[jobId][msg.sender];
        Transcoder storage t = _transcoders[msg.sender];
        if (held.acknowledgedAt == 0) revert NotHolder();
        if (job.state == JobState.Ended && block.number > uint256(job.endedAt) + CLAIM_BLOCKS) revert ClaimingOver();
        if (t.bonded < MIN_STAKE) revert StakeTooLow(MIN_STAKE);
        if (count == 0 || count > MAX_RECEIPTS || last < first || count - 1 > last - first) revert BadRange();
        if (_claimedRoots[jobId][root]) revert AlreadyClaimed();
        uint256 amount = uint256(held.price) * count;
        if (amount > job.reserved) revert ReserveSpent(amount, job.reserved);

        _claimedRoots[jobId][root] = true;
        job.reserved -= uint128(amount);
        ++t.openClaims;
        claimId = ++claimCount;
        Claim storage made = _claims[claimId];
        made.transcoder = msg.sender;
        made.jobId = uint64(jobId);
        made.state = ClaimState.Pending;
        made.amount = uint128(amount);
        made.settlesAt = uint64(block.number + CHALLENGE_BLOCKS);
        made.count = count;
        made.first = first;
        made.last = last;
        made.root = root;
        emit WorkClaimed(
            claimId, jobId, msg.sender, root, first, last, count, made.amount, made.settlesAt
        );
    }

    /// Pays an unchallenged claim after its window; for anyone to call.
    function settleClaim(uint256 claimId) external {
        Claim storage made = _pending(claimId);
        if (block.number < made.settlesAt || made.openChallenges > 0) {
            revert NotSettleable(made.settlesAt, made.openChallenges);
        }
        made.state = ClaimState.Settled;
        --_transcoders[made.transcoder].openClaims;
        emit ClaimSettled(claimId, made.transcoder, made.amount);
        _credit(made.transcoder, made.amount);
    }

    /// Shows that a receipt of a claim is out of its range or not signed by the job's broadcaster. Possible until
    /// the claim is settled.
    function proveBad(Opening calldata shown) external {
        Claim storage made = _pending(shown.claimId);
        _checkInClaim(made, shown);
        if (_isGood(made, shown)) revert ReceiptIsGood();
        _slash(shown.claimId, made, Fault.BadReceipt, msg.sender);
    }

    /// Shows that a claim has a segment that the same transcoder also claimed elsewhere, in this claim or another
    /// of the job that was not slashed. Possible until the claim is settled.
    function proveDouble(Opening calldata shown, Opening calldata other) external {
        Claim storage made = _pending(shown.claimId);
        Claim storage before = _claims[other.claimId];
        if (before.state == ClaimState.None) revert UnknownClaim();
        if (before.state == ClaimState.Slashed) revert ClaimClosed(before.state);
        bool same = shown.claimId == other.claimId && shown.index == other.index;
        bool related = made.jobId == before.jobId && made.transcoder == before.transcoder;
        if (same || !related || shown.receipt.segment != other.receipt.segment) revert NotDouble();
        _checkInClaim(made, shown);
        _checkInClaim(before, other);
        _slash(shown.claimId, made, Fault.DoubleClaim, msg.sender);
    }

    /// Asks to see a receipt of a claim, within its window and with exactly the bond.
    function challenge(uint256 claimId, uint32 index) external payable {
        Claim storage made = _pending(claimId);
        if (msg.value != CHALLENGE_BOND) revert WrongBond(CHALLENGE_BOND);
        if (block.number >= made.settlesAt) revert ChallengingOver();
        if (index >= made.count) revert NotInClaim();
        Challenge storage asked = _challenges[claimId][index];
        if (asked.answerBy != 0) revert AlreadyChallenged();
        asked.challenger = msg.sender;
        asked.answerBy = uint64(block.number + ANSWER_BLOCKS);
        ++made.openChallenges;
        emit ClaimChallenged(claimId, index, msg.sender, asked.answerBy);
    }

    /// Shows a receipt that was asked for; the bond goes to the transcoder. The claim then stays open for long
    /// enough to compare the receipt with others.
    function answer(Opening calldata shown) external {
        Claim storage made = _pending(shown.claimId);
        Challenge storage asked = _open(shown.claimId, shown.index);
        if (block.number > asked.answerBy) revert AnsweringOver();
        _checkInClaim(made, shown);
        if (!_isGood(made, shown)) revert ReceiptIsBad();
        asked.challenger = address(0);
        --made.openChallenges;
        uint64 until = uint64(block.number + ANSWER_BLOCKS);
        if (until > made.settlesAt) made.settlesAt = until;
        emit ChallengeAnswered(
            shown.claimId,
            shown.index,
            shown.receipt.segment,
            shown.receipt.sourceHash,
            shown.receipt.renditionsHash,
            made.settlesAt
        );
        _credit(made.transcoder, CHALLENGE_BOND);
    }

    /// Closes a challenge that was not answered in time, which slashes the claim, or whose claim was slashed
    /// already. The bond goes back; for anyone to call.
    function resolveChallenge(uint256 claimId, uint32 index) external {
        Challenge storage asked = _open(claimId, index);
        Claim storage made = _claims[claimId];
        address challenger = asked.challenger;
        bool pending = made.state == ClaimState.Pending;
        if (pending && block.number <= asked.answerBy) revert AnswerPending(asked.answerBy);
        asked.challenger = address(0);
        --made.openChallenges;
        emit BondReturned(claimId, index, challenger);
        _credit(challenger, CHALLENGE_BOND);
        if (pending) _slash(claimId, made, Fault.Unanswered, challenger);
    }

    function claimOf(uint256 claimId) external view returns (Claim memory) {
        return _claims[claimId];
    }

    function challengeOf(uint256 claimId, uint32 index) external view returns (Challenge memory) {
        return _challenges[claimId][index];
    }

    function _pending(uint256 claimId) private view returns (Claim storage made) {
        made = _claims[claimId];
        if (made.state == ClaimState.None) revert UnknownClaim();
        if (made.state != ClaimState.Pending) revert ClaimClosed(made.state);
    }

    function _open(uint256 claimId, uint32 index) private view returns (Challenge storage asked) {
        asked = _challenges[claimId][index];
        if (asked.challenger == address(0)) revert NotChallenged();
    }

    function _checkInClaim(Claim storage made, Opening calldata shown) private view {
        bytes32 hash = Receipts.leaf(_jobs[made.jobId].streamHash, shown.receipt);
        bytes32 root = Receipts.root(hash, shown.index, made.count, shown.proof);
        if (root == 0 || root != made.root) revert NotInClaim();
    }

    function _isGood(Claim storage made, Opening calldata shown) private view returns (bool) {
        uint64 segment = shown.receipt.segment;
        if (segment < made.first || segment > made.last) return false;
        Job storage job = _jobs[made.jobId];
        bytes32 digest =
            Receipts.digest(domainSeparator(), made.jobId, made.transcoder, job.streamHash, shown.receipt);
        return Receipts.signer(digest, shown.receipt.signature) == job.broadcaster;
    }

    function _slash(uint256 claimId, Claim storage made, Fault fault, address reporter) private {
        made.state = ClaimState.Slashed;
        Transcoder storage t = _transcoders[made.transcoder];
        --t.openClaims;
        uint128 penalty = t.bonded - uint128(uint256(t.bonded) * (100 - PENALTY_PERCENT) / 100);
        uint128 reward = uint128(uint256(penalty) * REWARD_PERCENT / 100);
        burned += penalty - reward;
        Job storage job = _jobs[made.jobId];
        bool released = job.released;
        if (!released) job.reserved += made.amount;
        _takeStake(made.transcoder, penalty);
        emit ClaimSlashed(claimId, made.transcoder, reporter, fault, penalty, reward);
        if (released) _credit(job.broadcaster, made.amount);
        _credit(reporter, reward);
    }
}
