//! What goes on at a chain while a node runs: transactions that wait, jobs whose reserve or
//! time runs out, receipts that are due to be claimed, claims that are to be defended.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use headwater_chain::{
    Broadcaster, Job, JobFilter, JobId, JobState, Ledger as _, LedgerError,
    ethereum::{Claims, Writer},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Chain;

/// From one look to the next, and at most while something goes wrong.
const LOOK: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30);
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
    /// What went wrong in the last look.
    told: BTreeSet<String>,
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
            told: BTreeSet::new(),
        }
    }

    /// Goes on until the node stops. However the endpoints do, it is tried: some of what is
    /// to be done can go well where the rest fails, and claims have to be defended in time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut looks = 0_u32;
        let mut pause = LOOK;
        loop {
            let look = self.look(looks.is_multiple_of(OVER));
            let troubles = tokio::select! {
                () = stop.cancelled() => return,
                troubles = look => troubles,
            };
            looks = looks.wrapping_add(1);
            pause = match troubles.is_empty() {
                true => LOOK,
                false => (pause * 2).min(LONGEST),
            };
            self.tell(troubles);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Says what goes wrong, unless it went wrong in the last look.
    fn tell(&mut self, troubles: BTreeSet<String>) {
        for trouble in troubles.difference(&self.told) {
            warn!("{trouble}");
        }
        self.told = troubles;
    }

    /// Looks once, and gives what went wrong. One thing that fails does not hold up the
    /// others. `search` is whether jobs that are over are looked for.
    async fn look(&mut self, search: bool) -> BTreeSet<String> {
        let mut troubles = BTreeSet::new();
        if let Err(error) = self.writer.account().attend().await {
            troubles.insert(format!("transactions cannot be looked after: {error}"));
        }
        if let Some(claims) = &self.claims {
            match claims.attend().await {
                Ok(failed) => {
                    let said = |(job, error)| format!("claims of job {job} wait: {error}");
                    troubles.extend(failed.into_iter().map(said));
                }
                Err(error) => drop(troubles.insert(format!("receipts cannot be claimed: {error}"))),
            }
        }
        // Nothing tells of jobs any more; whoever follows has said why.
        if self.chain.ledger.status().failed.is_none() {
            self.attend_jobs(search, &mut troubles).await;
        }
        troubles
    }

    async fn attend_jobs(&mut self, search: bool, troubles: &mut BTreeSet<String>) {
        let jobs = match self.own_jobs(search).await {
            Ok(jobs) => jobs,
            // It is being told how far that is.
            Err(LedgerError::Reading) => return,
            Err(error) => {
                troubles.insert(format!("jobs of this node cannot be looked after: {error}"));
                return;
            }
        };
        let (over, live): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .partition(|job| job.state == JobState::Ended);
        if search {
            let left = over.into_iter().map(|job| job.id);
            self.over = left.filter(|job| !self.done.contains(job)).collect();
        }
        let turn = self.over.len().min(AT_ONCE);
        let over: Vec<_> = self.over.drain(..turn).collect();
        for job in live.into_iter().map(|job| job.id).chain(over) {
            match self.writer.attend(job).await {
                Ok(true) => drop(self.done.insert(job)),
                Ok(false) => {}
                Err(error) => {
                    troubles.insert(format!("job {job} cannot be looked after: {error}"));
                }
            }
        }
    }

    async fn own_jobs(&self, over: bool) -> Result<Vec<Job>, LedgerError> {
        let own = self.writer.account().address();
        let filter = JobFilter {
            broadcaster: Some(Broadcaster::Account(own)),
            ended: over,
            ..JobFilter::default()
        };
        self.chain.ledger.jobs(filter).await
    }
}
