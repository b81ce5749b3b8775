//! Broadcasts of this node: from an encoder to a stream that outlives its connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use headwater_media::{
    Packaged, PackagerConfig, Resume, TIMESCALE,
    hls::{Timeline, TimelineConfig},
    ingest::{
        Clock, Ended, FileOptions, IngestError, TestSource, run_file, run_flv, run_test_source,
    },
};
use headwater_proto::{
    BroadcastId, JobId, ManifestId, MasterPlaylist, NodeId, Rendition, Signed, SigningKey,
    StreamId, TranscodeResult, limits::MAX_RENDITIONS,
};
use headwater_protocol::Command;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, trace, warn};

use super::{
    Library,
    origin::{Complete, Origin, OriginError, PlaylistTimes},
    place::Place,
};
use crate::{
    clock,
    driver::Core,
    mutex::lock,
    receipts::Books,
    store::{self, Store},
};

/// Items between an ingest and the core: about a second.
const ITEMS: usize = 16;
/// A transcoder's renditions that were not confirmed for this long leave the master.
const VARIANT_LIFE_MS: u64 = 10_000;

/// Where a broadcast comes from.
pub enum Ingest {
    /// A file, in real time.
    File(PathBuf, FileOptions),
    /// The test pattern.
    Test(TestSource),
    /// An FLV stream, as an encoder sends it.
    Flv(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File(..) => "File",
            Self::Test(_) => "Test",
            Self::Flv(_) => "Flv",
        })
    }
}

/// How an encoder went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It said that it was done.
    Finished,
    /// It was cut off, and may come back.
    Lost,
}

/// How broadcasts are made.
#[derive(Debug, Clone)]
pub struct BroadcastsConfig {
    /// Lengths of parts and segments.
    pub packager: PackagerConfig,
    /// How long a broadcast waits for an encoder that was cut off.
    pub reconnect: Duration,
}

/// A broadcast that goes on, for lists.
#[derive(Debug, Clone)]
pub struct LiveBroadcast {
    /// The name it is published under.
    pub name: String,
    /// Its id.
    pub manifest: ManifestId,
    /// An encoder is connected.
    pub connected: bool,
}

/// Told when a broadcast begins and ends; jobs hang on it.
pub type Hook = Arc<dyn Fn(&StreamId, bool) + Send + Sync>;

/// All broadcasts of a node.
pub struct Broadcasts {
    config: BroadcastsConfig,
    key: SigningKey,
    core: Core,
    store: Arc<Store>,
    library: Arc<Library>,
    tasks: TaskTracker,
    stop: CancellationToken,
    hook: Hook,
    books: Books,
    live: Mutex<BTreeMap<String, Live>>,
}

impl std::fmt::Debug for Broadcasts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broadcasts")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// One broadcast.
struct Live {
    manifest: ManifestId,
    resume: Resume,
    /// What is written down, for a later run of the node.
    kept: Place,
    /// Parked here while no encoder is connected.
    origin: Option<Origin>,
    connected: bool,
    /// Counts encoders, so that a wait for the next one can tell whether it came.
    session: u64,
    source: Option<Rendition>,
    variants: BTreeMap<(NodeId, JobId), Variants>,
    master: Option<MasterPlaylist>,
}

struct Variants {
    sequence: u64,
    seen_ms: u64,
    renditions: Vec<Rendition>,
}

/// Why a broadcast could not begin.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The name is in use by an encoder that is connected.
    #[error("{0} is being published already")]
    Busy(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The core.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The system gave no thread or random bytes.
    #[error("{0}")]
    System(String),
}

impl Broadcasts {
    /// No broadcasts yet.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the node it lives in"
    )]
    #[must_use]
    pub fn new(
        config: BroadcastsConfig,
        key: SigningKey,
        core: Core,
        store: Arc<Store>,
        library: Arc<Library>,
        tasks: TaskTracker,
        stop: CancellationToken,
        hook: Hook,
        books: Books,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            key,
            core,
            store,
            library,
            tasks,
            stop,
            hook,
            books,
            live: Mutex::default(),
        })
    }

    /// The broadcasts that go on.
    #[must_use]
    pub fn list(&self) -> Vec<LiveBroadcast> {
        let live = lock(&self.live);
        live.iter()
            .map(|(name, live)| LiveBroadcast {
                name: name.clone(),
                manifest: live.manifest,
                connected: live.connected,
            })
            .collect()
    }

    /// The broadcast that a name is published as now.
    #[must_use]
    pub fn manifest(&self, name: &str) -> Option<ManifestId> {
        lock(&self.live).get(name).map(|live| live.manifest)
    }

    /// Publishes under a name until the ingest ends; `ended` says how an encoder went.
    /// A name that waits for its encoder goes on where it was.
    ///
    /// # Errors
    /// When the name is taken or the node cannot publish.
    pub async fn publish(
        self: &Arc<Self>,
        name: &str,
        ingest: Ingest,
        ended: impl Future<Output = EndReason> + Send + 'static,
    ) -> Result<ManifestId, PublishError> {
        let (manifest, resume, mut origin) = self.begin(name).await?;
        let (items, incoming) = mpsc::channel(ITEMS);
        let packager = self.config.packager;
        let stop = self.stop.clone();
        let (done, outcome) = tokio::sync::oneshot::channel();
        thread::Builder::new()
            .name("ingest".into())
            .spawn(move || {
                let mut sink = |item| {
                    let taken = !stop.is_cancelled() && items.blocking_send(item).is_ok();
                    if taken {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                };
                let ended = run(ingest, packager, resume, &mut sink);
                // Nobody waits any more when the node stops.
                drop(done.send(ended));
            })
            .map_err(|error| PublishError::System(error.to_string()))?;
        let this = self.clone();
        let name = name.to_owned();
        self.tasks.spawn(async move {
            this.pump(&name, &mut origin, incoming).await;
            let outcome = outcome.await;
            let reason = match &outcome {
                Ok(Err(error)) => {
                    warn!(name, %error, "the encoder's stream cannot be used");
                    EndReason::Finished
                }
                Ok(Ok(_)) | Err(_) => tokio::select! {
                    reason = ended => reason,
                    () = this.stop.cancelled() => EndReason::Lost,
                },
            };
            let resume = outcome.ok().and_then(Result::ok);
            this.end_session(&name, origin, resume, reason).await;
        });
        Ok(manifest)
    }

    /// Finds or makes the broadcast of a name.
    async fn begin(&self, name: &str) -> Result<(ManifestId, Resume, Origin), PublishError> {
        let node = self.key.node_id();
        let parked = match lock(&self.live).get_mut(name) {
            None => None,
            Some(live) => {
                // Without a parked origin an encoder is connected, or the broadcast is
                // just being ended.
                let origin = live.origin.take();
                let origin = origin.ok_or_else(|| PublishError::Busy(name.to_owned()))?;
                live.connected = true;
                live.session += 1;
                Some((live.manifest, live.resume, origin))
            }
        };
        if let Some((manifest, resume, origin)) = parked {
            info!(name, %manifest, "encoder is back; the broadcast goes on");
            return Ok((manifest, resume, origin));
        }
        let stored = self.store.broadcast(name)?.and_then(|stored| {
            let window = u64::try_from(self.config.reconnect.as_millis()).unwrap_or(u64::MAX);
            let recent = clock::unix_ms().saturating_sub(stored.seen_ms) < window;
            let broadcast: BroadcastId = stored.broadcast.parse().ok().filter(|_| recent)?;
            let resume = Resume {
                segment: stored.segment,
                init: stored.init,
                discontinuity: stored.discontinuity,
                start: stored.start,
            };
            Some((broadcast, resume))
        });
        let fresh = stored.is_none();
        let (broadcast, resume) = match stored {
            Some(stored) => stored,
            None => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes)
                    .map_err(|error| PublishError::System(error.to_string()))?;
                (BroadcastId::from_bytes(bytes), Resume::default())
            }
        };
        let manifest = ManifestId { node, broadcast };
        let target = self.config.packager.target_duration();
        let timeline = TimelineConfig {
            target_duration: target,
            ..TimelineConfig::default()
        };
        let timeline = Arc::new(Mutex::new(Timeline::new(timeline)));
        let stream = manifest.source();
        self.library.host(&stream, timeline.clone());
        let origin = Origin::open(
            stream.clone(),
            self.key.clone(),
            self.core.clone(),
            timeline,
        )
        .await?;
        let live = Live {
            manifest,
            resume,
            kept: place_of(resume),
            origin: None,
            connected: true,
            session: 1,
            source: None,
            variants: BTreeMap::new(),
            master: None,
        };
        lock(&self.live).insert(name.to_owned(), live);
        info!(name, %manifest, resumed = !fresh, "broadcast begins");
        (self.hook)(&stream, true);
        Ok((manifest, resume, origin))
    }

    /// Publishes items until the ingest ends.
    async fn pump(&self, name: &str, origin: &mut Origin, mut items: mpsc::Receiver<Packaged>) {
        while let Some(item) = items.recv().await {
            if let Packaged::Part(part) = &item {
                trace!(name, segment = part.segment, part = part.index, "part");
            }
            self.keep(name, &item, Place::before);
            match origin.push(item.clone()).await {
                Ok(Some(complete)) => self.keep_hash(name, complete),
                Ok(None) => {}
                Err(error) => return error!(name, %error, "part not published"),
            }
            self.keep(name, &item, Place::after);
            if let Packaged::Part(part) = &item
                && part.last
            {
                self.segment_done(name, origin).await;
            }
        }
    }

    /// A transcoder that is fed may ask for a receipt.
    fn keep_hash(&self, name: &str, complete: Complete) {
        let Some(fed) = self.books.fed() else {
            return;
        };
        let Some(manifest) = lock(&self.live).get(name).map(|live| live.manifest) else {
            return;
        };
        let Complete { segment, hash } = complete;
        if let Err(error) = fed.segment(&manifest.source(), segment, hash) {
            error!(name, segment, %error, "nobody will get a receipt for the segment");
        }
    }

    fn times(&self) -> PlaylistTimes {
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        PlaylistTimes {
            target_duration_ms: ms(self.config.packager.target_duration()),
            part_target_ms: ms(self.config.packager.part),
        }
    }

    /// Keeps that an item is about to be published, or was, for a later run of the node.
    fn keep(
        &self,
        name: &str,
        item: &Packaged,
        due: impl FnOnce(&mut Place, &Packaged) -> Option<Place>,
    ) {
        let mut live = lock(&self.live);
        let Some(live) = live.get_mut(name) else {
            return;
        };
        let Some(place) = due(&mut live.kept, item) else {
            return;
        };
        live.resume = Resume {
            segment: place.segment,
            init: place.init,
            discontinuity: place.discontinuity,
            start: match item {
                Packaged::Init(_) => live.resume.start,
                // A later run does not know how much of the next segment was published.
                Packaged::Part(part) => {
                    part.start + u64::from(part.duration) + self.longest_segment()
                }
            },
        };
        self.write(name, live.manifest, live.resume);
    }

    /// In ticks.
    fn longest_segment(&self) -> u64 {
        let longest = self.config.packager.target_duration().as_millis();
        let longest = u64::try_from(longest).unwrap_or(u64::MAX);
        longest.saturating_mul(u64::from(TIMESCALE)) / 1000
    }

    /// Keeps where the stream, which nobody publishes now, can be taken up.
    fn remember(&self, name: &str, resume: Resume) {
        let mut live = lock(&self.live);
        let Some(live) = live.get_mut(name) else {
            return;
        };
        live.resume = resume;
        live.kept = place_of(resume);
        self.write(name, live.manifest, resume);
    }

    fn write(&self, name: &str, manifest: ManifestId, resume: Resume) {
        let stored = store::Broadcast {
            broadcast: manifest.broadcast.to_string(),
            segment: resume.segment,
            init: resume.init,
            discontinuity: resume.discontinuity,
            start: resume.start,
            seen_ms: clock::unix_ms(),
        };
        if let Err(error) = self.store.put_broadcast(name, &stored) {
            error!(name, %error, "the broadcast cannot be remembered");
        }
    }

    async fn segment_done(&self, name: &str, origin: &Origin) {
        let source = origin.rendition(self.times(), 0);
        if let Some(live) = lock(&self.live).get_mut(name) {
            live.source = source;
        }
        self.update_master(name, false).await;
    }

    /// Signs a new master playlist when what it says has changed.
    async fn update_master(&self, name: &str, ended: bool) {
        let now = clock::unix_ms();
        let body = {
            let mut live = lock(&self.live);
            let Some(live) = live.get_mut(name) else {
                return;
            };
            live.variants
                .retain(|_, variants| now.saturating_sub(variants.seen_ms) < VARIANT_LIFE_MS);
            let transcoded = live.variants.values().flat_map(|v| v.renditions.iter());
            let renditions = listed(live.source.iter().chain(transcoded));
            let before = live.master.as_ref();
            let same = before.is_some_and(|before| {
                before.ended == ended && !differ(&before.renditions, &renditions)
            });
            if same || renditions.is_empty() {
                return;
            }
            let version = before.map_or(now, |before| now.max(before.version + 1));
            let master = MasterPlaylist {
                manifest: live.manifest,
                version,
                ended,
                renditions,
            };
            live.master = Some(master.clone());
            Signed::sign(master, &self.key)
        };
        if let Err(error) = self.core.command(Command::SetMaster { body }).await {
            error!(name, %error, "the master playlist was not taken");
        }
    }

    /// Takes a transcoder's renditions into the master playlist of their broadcast.
    /// `false` when they cannot be its.
    pub async fn accept_result(&self, result: &TranscodeResult) -> bool {
        let own = |rendition: &Rendition| {
            rendition.stream.node == result.transcoder
                && rendition.stream.broadcast == result.stream.broadcast
        };
        if !result.renditions.iter().all(own) {
            return false;
        }
        let name = {
            let mut live = lock(&self.live);
            let found = live
                .iter_mut()
                .find(|(_, live)| live.manifest.source() == result.stream);
            let Some((name, live)) = found else {
                return false;
            };
            let key = (result.transcoder, result.job);
            let known = live.variants.get(&key);
            if known.is_some_and(|known| known.sequence > result.sequence) {
                return false;
            }
            let variants = Variants {
                sequence: result.sequence,
                seen_ms: clock::unix_ms(),
                renditions: result.renditions.clone(),
            };
            live.variants.insert(key, variants);
            name.clone()
        };
        self.update_master(&name, false).await;
        true
    }

    /// Takes a transcoder's renditions for a job out of the master playlist.
    pub async fn withdraw(&self, transcoder: NodeId, job: JobId) {
        let name = lock(&self.live).iter_mut().find_map(|(name, live)| {
            let had = live.variants.remove(&(transcoder, job));
            had.map(|_| name.clone())
        });
        if let Some(name) = name {
            self.update_master(&name, false).await;
        }
    }

    /// The encoder is gone: for good, or the broadcast waits for it.
    async fn end_session(
        self: &Arc<Self>,
        name: &str,
        origin: Origin,
        resume: Option<Resume>,
        reason: EndReason,
    ) {
        let session = {
            let mut live = lock(&self.live);
            let Some(live) = live.get_mut(name) else {
                return;
            };
            // An ingest that ends as it should knows where exactly it was.
            if let Some(resume) = resume {
                live.resume = resume;
            }
            live.connected = false;
            live.origin = Some(origin);
            live.session
        };
        let resume = lock(&self.live).get(name).map(|live| live.resume);
        if let Some(resume) = resume {
            self.remember(name, resume);
        }
        if self.stop.is_cancelled() {
            return;
        }
        if reason == EndReason::Finished {
            return self.end(name, session).await;
        }
        info!(name, wait = ?self.config.reconnect, "encoder lost; waiting for it to come back");
        let wait = self.config.reconnect;
        let this = self.clone();
        let name = name.to_owned();
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => this.end(&name, session).await,
                () = this.stop.cancelled() => {}
            }
        });
    }

    /// Ends a broadcast, unless an encoder took it up meanwhile.
    async fn end(&self, name: &str, session: u64) {
        let origin = match lock(&self.live).get_mut(name) {
            Some(live) if !live.connected && live.session == session => live.origin.take(),
            Some(_) | None => None,
        };
        let Some(origin) = origin else {
            return;
        };
        self.update_master(name, true).await;
        if let Err(error) = origin.finish().await {
            warn!(name, %error, "the end of the broadcast was not told");
        }
        let gone = lock(&self.live).remove(name);
        if let Some(live) = gone {
            info!(name, manifest = %live.manifest, "broadcast ended");
            (self.hook)(&live.manifest.source(), false);
        }
        if let Err(error) = self.store.end_broadcast(name) {
            error!(name, %error, "the broadcast cannot be forgotten");
        }
    }
}

/// Behind all that was published before a stream is taken up.
const fn place_of(resume: Resume) -> Place {
    Place {
        segment: resume.segment,
        init: resume.init,
        discontinuity: resume.discontinuity,
    }
}

/// What a master playlist names: each stream once, though a transcoder that holds two jobs
/// for the broadcast tells of its renditions for both.
fn listed<'a>(renditions: impl Iterator<Item = &'a Rendition>) -> Vec<Rendition> {
    let mut named = BTreeSet::new();
    renditions
        .filter(|rendition| named.insert(&rendition.stream))
        .take(MAX_RENDITIONS)
        .cloned()
        .collect()
}

/// Whether a player has to know: other renditions, or bitrates off by a tenth.
fn differ(before: &[Rendition], after: &[Rendition]) -> bool {
    let close = |a: u32, b: u32| a.abs_diff(b) <= a / 10;
    let same = |(a, b): (&Rendition, &Rendition)| {
        let measured =
            close(a.bandwidth, b.bandwidth) && close(a.average_bandwidth, b.average_bandwidth);
        let plain = Rendition {
            bandwidth: a.bandwidth,
            average_bandwidth: a.average_bandwidth,
            ..b.clone()
        };
        measured && *a == plain
    };
    before.len() != after.len() || !before.iter().zip(after).all(same)
}

fn run(
    ingest: Ingest,
    config: PackagerConfig,
    resume: Resume,
    sink: &mut dyn FnMut(Packaged) -> ControlFlow<()>,
) -> Result<Resume, IngestError> {
    let mut clock = RealTime::default();
    let ended: Ended = match ingest {
        Ingest::File(path, options) => run_file(&path, options, config, resume, &mut clock, sink),
        Ingest::Test(source) => run_test_source(source, config, resume, &mut clock, sink),
        Ingest::Flv(reader) => run_flv(reader, config, resume, &mut clock, sink),
    };
    ended
}

/// The machine's clocks, for a thread that paces media.
#[derive(Debug, Default)]
pub struct RealTime {
    start: Option<headwater_protocol::Time>,
}

impl Clock for RealTime {
    fn unix_ms(&mut self) -> u64 {
        clock::unix_ms()
    }

    fn wait_until(&mut self, elapsed: Duration) {
        let start = *self.start.get_or_insert_with(clock::now);
        clock::block_until(start + elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendition(name: &str, bandwidth: u32) -> Rendition {
        Rendition {
            stream: StreamId {
                node: SigningKey::from_bytes(&[1; 32]).node_id(),
                broadcast: BroadcastId::from_bytes([0; 16]),
                rendition: name.parse().unwrap(),
            },
            codecs: String::new(),
            width: 0,
            height: 0,
            frame_rate_milli: 0,
            bandwidth,
            average_bandwidth: bandwidth,
            target_duration_ms: 2000,
            part_target_ms: 200,
        }
    }

    #[test]
    fn a_rendition_that_is_made_for_two_jobs_is_listed_once() {
        let told = [
            rendition("source", 3),
            rendition("720p", 2),
            rendition("480p", 1),
            rendition("720p", 4),
            rendition("480p", 4),
        ];
        assert_eq!(listed(told.iter()), told[..3]);
    }
}
