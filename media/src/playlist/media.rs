//! Media playlists. m3u8-rs leaves out EXT-X-MEDIA-SEQUENCE:0 and has none of the tags
//! of low latency, so they are written here; tests read them back with it.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::part::TIMESCALE;

/// One segment of a media playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Ticks.
    pub(crate) start: u64,
    /// Ticks.
    pub(crate) duration: u64,
    pub(crate) init: u32,
    pub(crate) discontinuity: u32,
    pub(crate) program_date_time_ms: u64,
    /// It cannot be had.
    pub(crate) gap: bool,
    /// It begins with a key frame.
    pub(crate) independent: bool,
}

/// Writes a media playlist of consecutive segments. `base` precedes every URI.
pub(crate) fn write_media(
    base: &str,
    target_duration: Duration,
    segments: &[Segment],
    ended: bool,
) -> String {
    let first = segments.first();
    let mut text = String::with_capacity(256 + segments.len() * 128);
    text.push_str("#EXTM3U\n#EXT-X-VERSION:8\n");
    if segments
        .iter()
        .all(|segment| segment.independent || segment.gap)
    {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    // Writing to a string cannot fail.
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _infallible = text.write_fmt(format_args!("{line}\n"));
    };
    line(format_args!(
        "#EXT-X-TARGETDURATION:{}",
        target_duration.as_secs()
    ));
    line(format_args!(
        "#EXT-X-MEDIA-SEQUENCE:{}",
        first.map_or(0, |s| s.number)
    ));
    line(format_args!(
        "#EXT-X-DISCONTINUITY-SEQUENCE:{}",
        first.map_or(0, |s| s.discontinuity)
    ));
    let mut init = None;
    let mut discontinuity = first.map_or(0, |s| s.discontinuity);
    for segment in segments {
        // One tag stands for one discontinuity; several can lie between two segments.
        for _ in discontinuity..segment.discontinuity {
            line(format_args!("#EXT-X-DISCONTINUITY"));
        }
        discontinuity = segment.discontinuity;
        if init != Some(segment.init) {
            init = Some(segment.init);
            line(format_args!(
                "#EXT-X-MAP:URI=\"{base}/init-{}.mp4\"",
                segment.init
            ));
        }
        line(format_args!(
            "#EXT-X-PROGRAM-DATE-TIME:{}",
            rfc3339(segment.program_date_time_ms)
        ));
        if segment.gap {
            line(format_args!("#EXT-X-GAP"));
        }
        line(format_args!(
            "#EXTINF:{},",
            seconds(segment.start, segment.duration)
        ));
        line(format_args!("{base}/{}.m4s", segment.number));
    }
    if ended {
        line(format_args!("#EXT-X-ENDLIST"));
    }
    text
}

/// Length with five decimals, from the rounded ends, so that roundings never add up.
fn seconds(start: u64, duration: u64) -> String {
    let round = |ticks: u64| (ticks * 100_000 + u64::from(TIMESCALE) / 2) / u64::from(TIMESCALE);
    let length = round(start + duration) - round(start);
    format!("{}.{:05}", length / 100_000, length % 100_000)
}

/// RFC 3339 with milliseconds, in UTC.
fn rfc3339(unix_ms: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use m3u8_rs::parse_media_playlist_res;

    use super::*;

    fn segment(number: u64, discontinuity: u32) -> Segment {
        Segment {
            number,
            start: number * 180_180,
            duration: 180_180,
            init: discontinuity,
            discontinuity,
            program_date_time_ms: 1_800_000_000_000 + number * 2002,
            gap: number == 8,
            independent: true,
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let segments = [segment(7, 1), segment(8, 1), segment(9, 2)];

        let text = write_media("x", Duration::from_secs(4), &segments, true);

        let read = parse_media_playlist_res(text.as_bytes()).unwrap();
        assert_eq!(read.media_sequence, 7);
        assert_eq!(read.discontinuity_sequence, 1);
        assert_eq!(read.target_duration, 4);
        assert!(read.end_list);
        let uris: Vec<_> = read.segments.iter().map(|s| s.uri.as_str()).collect();
        assert_eq!(uris, ["x/7.m4s", "x/8.m4s", "x/9.m4s"]);
        let breaks: Vec<_> = read.segments.iter().map(|s| s.discontinuity).collect();
        assert_eq!(breaks, [false, false, true]);
        assert_eq!(read.segments[0].map.as_ref().unwrap().uri, "x/init-1.mp4");
        assert!(read.segments[1].map.is_none());
        assert!((read.segments[0].duration - 2.002).abs() < 1e-6);
        let time = read.segments[0].program_date_time.unwrap();
        assert_eq!(time.timestamp_millis(), 1_800_000_014_014);
        assert!(
            text.contains("#EXT-X-GAP\n#EXTINF:2.00200,\nx/8.m4s\n"),
            "{text}"
        );
    }

    #[test]
    fn sequence_numbers_stand_there_even_when_they_are_zero() {
        let text = write_media("x", Duration::from_secs(4), &[segment(0, 0)], false);

        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:0\n"));
        assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:0\n"));
        assert!(!text.contains("ENDLIST"));
    }

    #[test]
    fn rounded_lengths_never_drift_from_the_true_time() {
        let (mut written, step) = (0.0, 180_181_u64);
        for number in 0..1000 {
            written += seconds(number * step, step).parse::<f64>().unwrap();
        }
        let truth = (1000 * step) as f64 / f64::from(TIMESCALE);
        assert!((written - truth).abs() < 1e-4, "{written} {truth}");
    }
}
