//! What the node waits for, and until when.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{JobId, ManifestId, NodeId, RequestId, StreamId};

use crate::time::{Deadline, Time};

/// One thing the node waits for; setting it again moves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The neighbour has been quiet for a while.
    KeepAlive(NodeId),
    /// A request got no answer.
    Request(RequestId),
    /// A parent of the stream may have failed.
    Upstream(StreamId),
    /// A failed subscription is due to be tried again.
    Retry(StreamId),
    /// Children may need a sign of life.
    Heartbeat(StreamId),
    /// A hole in the stream has stayed.
    Repair(StreamId),
    /// The stream has had no consumer for a while, or ended a while ago.
    Drop(StreamId),
    /// A followed master playlist is due to be asked for again.
    Master(ManifestId),
    /// A transcoder's result is due to be sent again.
    Respond(JobId),
}

impl Timer {
    const fn why(&self) -> &'static str {
        match self {
            Self::KeepAlive(_) => "keep-alive",
            Self::Request(_) => "request",
            Self::Upstream(_) => "upstream",
            Self::Retry(_) => "retry",
            Self::Heartbeat(_) => "heartbeat",
            Self::Repair(_) => "repair",
            Self::Drop(_) => "drop",
            Self::Master(_) => "master",
            Self::Respond(_) => "respond",
        }
    }
}

/// All timers of a node, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Time, Timer)>,
    at: BTreeMap<Timer, Time>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        if let Some(old) = self.at.insert(timer.clone(), at) {
            self.due.remove(&(old, timer.clone()));
        }
        self.due.insert((at, timer));
    }

    pub(crate) fn set_if_unset(&mut self, timer: Timer, at: Time) {
        if !self.at.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    pub(crate) fn stop(&mut self, timer: &Timer) {
        if let Some(at) = self.at.remove(timer) {
            self.due.remove(&(at, timer.clone()));
        }
    }

    /// Takes the next timer that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timer> {
        if self.due.first().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        let (_, timer) = self.due.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Deadline> {
        self.due.first().map(|(at, timer)| Deadline {
            at: *at,
            why: timer.why(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_timer_again_moves_it() {
        let timer = || Timer::Request(RequestId(1));
        let mut timers = Timers::default();
        timers.set(timer(), Time::from_millis(10));
        timers.set(timer(), Time::from_millis(20));

        assert_eq!(timers.pop(Time::from_millis(15)), None);
        assert_eq!(timers.pop(Time::from_millis(20)), Some(timer()));
        assert_eq!(timers.next(), None);
    }
}
