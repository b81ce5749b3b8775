//! The open links: credit, subscriptions by request id, liveness and violations.

use std::collections::{BTreeMap, VecDeque};

use headwater_proto::{AddressText, Message, NodeId, RequestId, Roles, RoutingKey};

use crate::{output::message_bytes, streams::StreamKey, time::Time};

/// Requests of ours that ended lately, for each link: their answers may still arrive.
/// As many as may be open at a time: they may all end together.
const CLOSED_KEPT: usize = 1024;
/// Bytes that a neighbour may make this node send before it has brought any; see
/// [`LinkState::allowance`].
pub(crate) const GRACE: usize = 4096;

/// One link.
#[derive(Debug)]
pub(crate) struct LinkState {
    pub(crate) roles: Roles,
    pub(crate) key: RoutingKey,
    /// Bytes of parts and chunks that may be sent now.
    pub(crate) credit: usize,
    /// What the credit is when the link is idle; the driver can't raise it beyond.
    pub(crate) credit_max: usize,
    /// Something waits for credit.
    pub(crate) starved: bool,
    /// Last time anything came in.
    pub(crate) heard: Time,
    /// Nonce and time of a Ping without its Pong.
    pub(crate) ping: Option<(u64, Time)>,
    /// Our subscriptions at the neighbour.
    pub(crate) up: BTreeMap<RequestId, StreamKey>,
    /// The neighbour's subscriptions here.
    pub(crate) down: BTreeMap<RequestId, StreamKey>,
    /// Violations since `window`.
    pub(crate) violations: u32,
    pub(crate) window: Time,
    /// Where others can dial the neighbour.
    pub(crate) addresses: Vec<AddressText>,
    /// Bytes that may be sent on account of the neighbour's requests as long as none of
    /// its subscriptions is proven: to others, who did not ask for it, and to itself,
    /// where it is more than a short answer. It begins with [`GRACE`], grows by what the
    /// neighbour sends, and is full again when a stream that it asked for turns out to
    /// exist. So a stranger never makes a node send more than it sends itself, beyond
    /// the first few kilobytes.
    pub(crate) allowance: usize,
    /// When somebody closer was last looked for on its account.
    pub(crate) looked: Option<Time>,
    /// Requests of the neighbour in the second that began at `second`.
    asked: u32,
    second: Time,
    /// Routed requests of the neighbour that wait here.
    pub(crate) requests: usize,
    closed: VecDeque<RequestId>,
}

impl LinkState {
    /// Remembers that a request of ours has ended.
    pub(crate) fn close(&mut self, request: RequestId) {
        if self.closed.len() == CLOSED_KEPT {
            self.closed.pop_front();
        }
        self.closed.push_back(request);
    }

    /// Notes what the neighbour has brought.
    pub(crate) fn earn(&mut self, message: &Message) {
        if self.allowance < GRACE {
            self.allowance = (self.allowance + message_bytes(message)).min(GRACE);
        }
    }

    /// Counts a request of the neighbour; false when it makes too many in a second.
    pub(crate) fn may_ask(&mut self, now: Time, most: u32) -> bool {
        if now.since(self.second) >= std::time::Duration::from_secs(1) {
            self.second = now;
            self.asked = 0;
        }
        self.asked = self.asked.saturating_add(1);
        self.asked <= most
    }

    /// Whether a request of ours ended lately.
    pub(crate) fn was_closed(&self, request: RequestId) -> bool {
        self.closed.contains(&request)
    }
}

/// The links by neighbour.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<NodeId, LinkState>);

impl Links {
    pub(crate) fn insert(&mut self, peer: NodeId, roles: Roles, credit: usize, now: Time) {
        let link = LinkState {
            roles,
            key: peer.routing_key(),
            credit,
            credit_max: credit,
            starved: false,
            heard: now,
            ping: None,
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            violations: 0,
            window: now,
            addresses: Vec::new(),
            allowance: GRACE,
            looked: None,
            asked: 0,
            second: now,
            requests: 0,
            closed: VecDeque::new(),
        };
        self.0.insert(peer, link);
    }

    pub(crate) fn remove(&mut self, peer: &NodeId) -> Option<LinkState> {
        self.0.remove(peer)
    }

    pub(crate) fn get(&self, peer: &NodeId) -> Option<&LinkState> {
        self.0.get(peer)
    }

    pub(crate) fn get_mut(&mut self, peer: &NodeId) -> Option<&mut LinkState> {
        self.0.get_mut(peer)
    }

    pub(crate) fn contains(&self, peer: &NodeId) -> bool {
        self.0.contains_key(peer)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeId, &LinkState)> {
        self.0.iter()
    }
}
