//! The ladder on real media, read back by FFmpeg's own tools.

use std::collections::BTreeMap;

use crate::common::{AUDIO, VIDEO, complaints, make, package, parts, times, write};
use headwater_media::{
    Packaged, PackagerConfig, TIMESCALE,
    transcode::{Output, RungPlan, Transcoder},
};

/// Puts all items through a ladder; returns what each rung made.
async fn transcode(items: Vec<Packaged>, ladder: &str) -> (Vec<RungPlan>, Vec<Vec<Packaged>>) {
    let ladder = ladder.parse().unwrap();
    let (input, mut output) = Transcoder::start(ladder, PackagerConfig::default()).unwrap();
    let feed = tokio::spawn(async move {
        for item in items {
            assert!(input.push(item).await);
        }
    });
    let mut plan = Vec::new();
    let mut made: BTreeMap<usize, Vec<Packaged>> = BTreeMap::new();
    while let Some(output) = output.recv().await {
        match output {
            Output::Plan(rungs) => plan = rungs,
            Output::Item { rung, item } => made.entry(rung).or_default().push(item),
            Output::Failed(error) => panic!("{error}"),
        }
    }
    feed.await.unwrap();
    (plan, made.into_values().collect())
}

fn starts(items: &[Packaged]) -> Vec<(u64, u64, u64)> {
    let parts = parts(items);
    let first = parts.iter().filter(|part| part.index == 0);
    first
        .map(|part| (part.segment, part.start, part.program_date_time_ms))
        .collect()
}

async fn check(arguments: &str) {
    let dir = tempfile::tempdir().unwrap();
    let input = make(dir.path(), "in.mp4", arguments);
    let (items, _) = package(&input).unwrap();
    let source = write(dir.path(), "source.mp4", &items, None);

    let (plan, made) = transcode(items.clone(), "144p,240p").await;

    assert_eq!(plan.len(), 1, "240p would enlarge");
    let rung = &made[0];
    let segments = |items: &[Packaged]| starts(items).iter().map(|(s, ..)| *s).collect::<Vec<_>>();
    assert_eq!(segments(rung), segments(&items));
    assert_eq!(starts(rung), starts(&items), "times agree to the tick");
    let output = write(dir.path(), "rung.mp4", rung, None);
    assert_eq!(complaints(&output), "");
    assert_eq!(times(&output, "a:0"), times(&source, "a:0"));
    let (before, after) = (times(&source, "v:0"), times(&output, "v:0"));
    assert_eq!(before.len(), after.len(), "every frame once");
    let tick = 1.0 / f64::from(TIMESCALE);
    assert!(before.iter().zip(&after).all(|(b, a)| (b - a).abs() < tick));
    for segment in segments(rung) {
        let file = write(dir.path(), "one.mp4", rung, Some(segment));
        assert_eq!(complaints(&file), "", "segment {segment}");
        let both = [&items, rung].map(|items| {
            let of = parts(items)
                .into_iter()
                .filter(|part| part.segment == segment);
            of.map(|part| u64::from(part.duration)).sum::<u64>()
        });
        assert_eq!(both[0], both[1], "segments are as long as the source's");
    }
}

#[tokio::test]
async fn renditions_have_the_frames_sound_and_segments_of_their_source() {
    check(&format!(
        "{VIDEO} {AUDIO} -c:v libx264 -preset veryfast -bf 3 -g 30 -pix_fmt yuv420p -c:a aac -shortest"
    ))
    .await;
}

#[tokio::test]
async fn fractional_frame_rates_stay_exact() {
    let video = VIDEO.replace("rate=30", "rate=30000/1001");
    check(&format!(
        "{video} {AUDIO} -c:v libx264 -preset veryfast -g 30 -pix_fmt yuv420p -c:a aac -shortest"
    ))
    .await;
}

#[tokio::test]
async fn a_frame_rate_that_is_not_known_is_not_made_up() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} -c:v libx264 -preset veryfast -g 30 -pix_fmt yuv420p -an");
    let input = make(dir.path(), "in.mp4", &arguments);
    let (mut items, _) = package(&input).unwrap();
    for item in &mut items {
        if let Packaged::Init(init) = item {
            init.tracks.video.as_mut().unwrap().frame_rate_milli = 0;
        }
    }

    let (_, made) = transcode(items, "144p").await;

    let Packaged::Init(init) = &made[0][0] else {
        panic!("an init comes first");
    };
    assert_eq!(init.tracks.video.as_ref().unwrap().frame_rate_milli, 0);
}

#[tokio::test]
async fn a_transcoder_that_joins_late_begins_at_the_next_segment() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} -c:v libx264 -preset veryfast -g 30 -pix_fmt yuv420p -an");
    let input = make(dir.path(), "in.mp4", &arguments);
    let (items, _) = package(&input).unwrap();
    let late = |item: &Packaged| match item {
        Packaged::Init(_) => true,
        Packaged::Part(part) => (part.segment, part.index) > (1, 2),
    };
    let late: Vec<_> = items.iter().filter(|item| late(item)).cloned().collect();

    let (_, made) = transcode(late, "144p").await;

    assert_eq!(starts(&made[0]), starts(&items)[2..]);
}

#[tokio::test]
async fn a_new_init_restarts_the_ladder_under_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let x264 = "-c:v libx264 -preset veryfast -g 30 -pix_fmt yuv420p -an";
    let first = make(dir.path(), "a.mp4", &format!("{VIDEO} {x264}"));
    let video = VIDEO.replace("320x180", "640x360");
    let second = make(dir.path(), "b.mp4", &format!("{video} {x264}"));
    let (mut items, end) = package(&first).unwrap();
    items.extend(crate::common::package_from(&second, end).unwrap().0);

    let (plan, made) = transcode(items.clone(), "144p").await;

    assert_eq!(plan.len(), 1);
    assert_eq!(starts(&made[0]), starts(&items));
    let inits = made[0]
        .iter()
        .filter(|item| matches!(item, Packaged::Init(_)))
        .count();
    assert_eq!(inits, 2);
    let last = *parts(&made[0]).last().unwrap();
    assert_eq!((last.init, last.discontinuity), (1, 1));
}

#[tokio::test]
async fn a_source_without_video_has_no_renditions() {
    let dir = tempfile::tempdir().unwrap();
    let input = make(dir.path(), "a.m4a", &format!("{AUDIO} -c:a aac"));
    let (items, _) = package(&input).unwrap();

    let (plan, made) = transcode(items, "144p").await;

    assert!(plan.is_empty() && made.is_empty());
}

#[tokio::test]
async fn broken_parts_cost_their_frames_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} -c:v libx264 -preset veryfast -g 30 -pix_fmt yuv420p -an");
    let input = make(dir.path(), "in.mp4", &arguments);
    let (mut items, _) = package(&input).unwrap();
    for item in &mut items {
        if let Packaged::Part(part) = item
            && part.segment == 1
        {
            let mut bytes = part.data.to_vec();
            let header = bytes.len() / 2;
            for byte in &mut bytes[header..] {
                *byte ^= 0x5a;
            }
            part.data = bytes.into();
        }
    }

    let (_, made) = transcode(items.clone(), "144p").await;

    let last = starts(&items).pop().unwrap();
    assert_eq!(
        starts(&made[0]).pop().unwrap(),
        last,
        "later segments are made"
    );
}
