//! What others may read of a node: for status pages, metrics and tests.

use headwater_proto::{NodeId, Position, Roles, StreamId};

use crate::{node::Node, streams::Source};

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The neighbour.
    pub peer: NodeId,
    /// What it does for the network.
    pub roles: Roles,
    /// Bytes of parts and chunks that may be sent to it now.
    pub credit: usize,
    /// Streams that come from it.
    pub from: usize,
    /// Streams that go to it.
    pub to: usize,
    /// Violations in the current window.
    pub violations: u32,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// The stream.
    pub stream: StreamId,
    /// The node makes it.
    pub owned: bool,
    /// Newest part whose header is known.
    pub edge: Option<Position>,
    /// From whom it comes; `None` at its owner and while it is looked for.
    pub parent: Option<NodeId>,
    /// Data can be expected now.
    pub live: bool,
    /// To whom it goes.
    pub children: Vec<NodeId>,
    /// Who would feed it if the parent failed.
    pub standby: Option<NodeId>,
    /// Nodes from the owner down to this one, this one included.
    pub depth: usize,
    /// It is delivered to this machine.
    pub delivered: bool,
    /// It has ended.
    pub finished: bool,
    /// Payload bytes that are kept.
    pub ring_bytes: usize,
}

impl Node {
    /// The open links.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.cx.links.iter().map(|(peer, link)| PeerView {
            peer: *peer,
            roles: link.roles,
            credit: link.credit,
            from: link.up.len(),
            to: link.down.len(),
            violations: link.violations,
        })
    }

    /// The streams this node owns, carries or looks for.
    pub fn streams(&self) -> impl Iterator<Item = StreamView> + '_ {
        self.streams.iter().map(|stream| {
            let (owned, parent, standby) = match &stream.source {
                Source::Owned(_) => (true, None, None),
                Source::Remote(up) => {
                    let standby = up.standby().map(|index| up.parents[index].peer);
                    (false, up.main().map(|p| p.peer), standby)
                }
            };
            StreamView {
                stream: stream.id.clone(),
                owned,
                edge: stream.ring.edge(),
                parent,
                live: stream.is_live(),
                children: stream
                    .children
                    .values()
                    .filter(|child| !child.is_standby())
                    .map(|child| child.peer)
                    .collect(),
                standby,
                depth: stream.path(&self.cx).len(),
                delivered: stream.local.wanted(),
                finished: stream.finished.is_some(),
                ring_bytes: stream.ring.bytes(),
            }
        })
    }
}
