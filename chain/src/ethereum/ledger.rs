//! The contract as a ledger: what it answers is what is settled on the chain.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::{
    eip712::Domain,
    follow::{self, Manner, Shared},
    rpc::{EndpointStatus, Endpoints},
    write::Writer,
};
use crate::{
    ledger::{Cursor, Future, JobFilter, Ledger, LedgerError, NewJob, Watch},
    types::{Address, Job, JobId, Transcoder},
};

/// How to use the contract.
#[derive(Debug, Clone)]
pub struct ChainSettings {
    /// Whom to ask.
    pub endpoints: Endpoints,
    /// The contract.
    pub contract: Address,
    /// The block that deployed it; no event is older. Looked for when it is not given.
    pub deployed_at: Option<u64>,
    /// How many blocks have to follow a block until it counts. With 0 it counts at once and
    /// is taken back when the chain takes it back.
    pub confirmations: u64,
    /// How often to look for a new block while no endpoint announces them.
    pub poll: Duration,
    /// A subscription that says nothing for this long is taken for dead; so often the
    /// endpoints are compared with each other.
    pub silence: Duration,
    /// How many blocks' events are kept for those who watch. A watch that falls further
    /// behind, or begins further back, reads the chain again.
    pub kept: usize,
    /// How long an answer may wait for the chain to be read at first.
    pub patience: Duration,
}

impl ChainSettings {
    /// What suits most chains.
    #[must_use]
    pub fn new(endpoints: Endpoints, contract: Address) -> Self {
        Self {
            endpoints,
            contract,
            deployed_at: None,
            confirmations: 0,
            poll: Duration::from_secs(2),
            silence: Duration::from_secs(10),
            kept: 8192,
            patience: Duration::from_secs(30),
        }
    }
}

/// How often a block that is to settle is waited for.
const SETTLING: u32 = 30;

/// The contract on a chain.
///
/// One task follows the chain for all of it, for as long as this lives.
#[derive(Debug)]
pub struct EthereumLedger {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    /// Makes its changes; without one it is only read.
    writer: Option<Writer>,
}

/// Where a ledger is on its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainStatus {
    /// The number of the newest settled block; all answers are as of it.
    pub settled: u64,
    /// Whether all blocks that are there have been read; until then no answer is given.
    pub synced: bool,
    /// How the endpoints do, in order of preference.
    pub endpoints: Vec<EndpointStatus>,
    /// Why it is not followed any more, and never will be.
    pub failed: Option<LedgerError>,
}

impl EthereumLedger {
    /// Finds the contract and begins to follow the chain.
    ///
    /// # Errors
    /// When no endpoint answers, or the chain has no contract at the address.
    pub async fn open(settings: ChainSettings) -> Result<Self, LedgerError> {
        let manner = Manner {
            confirmations: settings.confirmations,
            poll: settings.poll,
            silence: settings.silence,
            kept: settings.kept,
            patience: settings.patience,
        };
        let (endpoints, contract) = (settings.endpoints, settings.contract);
        let started = follow::start(endpoints, contract, settings.deployed_at, manner);
        let (shared, task) = Box::pin(started).await?;
        Ok(Self {
            shared,
            task,
            writer: None,
        })
    }

    /// With changes, all of which are those of one account.
    #[must_use]
    pub fn writing(mut self, writer: Writer) -> Self {
        self.writer = Some(writer);
        self
    }

    fn writer(&self) -> Result<&Writer, LedgerError> {
        self.writer.as_ref().ok_or(LedgerError::NoAccount)
    }

    /// Waits until a block that is there is settled, which takes its time where blocks are
    /// slow and many confirmations are asked for.
    async fn settled(&self, block: u64) -> Result<(), LedgerError> {
        for _ in 1..SETTLING {
            if self.reached(block).await.is_ok() {
                return Ok(());
            }
        }
        self.reached(block).await
    }

    /// A job as soon as a block is settled.
    async fn job_after(&self, id: JobId, block: u64) -> Result<Job, LedgerError> {
        self.settled(block).await?;
        self.job(id).await?.ok_or(LedgerError::UnknownJob(id))
    }

    /// Where it is on its chain.
    #[must_use]
    pub fn status(&self) -> ChainStatus {
        ChainStatus {
            settled: self.shared.tip(),
            synced: self.shared.synced(),
            endpoints: self.shared.endpoints.status(),
            failed: self.shared.failed(),
        }
    }

    /// Waits until a block is settled.
    ///
    /// # Errors
    /// When that does not happen in time, or the chain cannot be followed any more.
    pub async fn reached(&self, block: u64) -> Result<(), LedgerError> {
        self.shared.reached(block).await
    }
}

impl Drop for EthereumLedger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ledger for EthereumLedger {
    fn domain(&self) -> Domain {
        Domain {
            chain_id: self.shared.chain,
            contract: self.shared.contract,
        }
    }

    fn register(&self, transcoder: Transcoder) -> Future<'_, ()> {
        Box::pin(async move {
            match self.writer()?.register(&transcoder).await? {
                Some(block) => self.settled(block).await,
                None => Ok(()),
            }
        })
    }

    fn unregister(&self, address: Address) -> Future<'_, ()> {
        Box::pin(async move {
            let block = self.writer()?.unregister(address).await?;
            self.settled(block).await
        })
    }

    fn transcoders(&self) -> Future<'_, Vec<Transcoder>> {
        Box::pin(
            self.shared
                .settled(|journal| journal.state.transcoders().collect()),
        )
    }

    fn create_job(&self, job: NewJob) -> Future<'_, Job> {
        Box::pin(async move {
            let (id, block) = self.writer()?.create_job(&job).await?;
            self.job_after(id, block).await
        })
    }

    fn job(&self, id: JobId) -> Future<'_, Option<Job>> {
        let answer =
            move |journal: &follow::Journal| journal.state.job(id).map(|entry| entry.job.clone());
        Box::pin(self.shared.settled(answer))
    }

    fn jobs(&self, filter: JobFilter) -> Future<'_, Vec<Job>> {
        let answer = move |journal: &follow::Journal| {
            let jobs = journal.state.jobs().map(|entry| &entry.job);
            jobs.filter(|job| filter.matches(job)).cloned().collect()
        };
        Box::pin(self.shared.settled(answer))
    }

    fn acknowledge(&self, id: JobId, transcoder: Address) -> Future<'_, Job> {
        Box::pin(async move {
            let block = self.writer()?.acknowledge(id, transcoder).await?;
            self.job_after(id, block).await
        })
    }

    fn reassign(&self, id: JobId) -> Future<'_, Job> {
        Box::pin(async move {
            let block = self.writer()?.reassign(id).await?;
            self.job_after(id, block).await
        })
    }

    fn end_job(&self, id: JobId) -> Future<'_, Job> {
        Box::pin(async move {
            let block = self.writer()?.end_job(id).await?;
            self.job_after(id, block).await
        })
    }

    fn watch(&self, from: Option<Cursor>) -> Watch {
        follow::watch(self.shared.clone(), from)
    }
}
