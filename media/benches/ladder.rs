//! The ladder in process against one `ffmpeg` command that does the same, in one run.
//!
//! `cargo bench -p headwater-media --bench ladder`; prints seconds and the ratio.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run has nothing to report, and reports on stdout"
)]

use std::{
    ops::ControlFlow,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use headwater_media::{
    Packaged, PackagerConfig, Resume,
    ingest::{Clock, FileOptions, run_file},
    transcode::{Output, Transcoder},
};

/// Name, size and bitrate of each rung, as `Ladder` has them.
const RUNGS: [(&str, &str, &str); 4] = [
    ("720p", "1280:720", "2800k"),
    ("480p", "852:480", "1200k"),
    ("360p", "640:360", "700k"),
    ("240p", "426:240", "350k"),
];
const ROUNDS: usize = 3;

struct Still;

impl Clock for Still {
    fn unix_ms(&mut self) -> u64 {
        0
    }

    fn wait_until(&mut self, _: Duration) {}
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let clip = dir.path().join("clip.mp4");
    ffmpeg(
        "-f lavfi -i testsrc2=size=1920x1080:rate=30:duration=10 \
         -f lavfi -i sine=frequency=300:sample_rate=48000:duration=10 \
         -c:v libx264 -preset veryfast -g 60 -pix_fmt yuv420p -b:v 6M -c:a aac -shortest",
        &clip,
    );
    let mut best = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(ours(&clip));
        best[1] = best[1].min(theirs(&clip, dir.path()));
    }
    let [ours, theirs] = best;
    println!(
        "10 s of 1080p30 into {} rungs, best of {ROUNDS}",
        RUNGS.len()
    );
    println!("in process: {ours:.2} s; ffmpeg command: {theirs:.2} s");
    println!("speed against the command: {:.2}", theirs / ours);
}

fn ours(clip: &Path) -> f64 {
    let began = Instant::now();
    let names: Vec<_> = RUNGS.iter().map(|(name, ..)| *name).collect();
    let ladder = names.join(",").parse().unwrap();
    let (input, mut output) = Transcoder::start(ladder, PackagerConfig::default()).unwrap();
    let clip = clip.to_owned();
    let reader = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut sink = |item| {
            if runtime.block_on(input.push(item)) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let fast = FileOptions {
            fast: true,
            repeat: false,
        };
        let config = PackagerConfig::default();
        run_file(
            &clip,
            fast,
            config,
            Resume::default(),
            &mut Still,
            &mut sink,
        )
        .unwrap();
    });
    let mut parts = 0;
    while let Some(item) = output.blocking_recv() {
        match item {
            Output::Item {
                item: Packaged::Part(_),
                ..
            } => parts += 1,
            Output::Item { .. } | Output::Plan(_) => {}
            Output::Failed(error) => panic!("{error}"),
        }
    }
    reader.join().unwrap();
    assert!(parts >= RUNGS.len() * 40, "{parts} parts");
    began.elapsed().as_secs_f64()
}

fn theirs(clip: &Path, dir: &Path) -> f64 {
    let began = Instant::now();
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-i"]).arg(clip);
    for (name, size, rate) in RUNGS {
        command
            .args([
                "-map",
                "0:v",
                "-map",
                "0:a",
                "-vf",
                &format!("scale={size}"),
            ])
            .args(["-c:v", "libx264", "-preset", "veryfast", "-bf", "0"])
            .args(["-x264-params", "scenecut=0:rc-lookahead=10", "-g", "60"])
            .args([
                "-b:v", rate, "-maxrate", rate, "-bufsize", rate, "-c:a", "copy",
            ])
            .arg(dir.join(format!("{name}.mp4")));
    }
    assert!(command.status().unwrap().success());
    began.elapsed().as_secs_f64()
}

fn ffmpeg(arguments: &str, to: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}
