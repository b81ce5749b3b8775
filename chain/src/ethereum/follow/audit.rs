//! Finds out endpoints that leave events out, which nothing else would tell: an answer
//! without events, or with some, is well formed, and most of them are true.
//!
//! A block's bloom says for most blocks that no event of the contract is in them. Where it
//! says that there may be some, another endpoint is asked, or the receipts of the block's
//! transactions: whoever gives fewer leaves some out. A bloom may be wrong that way, on a
//! busy chain often, so how often that is done has a bound. Whoever was found out once is not
//! asked about: for as long as it gives no more events of that block, it is of no use.
//! `node/docs/decisions/0005-left-out-events.md` says what this does not find out.

use std::{
    collections::VecDeque,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use ethers_core::{
    abi::ethereum_types::BloomInput,
    types::{Bloom, H256},
};
use tracing::debug;

use super::{
    happened::Happened,
    history::{Block, Header},
    reader::{events_by_receipts, events_of},
};
use crate::{
    ethereum::{
        contract::HEADWATER_ABI,
        rpc::{CallError, Endpoints, Pinned},
    },
    types::{Address, JobId},
};

/// Blocks that pay for one audit.
const PRICE: u32 = 8;
/// Audits that may be done in a row.
const MOST: u32 = 32;
/// Endpoints and blocks that are remembered as found out: every endpoint stands at one block
/// at a time, unless the chain takes blocks back.
const FOUND_OUT: usize = 64;

/// First topics of the contract's events.
static EVENTS: LazyLock<Vec<H256>> = LazyLock::new(|| {
    let events = HEADWATER_ABI.events();
    events.map(ethers_core::abi::Event::signature).collect()
});

/// Audits of blocks, no more than one in [`PRICE`] in the long run.
#[derive(Debug)]
pub(super) struct Audits {
    /// Blocks that are not used up.
    blocks: AtomicU32,
    /// Which endpoint left out events of which block and how many it gave, the newest last.
    found_out: Mutex<VecDeque<(usize, Block, usize)>>,
}

impl Audits {
    pub(super) const fn new() -> Self {
        Self {
            blocks: AtomicU32::new(PRICE * MOST),
            found_out: Mutex::new(VecDeque::new()),
        }
    }

    /// Checks that a block of which an endpoint gave so many events has no more.
    ///
    /// # Errors
    /// When it has: the endpoint left some out.
    pub(super) async fn check(
        &self,
        of: &Pinned,
        all: &Endpoints,
        contract: Address,
        header: Header,
        given: usize,
    ) -> Result<(), CallError> {
        let earned = |blocks: u32| Some((blocks + 1).min(PRICE * MOST));
        let earned = self
            .blocks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned);
        debug_assert!(earned.is_ok(), "it always is");
        if !may_have_events(&header.bloom, contract) {
            return Ok(());
        }
        let this = (of.index(), header.block, given);
        if !self.found_out().contains(&this) {
            let spent = |blocks: u32| blocks.checked_sub(PRICE);
            let spent = self
                .blocks
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent);
            if spent.is_err() || events(of, all, contract, header.block).await <= given {
                return Ok(());
            }
            let mut found_out = self.found_out();
            if found_out.len() == FOUND_OUT {
                found_out.pop_front();
            }
            found_out.push_back(this);
        }
        let number = header.block.number;
        Err(of.garbage(&format!("it leaves out events of block {number}")))
    }

    fn found_out(&self) -> MutexGuard<'_, VecDeque<(usize, Block, usize)>> {
        let found_out = self.found_out.lock();
        found_out.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the contract may have said something in a block with this bloom.
fn may_have_events(bloom: &Bloom, contract: Address) -> bool {
    let has = |bytes: &[u8]| bloom.contains_input(BloomInput::Raw(bytes));
    has(&contract.0) && EVENTS.iter().any(|event| has(event.as_bytes()))
}

/// How many events of a block anybody else has, or the endpoint itself by another way.
async fn events(of: &Pinned, all: &Endpoints, contract: Address, block: Block) -> usize {
    let others = all.in_order().into_iter();
    for other in others.filter(|other| other.index() != of.index()) {
        match events_of(&other, contract, block).await {
            Ok(events) => return events.len(),
            Err(error) => debug!(%error, "no second opinion"),
        }
    }
    events_by_receipts(of, contract, block).await.unwrap_or(0)
}

/// The first job that was left out: the contract counts them without a gap. `next` is the
/// one that comes next.
pub(super) fn left_out<'a>(
    mut next: JobId,
    happened: impl Iterator<Item = &'a Happened>,
) -> Option<JobId> {
    for one in happened {
        if let Happened::Created(created) = one {
            if created.job > next {
                return Some(next);
            }
            next = JobId(created.job.0.saturating_add(1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bloom_tells_blocks_that_have_no_event_of_the_contract() {
        let contract = Address([7; 20]);
        let bloom = |of: &[&[u8]]| {
            let mut bloom = Bloom::zero();
            of.iter()
                .for_each(|bytes| bloom.accrue(BloomInput::Raw(bytes)));
            bloom
        };
        let event = EVENTS[0];
        let both: [&[u8]; 2] = [&contract.0, event.as_bytes()];

        assert!(may_have_events(&bloom(&both), contract));
        assert!(may_have_events(&Bloom::repeat_byte(0xff), contract));
        for others in [&both[..1], &both[1..], &[]] {
            assert!(!may_have_events(&bloom(others), contract));
        }
        assert!(!may_have_events(&bloom(&both), Address([8; 20])));
    }
}
