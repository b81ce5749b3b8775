//! What a node has counted since it started.

use std::collections::BTreeMap;

/// Counters of one node; they only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Inputs handled.
    pub inputs: u64,
    /// Messages sent, of all kinds.
    pub messages_out: u64,
    /// Messages received, of all kinds.
    pub messages_in: u64,
    /// Subscriptions that neighbours asked for (Sub, and TranscodeSub with a branch).
    pub subs_in: u64,
    /// Subscriptions asked of neighbours.
    pub subs_out: u64,
    /// TranscodeSubs received, and sent or passed on.
    pub claims_in: u64,
    /// See [`Stats::claims_in`].
    pub claims_out: u64,
    /// Payload bytes of chunks sent.
    pub bytes_out: u64,
    /// Payload bytes of chunks received and kept.
    pub bytes_in: u64,
    /// Parts completed from neighbours.
    pub parts_in: u64,
    /// Parts handed to this machine.
    pub parts_delivered: u64,
    /// Gaps handed to this machine.
    pub gaps_delivered: u64,
    /// Gaps told to children.
    pub gaps_out: u64,
    /// Children moved ahead because they were too slow.
    pub children_skipped: u64,
    /// Headers and chunks that were here already.
    pub duplicates: u64,
    /// Payload bytes of chunks that were here already.
    pub duplicate_bytes: u64,
    /// Redirects sent, and followed.
    pub redirects_out: u64,
    /// See [`Stats::redirects_out`].
    pub redirects_in: u64,
    /// Parents left because this node is on their path.
    pub cycles: u64,
    /// Searches for somebody closer that the driver was asked for.
    pub lookups: u64,
    /// Headers of parts older than what is kept.
    pub stale_parts: u64,
    /// Headers that contradict others of their stream.
    pub contradictions: u64,
    /// Data that came after its subscription was ended here.
    pub late: u64,
    /// Nacks sent.
    pub nacks_out: u64,
    /// Nacks received.
    pub nacks_in: u64,
    /// Parents lost or given up.
    pub parents_lost: u64,
    /// Ends of streams that the stream had already outlived.
    pub stale_finishes: u64,
    /// Master playlists older than the one known.
    pub stale_masters: u64,
    /// Transcoders' claims and results older than one seen.
    pub stale_claims: u64,
    /// Claims that the driver refused.
    pub refused_claims: u64,
    /// Requests for receipts that this node had to answer, and those it refused.
    pub receipts_asked: u64,
    /// See [`Stats::receipts_asked`].
    pub receipts_refused: u64,
    /// Routed requests of others that were passed on.
    pub requests_relayed: u64,
    /// Requests turned away because a limit was reached.
    pub overloaded: u64,
    /// Dials begun.
    pub dials: u64,
    /// What neighbours did that no correct node does, by kind.
    pub violations: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Sum of [`Stats::violations`].
    #[must_use]
    pub fn violations_total(&self) -> u64 {
        self.violations.values().sum()
    }
}
