//! What happens next: a wheel over integer time, first in first out at equal times.
//!
//! Time is cut into slots. Those of the next half second stand in a wheel, as many as there
//! is room for; an event goes into its slot, and a slot is put into order when its turn
//! comes. What is further away waits apart until the wheel gets there. All events of one
//! time are put into one slot in the order in which they came, and the order of a slot is
//! stable, so no serial number is needed to keep runs equal.

use std::collections::{BTreeMap, VecDeque};

use headwater_protocol::Time;

/// A slot is 2 to the power of this long, in microseconds.
const SLOT_BITS: u32 = 8;
/// Slots of the wheel.
const SLOTS: usize = 2048;

/// See the module.
#[derive(Debug)]
pub struct Queue<T> {
    /// The time that was taken last, in microseconds.
    last: u64,
    /// The slot of what is due; the wheel holds those after it.
    slot: u64,
    /// What is due, in order.
    due: VecDeque<(u64, T)>,
    wheel: Vec<Vec<(u64, T)>>,
    /// A bit for each slot of the wheel that has events.
    full: [u64; SLOTS / 64],
    /// Slots beyond the wheel.
    far: BTreeMap<u64, Vec<(u64, T)>>,
    len: usize,
}

impl<T> Queue<T> {
    /// Adds an event; one before the time that was taken last happens at that time.
    pub fn push(&mut self, at: Time, event: T) {
        let at = at.as_micros().max(self.last);
        let slot = at >> SLOT_BITS;
        self.len += 1;
        if slot <= self.slot {
            let place = self.due.partition_point(|(other, _)| *other <= at);
            self.due.insert(place, (at, event));
        } else if slot - self.slot < SLOTS as u64 {
            self.fill(slot).push((at, event));
        } else {
            self.far.entry(slot).or_default().push((at, event));
        }
    }

    /// Takes the next event, unless it is after `until`. `soon` is shown events that will
    /// be next, most of them well before their turn.
    pub fn pop(
        &mut self,
        until: Time,
        soon: impl FnOnce(&VecDeque<(u64, T)>),
    ) -> Option<(Time, T)> {
        if self.due.is_empty() {
            self.turn()?;
            soon(&self.due);
        }
        if self.due.front()?.0 > until.as_micros() {
            return None;
        }
        let (at, event) = self.due.pop_front()?;
        self.last = at;
        self.len -= 1;
        Some((Time::from_micros(at), event))
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

    /// Goes to the next slot that has events.
    fn turn(&mut self) -> Option<()> {
        let near = self.next_in_wheel();
        self.slot = match near {
            Some(slot) => slot,
            None => *self.far.first_key_value()?.0,
        };
        let place = place(self.slot);
        self.full[place / 64] &= !(1 << (place % 64));
        self.due.extend(self.wheel[place].drain(..));
        // The wheel reaches further now; nothing of what it reaches was put there yet.
        while let Some(first) = self.far.first_entry()
            && *first.key() - self.slot < SLOTS as u64
        {
            let (slot, events) = first.remove_entry();
            if slot == self.slot {
                self.due.extend(events);
            } else {
                self.fill(slot).extend(events);
            }
        }
        self.due.make_contiguous().sort_by_key(|(at, _)| *at);
        Some(())
    }

    /// A slot of the wheel that gets events.
    fn fill(&mut self, slot: u64) -> &mut Vec<(u64, T)> {
        let place = place(slot);
        self.full[place / 64] |= 1 << (place % 64);
        &mut self.wheel[place]
    }

    /// The first slot of the wheel that has events.
    fn next_in_wheel(&self) -> Option<u64> {
        let from = place(self.slot + 1);
        let word = |index: usize| self.full[index % self.full.len()];
        let words = self.full.len();
        let head = word(from / 64) & (u64::MAX << (from % 64));
        let rest = (1..=words).map(|step| (step, word(from / 64 + step)));
        let (step, bits) = std::iter::once((0, head))
            .chain(rest)
            .find(|(_, bits)| *bits != 0)?;
        let found = (from / 64 + step) % words * 64 + bits.trailing_zeros() as usize;
        let ahead = (found + SLOTS - from) % SLOTS;
        Some(self.slot + 1 + ahead as u64)
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            last: 0,
            slot: 0,
            due: VecDeque::new(),
            wheel: std::iter::repeat_with(Vec::new).take(SLOTS).collect(),
            full: [0; SLOTS / 64],
            far: BTreeMap::new(),
            len: 0,
        }
    }
}

/// Where a slot stands in the wheel.
const fn place(slot: u64) -> usize {
    (slot % SLOTS as u64) as usize
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
                assert_eq!(
                    queue.pop(Time::from_micros(u64::MAX), |_| ()),
                    Some(expected)
                );
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

        assert_eq!(queue.pop(Time::from_millis(10), |_| ()), None);
        queue.push(Time::from_millis(5), "early");
        assert_eq!(
            queue.pop(Time::from_millis(10), |_| ()),
            Some((Time::from_millis(5), "early"))
        );
        assert_eq!(queue.len(), 1);
    }
}
