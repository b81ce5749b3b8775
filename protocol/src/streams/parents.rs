//! The search for a parent, and the change from one to another.
//!
//! A search asks one neighbour after the other: the standby, nodes that are said to have
//! the stream (they are dialled when there is no link), neighbours closer to the owner,
//! and in the end the driver, which may find somebody closer yet. While nothing has come
//! to life another one is asked besides after [`crate::Config::hedge_after`]; the first
//! that is live feeds the stream and the others are left.

use headwater_proto::{NoRouteReason, NodeAddresses, NodeId, Position, RequestId};

use super::{
    StreamKey,
    stream::{Source, Stream},
    upstream::{Lookup, MAX_FOLLOWED, Parent, ParentState, Rivalry, Role, Upstream, close_up},
};
use crate::{
    cx::Cx,
    lookups::Found,
    output::{Event, Failure, SUB_BYTES, claim_bytes},
    routing::Asker,
    time::Time,
};

/// Neighbours asked at once.
pub(super) const MAX_OPEN: usize = 3;
/// For how long a search waits for a node that is dialled: a handshake across the world
/// takes half of it, and one who is dead is found out by the driver much later.
pub(super) const DIAL_PATIENCE: std::time::Duration = std::time::Duration::from_millis(1500);
/// Requests for older parts within [`REACH_PAUSE`].
const REACHES: u8 = 4;
/// Older parts are asked for on account of children a few times in this time.
const REACH_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

impl Stream {
    /// The first part that is not here in full.
    pub(crate) fn resume_from(&self) -> Option<Position> {
        let Source::Remote(up) = &self.source else {
            return None;
        };
        self.ring.ready().or(up.wanted)
    }

    /// Looks for a parent when there is none and none is on the way.
    pub(crate) fn seek(&mut self, cx: &mut Cx) {
        let has_all = self.has_all();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if up.open() > 0 || has_all {
            return;
        }
        up.retry_at = None;
        if up.claim.is_none()
            && let Some(job) = self.claims.lead()
        {
            if !self.claims.ask(cx, &self.id, job) {
                up.retry_at = Some(up.retry.schedule(cx));
            }
            return;
        }
        self.ask_another(cx);
    }

    /// Asks the next neighbour of a search, or ends it.
    pub(crate) fn ask_another(&mut self, cx: &mut Cx) {
        let from = self.resume_from();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if up.is_live() || up.open() >= MAX_OPEN {
            return;
        }
        let resumes = up.reported.is_some() || self.ring.ready().is_some();
        let hedge = if resumes {
            cx.config.hedge_after
        } else {
            cx.config.join_patience
        };
        up.hedge_at = Some(cx.now + hedge);
        if let Some(index) = up.standby().filter(|index| up.parents[*index].is_live()) {
            up.parents[index].recast(Role::Feed, cx.now);
            return up.renew(cx, self.key, &self.id, index, from);
        }
        match self.next_source(cx) {
            Some(Next::Ask(peer)) => self.subscribe(cx, peer, from),
            Some(Next::Dial) => {}
            None => self.exhausted(cx),
        }
    }

    /// Charges those for whom the stream is looked for; false when none of them has sent
    /// as much as it costs. What this machine wants is free.
    fn charge(&self, cx: &mut Cx, to: NodeId) -> bool {
        let mut askers = self.children.keys().map(|(peer, _)| *peer);
        // A claim goes along with the subscription of whoever brought it.
        let bytes = match &self.source {
            Source::Remote(up) => {
                (up.claim.as_ref()).map_or(SUB_BYTES, |claim| claim_bytes(&claim.0))
            }
            Source::Owned(_) => SUB_BYTES,
        };
        self.local.wanted() || askers.any(|peer| cx.spend_bytes(peer, bytes)) && cx.may_pass_on(to)
    }

    /// Subscribes at a neighbour that is to feed the stream.
    pub(super) fn subscribe(&mut self, cx: &mut Cx, peer: NodeId, from: Option<Position>) {
        if !self.charge(cx, peer) {
            return self.give_up(cx, Failure::NoRoute(NoRouteReason::Overloaded));
        }
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        up.subscribe(cx, self.key, &self.id, peer, from, Role::Feed);
        if let Some(claim) = &up.claim {
            self.claims.sent(cx, claim.0.job);
        }
    }

    /// Whom to ask next. A dial is begun here.
    fn next_source(&mut self, cx: &mut Cx) -> Option<Next> {
        let me = cx.me;
        let asker = self.asker();
        let Source::Remote(up) = &mut self.source else {
            return None;
        };
        let children = &self.children;
        up.leads
            .retain(|lead| lead.node != me && !up.tried.contains(&lead.node));
        let asked: Vec<_> = up.parents.iter().map(|p| p.peer).collect();
        let free = |peer: &NodeId| !asked.contains(peer) && !fed(children, peer);
        let linked = |lead: &NodeAddresses| cx.links.contains(&lead.node) && free(&lead.node);
        if let Some(index) = up.leads.iter().position(linked) {
            return up.leads.remove(index).map(|lead| Next::Ask(lead.node));
        }
        // Who was sent elsewhere goes there first; else neighbours cost no dial.
        if up.follow_left < MAX_FOLLOWED && dial_lead(cx, up, self.key) {
            return Some(Next::Dial);
        }
        let mut candidates = cx.candidates(&self.id.node, asker, |peer| {
            up.tried.contains(peer) || !free(peer)
        });
        let last = |peer: &NodeId| up.avoid == Some(*peer) || up.distrusts(peer, cx.now);
        candidates.sort_by_key(last);
        if let Some(peer) = candidates.first() {
            return Some(Next::Ask(*peer));
        }
        dial_lead(cx, up, self.key).then_some(Next::Dial)
    }

    pub(super) fn asker(&self) -> Asker {
        if self.local.wanted() {
            Asker::Own
        } else {
            Asker::Neighbour
        }
    }

    /// No neighbour is left to ask: the driver may find one, else children are told and a
    /// local subscriber tries again.
    fn exhausted(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        up.hedge_at = None;
        if up.open() > 0 || matches!(up.lookup, Lookup::Waiting(_)) {
            return;
        }
        let nobody = cx.nobody();
        if self.may_look_up(cx) && cx.look_up(self.id.node) == Found::Later {
            let Source::Remote(up) = &mut self.source else {
                return;
            };
            up.lookup = Lookup::Waiting(cx.now + cx.config.lookup_patience);
            return;
        }
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let failure = up.failure.take().unwrap_or(nobody);
        self.give_up(cx, failure);
    }

    fn may_look_up(&self, cx: &mut Cx) -> bool {
        let first = match &self.source {
            Source::Remote(up) => up.lookup == Lookup::Idle,
            Source::Owned(_) => false,
        };
        let mut askers = self.children.keys().map(|(peer, _)| *peer);
        first && (self.local.wanted() || askers.any(|peer| cx.spend_lookup(peer)))
    }

    /// A child wants parts from before those that this node asked for: so does the node now,
    /// unless its parent can hardly have them.
    pub(crate) fn reach_back(&mut self, cx: &mut Cx, from: Option<Position>) {
        let kept = cx.config.ring_segments as u64;
        let edge = self.ring.edge();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let floor = self.ring.floor().or(up.wanted);
        let (Some(from), Some(floor)) = (from, floor) else {
            return;
        };
        let too_old = edge.is_some_and(|edge| from.segment.saturating_add(kept) <= edge.segment);
        if from >= floor || too_old {
            return;
        }
        let (since, times) = up.reached_back;
        up.reached_back = match since {
            Some(at) if at + REACH_PAUSE > cx.now && times >= REACHES => return,
            Some(at) if at + REACH_PAUSE > cx.now => (Some(at), times + 1),
            Some(_) | None => (Some(cx.now), 1),
        };
        let from = Position { part: 0, ..from };
        up.wanted = Some(from);
        self.ring.lower(from);
        if let Some(index) = up.parents.iter().position(|p| p.role == Role::Feed) {
            up.renew(cx, self.key, &self.id, index, Some(from));
        }
    }

    /// The driver has looked for somebody closer.
    pub(crate) fn on_lookup(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if matches!(up.lookup, Lookup::Waiting(_)) {
            up.lookup = Lookup::Done;
            self.seek(cx);
        }
    }

    /// Tells everybody that the stream can't be had now.
    pub(crate) fn give_up(&mut self, cx: &mut Cx, failure: Failure) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        up.end_search();
        up.claim = None;
        up.retry_at = Some(up.retry.schedule(cx));
        self.claims.next_lead();
        for name in self.children.keys().copied().collect::<Vec<_>>() {
            self.drop_child(cx, name);
            cx.refuse(name.0, name.1, failure);
        }
        self.failed = Some(failure);
        self.local.report(cx, &self.id, failure);
    }

    /// A parent failed; another is looked for unless one is left.
    pub(crate) fn lose_parent(
        &mut self,
        cx: &mut Cx,
        index: usize,
        failure: Failure,
        cancel: bool,
    ) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let fed = up.live().map(|p| p.request);
        let parent = up.parents.remove(index);
        let fed = fed == Some(parent.request) || up.reported == Some(parent.peer);
        close_up(cx, parent.peer, parent.request, cancel);
        match parent.role {
            Role::Standby => {
                up.no_standby.insert(parent.peer);
                return self.plan_standby(cx);
            }
            Role::Rival(rivalry) => return self.rival_failed(cx, rivalry),
            Role::Feed => {}
        }
        cx.stats.parents_lost += 1;
        up.tried.insert(parent.peer);
        up.avoid.get_or_insert(parent.peer);
        up.failure = Some(failure);
        if !fed {
            return self.search_on(cx, failure);
        }
        if let Some(from) = up.reported.take() {
            let stream = self.id.clone();
            let from = Some(from);
            cx.observe(Event::ParentChanged {
                stream,
                from,
                to: None,
            });
        }
        // A new search: whoever failed before may be well again by now.
        up.end_search();
        up.tried.insert(parent.peer);
        up.avoid = Some(parent.peer);
        up.failure = Some(failure);
        up.claim = None;
        up.retry.reset();
        up.hole = None;
        up.stall_at = None;
        if let Some(rival) = up.rival() {
            up.parents[rival].role = Role::Feed;
            if up.parents[rival].is_live() {
                return self.promote(cx, rival);
            }
        }
        self.tell_state(cx);
        self.search_on(cx, failure);
    }

    fn search_on(&mut self, cx: &mut Cx, failure: Failure) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if up.open() > 0 {
            if !up.is_live() {
                up.hedge_at.get_or_insert(cx.now + cx.config.hedge_after);
            }
            return self.tell_state(cx);
        }
        if failure == Failure::NotFound {
            self.give_up(cx, failure);
        } else {
            self.seek(cx);
        }
    }

    fn rival_failed(&mut self, cx: &mut Cx, rivalry: Rivalry) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        match rivalry {
            Rivalry::Direct => self.pass_direct(cx.now + cx.config.direct_again),
            Rivalry::Stalled => {
                up.stall_at = Some(up.stall.schedule(cx));
                self.doubt_more(cx);
            }
            Rivalry::Moved => {}
        }
    }

    /// A parent is to feed the stream from now on: the others are left.
    pub(crate) fn promote(&mut self, cx: &mut Cx, index: usize) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let chosen = up.parents.remove(index);
        let peer = chosen.peer;
        if chosen.role == Role::Rival(Rivalry::Stalled)
            && let Some(old) = up.live().map(|p| p.peer)
        {
            up.distrust(old, cx.now);
        }
        let mut kept = vec![chosen];
        for old in std::mem::take(&mut up.parents) {
            if old.is_standby() && old.peer != peer {
                kept.push(old);
            } else {
                close_up(cx, old.peer, old.request, true);
            }
        }
        up.parents = kept;
        up.parents[0].role = Role::Feed;
        up.end_search();
        up.retry.reset();
        up.claim = None;
        up.data_at = cx.now;
        up.stall_at = None;
        up.standby_retry.reset();
        up.no_standby.clear();
        let to = Some(peer);
        if up.reported != to {
            let from = std::mem::replace(&mut up.reported, to);
            let stream = self.id.clone();
            cx.observe(Event::ParentChanged { stream, from, to });
        }
        self.failed = None;
        self.unsettled = true;
        self.tell_state(cx);
        self.plan_standby(cx);
    }

    /// Leaves all parents.
    pub(crate) fn leave(&mut self, cx: &mut Cx, cancel: bool) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        for old in std::mem::take(&mut up.parents) {
            close_up(cx, old.peer, old.request, cancel);
        }
        up.dialling.clear();
    }

    // ---- time ----------------------------------------------------------------------

    /// Gives up parents that are late.
    pub(crate) fn check_parents(&mut self, cx: &mut Cx) {
        loop {
            let Source::Remote(up) = &mut self.source else {
                return;
            };
            let late = |p: &Parent| p.deadline(&cx.config) <= cx.now;
            let Some(index) = up.parents.iter().position(late) else {
                return;
            };
            let failure = match up.parents[index].state {
                ParentState::Asked | ParentState::Pending => {
                    Failure::NoRoute(NoRouteReason::Timeout)
                }
                ParentState::Live => Failure::ParentLost,
            };
            if up.parents[index].is_live() {
                // Its link is up, and yet nothing comes: so it may be the next time.
                let peer = up.parents[index].peer;
                up.distrust(peer, cx.now);
            }
            self.lose_parent(cx, index, failure, true);
        }
    }

    /// What of a search is due.
    pub(crate) fn search_again(&mut self, cx: &mut Cx) {
        let due = |at: Option<Time>, now: Time| at.is_some_and(|at| at <= now);
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if let Lookup::Waiting(until) = up.lookup
            && until <= cx.now
        {
            return self.on_lookup(cx);
        }
        let slow = up.dialling.iter().find(|(_, until)| **until <= cx.now);
        if let Some(peer) = slow.map(|(peer, _)| *peer) {
            return self.on_dialled(cx, peer, false);
        }
        if due(up.retry_at, cx.now) {
            up.retry_at = None;
            return self.seek(cx);
        }
        if due(up.hedge_at, cx.now) {
            up.hedge_at = None;
            self.ask_another(cx);
        }
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if due(up.standby_at, cx.now) {
            self.find_standby(cx);
        }
    }
}

impl Upstream {
    /// Forgets what one search has tried.
    fn end_search(&mut self) {
        self.tried.clear();
        self.avoid = None;
        self.failure = None;
        self.hedge_at = None;
        self.retry_at = None;
        self.lookup = Lookup::Idle;
        self.follow_left = MAX_FOLLOWED;
        self.dialling.clear();
    }
}

/// Dials the best of the nodes that are said to have the stream and have no link.
pub(super) fn dial_lead(cx: &mut Cx, up: &mut Upstream, key: StreamKey) -> bool {
    while let Some(index) = up
        .leads
        .iter()
        .position(|lead| !cx.links.contains(&lead.node) && !up.dialling.contains_key(&lead.node))
    {
        let Some(lead) = up.leads.remove(index) else {
            break;
        };
        let peer = lead.node;
        if cx.wish(key, lead) {
            up.dialling.insert(peer, cx.now + DIAL_PATIENCE);
            return true;
        }
    }
    false
}

/// Where a search goes next.
enum Next {
    /// To a neighbour.
    Ask(NodeId),
    /// A dial has begun.
    Dial,
}

type Children = std::collections::BTreeMap<(NodeId, RequestId), super::child::Child>;

/// Whether a neighbour is sent the stream from here.
pub(super) fn fed(children: &Children, peer: &NodeId) -> bool {
    let all = (*peer, RequestId(u64::MIN))..=(*peer, RequestId(u64::MAX));
    children.range(all).any(|(_, child)| !child.is_standby())
}
