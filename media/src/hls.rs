//! The newest segments of one stream, as players ask for them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    part::{Init, Packaged, Part, TIMESCALE, Tracks},
    playlist::{Segment, write_media},
};

/// How much of a stream is kept for players.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineConfig {
    /// EXT-X-TARGETDURATION; constant for the stream's life.
    pub target_duration: Duration,
    /// Segments in the playlist.
    pub window: usize,
    /// Bytes kept at most; the playlist becomes shorter when they do not suffice.
    pub max_bytes: usize,
}

impl Default for TimelineConfig {
    fn default() -> Self {
        Self {
            target_duration: Duration::from_secs(4),
            window: 8,
            max_bytes: 128 * 1024 * 1024,
        }
    }
}

/// Bitrates of the segments that were seen, in bits per second, container included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// Of the segment with the highest.
    pub peak: u32,
    /// Of all together.
    pub average: u32,
}

/// A window of complete segments.
///
/// A segment appears when its last part is here; one that lacks a part becomes a gap.
/// Segments stay for as long again after they left the playlist, for players that hold
/// an older one.
#[derive(Debug)]
pub struct Timeline {
    config: TimelineConfig,
    inits: BTreeMap<u32, Init>,
    segments: VecDeque<Kept>,
    open: Option<Open>,
    /// The next segment number that may be added.
    next: Option<u64>,
    ended: bool,
    peak: u64,
    total_bits: u128,
    total_ticks: u128,
    ignored: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    segment: Segment,
    parts: Vec<Bytes>,
}

/// The segment whose parts are coming in.
#[derive(Debug)]
struct Open {
    first: Part,
    parts: Vec<Bytes>,
    ticks: u64,
}

impl Timeline {
    /// An empty window.
    #[must_use]
    pub const fn new(config: TimelineConfig) -> Self {
        Self {
            config,
            inits: BTreeMap::new(),
            segments: VecDeque::new(),
            open: None,
            next: None,
            ended: false,
            peak: 0,
            total_bits: 0,
            total_ticks: 0,
            ignored: 0,
            bytes: 0,
        }
    }

    /// Takes the next item of the stream. What is out of order is ignored and counted.
    pub fn push(&mut self, item: Packaged) {
        match item {
            Packaged::Init(init) => {
                self.inits.insert(init.index, init);
            }
            Packaged::Part(part) => self.push_part(&part),
        }
    }

    /// Notes that nothing before segment `to` will come any more.
    pub fn gap(&mut self, to: u64) {
        self.open = None;
        self.fill(to);
    }

    /// Notes the end of the stream.
    pub const fn end(&mut self) {
        self.ended = true;
    }

    /// The stream has ended.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// There is something to play.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.segments.iter().any(|kept| !kept.segment.gap)
    }

    /// What the newest init says of the tracks.
    #[must_use]
    pub fn tracks(&self) -> Option<&Tracks> {
        self.inits.last_key_value().map(|(_, init)| &init.tracks)
    }

    /// Number of the newest segment, gaps included.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.segments.back().map(|kept| kept.segment.number)
    }

    /// Items that came twice or too late.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Bitrates so far.
    #[must_use]
    pub fn bandwidth(&self) -> Bandwidth {
        let average = self.total_bits * u128::from(TIMESCALE) / self.total_ticks.max(1);
        Bandwidth {
            peak: u32::try_from(self.peak).unwrap_or(u32::MAX),
            average: u32::try_from(average).unwrap_or(u32::MAX),
        }
    }

    /// The media playlist; URIs are `base/init-N.mp4` and `base/N.m4s`.
    #[must_use]
    pub fn playlist(&self, base: &str) -> String {
        let skip = self.segments.len().saturating_sub(self.config.window);
        let shown: Vec<_> = self
            .segments
            .iter()
            .skip(skip)
            .map(|k| k.segment.clone())
            .collect();
        write_media(base, self.config.target_duration, &shown, self.ended)
    }

    /// The bytes of an init.
    #[must_use]
    pub fn init(&self, index: u32) -> Option<Bytes> {
        self.inits.get(&index).map(|init| init.data.clone())
    }

    /// The bytes of a segment, in pieces.
    #[must_use]
    pub fn segment(&self, number: u64) -> Option<Vec<Bytes>> {
        let kept = self
            .segments
            .iter()
            .find(|kept| kept.segment.number == number)?;
        (!kept.segment.gap).then(|| kept.parts.clone())
    }

    fn push_part(&mut self, part: &Part) {
        let late = self.next.is_some_and(|next| part.segment < next);
        if self.ended || late {
            self.ignored += 1;
            return;
        }
        let follows = self.open.as_ref().is_some_and(|open| {
            part.segment == open.first.segment && part.index as usize == open.parts.len()
        });
        if let (true, Some(open)) = (follows, &mut self.open) {
            open.ticks += u64::from(part.duration);
            open.parts.push(part.data.clone());
        } else if part.index == 0 {
            // Playing begins at a key frame.
            if self.segments.is_empty() && !part.independent {
                return;
            }
            self.open = Some(Open {
                parts: vec![part.data.clone()],
                ticks: u64::from(part.duration),
                first: part.clone(),
            });
        } else {
            let known = self
                .open
                .as_ref()
                .is_some_and(|o| o.first.segment == part.segment);
            self.ignored += u64::from(known);
            return;
        }
        if part.last {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(Open {
            first,
            parts,
            ticks,
        }) = self.open.take()
        else {
            return;
        };
        self.fill(first.segment);
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let bits = bytes as u64 * 8;
        self.peak = self.peak.max(bits * u64::from(TIMESCALE) / ticks.max(1));
        self.total_bits += u128::from(bits);
        self.total_ticks += u128::from(ticks);
        self.next = Some(first.segment + 1);
        self.bytes += bytes;
        let segment = Segment {
            number: first.segment,
            start: first.start,
            duration: ticks,
            init: first.init,
            discontinuity: first.discontinuity,
            program_date_time_ms: first.program_date_time_ms,
            gap: false,
            independent: first.independent,
        };
        self.segments.push_back(Kept { segment, parts });
        self.evict();
    }

    /// Fills the numbers before `to` with gaps as long as the segment before them.
    fn fill(&mut self, to: u64) {
        let Some(last) = self.segments.back().map(|kept| kept.segment.clone()) else {
            return;
        };
        // A hole larger than the window leaves nothing worth showing before it.
        let from = last.number + 1;
        if to.saturating_sub(from) > self.config.window as u64 {
            self.segments.clear();
            self.bytes = 0;
            return;
        }
        for number in from..to {
            let nth = number - last.number;
            let ms = nth * last.duration * 1000 / u64::from(TIMESCALE);
            let segment = Segment {
                number,
                start: last.start + nth * last.duration,
                program_date_time_ms: last.program_date_time_ms + ms,
                gap: true,
                ..last.clone()
            };
            let parts = Vec::new();
            self.segments.push_back(Kept { segment, parts });
            self.next = Some(number + 1);
        }
    }

    fn evict(&mut self) {
        let keep = self.config.window * 2;
        while self.segments.len() > keep
            || (self.bytes > self.config.max_bytes && self.segments.len() > 1)
        {
            if let Some(gone) = self.segments.pop_front() {
                self.bytes -= gone.parts.iter().map(Bytes::len).sum::<usize>();
            }
        }
        if let Some(oldest) = self.segments.front() {
            let needed = oldest.segment.init;
            self.inits.retain(|index, _| *index >= needed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(segment: u64, index: u32, last: bool) -> Packaged {
        Packaged::Part(Part {
            segment,
            index,
            init: 0,
            discontinuity: 0,
            start: segment * 180_000 + u64::from(index) * 90_000,
            duration: 90_000,
            program_date_time_ms: segment * 2000,
            independent: index == 0,
            last,
            data: Bytes::from(vec![7; 1000]),
        })
    }

    fn filled(segments: std::ops::Range<u64>) -> Timeline {
        let mut timeline = Timeline::new(TimelineConfig::default());
        for segment in segments {
            timeline.push(part(segment, 0, false));
            timeline.push(part(segment, 1, true));
        }
        timeline
    }

    #[test]
    fn a_segment_shows_only_when_its_last_part_is_here() {
        let mut timeline = filled(0..1);
        timeline.push(part(1, 0, false));

        assert_eq!(timeline.newest(), Some(0));
        timeline.push(part(1, 1, true));
        assert_eq!(timeline.newest(), Some(1));
        assert_eq!(timeline.segment(1).unwrap().concat().len(), 2000);
        assert_eq!(timeline.bandwidth().average, 8000);
    }

    #[test]
    fn a_segment_that_lacks_a_part_is_a_gap_and_never_half_a_segment() {
        let mut timeline = filled(0..1);
        timeline.push(part(1, 1, true));
        timeline.push(part(2, 0, false));
        timeline.push(part(2, 1, true));

        let text = timeline.playlist("x");
        assert!(
            text.contains("#EXT-X-GAP\n#EXTINF:2.00000,\nx/1.m4s"),
            "{text}"
        );
        assert_eq!(timeline.segment(1), None);
        assert!(timeline.segment(2).is_some());
    }

    #[test]
    fn what_comes_twice_or_late_changes_nothing() {
        let mut timeline = filled(0..3);
        let before = timeline.playlist("x");

        timeline.push(part(1, 0, false));
        timeline.push(part(1, 1, true));

        assert_eq!(timeline.playlist("x"), before);
        assert_eq!(timeline.ignored(), 2);
    }

    #[test]
    fn segments_stay_for_a_while_after_they_left_the_playlist() {
        let timeline = filled(0..30);

        let text = timeline.playlist("x");
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:22\n"), "{text}");
        assert!(timeline.segment(21).is_some());
        assert!(timeline.segment(10).is_none());
    }

    #[test]
    fn a_join_in_mid_segment_waits_for_the_next_one() {
        let mut timeline = Timeline::new(TimelineConfig::default());
        timeline.push(part(4, 1, true));
        assert!(!timeline.is_ready());
        timeline.push(part(5, 0, false));
        timeline.push(part(5, 1, true));
        assert!(timeline.playlist("x").contains("#EXT-X-MEDIA-SEQUENCE:5\n"));
    }

    #[test]
    fn bytes_are_bounded() {
        let config = TimelineConfig {
            max_bytes: 5000,
            ..TimelineConfig::default()
        };
        let mut timeline = Timeline::new(config);
        for segment in 0..20 {
            timeline.push(part(segment, 0, true));
        }
        assert!(timeline.bytes <= 5000);
        assert_eq!(timeline.newest(), Some(19));
    }
}
