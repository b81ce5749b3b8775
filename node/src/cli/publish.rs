//! `headwater publish`.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use headwater_media::{
    ingest,
    push::{self, PushError},
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{net::TcpStream, time::timeout};

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
    /// The file; H.264 video and AAC audio
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
    let bar = progress_bar(probe.duration)?;
    let server = publish.server.clone();
    // Media seconds sent, and one more; 0 before the server has taken anything.
    let sent = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (progress, reported, stopped) = (bar.clone(), sent.clone(), stop.clone());
    let sending = tokio::task::spawn_blocking(move || {
        let mut report = |at: push::Progress| {
            let seconds = at.sent.as_secs();
            if reported.swap(seconds + 1, Ordering::Relaxed) <= seconds {
                progress.set_position(seconds % at.length.as_secs().max(1));
                progress.set_message(clock_time(seconds));
            }
            if stopped.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let url = publish.url.expose();
        let mut clock = RealTime::default();
        push::run(&publish.input, url, publish.repeat, &mut clock, &mut report)
    });
    tokio::pin!(sending);
    let result = tokio::select! {
        result = &mut sending => result,
        unreachable = waited_in_vain(&server, &sent) => return Err(unreachable),
        interrupted = interrupted() => {
            interrupted?;
            stop.store(true, Ordering::Relaxed);
            if sent.load(Ordering::Relaxed) == 0 {
                return Ok(());
            }
            sending.await
        }
    };
    bar.finish_and_clear();
    let seconds = sent.load(Ordering::Relaxed).checked_sub(1);
    match (result.context("the sending thread failed")?, seconds) {
        (Ok(()), seconds) => say(format_args!("sent: {}", clock_time(seconds.unwrap_or(0)))),
        (Err(PushError::Server(reason)), Some(seconds)) => {
            let after = clock_time(seconds);
            anyhow::bail!("{server} closed the connection after {after} ({reason})")
        }
        (Err(PushError::Server(reason)), None) => {
            reach(&server).await?;
            anyhow::bail!(
                "{server} refuses the stream; check its port and the stream key ({reason})"
            )
        }
        (Err(error @ (PushError::Input(_) | PushError::Unfit(_) | PushError::Ffmpeg(_))), _) => {
            Err(error.into())
        }
    }
}

/// Why the server has not taken anything after a while, if nobody answers there. FFmpeg,
/// which sends, would wait for minutes.
async fn waited_in_vain(server: &str, sent: &AtomicU64) -> anyhow::Error {
    tokio::time::sleep(CONNECT).await;
    if sent.load(Ordering::Relaxed) == 0
        && let Err(error) = reach(server).await
    {
        return error;
    }
    std::future::pending().await
}

/// Whether somebody answers there; FFmpeg cannot say why nobody does.
async fn reach(server: &str) -> anyhow::Result<()> {
    let found = tokio::net::lookup_host(server).await;
    let addresses: Vec<_> = found
        .with_context(|| format!("there is no host for {server}; check --to"))?
        .collect();
    let connected = timeout(CONNECT, TcpStream::connect(&addresses[..])).await;
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
    let template = format!(
        "{{bar:30}} {{msg}} sent, a round is {}",
        clock_time(length.as_secs())
    );
    let bar = ProgressBar::new(length.as_secs());
    bar.set_style(ProgressStyle::with_template(&template)?);
    Ok(bar)
}

/// Hours, minutes and seconds, as players show them.
fn clock_time(seconds: u64) -> String {
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
        assert_eq!(clock_time(61), "1:01");
        assert_eq!(clock_time(3 * 3600 + 5), "3:00:05");
    }
}
