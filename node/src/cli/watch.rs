//! `headwater watch`.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use headwater_media::Film;
use headwater_proto::{MediaId, StreamId};
use headwater_protocol::Delivery;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{interrupted, local_raw, say};
use crate::{
    app::App,
    config::{self, Raw, Setting},
    driver::{MasterState, Subscription},
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
        match id {
            MediaId::Manifest(manifest) => {
                let (playlist, player) = app.urls(manifest);
                say(format_args!("playlist: {playlist}"))?;
                say(format_args!("player: {player}"))?;
            }
            // The page is of a broadcast, of which a stream's own id may say nothing.
            MediaId::Stream(stream) => say(format_args!("playlist: {}", app.playlist(&stream)))?,
        }
        return std::future::pending().await;
    };
    // What cannot be written is said before anything is waited for.
    if path.as_os_str() == "-" {
        let mut items = subscribe(app, id).await?;
        let first = next(&mut items).await;
        write(first, items, tokio::io::stdout()).await
    } else {
        let cannot = || format!("cannot write {}", path.display());
        let mut options = tokio::fs::File::options();
        // A film that is there is kept until there is another.
        let file = options.write(true).create(true).truncate(false);
        let file = file.open(&path).await.with_context(cannot)?;
        let mut items = subscribe(app, id).await?;
        let first = next(&mut items).await;
        if first.is_some() && file.metadata().await.with_context(cannot)?.is_file() {
            file.set_len(0).await.with_context(cannot)?;
        }
        write(first, items, file).await
    }
}

async fn subscribe(app: &App, id: MediaId) -> anyhow::Result<Subscription> {
    let stream = first_rendition(app, id).await?;
    Ok(app.core().subscribe(stream).await?)
}

/// The stream that is meant: of a broadcast its first rendition, once it is known.
async fn first_rendition(app: &App, id: MediaId) -> anyhow::Result<StreamId> {
    let manifest = match id {
        MediaId::Stream(stream) => return Ok(stream),
        MediaId::Manifest(manifest) => manifest,
    };
    let mut states = app.core().follow(manifest).await?;
    loop {
        match &*states.borrow_and_update() {
            MasterState::Known(body) => {
                let master = body.value();
                if master.ended {
                    anyhow::bail!("the broadcast has ended; the next one has another id");
                }
                let first = master.renditions.first();
                let first = first.context("the broadcast has no renditions")?;
                return Ok(first.stream.clone());
            }
            MasterState::Missing(reason) => tracing::info!(%reason, "waiting for the stream"),
            MasterState::Asking => {}
        }
        states.changed().await?;
    }
}

/// The next piece of a stream; `None` at its end.
async fn next(items: &mut Subscription) -> Option<Vec<Bytes>> {
    loop {
        match items.next().await? {
            Delivery::Init { chunks, .. } | Delivery::Part { chunks, .. } => return Some(chunks),
            Delivery::Gap { from, to } => {
                tracing::warn!(?from, ?to, "a part of the stream is missing");
            }
            Delivery::Waiting(reason) => tracing::info!(%reason, "waiting for the stream"),
            Delivery::Finished => return None,
        }
    }
}

/// Writes a stream until its end, or until nobody reads it any more.
async fn write(
    first: Option<Vec<Bytes>>,
    mut items: Subscription,
    mut to: impl AsyncWrite + Unpin,
) -> anyhow::Result<()> {
    let mut film = Film::default();
    let mut piece = first;
    while let Some(chunks) = piece {
        let mut data = chunks.concat();
        film.set_back(&mut data);
        match write_all(&mut to, &data).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).context("writing the stream"),
        }
        piece = next(&mut items).await;
    }
    Ok(())
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}
