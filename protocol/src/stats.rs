//! Counters since the node's start.

use std::collections::BTreeMap;

use headwater_proto::{NoRouteReason, Violation};

/// What happened so far. Counters only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Subscriptions of neighbours that were taken.
    pub subs_accepted: u64,
    /// Requests of neighbours that were turned away, by reason.
    pub refused: BTreeMap<NoRouteReason, u64>,
    /// Chunks that came in and were new.
    pub chunks_in: u64,
    /// Payload bytes of those.
    pub chunk_bytes_in: u64,
    /// Chunks that were sent.
    pub chunks_out: u64,
    /// Payload bytes of those.
    pub chunk_bytes_out: u64,
    /// Chunks that were here already.
    pub duplicate_chunks: u64,
    /// Parts too old to be kept.
    pub stale_parts: u64,
    /// Data on subscriptions that had been given up.
    pub late_data: u64,
    /// Data on subscriptions that never were.
    pub unsolicited_data: u64,
    /// Parts handed to this machine.
    pub parts_delivered: u64,
    /// Gaps told to this machine.
    pub gaps_delivered: u64,
    /// Gaps told to neighbours.
    pub gaps_sent: u64,
    /// Holes that were asked for.
    pub nacks_sent: u64,
    /// Parents that fell silent, left, or had nothing.
    pub parents_lost: u64,
    /// Master playlists older than the one known.
    pub stale_masters: u64,
    /// Claims of transcoders that were granted.
    pub claims_granted: u64,
    /// Claims that were refused.
    pub claims_refused: u64,
    /// Claims older than one already seen.
    pub claims_replayed: u64,
    /// Dials of transcoders.
    pub dials: u64,
    /// What readers of links threw away, by kind.
    pub violations: BTreeMap<Violation, u64>,
    /// Links closed for it.
    pub peers_expelled: u64,
}
