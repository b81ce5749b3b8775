//! What happens next: a radix heap over integer time, first in first out at equal times.
//!
//! An event goes into the bucket of the highest bit in which its time differs from the
//! time that was taken last; taking an event spreads the first bucket that has any over
//! the lower ones. All events of one time are always in one bucket, in the order in which
//! they came, so no serial number is needed to keep runs equal.

use std::collections::VecDeque;

use headwater_protocol::Time;

/// Bits of a time, and one for "equal".
const BUCKETS: usize = 65;

/// See the module.
#[derive(Debug)]
pub struct Queue<T> {
    last: u64,
    buckets: Vec<Vec<(u64, T)>>,
    /// Events at `last`.
    due: VecDeque<T>,
    len: usize,
}

impl<T> Queue<T> {
    /// Adds an event; one before the time that was taken last happens at that time.
    pub fn push(&mut self, at: Time, event: T) {
        let at = at.as_micros().max(self.last);
        self.len += 1;
        if at == self.last {
            self.due.push_back(event);
        } else {
            self.buckets[bucket(at ^ self.last)].push((at, event));
        }
    }

    /// Takes the next event, unless it is after `until`.
    pub fn pop(&mut self, until: Time) -> Option<(Time, T)> {
        if self.due.is_empty() {
            self.refill(until.as_micros())?;
        }
        if self.last > until.as_micros() {
            return None;
        }
        let event = self.due.pop_front()?;
        self.len -= 1;
        Some((Time::from_micros(self.last), event))
    }

    /// Events that have not been taken.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing will happen any more.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn refill(&mut self, until: u64) -> Option<()> {
        let from = self.buckets.iter().position(|bucket| !bucket.is_empty())?;
        let next = self.buckets[from].iter().map(|(at, _)| *at).min()?;
        if next > until {
            return None;
        }
        self.last = next;
        let mut moved = std::mem::take(&mut self.buckets[from]);
        for (at, event) in moved.drain(..) {
            if at == next {
                self.due.push_back(event);
            } else {
                self.buckets[bucket(at ^ next)].push((at, event));
            }
        }
        // Its memory is used again.
        self.buckets[from] = moved;
        Some(())
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            last: 0,
            buckets: std::iter::repeat_with(Vec::new).take(BUCKETS).collect(),
            due: VecDeque::new(),
            len: 0,
        }
    }
}

const fn bucket(difference: u64) -> usize {
    (u64::BITS - difference.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn events_come_in_order_of_time_and_then_of_arrival() {
        let mut dice = Dice::new(5, "queue");
        let mut queue = Queue::default();
        let mut plain: Vec<(Time, u64)> = Vec::new();
        let mut now = Time::default();
        let mut taken = 0;
        for number in 0..4_000 {
            let spread = 1 << dice.below(14);
            let at = Time::from_micros(now.as_micros() + dice.below(spread));
            queue.push(at, number);
            plain.push((at, number));
            if dice.percent(60) {
                let expected = plain.iter().enumerate().min_by_key(|(_, event)| **event);
                let (index, expected) = expected.map(|(i, e)| (i, *e)).unwrap();
                assert_eq!(queue.pop(Time::from_micros(u64::MAX)), Some(expected));
                plain.remove(index);
                now = expected.0;
                taken += 1;
            }
        }

        assert!(taken > 2_000);
        assert_eq!(queue.len(), plain.len());
    }

    #[test]
    fn nothing_after_the_limit_is_taken_and_earlier_events_may_follow() {
        let mut queue = Queue::default();
        queue.push(Time::from_millis(20), "late");

        assert_eq!(queue.pop(Time::from_millis(10)), None);
        queue.push(Time::from_millis(5), "early");
        assert_eq!(
            queue.pop(Time::from_millis(10)),
            Some((Time::from_millis(5), "early"))
        );
        assert_eq!(queue.len(), 1);
    }
}
