//! Asks the transcoders of this node's jobs whether they are there, and replaces those
//! that are not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use headwater_chain::{Job, LedgerError, NodeKey};
use headwater_proto::{JobId, NodeId, StreamId};
use headwater_protocol::{Command, Reply};
use tracing::{error, info, warn};

use super::{Jobs, holder_of};
use crate::{clock, driver::Core, mutex::lock, pipeline::Broadcasts};

/// How often silence is looked for.
const LOOK: Duration = Duration::from_secs(1);

impl Jobs {
    /// A transcoder shows that it works on a job of this node.
    pub fn worked(&self, transcoder: NodeId, job: JobId) {
        let node = NodeKey(*transcoder.public_key());
        let job = headwater_chain::JobId(job.0);
        lock(&self.oversight).worked(job, node, clock::now());
    }

    /// Watches over the transcoders of this node's broadcasts until the node stops.
    pub async fn watch_over(self: Arc<Self>, core: Core, broadcasts: Arc<Broadcasts>) {
        let stop = self.parts.stop.clone();
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let live = broadcasts.list().into_iter().filter(|each| each.connected);
            let live: BTreeSet<_> = live
                .map(|broadcast| broadcast.manifest.source().to_string())
                .collect();
            let goes_on = |stream: &str| live.contains(stream);
            let due = lock(&self.oversight).due(clock::now(), goes_on);
            for job in due {
                let (this, core, stop) = (self.clone(), core.clone(), stop.clone());
                // Another may be lost while this one is replaced.
                self.parts.tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = this.look_after(&job, &core) => {}
                    }
                });
            }
        }
    }

    /// Takes in what the ledger says of a job, if it is one of this node.
    pub(super) fn oversee(&self, job: &Job) {
        if self.is_own(job) {
            lock(&self.oversight).told(job, clock::now());
        }
    }

    /// Whether a job is this node's.
    pub(super) fn is_own(&self, job: &Job) -> bool {
        self.own_jobs().broadcaster == Some(job.broadcaster)
    }

    /// Takes in all jobs of this node.
    pub(super) async fn oversee_all(&self) -> Result<(), LedgerError> {
        let jobs = self.parts.ledger.jobs(self.own_jobs()).await?;
        jobs.iter().for_each(|job| self.oversee(job));
        Ok(())
    }

    async fn look_after(&self, job: &Job, core: &Core) {
        let (Some(holder), Ok(stream)) = (holder_of(job), job.stream.parse::<StreamId>()) else {
            return;
        };
        let transcoder = NodeId::from_public_key(holder.0);
        info!(job = %job.id, transcoder = transcoder.fmt_short(), "no sign of the transcoder; asking it");
        let probe = Command::Probe {
            transcoder,
            stream,
            renditions: job
                .profiles
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect(),
        };
        let there = matches!(
            core.command(probe).await,
            Ok(Reply::Probe {
                available: true,
                ..
            })
        );
        let replace = lock(&self.oversight).answered(job.id, holder, there, clock::now());
        if replace {
            self.replace(job).await;
            lock(&self.oversight).looked_after(job.id, holder, clock::now());
        }
    }

    /// Has another transcoder elected, if there is one.
    async fn replace(&self, job: &Job) {
        match self.has_another(job).await {
            Ok(true) => {}
            Ok(false) => {
                return warn!(job = %job.id, "the transcoder is gone, and there is no other");
            }
            Err(error) => {
                return error!(job = %job.id, %error, "the transcoder is not replaced");
            }
        }
        match self.parts.ledger.reassign(job.id).await {
            Ok(_) => info!(job = %job.id, "the transcoder is gone; another is elected"),
            Err(error) => error!(job = %job.id, %error, "the transcoder is not replaced"),
        }
    }

    /// Whether anybody but the holder could be elected.
    async fn has_another(&self, job: &Job) -> Result<bool, LedgerError> {
        let holder = job.transcoder.as_ref().map(|holder| holder.address);
        let registered = self.parts.ledger.transcoders().await?;
        Ok(registered.iter().any(|other| {
            Some(other.address) != holder
                && !job.excluded.contains(&other.address)
                && other.stake.0 > 0
                && other.price_per_segment <= job.max_price_per_segment
        }))
    }
}
