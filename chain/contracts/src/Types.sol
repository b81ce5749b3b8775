// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

// What the ledger keeps and takes. All amounts are wei, all times are block numbers or counts of blocks.

/// The rules of one deployment, fixed for its life.
struct Settings {
    /// Least stake of a transcoder; above zero.
    uint128 minStake;
    /// What a challenger puts up for each receipt it asks for; should pay for the answer's gas.
    uint128 challengeBond;
    /// Segments that are paid for in advance when a job is created, and at most what one extension may add.
    uint32 reserveSegments;
    /// How long an elected transcoder has to acknowledge.
    uint32 ackBlocks;
    /// How long a job lives after its creation or last extension.
    uint32 jobBlocks;
    /// How long after a job's end its work can be claimed.
    uint32 claimBlocks;
    /// How long a claim can be challenged.
    uint32 challengeBlocks;
    /// How long the transcoder has to answer a challenge.
    uint32 answerBlocks;
    /// How long stake stays bonded after leaving; above 256.
    uint32 unbondBlocks;
}

/// What counts in elections.
struct Terms {
    /// Weight; 0 for one who takes no part.
    uint128 stake;
    /// Asked for one segment.
    uint128 price;
}

/// A transcoder. Elections look at the state when their seed's block was not yet known, so the terms before
/// the last change are kept until no such election can come any more.
struct Transcoder {
    Terms terms;
    Terms termsBefore;
    /// Public key of its node.
    bytes32 node;
    /// At stake, also while leaving.
    uint128 bonded;
    /// Block of the last change of terms; 0 for none yet.
    uint64 changedAt;
    /// Stake can be had back from this block, once left.
    uint64 unbondsAt;
    /// Claims that are not settled.
    uint32 openClaims;
    /// Whether it is among the seats.
    bool seated;
}

enum JobState {
    None,
    Open,
    Assigned,
    Acknowledged,
    Ended
}

enum EndReason {
    Ended,
    Cancelled,
    Expired
}

struct Job {
    address broadcaster;
    JobState state;
    /// How often a transcoder has been elected.
    uint32 round;
    /// Whether anyone ever acknowledged, so that there may be work to pay.
    bool worked;
    /// Whether what was left of the reserve has gone back.
    bool released;
    /// Who holds it; zero when open.
    address transcoder;
    uint64 createdAt;
    uint128 maxPrice;
    /// Set aside and not yet claimed.
    uint128 reserved;
    /// Its hash is the seed of the next or last election.
    uint64 seedBlock;
    uint64 assignedAt;
    uint64 expiresAt;
    uint64 endedAt;
    /// keccak256 of the stream id's text.
    bytes32 streamHash;
    /// Node of the holder as registered at the assignment.
    bytes32 node;
}

/// A transcoder's part in a job; it stays when the job goes to another.
struct Holding {
    /// For one segment, as of the election.
    uint128 price;
    /// 0 for never.
    uint64 acknowledgedAt;
}

enum ClaimState {
    None,
    Pending,
    Settled,
    Slashed
}

struct Claim {
    address transcoder;
    uint64 jobId;
    ClaimState state;
    uint128 amount;
    /// Paid from this block on.
    uint64 settlesAt;
    /// Number of receipts.
    uint32 count;
    uint32 openChallenges;
    /// Segment numbers of all receipts are within `first..=last`.
    uint64 first;
    uint64 last;
    bytes32 root;
}

struct Challenge {
    /// Zero when resolved.
    address challenger;
    /// 0 when that receipt was never asked for.
    uint64 answerBy;
}

/// Proof that one segment was transcoded on order.
struct Receipt {
    uint64 segment;
    bytes32 sourceHash;
    bytes32 renditionsHash;
    /// The broadcaster's: r, s, v (EIP-712 `Segment`).
    bytes signature;
}

/// A receipt and its place in a claim's tree.
struct Opening {
    uint256 claimId;
    uint32 index;
    Receipt receipt;
    /// Siblings from leaf to root.
    bytes32[] proof;
}
