//! The newest parts of one stream: what joiners, slow children and repairs are served
//! from.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_proto::{MediaInfo, PartHeader, Position, Signed, Slot};

/// A part or init and what has come of it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) header: Signed<PartHeader>,
    chunks: Vec<Option<Bytes>>,
    missing: usize,
}

impl Entry {
    fn new(header: Signed<PartHeader>) -> Self {
        let count = header.value().hashes.len();
        Self {
            header,
            chunks: vec![None; count],
            missing: count,
        }
    }

    pub(crate) fn media(&self) -> Option<&MediaInfo> {
        self.header.value().media.as_ref()
    }

    pub(crate) fn chunk(&self, index: usize) -> Option<&Bytes> {
        self.chunks.get(index)?.as_ref()
    }

    pub(crate) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub(crate) fn missing_chunks(&self) -> Vec<u16> {
        let missing = self.chunks.iter().enumerate().filter(|(_, c)| c.is_none());
        missing.filter_map(|(i, _)| u16::try_from(i).ok()).collect()
    }

    /// The whole payload, when it is here.
    pub(crate) fn payload(&self) -> Option<Vec<Bytes>> {
        self.chunks.iter().cloned().collect()
    }
}

/// What became of a header or chunk that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is new.
    New,
    /// It was here already.
    Duplicate,
    /// It is too old, or its header is not here.
    Stale,
}

/// Parts and inits in order, bounded in bytes and segments.
#[derive(Debug)]
pub(crate) struct Ring {
    max_bytes: usize,
    max_segments: usize,
    inits: BTreeMap<u32, Entry>,
    parts: BTreeMap<Position, Entry>,
    /// Ranges the owner or a parent said will not come: start to end.
    gaps: BTreeMap<Position, Position>,
    /// Nothing before this is taken any more.
    floor: Option<Position>,
    bytes: usize,
}

/// Gaps remembered at once; more are the sign of a broken stream, and the oldest go.
const MAX_GAPS: usize = 64;

impl Ring {
    pub(crate) const fn new(max_bytes: usize, max_segments: usize) -> Self {
        Self {
            max_bytes,
            max_segments,
            inits: BTreeMap::new(),
            parts: BTreeMap::new(),
            gaps: BTreeMap::new(),
            floor: None,
            bytes: 0,
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn entry(&self, slot: Slot) -> Option<&Entry> {
        match slot {
            Slot::Init(index) => self.inits.get(&index),
            Slot::Part(position) => self.parts.get(&position),
        }
    }

    pub(crate) fn edge(&self) -> Option<Position> {
        self.parts.last_key_value().map(|(position, _)| *position)
    }

    pub(crate) fn oldest(&self) -> Option<Position> {
        self.parts.first_key_value().map(|(position, _)| *position)
    }

    /// Takes a header; its chunks may come from now on.
    pub(crate) fn add_header(&mut self, header: &Signed<PartHeader>) -> Taken {
        let slot = header.value().slot;
        if self.entry(slot).is_some() {
            return Taken::Duplicate;
        }
        let entry = Entry::new(header.clone());
        match slot {
            Slot::Init(index) => {
                self.inits.insert(index, entry);
            }
            Slot::Part(position) => {
                if self.floor.is_some_and(|floor| position < floor) {
                    return Taken::Stale;
                }
                self.parts.insert(position, entry);
                self.evict();
            }
        }
        Taken::New
    }

    /// Takes a chunk that matches its header.
    pub(crate) fn add_chunk(&mut self, slot: Slot, index: usize, payload: &Bytes) -> Taken {
        let entry = match slot {
            Slot::Init(init) => self.inits.get_mut(&init),
            Slot::Part(position) => self.parts.get_mut(&position),
        };
        let Some(entry) = entry else {
            return Taken::Stale;
        };
        match entry.chunks.get_mut(index) {
            Some(place @ None) => {
                *place = Some(payload.clone());
                entry.missing -= 1;
                self.bytes += payload.len();
                self.evict();
                Taken::New
            }
            Some(Some(_)) => Taken::Duplicate,
            None => Taken::Stale,
        }
    }

    /// Notes that parts will not come.
    pub(crate) fn add_gap(&mut self, from: Position, to: Position) {
        if from < to {
            self.gaps.insert(from, to);
            if self.gaps.len() > MAX_GAPS {
                self.gaps.pop_first();
            }
        }
    }

    /// Where a reader that wants `position` goes on: past gaps and past what was
    /// dropped; `Err` holds the place to skip to.
    pub(crate) fn resolve(&self, position: Position) -> Result<Position, Position> {
        if self.parts.contains_key(&position) {
            return Ok(position);
        }
        if let Some((_, to)) = self.gaps.range(..=position).next_back()
            && *to > position
        {
            return Err(*to);
        }
        if self.floor.is_some_and(|floor| position < floor) {
            return Err(self.rejoin().unwrap_or(position));
        }
        Ok(position)
    }

    /// The position after one whose header is here.
    pub(crate) fn after(&self, position: Position) -> Option<Position> {
        let media = self.parts.get(&position)?.media()?;
        Some(next(position, media.last))
    }

    /// Where a new reader starts: the newest complete segment, or else the newest start
    /// of a segment.
    pub(crate) fn join(&self) -> Option<Position> {
        let mut newest = None;
        for position in self.segment_starts() {
            if self.is_segment_complete(position.segment) {
                return Some(position);
            }
            newest.get_or_insert(position);
        }
        newest
    }

    /// Where a reader that fell behind goes on: the newest start of a segment.
    fn rejoin(&self) -> Option<Position> {
        self.segment_starts().next().or_else(|| self.oldest())
    }

    /// The first position, from `start` on, that is not complete.
    pub(crate) fn first_incomplete(&self, start: Position) -> Position {
        let mut at = start;
        loop {
            match self.resolve(at) {
                Err(skip) if skip > at => at = skip,
                Err(_) => return at,
                Ok(_) => match self.parts.get(&at) {
                    Some(entry) if entry.is_complete() => {
                        let last = entry.media().is_some_and(|media| media.last);
                        at = next(at, last);
                    }
                    _ => return at,
                },
            }
        }
    }

    /// Something after `position` has come completely: `position` should have, too.
    pub(crate) fn is_overtaken(&self, position: Position) -> bool {
        let after = Position {
            part: position.part.saturating_add(1),
            ..position
        };
        self.parts.range(after..).any(|(_, e)| e.is_complete())
    }

    fn segment_starts(&self) -> impl Iterator<Item = Position> {
        self.parts.iter().rev().filter_map(|(position, entry)| {
            let start = position.part == 0 && entry.media().is_some_and(|m| m.independent);
            start.then_some(*position)
        })
    }

    fn is_segment_complete(&self, segment: u64) -> bool {
        let mut at = Position { segment, part: 0 };
        while let Some(entry) = self.parts.get(&at) {
            if !entry.is_complete() {
                return false;
            }
            if entry.media().is_some_and(|media| media.last) {
                return true;
            }
            at.part += 1;
        }
        false
    }

    fn evict(&mut self) {
        while let (Some(oldest), Some(newest)) = (self.oldest(), self.edge()) {
            let span = newest.segment.saturating_sub(oldest.segment);
            let many = usize::try_from(span).unwrap_or(usize::MAX) >= self.max_segments;
            let large = self.bytes > self.max_bytes && oldest.segment != newest.segment;
            if !many && !large {
                break;
            }
            self.drop_segment(oldest.segment);
        }
    }

    fn drop_segment(&mut self, segment: u64) {
        let next = Position {
            segment: segment.saturating_add(1),
            part: 0,
        };
        let kept = self.parts.split_off(&next);
        for entry in std::mem::replace(&mut self.parts, kept).values() {
            self.bytes -= entry.chunks.iter().flatten().map(Bytes::len).sum::<usize>();
        }
        self.floor = Some(next);
        self.gaps.retain(|_, to| *to > next);
        // Only the inits that parts still need are kept, and the newest.
        let first = self
            .parts
            .values()
            .filter_map(|e| e.media())
            .map(|m| m.init);
        if let Some(needed) = first.min() {
            let kept = self.inits.split_off(&needed);
            for entry in std::mem::replace(&mut self.inits, kept).values() {
                self.bytes -= entry.chunks.iter().flatten().map(Bytes::len).sum::<usize>();
            }
        }
    }
}

/// The position after one, by whether that is the last of its segment.
pub(crate) const fn next(position: Position, last: bool) -> Position {
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
