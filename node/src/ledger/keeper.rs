//! What goes on at a chain while a node runs: transactions that wait, jobs whose reserve or
//! time runs out, receipts that are due to be claimed, claims that are to be defended.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use headwater_chain::{
    Job, JobFilter, JobId, JobState, Ledger as _,
    ethereum::{Claims, Writer},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Chain;

/// How often it is looked after.
const LOOK: Duration = Duration::from_secs(5);
/// Looks from one search for jobs that are over to the next.
const OVER: u32 = 120;
/// Jobs that are over and looked after in one look: there may be thousands, and what goes on
/// does not wait for them.
const AT_ONCE: usize = 8;

/// Looks after what an account has at a contract.
#[derive(Debug)]
pub struct Keeper {
    chain: Chain,
    writer: Writer,
    /// Of a transcoder.
    claims: Option<Claims>,
    /// Jobs that are over and wait for their turn.
    over: VecDeque<JobId>,
    /// Jobs for which nothing will ever have to be done again.
    done: BTreeSet<JobId>,
}

impl Keeper {
    /// Looks after a writer's account; claims are made for a transcoder.
    #[must_use]
    pub const fn new(chain: Chain, writer: Writer, claims: Option<Claims>) -> Self {
        Self {
            chain,
            writer,
            claims,
            over: VecDeque::new(),
            done: BTreeSet::new(),
        }
    }

    /// Goes on until the node stops.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let status = self.chain.ledger.status();
            // There is nothing left to look after, and whoever follows has said why.
            if status.failed.is_some() {
                return;
            }
            // Whoever follows asks until somebody answers.
            if status
                .endpoints
                .iter()
                .all(|endpoint| endpoint.failures > 0)
            {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look(looks.is_multiple_of(OVER)) => {}
            }
            looks = looks.wrapping_add(1);
        }
    }

    /// Looks once. One thing that fails does not hold up the others. `search` is whether jobs
    /// that are over are looked for.
    async fn look(&mut self, search: bool) {
        if let Err(error) = self.writer.account().attend().await {
            warn!(%error, "transactions cannot be looked after");
        }
        let (over, live): (Vec<_>, Vec<_>) = self
            .own_jobs(search)
            .await
            .into_iter()
            .partition(|job| job.state == JobState::Ended);
        for job in live {
            self.attend(job.id).await;
        }
        if let Some(claims) = &self.claims
            && let Err(error) = claims.attend().await
        {
            error!(%error, "receipts cannot be claimed");
        }
        if search {
            let left = over.into_iter().map(|job| job.id);
            self.over = left.filter(|job| !self.done.contains(job)).collect();
        }
        for _ in 0..AT_ONCE {
            let Some(job) = self.over.pop_front() else {
                break;
            };
            self.attend(job).await;
        }
    }

    async fn attend(&mut self, job: JobId) {
        match self.writer.attend(job).await {
            Ok(true) => drop(self.done.insert(job)),
            Ok(false) => {}
            Err(error) => warn!(%job, %error, "the job cannot be looked after"),
        }
    }

    async fn own_jobs(&self, over: bool) -> Vec<Job> {
        let filter = JobFilter {
            ended: over,
            ..JobFilter::default()
        };
        let jobs = match self.chain.ledger.jobs(filter).await {
            Ok(jobs) => jobs,
            Err(error) => {
                warn!(%error, "jobs of this node cannot be looked after");
                return Vec::new();
            }
        };
        let own = Some(self.writer.account().address());
        let mine = |job: &Job| job.broadcaster.account() == own;
        jobs.into_iter().filter(mine).collect()
    }
}
