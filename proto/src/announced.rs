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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{BroadcastId, ManifestId, SigningKey, limits::CHUNK_BYTES};

    fn header(init: u32, chunks: usize) -> Signed<PartHeader> {
        let key = SigningKey::from_bytes(&[7; 32]);
        let manifest = ManifestId {
            node: key.node_id(),
            broadcast: BroadcastId::from_bytes([3; 16]),
        };
        let header = PartHeader {
            stream: manifest.source(),
            slot: Slot::Init(init),
            media: None,
            size: u32::try_from(chunks * CHUNK_BYTES).unwrap(),
            hashes: vec![[0; 32]; chunks],
        };
        Signed::sign(header, &key)
    }

    impl Announced {
        /// Every list and sum says the same, and no bound is broken.
        fn assert_sound(&self) {
            let mut bytes = 0;
            for subscription in self.subscriptions.values() {
                let Subscription {
                    headers,
                    pending,
                    done,
                    bytes: own,
                    touched,
                } = subscription;
                assert!(pending.len() <= PENDING && done.len() <= DONE);
                assert!(*touched <= self.clock);
                let mut listed: Vec<_> = pending.iter().chain(done).copied().collect();
                listed.sort_unstable();
                assert!(
                    listed.iter().eq(headers.keys()),
                    "each header is in one list"
                );
                assert_eq!(*own, headers.values().map(|e| cost(&e.header)).sum());
                bytes += own;
            }
            assert_eq!(self.bytes, bytes);
            assert!(bytes <= TOTAL_BYTES, "{bytes}");
        }
    }

    #[test]
    fn what_is_stale_goes_before_what_is_large() {
        let (smaller, large) = (header(1, MAX_CHUNKS - 8), header(2, MAX_CHUNKS));
        let mut announced = Announced::default();
        announced.announce(RequestId(0), &smaller);
        let busy = 1..u64::try_from(TOTAL_BYTES / cost(&large)).unwrap();
        for request in busy.clone() {
            announced.announce(RequestId(request), &large);
        }
        for _ in 0..=STALE / (busy.end - 1) {
            for request in busy.clone() {
                announced.arrived(RequestId(request), large.value().slot, 0);
            }
        }
        let kept = |announced: &Announced, request, header: &Signed<PartHeader>| {
            let found = announced.get(RequestId(request), header.value().slot);
            found.is_some()
        };
        assert!(kept(&announced, 0, &smaller), "there was room for all");

        announced.announce(RequestId(1000), &large);
        assert!(
            !kept(&announced, 0, &smaller),
            "nothing came on it for long"
        );
        assert!(
            busy.clone()
                .all(|request| kept(&announced, request, &large))
        );
        assert!(kept(&announced, 1000, &large));
        announced.assert_sound();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_comes_is_counted_and_bounded(
            steps in prop::collection::vec((0..200_u64, 0..12_usize, 0..6_usize), 900..1500),
        ) {
            let sizes = [1, 2, MAX_CHUNKS, MAX_CHUNKS];
            let made: Vec<_> = (0..12)
                .map(|init| header(init, sizes[usize::try_from(init).unwrap() % 4]))
                .collect();
            let mut announced = Announced::default();
            for (number, (request, init, what)) in steps.into_iter().enumerate() {
                let (header, request) = (&made[init], RequestId(request));
                match what {
                    0..=2 => announced.announce(request, header),
                    _ => announced.arrived(request, header.value().slot, what - 3),
                }
                if number % 50 == 0 {
                    announced.assert_sound();
                }
            }
            announced.assert_sound();
        }
    }
}
