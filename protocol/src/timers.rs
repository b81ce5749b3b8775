//! Which wake-ups are due: at most one per thing that waits.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{JobId, ManifestId, NodeId, RequestId};

use crate::{
    streams::StreamKey,
    time::{Deadline, Time},
};

/// What a wake-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A link has been quiet, or its Pong is late.
    Link(NodeId),
    /// A stream has to be acknowledged, re-subscribed, repaired or dropped.
    Stream(StreamKey),
    /// A routed request waits for an answer.
    Request(RequestId),
    /// A master playlist is asked for again, or its lease renewed.
    Master(ManifestId),
    /// A transcoder's result is sent again.
    Job(JobId),
}

impl Timer {
    const fn why(self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Stream(_) => "stream",
            Self::Request(_) => "request",
            Self::Master(_) => "master playlist",
            Self::Job(_) => "job",
        }
    }
}

/// The wake-ups of one node.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: BTreeMap<Timer, Time>,
    queue: BTreeSet<(Time, Timer)>,
}

impl Timers {
    /// Sets, moves or (with `None`) removes a wake-up.
    pub(crate) fn set(&mut self, timer: Timer, at: Option<Time>) {
        let old = self.at.get(&timer).copied();
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.queue.remove(&(old, timer));
        }
        match at {
            Some(at) => {
                self.at.insert(timer, at);
                self.queue.insert((at, timer));
            }
            None => {
                self.at.remove(&timer);
            }
        }
    }

    /// As [`Self::set`], but keeps a wake-up that is earlier: for deadlines that recede
    /// with every sign of life. Whoever is woken looks whether it is really due.
    pub(crate) fn set_no_earlier(&mut self, timer: Timer, at: Option<Time>) {
        let kept = self
            .at
            .get(&timer)
            .is_some_and(|old| at.is_some_and(|at| *old <= at));
        if !kept {
            self.set(timer, at);
        }
    }

    /// Whether a wake-up is set.
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    /// Takes one wake-up that is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let &(at, timer) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.set(timer, None);
        Some(timer)
    }

    /// The next wake-up.
    pub(crate) fn next(&self) -> Option<Deadline> {
        let &(at, timer) = self.queue.first()?;
        Some(Deadline {
            at,
            why: timer.why(),
        })
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_wake_up_fires_once_and_at_its_new_time() {
        let mut timers = Timers::default();
        let job = Timer::Job(JobId(1));
        timers.set(job, Some(Time::from_millis(10)));
        timers.set(job, Some(Time::from_millis(30)));

        assert_eq!(timers.pop_due(Time::from_millis(20)), None);
        assert_eq!(timers.pop_due(Time::from_millis(30)), Some(job));
        assert_eq!(timers.pop_due(Time::from_millis(40)), None);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn the_earliest_wake_up_comes_first() {
        let mut timers = Timers::default();
        timers.set(Timer::Job(JobId(1)), Some(Time::from_millis(30)));
        timers.set(Timer::Job(JobId(2)), Some(Time::from_millis(20)));

        assert_eq!(timers.next().unwrap().at, Time::from_millis(20));
    }
}
