//! One stream at one node: made here or coming from a parent, kept in a ring, going to
//! children and to this machine.

use std::collections::BTreeMap;

use headwater_proto::{
    NoRouteReason, NodeId, Position, RequestId, Signed, StreamEnd, StreamId, SubState,
};

use super::{
    StreamKey,
    child::Child,
    children::due_ack,
    claims::Claims,
    local::Local,
    ring::{Ring, after},
    stage::Stage,
    upstream::{Lookup, Upstream},
};
use crate::{cx::Cx, output::Failure, time::Time, timers::Timer};

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
    /// It is not made any more, and has not ended.
    pub(crate) withdrawn: bool,
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
    /// It was delivered to this machine at some time.
    pub(crate) watched: bool,
    /// The claims of the jobs that take it.
    pub(crate) claims: Claims,
    /// How far the feed of those jobs had come when the stream was last settled.
    pub(crate) stage: Stage,
    /// It has another parent since it was last settled.
    pub(crate) unsettled: bool,
    /// Children were told that there are many of them.
    pub(crate) crowded: bool,
    /// The path that children know of.
    pub(crate) told_path: Vec<u64>,
    /// Why it could not be had the last time.
    pub(crate) failed: Option<Failure>,
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
            watched: false,
            claims: Claims::default(),
            stage: Stage::default(),
            unsettled: false,
            crowded: false,
            told_path: Vec::new(),
            failed: None,
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
    pub(crate) fn state(&self) -> SubState {
        if self.is_live() {
            SubState::Live(self.ring.edge())
        } else {
            SubState::Pending
        }
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

    // ---- time ----------------------------------------------------------------------

    /// Whether one parent feeds it, nothing is missing, and it goes on.
    pub(crate) fn is_smooth(&self) -> bool {
        let Source::Remote(up) = &self.source else {
            return false;
        };
        let one = up.rival().is_none() && up.is_live() && up.hedge_at.is_none();
        one && up.hole.is_none() && !self.unsettled && self.finished.is_none() && !self.dead
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, cx: &mut Cx) {
        // Most wake-ups come early: what they were set for has receded.
        if self.next_deadline(cx).is_none_or(|at| at > cx.now) {
            return;
        }
        self.check_parents(cx);
        self.search_again(cx);
        self.claim_again(cx);
        self.check_stall(cx);
        self.commit_gaps(cx);
        self.mend(cx);
        self.heartbeat(cx);
        self.pump_children(cx);
        self.finish_late(cx);
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
            self.claims.clear();
        }
        self.feed_jobs(cx);
        self.unsettled = false;
        self.introduce(cx);
        self.check_use(cx);
        self.rearm(cx);
    }

    /// Sets the next wake-up.
    pub(crate) fn rearm(&self, cx: &mut Cx) {
        let timer = Timer::Stream(self.key);
        match self.next_deadline(cx).filter(|_| !self.dead) {
            // A thing already overdue is looked at again soon, not at once for ever.
            Some(at) if at <= cx.now => {
                let soon = cx.now + std::time::Duration::from_millis(10);
                cx.timers.set_no_earlier(timer, soon);
            }
            next => cx.timers.set(timer, next),
        }
    }

    fn check_use(&mut self, cx: &mut Cx) {
        let expired = |f: &Finished| f.at + cx.config.keep_finished <= cx.now;
        if self.finished.as_ref().is_some_and(expired) {
            for name in self.children.keys().copied().collect::<Vec<_>>() {
                self.drop_child(cx, name);
            }
        }
        let used = self.local.wanted() || self.children.values().any(|c| !c.is_standby());
        if used {
            self.idle = None;
            return;
        }
        let since = *self.idle.get_or_insert(cx.now);
        self.dead = match (&self.source, &self.finished) {
            (_, Some(finished)) => finished.at + cx.config.keep_finished <= cx.now,
            (Source::Owned(owned), None) => owned.withdrawn,
            (Source::Remote(up), None) => !up.is_live() || since + self.linger(cx) <= cx.now,
        };
        if self.dead {
            self.leave(cx, true);
            for name in self.children.keys().copied().collect::<Vec<_>>() {
                self.drop_child(cx, name);
                cx.no_route(name.0, name.1, NoRouteReason::NoCloserPeer);
            }
        }
    }

    /// How long it is kept when nobody wants it any more. Those who watch may come back;
    /// a child of a relay that left went elsewhere.
    fn linger(&self, cx: &Cx) -> std::time::Duration {
        if self.watched {
            cx.config.linger
        } else {
            cx.config.linger / 4
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
            add(up.hedge_at);
            add(up.standby_at);
            add(up.direct_at);
            add(up.introduce_at);
            add(up.dialling.values().min().copied());
            add(self.claims.next_due());
            if let Lookup::Waiting(until) = up.lookup {
                add(Some(until));
            }
            if up.is_live() && !self.has_all() {
                match up.rival().map(|index| &up.parents[index]) {
                    Some(rival) if rival.is_live() => add(Some(rival.since + config.rival_window)),
                    Some(_) => {}
                    None => add(Some(up.stall_at.unwrap_or(up.data_at + config.stall.first))),
                }
            }
            add(up
                .hole
                .map(|hole| hole.asked.unwrap_or(hole.since) + config.nack_after));
        }
        // How long it is kept depends on its end, and before that on who uses it.
        if let Some(finished) = &self.finished {
            let wait = if self.has_all() {
                config.keep_finished
            } else {
                config.finish_grace
            };
            add(Some(finished.at + wait));
        } else if let Some(idle) = self.idle
            && !self.is_owned()
        {
            add(Some(idle + self.linger(cx)));
        }
        next
    }
}
