//! Follows the ledger: takes up what the node did when it last ran, then does what each
//! batch of events asks for.

use std::{collections::BTreeSet, sync::Arc};

use headwater_chain::{Batch, Event, JobFilter, LedgerError};
use headwater_proto::JobId;
use tracing::{error, info, warn};

use super::{AGAIN, Jobs, holder_of};
use crate::{driver::Core, mutex::lock, pipeline::Broadcasts};

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
        self.holding.take_up().await?;
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
        let mut watch = self.holding.watch();
        while let Some(batch) = watch.next().await {
            self.handle(batch?, core, feeding).await?;
            *said = None;
        }
        Ok(())
    }

    /// Handles a batch: the feeds first, for the jobs' place is kept with what is held.
    async fn handle(
        &self,
        batch: Batch,
        core: &Core,
        feeding: Option<&Broadcasts>,
    ) -> Result<(), LedgerError> {
        for event in &batch.events {
            if let Event::RolledBack(to) = event {
                warn!(place = to.0, "the ledger took entries back");
            }
            if let Some(broadcasts) = feeding {
                self.feed_as_told(event, core, broadcasts).await?;
            }
        }
        self.holding.handle(batch).await
    }

    /// Feeds who holds this node's jobs after an event, and oversees them.
    async fn feed_as_told(
        &self,
        event: &Event,
        core: &Core,
        broadcasts: &Broadcasts,
    ) -> Result<(), LedgerError> {
        match event {
            Event::JobAssigned(job) | Event::JobUnassigned(job) | Event::JobEnded(job) => {
                self.oversee(job);
                let id = JobId(job.id.0);
                self.revoke(id, holder_of(job), core, broadcasts).await;
            }
            Event::JobAcknowledged(job) => self.oversee(job),
            Event::RolledBack(_) => self.rolled_back(core, broadcasts).await?,
            Event::JobCreated(_) | Event::Registered(_) | Event::Unregistered(_) => {}
        }
        Ok(())
    }

    /// Brings what is fed in line with a ledger that took entries back: nothing is fed for a
    /// job that is not.
    async fn rolled_back(&self, core: &Core, broadcasts: &Broadcasts) -> Result<(), LedgerError> {
        let left = self.parts.ledger.jobs(JobFilter::default()).await?;
        let find = |id: JobId| left.iter().find(|job| job.id.0 == id.0);
        let mut fed: BTreeSet<JobId> = self.granted().keys().map(|(_, job)| *job).collect();
        fed.append(&mut self.owed());
        for id in fed {
            let holder = find(id).and_then(holder_of);
            self.revoke(id, holder, core, broadcasts).await;
        }
        lock(&self.oversight).clear();
        left.iter().for_each(|job| self.oversee(job));
        Ok(())
    }
}
