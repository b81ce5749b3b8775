//! `headwater watch`.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use headwater_proto::{ManifestId, MediaId, StreamId};
use headwater_protocol::Delivery;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{interrupted, local_raw, say};
use crate::{
    app::App,
    config::{self, Raw, Setting},
    driver::MasterState,
    net::{Purpose, check_address},
};

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Id of a broadcast, or of one of its renditions
    id: MediaId,
    /// Multiaddr of a node to begin with; repeatable
    #[arg(long, value_name = "MULTIADDR", required = true, value_parser = reachable)]
    bootstrap: Vec<String>,
    /// Write the stream as fragmented MP4 to a file, or to stdout for `-`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Serve players at this address [default: any free port of loopback]
    #[arg(long, value_name = "ADDR", value_parser = config::address)]
    http: Option<SocketAddr>,
    /// Where the node's identity is kept [default: forgotten at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn reachable(text: &str) -> Result<String, String> {
    check_address(text, Purpose::Bootstrap)?;
    Ok(text.to_owned())
}

pub(super) async fn run(args: WatchArgs) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let base = local_raw(args.data_dir.as_deref().unwrap_or(scratch.path()))?;
    let raw = Raw::default()
        .flag(Setting::Bootstrap, Some(args.bootstrap))
        .flag(Setting::Http, args.http.map(|http| http.to_string()));
    let app = App::start(raw.over(base).parse()?).await?;
    let result = tokio::select! {
        result = play(&app, args.id, args.output) => result,
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
    // What cannot be written is said before anything is waited for.
    if path.as_os_str() == "-" {
        let stream = first_rendition(app, id).await?;
        write(app, stream, tokio::io::stdout()).await
    } else {
        let file = tokio::fs::File::create(&path).await;
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let stream = first_rendition(app, id).await?;
        write(app, stream, file).await
    }
}

/// The stream that is meant: of a broadcast its first rendition, once it is known.
async fn first_rendition(app: &App, id: MediaId) -> anyhow::Result<StreamId> {
    let manifest = match id {
        MediaId::Stream(stream) => return Ok(stream),
        MediaId::Manifest(manifest) => manifest,
    };
    let mut master = app.core().follow(manifest).await?;
    let known = master
        .wait_for(|state| matches!(state, MasterState::Known(_)))
        .await?;
    let MasterState::Known(body) = &*known else {
        anyhow::bail!("the broadcast has no master playlist");
    };
    let first = body.value().renditions.first();
    let first = first.context("the broadcast has no renditions")?;
    Ok(first.stream.clone())
}

/// Writes a stream until its end, or until nobody reads it any more.
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
        match write_all(&mut to, &chunks).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).context("writing the stream"),
        }
    }
    Ok(())
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), chunks: &[Bytes]) -> io::Result<()> {
    for chunk in chunks {
        to.write_all(chunk).await?;
    }
    to.flush().await
}
