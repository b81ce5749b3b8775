//! Which wake-ups are due: at most one per thing that waits.
//!
//! Most deadlines recede with every sign of life, so moving one back is the cheap case: it
//! is noted, and the queue is put right only when the old time has come to its front.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, binary_heap::PeekMut},
};

use headwater_proto::{JobId, ManifestId, RequestId};

use crate::{
    streams::StreamKey,
    time::{Deadline, Time},
};

/// Entries of the queue that are out of date, for each wake-up, before they are removed.
const STALE: usize = 4;

/// What a wake-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A link has been quiet, or its Pong is late.
    Links,
    /// A stream has to be acknowledged, re-subscribed, repaired or dropped.
    Stream(StreamKey),
    /// A routed request waits for an answer.
    Request(RequestId),
    /// A master playlist is asked for again, or its lease renewed.
    Master(ManifestId),
    /// A transcoder's result is sent again.
    Job(JobId),
    /// The driver has left a question unanswered.
    Asks,
}

impl Timer {
    const fn why(self) -> &'static str {
        match self {
            Self::Links => "link",
            Self::Stream(_) => "stream",
            Self::Request(_) => "request",
            Self::Master(_) => "master playlist",
            Self::Job(_) => "job",
            Self::Asks => "question",
        }
    }
}

/// The wake-ups of one node.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: BTreeMap<Timer, Time>,
    /// For each wake-up an entry that is not after it, and perhaps more. The first entry
    /// is always one that is right.
    queue: BinaryHeap<Reverse<(Time, Timer)>>,
}

impl Timers {
    /// Sets, moves or (with `None`) removes a wake-up.
    pub(crate) fn set(&mut self, timer: Timer, at: Option<Time>) {
        let old = match at {
            Some(at) => self.at.insert(timer, at),
            None => self.at.remove(&timer),
        };
        if old == at {
            return;
        }
        if let Some(at) = at
            && old.is_none_or(|old| at < old)
        {
            self.queue.push(Reverse((at, timer)));
        }
        self.tidy();
    }

    /// As [`Self::set`], but keeps a wake-up that is earlier. Whoever is woken looks
    /// whether it is really due.
    pub(crate) fn set_no_earlier(&mut self, timer: Timer, at: Time) {
        if self.at.get(&timer).is_none_or(|old| *old > at) {
            self.set(timer, Some(at));
        }
    }

    /// Takes one wake-up that is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let &Reverse((at, timer)) = self.queue.peek()?;
        if at > now {
            return None;
        }
        self.set(timer, None);
        Some(timer)
    }

    /// The next wake-up.
    pub(crate) fn next(&self) -> Option<Deadline> {
        let &Reverse((at, timer)) = self.queue.peek()?;
        Some(Deadline {
            at,
            why: timer.why(),
        })
    }

    /// Brings the queue's first entry up to date.
    fn tidy(&mut self) {
        while let Some(mut first) = self.queue.peek_mut() {
            let Reverse((at, timer)) = *first;
            match self.at.get(&timer) {
                Some(due) if *due == at => break,
                Some(due) => *first = Reverse((*due, timer)),
                None => drop(PeekMut::pop(first)),
            }
        }
        if self.queue.len() > STALE * (self.at.len() + 1) {
            let right = self.at.iter().map(|(timer, at)| Reverse((*at, *timer)));
            self.queue = right.collect();
        }
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
    #[test]
    fn wake_ups_moved_at_random_come_at_the_times_they_were_moved_to_last() {
        let mut timers = Timers::default();
        let mut plain = BTreeMap::new();
        let mut random: u64 = 7;
        let mut fired = 0;
        for now in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let job = Timer::Job(JobId(random >> 61));
            let at = Time::from_millis(now + (random >> 40) % 50);
            match (random >> 32) % 8 {
                0 => {
                    timers.set(job, None);
                    plain.remove(&job);
                }
                1 => {
                    timers.set_no_earlier(job, at);
                    let old: &mut Time = plain.entry(job).or_insert(at);
                    *old = at.min(*old);
                }
                _ => {
                    timers.set(job, Some(at));
                    plain.insert(job, at);
                }
            }
            let next = plain.values().min().copied();
            assert_eq!(timers.next().map(|deadline| deadline.at), next);
            while let Some(due) = timers.pop_due(Time::from_millis(now)) {
                assert_eq!(
                    plain
                        .remove(&due)
                        .filter(|at| *at <= Time::from_millis(now)),
                    next
                );
                fired += 1;
            }
            assert!(plain.values().all(|at| *at > Time::from_millis(now)));
            assert!(timers.queue.len() <= STALE * (timers.at.len() + 1));
        }
        assert!(fired > 1_000);
    }
}
