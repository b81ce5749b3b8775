//! What has been settled: the state, how to take it back, and a list of batches for those
//! who watch. No I/O here.

use std::collections::VecDeque;

use super::{
    cursor::Place,
    happened::Happened,
    history::{Advance, Block, Header, History},
    reader::Events,
    state::{State, Undo},
};
use crate::{Batch, Event, LedgerError};

/// Everything one follower knows.
#[derive(Debug)]
pub(in crate::ethereum) struct Journal {
    pub(super) history: History,
    pub(in crate::ethereum) state: State,
    /// For each block in the history after its oldest.
    undo: VecDeque<(u64, Vec<Undo>)>,
    batches: VecDeque<Entry>,
    /// How many of them are kept.
    kept: usize,
    /// Number of the first of them.
    first: u64,
    /// The block before the first of them.
    begin: Block,
    /// Whether the newest settled block has been reached, so that no event is of a past
    /// that is over.
    pub(super) synced: bool,
    /// Why it goes on no more.
    pub(super) failed: Option<LedgerError>,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The newest settled block after it.
    pub(super) place: Place,
    pub(super) events: Vec<Event>,
}

impl Entry {
    pub(super) fn batch(self) -> Batch {
        Batch {
            cursor: self.place.cursor(),
            events: self.events,
        }
    }
}

impl Journal {
    pub(super) fn new(start: Block, confirmations: u64, kept: usize) -> Self {
        Self {
            history: History::new(start, confirmations),
            state: State::default(),
            undo: VecDeque::new(),
            batches: VecDeque::new(),
            kept,
            first: 0,
            begin: start,
            synced: false,
            failed: None,
        }
    }

    /// The number of the newest settled block.
    pub(in crate::ethereum) fn tip(&self) -> u64 {
        self.history.tip().number
    }

    /// Settles blocks of a walk. Gives what does not fit together.
    pub(super) fn settle(&mut self, advance: &Advance, happened: &[Vec<Happened>]) -> Vec<String> {
        let onto = advance.onto;
        if onto != self.history.tip() {
            while let Some((_, undo)) = self.undo.pop_back_if(|(number, _)| *number > onto.number) {
                self.state.take_back(undo);
            }
            let place = Place {
                block: onto,
                anchor: self.history.oldest(),
            };
            self.push(place, vec![Event::RolledBack(place.cursor())]);
        }
        self.history.apply(advance);
        let anchor = self.history.oldest();
        let mut doubts = Vec::new();
        for (Header { block, .. }, happened) in advance.blocks.iter().zip(happened) {
            let applied = self.state.apply(block.number, happened);
            self.undo.push_back((block.number, applied.undo));
            doubts.extend(applied.doubts);
            let anchor = if anchor.number > block.number {
                *block
            } else {
                anchor
            };
            let place = Place {
                block: *block,
                anchor,
            };
            self.push(place, applied.events);
        }
        while self
            .undo
            .pop_front_if(|(number, _)| *number <= anchor.number)
            .is_some()
        {}
        doubts
    }

    /// Settles blocks that are too old to be taken back, up to `end`.
    pub(super) fn skip(&mut self, events: Vec<Events>, end: Block) -> Vec<String> {
        self.undo.clear();
        let mut doubts = Vec::new();
        for (block, happened) in events {
            let applied = self.state.apply(block.number, &happened);
            doubts.extend(applied.doubts);
            self.push(Place::fixed(block), applied.events);
        }
        if self
            .batches
            .back()
            .is_none_or(|last| last.place.block != end)
        {
            self.push(Place::fixed(end), Vec::new());
        }
        self.history.skip_to(end);
        doubts
    }

    fn push(&mut self, place: Place, events: Vec<Event>) {
        self.batches.push_back(Entry { place, events });
        if self.batches.len() > self.kept
            && let Some(oldest) = self.batches.pop_front()
        {
            self.first += 1;
            self.begin = oldest.place.block;
        }
    }

    /// The block before the first batch that is kept, and the number of that batch.
    pub(super) fn beginning(&self) -> (Block, u64) {
        (self.begin, self.first)
    }

    /// Batches from a number on, some at a time; `None` when they are not kept any more.
    pub(super) fn from(&self, number: u64) -> Option<Vec<Entry>> {
        let skip = usize::try_from(number.checked_sub(self.first)?).ok()?;
        Some(self.batches.iter().skip(skip).take(64).cloned().collect())
    }

    /// The batch after a block that was seen just so.
    pub(super) fn after_seen(&self, block: Block) -> Option<u64> {
        let place = self
            .batches
            .iter()
            .rposition(|entry| entry.place.block == block);
        match place {
            Some(place) => Some(self.first + u64::try_from(place).ok()? + 1),
            None => (self.begin == block).then_some(self.first),
        }
    }

    /// The batch from which all is about later blocks than this one, which is of the chain;
    /// `None` when that is not kept any more.
    pub(super) fn after_number(&self, number: u64) -> Option<u64> {
        let place = self
            .batches
            .iter()
            .rposition(|entry| entry.place.block.number <= number);
        match place {
            Some(place) => Some(self.first + u64::try_from(place).ok()? + 1),
            None => (self.begin.number <= number).then_some(self.first),
        }
    }
}
