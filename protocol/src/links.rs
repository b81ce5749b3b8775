//! The open links: credit, subscriptions by request id, liveness and violations.

use std::{cmp::Ordering, collections::VecDeque};

use headwater_proto::{AddressText, Message, NodeId, RequestId, Roles, RoutingKey};

use crate::{
    output::{answer_bytes, message_bytes},
    streams::StreamKey,
    time::Time,
};

/// Requests of ours that ended lately, for each link: their answers may still arrive.
/// As many as may be open at a time: they may all end together.
const CLOSED_KEPT: usize = 1024;
/// A link without a message for this long may be closed for another.
const QUIET: std::time::Duration = std::time::Duration::from_secs(5);
/// Bytes that a neighbour may make this node send before it has brought any; see
/// [`LinkState::allowance`].
pub(crate) const GRACE: usize = 4096;

/// One link. What every message looks at comes first, on two lines of memory.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct LinkState {
    pub(crate) peer: NodeId,
    /// Our subscriptions at the neighbour.
    pub(crate) up: Subs,
    /// Last time anything came in.
    pub(crate) heard: Time,
    /// Bytes of parts and chunks that may be sent now.
    pub(crate) credit: usize,
    /// What the credit is when the link is idle; the driver can't raise it beyond.
    pub(crate) credit_max: usize,
    /// Bytes that may be sent on account of the neighbour's requests as long as none of
    /// its subscriptions is proven: to others, who did not ask for it, and to itself,
    /// where it is more than a short answer. It begins with [`GRACE`], grows by what the
    /// neighbour sends less the short answers that this node owes for it, and is full
    /// again when a stream that it asked for turns out to exist. So a stranger never makes
    /// a node send more than it sends itself, all together, beyond the first few kilobytes.
    pub(crate) allowance: usize,
    /// The neighbour's subscriptions here.
    pub(crate) down: Subs,
    /// Something waits for credit.
    pub(crate) starved: bool,
    pub(crate) roles: Roles,
    pub(crate) key: RoutingKey,
    /// Nonce and time of a Ping without its Pong.
    pub(crate) ping: Option<(u64, Time)>,
    /// Violations since `window`.
    pub(crate) violations: u32,
    pub(crate) window: Time,
    /// Where others can dial the neighbour.
    pub(crate) addresses: Vec<AddressText>,
    /// When somebody closer was last looked for on its account.
    pub(crate) looked: Option<Time>,
    /// Requests of the neighbour.
    pub(crate) asked: Rate,
    /// Requests that were passed on to it.
    pub(crate) passed: Rate,
    /// Routed requests of the neighbour that wait here.
    pub(crate) requests: usize,
    /// When something was last asked over it, or a subscription or request on it ended.
    pub(crate) used: Time,
    closed: VecDeque<RequestId>,
}

/// How often something happened in the current second.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Rate {
    since: Time,
    times: u32,
}

impl Rate {
    /// Counts once more; returns how often that makes in this second.
    pub(crate) fn count(&mut self, now: Time) -> u32 {
        if now.since(self.since) >= std::time::Duration::from_secs(1) {
            *self = Self {
                since: now,
                times: 0,
            };
        }
        self.times = self.times.saturating_add(1);
        self.times
    }

    /// When the second began that is counted.
    pub(crate) const fn since(&self) -> Time {
        self.since
    }
}

impl LinkState {
    fn new(peer: NodeId, roles: Roles, credit: usize, now: Time) -> Self {
        Self {
            peer,
            roles,
            key: peer.routing_key(),
            credit,
            credit_max: credit,
            starved: false,
            heard: now,
            ping: None,
            up: Subs::default(),
            down: Subs::default(),
            violations: 0,
            window: now,
            addresses: Vec::new(),
            allowance: GRACE,
            looked: None,
            asked: Rate::default(),
            passed: Rate::default(),
            requests: 0,
            used: now,
            closed: VecDeque::new(),
        }
    }

    /// Whether no subscription and no routed request of the neighbour is on it.
    pub(crate) const fn carries_nothing(&self) -> bool {
        self.up.is_empty() && self.down.is_empty() && self.requests == 0
    }

    /// Remembers that a request of ours has ended.
    pub(crate) fn close(&mut self, request: RequestId, now: Time) {
        self.used = now;
        if self.closed.len() == CLOSED_KEPT {
            self.closed.pop_front();
        }
        self.closed.push_back(request);
    }

    /// Notes what the neighbour has brought, less the short answer that it gets.
    pub(crate) fn earn(&mut self, message: &Message) {
        if self.allowance < GRACE {
            let left = message_bytes(message).saturating_sub(answer_bytes(message));
            self.allowance = (self.allowance + left).min(GRACE);
        }
    }

    /// Whether a request of ours ended lately.
    pub(crate) fn was_closed(&self, request: RequestId) -> bool {
        self.closed.contains(&request)
    }
}

/// Subscriptions on one link, by request id: few, so they lie together.
#[derive(Debug, Default)]
pub(crate) struct Subs(Vec<(RequestId, StreamKey)>);

impl Subs {
    pub(crate) fn get(&self, request: RequestId) -> Option<StreamKey> {
        let place = self.place(request).ok()?;
        self.0.get(place).map(|(_, key)| *key)
    }

    pub(crate) fn insert(&mut self, request: RequestId, key: StreamKey) {
        match self.place(request) {
            Ok(place) => self.0[place] = (request, key),
            Err(place) => self.0.insert(place, (request, key)),
        }
    }

    pub(crate) fn remove(&mut self, request: RequestId) {
        if let Ok(place) = self.place(request) {
            self.0.remove(place);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestId, StreamKey)> {
        self.0.iter().copied()
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, request: RequestId) -> Result<usize, usize> {
        self.0
            .binary_search_by_key(&request, |(request, _)| *request)
    }
}

/// The links by neighbour.
///
/// Each message looks some of them up, so what is searched is apart from the links
/// themselves and takes little memory.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// In the order of ids: the first bytes of the id, and the place.
    index: Vec<(u64, u32)>,
    places: Vec<Option<LinkState>>,
    free: Vec<u32>,
}

impl Links {
    pub(crate) fn insert(&mut self, peer: NodeId, roles: Roles, credit: usize, now: Time) {
        let link = LinkState::new(peer, roles, credit, now);
        match self.search(&peer) {
            Ok(at) => self.places[self.index[at].1 as usize] = Some(link),
            Err(at) => {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.places.push(None);
                    u32::try_from(self.places.len() - 1).expect("a node has few links")
                });
                self.places[place as usize] = Some(link);
                self.index.insert(at, (first_bytes(&peer), place));
            }
        }
    }

    pub(crate) fn remove(&mut self, peer: &NodeId) -> Option<LinkState> {
        let at = self.search(peer).ok()?;
        let (_, place) = self.index.remove(at);
        self.free.push(place);
        self.places[place as usize].take()
    }

    pub(crate) fn get(&self, peer: &NodeId) -> Option<&LinkState> {
        let at = self.search(peer).ok()?;
        self.places[self.index[at].1 as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, peer: &NodeId) -> Option<&mut LinkState> {
        let at = self.search(peer).ok()?;
        self.places[self.index[at].1 as usize].as_mut()
    }

    pub(crate) fn contains(&self, peer: &NodeId) -> bool {
        self.search(peer).is_ok()
    }

    /// The link that is missed least: one that carries nothing, of a node that is no
    /// relayer first, and that was quiet for longest. It has to have been quiet for a
    /// while unless `now_or_never`; a relayer's goes for one that is needed only.
    pub(crate) fn least_needed(&self, now_or_never: bool, now: Time) -> Option<NodeId> {
        let quiet = |link: &LinkState| now.since(link.heard) > QUIET;
        self.iter()
            .filter(|(_, link)| link.carries_nothing())
            .filter(|(_, link)| now_or_never || (quiet(link) && !link.roles.relayer))
            .min_by_key(|(_, link)| (link.roles.relayer, link.heard))
            .map(|(peer, _)| *peer)
    }

    pub(crate) const fn len(&self) -> usize {
        self.index.len()
    }

    /// In the order of ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&NodeId, &LinkState)> {
        let links = self.index.iter();
        let links = links.filter_map(|(_, place)| self.places[*place as usize].as_ref());
        links.map(|link| (&link.peer, link))
    }

    /// In no order that means anything, but always in the same.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut LinkState)> {
        let links = self.places.iter_mut().flatten();
        links.map(|link| (link.peer, link))
    }

    fn search(&self, peer: &NodeId) -> Result<usize, usize> {
        let first = first_bytes(peer);
        // Ids are spread evenly, so each is near its place in an even row. Somebody who
        // chooses ids can make it further, but a node has few links.
        let len = self.index.len();
        let guess = (u128::from(first) * len as u128) >> u64::BITS;
        let mut at = usize::try_from(guess).unwrap_or(0);
        while at > 0 && self.index[at - 1].0 >= first {
            at -= 1;
        }
        while let Some((other, place)) = self.index.get(at)
            && *other <= first
        {
            if *other == first {
                let link = self.places[*place as usize].as_ref();
                match link.map(|link| &link.peer).cmp(&Some(peer)) {
                    Ordering::Less => {}
                    Ordering::Equal => return Ok(at),
                    Ordering::Greater => break,
                }
            }
            at += 1;
        }
        Err(at)
    }
}

/// Bytes of an id that order as the id does, as far as they differ.
fn first_bytes(peer: &NodeId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *peer.public_key();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
