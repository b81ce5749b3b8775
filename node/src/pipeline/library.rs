//! The streams that players of this node watch: those it makes, and those it subscribes
//! to while somebody watches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use headwater_media::{
    Init, Packaged, Tracks,
    hls::{Timeline, TimelineConfig},
    playlist::{Variant, write_master},
};
use headwater_proto::{ManifestId, MasterPlaylist, Rendition, StreamId};
use headwater_protocol::Delivery;
use tokio::{
    sync::watch,
    time::{timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

use super::{join, lock, origin::SharedTimeline, part_of};
use crate::driver::{Core, MasterState, Subscription};

/// How a node keeps streams for its players.
#[derive(Debug, Clone, Copy)]
pub struct LibraryConfig {
    /// How long a player's request waits for a stream to become playable.
    pub wait: Duration,
    /// A stream that no player asked for is given up after this long.
    pub idle: Duration,
    /// Used for a stream whose master playlist is not known.
    pub target_duration: Duration,
    /// Streams that are watched at once.
    pub max_streams: usize,
}

impl Default for LibraryConfig {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(8),
            idle: Duration::from_secs(30),
            target_duration: Duration::from_secs(4),
            max_streams: 128,
        }
    }
}

/// Why a player gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// Nobody has it, as far as could be found out in time.
    #[error("no such stream, or it is not live yet")]
    Unknown,
    /// It exists and has nothing to play yet.
    #[error("the stream is starting; try again")]
    NotReady,
    /// It was there and is no more.
    #[error("this segment is gone")]
    Gone,
    /// This node serves as many streams as it may.
    #[error("this node serves too many streams at once")]
    Busy,
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

/// A broadcast that players of this node can watch now.
#[derive(Debug, Clone)]
pub struct LiveStream {
    /// The broadcast.
    pub manifest: ManifestId,
    /// Its renditions.
    pub renditions: Vec<String>,
}

struct Shelf {
    timeline: SharedTimeline,
    /// Counts changes, for those who wait.
    changed: watch::Receiver<u64>,
    used: Instant,
    /// Ends the subscription; `None` for streams of this node.
    stop: Option<CancellationToken>,
}

struct Followed {
    state: watch::Receiver<MasterState>,
    used: Instant,
}

/// What players of this node are served from.
pub struct Library {
    config: LibraryConfig,
    core: Core,
    tasks: TaskTracker,
    stop: CancellationToken,
    streams: Mutex<BTreeMap<StreamId, Shelf>>,
    masters: Mutex<BTreeMap<ManifestId, Followed>>,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// How often streams that nobody watches are looked for.
const SWEEP: Duration = Duration::from_secs(1);

impl Library {
    /// An empty library; it keeps itself tidy until `stop`.
    #[must_use]
    pub fn new(
        config: LibraryConfig,
        core: Core,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let library = Arc::new(Self {
            config,
            core,
            tasks: tasks.clone(),
            stop: stop.clone(),
            streams: Mutex::default(),
            masters: Mutex::default(),
        });
        let sweeping = library.clone();
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(SWEEP);
            loop {
                tokio::select! {
                    _ = tick.tick() => sweeping.sweep(),
                    () = stop.cancelled() => return,
                }
            }
        });
        library
    }

    /// Serves a stream that this node makes from its own window.
    pub fn host(&self, stream: &StreamId, timeline: SharedTimeline) {
        let (_, changed) = watch::channel(0);
        let shelf = Shelf {
            timeline,
            changed,
            used: Instant::now(),
            stop: None,
        };
        let old = lock(&self.streams).insert(stream.clone(), shelf);
        if let Some(stop) = old.and_then(|old| old.stop) {
            stop.cancel();
        }
    }

    /// The master playlist of a broadcast, waiting for it for a while.
    ///
    /// # Errors
    /// When it is not known by then.
    pub async fn master(&self, manifest: ManifestId) -> Result<String, PlayError> {
        let master = self.newest_master(manifest).await?;
        let variants: Vec<_> = master
            .renditions
            .iter()
            .map(|rendition| Variant {
                uri: format!("{}.m3u8", rendition.stream),
                codecs: rendition.codecs.clone(),
                width: rendition.width,
                height: rendition.height,
                frame_rate_milli: rendition.frame_rate_milli,
                bandwidth: rendition.bandwidth.max(1),
                average_bandwidth: rendition.average_bandwidth.max(1),
                name: rendition.stream.rendition.to_string(),
            })
            .collect();
        Ok(write_master(&variants))
    }

    async fn newest_master(&self, manifest: ManifestId) -> Result<MasterPlaylist, PlayError> {
        let known = lock(&self.masters).get_mut(&manifest).map(|followed| {
            followed.used = Instant::now();
            followed.state.clone()
        });
        let mut state = match known {
            Some(state) => state,
            None => {
                let follow = self.core.follow(manifest).await;
                let state = follow.map_err(|_| PlayError::Stopping)?;
                let followed = Followed {
                    state: state.clone(),
                    used: Instant::now(),
                };
                let mut masters = lock(&self.masters);
                if masters.len() >= self.config.max_streams {
                    return Err(PlayError::Busy);
                }
                masters.insert(manifest, followed);
                state
            }
        };
        let known = state.wait_for(|state| matches!(state, MasterState::Known(_)));
        match timeout(self.config.wait, known).await {
            Ok(Ok(state)) => match &*state {
                MasterState::Known(body) => Ok(body.value().clone()),
                MasterState::Asking | MasterState::Missing(_) => Err(PlayError::Unknown),
            },
            Ok(Err(_)) => Err(PlayError::Stopping),
            Err(_) => Err(PlayError::Unknown),
        }
    }

    /// The media playlist of a stream, waiting until there is something to play.
    ///
    /// # Errors
    /// When there is nothing by then.
    pub async fn media(&self, stream: &StreamId) -> Result<String, PlayError> {
        let deadline = tokio::time::Instant::now() + self.config.wait;
        let (timeline, mut changed) = self.shelf(stream).await?;
        loop {
            let (ready, ended) = {
                let timeline = lock(&timeline);
                (timeline.is_ready(), timeline.is_ended())
            };
            if ready {
                return Ok(lock(&timeline).playlist(&stream.to_string()));
            }
            if ended {
                return Err(PlayError::Unknown);
            }
            // A stream of this node has no one to tell of changes: it is looked at again.
            let poll = tokio::time::Instant::now() + Duration::from_millis(100);
            let told = timeout_at(poll.min(deadline), changed.changed()).await;
            if let Ok(Err(_)) = told {
                tokio::time::sleep_until(poll.min(deadline)).await;
            }
            if tokio::time::Instant::now() >= deadline {
                let any = lock(&timeline).tracks().is_some();
                return Err(if any {
                    PlayError::NotReady
                } else {
                    PlayError::Unknown
                });
            }
        }
    }

    /// The bytes of an init.
    ///
    /// # Errors
    /// When this node does not have it.
    pub fn init(&self, stream: &StreamId, index: u32) -> Result<Bytes, PlayError> {
        self.with(stream, |timeline| timeline.init(index))
            .ok_or(PlayError::Gone)
    }

    /// The bytes of a segment, in pieces.
    ///
    /// # Errors
    /// When this node does not have it.
    pub fn segment(&self, stream: &StreamId, number: u64) -> Result<Vec<Bytes>, PlayError> {
        self.with(stream, |timeline| timeline.segment(number))
            .ok_or(PlayError::Gone)
    }

    /// The broadcasts whose master playlist this node knows.
    #[must_use]
    pub fn list(&self) -> Vec<LiveStream> {
        let masters = lock(&self.masters);
        let live = masters.iter().filter_map(|(manifest, followed)| {
            let state = followed.state.borrow();
            let MasterState::Known(body) = &*state else {
                return None;
            };
            let master = body.value();
            let name = |rendition: &Rendition| rendition.stream.rendition.to_string();
            (!master.ended).then(|| LiveStream {
                manifest: *manifest,
                renditions: master.renditions.iter().map(name).collect(),
            })
        });
        live.collect()
    }

    fn with<T>(&self, stream: &StreamId, read: impl FnOnce(&Timeline) -> Option<T>) -> Option<T> {
        let timeline = {
            let mut streams = lock(&self.streams);
            let shelf = streams.get_mut(stream)?;
            shelf.used = Instant::now();
            shelf.timeline.clone()
        };
        let timeline = lock(&timeline);
        read(&timeline)
    }

    /// The window of a stream, which is subscribed to if need be.
    async fn shelf(
        &self,
        stream: &StreamId,
    ) -> Result<(SharedTimeline, watch::Receiver<u64>), PlayError> {
        let used = Instant::now();
        if let Some(shelf) = lock(&self.streams).get_mut(stream) {
            shelf.used = used;
            return Ok((shelf.timeline.clone(), shelf.changed.clone()));
        }
        let target = self.target_duration(stream);
        let config = TimelineConfig {
            target_duration: target,
            ..TimelineConfig::default()
        };
        let subscription = self.core.subscribe(stream.clone()).await;
        let subscription = subscription.map_err(|_| PlayError::Stopping)?;
        let timeline = Arc::new(Mutex::new(Timeline::new(config)));
        let (tx, changed) = watch::channel(0);
        let stop = self.stop.child_token();
        let shelf = Shelf {
            timeline: timeline.clone(),
            changed: changed.clone(),
            used,
            stop: Some(stop.clone()),
        };
        {
            let mut streams = lock(&self.streams);
            if let Some(other) = streams.get(stream) {
                // Two players asked at once; the other was quicker.
                return Ok((other.timeline.clone(), other.changed.clone()));
            }
            if streams.len() >= self.config.max_streams {
                return Err(PlayError::Busy);
            }
            streams.insert(stream.clone(), shelf);
        }
        info!(%stream, "watching");
        let filling = fill(stream.clone(), subscription, timeline.clone(), tx);
        self.tasks.spawn(async move {
            tokio::select! {
                () = filling => {}
                () = stop.cancelled() => {}
            }
        });
        Ok((timeline, changed))
    }

    fn target_duration(&self, stream: &StreamId) -> Duration {
        let masters = lock(&self.masters);
        let found = masters.values().find_map(|followed| {
            let state = followed.state.borrow();
            let MasterState::Known(body) = &*state else {
                return None;
            };
            let rendition = body
                .value()
                .renditions
                .iter()
                .find(|r| r.stream == *stream)?;
            Some(Duration::from_millis(u64::from(
                rendition.target_duration_ms,
            )))
        });
        found
            .filter(|target| !target.is_zero())
            .unwrap_or(self.config.target_duration)
    }

    /// Gives up what nobody has asked for lately.
    fn sweep(&self) {
        let idle = self.config.idle;
        lock(&self.streams).retain(|stream, shelf| {
            let keep = shelf.stop.is_none() || shelf.used.elapsed() < idle;
            if let (false, Some(stop)) = (keep, &shelf.stop) {
                info!(%stream, "nobody watches any more");
                stop.cancel();
            }
            // A stream of this node that ended is served until its players are done.
            let over = shelf.stop.is_none() && lock(&shelf.timeline).is_ended();
            keep && !(over && shelf.used.elapsed() > idle)
        });
        lock(&self.masters).retain(|_, followed| followed.used.elapsed() < idle * 2);
    }
}

/// Fills a window from a subscription until the stream ends.
async fn fill(
    stream: StreamId,
    mut subscription: Subscription,
    timeline: SharedTimeline,
    changed: watch::Sender<u64>,
) {
    while let Some(delivery) = subscription.next().await {
        {
            let mut timeline = lock(&timeline);
            match delivery {
                Delivery::Init { index, chunks } => timeline.push(Packaged::Init(Init {
                    index,
                    // Playlists take what they say of the tracks from the master.
                    tracks: Tracks {
                        video: None,
                        audio: None,
                    },
                    data: join(chunks),
                })),
                Delivery::Part {
                    position,
                    media,
                    chunks,
                } => timeline.push(part_of(position, media, join(chunks))),
                Delivery::Gap { to, .. } => timeline.gap(to.segment),
                Delivery::Finished => timeline.end(),
                Delivery::Waiting(failure) => debug!(%stream, ?failure, "waiting"),
            }
        }
        changed.send_modify(|count| *count += 1);
    }
}
