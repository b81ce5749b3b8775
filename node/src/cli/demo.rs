//! `headwater demo`: four nodes in one process, and what came of a stream between them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use headwater_media::ingest::{FileOptions, TestSource, probe};
use headwater_proto::{ManifestId, Rendition, StreamId};
use headwater_protocol::Delivery;
use tokio::time::{Instant, timeout};

use super::{interrupted, local_raw, say};
use crate::{
    app::App,
    clock,
    config::{self, Raw, Setting},
    driver::MasterState,
    mutex::lock,
    pipeline::{EndReason, Ingest},
};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// A file with H.264 video, or `testsrc` for a moving test pattern with sound
    #[arg(long, default_value = "testsrc")]
    input: String,
    /// Where the viewer's node serves players
    #[arg(long, default_value = "127.0.0.1:8935", value_name = "ADDR", value_parser = config::address)]
    http: SocketAddr,
    /// How long it goes on
    #[arg(long, default_value = "30s")]
    duration: humantime::Duration,
    /// Renditions to make
    #[arg(long, default_value = "480p,360p,240p", value_parser = ladder)]
    ladder: String,
}

fn ladder(text: &str) -> Result<String, String> {
    config::ladder(text)?;
    Ok(text.to_owned())
}

/// How long the network may take until everything plays.
const READY: Duration = Duration::from_secs(45);

pub(super) async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let ingest = match args.input.as_str() {
        "testsrc" => Ingest::Test(TestSource::default()),
        path => {
            let path = PathBuf::from(path);
            let video = probe(&path)?.tracks.video;
            video.with_context(|| {
                format!("{} has no video to make renditions of", path.display())
            })?;
            let repeat = FileOptions {
                fast: false,
                repeat: true,
            };
            Ingest::File(path, repeat)
        }
    };
    let book = format!("file:{}", scratch.path().join("jobs.book").display());
    let start = async |raw: Raw, name: &str| {
        let config = raw.over(local_raw(&scratch.path().join(name))?).parse()?;
        App::start(config)
            .await
            .with_context(|| format!("starting the {name}"))
    };
    let yes = |role: Setting| Raw::default().flag(role, Some("yes"));
    let relay = start(yes(Setting::Relayer), "relay").await?;
    let address = relay.net().listen_addresses();
    let address = address.first().context("the relay listens nowhere")?;
    let bootstrap = vec![format!("{address}/p2p/{}", relay.node())];
    let joined = |raw: Raw| raw.flag(Setting::Bootstrap, Some(bootstrap.clone()));
    let paid = |role: Setting| {
        joined(yes(role))
            .flag(Setting::Ledger, Some(book.clone()))
            .flag(Setting::Ladder, Some(args.ladder.clone()))
    };
    let transcoder = start(paid(Setting::Transcoder), "transcoder").await?;
    let broadcaster = start(paid(Setting::Broadcaster), "broadcaster").await?;
    let viewer = joined(Raw::default()).flag(Setting::Http, Some(args.http.to_string()));
    let viewer = start(viewer, "viewer").await?;
    let apps = Network {
        broadcaster,
        relay,
        transcoder,
        viewer,
    };
    let result = tokio::select! {
        result = show(&apps, ingest, args.duration.into()) => result,
        interrupted = interrupted() => interrupted,
    };
    apps.stop().await;
    result
}

struct Network {
    broadcaster: App,
    relay: App,
    transcoder: App,
    viewer: App,
}

impl Network {
    async fn stop(self) {
        let Self {
            broadcaster,
            relay,
            transcoder,
            viewer,
        } = self;
        tokio::join!(
            broadcaster.stop(),
            relay.stop(),
            transcoder.stop(),
            viewer.stop()
        );
    }
}

async fn show(apps: &Network, ingest: Ingest, duration: Duration) -> anyhow::Result<()> {
    for (name, app) in [
        ("broadcaster", &apps.broadcaster),
        ("relay", &apps.relay),
        ("transcoder", &apps.transcoder),
        ("viewer", &apps.viewer),
    ] {
        say(format_args!("{name}: {}", app.node()))?;
    }
    let broadcasts = apps.broadcaster.broadcasts().context("no broadcaster")?;
    // It ends with the demo.
    let ended = std::future::pending::<EndReason>();
    let manifest = broadcasts.publish("demo", ingest, ended).await?;
    let began = Instant::now();
    let source = Meter::start(&apps.viewer, manifest.source()).await?;
    let relayed = Meter::start(&apps.relay, manifest.source()).await?;
    let renditions = timeout(READY, wait_for_renditions(apps, manifest)).await;
    let renditions = renditions.context("the renditions did not appear at the viewer's node")??;
    let ready = began.elapsed();
    let (playlist, player) = apps.viewer.urls(manifest);
    say(format_args!("playlist: {playlist}"))?;
    say(format_args!("player: {player}"))?;
    let mut meters = vec![("source".to_owned(), source)];
    for rendition in renditions.iter().filter(|r| r.stream != manifest.source()) {
        let meter = Meter::start(&apps.viewer, rendition.stream.clone()).await?;
        meters.push((rendition.stream.rendition.to_string(), meter));
    }
    tokio::time::sleep(duration.saturating_sub(began.elapsed())).await;
    summary(apps, manifest, &renditions, ready, meters, relayed).await
}

/// Waits until the viewer's node can play the source and the transcoder's renditions.
async fn wait_for_renditions(
    apps: &Network,
    manifest: ManifestId,
) -> anyhow::Result<Vec<Rendition>> {
    let mut master = apps.viewer.core().follow(manifest).await?;
    let has_renditions = |state: &MasterState| matches!(state, MasterState::Known(body) if body.value().renditions.len() > 1);
    let state = master.wait_for(has_renditions).await?.clone();
    let MasterState::Known(body) = state else {
        anyhow::bail!("no master playlist");
    };
    let renditions = body.value().renditions.clone();
    for rendition in &renditions {
        while apps
            .viewer
            .library()
            .media(&rendition.stream)
            .await
            .is_err()
        {}
    }
    Ok(renditions)
}

/// Counts what arrives of one stream at one node.
struct Meter {
    task: tokio::task::JoinHandle<()>,
    seen: std::sync::Arc<std::sync::Mutex<Seen>>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    segments: u64,
    lost: u64,
    bytes: u64,
    /// From the ingest of a part's first frame to its arrival, in milliseconds.
    delays: Vec<u64>,
}

impl Meter {
    async fn start(app: &App, stream: StreamId) -> anyhow::Result<Self> {
        let mut items = app.core().subscribe(stream).await?;
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Seen::default()));
        let counted = seen.clone();
        let task = tokio::spawn(async move {
            let mut first = true;
            while let Some(item) = items.next().await {
                let now = clock::unix_ms();
                let mut seen = lock(&counted);
                match item {
                    Delivery::Part {
                        position,
                        media,
                        chunks,
                    } => {
                        seen.segments += u64::from(media.last);
                        seen.bytes += chunks.iter().map(|c| c.len() as u64).sum::<u64>();
                        // What was there before this node joined tells nothing of delay.
                        if first && position.part > 0 {
                            continue;
                        }
                        first = false;
                        let length = u64::from(media.duration) / 90;
                        let made = media.program_date_time_ms + length;
                        seen.delays.push(now.saturating_sub(made));
                    }
                    Delivery::Gap { from, to } => {
                        seen.lost += to.segment.saturating_sub(from.segment).max(1);
                    }
                    Delivery::Init { .. } | Delivery::Finished | Delivery::Waiting(_) => {}
                }
            }
        });
        Ok(Self { task, seen })
    }

    fn stop(self) -> Seen {
        self.task.abort();
        lock(&self.seen).clone()
    }
}

impl Seen {
    fn median(&self) -> Option<u64> {
        // The first parts come from the ring, at once and late.
        let live = &self.delays[self.delays.len() / 4..];
        let mut live = live.to_vec();
        live.sort_unstable();
        live.get(live.len() / 2).copied()
    }
}

async fn summary(
    apps: &Network,
    manifest: ManifestId,
    renditions: &[Rendition],
    ready: Duration,
    meters: Vec<(String, Meter)>,
    relayed: Meter,
) -> anyhow::Result<()> {
    let snapshot = apps.broadcaster.core().snapshot().await?;
    let source = snapshot
        .streams
        .iter()
        .find(|view| view.stream == manifest.source());
    let published = source
        .and_then(|view| view.edge)
        .map_or(0, |edge| edge.segment);
    say("")?;
    say(format_args!(
        "all renditions playable after {:.1} s",
        ready.as_secs_f64()
    ))?;
    say(format_args!("segments published: {published}"))?;
    for rendition in renditions {
        say(format_args!(
            "rendition {}: {}x{}, {} kbit/s",
            rendition.stream.rendition,
            rendition.width,
            rendition.height,
            rendition.average_bandwidth / 1000
        ))?;
    }
    let mut lost = 0;
    for (name, meter) in meters {
        let seen = meter.stop();
        lost += seen.lost;
        say(format_args!(
            "viewer, {name}: {} segments delivered, {} lost, {} kB, {} ms from picture to node",
            seen.segments,
            seen.lost,
            seen.bytes / 1000,
            seen.median()
                .map_or_else(|| "?".to_owned(), |ms| ms.to_string()),
        ))?;
    }
    let relayed = relayed.stop();
    say(format_args!(
        "relay, source: {} segments delivered, {} lost, {} ms from picture to node",
        relayed.segments,
        relayed.lost,
        relayed
            .median()
            .map_or_else(|| "?".to_owned(), |ms| ms.to_string()),
    ))?;
    say(format_args!("lost in all: {lost}"))
}
