//! Which part headers of one link are remembered, so that their chunks can be checked.
//!
//! A header is needed until its chunks are there, and a little longer for those that
//! come twice. How many there are is the neighbour's choice, so they are bounded in
//! number for each subscription and in bytes for all; what has to go is taken from who
//! needs it least, never from a subscription with little for the sake of one with much.

use std::collections::{BTreeMap, VecDeque};

use crate::{PartHeader, RequestId, Signed, Slot, limits::MAX_CHUNKS};

/// Headers of one subscription that wait for chunks. An honest neighbour has a few under
/// way; those whose chunks it never got stay behind.
const PENDING: usize = 128;
/// Complete ones of one subscription: a chunk that was asked for again may come twice.
const DONE: usize = 8;
/// Bytes of all headers of a link, [`FIXED_COST`] of each included.
const TOTAL_BYTES: usize = 4 * 1024 * 1024;
/// Bytes for what a header needs beside its own and its hashes.
const FIXED_COST: usize = 1024;
/// A subscription of which nothing came for so many parts and chunks is over, or can
/// start anew: its headers go first.
const STALE: u64 = 4096;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    subscriptions: BTreeMap<RequestId, Subscription>,
    bytes: usize,
    /// Parts and chunks so far.
    clock: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    headers: BTreeMap<Slot, Entry>,
    /// Those that lack chunks, in order of arrival.
    pending: VecDeque<Slot>,
    /// The others, in order of completion.
    done: VecDeque<Slot>,
    bytes: usize,
    touched: u64,
}

#[derive(Debug)]
struct Entry {
    header: Signed<PartHeader>,
    came: [u64; MAX_CHUNKS / 64],
}

impl Announced {
    /// The header that was announced for a slot.
    pub(crate) fn get(&self, request: RequestId, slot: Slot) -> Option<&Signed<PartHeader>> {
        let subscription = self.subscriptions.get(&request)?;
        Some(&subscription.headers.get(&slot)?.header)
    }

    /// Remembers a header, or that the same was announced once more.
    pub(crate) fn announce(&mut self, request: RequestId, header: &Signed<PartHeader>) {
        self.clock += 1;
        let slot = header.value().slot;
        if let Some(subscription) = self.subscriptions.get_mut(&request) {
            subscription.touched = self.clock;
            if subscription.headers.contains_key(&slot) {
                return subscription.announce_again(slot);
            }
            if subscription.pending.len() == PENDING {
                self.bytes -= subscription.forget_pending();
            }
        }
        let cost = cost(header);
        while self.bytes + cost > TOTAL_BYTES && self.make_room() {}

        let clock = self.clock;
        let subscription = self.subscriptions.entry(request).or_default();
        subscription.touched = clock;
        subscription.bytes += cost;
        self.bytes += cost;
        subscription.pending.push_back(slot);
        let entry = Entry {
            header: header.clone(),
            came: [0; MAX_CHUNKS / 64],
        };
        subscription.headers.insert(slot, entry);
    }

    /// Notes that a chunk came as its header says.
    pub(crate) fn arrived(&mut self, request: RequestId, slot: Slot, index: usize) {
        self.clock += 1;
        let Some(subscription) = self.subscriptions.get_mut(&request) else {
            return;
        };
        subscription.touched = self.clock;
        self.bytes -= subscription.arrived(slot, index);
    }

    /// Forgets one header; false when there is none.
    fn make_room(&mut self) -> bool {
        let clock = self.clock;
        let dispensable = |subscription: &Subscription| {
            let stale = clock - subscription.touched > STALE;
            (stale, !subscription.done.is_empty(), subscription.bytes)
        };
        let victim = (self.subscriptions.iter_mut()).max_by_key(|(_, s)| dispensable(s));
        let Some((&request, subscription)) = victim else {
            return false;
        };
        self.bytes -= match subscription.done.pop_front() {
            Some(slot) => subscription.remove(slot),
            None => subscription.forget_pending(),
        };
        if subscription.headers.is_empty() {
            self.subscriptions.remove(&request);
        }
        true
    }
}

impl Subscription {
    /// All chunks may come again after it, in the order of a new header.
    fn announce_again(&mut self, slot: Slot) {
        if let Some(at) = self.done.iter().position(|done| *done == slot) {
            self.done.remove(at);
            if let Some(entry) = self.headers.get_mut(&slot) {
                entry.came = [0; MAX_CHUNKS / 64];
            }
        }
        self.pending.retain(|pending| *pending != slot);
        self.pending.push_back(slot);
    }

    /// Returns the bytes of headers that are not needed any more.
    fn arrived(&mut self, slot: Slot, index: usize) -> usize {
        let Some(entry) = self.headers.get_mut(&slot) else {
            return 0;
        };
        if let Some(word) = entry.came.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
        let came: u32 = entry.came.iter().map(|word| word.count_ones()).sum();
        let all = entry.header.value().hashes.len();
        if usize::try_from(came) != Ok(all) {
            return 0;
        }
        let Some(at) = self.pending.iter().position(|pending| *pending == slot) else {
            return 0;
        };
        self.pending.remove(at);
        self.done.push_back(slot);
        if self.done.len() <= DONE {
            return 0;
        }
        self.done.pop_front().map_or(0, |slot| self.remove(slot))
    }

    fn forget_pending(&mut self) -> usize {
        self.pending.pop_front().map_or(0, |slot| self.remove(slot))
    }

    /// Returns the bytes that it took.
    fn remove(&mut self, slot: Slot) -> usize {
        let freed = self.headers.remove(&slot).map_or(0, |e| cost(&e.header));
        self.bytes -= freed;
        freed
    }
}

fn cost(header: &Signed<PartHeader>) -> usize {
    FIXED_COST + header.bytes().len() + size_of_val(header.value().hashes.as_slice())
}

// A chunk's index fits the bits of an entry.
const _: () = assert!(MAX_CHUNKS.is_multiple_of(64));
