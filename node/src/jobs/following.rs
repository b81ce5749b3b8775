//! Follows the ledger: takes up what the node did when it last ran, then does what each
//! batch of events asks for.

use std::{collections::BTreeSet, sync::Arc};

use headwater_chain::{Address, Batch, Cursor, Event, Job, JobFilter, JobState, LedgerError};
use headwater_proto::JobId;
use tracing::{debug, error, info, warn};

use super::{AGAIN, Jobs, holder_of};
use crate::{
    driver::Core,
    mutex::lock,
    pipeline::{Broadcasts, Transcoding},
};

impl Jobs {
    /// Follows the ledger until the node stops, or the ledger can never be followed again:
    /// then it gives why. `feeding` is what this node feeds transcoders by, if it broadcasts.
    pub async fn watch(
        self: Arc<Self>,
        core: Core,
        feeding: Option<Arc<Broadcasts>>,
    ) -> Option<LedgerError> {
        tokio::select! {
            () = self.parts.stop.cancelled() => None,
            error = self.follow(&core, feeding.as_deref()) => Some(error),
        }
    }

    async fn follow(&self, core: &Core, feeding: Option<&Broadcasts>) -> LedgerError {
        let mut begun = false;
        let mut said = None;
        loop {
            let ended = if begun {
                self.follow_on(core, feeding, &mut said).await
            } else {
                self.begin_where_it_was(feeding.is_some()).await
            };
            match ended {
                Ok(()) if !begun => {
                    begun = true;
                    continue;
                }
                // A watch that ends without a word is taken up again like one that failed.
                Ok(()) => {}
                Err(error) if error.is_for_good() => {
                    error!(%error, "the ledger cannot be followed");
                    return error;
                }
                // The same again says nothing new.
                Err(error) if said.as_ref() == Some(&error) => {}
                Err(error) => {
                    if error == LedgerError::Reading {
                        info!("the chain is being read; no jobs until it has been");
                    } else {
                        error!(%error, "the ledger cannot be followed");
                    }
                    said = Some(error);
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Takes up what this node did when it last ran.
    async fn begin_where_it_was(&self, feeds: bool) -> Result<(), LedgerError> {
        if let Some((key, transcoding)) = &self.parts.transcoder {
            self.take_up(key.address(), transcoding).await?;
        }
        if feeds {
            self.oversee_all().await?;
        }
        Ok(())
    }

    /// Handles what was settled after the place that is kept; gives why that ended. `said`
    /// is what was last said of a ledger that could not be followed.
    async fn follow_on(
        &self,
        core: &Core,
        feeding: Option<&Broadcasts>,
        said: &mut Option<LedgerError>,
    ) -> Result<(), LedgerError> {
        let cursor = self.parts.store.cursor().unwrap_or_else(|error| {
            error!(%error, "following the ledger from its beginning");
            None
        });
        let mut watch = self.parts.ledger.watch(cursor.map(Cursor));
        while let Some(batch) = watch.next().await {
            self.handle(batch?, core, feeding).await;
            *said = None;
        }
        Ok(())
    }

    /// Resumes the jobs this transcoder held when it last ran, as far as it still does.
    async fn take_up(
        &self,
        own: Address,
        transcoding: &Arc<Transcoding>,
    ) -> Result<(), LedgerError> {
        let held = match self.parts.store.jobs() {
            Ok(held) => held,
            Err(error) => {
                error!(%error, "jobs of the last run are lost");
                return Ok(());
            }
        };
        for (job, _) in held {
            match self.parts.ledger.job(headwater_chain::JobId(job)).await? {
                Some(job) if self.is_held(&job, own) => {
                    info!(job = %job.id, "resuming a job of the last run");
                    self.begin(&job, transcoding);
                }
                Some(_) | None => self.drop_job(job),
            }
        }
        Ok(())
    }

    /// Handles a batch, then remembers that it was handled.
    async fn handle(&self, batch: Batch, core: &Core, feeding: Option<&Broadcasts>) {
        for event in batch.events {
            match event {
                Event::JobAssigned(job) | Event::JobUnassigned(job) | Event::JobEnded(job) => {
                    let job = self.as_it_is_now(job).await;
                    self.assigned(&job);
                    if let Some(broadcasts) = feeding {
                        self.oversee(&job);
                        let id = JobId(job.id.0);
                        self.revoke(id, holder_of(&job), core, broadcasts).await;
                    }
                }
                Event::JobAcknowledged(job) => {
                    if feeding.is_some() {
                        self.oversee(&job);
                    }
                }
                Event::JobCreated(_) | Event::Registered(_) | Event::Unregistered(_) => {}
                Event::RolledBack(to) => {
                    warn!(place = to.0, "the ledger took entries back");
                    self.rolled_back(core, feeding).await;
                }
            }
        }
        if let Err(error) = self.parts.store.put_cursor(&batch.cursor.0) {
            error!(%error, "the place in the ledger cannot be kept");
        }
    }

    /// A job after all that is settled: whoever follows a ledger from its beginning is
    /// told of much that is long over.
    async fn as_it_is_now(&self, told: Job) -> Job {
        match self.parts.ledger.job(told.id).await {
            Ok(Some(job)) => job,
            Ok(None) => Job {
                state: JobState::Ended,
                ..told
            },
            Err(error) => {
                debug!(job = %told.id, %error, "acting on what was told of the job");
                told
            }
        }
    }

    /// Takes a job up, or ends it: it went to somebody else, or is over.
    fn assigned(&self, job: &Job) {
        match &self.parts.transcoder {
            Some((key, transcoding)) if self.is_held(job, key.address()) => {
                self.begin(job, transcoding);
            }
            Some((_, transcoding)) => {
                transcoding.end(JobId(job.id.0));
                self.drop_job(job.id.0);
            }
            None => {}
        }
    }

    /// Brings what goes on in line with a ledger that took entries back: nothing is
    /// transcoded or fed for a job that is not.
    async fn rolled_back(&self, core: &Core, feeding: Option<&Broadcasts>) {
        let left = match self.parts.ledger.jobs(JobFilter::default()).await {
            Ok(jobs) => jobs,
            Err(error) => return error!(%error, "the ledger cannot say which jobs are left"),
        };
        let find = |id: JobId| left.iter().find(|job| job.id.0 == id.0);
        if let Some((key, transcoding)) = &self.parts.transcoder {
            for held in transcoding.list() {
                if !find(held.job).is_some_and(|job| self.is_held(job, key.address())) {
                    info!(job = %held.job, "the job is not ours any more");
                    transcoding.end(held.job);
                    self.drop_job(held.job.0);
                }
            }
        }
        if let Some(broadcasts) = feeding {
            let mut fed: BTreeSet<JobId> = self.granted().keys().map(|(_, job)| *job).collect();
            fed.append(&mut self.owed());
            for id in fed {
                let holder = find(id).and_then(holder_of);
                self.revoke(id, holder, core, broadcasts).await;
            }
            lock(&self.oversight).clear();
            left.iter().for_each(|job| self.oversee(job));
        }
    }
}
