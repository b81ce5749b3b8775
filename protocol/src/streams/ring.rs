//! The newest parts of one stream, and the inits they need, in chunks.
//!
//! Parts may arrive in any order; what is missing between two of them is a hole until
//! it arrives or is declared a gap. Readers are cursors: positions that step through.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use headwater_proto::{MediaInfo, PartHeader, Position, Signed, Slot, limits::CHUNK_BYTES};

/// Inits kept at most.
const MAX_INITS: usize = 16;
/// Declared gaps kept at most.
const MAX_GAPS: usize = 64;

/// The part that follows one which is not the last of its segment.
pub(crate) const fn after(position: Position, last: bool) -> Position {
    if last {
        Position {
            segment: position.segment.saturating_add(1),
            part: 0,
        }
    } else {
        Position {
            segment: position.segment,
            part: position.part.saturating_add(1),
        }
    }
}

/// The chunks of one part or init: most have one.
#[derive(Debug)]
enum Chunks {
    One(Option<Bytes>),
    Several(Vec<Option<Bytes>>),
}

impl Chunks {
    fn new(count: usize) -> Self {
        match count {
            1 => Self::One(None),
            _ => Self::Several(vec![None; count]),
        }
    }

    fn as_slice(&self) -> &[Option<Bytes>] {
        match self {
            Self::One(chunk) => std::slice::from_ref(chunk),
            Self::Several(chunks) => chunks,
        }
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Option<Bytes>> {
        match self {
            Self::One(chunk) => Some(chunk).filter(|_| index == 0),
            Self::Several(chunks) => chunks.get_mut(index),
        }
    }
}

/// One part or init, perhaps without all of its chunks yet.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) header: Signed<PartHeader>,
    chunks: Chunks,
    missing: u16,
}

impl Entry {
    fn new(header: Signed<PartHeader>) -> Self {
        let count = header.value().hashes.len();
        Self {
            header,
            chunks: Chunks::new(count),
            missing: u16::try_from(count).unwrap_or(u16::MAX),
        }
    }

    pub(crate) const fn complete(&self) -> bool {
        self.missing == 0
    }

    pub(crate) fn media(&self) -> Option<MediaInfo> {
        self.header.value().media
    }

    pub(crate) fn is_last(&self) -> bool {
        is_last(&self.header)
    }

    fn size(&self) -> usize {
        self.header.value().size as usize
    }

    pub(crate) fn count(&self) -> usize {
        self.chunks.as_slice().len()
    }

    pub(crate) fn chunk(&self, index: usize) -> Option<&Bytes> {
        self.chunks.as_slice().get(index)?.as_ref()
    }

    /// The payload, when it is complete.
    pub(crate) fn payload(&self) -> Option<Vec<Bytes>> {
        self.chunks.as_slice().iter().cloned().collect()
    }

    /// The chunks that have not come, at most `most`.
    pub(crate) fn missing_chunks(&self, most: usize) -> Vec<u16> {
        let indices = (0..=u16::MAX).zip(self.chunks.as_slice());
        let missing = indices.filter(|(_, chunk)| chunk.is_none());
        missing.map(|(index, _)| index).take(most).collect()
    }

    /// Takes one chunk; false when it does not fit or is here already.
    fn put(&mut self, index: u16, payload: Bytes) -> bool {
        let start = usize::from(index) * CHUNK_BYTES;
        let expected = self.size().saturating_sub(start).min(CHUNK_BYTES);
        let Some(slot @ None) = self.chunks.get_mut(usize::from(index)) else {
            return false;
        };
        if payload.len() != expected {
            return false;
        }
        *slot = Some(payload);
        self.missing -= 1;
        true
    }
}

fn is_last(header: &Signed<PartHeader>) -> bool {
    header.value().media.is_some_and(|media| media.last)
}

/// What became of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It was not known.
    New,
    /// It was known, to the bit.
    Known,
    /// It is older than what is kept.
    Stale,
    /// It can't be true together with others of its stream.
    Contradiction,
    /// The ring has no room of this kind.
    Full,
}

/// What a cursor finds at its position.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// The part.
    Here(&'a Entry),
    /// Nothing up to this position will come.
    Skip(Position),
    /// It may come.
    Wait,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    inits: BTreeMap<u32, Entry>,
    /// In order. Parts are added at the back and dropped at the front, nearly always.
    parts: VecDeque<(Position, Entry)>,
    gaps: BTreeMap<Position, Position>,
    bytes: usize,
    segments: usize,
    /// Nothing before this is taken in.
    floor: Option<Position>,
    /// The first position that is neither complete nor a gap.
    ready: Option<Position>,
}

impl Ring {
    /// An empty ring that begins at `floor`, or with the first segment it is given.
    pub(crate) fn starting_at(floor: Option<Position>) -> Self {
        Self {
            floor,
            ready: floor,
            ..Self::default()
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest part whose header is known.
    pub(crate) fn edge(&self) -> Option<Position> {
        self.parts.back().map(|(at, _)| *at)
    }

    /// The first position that is neither complete nor a gap.
    pub(crate) const fn ready(&self) -> Option<Position> {
        self.ready
    }

    /// Nothing before this is taken in; `None` before there is anything.
    pub(crate) const fn floor(&self) -> Option<Position> {
        self.floor
    }

    /// Takes in what comes from `from` on, which is before the floor.
    pub(crate) fn lower(&mut self, from: Position) {
        self.floor = Some(from);
        self.ready = Some(from);
        self.advance();
    }

    pub(crate) fn part(&self, at: Position) -> Option<&Entry> {
        let place = self.place(at).ok()?;
        self.parts.get(place).map(|(_, entry)| entry)
    }

    pub(crate) fn init(&self, index: u32) -> Option<&Entry> {
        self.inits.get(&index)
    }

    pub(crate) fn entry(&self, slot: Slot) -> Option<&Entry> {
        match slot {
            Slot::Init(index) => self.inits.get(&index),
            Slot::Part(at) => self.part(at),
        }
    }

    /// Takes a header in.
    pub(crate) fn announce(&mut self, header: &Signed<PartHeader>) -> Accepted {
        let slot = header.value().slot;
        if let Some(known) = self.entry(slot) {
            return if known.header.bytes() == header.bytes() {
                Accepted::Known
            } else {
                Accepted::Contradiction
            };
        }
        match slot {
            Slot::Init(index) => {
                if self.inits.len() >= MAX_INITS {
                    match self.inits.first_key_value() {
                        Some((oldest, _)) if *oldest < index => self.drop_oldest_init(),
                        _ => return Accepted::Full,
                    }
                }
                let entry = Entry::new(header.clone());
                self.bytes += entry.size();
                self.inits.insert(index, entry);
                Accepted::New
            }
            Slot::Part(at) => self.announce_part(at, header),
        }
    }

    fn announce_part(&mut self, at: Position, header: &Signed<PartHeader>) -> Accepted {
        let start = Position { part: 0, ..at };
        let floor = *self.floor.get_or_insert(start);
        if at < floor {
            return Accepted::Stale;
        }
        let place = self.place(at).unwrap_or_else(|place| place);
        let in_segment = |(p, _): &&(Position, Entry)| p.segment == at.segment;
        // A segment's last part is the last that is known of it.
        let before = place
            .checked_sub(1)
            .and_then(|before| self.parts.get(before));
        let before = before.filter(in_segment);
        let behind = self.parts.get(place).filter(in_segment);
        if before.is_some_and(|(_, entry)| entry.is_last()) || (behind.is_some() && is_last(header))
        {
            return Accepted::Contradiction;
        }
        self.segments += usize::from(before.is_none() && behind.is_none());
        let entry = Entry::new(header.clone());
        self.bytes += entry.size();
        self.parts.insert(place, (at, entry));
        self.ready.get_or_insert(floor);
        self.advance();
        Accepted::New
    }

    /// Takes a chunk of an announced slot in; false when it is not wanted.
    pub(crate) fn put(&mut self, slot: Slot, index: u16, payload: Bytes) -> bool {
        let entry = match slot {
            Slot::Init(init) => self.inits.get_mut(&init),
            Slot::Part(at) => match self.place(at) {
                Ok(place) => self.parts.get_mut(place).map(|(_, entry)| entry),
                Err(_) => None,
            },
        };
        let Some(entry) = entry else {
            return false;
        };
        let taken = entry.put(index, payload);
        if taken && entry.complete() {
            self.advance();
        }
        taken
    }

    /// Declares that what is still missing in a range will not come.
    pub(crate) fn declare_gap(&mut self, from: Position, to: Position) {
        if from >= to {
            return;
        }
        let lost: Vec<_> = self
            .parts_from(from)
            .take_while(|(at, _)| *at < to)
            .filter(|(_, entry)| !entry.complete())
            .map(|(at, _)| *at)
            .collect();
        for at in lost {
            self.remove(at);
        }
        let to = self.gaps.get(&from).map_or(to, |known| to.max(*known));
        self.gaps.insert(from, to);
        if self.gaps.len() > MAX_GAPS {
            self.gaps.pop_first();
        }
        self.advance();
    }

    /// What a cursor at `at` finds.
    pub(crate) fn step(&self, at: Position) -> Step<'_> {
        let place = match self.place(at) {
            Ok(place) => return Step::Here(&self.parts[place].1),
            Err(place) => place,
        };
        let in_gap = self.gaps.range(..=at).filter(|(_, to)| at < **to);
        if let Some(to) = in_gap.map(|(_, to)| *to).max() {
            let next = self.parts.get(place).map(|(next, _)| *next);
            return Step::Skip(next.map_or(to, |next| next.min(to)));
        }
        if self.floor.is_some_and(|floor| at < floor) {
            let mut starts = self.parts.iter().filter(|(p, _)| p.part == 0);
            let start = starts.next();
            return start.map_or(Step::Wait, |(start, _)| Step::Skip(*start));
        }
        Step::Wait
    }

    /// Where a reader that names no position begins: the newest complete segment, else
    /// the newest that has its first part.
    pub(crate) fn join_position(&self) -> Option<Position> {
        let mut newest_start = None;
        let mut follower: Option<Position> = None;
        let mut whole = false;
        for (at, entry) in self.parts.iter().rev() {
            if follower.is_none_or(|f| f.segment != at.segment) {
                whole = entry.is_last();
            } else if follower != Some(after(*at, false)) {
                whole = false;
            }
            whole &= entry.complete();
            follower = Some(*at);
            if at.part == 0 {
                if whole {
                    return Some(*at);
                }
                newest_start = newest_start.or(Some(*at));
            }
        }
        newest_start
    }

    /// First part of the newest segment that has one, when it is after `at`.
    pub(crate) fn newest_start_after(&self, at: Position) -> Option<Position> {
        let newer = self.parts.iter().rev().map(|(p, _)| *p);
        newer.take_while(|p| *p > at).find(|p| p.part == 0)
    }

    /// First known part after `at`.
    pub(crate) fn next_after(&self, at: Position) -> Option<Position> {
        let mut newer = self.parts_from(at).map(|(p, _)| *p);
        newer.find(|p| *p > at)
    }

    /// Payload bytes from `at` on.
    pub(crate) fn bytes_from(&self, at: Position) -> usize {
        self.parts_from(at).map(|(_, entry)| entry.size()).sum()
    }

    /// Drops the oldest segments beyond `segments`, then parts until at most `bytes`
    /// are kept; the newest part always stays.
    pub(crate) fn evict(&mut self, segments: usize, bytes: usize) {
        let mut evicted = false;
        while self.parts.len() > 1 && (self.segments > segments || self.bytes > bytes) {
            let Some((at, _)) = self.parts.front() else {
                break;
            };
            self.remove(*at);
            self.floor = self.parts.front().map(|(p, _)| *p);
            evicted = true;
        }
        if evicted {
            self.prune();
        }
    }

    fn prune(&mut self) {
        let floor = self.floor;
        self.gaps
            .retain(|_, to| floor.is_none_or(|floor| *to > floor));
        // Most streams have one init all their life.
        if self.inits.len() > 1 {
            let used = self.parts.iter().filter_map(|(_, entry)| entry.media());
            let oldest = used.map(|media| media.init).min().unwrap_or_default();
            while self.inits.keys().next().is_some_and(|i| *i < oldest) {
                self.drop_oldest_init();
            }
        }
        self.advance();
    }

    fn drop_oldest_init(&mut self) {
        if let Some((_, entry)) = self.inits.pop_first() {
            self.bytes -= entry.size();
        }
    }

    fn remove(&mut self, at: Position) {
        let Ok(place) = self.place(at) else {
            return;
        };
        let Some((_, entry)) = self.parts.remove(place) else {
            return;
        };
        self.bytes -= entry.size();
        let in_segment = |place: usize| {
            let part = self.parts.get(place);
            part.is_some_and(|(p, _)| p.segment == at.segment)
        };
        let others = in_segment(place) || place.checked_sub(1).is_some_and(in_segment);
        self.segments -= usize::from(!others);
    }

    /// The place of a part, or where it would be. The newest are asked for most.
    fn place(&self, at: Position) -> Result<usize, usize> {
        let len = self.parts.len();
        match self.parts.back() {
            Some((newest, _)) if *newest == at => Ok(len - 1),
            Some((newest, _)) if *newest > at => self.parts.binary_search_by_key(&at, |(p, _)| *p),
            Some(_) | None => Err(len),
        }
    }

    /// The parts from a position on.
    fn parts_from(&self, at: Position) -> impl Iterator<Item = &(Position, Entry)> {
        let place = self.place(at).unwrap_or_else(|place| place);
        self.parts.range(place..)
    }

    fn advance(&mut self) {
        let Some(mut at) = self.ready else { return };
        loop {
            match self.step(at) {
                Step::Here(entry) if entry.complete() => at = after(at, entry.is_last()),
                Step::Skip(to) => at = to,
                Step::Here(_) | Step::Wait => break,
            }
        }
        self.ready = Some(at);
    }
}
