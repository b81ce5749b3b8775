//! Jobs that this transcoder holds: each a source that is subscribed to, a ladder, and
//! renditions that are published as streams of this node.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use headwater_media::{
    AudioTrack, Init, Packaged, PackagerConfig, Tracks, VideoTrack,
    transcode::{Ladder, Transcoder, TranscoderInput},
};
use headwater_proto::{JobId, ManifestId, SigningKey, StreamId};
use headwater_protocol::{Command, Delivery};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{
    Library, join,
    origin::OriginError,
    part_of,
    renditions::{Left, Session},
};
use crate::{
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
    pub(super) config: TranscodingConfig,
    pub(super) key: SigningKey,
    pub(super) core: Core,
    pub(super) library: Arc<Library>,
    /// Where renditions stood whose job is not this node's any more.
    pub(super) left: Mutex<Left>,
    tasks: TaskTracker,
    stop: CancellationToken,
    held: Mutex<BTreeMap<JobId, Held>>,
    books: Books,
    over: Notify,
    /// Told when a job has let go of its streams.
    released: Notify,
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
            left: Mutex::default(),
            tasks,
            stop,
            held: Mutex::default(),
            books,
            over: Notify::new(),
            released: Notify::new(),
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
                this.released.notify_waiters();
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

    /// Waits until no other job that is being stopped makes renditions of the same source.
    async fn alone(&self, job: JobId, source: &StreamId) {
        loop {
            let released = self.released.notified();
            let leaves = |(id, held): (&JobId, &Held)| {
                *id != job && held.stream == *source && held.stop.is_cancelled()
            };
            if !lock(&self.held).iter().any(leaves) {
                return;
            }
            released.await;
        }
    }

    async fn run(
        &self,
        job: JobId,
        source: &StreamId,
        stop: CancellationToken,
    ) -> Result<(), JobError> {
        tokio::select! {
            () = self.alone(job, source) => {}
            () = stop.cancelled() => return Ok(()),
        }
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
        let mut session = Session::new(job, source);
        let made = {
            let publish = session.publish(self, output, &segments);
            let feed = feed(source, subscription, master, input, &segments);
            tokio::pin!(publish);
            tokio::select! {
                () = stop.cancelled() => None,
                result = &mut publish => Some(result),
                // The source is over: what is still being made is published.
                () = feed => {
                    if let Some(held) = lock(&self.held).get_mut(&job) {
                        held.input = None;
                    }
                    Some(publish.await)
                }
            }
        };
        match made {
            Some(Ok(())) => session.finish().await,
            Some(Err(error)) => {
                session.withdraw(self).await;
                Err(error)
            }
            None => {
                session.withdraw(self).await;
                Ok(())
            }
        }
    }

    /// The renditions of a job that are being made.
    pub(super) fn set_renditions(&self, job: JobId, names: Vec<String>) {
        if let Some(held) = lock(&self.held).get_mut(&job) {
            held.renditions = names;
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

/// Why a job ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
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
