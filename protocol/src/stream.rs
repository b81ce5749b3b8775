//! What a node knows of one stream: its ring, where it comes from, where it goes.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{
    JobId, NodeId, Position, RequestId, Signed, StreamEnd, StreamId, TranscodeClaim,
};

use crate::{config::Config, output::Priority, ring::Ring, time::Time};

/// One stream that is carried.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    /// This node makes it.
    pub(crate) owned: bool,
    pub(crate) ring: Ring,
    /// Who was asked for it. The first is the one it comes from; a second is there while
    /// a better one is tried.
    pub(crate) upstreams: Vec<Upstream>,
    /// Neighbours that failed in the present search, not to be asked again in it.
    pub(crate) failed: BTreeSet<NodeId>,
    /// Searches that failed since data last came.
    pub(crate) attempts: u32,
    /// Relays a Sub of ours may still pass.
    pub(crate) hops: u8,
    pub(crate) children: BTreeMap<ChildKey, Child>,
    /// Delivery to this machine.
    pub(crate) local: Option<Local>,
    /// Jobs of this node that need it.
    pub(crate) jobs: BTreeSet<JobId>,
    /// A claim to send in place of the next Sub.
    pub(crate) claim: Option<(TranscodeClaim, [u8; 65])>,
    /// Data was asked for from here on, before any came.
    pub(crate) from: Option<Position>,
    pub(crate) finish: Option<Signed<StreamEnd>>,
    /// Routing keys from the owner down to our parent.
    pub(crate) path: Vec<u64>,
    /// The hole that was asked for last, and how often.
    pub(crate) repair: Option<(Position, u32)>,
}

/// A child is a neighbour and the request it made.
pub(crate) type ChildKey = (NodeId, RequestId);

impl Stream {
    pub(crate) fn new(id: StreamId, owned: bool, ring: Ring, hops: u8) -> Self {
        Self {
            id,
            owned,
            ring,
            upstreams: Vec::new(),
            failed: BTreeSet::new(),
            attempts: 0,
            hops,
            children: BTreeMap::new(),
            local: None,
            jobs: BTreeSet::new(),
            claim: None,
            from: None,
            finish: None,
            path: Vec::new(),
            repair: None,
        }
    }

    pub(crate) fn parent(&self) -> Option<NodeId> {
        self.upstreams.first().map(|upstream| upstream.peer)
    }

    /// Somebody needs it, here or further down.
    pub(crate) fn is_wanted(&self) -> bool {
        self.owned || self.local.is_some() || !self.jobs.is_empty() || !self.children.is_empty()
    }

    /// The first position that is not here completely, once any is.
    pub(crate) fn needed(&self) -> Option<Position> {
        let start = self.ring.oldest()?;
        Some(self.ring.first_incomplete(start))
    }

    /// Everything up to its end is here.
    pub(crate) fn is_whole(&self) -> bool {
        let Some(finish) = &self.finish else {
            return false;
        };
        match (finish.value().last, self.needed()) {
            (None, _) => true,
            (Some(last), Some(needed)) => needed > last,
            (Some(_), None) => false,
        }
    }

    /// Data is at hand or on its way.
    pub(crate) fn is_live(&self) -> bool {
        self.owned
            || self
                .upstreams
                .first()
                .is_some_and(|upstream| upstream.state == UpstreamState::Live)
    }

    pub(crate) fn upstream(&mut self, peer: NodeId, request: RequestId) -> Option<&mut Upstream> {
        self.upstreams
            .iter_mut()
            .find(|upstream| upstream.peer == peer && upstream.request == request)
    }
}

/// A subscription of ours at a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) peer: NodeId,
    pub(crate) request: RequestId,
    pub(crate) state: UpstreamState,
    pub(crate) heard: Time,
}

impl Upstream {
    /// When its silence counts as failure.
    pub(crate) fn patience_ends(&self, config: &Config) -> Time {
        let span = match self.state {
            UpstreamState::Asked => config.ask,
            UpstreamState::Pending => config.pending,
            UpstreamState::Live => config.silence,
        };
        self.heard + span
    }
}

/// What a neighbour that was asked said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamState {
    /// Nothing yet.
    Asked,
    /// It looks for the stream itself.
    Pending,
    /// Data flows.
    Live,
}

/// A subscription of a neighbour at us: a cursor into the ring.
#[derive(Debug, Clone)]
pub(crate) struct Child {
    /// Nothing is sent while its claim is checked.
    pub(crate) held: bool,
    /// Of a transcoder whose claim was granted.
    pub(crate) feed: Option<JobId>,
    pub(crate) cursor: Cursor,
    /// Newest init it has.
    pub(crate) init: Option<u32>,
    /// When anything was sent last.
    pub(crate) sent: Time,
}

impl Child {
    pub(crate) const fn new(from: Option<Position>, now: Time) -> Self {
        Self {
            held: false,
            feed: None,
            cursor: Cursor {
                next: from,
                header: false,
                chunk: 0,
                init_chunk: None,
            },
            init: None,
            sent: now,
        }
    }

    /// Feeds go first; a child that catches up yields to those at the live edge.
    pub(crate) fn priority(&self, at: Position, edge: Option<Position>) -> Priority {
        if self.feed.is_some() {
            Priority::Feed
        } else if edge.is_some_and(|edge| at.segment < edge.segment) {
            Priority::Backfill
        } else {
            Priority::Live
        }
    }
}

/// How far a child has been served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor {
    /// The part it is at; `None` until it has a place to start.
    pub(crate) next: Option<Position>,
    /// That part's header has been sent.
    pub(crate) header: bool,
    /// Next chunk of that part.
    pub(crate) chunk: usize,
    /// Next chunk of the init that comes before that part, when it is on its way.
    pub(crate) init_chunk: Option<usize>,
}

impl Cursor {
    pub(crate) const fn jump(&mut self, to: Position) {
        self.next = Some(to);
        self.header = false;
        self.chunk = 0;
        self.init_chunk = None;
    }
}

/// Delivery to this machine: a cursor that takes whole parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Local {
    /// A subscription of the program, rather than a job's.
    pub(crate) subscribed: bool,
    pub(crate) next: Option<Position>,
    pub(crate) init: Option<u32>,
    pub(crate) finished: bool,
}
