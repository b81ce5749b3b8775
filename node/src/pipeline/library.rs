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
use headwater_proto::{ManifestId, MasterPlaylist, NodeId, Rendition, StreamId};
use headwater_protocol::{Delivery, Failure};
use tokio::{
    sync::watch,
    time::{sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

use super::{join, origin::SharedTimeline, part_of};
use crate::{
    driver::{Core, MasterState, Subscription},
    mutex::lock,
};

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
    /// A request for a segment that is at most so many ahead waits for it.
    pub ahead: u64,
}

impl Default for LibraryConfig {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(8),
            idle: Duration::from_secs(30),
            target_duration: Duration::from_secs(4),
            max_streams: 128,
            ahead: 2,
        }
    }
}

/// Why a player gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlayError {
    /// Who should have it says that there is no such thing, or not yet.
    #[error("no such stream or segment, or not yet")]
    Unknown,
    /// It exists, and what is asked for is still to come.
    #[error("the stream has not come so far; try again")]
    NotReady,
    /// Nobody could be asked in time.
    #[error("the stream could not be reached in time")]
    Unreachable,
    /// It was there and is no more, or was missed.
    #[error("this segment is gone")]
    Gone,
    /// It is over, and nothing of it is kept here.
    #[error("the broadcast has ended")]
    Ended,
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

/// What is told to those who wait for a stream: with every change, why it does not come.
type Changes = watch::Receiver<Option<Failure>>;

struct Shelf {
    timeline: SharedTimeline,
    changes: Changes,
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
    node: NodeId,
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
    /// An empty library of `node`; it keeps itself tidy until `stop`.
    #[must_use]
    pub fn new(
        config: LibraryConfig,
        node: NodeId,
        core: Core,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let library = Arc::new(Self {
            config,
            node,
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
        // Nobody tells of changes of a stream of this node: it is looked at again.
        let (_, changes) = watch::channel(None);
        let shelf = Shelf {
            timeline,
            changes,
            used: Instant::now(),
            stop: None,
        };
        let old = lock(&self.streams).insert(stream.clone(), shelf);
        if let Some(stop) = old.and_then(|old| old.stop) {
            stop.cancel();
        }
    }

    /// Serves a stream that this node made no more.
    pub fn forget(&self, stream: &StreamId) {
        let mut streams = lock(&self.streams);
        if streams
            .get(stream)
            .is_some_and(|shelf| shelf.stop.is_none())
        {
            streams.remove(stream);
        }
    }

    /// The master playlist of a broadcast, waiting for it for a while.
    ///
    /// # Errors
    /// When it is not known by then.
    pub async fn master(&self, manifest: ManifestId) -> Result<String, PlayError> {
        let master = self.newest_master(manifest).await?;
        if master.ended && !self.has_any(&master.renditions) {
            return Err(PlayError::Ended);
        }
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
                make_room(&mut masters, self.config.max_streams, |followed| {
                    let known = matches!(*followed.state.borrow(), MasterState::Known(_));
                    (!known).then_some(followed.used)
                })?;
                masters.insert(manifest, followed);
                state
            }
        };
        let known = state.wait_for(|state| matches!(state, MasterState::Known(_)));
        match timeout(self.config.wait, known).await {
            Ok(Ok(state)) => match &*state {
                MasterState::Known(body) => return Ok(body.value().clone()),
                MasterState::Asking | MasterState::Missing(_) => {}
            },
            Ok(Err(_)) => return Err(PlayError::Stopping),
            Err(_) => {}
        }
        let state = state.borrow();
        Err(match &*state {
            MasterState::Missing(failure) => self.absent(manifest.node, Some(*failure)),
            MasterState::Asking | MasterState::Known(_) => self.absent(manifest.node, None),
        })
    }

    /// The media playlist of a stream, waiting until there is something to play.
    ///
    /// # Errors
    /// When there is nothing by then.
    pub async fn media(&self, stream: &StreamId) -> Result<String, PlayError> {
        let (timeline, mut changes) = self.shelf(stream).await?;
        let playlist = self.wait(&timeline, &mut changes, |timeline| {
            if timeline.is_ready() {
                return Some(Ok(timeline.playlist(&stream.to_string())));
            }
            timeline.is_ended().then_some(Err(PlayError::Ended))
        });
        if let Some(playlist) = playlist.await {
            return playlist;
        }
        let begun = lock(&timeline).tracks().is_some();
        Err(if begun {
            PlayError::NotReady
        } else {
            self.absent(stream.node, *changes.borrow())
        })
    }

    /// Reads a window until it has what is wanted, for as long as a request may wait.
    async fn wait<T>(
        &self,
        timeline: &SharedTimeline,
        changes: &mut Changes,
        read: impl Fn(&Timeline) -> Option<T>,
    ) -> Option<T> {
        const LOOK_AGAIN: Duration = Duration::from_millis(100);
        let deadline = tokio::time::Instant::now() + self.config.wait;
        loop {
            changes.mark_unchanged();
            if let Some(found) = read(&lock(timeline)) {
                return Some(found);
            }
            if tokio::time::Instant::now() >= deadline {
                return None;
            }
            let again = deadline.min(tokio::time::Instant::now() + LOOK_AGAIN);
            if let Ok(Err(_)) = timeout_at(again, changes.changed()).await {
                sleep_until(again).await;
            }
        }
    }

    /// The bytes of an init.
    ///
    /// # Errors
    /// When this node does not have it.
    pub fn init(&self, stream: &StreamId, index: u32) -> Result<Bytes, PlayError> {
        let (timeline, _) = self.known(stream).ok_or(PlayError::Unknown)?;
        let init = lock(&timeline).init(index);
        init.ok_or(PlayError::Unknown)
    }

    /// The bytes of a segment, in pieces. One that is just to come is waited for.
    ///
    /// # Errors
    /// When this node does not have it: no more, not yet, or nothing of the stream.
    pub async fn segment(&self, stream: &StreamId, number: u64) -> Result<Vec<Bytes>, PlayError> {
        let (timeline, mut changes) = self.known(stream).ok_or(PlayError::Unknown)?;
        let ahead = self.config.ahead;
        let found = self.wait(&timeline, &mut changes, |timeline| {
            if let Some(pieces) = timeline.segment(number) {
                return Some(Ok(pieces));
            }
            match timeline.newest() {
                Some(newest) if number <= newest => Some(Err(PlayError::Gone)),
                Some(newest) if timeline.is_ended() || number - newest > ahead => {
                    Some(Err(PlayError::Unknown))
                }
                None if timeline.is_ended() => Some(Err(PlayError::Unknown)),
                Some(_) | None => None,
            }
        });
        found.await.unwrap_or(Err(PlayError::NotReady))
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

    /// The window of a stream that is here already.
    fn known(&self, stream: &StreamId) -> Option<(SharedTimeline, Changes)> {
        let mut streams = lock(&self.streams);
        let shelf = streams.get_mut(stream)?;
        shelf.used = Instant::now();
        Some((shelf.timeline.clone(), shelf.changes.clone()))
    }

    /// The window of a stream, which is subscribed to if need be.
    async fn shelf(&self, stream: &StreamId) -> Result<(SharedTimeline, Changes), PlayError> {
        if let Some(known) = self.known(stream) {
            return Ok(known);
        }
        let target = self.target_duration(stream);
        let config = TimelineConfig {
            target_duration: target,
            ..TimelineConfig::default()
        };
        let subscription = self.core.subscribe(stream.clone()).await;
        let subscription = subscription.map_err(|_| PlayError::Stopping)?;
        let timeline = Arc::new(Mutex::new(Timeline::new(config)));
        let (tx, changes) = watch::channel(None);
        let stop = self.stop.child_token();
        let shelf = Shelf {
            timeline: timeline.clone(),
            changes: changes.clone(),
            used: Instant::now(),
            stop: Some(stop.clone()),
        };
        {
            let mut streams = lock(&self.streams);
            if let Some(other) = streams.get(stream) {
                // Two players asked at once; the other was quicker.
                return Ok((other.timeline.clone(), other.changes.clone()));
            }
            let given_up = make_room(&mut streams, self.config.max_streams, |shelf| {
                let wanted = shelf.stop.is_none() || lock(&shelf.timeline).is_ready();
                (!wanted).then_some(shelf.used)
            })?;
            if let Some(stop) = given_up.and_then(|shelf| shelf.stop) {
                stop.cancel();
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
        Ok((timeline, changes))
    }

    /// Why what `owner` should have did not come in time. This node knows its own.
    fn absent(&self, owner: NodeId, failure: Option<Failure>) -> PlayError {
        match failure {
            Some(Failure::NotFound) => PlayError::Unknown,
            _ if owner == self.node => PlayError::Unknown,
            Some(Failure::NoRoute(_) | Failure::ParentLost | Failure::NoPeers) | None => {
                PlayError::Unreachable
            }
        }
    }

    fn has_any(&self, renditions: &[Rendition]) -> bool {
        let streams = lock(&self.streams);
        let mut known = renditions.iter().map(|one| &one.stream);
        known.any(|stream| streams.contains_key(stream))
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

/// Makes room for one more among `most` by giving up what never came and was asked for
/// longest ago, so that made-up ids cannot keep real ones out. `idle` says since when
/// something may be given up; what has come is kept.
fn make_room<K: Ord + Clone, V>(
    held: &mut BTreeMap<K, V>,
    most: usize,
    idle: impl Fn(&V) -> Option<Instant>,
) -> Result<Option<V>, PlayError> {
    if held.len() < most {
        return Ok(None);
    }
    let since = held.iter().filter_map(|(key, one)| Some((idle(one)?, key)));
    let oldest = since.min().map(|(_, key)| key.clone());
    let oldest = oldest.ok_or(PlayError::Busy)?;
    Ok(held.remove(&oldest))
}

/// Fills a window from a subscription until the stream ends.
async fn fill(
    stream: StreamId,
    mut subscription: Subscription,
    timeline: SharedTimeline,
    changes: watch::Sender<Option<Failure>>,
) {
    while let Some(delivery) = subscription.next().await {
        let mut waits = None;
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
                Delivery::Waiting(failure) => {
                    debug!(%stream, ?failure, "waiting");
                    waits = Some(failure);
                }
            }
        }
        changes.send_replace(waits);
    }
}
