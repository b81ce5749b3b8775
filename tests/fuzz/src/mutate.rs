//! Seeded mutations, for runs without a fuzzer.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Bytes and numbers at which something often changes.
const TELLING: [u8; 10] = [0, 1, 2, 8, 0x10, 0x7f, 0x80, 0xfe, 0xff, b'.'];
/// Changes of one input, at most.
const MOST: usize = 6;

/// Changes inputs; the same seed gives the same changes.
#[derive(Debug)]
pub struct Mutator {
    dice: ChaCha8Rng,
}

impl Mutator {
    /// A mutator.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            dice: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// One of several; 0 when there is none.
    pub fn index(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.dice.next_u64() % count).unwrap_or(0)
    }

    /// `data` with a few changes, some of them out of `other`, and not longer than
    /// `longest`.
    pub fn change(&mut self, data: &[u8], other: &[u8], longest: usize) -> Vec<u8> {
        let mut out = data.to_vec();
        for _ in 0..=self.index(MOST) {
            self.change_once(&mut out, other);
        }
        out.truncate(longest);
        out
    }

    fn change_once(&mut self, out: &mut Vec<u8>, other: &[u8]) {
        let at = self.index(out.len() + 1);
        let len = 1 + self.index(16);
        let end = (at + len).min(out.len());
        match self.index(7) {
            0 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << (len % 8);
                }
            }
            1 => {
                let telling = TELLING[self.index(TELLING.len())];
                if let Some(byte) = out.get_mut(at) {
                    *byte = telling;
                }
            }
            2 => {
                let bytes = self.dice.next_u64().to_le_bytes();
                out.splice(at..at, bytes[..len.min(8)].iter().copied());
            }
            3 => drop(out.drain(at..end)),
            4 => {
                let again = out[at..end].to_vec();
                out.splice(at..at, again);
            }
            5 => {
                // The other's end after this one's beginning.
                let from = self.index(other.len() + 1);
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
            _ => {
                let from = self.index(other.len() + 1);
                let piece = &other[from..(from + 4 * len).min(other.len())];
                out.splice(at..end, piece.iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_changes_and_they_differ_from_each_other() {
        let run = || {
            let mut mutator = Mutator::new(7);
            let change = |_| mutator.change(b"some bytes to change", b"and others", 64);
            (0..50).map(change).collect::<Vec<_>>()
        };
        let once = run();

        assert_eq!(once, run());
        let kinds: std::collections::BTreeSet<_> = once.iter().collect();
        assert!(kinds.len() > 40, "{}", kinds.len());
        assert!(once.iter().all(|changed| changed.len() <= 64));
    }
}
