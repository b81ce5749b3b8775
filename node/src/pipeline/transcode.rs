//! Jobs that this transcoder holds: each a source that is subscribed to, a ladder, and
//! renditions that are published as streams of this node.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use headwater_media::{
    AudioTrack, Init, Packaged, PackagerConfig, Tracks, VideoTrack,
    hls::{Timeline, TimelineConfig},
    transcode::{Ladder, Output, RungPlan, Transcoder, TranscoderInput},
};
use headwater_proto::{
    JobId, ManifestId, Rendition, RenditionName, Signed, SigningKey, StreamId, TranscodeResult,
};
use headwater_protocol::{Command, Delivery};
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{
    Library, join,
    origin::{Complete, Origin, OriginError, PlaylistTimes},
    part_of,
};
use crate::{
    clock,
    driver::{Core, MasterState, Subscription},
    mutex::lock,
    receipts::{Books, Done, Segments},
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

struct Held {
    stream: StreamId,
    stop: CancellationToken,
    renditions: Vec<String>,
    input: Option<TranscoderInput>,
    /// It was stopped and given back before it had ended.
    again: bool,
}

impl Held {
    fn new(stream: &StreamId, stop: &CancellationToken) -> Self {
        Self {
            stream: stream.clone(),
            stop: stop.clone(),
            renditions: Vec::new(),
            input: None,
            again: false,
        }
    }
}

/// The jobs of a transcoder.
pub struct Transcoding {
    config: TranscodingConfig,
    key: SigningKey,
    core: Core,
    library: Arc<Library>,
    tasks: TaskTracker,
    stop: CancellationToken,
    held: Mutex<BTreeMap<JobId, Held>>,
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
    #[must_use]
    pub fn new(
        config: TranscodingConfig,
        key: SigningKey,
        core: Core,
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
            tasks,
            stop,
            held: Mutex::default(),
            books,
            over: Notify::new(),
        })
    }

    /// The jobs in progress.
    #[must_use]
    pub fn list(&self) -> Vec<HeldStatus> {
        let held = lock(&self.held);
        held.iter()
            .map(|(job, held)| HeldStatus {
                job: *job,
                stream: held.stream.clone(),
                renditions: held.renditions.clone(),
                lag_ms: held
                    .input
                    .as_ref()
                    .map_or(0, |input| input.stats().lag_ms()),
            })
            .collect()
    }

    /// The job's stream, when it is held.
    #[must_use]
    pub fn stream_of(&self, job: JobId) -> Option<StreamId> {
        lock(&self.held).get(&job).map(|held| held.stream.clone())
    }

    /// Waits until a job is over. For one waiter; a job that was over before counts.
    pub async fn job_over(&self) {
        self.over.notified().await;
    }

    /// Starts a job, unless it is in progress.
    pub fn start(self: &Arc<Self>, job: JobId, stream: StreamId) {
        let stop = self.stop.child_token();
        {
            let mut held = lock(&self.held);
            if let Some(held) = held.get_mut(&job) {
                held.again = held.stop.is_cancelled();
                return;
            }
            held.insert(job, Held::new(&stream, &stop));
        }
        let this = self.clone();
        self.tasks.spawn(async move {
            let mut turn = Some(stop);
            while let Some(stop) = turn {
                info!(%job, %stream, "job starts");
                let result = this.run(job, &stream, stop).await;
                if let (Err(error), false) = (result, this.stop.is_cancelled()) {
                    error!(%job, %error, "job failed");
                }
                // The core may have stopped before the job.
                drop(this.core.command(Command::StopJob { job }).await);
                info!(%job, "job is over");
                turn = this.next_turn(job);
            }
            this.over.notify_one();
        });
    }

    /// Forgets a job that has stopped, unless it was given back to this node meanwhile.
    fn next_turn(&self, job: JobId) -> Option<CancellationToken> {
        let mut held = lock(&self.held);
        let entry = held.get_mut(&job)?;
        if !entry.again || self.stop.is_cancelled() {
            held.remove(&job);
            return None;
        }
        let stop = self.stop.child_token();
        *entry = Held::new(&entry.stream, &stop);
        Some(stop)
    }

    /// Stops a job that is over or has gone to another.
    pub fn end(&self, job: JobId) {
        if let Some(held) = lock(&self.held).get_mut(&job) {
            held.again = false;
            held.stop.cancel();
        }
    }

    async fn run(
        &self,
        job: JobId,
        source: &StreamId,
        stop: CancellationToken,
    ) -> Result<(), JobError> {
        let subscription = self.core.listen(source.clone()).await?;
        let start = Command::StartJob {
            job,
            stream: source.clone(),
            from: None,
        };
        self.core.command(start).await?;
        let (input, output) = Transcoder::start(self.config.ladder.clone(), self.config.packager)?;
        if let Some(held) = lock(&self.held).get_mut(&job) {
            held.input = Some(input.clone());
        }
        let manifest = ManifestId {
            node: source.node,
            broadcast: source.broadcast,
        };
        let master = self.core.follow(manifest).await?;
        let segments = Mutex::default();
        let publish = self.publish(job, source, output, &segments);
        let feed = feed(source, subscription, master, input, &segments);
        tokio::pin!(publish);
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            result = &mut publish => result,
            // The source is over: what is still being made is published.
            () = feed => {
                if let Some(held) = lock(&self.held).get_mut(&job) {
                    held.input = None;
                }
                publish.await
            }
        }
    }

    /// Publishes what the ladder makes, and tells the broadcaster of it.
    async fn publish(
        &self,
        job: JobId,
        source: &StreamId,
        mut output: mpsc::Receiver<Output>,
        segments: &Mutex<Segments>,
    ) -> Result<(), JobError> {
        let mut session = Session {
            job,
            source: source.clone(),
            rungs: Vec::new(),
            idle: BTreeMap::new(),
            told: Vec::new(),
            sequence: 0,
        };
        while let Some(output) = output.recv().await {
            match output {
                Output::Plan(plan) => {
                    session.plan(self, plan).await?;
                    let names = session.rungs.iter().map(|rung| rung.name.clone());
                    if let Some(held) = lock(&self.held).get_mut(&job) {
                        held.renditions = names.collect();
                    }
                }
                Output::Item { rung, item } => {
                    let last = matches!(&item, Packaged::Part(part) if part.last);
                    if let Some(done) = session.item(rung, item, segments).await? {
                        self.done(job, done);
                    }
                    if last {
                        session.tell(self).await?;
                    }
                }
                Output::Failed(error) => {
                    warn!(%job, %error, "the source cannot be transcoded");
                }
            }
        }
        session.finish().await
    }

    /// A segment is there in all renditions.
    fn done(&self, job: JobId, done: Done) {
        let Some(work) = self.books.work() else {
            return;
        };
        let segment = done.number;
        if let Err(error) = work.done(headwater_chain::JobId(job.0), done) {
            error!(%job, segment, %error, "nobody will pay for the segment");
        }
    }
}

/// Why a job ended.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Core(#[from] crate::driver::CoreError),
    #[error(transparent)]
    Stopped(#[from] crate::driver::Stopped),
    #[error("no thread for the transcoder: {0}")]
    Thread(#[from] std::io::Error),
    #[error("{0}")]
    Name(#[from] headwater_proto::IdError),
}

/// One rendition that is being made.
struct Rung {
    name: String,
    bit_rate: u32,
    origin: Origin,
    /// Number of the next segment, to notice holes.
    next: Option<u64>,
    /// Discontinuities of our own, added to the source's: one for each hole.
    breaks: u32,
}

struct Session {
    job: JobId,
    source: StreamId,
    rungs: Vec<Rung>,
    /// Renditions of an earlier plan, which may come again.
    idle: BTreeMap<String, Rung>,
    told: Vec<Rendition>,
    sequence: u64,
}

impl Session {
    async fn plan(&mut self, jobs: &Transcoding, plan: Vec<RungPlan>) -> Result<(), JobError> {
        for rung in self.rungs.drain(..) {
            self.idle.insert(rung.name.clone(), rung);
        }
        for planned in plan {
            if let Some(rung) = self.idle.remove(&planned.name) {
                self.rungs.push(rung);
                continue;
            }
            let rendition: RenditionName = planned.name.parse()?;
            let stream = StreamId {
                node: jobs.key.node_id(),
                broadcast: self.source.broadcast,
                rendition,
            };
            let config = TimelineConfig {
                target_duration: jobs.config.packager.target_duration(),
                ..TimelineConfig::default()
            };
            let timeline = Arc::new(Mutex::new(Timeline::new(config)));
            jobs.library.host(&stream, timeline.clone());
            let origin =
                Origin::open(stream, jobs.key.clone(), jobs.core.clone(), timeline).await?;
            self.rungs.push(Rung {
                name: planned.name,
                bit_rate: u32::try_from(planned.bit_rate).unwrap_or(u32::MAX),
                origin,
                next: None,
                breaks: 0,
            });
        }
        Ok(())
    }

    /// Publishes an item; when it completes a segment in all renditions, that is returned.
    async fn item(
        &mut self,
        rung: usize,
        mut item: Packaged,
        segments: &Mutex<Segments>,
    ) -> Result<Option<Done>, JobError> {
        let count = self.rungs.len();
        let Some(rung) = self.rungs.get_mut(rung) else {
            return Ok(None);
        };
        if let Packaged::Part(part) = &mut item {
            // A hole in the source is a discontinuity of the rendition.
            if part.index == 0 && rung.next.is_some_and(|next| part.segment > next) {
                rung.breaks += 1;
            }
            part.discontinuity += rung.breaks;
            rung.next = Some(part.segment + u64::from(part.last));
        }
        let Some(Complete { segment, hash }) = rung.origin.push(item).await? else {
            return Ok(None);
        };
        let name = &rung.origin.stream().rendition;
        let whole = lock(segments).rendition(segment, name, hash, count);
        Ok(whole.map(|(source, renditions)| Done {
            number: segment,
            source,
            renditions,
        }))
    }

    /// Tells the broadcaster of renditions that have become playable or have changed.
    async fn tell(&mut self, jobs: &Transcoding) -> Result<(), JobError> {
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let times = PlaylistTimes {
            target_duration_ms: ms(jobs.config.packager.target_duration()),
            part_target_ms: ms(jobs.config.packager.part),
        };
        let rungs = self.rungs.iter();
        let renditions: Vec<_> = rungs
            .filter_map(|rung| rung.origin.rendition(times, rung.bit_rate))
            .collect();
        let names = |of: &[Rendition]| of.iter().map(|r| r.stream.clone()).collect::<Vec<_>>();
        if renditions.len() < self.rungs.len() || names(&renditions) == names(&self.told) {
            return Ok(());
        }
        self.sequence = clock::unix_ms().max(self.sequence + 1);
        self.told.clone_from(&renditions);
        let result = TranscodeResult {
            stream: self.source.clone(),
            job: self.job,
            transcoder: jobs.key.node_id(),
            sequence: self.sequence,
            renditions,
        };
        let body = Signed::sign(result, &jobs.key);
        jobs.core.command(Command::Respond { body }).await?;
        Ok(())
    }

    async fn finish(self) -> Result<(), JobError> {
        for rung in self.rungs.into_iter().chain(self.idle.into_values()) {
            rung.origin.finish().await?;
        }
        Ok(())
    }
}

/// Puts what is delivered of the source into the transcoder until the source ends.
async fn feed(
    source: &StreamId,
    mut subscription: Subscription,
    mut master: tokio::sync::watch::Receiver<MasterState>,
    input: TranscoderInput,
    segments: &Mutex<Segments>,
) {
    let mut first = true;
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
                lock(segments).source(position, media.last, &chunks);
                part_of(position, media, join(chunks))
            }
            Delivery::Gap { from, to } => {
                warn!(stream = %source, ?from, ?to, "the source has a hole");
                continue;
            }
            Delivery::Waiting(_) => continue,
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
