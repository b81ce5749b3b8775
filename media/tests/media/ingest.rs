//! Files and the test pattern, packaged for real and read back by FFmpeg's own tools.

use std::ops::ControlFlow;

use crate::common::{
    AUDIO, Still, VIDEO, complaints, make, package, package_from, parts, times, write,
};
use headwater_media::{
    Film, Packaged, PackagerConfig, Resume, TIMESCALE,
    ingest::{IngestError, TestSource, probe, run_flv, run_test_source},
};

const X264: &str = "-c:v libx264 -preset veryfast -pix_fmt yuv420p";

#[test]
fn times_of_both_tracks_are_those_of_the_input_up_to_one_common_shift() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} {AUDIO} {X264} -bf 3 -g 30 -c:a aac -shortest");
    let input = make(dir.path(), "in.mp4", &arguments);

    let (items, _) = package(&input).unwrap();
    let output = write(dir.path(), "out.mp4", &items, None);

    let mut shifts = Vec::new();
    for track in ["v:0", "a:0"] {
        let (before, after) = (times(&input, track), times(&output, track));
        // Audio from before the first picture, which AAC's priming makes, is left out.
        let skipped = before.len() - after.len();
        assert!(skipped <= 3, "{track}: {skipped} packets are missing");
        let pairs = before.iter().skip(skipped).zip(&after);
        shifts.extend(pairs.map(|(before, after)| after - before));
    }
    let tick = 1.0 / f64::from(TIMESCALE);
    let skew = |shift: &f64| (shift - shifts[0]).abs();
    assert!(shifts.iter().all(|shift| skew(shift) < tick), "{shifts:?}");
    assert_eq!(complaints(&output), "");
}

#[test]
fn segments_begin_at_key_frames_and_each_decodes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} {AUDIO} {X264} -g 30 -c:a aac -shortest");
    let input = make(dir.path(), "in.mp4", &arguments);

    let (items, end) = package(&input).unwrap();

    let parts = parts(&items);
    let segments: Vec<_> = parts.iter().filter(|part| part.index == 0).collect();
    let starts: Vec<_> = segments
        .iter()
        .map(|part| part.start - segments[0].start)
        .collect();
    assert_eq!(starts, [0, 90_000, 270_000, 450_000], "a short one first");
    assert!(segments.iter().all(|part| part.independent));
    for pair in parts.windows(2) {
        let end = pair[0].start + u64::from(pair[0].duration);
        assert_eq!(end, pair[1].start, "parts leave no hole");
        assert_eq!(pair[0].last, pair[1].index == 0);
        assert!(
            pair[0].duration <= 90_000 / 5 + 3000,
            "{}",
            pair[0].duration
        );
    }
    assert!(parts.last().unwrap().last);
    assert_eq!(end.segment, 4);
    for segment in 0..4 {
        let file = write(dir.path(), "one.mp4", &items, Some(segment));
        assert_eq!(complaints(&file), "", "segment {segment}");
    }
}

#[test]
fn long_groups_are_cut_so_that_the_target_duration_holds() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} {X264} -g 600 -keyint_min 600 -an");
    let input = make(dir.path(), "in.mp4", &arguments);

    let (items, _) = package(&input).unwrap();

    let parts = parts(&items);
    let longest = (0..=parts.last().unwrap().segment).map(|segment| {
        let of = parts.iter().filter(|part| part.segment == segment);
        of.map(|part| u64::from(part.duration)).sum::<u64>()
    });
    assert!(longest.max().unwrap() <= 4 * 90_000);
    assert!(
        parts
            .iter()
            .any(|part| part.index == 0 && !part.independent)
    );
}

#[test]
fn a_resumed_stream_goes_on_counting() {
    let dir = tempfile::tempdir().unwrap();
    let input = make(dir.path(), "in.mp4", &format!("{VIDEO} {X264} -g 30 -an"));
    let (first, end) = package(&input).unwrap();

    let (second, _) = package_from(&input, end).unwrap();

    let (first, last) = (parts(&second)[0], *parts(&first).last().unwrap());
    assert_eq!(first.segment, last.segment + 1);
    assert_eq!(first.discontinuity, last.discontinuity + 1);
    assert_eq!(first.init, last.init + 1);
    assert!(first.start >= last.start + u64::from(last.duration));
}

#[test]
fn audio_only_and_video_only_files_play() {
    let dir = tempfile::tempdir().unwrap();
    let audio = make(dir.path(), "a.m4a", &format!("{AUDIO} -c:a aac"));
    let video = make(dir.path(), "v.mp4", &format!("{VIDEO} {X264} -g 30 -an"));

    for file in [audio, video] {
        let (items, end) = package(&file).unwrap();
        let output = write(dir.path(), "out.mp4", &items, None);
        assert_eq!(complaints(&output), "");
        assert!(end.segment >= 3, "{end:?}");
    }
}

#[test]
fn other_audio_becomes_aac_without_losing_time() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} {AUDIO} {X264} -g 30 -c:a libmp3lame -shortest");
    let input = make(dir.path(), "in.mp4", &arguments);

    let (items, _) = package(&input).unwrap();

    let Packaged::Init(init) = &items[0] else {
        panic!("an init comes first");
    };
    assert_eq!(init.tracks.audio.as_ref().unwrap().codec, "mp4a.40.2");
    let output = write(dir.path(), "out.mp4", &items, None);
    assert_eq!(complaints(&output), "");
    let (video, audio) = (times(&output, "v:0"), times(&output, "a:0"));
    assert!((video.last().unwrap() - audio.last().unwrap()).abs() < 0.2);
}

#[test]
fn what_is_no_media_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "not a film\n".repeat(1000)).unwrap();
    let missing = dir.path().join("missing.mp4");
    let vp8 = make(dir.path(), "v.webm", &format!("{VIDEO} -c:v libvpx -t 1"));

    assert!(matches!(probe(&text), Err(IngestError::NotMedia { .. })));
    let error = probe(&missing).unwrap_err().to_string();
    assert!(error.contains("missing.mp4"), "{error}");
    assert!(matches!(probe(dir.path()), Err(IngestError::Read { .. })));
    for error in [probe(&vp8).unwrap_err(), package(&vp8).unwrap_err()] {
        let error = error.to_string();
        assert!(error.contains("vp8") && error.contains("H.264"), "{error}");
    }
}

#[test]
fn the_test_pattern_plays() {
    let dir = tempfile::tempdir().unwrap();
    let source = TestSource {
        width: 320,
        height: 180,
        duration: Some(std::time::Duration::from_secs(5)),
        ..TestSource::default()
    };
    let mut items = Vec::new();
    let mut sink = |item| {
        items.push(item);
        ControlFlow::Continue(())
    };

    let config = PackagerConfig::default();
    run_test_source(source, config, Resume::default(), &mut Still, &mut sink).unwrap();

    let output = write(dir.path(), "out.mp4", &items, None);
    assert_eq!(complaints(&output), "");
    assert_eq!(times(&output, "v:0").len(), 150);
    assert!(times(&output, "a:0").len() >= 230);
}

#[test]
fn a_film_rate_is_named_as_players_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = "-f lavfi -i testsrc2=size=160x90:rate=24000/1001:duration=1 -c:v libx264";
    let film = make(dir.path(), "film.flv", arguments);

    let video = probe(&film).unwrap().tracks.video.unwrap();

    assert_eq!(video.frame_rate_milli, 23_976);
}

/// Encoders are cut off at any point, and their broadcasts are taken up where they were.
#[test]
fn an_encoder_that_is_gone_before_its_first_picture_has_published_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let film = make(dir.path(), "film.flv", &format!("{VIDEO} {X264} -t 1"));
    let film = std::fs::read(film).unwrap();
    let resume = Resume {
        segment: 7,
        init: 2,
        discontinuity: 2,
        start: 1_000_000,
    };
    let (media, next) = first_media(&film);
    let cut_off = [0, 13, 20, media].map(|len| film[..len].to_vec());
    let without_key_frame = [&film[..media], &film[next..]].concat();
    for sent in cut_off.into_iter().chain([without_key_frame]) {
        let len = sent.len();
        let mut sink = |item| panic!("{item:?}");

        let config = PackagerConfig::default();
        let sent = std::io::Cursor::new(sent);
        let ended = run_flv(sent, config, resume, &mut Still, &mut sink).unwrap();

        assert_eq!(ended, resume, "after {len} bytes");
    }
}

/// Beginning and end of the first tag of an FLV file that is no script and no sequence
/// header.
fn first_media(film: &[u8]) -> (usize, usize) {
    let mut at = 13;
    loop {
        let len = u32::from_be_bytes([0, film[at + 1], film[at + 2], film[at + 3]]);
        let next = at + len as usize + 15;
        if film[at] != 18 && film[at + 12] != 0 {
            return (at, next);
        }
        at = next;
    }
}

#[test]
fn a_film_of_a_late_part_of_a_broadcast_begins_at_zero() {
    let dir = tempfile::tempdir().unwrap();
    let film = make(
        dir.path(),
        "a.mp4",
        &format!("{VIDEO} {AUDIO} {X264} -g 30 -bf 2 -c:a aac"),
    );
    let late = Resume {
        start: 3600 * u64::from(TIMESCALE),
        ..Resume::default()
    };
    let (items, _) = package_from(&film, late).unwrap();
    let broadcast = write(dir.path(), "broadcast.mp4", &items, None);
    let mut film = Film::default();
    let mut bytes = Vec::new();
    for item in &items {
        let mut data = match item {
            Packaged::Init(init) => init.data.to_vec(),
            Packaged::Part(part) => part.data.to_vec(),
        };
        film.set_back(&mut data);
        bytes.extend(data);
    }
    let kept = dir.path().join("kept.mp4");
    std::fs::write(&kept, bytes).unwrap();

    assert_eq!(complaints(&kept), "");
    for track in ["v:0", "a:0"] {
        let (before, after) = (times(&broadcast, track), times(&kept, track));
        assert!(before[0] > 3600.0 && after[0] < 1.1, "{track}: {after:?}");
        let set_back = (before[0] - after[0]).round();
        for (before, after) in before.iter().zip(&after) {
            assert!((before - after - set_back).abs() < 1e-5, "{track}");
        }
    }
}
