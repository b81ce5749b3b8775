//! Asks broadcasters for the receipts this transcoder is owed, until it has them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use headwater_chain::{Address, JobId, JournalError, Ledger, LedgerError};
use headwater_proto::{ReceiptsWanted, Signed, SigningKey, StreamId, limits::MAX_RECEIPTS};
use headwater_protocol::{Command, Reply};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::work::{Terms, Work};
use crate::{
    driver::{Core, CoreError},
    mutex::lock,
    pipeline::Transcoding,
};

/// How often the broadcaster of a job that goes on is asked.
const ASK: Duration = Duration::from_secs(10);
/// Rounds between two tries for a job that is over, at most: ten minutes.
const PAUSE: u32 = 60;
/// Tries without success for a job that is over: about nine hours.
const TRIES: u32 = 60;

/// How receipts are collected.
#[derive(Debug, Clone, Copy)]
pub struct CollectorConfig {
    /// Segments of a job that may be done without a receipt for a later one; then the
    /// transcoder stops.
    pub max_unpaid: usize,
}

/// What a transcoder's operator may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiptCounts {
    /// Receipts kept since the start.
    pub received: u64,
    /// Receipts refused since the start, each time they came.
    pub bad: u64,
    /// Segments of all jobs that wait for receipts.
    pub waiting: u64,
}

/// Collects the receipts of all jobs of a transcoder, those that are over too.
#[derive(Debug)]
pub struct Collector {
    config: CollectorConfig,
    work: Work,
    core: Core,
    ledger: Arc<dyn Ledger>,
    node: SigningKey,
    account: Address,
    transcoding: Arc<Transcoding>,
    over: Mutex<BTreeMap<JobId, Over>>,
    received: AtomicU64,
    bad: AtomicU64,
}

/// A job that is over and lacks receipts.
#[derive(Debug, Clone, Copy, Default)]
struct Over {
    tries: u32,
    /// Rounds until the next.
    pause: u32,
}

/// Why a broadcaster's receipts were not got.
#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the broadcaster does not answer: {0}")]
    Core(#[from] CoreError),
    #[error("the ledger has no such job, or nobody pays for it")]
    Nobody,
    #[error("{0} of the receipts are not signed by the broadcaster's account for what was done")]
    Bad(usize),
}

impl Collector {
    /// Collects for the transcoder of this account.
    #[must_use]
    pub fn new(
        config: CollectorConfig,
        work: Work,
        core: Core,
        ledger: Arc<dyn Ledger>,
        node: SigningKey,
        account: Address,
        transcoding: Arc<Transcoding>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            work,
            core,
            ledger,
            node,
            account,
            transcoding,
            over: Mutex::default(),
            received: AtomicU64::new(0),
            bad: AtomicU64::new(0),
        })
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> ReceiptCounts {
        // What cannot be read is told by the rounds.
        let jobs = self.work.jobs().unwrap_or_default();
        let of = |job| self.work.waiting(job).map_or(0, |waiting| waiting.len());
        ReceiptCounts {
            received: self.received.load(Ordering::Relaxed),
            bad: self.bad.load(Ordering::Relaxed),
            waiting: jobs.into_iter().map(of).sum::<usize>() as u64,
        }
    }

    /// Asks now and then until the node stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(ASK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.transcoding.job_over() => {}
                _ = tick.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.round() => {}
            }
        }
    }

    async fn round(&self) {
        let jobs = match self.work.jobs() {
            Ok(jobs) => jobs,
            Err(error) => return error!(%error, "no receipts can be asked for"),
        };
        lock(&self.over).retain(|job, _| jobs.contains(job));
        for job in jobs {
            let held = self.is_held(job);
            if !held && !self.is_due(job) {
                continue;
            }
            let outcome = self.collect(job).await;
            if let Err(error) = &outcome {
                warn!(%job, %error, "receipts are owed");
            }
            if held {
                self.watch(job);
            } else {
                self.tried(job, outcome.is_ok_and(|new| new > 0));
            }
        }
    }

    fn is_held(&self, job: JobId) -> bool {
        let job = headwater_proto::JobId(job.0);
        self.transcoding.stream_of(job).is_some()
    }

    /// Whether a job that is over is asked for in this round.
    fn is_due(&self, job: JobId) -> bool {
        let mut over = lock(&self.over);
        let over = over.entry(job).or_default();
        let due = over.pause == 0;
        over.pause = over.pause.saturating_sub(1);
        due
    }

    /// A job that is over was asked for.
    fn tried(&self, job: JobId, success: bool) {
        let tries = {
            let mut over = lock(&self.over);
            let over = over.entry(job).or_default();
            over.tries = if success { 0 } else { over.tries + 1 };
            over.pause = 1_u32
                .checked_shl(over.tries)
                .map_or(PAUSE, |p| p.min(PAUSE))
                - 1;
            over.tries
        };
        if tries >= TRIES {
            match self.work.abandon(job) {
                Ok(segments) => warn!(%job, segments, "receipts that never came are given up"),
                Err(error) => error!(%job, %error, "the job's segments cannot be forgotten"),
            }
        }
    }

    /// Stops work that is not paid for.
    fn watch(&self, job: JobId) {
        let behind = match self.work.behind(job) {
            Ok(behind) => behind,
            Err(error) => return error!(%job, %error, "nobody knows what is owed"),
        };
        if behind <= self.config.max_unpaid {
            return;
        }
        error!(
            %job,
            segments = behind,
            limit = self.config.max_unpaid,
            "the broadcaster signs no receipts: the job is stopped",
        );
        if let Err(error) = self.work.refuse(job) {
            error!(%job, %error, "the job may be taken up again");
        }
        self.transcoding.end(headwater_proto::JobId(job.0));
    }

    /// Asks for all receipts of a job that are owed; returns how many came.
    async fn collect(&self, job: JobId) -> Result<usize, CollectError> {
        let known = self.ledger.job(job).await?.ok_or(CollectError::Nobody)?;
        let broadcaster = known.broadcaster.account().ok_or(CollectError::Nobody)?;
        let stream: StreamId = known.stream.parse().map_err(|_| CollectError::Nobody)?;
        let terms = Terms {
            domain: self.ledger.domain(),
            stream: known.stream,
            broadcaster,
            transcoder: self.account,
        };
        let (mut new, mut bad) = (0, 0);
        let mut next = self.work.waiting(job)?.first().map(|done| done.number);
        while let Some(from_segment) = next {
            let wanted = ReceiptsWanted {
                stream: stream.clone(),
                job: headwater_proto::JobId(job.0),
                transcoder: self.node.node_id(),
                from_segment,
            };
            let body = Signed::sign(wanted, &self.node);
            let reply = match self.core.command(Command::GetReceipts { body }).await {
                Ok(reply) => reply,
                // What came counts; the rest comes with the next round.
                Err(_) if new > 0 => break,
                Err(error) => return Err(error.into()),
            };
            let Reply::Receipts(list) = reply else {
                return Ok(new);
            };
            let list = &list.value().receipts;
            let settled = self.work.settle(job, &terms, list)?;
            self.received
                .fetch_add(settled.new as u64, Ordering::Relaxed);
            self.bad.fetch_add(settled.bad as u64, Ordering::Relaxed);
            if settled.lost > 0 {
                warn!(%job, segments = settled.lost, "segments without receipts are given up");
            }
            new += settled.new;
            bad += settled.bad;
            let last = list.last().filter(|_| list.len() == MAX_RECEIPTS);
            let waiting = self.work.waiting(job)?;
            next = last.and_then(|last| {
                let later = waiting.iter().find(|done| done.number > last.segment);
                later.map(|done| done.number)
            });
        }
        if new > 0 {
            info!(%job, receipts = new, "receipts came");
        } else {
            debug!(%job, "no new receipts");
        }
        if bad > 0 {
            return Err(CollectError::Bad(bad));
        }
        Ok(new)
    }
}
