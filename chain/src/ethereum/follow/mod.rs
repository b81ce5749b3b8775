//! Follows a chain by its endpoints: one task reads blocks and settles them in a journal,
//! from which everything is answered.

mod audit;
mod cursor;
mod driver;
mod happened;
mod history;
mod journal;
mod range;
mod reader;
mod start;
mod state;
mod watch;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch as signal, time::timeout};

pub(in crate::ethereum) use self::{journal::Journal, start::start, watch::watch};
use super::rpc::{EndpointStatus, Endpoints};
use crate::{LedgerError, types::Address};

/// How to follow.
#[derive(Debug, Clone)]
pub(in crate::ethereum) struct Manner {
    /// Blocks after a block that make it settled.
    pub(in crate::ethereum) confirmations: u64,
    /// How often to look for a new block that nobody announces.
    pub(in crate::ethereum) poll: Duration,
    /// After this long without news a subscription is taken for dead; so often endpoints are
    /// compared.
    pub(in crate::ethereum) silence: Duration,
    /// Batches that are kept. Who falls further behind reads the chain again.
    pub(in crate::ethereum) kept: usize,
    /// How long an answer waits for the chain to be read at first.
    pub(in crate::ethereum) patience: Duration,
}

/// What the task that follows and those who ask have in common.
#[derive(Debug)]
pub(in crate::ethereum) struct Shared {
    pub(in crate::ethereum) endpoints: Endpoints,
    pub(in crate::ethereum) contract: Address,
    pub(in crate::ethereum) chain: u64,
    manner: Manner,
    /// The first block that can have events has the number after this.
    start: history::Block,
    journal: Mutex<Journal>,
    changed: signal::Sender<()>,
}

impl Shared {
    /// The number of the newest settled block.
    pub(in crate::ethereum) fn tip(&self) -> u64 {
        self.journal().tip()
    }

    /// Whether all blocks that are there have been read.
    pub(in crate::ethereum) fn synced(&self) -> bool {
        self.journal().synced
    }

    /// Why the chain is followed no more.
    pub(in crate::ethereum) fn failed(&self) -> Option<LedgerError> {
        self.journal().failed.clone()
    }

    /// Answers from what is settled, once all of it has been read.
    ///
    /// # Errors
    /// When the chain could not be read in time, or cannot be followed any more.
    pub(in crate::ethereum) async fn settled<T>(
        &self,
        answer: impl FnOnce(&Journal) -> T,
    ) -> Result<T, LedgerError> {
        self.wait(|journal| journal.synced).await?;
        Ok(answer(&self.journal()))
    }

    /// Waits until a block is settled.
    ///
    /// # Errors
    /// As [`Shared::settled`].
    pub(in crate::ethereum) async fn reached(&self, block: u64) -> Result<(), LedgerError> {
        self.wait(|journal| journal.synced && journal.tip() >= block)
            .await
    }

    async fn wait(&self, until: impl Fn(&Journal) -> bool) -> Result<(), LedgerError> {
        let waited = timeout(self.manner.patience, self.when(until)).await;
        waited.unwrap_or_else(|_| Err(self.late()))
    }

    /// Why something does not show in time.
    fn late(&self) -> LedgerError {
        let endpoints = self.endpoints.status().into_iter();
        let failing = |status: EndpointStatus| status.last_error.filter(|_| status.failures > 0);
        let reasons: Option<Vec<_>> = endpoints.map(failing).collect();
        match reasons {
            Some(reasons) => LedgerError::Unreachable(reasons.join("; ")),
            None => LedgerError::Reading,
        }
    }

    /// Waits for something that shows in the journal, as long as it takes.
    async fn when(&self, until: impl Fn(&Journal) -> bool) -> Result<(), LedgerError> {
        let mut changes = self.changed.subscribe();
        loop {
            {
                let journal = self.journal();
                if let Some(error) = &journal.failed {
                    return Err(error.clone());
                }
                if until(&journal) {
                    return Ok(());
                }
            }
            changes
                .changed()
                .await
                .expect("the sender is borrowed from where it lives");
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Journal) -> T) -> T {
        let changed = change(&mut self.journal());
        self.changed.send_replace(());
        changed
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
