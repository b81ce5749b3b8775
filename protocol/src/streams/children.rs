//! The children of one stream: who is taken on, who is sent elsewhere, what they are told.
//!
//! # The tree
//!
//! A node takes [`crate::Config::max_children`] children. The last of these places are
//! kept for those who play already and lost their parent ([`crate::Config::reserved`])
//! and for those who came back because they could not follow a Redirect; a transcoder's
//! feed has places of its own. Everybody else is sent down by Redirect to the children
//! that were named least often, so the tree fills evenly, level by level.
//!
//! A relayer that comes when only kept places are left is given one, and a child that is
//! no relayer is introduced to it: those who can serve many move towards the owner, and
//! the tree stays flat.
//!
//! A relay that serves one child and nobody else introduces it to its own parent, and
//! leaves when the child has moved: relays stay where the tree branches, and only there.
//!
//! # Why no cycle lasts
//!
//! Redirects and moves do not follow the order of distances that makes routing free of
//! loops, so each node knows its path, the nodes from the owner down to itself, and says
//! so in every SubAck, at once when it changes.
//!
//! 1. A node does not take a child that is on its own path, and one whose path is
//!    [`MAX_PATH`] long takes none: paths are never cut.
//! 2. A node leaves a parent whose path has the node itself on it.
//!
//! Suppose a cycle were closed by changes of parents that crossed each other (otherwise 1
//! forbids it). Every node on it sends its path to the next, and again whenever it
//! changes. No node on the cycle is the owner, so each path is that of the node before
//! plus one entry; after at most one round some node finds itself in what it is told, and
//! by 2 the cycle is broken there. As long as it lasts it carries no new data, so nothing
//! can be delivered twice or out of order through it.

use headwater_proto::{
    Finish, JobId, Message, NoRouteReason, NodeAddresses, NodeId, Redirect, RequestId, SubAck,
    SubState,
    limits::{MAX_PATH, SUB_ACK_INTERVAL_MS},
};

use super::{
    child::{Child, Hold},
    stream::{Source, Stream},
};
use crate::{
    config::Config,
    cx::Cx,
    feed::ClaimId,
    output::{Event, Priority},
    time::Time,
};

/// Nodes named in one Redirect: enough to choose from, few enough to send to a stranger.
const NAMED: usize = 4;
/// Addresses of each.
const ADDRESSES: usize = 2;
/// Load from which a stream's children are told that there are many of them ...
pub(super) const CROWDED: u8 = 192;
/// ... and load down to which they have to go before they are told otherwise.
const CALM: u8 = 128;
/// Newcomers that a relayer is sent for each one that another node is: it takes more
/// children, and stays longer.
const RELAYER: u32 = 4;
/// A child is introduced to another parent once in this time.
const INTRODUCED: std::time::Duration = std::time::Duration::from_secs(20);
/// A child without data is told of its parent after this long.
const ACK: std::time::Duration = std::time::Duration::from_millis(SUB_ACK_INTERVAL_MS);
/// A child that waits for the stream is told so again after this long: when a network is
/// cut in two, a relay may have hundreds of them.
const PENDING_ACK: std::time::Duration = std::time::Duration::from_secs(1);
/// A standby is told of its parent after this long at the latest.
const STANDBY_ACK: std::time::Duration = std::time::Duration::from_millis(1250);
/// It is told so much earlier when this node is awake anyway, for others or for data.
const STANDBY_EARLY: std::time::Duration = std::time::Duration::from_millis(250);

/// Whether a child was taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Taken,
    /// There is no room; others may have some.
    Full,
    /// It can't be a child of this node.
    Refused(NoRouteReason),
}

impl Stream {
    /// Takes a child on, in place of what the neighbour had of this stream before.
    pub(crate) fn add_child(&mut self, cx: &mut Cx, mut child: Child) -> Admission {
        let name = (child.peer, child.request);
        let all = (child.peer, RequestId(u64::MIN))..=(child.peer, RequestId(u64::MAX));
        let old: Vec<_> = self.children.range(all).map(|(name, _)| *name).collect();
        for old in old {
            self.drop_child(cx, old);
        }
        let path = self.path(cx);
        let Some(link) = cx.links.get_mut(&child.peer) else {
            return Admission::Refused(NoRouteReason::NoCloserPeer);
        };
        if path.contains(&link.key.prefix()) {
            return Admission::Refused(NoRouteReason::NoCloserPeer);
        }
        if path.len() >= MAX_PATH {
            return Admission::Refused(NoRouteReason::HopLimit);
        }
        if link.down.len() >= cx.config.max_subs_per_peer {
            return Admission::Refused(NoRouteReason::Overloaded);
        }
        if !self.has_room(&cx.config, &child) {
            return Admission::Full;
        }
        link.down.insert(child.request, self.key);
        if let Some((transcoder, job)) = child.feed {
            feed_event(cx, transcoder, job, child.peer, true);
        }
        // Not before its siblings, or all that come next would be sent to it.
        let fewest = self.children.values().map(|c| c.handed).min();
        child.handed = fewest.unwrap_or_default();
        self.children.insert(name, child);
        let (load, state) = (self.load(cx), self.state());
        if let Some(child) = self.children.get_mut(&name)
            && state != SubState::Pending
            && child.hold == Hold::Free
        {
            acknowledge(cx, child, load, state, path);
        }
        self.tell_crowd(cx);
        self.tell_finish(cx);
        Admission::Taken
    }

    /// Children that are sent the stream.
    pub(crate) fn fed(&self) -> usize {
        self.children.values().filter(|c| !c.is_standby()).count()
    }

    fn has_room(&self, config: &Config, child: &Child) -> bool {
        let of_its_kind = |other: &&Child| other.is_standby() == child.is_standby();
        let same_kind = self.children.values().filter(of_its_kind).count();
        let max = config.max_children;
        let room = if child.is_standby() || max == 0 {
            max
        } else if child.feed.is_some() || child.hold != Hold::Free {
            max + config.max_feeds
        } else if child.from().is_some() || child.insists || child.relayer {
            max
        } else {
            max.saturating_sub(config.reserved()).max(1)
        };
        same_kind < room
    }

    /// How full it is with children: 0 to 255.
    fn load(&self, cx: &Cx) -> u8 {
        let share = self.fed().saturating_mul(255) / cx.config.max_children.max(1);
        u8::try_from(share).unwrap_or(u8::MAX)
    }

    /// Children that a newcomer may be sent to, those named least often first.
    pub(crate) fn places(&mut self, cx: &Cx, asker: NodeId) -> Vec<NodeAddresses> {
        let mut places: Vec<_> = self
            .children
            .values_mut()
            .filter(|c| c.peer != asker && c.hold == Hold::Free && !c.is_standby())
            .filter_map(|child| {
                let link = cx.links.get(&child.peer)?;
                let unknown = link.addresses.is_empty();
                let weight = if link.roles.relayer { RELAYER } else { 1 };
                let rank = (unknown, child.handed / weight, child.joined, child.peer);
                Some((rank, child))
            })
            .collect();
        places.sort_by_key(|(rank, _)| *rank);
        if let Some((_, first)) = places.first_mut() {
            first.handed = first.handed.saturating_add(1);
        }
        let named = places.into_iter().take(NAMED);
        named.map(|(_, child)| name(cx, child.peer)).collect()
    }

    /// Sends a neighbour to the children, or away when there are none.
    pub(crate) fn push_down(&mut self, cx: &mut Cx, peer: NodeId, request: RequestId) {
        let nodes = self.places(cx, peer);
        if nodes.is_empty() {
            return cx.no_route(peer, request, NoRouteReason::Overloaded);
        }
        cx.redirect(peer, request, nodes);
    }

    /// Gives a place at this node to a relayer, and the one it took to the children of the
    /// relayer: it serves more than others do, so the tree below stays flat.
    pub(crate) fn raise(&mut self, cx: &mut Cx, peer: NodeId) {
        let relayer = |peer: &NodeId| cx.links.get(peer).is_some_and(|link| link.roles.relayer);
        let free = cx.config.max_children - cx.config.reserved();
        if !relayer(&peer) || self.fed() <= free {
            return;
        }
        let plain = |c: &&mut Child| {
            let plain = c.hold == Hold::Free && c.feed.is_none() && !c.is_standby();
            plain && c.told_live == Some(true) && !relayer(&c.peer)
        };
        let settled = |c: &&mut Child| c.introduced.is_none_or(|at| at + INTRODUCED < cx.now);
        let mut others = self.children.values_mut().filter(plain).filter(settled);
        let Some(other) = others.next() else {
            return;
        };
        other.introduced = Some(cx.now);
        let (other, request) = (other.peer, other.request);
        introduce(cx, other, request, peer);
    }

    /// Lets the children go that a claim held back, for its job, and raises the transcoder
    /// itself if it was here before.
    pub(crate) fn release(
        &mut self,
        cx: &mut Cx,
        claim: ClaimId,
        (transcoder, job): (NodeId, JobId),
    ) {
        for child in self.children.values_mut() {
            let held = child.hold == Hold::Claim(claim);
            let direct = child.peer == transcoder && child.feed.is_none();
            if held || (direct && child.hold == Hold::Free) {
                child.hold = Hold::Free;
                child.feed = Some((transcoder, job));
                feed_event(cx, transcoder, job, child.peer, true);
            }
        }
        self.tell_state(cx);
        self.tell_finish(cx);
    }

    /// Turns children away that wait for a claim which does not hold.
    pub(crate) fn refuse(&mut self, cx: &mut Cx, claim: ClaimId) {
        self.turn_away(cx, |child| child.hold == Hold::Claim(claim));
    }

    /// Ends what a job is fed; `other` is another job that the same feed serves.
    pub(crate) fn revoke(&mut self, cx: &mut Cx, name: (NodeId, JobId), other: Option<JobId>) {
        let Some(other) = other else {
            return self.turn_away(cx, |child| child.feed == Some(name));
        };
        for child in self.children.values_mut() {
            if child.feed == Some(name) {
                feed_event(cx, name.0, name.1, child.peer, false);
                child.feed = Some((name.0, other));
                feed_event(cx, name.0, other, child.peer, true);
            }
        }
    }

    /// The stream is not made any more: nothing is left of it, and it has not ended.
    pub(crate) fn withdraw(&mut self, cx: &mut Cx) {
        if let Source::Owned(owned) = &mut self.source {
            owned.withdrawn = true;
        }
        self.turn_away(cx, |_| true);
        self.local.finish(cx, &self.id, None);
    }

    fn turn_away(&mut self, cx: &mut Cx, which: impl Fn(&Child) -> bool) {
        let those = self.children.values().filter(|child| which(child));
        let names: Vec<_> = those.map(|c| (c.peer, c.request)).collect();
        for name in names {
            self.drop_child(cx, name);
            cx.not_found(name.0, name.1);
        }
    }

    /// Forgets a child.
    pub(crate) fn drop_child(&mut self, cx: &mut Cx, name: (NodeId, RequestId)) {
        let Some(child) = self.children.remove(&name) else {
            return;
        };
        if let Some(link) = cx.links.get_mut(&name.0) {
            link.down.remove(name.1);
            link.used = cx.now;
        }
        if let Some((transcoder, job)) = child.feed {
            feed_event(cx, transcoder, job, child.peer, false);
        }
        self.tell_crowd(cx);
    }

    /// Tells children that there have come to be many of them, or no longer are: while data
    /// flows they hear of the load in no other way. Those for whom there is a less busy
    /// node may go there.
    fn tell_crowd(&mut self, cx: &mut Cx) {
        let load = self.load(cx);
        let crowded = load >= if self.crowded { CALM + 1 } else { CROWDED };
        if crowded == self.crowded || !self.is_live() {
            return;
        }
        self.crowded = crowded;
        let (state, path) = (self.state(), self.path(cx));
        for child in self.children.values_mut() {
            if child.told_live == Some(true) && child.hold == Hold::Free && !child.is_standby() {
                acknowledge(cx, child, load, state, path.clone());
            }
        }
    }

    /// Sends every child what it can be sent.
    pub(crate) fn pump_children(&mut self, cx: &mut Cx) {
        for child in self.children.values_mut() {
            child.pump(cx, &self.ring);
        }
    }

    /// Tells children at once when the stream came to life or lost it, or its path changed.
    pub(crate) fn tell_state(&mut self, cx: &mut Cx) {
        if self.children.is_empty() {
            return;
        }
        let (state, live, path) = (self.state(), self.is_live(), self.path(cx));
        let moved = path != self.told_path;
        let load = self.load(cx);
        for child in self.children.values_mut() {
            let known = match child.told_live {
                Some(told) => told == live && !moved,
                None => !live,
            };
            if !known && child.hold == Hold::Free {
                acknowledge(cx, child, load, state, path.clone());
            }
        }
        self.told_path = path;
    }

    /// Repeats the acknowledgement of children that were told nothing for too long.
    pub(crate) fn heartbeat(&mut self, cx: &mut Cx) {
        if !self.children.values().any(|c| is_ack_due(c, cx)) {
            return;
        }
        let (load, state, path) = (self.load(cx), self.state(), self.path(cx));
        for child in self.children.values_mut() {
            if is_ack_due(child, cx) {
                let state = match child.hold {
                    Hold::Free => state,
                    Hold::Claim(..) => SubState::Pending,
                };
                acknowledge(cx, child, load, state, path.clone());
            }
        }
    }

    /// The nodes from the owner down to this one.
    pub(crate) fn path(&self, cx: &Cx) -> Vec<u64> {
        let mut path = match &self.source {
            Source::Owned(_) => Vec::with_capacity(1),
            Source::Remote(up) => up.main().map(|p| p.path.clone()).unwrap_or_default(),
        };
        // A parent with a path as long as this takes no children.
        path.truncate(MAX_PATH - 1);
        path.push(cx.key.prefix());
        path
    }

    /// Tells children that have not heard it that the stream has ended, and lets those
    /// go that have everything.
    pub(crate) fn tell_finish(&mut self, cx: &mut Cx) {
        let Some(finished) = &self.finished else {
            return;
        };
        let end = finished.end(&self.ring);
        let whole = self.has_all();
        let mut done = Vec::new();
        for (name, child) in &mut self.children {
            if child.hold != Hold::Free {
                continue;
            }
            if !child.finish_sent {
                child.finish_sent = true;
                let message = Message::Finish(Finish {
                    request: child.request,
                    body: finished.body.clone(),
                });
                cx.send(child.peer, message, Priority::Control);
            }
            let nothing = whole && self.ring.edge().is_none();
            if nothing || end.is_none_or(|end| child.reached(end)) {
                done.push(*name);
            }
        }
        for name in done {
            self.drop_child(cx, name);
        }
    }

    // ---- only children -------------------------------------------------------------

    /// The child that this node serves as a mere link in the chain.
    pub(crate) fn only_child(&self) -> Option<&Child> {
        if self.local.wanted() || self.is_owned() {
            return None;
        }
        let mut fed = self.children.values().filter(|c| !c.is_standby());
        match (fed.next(), fed.next()) {
            (Some(child), None) if child.hold == Hold::Free => Some(child),
            _ => None,
        }
    }

    /// Introduces an only child to the parent, now and then until it has moved.
    pub(crate) fn introduce(&mut self, cx: &mut Cx) {
        // One that has not been acknowledged would take it for a refusal.
        let child = self
            .only_child()
            .filter(|c| c.told_live == Some(true))
            .map(|c| (c.peer, c.request));
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let parent = up.live().map(|p| p.peer);
        let (Some((child, request)), Some(parent)) = (child, parent) else {
            up.introduce_at = None;
            up.introduce.reset();
            return;
        };
        match up.introduce_at {
            None => up.introduce_at = Some(up.introduce.schedule(cx)),
            Some(at) if at <= cx.now => {
                up.introduce_at = Some(up.introduce.schedule(cx));
                introduce(cx, child, request, parent);
            }
            Some(_) => {}
        }
    }
}

/// Tells a child that is served where it might rather go. It has proven its subscription,
/// so it may have spent whatever it likes: a refusal in place of this would end it.
fn introduce(cx: &mut Cx, child: NodeId, request: RequestId, to: NodeId) {
    let nodes = vec![name(cx, to)];
    cx.stats.redirects_out += 1;
    let message = Message::Redirect(Redirect { request, nodes });
    cx.send(child, message, Priority::Control);
}

/// A neighbour, and where it can be dialled as far as that is known.
fn name(cx: &Cx, node: NodeId) -> NodeAddresses {
    let link = cx.links.get(&node);
    let addresses = link.map(|link| link.addresses.iter().take(ADDRESSES).cloned());
    NodeAddresses {
        node,
        addresses: addresses.into_iter().flatten().collect(),
    }
}

/// When a child has to be told something next.
pub(super) fn due_ack(child: &Child, cx: &Cx) -> Time {
    let pause = match child.told_live {
        None => cx.config.pending_ack_after,
        Some(true) if child.is_standby() => STANDBY_ACK,
        // Parts come at about the interval: one that is a little late needs no word.
        Some(_) if child.told_data => ACK * 2,
        Some(true) => ACK,
        Some(false) => PENDING_ACK,
    };
    child.told + pause
}

/// Whether a child is told something now.
fn is_ack_due(child: &Child, cx: &Cx) -> bool {
    let early = if child.is_standby() && child.told_live.is_some() {
        STANDBY_EARLY
    } else {
        std::time::Duration::ZERO
    };
    due_ack(child, cx) <= cx.now + early
}

fn acknowledge(cx: &mut Cx, child: &mut Child, load: u8, state: SubState, path: Vec<u64>) {
    child.told = cx.now;
    child.told_data = false;
    let live = matches!(state, SubState::Live(_));
    child.told_live = Some(live);
    let message = Message::SubAck(SubAck {
        request: child.request,
        state,
        load,
        path,
    });
    if live {
        cx.prove(child.peer);
    } else if !cx.spend(child.peer, &message) {
        return;
    }
    cx.send(child.peer, message, Priority::Control);
}

fn feed_event(cx: &mut Cx, transcoder: NodeId, job: JobId, peer: NodeId, started: bool) {
    let direct = peer == transcoder;
    cx.observe(if started {
        Event::FeedStarted {
            job,
            transcoder,
            direct,
        }
    } else {
        Event::FeedEnded {
            job,
            transcoder,
            direct,
        }
    });
}
