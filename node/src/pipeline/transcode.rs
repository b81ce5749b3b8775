//! Jobs that this transcoder holds. A source is subscribed to and transcoded once, however
//! many jobs there are for it; its renditions are published as streams of this node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use headwater_media::{
    AudioTrack, Init, Packaged, PackagerConfig, Tracks, VideoTrack,
    transcode::{Ladder, Transcoder, TranscoderInput},
};
use headwater_proto::{JobId, ManifestId, SigningKey, StreamId};
use headwater_protocol::{Command, Delivery};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{Library, join, origin::OriginError, part_of, renditions::Session, served::Served};
use crate::{
    driver::{Core, CoreError, MasterState, Stopped, Subscription},
    mutex::lock,
    receipts::{Books, Done},
    store::{Store, StoreError},
};

/// How jobs are done.
#[derive(Debug, Clone)]
pub struct TranscodingConfig {
    /// The renditions this node makes.
    pub ladder: Ladder,
    /// Lengths of parts.
    pub packager: PackagerConfig,
}

/// A job in progress, for status pages.
#[derive(Debug, Clone)]
pub struct HeldStatus {
    /// The job.
    pub job: JobId,
    /// Its source.
    pub stream: StreamId,
    /// Renditions that are being made.
    pub renditions: Vec<String>,
    /// Media time between what came in and what went out, in milliseconds.
    pub lag_ms: u64,
}

/// A source that is being transcoded.
struct Pipeline {
    /// The jobs that are held for it.
    jobs: watch::Sender<BTreeSet<JobId>>,
    renditions: Vec<String>,
    input: Option<TranscoderInput>,
}

/// The jobs of a transcoder.
pub struct Transcoding {
    pub(super) config: TranscodingConfig,
    pub(super) key: SigningKey,
    pub(super) core: Core,
    pub(super) library: Arc<Library>,
    store: Arc<Store>,
    tasks: TaskTracker,
    stop: CancellationToken,
    pipelines: Mutex<BTreeMap<StreamId, Pipeline>>,
    books: Books,
    over: Notify,
}

impl std::fmt::Debug for Transcoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transcoding")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Transcoding {
    /// No jobs yet. Segments that are to be paid for are written down in the books.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the node it lives in"
    )]
    #[must_use]
    pub fn new(
        config: TranscodingConfig,
        key: SigningKey,
        core: Core,
        store: Arc<Store>,
        library: Arc<Library>,
        tasks: TaskTracker,
        stop: CancellationToken,
        books: Books,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            key,
            core,
            library,
            store,
            tasks,
            stop,
            pipelines: Mutex::default(),
            books,
            over: Notify::new(),
        })
    }

    /// The jobs in progress.
    #[must_use]
    pub fn list(&self) -> Vec<HeldStatus> {
        let status = |stream: &StreamId, pipeline: &Pipeline, job| HeldStatus {
            job,
            stream: stream.clone(),
            renditions: pipeline.renditions.clone(),
            lag_ms: pipeline
                .input
                .as_ref()
                .map_or(0, |input| input.stats().lag_ms()),
        };
        let mut list = Vec::new();
        for (stream, pipeline) in lock(&self.pipelines).iter() {
            let jobs = pipeline.jobs.borrow();
            list.extend(jobs.iter().map(|job| status(stream, pipeline, *job)));
        }
        list.sort_by_key(|held| held.job);
        list
    }

    /// The job's stream, when it is held.
    #[must_use]
    pub fn stream_of(&self, job: JobId) -> Option<StreamId> {
        let pipelines = lock(&self.pipelines);
        let held = |pipeline: &Pipeline| pipeline.jobs.borrow().contains(&job);
        let mut of = pipelines.iter().filter(|(_, pipeline)| held(pipeline));
        of.next().map(|(stream, _)| stream.clone())
    }

    /// Waits until a job is over. For one waiter; a job that was over before counts.
    pub async fn job_over(&self) {
        self.over.notified().await;
    }

    /// Starts a job, unless it is in progress.
    pub fn start(self: &Arc<Self>, job: JobId, stream: StreamId) {
        let mut pipelines = lock(&self.pipelines);
        if let Some(pipeline) = pipelines.get(&stream) {
            pipeline.jobs.send_if_modified(|jobs| jobs.insert(job));
            return;
        }
        let (jobs, held) = watch::channel(BTreeSet::from([job]));
        let pipeline = Pipeline {
            jobs,
            renditions: Vec::new(),
            input: None,
        };
        pipelines.insert(stream.clone(), pipeline);
        let this = self.clone();
        self.tasks.spawn(async move {
            let mut held = held;
            loop {
                let turn = this.turn(&stream, &mut held).await;
                if !this.has_another_turn(&stream, &turn) {
                    return;
                }
            }
        });
    }

    /// Stops a job that is over or has gone to another.
    pub fn end(&self, job: JobId) {
        for pipeline in lock(&self.pipelines).values() {
            pipeline.jobs.send_if_modified(|jobs| jobs.remove(&job));
        }
    }

    /// Whether jobs came while the renditions were being withdrawn. If not, the source is
    /// forgotten.
    fn has_another_turn(&self, stream: &StreamId, turn: &Turn) -> bool {
        let mut pipelines = lock(&self.pipelines);
        let pipeline = pipelines.get_mut(stream);
        let waits = |pipeline: &&mut Pipeline| !pipeline.jobs.borrow().is_empty();
        match (turn, pipeline.filter(waits)) {
            (Turn::Unwanted, Some(pipeline)) if !self.stop.is_cancelled() => {
                pipeline.renditions.clear();
                pipeline.input = None;
                true
            }
            (Turn::Unwanted | Turn::Over, _) => {
                pipelines.remove(stream);
                false
            }
        }
    }

    /// Transcodes a source until it is over or no job is held for it.
    async fn turn(&self, source: &StreamId, held: &mut watch::Receiver<BTreeSet<JobId>>) -> Turn {
        let served = Mutex::default();
        let turn = match self.run(source, held, &served).await {
            Ok(turn) => turn,
            Err(error) => {
                if !self.stop.is_cancelled() {
                    error!(stream = %source, %error, "the source is transcoded no more");
                }
                Turn::Over
            }
        };
        let jobs = lock(&served).jobs();
        for job in jobs {
            self.leave(job, &served).await;
        }
        turn
    }

    async fn run(
        &self,
        source: &StreamId,
        held: &mut watch::Receiver<BTreeSet<JobId>>,
        served: &Mutex<Served>,
    ) -> Result<Turn, JobError> {
        let subscription = self.core.listen(source.clone()).await?;
        let (input, output) = Transcoder::start(self.config.ladder.clone(), self.config.packager)?;
        self.set_input(source, Some(input.clone()));
        let manifest = ManifestId {
            node: source.node,
            broadcast: source.broadcast,
        };
        let master = self.core.follow(manifest).await?;
        let mut session = Session::new(self.store.clone(), source)?;
        let made = {
            let publish = session.publish(self, output, served);
            let feed = feed(source, subscription, master, input, served);
            tokio::pin!(publish);
            tokio::select! {
                result = self.attend(source, held, served) => result.map(|()| Turn::Unwanted),
                result = &mut publish => result.map(|()| Turn::Over),
                // The source is over: what is still being made is published.
                () = feed => {
                    self.set_input(source, None);
                    publish.await.map(|()| Turn::Over)
                }
            }
        };
        match made {
            Ok(Turn::Over) => session.finish().await?,
            Ok(Turn::Unwanted) | Err(_) => session.withdraw(self).await,
        }
        made
    }

    /// Starts and stops jobs as they come and go, until none is left.
    async fn attend(
        &self,
        source: &StreamId,
        held: &mut watch::Receiver<BTreeSet<JobId>>,
        served: &Mutex<Served>,
    ) -> Result<(), JobError> {
        loop {
            let wanted = held.borrow_and_update().clone();
            if wanted.is_empty() {
                return Ok(());
            }
            let known = lock(served).jobs();
            for job in known.difference(&wanted) {
                self.leave(*job, served).await;
            }
            for job in wanted.difference(&known) {
                self.join(*job, source, served).await?;
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                changed = held.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// Begins to serve a job.
    async fn join(
        &self,
        job: JobId,
        source: &StreamId,
        served: &Mutex<Served>,
    ) -> Result<(), Stopped> {
        info!(%job, stream = %source, "job starts");
        let stream = source.clone();
        let from = None;
        let start = Command::StartJob { job, stream, from };
        match self.core.command(start).await {
            Ok(_) => lock(served).join(job),
            Err(CoreError::Stopped(stopped)) => return Err(stopped),
            Err(CoreError::Refused(error)) => {
                error!(%job, %error, "job failed");
                self.end(job);
            }
        }
        Ok(())
    }

    /// Serves a job no more.
    async fn leave(&self, job: JobId, served: &Mutex<Served>) {
        lock(served).leave(job);
        // The core may have stopped before the job.
        drop(self.core.command(Command::StopJob { job }).await);
        info!(%job, "job is over");
        self.over.notify_one();
    }

    fn set_input(&self, source: &StreamId, input: Option<TranscoderInput>) {
        if let Some(pipeline) = lock(&self.pipelines).get_mut(source) {
            pipeline.input = input;
        }
    }

    /// The renditions of a source that are being made.
    pub(super) fn set_renditions(&self, source: &StreamId, names: Vec<String>) {
        if let Some(pipeline) = lock(&self.pipelines).get_mut(source) {
            pipeline.renditions = names;
        }
    }

    /// A segment is there in all renditions.
    pub(super) fn done(&self, job: JobId, done: Done) {
        let Some(work) = self.books.work() else {
            return;
        };
        let segment = done.number;
        if let Err(error) = work.done(headwater_chain::JobId(job.0), done) {
            error!(%job, segment, %error, "nobody will pay for the segment");
        }
    }
}

/// How a source came to be transcoded no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It has ended, or cannot be transcoded: so have its jobs.
    Over,
    /// No job is held for it.
    Unwanted,
}

/// Why a job ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Core(#[from] CoreError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no thread for the transcoder: {0}")]
    Thread(#[from] std::io::Error),
    #[error("{0}")]
    Name(#[from] headwater_proto::IdError),
}

/// Puts what is delivered of the source into the transcoder until the source ends.
async fn feed(
    source: &StreamId,
    mut subscription: Subscription,
    mut master: watch::Receiver<MasterState>,
    input: TranscoderInput,
    served: &Mutex<Served>,
) {
    let mut first = true;
    let mut missed = false;
    while let Some(delivery) = subscription.next().await {
        let item = match delivery {
            Delivery::Init { index, chunks } => {
                // Sizes and rates stand in the master playlist.
                let known = master
                    .wait_for(|state| tracks_of(state, source).is_some())
                    .await;
                let Some(tracks) = known.ok().and_then(|state| tracks_of(&state, source)) else {
                    return;
                };
                Packaged::Init(Init {
                    index,
                    tracks,
                    data: join(chunks),
                })
            }
            Delivery::Part {
                position,
                media,
                chunks,
            } => {
                if std::mem::take(&mut first) {
                    info!(stream = %source, segment = position.segment, "the source comes");
                }
                missed = false;
                lock(served).source(position, media.last, &chunks);
                part_of(position, media, join(chunks))
            }
            Delivery::Gap { from, to } => {
                warn!(stream = %source, ?from, ?to, "the source has a hole");
                continue;
            }
            Delivery::Waiting(reason) => {
                if !std::mem::replace(&mut missed, true) {
                    info!(stream = %source, %reason, "the source does not come; trying on");
                }
                continue;
            }
            Delivery::Finished => return,
        };
        if !input.push(item).await {
            return;
        }
    }
}

/// What a master playlist says of a stream's tracks.
fn tracks_of(state: &MasterState, stream: &StreamId) -> Option<Tracks> {
    let MasterState::Known(body) = state else {
        return None;
    };
    let rendition = body
        .value()
        .renditions
        .iter()
        .find(|r| r.stream == *stream)?;
    let mut codecs = rendition.codecs.split(',');
    let video = (rendition.width > 0).then(|| VideoTrack {
        codec: codecs.next().unwrap_or_default().to_owned(),
        width: rendition.width,
        height: rendition.height,
        frame_rate_milli: rendition.frame_rate_milli,
    });
    let audio = codecs.next().map(|codec| AudioTrack {
        codec: codec.to_owned(),
        sample_rate: 0,
        channels: 0,
    });
    Some(Tracks { video, audio })
}
