//! The demo on a real clip: what the viewer's node serves is the input, to the tick.

#![expect(
    clippy::unwrap_used,
    reason = "a demo that does not start has failed its test"
)]

use std::{path::Path, process::Stdio, time::Duration};

use headwater_e2e::{Cluster, get};
use headwater_media::playlist::parse_master;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

/// Presentation times of a track, in microseconds, in order.
async fn times(file: &Path, track: &str) -> Vec<i64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", track])
        .args(["-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let seconds = text
        .split_whitespace()
        .filter_map(|line| line.trim_end_matches(',').parse().ok());
    let mut times: Vec<i64> = seconds
        .map(|seconds: f64| (seconds * 1e6).round() as i64)
        .collect();
    times.sort_unstable();
    times
}

/// Whether every time of the output is one of the input's, moved by whole seconds.
fn is_moved_by(input: &[i64], output: &[i64], seconds: i64) -> bool {
    // ffprobe rounds to a microsecond.
    let near = |time: i64| {
        let at = input.partition_point(|input| *input < time - 2);
        input.get(at).is_some_and(|input| (input - time).abs() <= 2)
    };
    !output.is_empty() && output.iter().all(|time| near(time - seconds * 1_000_000))
}

#[tokio::test]
async fn every_rendition_plays_and_agrees_with_the_input_to_the_tick() {
    let cluster = Cluster::new().unwrap();
    let clip = cluster.dir().join("clip.mp4");
    // No two stretches look alike in time: the frame rate is fractional.
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x360:rate=30000/1001",
        ])
        .args([
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=300:sample_rate=48000",
            "-t",
            "60",
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-bf",
            "2",
            "-g",
            "30",
        ])
        .args(["-pix_fmt", "yuv420p", "-c:a", "aac"])
        .arg(&clip)
        .status()
        .await
        .unwrap();
    assert!(made.success());
    let mut demo = Command::new(cluster.binary())
        .args([
            "--log",
            "warn",
            "demo",
            "--http",
            "127.0.0.1:0",
            "--duration",
            "50s",
        ])
        .args(["--ladder", "240p,144p", "--input"])
        .arg(&clip)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let playlist = loop {
        let line = lines
            .next_line()
            .await
            .unwrap()
            .expect("the demo prints its playlist");
        if let Some(url) = line.strip_prefix("playlist: ") {
            break url.to_owned();
        }
    };

    let text = get(&playlist).await.unwrap().text().await.unwrap();
    let variants = parse_master(&text).unwrap();
    let names: Vec<_> = variants
        .iter()
        .map(|variant| variant.name.as_str())
        .collect();
    assert_eq!(names, ["source", "240p", "144p"]);
    let base = playlist.rsplit_once('/').unwrap().0.to_owned();
    let mut reading = Vec::new();
    for variant in &variants {
        let url = format!("{base}/{}", variant.uri);
        let child = Command::new("ffmpeg")
            .args(["-v", "error", "-t", "20", "-i", &url, "-f", "null", "-"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        reading.push(child);
    }
    for child in reading {
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output());
        let output = output.await.unwrap().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "",
            "ffmpeg has no complaint"
        );
    }

    let newest = get(&format!("{base}/{}", variants[2].uri))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let number = newest
        .lines()
        .rev()
        .find_map(|line| line.strip_suffix(".m4s"))
        .unwrap();
    let number = number.rsplit('/').next().unwrap().to_owned();
    let mut tracks = Vec::new();
    for variant in &variants {
        let stream = variant.uri.trim_end_matches(".m3u8");
        let mut bytes = Vec::new();
        for part in ["init-0.mp4".to_owned(), format!("{number}.m4s")] {
            let url = format!("{base}/{stream}/{part}");
            bytes.extend_from_slice(&get(&url).await.unwrap().bytes().await.unwrap());
        }
        let file = cluster.dir().join(format!("{}.mp4", variant.name));
        std::fs::write(&file, bytes).unwrap();
        tracks.push((times(&file, "v:0").await, times(&file, "a:0").await));
    }
    for other in &tracks[1..] {
        assert_eq!(
            other.0, tracks[0].0,
            "pictures of all renditions have the same times"
        );
        assert_eq!(other.1, tracks[0].1, "and so has their sound");
    }
    // The packager raises all times by whole seconds, the same for sound and picture.
    let (video, audio) = (times(&clip, "v:0").await, times(&clip, "a:0").await);
    let moved = (0..4).find(|seconds| is_moved_by(&video, &tracks[0].0, *seconds));
    let moved = moved.expect("pictures keep their times");
    assert!(
        is_moved_by(&audio, &tracks[0].1, moved),
        "sound moved otherwise: {:?}",
        tracks[0].1
    );

    let mut summary = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        summary.push(line);
    }
    assert!(demo.wait().await.unwrap().success());
    assert!(
        summary.contains(&"lost in all: 0".to_owned()),
        "{summary:#?}"
    );
}
