//! `headwater watch`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use headwater_proto::{ManifestId, MediaId, StreamId};
use headwater_protocol::Delivery;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{interrupted, local_raw, say};
use crate::{app::App, config::Raw, driver::MasterState};

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Id of a broadcast, or of one of its renditions
    id: String,
    /// Multiaddr of a node to begin with; repeatable
    #[arg(long, value_name = "MULTIADDR", required = true)]
    bootstrap: Vec<String>,
    /// Write the stream as fragmented MP4 to a file, or to stdout for `-`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Serve players at this address [default: any free port of loopback]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where the node's identity is kept [default: forgotten at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) async fn run(args: WatchArgs) -> anyhow::Result<()> {
    let id: MediaId = args.id.parse().with_context(|| format!("id {}", args.id))?;
    let scratch = tempfile::tempdir()?;
    let base = local_raw(args.data_dir.unwrap_or_else(|| scratch.path().to_owned()));
    let raw = Raw {
        bootstrap: Some(args.bootstrap),
        http: args.http,
        ..Raw::default()
    };
    let app = App::start(raw.over(base).parse()?).await?;
    let result = tokio::select! {
        result = play(&app, id, args.output) => result,
        interrupted = interrupted() => interrupted,
    };
    app.stop().await;
    result
}

async fn play(app: &App, id: MediaId, output: Option<PathBuf>) -> anyhow::Result<()> {
    let Some(path) = output else {
        let (MediaId::Manifest(ManifestId { node, broadcast })
        | MediaId::Stream(StreamId {
            node, broadcast, ..
        })) = &id;
        let manifest = ManifestId {
            node: *node,
            broadcast: *broadcast,
        };
        let (playlist, player) = app.urls(manifest);
        say(format_args!("playlist: {playlist}"))?;
        say(format_args!("player: {player}"))?;
        return std::future::pending().await;
    };
    let stream = match id {
        MediaId::Stream(stream) => stream,
        MediaId::Manifest(manifest) => {
            let mut master = app.core().follow(manifest).await?;
            let known = master
                .wait_for(|state| matches!(state, MasterState::Known(_)))
                .await?;
            let MasterState::Known(body) = &*known else {
                anyhow::bail!("the broadcast has no master playlist");
            };
            let first = body.value().renditions.first();
            first
                .context("the broadcast has no renditions")?
                .stream
                .clone()
        }
    };
    if path.as_os_str() == "-" {
        write(app, stream, tokio::io::stdout()).await
    } else {
        let file = tokio::fs::File::create(&path).await;
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        write(app, stream, file).await
    }
}

/// Writes a stream until its end.
async fn write(app: &App, stream: StreamId, mut to: impl AsyncWrite + Unpin) -> anyhow::Result<()> {
    let mut items = app.core().subscribe(stream).await?;
    while let Some(item) = items.next().await {
        let chunks = match item {
            Delivery::Init { chunks, .. } | Delivery::Part { chunks, .. } => chunks,
            Delivery::Gap { from, to } => {
                tracing::warn!(?from, ?to, "a part of the stream is missing");
                continue;
            }
            Delivery::Waiting(reason) => {
                tracing::info!(?reason, "waiting for the stream");
                continue;
            }
            Delivery::Finished => break,
        };
        for chunk in chunks {
            to.write_all(&chunk).await.context("writing the stream")?;
        }
        to.flush().await.context("writing the stream")?;
    }
    Ok(())
}
