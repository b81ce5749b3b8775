//! Media made by the `ffmpeg` command, and what `ffprobe` reads from ours.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use headwater_media::{
    Packaged, PackagerConfig, Part, Resume,
    ingest::{Clock, FileOptions, IngestError, run_file},
};

/// A clock that never waits.
pub(crate) struct Still;

impl Clock for Still {
    fn unix_ms(&mut self) -> u64 {
        1_800_000_000_000
    }

    fn wait_until(&mut self, _: Duration) {}
}

/// Makes a file in `dir` with the `ffmpeg` command.
pub(crate) fn make(dir: &Path, name: &str, arguments: &str) -> PathBuf {
    let path = dir.join(name);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success(), "ffmpeg {arguments}");
    path
}

pub(crate) const VIDEO: &str = "-f lavfi -i testsrc2=size=320x180:rate=30:duration=6";
pub(crate) const AUDIO: &str = "-f lavfi -i sine=frequency=300:sample_rate=48000:duration=6";

/// Packages a whole file.
pub(crate) fn package(path: &Path) -> Result<(Vec<Packaged>, Resume), IngestError> {
    package_from(path, Resume::default())
}

pub(crate) fn package_from(
    path: &Path,
    resume: Resume,
) -> Result<(Vec<Packaged>, Resume), IngestError> {
    let mut items = Vec::new();
    let options = FileOptions {
        fast: true,
        repeat: false,
    };
    let mut sink = |item| {
        items.push(item);
        ControlFlow::Continue(())
    };
    let config = PackagerConfig::default();
    let end = run_file(path, options, config, resume, &mut Still, &mut sink)?;
    Ok((items, end))
}

pub(crate) fn parts(items: &[Packaged]) -> Vec<&Part> {
    items.iter().filter_map(as_part).collect()
}

fn as_part(item: &Packaged) -> Option<&Part> {
    match item {
        Packaged::Part(part) => Some(part),
        Packaged::Init(_) => None,
    }
}

/// The bytes of everything, or of one segment with its init, as a file.
pub(crate) fn write(dir: &Path, name: &str, items: &[Packaged], segment: Option<u64>) -> PathBuf {
    let mut bytes = Vec::new();
    for item in items {
        match item {
            Packaged::Init(init) => bytes.extend_from_slice(&init.data),
            Packaged::Part(part) if segment.is_none_or(|s| s == part.segment) => {
                bytes.extend_from_slice(&part.data);
            }
            Packaged::Part(_) => {}
        }
    }
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Presentation times in seconds of one track's packets, sorted, and their sizes.
pub(crate) fn times(path: &Path, track: &str) -> Vec<f64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", track])
        .args(["-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut times: Vec<f64> = text
        .split_whitespace()
        .filter_map(|line| line.trim_end_matches(',').parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

/// What `ffmpeg` complains about when it decodes a file.
pub(crate) fn complaints(path: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap()
}
