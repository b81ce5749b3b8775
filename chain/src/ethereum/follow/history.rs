//! Which blocks are settled, and what has to be asked to settle the next. No I/O here.
//!
//! A walk goes from a block with enough confirmations down by the parents' hashes until
//! it meets a settled block. Where it meets is where the chain that was seen and the one
//! that is now part; mostly that is the newest settled block.

use std::collections::VecDeque;

use ethers_core::types::Bloom;

/// Blocks that can be taken back.
pub(in crate::ethereum) const DEPTH: u64 = 64;

/// A block, for those who only need to know which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ethereum) struct Block {
    pub(in crate::ethereum) number: u64,
    pub(in crate::ethereum) hash: [u8; 32],
}

/// A block and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ethereum) struct Header {
    pub(in crate::ethereum) block: Block,
    pub(in crate::ethereum) parent: [u8; 32],
    /// Tells some blocks that have no event of the contract for sure; empty when unknown.
    pub(in crate::ethereum) bloom: Bloom,
}

/// The newest settled blocks, oldest first, without holes; never empty.
#[derive(Debug, Clone)]
pub(in crate::ethereum) struct History {
    settled: VecDeque<Block>,
    confirmations: u64,
}

/// How to get on from a head.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ethereum) enum Plan {
    /// The head is so old that nothing can be said by it.
    Behind,
    /// Walk down from this block.
    Walk(Walk),
    /// The newest settled block is far behind. When it still stands (see [`History::recheck`])
    /// these blocks are too old to be taken back, and need not be looked at one by one.
    Scan {
        /// The first that is not settled.
        from: u64,
        /// The last of them.
        to: u64,
    },
}

/// On the way from a new block to a settled one.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ethereum) struct Walk {
    target: u64,
    /// Newest first.
    branch: Vec<Header>,
}

/// What a walk wants.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ethereum) enum Step {
    /// The block at this height.
    AskNumber(u64),
    /// The block of this hash.
    AskHash(Block),
    /// The block is settled already; `older` when it is not the newest one.
    Known {
        /// Whether there are settled blocks after it.
        older: bool,
    },
    /// It has met a settled block.
    Done(Advance),
    /// All settled blocks that are known have been taken back.
    TooDeep,
}

/// How settled blocks change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ethereum) struct Advance {
    /// The settled block that stays; those after it are taken back.
    pub(in crate::ethereum) onto: Block,
    /// What comes after it, oldest first.
    pub(in crate::ethereum) blocks: Vec<Header>,
}

/// An endpoint gave another block than the one asked for.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ethereum) struct NotAsked;

impl History {
    /// Begins after a block that counts as settled. A block is settled when `confirmations`
    /// blocks follow it.
    pub(in crate::ethereum) fn new(start: Block, confirmations: u64) -> Self {
        Self {
            settled: VecDeque::from([start]),
            confirmations,
        }
    }

    /// The newest settled block.
    pub(in crate::ethereum) fn tip(&self) -> Block {
        *self.settled.back().expect("never empty")
    }

    /// The oldest block the chain can go back to.
    pub(in crate::ethereum) fn oldest(&self) -> Block {
        *self.settled.front().expect("never empty")
    }

    /// How to get on when an endpoint's newest block has this number.
    pub(in crate::ethereum) fn plan(&self, head: u64) -> Plan {
        let target = head.saturating_sub(self.confirmations);
        let tip = self.tip().number;
        if target < self.oldest().number {
            Plan::Behind
        } else if target > tip.saturating_add(DEPTH) {
            Plan::Scan {
                from: tip + 1,
                to: target - DEPTH,
            }
        } else {
            Plan::Walk(Walk::to(target))
        }
    }

    /// A walk that finds out whether the newest settled block still stands.
    pub(in crate::ethereum) fn recheck(&self) -> Walk {
        Walk::to(self.tip().number)
    }

    /// Takes over what a walk has found.
    pub(in crate::ethereum) fn apply(&mut self, advance: &Advance) {
        self.settled
            .retain(|block| block.number <= advance.onto.number);
        debug_assert_eq!(self.settled.back(), Some(&advance.onto));
        self.settled
            .extend(advance.blocks.iter().map(|header| header.block));
        let most = usize::try_from(DEPTH).expect("a small number") + 1;
        self.settled
            .drain(..self.settled.len().saturating_sub(most));
    }

    /// Takes over a block that is too old to be taken back, and all before it.
    pub(in crate::ethereum) fn skip_to(&mut self, block: Block) {
        self.settled = VecDeque::from([block]);
    }

    /// The settled block of this number, unless it is older than all that are kept.
    pub(in crate::ethereum) fn hash_at(&self, number: u64) -> Option<[u8; 32]> {
        let place = number.checked_sub(self.oldest().number)?;
        let block = self.settled.get(usize::try_from(place).ok()?)?;
        Some(block.hash)
    }
}

impl Walk {
    fn to(target: u64) -> Self {
        Self {
            target,
            branch: Vec::new(),
        }
    }

    /// What comes next.
    pub(in crate::ethereum) fn step(&self, history: &History) -> Step {
        let (Some(first), Some(last)) = (self.branch.first(), self.branch.last()) else {
            return Step::AskNumber(self.target);
        };
        if history.hash_at(first.block.number) == Some(first.block.hash) {
            let older = first.block.number < history.tip().number;
            return Step::Known { older };
        }
        let oldest = history.oldest().number;
        let Some(number) = last.block.number.checked_sub(1).filter(|n| *n >= oldest) else {
            return Step::TooDeep;
        };
        let parent = Block {
            number,
            hash: last.parent,
        };
        match history.hash_at(number) {
            Some(hash) if hash == parent.hash => Step::Done(Advance {
                onto: parent,
                blocks: self.branch.iter().rev().copied().collect(),
            }),
            Some(_) if number == oldest => Step::TooDeep,
            Some(_) | None => Step::AskHash(parent),
        }
    }

    /// Takes the answer to what the last step asked.
    ///
    /// # Errors
    /// When it is another block.
    pub(in crate::ethereum) fn answer(&mut self, header: Header) -> Result<(), NotAsked> {
        let right = match self.branch.last() {
            None => header.block.number == self.target,
            Some(last) => {
                header.block.hash == last.parent && header.block.number + 1 == last.block.number
            }
        };
        if !right {
            return Err(NotAsked);
        }
        self.branch.push(header);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A chain that can change its mind.
    #[derive(Debug, Clone)]
    struct Model {
        blocks: Vec<Header>,
        made: u64,
    }

    impl Model {
        fn new() -> Self {
            let block = Block {
                number: 0,
                hash: [0; 32],
            };
            Self {
                blocks: vec![header(block, [0xff; 32])],
                made: 0,
            }
        }

        fn mine(&mut self, count: usize) {
            for _ in 0..count {
                let last = self.blocks.last().unwrap().block;
                self.made += 1;
                let mut hash = [0; 32];
                hash[..8].copy_from_slice(&self.made.to_be_bytes());
                let block = Block {
                    number: last.number + 1,
                    hash,
                };
                let parent = last.hash;
                self.blocks.push(header(block, parent));
            }
        }

        fn reorganise(&mut self, back: usize, count: usize) {
            let keep = self.blocks.len().saturating_sub(back).max(1);
            self.blocks.truncate(keep);
            self.mine(count);
        }

        fn head(&self) -> u64 {
            self.blocks.last().unwrap().block.number
        }

        fn at(&self, number: u64) -> Header {
            self.blocks[usize::try_from(number).unwrap()]
        }
    }

    /// Does what the driver does, without endpoints that fail. `seen` is what whoever
    /// follows the advances believes.
    fn follow(history: &mut History, model: &Model, seen: &mut Vec<Block>) -> Result<(), Step> {
        loop {
            let (mut walk, scan) = match history.plan(model.head()) {
                Plan::Behind => return Ok(()),
                Plan::Walk(walk) => (walk, None),
                Plan::Scan { to, .. } => (history.recheck(), Some(to)),
            };
            let step = loop {
                match walk.step(history) {
                    Step::AskNumber(number) => walk.answer(model.at(number)).unwrap(),
                    Step::AskHash(block) => walk.answer(model.at(block.number)).unwrap(),
                    step @ (Step::Known { .. } | Step::Done(_) | Step::TooDeep) => break step,
                }
            };
            match (step, scan) {
                (Step::Done(advance), _) => {
                    seen.retain(|block| block.number <= advance.onto.number);
                    seen.extend(advance.blocks.iter().map(|header| header.block));
                    history.apply(&advance);
                    if scan.is_none() {
                        return Ok(());
                    }
                }
                (Step::Known { .. }, None) => return Ok(()),
                (Step::Known { .. }, Some(to)) => {
                    let from = history.tip().number + 1;
                    seen.extend((from..=to).map(|number| model.at(number).block));
                    history.skip_to(model.at(to).block);
                }
                (other, _) => return Err(other),
            }
        }
    }

    fn header(block: Block, parent: [u8; 32]) -> Header {
        Header {
            block,
            parent,
            bloom: Bloom::zero(),
        }
    }

    fn block(number: u64, hash: u8) -> Block {
        Block {
            number,
            hash: [hash; 32],
        }
    }

    #[test]
    fn a_next_block_needs_one_question() {
        let mut history = History::new(block(7, 7), 0);
        let Plan::Walk(mut walk) = history.plan(8) else {
            panic!("a walk")
        };
        assert_eq!(walk.step(&history), Step::AskNumber(8));
        let parent = [7; 32];
        let next = header(block(8, 8), parent);
        walk.answer(next).unwrap();

        let Step::Done(advance) = walk.step(&history) else {
            panic!("it has met the settled one")
        };
        assert_eq!(
            (advance.onto, &advance.blocks[..]),
            (block(7, 7), &[next][..])
        );
        history.apply(&advance);
        assert_eq!(history.tip(), block(8, 8));
    }

    #[test]
    fn another_block_than_asked_for_is_refused() {
        let history = History::new(block(7, 7), 0);
        let Plan::Walk(mut walk) = history.plan(9) else {
            panic!("a walk")
        };
        let header = |number, hash, parent| header(block(number, hash), [parent; 32]);
        assert_eq!(walk.answer(header(8, 8, 7)), Err(NotAsked));
        walk.answer(header(9, 9, 8)).unwrap();
        assert_eq!(walk.answer(header(8, 1, 7)), Err(NotAsked));
        assert_eq!(walk.answer(header(7, 8, 7)), Err(NotAsked));
    }

    #[test]
    fn sixty_four_blocks_can_be_taken_back_and_no_more() {
        for (back, fails) in [(1, false), (64, false), (65, true)] {
            let mut model = Model::new();
            model.mine(200);
            let mut history = History::new(model.at(0).block, 0);
            let mut seen = Vec::new();
            follow(&mut history, &model, &mut seen).unwrap();
            model.reorganise(back, back + 1);

            let followed = follow(&mut history, &model, &mut seen);

            let expected = if fails { Err(Step::TooDeep) } else { Ok(()) };
            assert_eq!(followed, expected, "{back} blocks");
        }
    }

    #[test]
    fn a_head_that_goes_back_on_the_same_chain_is_noticed() {
        let mut model = Model::new();
        model.mine(20);
        let mut history = History::new(model.at(0).block, 2);
        follow(&mut history, &model, &mut Vec::new()).unwrap();

        let Plan::Walk(mut walk) = history.plan(12) else {
            panic!("a walk")
        };
        walk.answer(model.at(10)).unwrap();
        assert_eq!(walk.step(&history), Step::Known { older: true });
    }

    #[derive(Debug, Clone)]
    enum Action {
        Mine(usize),
        Reorganise(usize, usize),
        Follow,
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let action = prop_oneof![
            3 => (1..12_usize).prop_map(Action::Mine),
            1 => (60..300_usize).prop_map(Action::Mine),
            2 => (1..=64_usize, 0..80_usize).prop_map(|(back, new)| Action::Reorganise(back, new)),
            4 => Just(Action::Follow),
        ];
        prop::collection::vec(action, 1..60)
    }

    proptest! {
        /// Whatever the chain does within the limit between two looks, who follows ends with
        /// exactly the chain's settled blocks, each once and in order.
        #[test]
        fn who_follows_sees_the_chain(actions in actions(), confirmations in 0..5_u64) {
            let mut model = Model::new();
            let mut history = History::new(model.at(0).block, confirmations);
            let mut seen = vec![model.at(0).block];
            let mut highest = 0_u64;
            for action in actions {
                match action {
                    Action::Mine(count) => model.mine(count),
                    Action::Reorganise(back, new) => {
                        // At most the limit below the highest that has been seen.
                        let floor = highest.saturating_sub(DEPTH);
                        let depth = (model.head() - floor.min(model.head())).min(back as u64);
                        model.reorganise(usize::try_from(depth).unwrap(), new);
                    }
                    Action::Follow => {
                        prop_assert_eq!(follow(&mut history, &model, &mut seen), Ok(()));
                        let target = model.head().saturating_sub(confirmations);
                        if target >= history.tip().number {
                            let expected: Vec<_> =
                                model.blocks.iter().map(|header| header.block)
                                    .take_while(|block| block.number <= target).collect();
                            prop_assert_eq!(&seen, &expected);
                        }
                        prop_assert_eq!(*seen.last().unwrap(), history.tip());
                        highest = highest.max(history.tip().number);
                    }
                }
            }
        }
    }
}
