//! Asks the transcoders of this node's jobs whether they are there, and replaces those
//! that are not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use headwater_chain::{Broadcaster, Job, JobFilter, LedgerError, NodeKey};
use headwater_proto::{JobId, NodeId, StreamId};
use headwater_protocol::{Command, Reply, Time};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{Jobs, holder_of};
use crate::{clock, driver::Core, mutex::lock, pipeline::Broadcasts};

/// A broadcast that is without a job for so long gets one: the first try failed, or the
/// chain took it back. A job without its broadcast is ended after so long, too.
const WITHOUT: Duration = Duration::from_secs(15);
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
    pub async fn watch_over(
        self: Arc<Self>,
        core: Core,
        broadcasts: Arc<Broadcasts>,
        stop: CancellationToken,
    ) {
        let mut tick = tokio::time::interval(LOOK);
        let (mut without, mut left) = (BTreeMap::new(), BTreeMap::new());
        if self.config.create {
            // Those that began before the ledger was open.
            for broadcast in broadcasts.list().iter().filter(|each| each.connected) {
                self.broadcast_began(&broadcast.manifest.source()).await;
            }
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let (mut known, mut live) = (BTreeSet::new(), BTreeSet::new());
            for broadcast in broadcasts.list() {
                let stream = broadcast.manifest.source().to_string();
                if broadcast.connected {
                    live.insert(stream.clone());
                }
                known.insert(stream);
            }
            let goes_on = |stream: &str| live.contains(stream);
            let due = lock(&self.oversight).due(clock::now(), goes_on);
            let asked = join_all(due.iter().map(|job| self.look_after(job, &core)));
            let created = self.create_missing(&live, &mut without);
            let ended = self.end_left_over(&known, &mut left);
            tokio::select! {
                () = stop.cancelled() => return,
                _ = async { tokio::join!(asked, created, ended) } => {}
            }
        }
    }

    /// Creates the jobs of broadcasts that never had one; `without` says since when. A job
    /// that somebody ended stays ended.
    async fn create_missing(&self, live: &BTreeSet<String>, without: &mut BTreeMap<String, Time>) {
        without.retain(|stream, _| live.contains(stream));
        if !self.config.create {
            return;
        }
        let now = clock::now();
        for stream in live {
            let of_stream = JobFilter {
                stream: Some(stream.clone()),
                ended: true,
                ..JobFilter::default()
            };
            let jobs = match self.ledger.jobs(of_stream).await {
                Ok(jobs) => jobs,
                Err(error) => return debug!(%error, "nobody knows which broadcasts have a job"),
            };
            if jobs.iter().any(|job| self.is_own(job)) {
                without.remove(stream);
                continue;
            }
            let since = without.entry(stream.clone()).or_insert(now);
            if now.since(*since) < WITHOUT {
                continue;
            }
            *since = now;
            if let Ok(stream) = stream.parse() {
                info!(%stream, "the broadcast has no job; creating one");
                self.broadcast_began(&stream).await;
            }
        }
    }

    /// Ends the jobs of broadcasts that this node does not know any more: they ended while
    /// the ledger could not be asked, or before the node was killed. `left` says since when.
    async fn end_left_over(
        &self,
        known: &BTreeSet<String>,
        left: &mut BTreeMap<headwater_chain::JobId, Time>,
    ) {
        if !self.config.create {
            return;
        }
        let jobs = match self.ledger.jobs(JobFilter::default()).await {
            Ok(jobs) => jobs,
            Err(error) => return debug!(%error, "nobody knows which jobs are left over"),
        };
        let own = self.node.node_id();
        let over = jobs.into_iter().filter(|job| {
            let stream = job.stream.parse::<StreamId>();
            !known.contains(&job.stream)
                && self.is_own(job)
                && stream.is_ok_and(|stream| stream.node == own)
        });
        let over: Vec<_> = over.map(|job| job.id).collect();
        left.retain(|job, _| over.contains(job));
        let now = clock::now();
        for job in over {
            let since = left.entry(job).or_insert(now);
            // An encoder may still come back to where it was.
            if now.since(*since) < self.config.reconnect + WITHOUT {
                continue;
            }
            *since = now;
            info!(%job, "the job's broadcast is over; ending it");
            if let Err(error) = self.ledger.end_job(job).await {
                error!(%job, %error, "the job was not ended");
            }
        }
    }

    /// Takes in what the ledger says of a job, if it is one of this node.
    pub(super) fn oversee(&self, job: &Job) {
        if self.is_own(job) {
            lock(&self.oversight).told(job, clock::now());
        }
    }

    /// Whether a job is this node's: on a chain anybody can create one for any stream.
    pub(super) fn is_own(&self, job: &Job) -> bool {
        match job.broadcaster {
            Broadcaster::Node(node) => node.0 == *self.node.node_id().public_key(),
            Broadcaster::Account(account) => Some(account) == self.config.account,
        }
    }

    /// Takes in all jobs that there are.
    pub(super) async fn oversee_all(&self) -> Result<(), LedgerError> {
        let jobs = self.ledger.jobs(JobFilter::default()).await?;
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
        match self.ledger.reassign(job.id).await {
            Ok(_) => info!(job = %job.id, "the transcoder is gone; another is elected"),
            Err(error) => error!(job = %job.id, %error, "the transcoder is not replaced"),
        }
    }

    /// Whether anybody but the holder could be elected.
    async fn has_another(&self, job: &Job) -> Result<bool, LedgerError> {
        let holder = job.transcoder.as_ref().map(|holder| holder.address);
        let registered = self.ledger.transcoders().await?;
        Ok(registered.iter().any(|other| {
            Some(other.address) != holder
                && !job.excluded.contains(&other.address)
                && other.stake.0 > 0
                && other.price_per_segment <= job.max_price_per_segment
        }))
    }
}
