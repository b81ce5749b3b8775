//! One stream at one node: made here or coming from a parent, kept in a ring, going to
//! children and to this machine.

use std::collections::BTreeMap;

use headwater_proto::{
    Cancel, Finish, JobId, Message, Nack, NoRouteReason, NodeId, Position, RequestId, Signed, Slot,
    StreamEnd, StreamId, SubAck, SubState,
    limits::{MAX_PATH, SUB_ACK_INTERVAL_MS},
};

use super::{
    StreamKey,
    child::{Child, Hold},
    local::Local,
    ring::{Ring, after},
    upstream::{ParentState, Upstream},
};
use crate::{
    cx::Cx,
    output::{Event, Failure, Priority},
    time::Time,
    timers::Timer,
};

/// Where a stream comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// This node makes it.
    Owned(Owned),
    /// It comes from other nodes.
    Remote(Box<Upstream>),
}

/// What the owner of a stream remembers of its order.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Owned {
    /// The last part that was appended.
    pub(crate) last: Option<Position>,
    /// The part that has to follow.
    pub(crate) next: Option<Position>,
    /// Discontinuities up to the last part.
    pub(crate) discontinuity: u32,
}

/// The end of a stream.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) body: Signed<StreamEnd>,
    /// When it was learnt.
    pub(crate) at: Time,
}

impl Finished {
    /// The position after the last part.
    pub(crate) fn end(&self, ring: &Ring) -> Option<Position> {
        let last = self.body.value().last?;
        let is_last = ring.part(last).is_none_or(super::ring::Entry::is_last);
        Some(after(last, is_last))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) key: StreamKey,
    pub(crate) source: Source,
    pub(crate) ring: Ring,
    pub(crate) children: BTreeMap<(NodeId, RequestId), Child>,
    pub(crate) local: Local,
    pub(crate) finished: Option<Finished>,
    /// Since when nobody wants it.
    idle: Option<Time>,
    /// Ring bytes that the node's sum knows of.
    pub(crate) accounted: usize,
    /// Nothing keeps it any more.
    pub(crate) dead: bool,
}

impl Stream {
    pub(crate) fn new(id: StreamId, key: StreamKey, source: Source) -> Self {
        let floor = match &source {
            Source::Owned(_) => None,
            Source::Remote(up) => up.wanted,
        };
        Self {
            id,
            key,
            source,
            ring: Ring::starting_at(floor),
            children: BTreeMap::new(),
            local: Local::default(),
            finished: None,
            idle: None,
            accounted: 0,
            dead: false,
        }
    }

    pub(crate) const fn is_owned(&self) -> bool {
        matches!(self.source, Source::Owned(_))
    }

    /// Whether data can be expected now.
    pub(crate) fn is_live(&self) -> bool {
        match &self.source {
            Source::Owned(_) => true,
            Source::Remote(up) => up.is_live() || self.has_all(),
        }
    }

    /// What children are told.
    fn state(&self) -> SubState {
        if self.is_live() {
            SubState::Live(self.ring.edge())
        } else {
            SubState::Pending
        }
    }

    /// How full it is with children: 0 to 255.
    fn load(&self, cx: &Cx) -> u8 {
        let share = self.children.len().saturating_mul(255) / cx.config.max_children.max(1);
        u8::try_from(share).unwrap_or(u8::MAX)
    }

    /// Whether it has ended and nothing is missing up to the end.
    pub(crate) fn has_all(&self) -> bool {
        let Some(finished) = &self.finished else {
            return false;
        };
        match finished.end(&self.ring) {
            None => true,
            Some(end) => self.is_owned() || self.ring.ready().is_some_and(|at| at >= end),
        }
    }

    // ---- children ------------------------------------------------------------------

    /// Takes a child on, or refreshes one; false when there is no room.
    pub(crate) fn add_child(&mut self, cx: &mut Cx, child: Child) -> bool {
        let name = (child.peer, child.request);
        if !self.children.contains_key(&name) {
            let old = self.children.keys().find(|(peer, _)| *peer == child.peer);
            if let Some(old) = old.copied() {
                self.drop_child(cx, old);
            }
            if self.children.len() >= cx.config.max_children {
                return false;
            }
            let Some(link) = cx.links.get_mut(&child.peer) else {
                return false;
            };
            if link.down.len() >= cx.config.max_subs_per_peer {
                return false;
            }
            link.down.insert(child.request, self.key);
            if let Some((transcoder, job)) = child.feed {
                feed_event(cx, transcoder, job, child.peer, true);
            }
            self.children.insert(name, child);
        }
        let (load, state) = (self.load(cx), self.state());
        if let Some(child) = self.children.get_mut(&name)
            && state != SubState::Pending
            && child.hold == Hold::Free
        {
            let path = Self::path(cx.key.prefix(), &self.source);
            Self::acknowledge(cx, child, load, state, path);
        }
        self.tell_finish(cx);
        true
    }

    /// Lets a child go that a claim held back, for its job.
    pub(crate) fn release(&mut self, cx: &mut Cx, transcoder: NodeId, job: JobId) {
        for child in self.children.values_mut() {
            if child.hold == Hold::Claim(transcoder, job) {
                child.hold = Hold::Free;
                child.feed = Some((transcoder, job));
                feed_event(cx, transcoder, job, child.peer, true);
            }
        }
        self.tell_state(cx);
        self.tell_finish(cx);
    }

    /// Turns children away that wait for a claim which does not hold.
    pub(crate) fn refuse(&mut self, cx: &mut Cx, transcoder: NodeId, job: JobId) {
        let held = |child: &&Child| child.hold == Hold::Claim(transcoder, job);
        let names: Vec<_> = self
            .children
            .values()
            .filter(held)
            .map(|c| (c.peer, c.request))
            .collect();
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
            link.down.remove(&name.1);
        }
        if let Some((transcoder, job)) = child.feed {
            feed_event(cx, transcoder, job, child.peer, false);
        }
    }

    /// Sends every child what it can be sent.
    pub(crate) fn pump_children(&mut self, cx: &mut Cx) {
        for child in self.children.values_mut() {
            child.pump(cx, &self.ring);
        }
    }

    /// Tells children at once when the stream came to life, or lost it.
    pub(crate) fn tell_state(&mut self, cx: &mut Cx) {
        let (load, state, live) = (self.load(cx), self.state(), self.is_live());
        for child in self.children.values_mut() {
            let known = match child.told_live {
                Some(told) => told == live,
                None => !live,
            };
            if !known && child.hold == Hold::Free {
                let path = Self::path(cx.key.prefix(), &self.source);
                Self::acknowledge(cx, child, load, state, path);
            }
        }
    }

    /// Repeats the acknowledgement of children that were told nothing for too long.
    fn heartbeat(&mut self, cx: &mut Cx) {
        let (load, state) = (self.load(cx), self.state());
        for child in self.children.values_mut() {
            if due_ack(child, cx) <= cx.now {
                let path = Self::path(cx.key.prefix(), &self.source);
                let state = match child.hold {
                    Hold::Free => state,
                    Hold::Claim(..) => SubState::Pending,
                };
                Self::acknowledge(cx, child, load, state, path);
            }
        }
    }

    fn acknowledge(cx: &mut Cx, child: &mut Child, load: u8, state: SubState, path: Vec<u64>) {
        child.told = cx.now;
        child.told_live = Some(matches!(state, SubState::Live(_)));
        let message = Message::SubAck(SubAck {
            request: child.request,
            state,
            load,
            path,
        });
        cx.send(child.peer, message, Priority::Control);
    }

    /// The nodes from the owner down to this one.
    fn path(me: u64, source: &Source) -> Vec<u64> {
        let mut path = match source {
            Source::Owned(_) => Vec::new(),
            Source::Remote(up) => up.main().map(|p| p.path.clone()).unwrap_or_default(),
        };
        path.truncate(MAX_PATH - 1);
        path.push(me);
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

    // ---- parents -------------------------------------------------------------------

    /// The first part that is not here in full.
    pub(crate) fn resume_from(&self) -> Option<Position> {
        let Source::Remote(up) = &self.source else {
            return None;
        };
        self.ring.ready().or(up.wanted)
    }

    /// Looks for a parent when there is none.
    pub(crate) fn seek(&mut self, cx: &mut Cx) {
        let from = self.resume_from();
        let has_all = self.has_all();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if !up.parents.is_empty() || has_all {
            return;
        }
        up.retry_at = None;
        if let Some(job) = self.local.jobs.first()
            && up.claim.is_none()
        {
            if !up.claim_asked {
                up.claim_asked = cx.ask_claim(&self.id, *job);
                if !up.claim_asked {
                    up.retry_at = Some(up.retry.schedule(cx));
                }
            }
            return;
        }
        let children = &self.children;
        let asker = if self.local.wanted() {
            crate::routing::Asker::Own
        } else {
            crate::routing::Asker::Neighbour
        };
        let mut candidates = cx.candidates(&self.id.node, asker, |peer| {
            up.tried.contains(peer) || children.keys().any(|(child, _)| child == peer)
        });
        if let Some(avoid) = up.avoid {
            candidates.sort_by_key(|peer| *peer == avoid);
        }
        match candidates.first() {
            Some(peer) => {
                up.subscribe(cx, self.key, &self.id, *peer, from, false);
                if !self.local.jobs.is_empty() {
                    up.resend_at = Some(up.retry.next(cx));
                }
            }
            None => self.exhausted(cx),
        }
    }

    /// No neighbour is left to ask: children are told, a local subscriber tries again.
    fn exhausted(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let nobody = if cx.links.len() == 0 {
            Failure::NoPeers
        } else {
            Failure::NoRoute(NoRouteReason::NoCloserPeer)
        };
        let failure = up.failure.take().unwrap_or(nobody);
        self.give_up(cx, failure);
    }

    /// Tells everybody that the stream can't be had now.
    pub(crate) fn give_up(&mut self, cx: &mut Cx, failure: Failure) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        up.tried.clear();
        up.failure = None;
        up.resend_at = None;
        up.claim = None;
        up.retry_at = Some(up.retry.schedule(cx));
        for name in self.children.keys().copied().collect::<Vec<_>>() {
            self.drop_child(cx, name);
            match failure {
                Failure::NotFound => cx.not_found(name.0, name.1),
                Failure::NoRoute(reason) => cx.no_route(name.0, name.1, reason),
                Failure::ParentLost | Failure::NoPeers => {
                    cx.no_route(name.0, name.1, NoRouteReason::NoCloserPeer);
                }
            }
        }
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
        let parent = up.parents.remove(index);
        close_up(cx, parent.peer, parent.request, cancel);
        cx.stats.parents_lost += 1;
        up.tried.insert(parent.peer);
        up.avoid.get_or_insert(parent.peer);
        up.failure = Some(failure);
        if !up.parents.is_empty() {
            return self.tell_state(cx);
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
        if parent.state == ParentState::Live {
            // A new search: whoever failed before may be well again by now.
            up.tried = std::iter::once(parent.peer).collect();
            up.avoid = Some(parent.peer);
            up.claim = None;
            up.retry.reset();
        }
        up.hole = None;
        self.tell_state(cx);
        if failure == Failure::NotFound {
            self.give_up(cx, failure);
        } else {
            self.seek(cx);
        }
    }

    /// A parent delivers: those before it are left. One after it is still being tried.
    pub(crate) fn promote(&mut self, cx: &mut Cx, index: usize) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        for old in up.parents.drain(..index) {
            close_up(cx, old.peer, old.request, true);
        }
        let to = up.main().map(|parent| parent.peer);
        up.tried.clear();
        up.avoid = None;
        up.failure = None;
        up.retry.reset();
        up.claim = None;
        up.resend_at = None;
        if up.reported != to {
            let from = std::mem::replace(&mut up.reported, to);
            let stream = self.id.clone();
            cx.observe(Event::ParentChanged { stream, from, to });
        }
        self.tell_state(cx);
    }

    /// Leaves all parents.
    pub(crate) fn leave(&mut self, cx: &mut Cx, cancel: bool) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        for old in std::mem::take(&mut up.parents) {
            close_up(cx, old.peer, old.request, cancel);
        }
    }

    /// Subscribes straight at the owner besides the present parent, for a job.
    pub(crate) fn prefer_owner(&mut self, cx: &mut Cx) {
        let from = self.resume_from();
        let has_all = self.has_all();
        let owner = self.id.node;
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let asked = up.parents.iter().any(|parent| parent.peer == owner);
        if self.local.jobs.is_empty() || asked || has_all || !cx.links.contains(&owner) {
            return;
        }
        up.subscribe(cx, self.key, &self.id, owner, from, true);
    }

    // ---- time ----------------------------------------------------------------------

    /// Does what is due.
    pub(crate) fn tick(&mut self, cx: &mut Cx) {
        self.check_parents(cx);
        self.search_again(cx);
        self.mend(cx);
        self.heartbeat(cx);
        self.pump_children(cx);
        self.finish_late(cx);
    }

    fn check_parents(&mut self, cx: &mut Cx) {
        loop {
            let Source::Remote(up) = &self.source else {
                return;
            };
            let late = |p: &super::upstream::Parent| p.deadline(&cx.config) <= cx.now;
            let Some(index) = up.parents.iter().position(late) else {
                return;
            };
            let failure = match up.parents[index].state {
                ParentState::Asked | ParentState::Pending => {
                    Failure::NoRoute(NoRouteReason::Timeout)
                }
                ParentState::Live => Failure::ParentLost,
            };
            self.lose_parent(cx, index, failure, true);
        }
    }

    fn search_again(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if up.retry_at.is_some_and(|at| at <= cx.now) {
            up.retry_at = None;
            self.seek(cx);
        } else if up.resend_at.is_some_and(|at| at <= cx.now) {
            up.resend_at = None;
            if let Some(job) = self.local.jobs.first()
                && !up.claim_asked
            {
                up.claim_asked = cx.ask_claim(&self.id, *job);
            }
        }
    }

    /// A stream that ended but never became whole is ended anyway after a while.
    fn finish_late(&mut self, cx: &mut Cx) {
        let Some(finished) = &self.finished else {
            return;
        };
        if self.is_owned() || self.has_all() || finished.at + cx.config.finish_grace > cx.now {
            return;
        }
        let Some(end) = finished.end(&self.ring) else {
            return;
        };
        match self.ring.ready() {
            Some(ready) => self.ring.declare_gap(ready, end),
            None => self.ring = Ring::starting_at(Some(end)),
        }
    }

    /// Drops or keeps the stream, delivers what is ready, and sets the next wake-up.
    pub(crate) fn settle(&mut self, cx: &mut Cx) {
        self.local.pump(cx, &self.ring, &self.id);
        self.tell_finish(cx);
        if self.has_all() {
            self.leave(cx, false);
            let end = self.finished.as_ref().and_then(|f| f.end(&self.ring));
            self.local.finish(cx, &self.id, end);
        }
        self.check_use(cx);
        let next = if self.dead {
            None
        } else {
            self.next_deadline(cx)
        };
        cx.timers.set(Timer::Stream(self.key), next);
    }

    fn check_use(&mut self, cx: &mut Cx) {
        let expired = |f: &Finished| f.at + cx.config.keep_finished <= cx.now;
        if self.finished.as_ref().is_some_and(expired) {
            for name in self.children.keys().copied().collect::<Vec<_>>() {
                self.drop_child(cx, name);
            }
        }
        let used = self.local.wanted() || !self.children.is_empty();
        if used {
            self.idle = None;
            return;
        }
        let since = *self.idle.get_or_insert(cx.now);
        self.dead = match (&self.source, &self.finished) {
            (_, Some(finished)) => finished.at + cx.config.keep_finished <= cx.now,
            (Source::Owned(_), None) => false,
            (Source::Remote(up), None) => !up.is_live() || since + cx.config.linger <= cx.now,
        };
        if self.dead {
            self.leave(cx, true);
        }
    }

    fn next_deadline(&self, cx: &Cx) -> Option<Time> {
        let config = &cx.config;
        let mut next: Option<Time> = None;
        let mut add = |at: Option<Time>| {
            next = match (next, at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        for child in self.children.values() {
            add(Some(due_ack(child, cx)));
        }
        if let Source::Remote(up) = &self.source {
            for parent in &up.parents {
                add(Some(parent.deadline(config)));
            }
            add(up.retry_at);
            add(up.resend_at);
            add(up
                .hole
                .map(|hole| hole.asked.unwrap_or(hole.since) + config.nack_after));
        }
        if let Some(idle) = self.idle
            && !self.is_owned()
        {
            add(Some(idle + config.linger));
        }
        if let Some(finished) = &self.finished {
            let wait = if self.has_all() {
                config.keep_finished
            } else {
                config.finish_grace
            };
            add(Some(finished.at + wait));
        }
        // A thing already overdue is looked at again soon, not at once for ever.
        let soon = cx.now + std::time::Duration::from_millis(10);
        next.map(|at| at.max(soon))
    }

    // ---- holes ---------------------------------------------------------------------

    /// What is missing though later parts are here.
    fn missing(&self) -> Option<Slot> {
        let edge = self.ring.edge()?;
        let newest = self.ring.part(edge)?.media()?;
        if self.ring.init(newest.init).is_none() {
            return Some(Slot::Init(newest.init));
        }
        let ready = self.ring.ready()?;
        (edge > ready).then_some(Slot::Part(ready))
    }

    /// Notes a hole, asks the parent for it, and gives it up in the end.
    pub(crate) fn mend(&mut self, cx: &mut Cx) {
        let missing = self.missing();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let Some(slot) = missing else {
            up.hole = None;
            return;
        };
        let live = up.main().filter(|p| p.state == ParentState::Live);
        let Some((peer, request)) = live.map(|p| (p.peer, p.request)) else {
            up.hole = None;
            return;
        };
        let hole = match up.hole {
            Some(hole) if hole.slot == slot => hole,
            _ => super::upstream::Hole {
                slot,
                since: cx.now,
                asked: None,
            },
        };
        up.hole = Some(hole);
        if hole.asked.unwrap_or(hole.since) + cx.config.nack_after > cx.now {
            return;
        }
        up.hole = Some(super::upstream::Hole {
            asked: Some(cx.now),
            ..hole
        });
        if hole.since + cx.config.gap_after <= cx.now
            && let Slot::Part(from) = slot
            && let Some(to) = self.ring.next_after(from)
        {
            self.ring.declare_gap(from, to);
            up.hole = None;
            return;
        }
        let entry = self.ring.entry(slot);
        let chunks = entry
            .map(|entry| entry.missing_chunks(64))
            .unwrap_or_default();
        cx.stats.nacks_out += 1;
        let message = Message::Nack(Nack {
            request,
            slot,
            chunks,
        });
        cx.send(peer, message, Priority::Control);
    }

    /// Takes to heart what parents said will not come, where the part after it is here.
    pub(crate) fn commit_gaps(&mut self) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let ring = &mut self.ring;
        for parent in &mut up.parents {
            parent.gaps.retain(|&(from, to)| {
                let Some(ready) = ring.ready() else {
                    return true;
                };
                let known = ring.part(to).is_some();
                if known {
                    ring.declare_gap(from.max(ready), to);
                }
                !known && to > ready
            });
        }
    }
}

/// When a child has to be told something next.
fn due_ack(child: &Child, cx: &Cx) -> Time {
    let pause = match child.told_live {
        None => cx.config.pending_ack_after,
        Some(_) => std::time::Duration::from_millis(SUB_ACK_INTERVAL_MS),
    };
    child.told + pause
}

/// Forgets a subscription at a neighbour, and tells it when it should stop.
fn close_up(cx: &mut Cx, peer: NodeId, request: RequestId, cancel: bool) {
    if let Some(link) = cx.links.get_mut(&peer) {
        link.up.remove(&request);
        link.close(request);
        if cancel {
            let message = Message::Cancel(Cancel { request });
            cx.send(peer, message, Priority::Control);
        }
    }
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
