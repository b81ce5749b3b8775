//! `headwater publish`.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use headwater_media::{ingest, push};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::TcpStream;

use super::{interrupted, say};
use crate::{
    config::{ConfigErrors, Problem},
    pipeline::RealTime,
    secret::Secret,
};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Port of RTMP, when the address names none.
const RTMP: &str = "1935";

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// The file; H.264 or HEVC video and AAC audio
    input: PathBuf,
    /// Where to, with the stream key: rtmp://HOST/live/KEY
    #[arg(long, value_name = "URL")]
    to: Secret,
    /// Begin again at the end
    #[arg(long = "loop")]
    repeat: bool,
}

/// What is to be sent where.
#[derive(Debug)]
pub(super) struct Publish {
    input: PathBuf,
    url: Secret,
    /// Host and port of the server.
    server: String,
    repeat: bool,
}

impl PublishArgs {
    /// Looks at the address; it has a stream key in it and is not repeated.
    pub(super) fn looked_at(self) -> Result<Publish, ConfigErrors> {
        let server = server(self.to.expose()).ok_or_else(|| {
            Problem::new("--to", "an address is such as rtmp://127.0.0.1/live/KEY")
        })?;
        Ok(Publish {
            input: self.input,
            server,
            url: self.to,
            repeat: self.repeat,
        })
    }
}

/// Host and port of an RTMP address, if it also has an application and a key.
fn server(url: &str) -> Option<String> {
    let (host, path) = url.strip_prefix("rtmp://")?.split_once('/')?;
    let (application, key) = path.split_once('/')?;
    if host.is_empty() || application.is_empty() || key.is_empty() || host.contains('@') {
        return None;
    }
    let name = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match name.rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().ok().map(|_| host.to_owned()),
        None => Some(format!("{host}:{RTMP}")),
    }
}

pub(super) async fn run(publish: Publish) -> anyhow::Result<()> {
    let probe = ingest::probe(&publish.input)?;
    reach(&publish.server).await?;
    let bar = progress_bar(probe.duration)?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let progress = bar.clone();
    let sending = tokio::task::spawn_blocking(move || {
        let mut sent = Duration::ZERO;
        let mut report = |at: push::Progress| {
            sent = at.sent;
            let length = at.length.as_secs().max(1);
            progress.set_position(sent.as_secs() % length);
            progress.set_message(clock_time(sent));
            if stopped.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let url = publish.url.expose();
        let mut clock = RealTime::default();
        push::run(&publish.input, url, publish.repeat, &mut clock, &mut report).map(|()| sent)
    });
    tokio::pin!(sending);
    let result = tokio::select! {
        result = &mut sending => result,
        interrupted = interrupted() => {
            interrupted?;
            stop.store(true, Ordering::Relaxed);
            sending.await
        }
    };
    bar.finish_and_clear();
    let sent = result
        .context("the sending thread failed")?
        .with_context(|| format!("publishing to {}", publish.server))?;
    say(format_args!("sent: {}", clock_time(sent)))
}

/// Whether somebody answers there. FFmpeg, which sends, cannot say why nobody does, and
/// waits for minutes.
async fn reach(server: &str) -> anyhow::Result<()> {
    let found = tokio::net::lookup_host(server).await;
    let addresses: Vec<_> = found
        .with_context(|| format!("there is no host for {server}; check --to"))?
        .collect();
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&addresses[..])).await;
    let unreachable = || format!("nobody answers at {server}; is the broadcaster running?");
    connected
        .with_context(unreachable)?
        .with_context(unreachable)?;
    Ok(())
}

/// A bar over the file, once for each time it is sent; for a file of unknown length, only
/// what has been sent.
fn progress_bar(length: Duration) -> anyhow::Result<ProgressBar> {
    if length.as_secs() == 0 {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} sent")?);
        return Ok(bar);
    }
    let template = format!("{{bar:30}} {{msg}} sent, a round is {}", clock_time(length));
    let bar = ProgressBar::new(length.as_secs());
    bar.set_style(ProgressStyle::with_template(&template)?);
    Ok(bar)
}

/// Hours, minutes and seconds, as players show them.
fn clock_time(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_host_an_application_and_a_key() {
        let found = |url| server(url);
        assert_eq!(found("rtmp://a/live/k"), Some("a:1935".into()));
        assert_eq!(found("rtmp://a:19/live/k"), Some("a:19".into()));
        assert_eq!(found("rtmp://[::1]/live/k"), Some("[::1]:1935".into()));
        assert_eq!(found("rtmp://[::1]:19/live/k"), Some("[::1]:19".into()));
        for url in [
            "http://a/live/k",
            "rtmp://a",
            "rtmp://a/live",
            "rtmp://a/live/",
            "rtmp:///live/k",
            "rtmp://a:x/live/k",
            "",
        ] {
            assert_eq!(found(url), None, "{url}");
        }
    }

    #[test]
    fn times_are_shown_as_players_do() {
        assert_eq!(clock_time(Duration::from_secs(61)), "1:01");
        assert_eq!(clock_time(Duration::from_secs(3 * 3600 + 5)), "3:00:05");
    }
}
