//! Creates the jobs of this node's broadcasts, and ends those that are left over. On a chain
//! that takes its time, for which nothing else waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use headwater_chain::{Broadcaster, JobFilter, JobId, NewJob, NodeKey};
use headwater_proto::StreamId;
use headwater_protocol::Time;
use tracing::{debug, error, info};

use super::Jobs;
use crate::{clock, mutex::lock, pipeline::Broadcasts};

/// How often within [`super::JobsConfig::patience`] broadcasts without a job, and jobs without
/// a broadcast, are looked for.
const LOOKS: u32 = 3;
/// Jobs that are created or ended at a time.
const AT_ONCE: usize = 16;

/// Since when something is amiss.
#[derive(Default)]
struct Amiss {
    /// Broadcasts without a job.
    without: BTreeMap<String, Time>,
    /// Jobs without a broadcast.
    left: BTreeMap<JobId, Time>,
}

impl Jobs {
    /// Creates the job of a broadcast that began.
    pub async fn broadcast_began(&self, stream: &StreamId) {
        let job = NewJob {
            stream: stream.to_string(),
            broadcaster: NodeKey(*self.parts.node.node_id().public_key()),
            profiles: self.config.profiles.clone(),
            max_price_per_segment: self.config.max_price,
        };
        match self.parts.ledger.create_job(job).await {
            Ok(job) => match job.transcoder {
                Some(transcoder) => {
                    info!(job = %job.id, transcoder = %transcoder.address, "job assigned");
                }
                None => info!(job = %job.id, "job waits for a transcoder to register"),
            },
            Err(error) => error!(%stream, %error, "no job was created"),
        }
    }

    /// Ends the job of a broadcast that ended.
    pub async fn broadcast_ended(&self, stream: &StreamId) {
        let filter = JobFilter {
            stream: Some(stream.to_string()),
            ..self.own_jobs()
        };
        let jobs = match self.parts.ledger.jobs(filter).await {
            Ok(jobs) => jobs,
            Err(error) => return error!(%stream, %error, "the job was not ended"),
        };
        for job in jobs {
            self.end(job.id).await;
        }
    }

    async fn end(&self, job: JobId) {
        if let Err(error) = self.parts.ledger.end_job(job).await {
            error!(%job, %error, "the job was not ended");
        }
    }

    /// Which jobs are this node's: on a chain anybody can create one for any stream.
    pub(super) fn own_jobs(&self) -> JobFilter {
        let node = NodeKey(*self.parts.node.node_id().public_key());
        let account = self.parts.account.map(Broadcaster::Account);
        JobFilter {
            broadcaster: Some(account.unwrap_or(Broadcaster::Node(node))),
            ..JobFilter::default()
        }
    }

    /// Sees to it that every broadcast has its job, and no other has one, until the node
    /// stops.
    pub async fn keep_jobs(self: Arc<Self>, broadcasts: Arc<Broadcasts>) {
        if !self.config.create {
            return;
        }
        let stop = self.parts.stop.clone();
        let mut amiss = Amiss::default();
        // Those that began before the ledger was open have waited.
        let mut patience = Duration::ZERO;
        loop {
            let look = self.look_for_jobs(&broadcasts, &mut amiss, patience);
            tokio::select! {
                () = stop.cancelled() => return,
                read = look => if read { patience = self.config.patience },
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.config.patience / LOOKS) => {}
            }
        }
    }

    /// Looks once; whether the ledger could be asked.
    async fn look_for_jobs(
        self: &Arc<Self>,
        broadcasts: &Broadcasts,
        amiss: &mut Amiss,
        patience: Duration,
    ) -> bool {
        let (mut known, mut live) = (BTreeSet::new(), BTreeSet::new());
        for broadcast in broadcasts.list() {
            let stream = broadcast.manifest.source().to_string();
            if broadcast.connected {
                live.insert(stream.clone());
            }
            known.insert(stream);
        }
        self.create_missing(&live, &mut amiss.without, patience)
            .await
            && self.end_left_over(&known, &mut amiss.left).await
    }

    /// Creates the jobs of broadcasts that never had one; `without` says since when. A job
    /// that somebody ended stays ended.
    async fn create_missing(
        self: &Arc<Self>,
        live: &BTreeSet<String>,
        without: &mut BTreeMap<String, Time>,
        patience: Duration,
    ) -> bool {
        without.retain(|stream, _| live.contains(stream));
        let now = clock::now();
        for stream in live {
            let of_stream = JobFilter {
                stream: Some(stream.clone()),
                ended: true,
                ..self.own_jobs()
            };
            match self.parts.ledger.jobs(of_stream).await {
                Ok(jobs) if jobs.is_empty() => {}
                Ok(_) => {
                    without.remove(stream);
                    continue;
                }
                Err(error) => {
                    debug!(%error, "nobody knows which broadcasts have a job");
                    return false;
                }
            }
            let since = without.entry(stream.clone()).or_insert(now);
            if now.since(*since) < patience {
                continue;
            }
            let Ok(source) = stream.parse::<StreamId>() else {
                continue;
            };
            let this = self.clone();
            let create = async move { this.broadcast_began(&source).await };
            if self.change(stream, create) {
                *since = now;
                info!(stream, "the broadcast has no job; creating one");
            }
        }
        true
    }

    /// Ends the jobs of broadcasts that this node does not know any more: they ended while
    /// the ledger could not be asked, or before the node was killed. `left` says since when.
    async fn end_left_over(
        self: &Arc<Self>,
        known: &BTreeSet<String>,
        left: &mut BTreeMap<JobId, Time>,
    ) -> bool {
        let jobs = match self.parts.ledger.jobs(self.own_jobs()).await {
            Ok(jobs) => jobs,
            Err(error) => {
                debug!(%error, "nobody knows which jobs are left over");
                return false;
            }
        };
        let own = self.parts.node.node_id();
        let over = jobs.into_iter().filter(|job| {
            let stream = job.stream.parse::<StreamId>();
            !known.contains(&job.stream) && stream.is_ok_and(|stream| stream.node == own)
        });
        let over: BTreeMap<_, _> = over.map(|job| (job.id, job.stream)).collect();
        left.retain(|job, _| over.contains_key(job));
        let now = clock::now();
        for (job, stream) in over {
            let since = left.entry(job).or_insert(now);
            // An encoder may still come back to where it was.
            if now.since(*since) < self.config.reconnect + self.config.patience {
                continue;
            }
            let this = self.clone();
            if self.change(&stream, async move { this.end(job).await }) {
                *since = now;
                info!(%job, "the job's broadcast is over; ending it");
            }
        }
        true
    }

    /// Changes the job of a stream in a task of its own; false while that is being done, or
    /// as much else as may be.
    fn change(&self, stream: &str, change: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut changing = lock(&self.changing);
        if changing.len() >= AT_ONCE || !changing.insert(stream.to_owned()) {
            return false;
        }
        let (stream, changing) = (stream.to_owned(), self.changing.clone());
        let stop = self.parts.stop.clone();
        self.parts.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = change => {}
            }
            lock(&changing).remove(&stream);
        });
        true
    }
}
