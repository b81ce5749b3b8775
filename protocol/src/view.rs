//! What a node shows of itself, for status pages and tests.

use headwater_proto::{NodeId, Position, Roles, StreamId};

/// One stream that a node carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// The stream.
    pub stream: StreamId,
    /// The node makes it.
    pub owned: bool,
    /// From whom it comes now.
    pub parent: Option<NodeId>,
    /// The nodes it goes to.
    pub children: Vec<NodeId>,
    /// It is delivered to this machine.
    pub delivered: bool,
    /// Newest part the node has the header of.
    pub edge: Option<Position>,
    /// Its owner ended it.
    pub finished: bool,
    /// Payload bytes kept.
    pub ring_bytes: usize,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The neighbour.
    pub peer: NodeId,
    /// What it does for the network.
    pub roles: Roles,
    /// Bytes of parts and chunks that may be sent now.
    pub credit: usize,
}
