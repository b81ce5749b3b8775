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

use super::interrupted;
use crate::pipeline::RealTime;

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// The file; H.264 or HEVC video and AAC audio
    input: PathBuf,
    /// Where to, with the stream key: rtmp://HOST/live/KEY
    #[arg(long, value_name = "URL")]
    to: String,
    /// Begin again at the end
    #[arg(long = "loop")]
    repeat: bool,
}

pub(super) async fn run(args: PublishArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.to.starts_with("rtmp://"),
        "--to is an address such as rtmp://127.0.0.1/live/KEY"
    );
    let probe = ingest::probe(&args.input)?;
    let bar = ProgressBar::new(probe.duration.as_secs());
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {elapsed_precise} of {msg} sent",
    )?);
    bar.set_message(humantime::format_duration(whole(probe.duration)).to_string());
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let progress = bar.clone();
    let sending = tokio::task::spawn_blocking(move || {
        let mut report = |at: push::Progress| {
            let length = at.length.as_secs().max(1);
            progress.set_position(at.sent.as_secs() % length);
            if stopped.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        push::run(
            &args.input,
            &args.to,
            args.repeat,
            &mut RealTime::default(),
            &mut report,
        )
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
    result.context("the sending thread failed")??;
    Ok(())
}

const fn whole(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs())
}
