//! How many blocks' events are asked for at once: as many as the provider gives.

/// To begin with.
const FIRST: u64 = 1024;
/// At most; more would only make answers that are thrown away when one fails.
const MOST: u64 = 65_536;

/// Adapts to what a provider refuses.
#[derive(Debug, Clone)]
pub(super) struct Range {
    blocks: u64,
}

impl Range {
    pub(super) fn new() -> Self {
        Self { blocks: FIRST }
    }

    /// The last of the blocks to ask for from `from` on, where `to` is the very last.
    pub(super) fn end(&self, from: u64, to: u64) -> u64 {
        to.min(from.saturating_add(self.blocks - 1))
    }

    /// That was too much. False when less is not possible.
    pub(super) fn halve(&mut self) -> bool {
        let possible = self.blocks > 1;
        self.blocks = (self.blocks / 2).max(1);
        possible
    }

    /// That went well.
    pub(super) fn grow(&mut self) {
        self.blocks = (self.blocks + self.blocks / 8 + 1).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_settles_near_any_limit_and_covers_all_blocks_once(
            limit in 1..20_000_u64,
            blocks in 1..200_000_u64,
        ) {
            let (mut range, mut next, mut asked) = (Range::new(), 0, 0_u64);
            while next < blocks {
                asked += 1;
                let end = range.end(next, blocks - 1);
                prop_assert!(end >= next);
                if end - next >= limit {
                    prop_assert!(range.halve());
                } else {
                    range.grow();
                    next = end + 1;
                }
            }
            prop_assert_eq!(next, blocks);
            // Twice what knowing the limit would have needed, and the time to learn it.
            prop_assert!(asked <= 3 * blocks.div_ceil(limit.min(FIRST)) + 24, "{}", asked);
        }
    }

    #[test]
    fn one_block_cannot_be_halved() {
        let mut range = Range { blocks: 1 };
        assert!(!range.halve());
        assert_eq!(range.end(5, 9), 5);
    }
}
