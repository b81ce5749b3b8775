//! From encoded packets to parts of segments: where to cut, and with which numbers.
//!
//! Packets are taken in decode order of both tracks together: a video packet is looked
//! at only when audio has come up to it, so that every part holds exactly the audio of
//! its time, whoever makes it. A part is closed when the packet after it is known, so its
//! duration and whether it ends its segment are always exact.

use std::{collections::VecDeque, time::Duration};

use ff::{Packet, Rational, Rescale as _};
use ffmpeg_next as ff;

use crate::{
    ffmpeg::{FfmpegError, details},
    fragment::{Fragmenter, InputTracks, Kind},
    part::{Init, Packaged, Part, Resume, TIMESCALE, Tracks},
};

/// Lengths that a packager aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackagerConfig {
    /// Length of a part; none is longer by more than a frame.
    pub part: Duration,
    /// Length of a segment: it ends at the first key frame from there on.
    pub segment: Duration,
}

impl Default for PackagerConfig {
    fn default() -> Self {
        Self {
            part: Duration::from_millis(200),
            segment: Duration::from_secs(2),
        }
    }
}

impl PackagerConfig {
    /// The longest segment there ever is, in whole seconds: EXT-X-TARGETDURATION. A
    /// segment whose key frame does not come in time is cut without one.
    #[must_use]
    pub const fn target_duration(&self) -> Duration {
        Duration::from_secs(self.segment.as_millis().div_ceil(1000) as u64 * 2)
    }

    fn ticks(span: Duration) -> i64 {
        let ticks = span.as_micros() * u128::from(TIMESCALE) / 1_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }
}

/// Why packets could not be packaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// Neither video nor audio.
    #[error("no video and no audio that can be used")]
    NoTracks,
    /// A codec that cannot be carried.
    #[error("the codec {0} cannot be played from MP4; encode video as H.264 and audio as AAC")]
    Codec(String),
    /// FFmpeg refused.
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
}

impl PackageError {
    pub(crate) fn codec(id: ff::codec::Id) -> Self {
        Self::Codec(id.name().to_owned())
    }
}

/// A segment whose place is given rather than found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) segment: u64,
    /// Presentation time of its first frame.
    pub(crate) start: i64,
    pub(crate) discontinuity: u32,
    pub(crate) program_date_time_ms: u64,
}

/// Who decides where segments begin.
pub(crate) enum Cuts {
    /// Key frames and lengths, from a resumption on.
    Found {
        resume: Resume,
        /// Wall clock of the first packet, ms since 1970.
        epoch_ms: u64,
    },
    /// The source that this is a rendition of.
    Given {
        init: u32,
        /// Segments that have been announced and not begun.
        marks: VecDeque<Mark>,
        /// The segment that has begun.
        current: Option<Mark>,
    },
}

impl Cuts {
    /// The newest announced segment that begins at or before `pts`.
    fn due(&self, pts: i64) -> Option<Mark> {
        match self {
            Self::Found { .. } => None,
            Self::Given { marks, .. } => marks.iter().rev().find(|mark| mark.start <= pts).copied(),
        }
    }

    /// Begins the segment that is due.
    fn take(&mut self, pts: i64) {
        let due = self.due(pts);
        if let (Self::Given { marks, current, .. }, Some(mark)) = (self, due) {
            marks.retain(|later| later.start > mark.start);
            *current = Some(mark);
        }
    }
}

/// Audio may be this much late before video goes on without it.
const MAX_SKEW_TICKS: i64 = TIMESCALE as i64 / 5;
/// Times are raised by this much, so that frames that are decoded before time zero have
/// a place. A whole second is exact in every time base.
const HEADROOM_SECONDS: i64 = 1;
/// A key frame counts as in time this much before the segment's length.
const EARLY_TICKS: i64 = TIMESCALE as i64 / 50;

struct Queued {
    packet: Packet,
    pts: i64,
    dts: i64,
    key: bool,
}

struct OpenPart {
    start: i64,
    independent: bool,
}

/// Turns packets of one input into parts. See the module's text.
pub(crate) struct Packager {
    config: PackagerConfig,
    cuts: Cuts,
    tracks: Tracks,
    fragmenter: Fragmenter,
    init: Option<Init>,
    /// Video leads when there is video.
    leader: Kind,
    bases: [Rational; 2],
    input_bases: [Rational; 2],
    audio_frame: i64,
    /// Whole seconds added to every time.
    shift: Option<i64>,
    lead: VecDeque<Queued>,
    audio: VecDeque<Queued>,
    audio_until: i64,
    audio_expected: Option<i64>,
    last_dts: [Option<i64>; 2],
    /// The leading packet that is not written because its duration is not known.
    held: Option<Queued>,
    last_length: Option<i64>,
    open: Option<OpenPart>,
    /// Presentation time less decode time of the key frame that began the segment.
    composition: i64,
    segment: u64,
    segment_start: i64,
    part: u32,
    first: Option<i64>,
    last_key: Option<i64>,
    gop: i64,
    warned: bool,
    /// Packets that came before the first key frame or repaired times.
    dropped: u64,
    repaired: u64,
}

impl Packager {
    pub(crate) fn new(
        config: PackagerConfig,
        tracks: &InputTracks,
        cuts: Cuts,
    ) -> Result<Self, PackageError> {
        let leader = match (&tracks.video, &tracks.audio) {
            (Some(_), _) => Kind::Video,
            (None, Some(_)) => Kind::Audio,
            (None, None) => return Err(PackageError::NoTracks),
        };
        let described = tracks.describe().map_err(PackageError::codec)?;
        let (fragmenter, init) = Fragmenter::new(tracks)?;
        let (index, segment) = match &cuts {
            Cuts::Found { resume, .. } => (resume.init, resume.segment),
            Cuts::Given { init, .. } => (*init, 0),
        };
        let init = Init {
            index,
            tracks: described.clone(),
            data: init,
        };
        let audio_base = tracks.audio_base();
        let base = |track: &Option<crate::fragment::InputTrack>| {
            track.as_ref().map_or(Rational(1, 1), |t| t.time_base)
        };
        let audio_frame = tracks
            .audio
            .as_ref()
            .map_or(0, |track| i64::from(details(&track.parameters).frame_size));
        Ok(Self {
            config,
            cuts,
            tracks: described,
            fragmenter,
            init: Some(init),
            leader,
            bases: [InputTracks::video_base(), audio_base],
            input_bases: [base(&tracks.video), base(&tracks.audio)],
            audio_frame: if audio_frame > 0 { audio_frame } else { 1024 },
            shift: None,
            lead: VecDeque::new(),
            audio: VecDeque::new(),
            audio_until: i64::MIN,
            audio_expected: None,
            last_dts: [None; 2],
            held: None,
            last_length: None,
            open: None,
            composition: 0,
            segment,
            segment_start: 0,
            part: 0,
            first: None,
            last_key: None,
            gop: 0,
            warned: false,
            dropped: 0,
            repaired: 0,
        })
    }

    /// Announces the next segment of the source.
    pub(crate) fn mark(&mut self, mark: Mark) {
        if let Cuts::Given { marks, .. } = &mut self.cuts {
            marks.push_back(mark);
        }
    }

    /// Takes the next packet of a track; what is ready is added to `out`.
    pub(crate) fn push(
        &mut self,
        kind: Kind,
        packet: Packet,
        out: &mut Vec<Packaged>,
    ) -> Result<(), PackageError> {
        let Some(queued) = self.retime(kind, packet) else {
            return Ok(());
        };
        if kind == self.leader {
            self.lead.push_back(queued);
        } else {
            self.audio_until = self.in_ticks(kind, queued.dts);
            self.audio.push_back(queued);
        }
        self.advance(false, out)
    }

    /// Takes the end of the input. Returns where a later input takes up.
    pub(crate) fn finish(&mut self, out: &mut Vec<Packaged>) -> Result<Resume, PackageError> {
        self.advance(true, out)?;
        if let (Cuts::Found { resume, .. }, Some(_)) = (&self.cuts, &self.init) {
            // Nothing came out.
            return Ok(*resume);
        }
        let mut end = self
            .open
            .as_ref()
            .map_or(self.segment_start, |open| open.start);
        if let Some(held) = self.held.take() {
            let dts = self.in_ticks(self.leader, held.dts);
            let length = self.typical_duration(&held);
            end = dts + self.in_ticks(self.leader, length).max(1) + self.composition;
            self.write_lead(held, length)?;
        }
        if self.open.is_some() {
            self.close(end, i64::MAX, true, out)?;
        }
        let (discontinuity, init) = match &self.cuts {
            Cuts::Found { resume, .. } => (resume.discontinuity, resume.init),
            Cuts::Given { init, .. } => (0, *init),
        };
        if self.dropped + self.repaired > 0 {
            tracing::debug!(
                dropped = self.dropped,
                repaired = self.repaired,
                "odd packets"
            );
        }
        Ok(Resume {
            segment: self.segment,
            init: init + 1,
            discontinuity: discontinuity + 1,
            start: u64::try_from(end).unwrap_or(0),
        })
    }

    /// Brings a packet's times onto the stream's own timeline, and makes them sound:
    /// decode times rise, and nothing is shown before it is decoded.
    fn retime(&mut self, kind: Kind, mut packet: Packet) -> Option<Queued> {
        let at = kind as usize;
        let (from, to) = (self.input_bases[at], self.bases[at]);
        let (pts, dts) = match (packet.pts(), packet.dts()) {
            (Some(pts), Some(dts)) => (pts, dts),
            (Some(time), None) | (None, Some(time)) => (time, time),
            (None, None) => {
                self.repaired += 1;
                let guess = self.last_dts[at]? + self.guess_duration(kind);
                return Some(self.queue(kind, packet, guess, guess));
            }
        };
        let shift = match (&self.cuts, self.shift) {
            (_, Some(shift)) => shift,
            // A rendition keeps its source's times.
            (Cuts::Given { .. }, None) => 0,
            (Cuts::Found { resume, .. }, None) => {
                let first = dts.rescale_with(from, Rational(1, 1), ff::Rounding::Down);
                let start = resume.start.div_ceil(u64::from(TIMESCALE));
                i64::try_from(start).unwrap_or(0) + HEADROOM_SECONDS - first
            }
        };
        self.shift = Some(shift);
        let whole = shift * i64::from(to.denominator());
        let mut pts = pts.rescale(from, to) + whole;
        let mut dts = dts.rescale(from, to) + whole;
        if kind == Kind::Audio {
            dts = self.smooth(from, dts);
            pts = dts;
        }
        if let Some(last) = self.last_dts[at]
            && dts <= last
        {
            self.repaired += 1;
            dts = last + 1;
        }
        if pts < dts {
            self.repaired += 1;
            pts = dts;
        }
        packet.set_duration(packet.duration().rescale(from, to));
        Some(self.queue(kind, packet, pts, dts))
    }

    fn queue(&mut self, kind: Kind, packet: Packet, pts: i64, dts: i64) -> Queued {
        self.last_dts[kind as usize] = Some(dts);
        let key = packet.is_key() || kind == Kind::Audio;
        Queued {
            packet,
            pts,
            dts,
            key,
        }
    }

    /// Audio whose times are coarser than a sample is counted in samples instead, until
    /// it is off by more than a frame.
    fn smooth(&mut self, from: Rational, dts: i64) -> i64 {
        let rate = self.bases[1].denominator();
        let coarse = i64::from(from.numerator()) * i64::from(rate) > i64::from(from.denominator());
        let close = |expected: i64| (expected - dts).abs() <= self.audio_frame;
        let smooth = match self.audio_expected {
            Some(expected) if coarse && close(expected) => expected,
            Some(_) | None => dts,
        };
        self.audio_expected = Some(smooth + self.audio_frame);
        smooth
    }

    fn guess_duration(&self, kind: Kind) -> i64 {
        match kind {
            Kind::Audio => self.audio_frame,
            Kind::Video => i64::from(TIMESCALE) / 25,
        }
    }

    fn in_ticks(&self, kind: Kind, time: i64) -> i64 {
        match kind {
            Kind::Video => time,
            Kind::Audio => time.rescale(self.bases[1], self.bases[0]),
        }
    }

    fn typical_duration(&self, held: &Queued) -> i64 {
        let given = held.packet.duration();
        match self.last_length {
            _ if given > 0 => given,
            Some(length) => length,
            None => self.guess_duration(self.leader),
        }
    }

    /// Handles leading packets that audio has come up to.
    fn advance(&mut self, end: bool, out: &mut Vec<Packaged>) -> Result<(), PackageError> {
        let has_audio = self.leader == Kind::Video && self.tracks.audio.is_some();
        while let Some(front) = self.lead.front() {
            let newest = self.lead.back().map_or(0, |packet| packet.dts);
            let shown = front.dts + self.composition.max(front.pts - front.dts);
            let waits =
                has_audio && self.audio_until < shown && newest - front.dts < MAX_SKEW_TICKS;
            if waits && !end {
                break;
            }
            if let Some(next) = self.lead.pop_front() {
                self.step(next, out)?;
            }
        }
        Ok(())
    }

    /// Handles the next leading packet: closes what it ends, then holds it.
    fn step(&mut self, next: Queued, out: &mut Vec<Packaged>) -> Result<(), PackageError> {
        let dts = self.in_ticks(self.leader, next.dts);
        let pts = self.in_ticks(self.leader, next.pts);
        if self.open.is_none() {
            let given = matches!(self.cuts, Cuts::Given { .. });
            if !next.key || (given && self.cuts.due(pts).is_none()) {
                self.dropped += 1;
                return Ok(());
            }
            self.start_segment(dts, pts);
            self.drop_audio_before(pts);
            if let Some(init) = self.init.take() {
                out.push(Packaged::Init(init));
            }
            self.open_part(pts, true);
            self.held = Some(next);
            return Ok(());
        }
        if let Some(held) = self.held.take() {
            let length = next.dts - held.dts;
            self.last_length = Some(length);
            self.write_lead(held, length)?;
        }
        // Those of a rendition are where its source's are.
        let found = matches!(self.cuts, Cuts::Found { .. });
        if found && next.key && self.leader == Kind::Video {
            self.note_key(dts);
        }
        if self.is_new_segment(&next, dts, pts) {
            let end = if next.key {
                pts
            } else {
                dts + self.composition
            };
            self.close(end, end, true, out)?;
            self.start_segment(dts, if next.key { pts } else { end });
            self.open_part(end, next.key);
        } else if self.is_new_part(dts) {
            let end = dts + self.composition;
            self.close(end, end, false, out)?;
            self.open_part(end, next.key);
        }
        self.held = Some(next);
        Ok(())
    }

    fn start_segment(&mut self, dts: i64, pts: i64) {
        self.cuts.take(pts);
        if let Cuts::Given {
            current: Some(mark),
            ..
        } = &self.cuts
        {
            self.segment = mark.segment;
        }
        self.composition = pts - dts;
        self.segment_start = pts;
        self.part = 0;
        self.first.get_or_insert(pts);
    }

    fn open_part(&mut self, start: i64, independent: bool) {
        self.open = Some(OpenPart { start, independent });
    }

    fn note_key(&mut self, dts: i64) {
        if let Some(last) = self.last_key {
            self.gop = dts - last;
            let wanted = PackagerConfig::ticks(self.config.segment);
            if self.gop > wanted * 3 / 2 && !self.warned {
                self.warned = true;
                tracing::warn!(
                    seconds = self.gop / i64::from(TIMESCALE),
                    "key frames are far apart, which delays viewers; set the encoder's \
                     key frame interval to 1 or 2 s (OBS: Settings, Output, Keyframe Interval)"
                );
            }
        }
        self.last_key = Some(dts);
    }

    fn is_new_segment(&self, next: &Queued, dts: i64, pts: i64) -> bool {
        match &self.cuts {
            Cuts::Given { .. } => next.key && self.cuts.due(pts).is_some(),
            Cuts::Found { .. } => {
                let elapsed = dts + self.composition - self.segment_start;
                let wanted = PackagerConfig::ticks(self.config.segment);
                let longest = PackagerConfig::ticks(self.config.target_duration());
                // A stream shows sooner when its first segment is short.
                let first = self.first == Some(self.segment_start);
                let enough = if first { wanted / 2 } else { wanted } - EARLY_TICKS;
                let too_long = elapsed + self.gop > longest;
                let forced = elapsed + i64::from(TIMESCALE) / 10 > longest;
                (next.key && (elapsed >= enough || too_long)) || forced
            }
        }
    }

    fn is_new_part(&self, dts: i64) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        let length = dts + self.composition - open.start;
        let frame = i64::from(TIMESCALE) / 100;
        length + frame >= PackagerConfig::ticks(self.config.part)
    }

    fn drop_audio_before(&mut self, pts: i64) {
        while let Some(front) = self.audio.front()
            && self.in_ticks(Kind::Audio, front.dts) < pts
        {
            self.audio.pop_front();
            self.dropped += 1;
        }
    }

    fn write_lead(&mut self, mut queued: Queued, length: i64) -> Result<(), PackageError> {
        queued.packet.set_pts(Some(queued.pts));
        queued.packet.set_dts(Some(queued.dts));
        queued.packet.set_duration(length.max(1));
        Ok(self.fragmenter.write(self.leader, &mut queued.packet)?)
    }

    /// Ends the open part: its audio is what comes before `audio_end`.
    fn close(
        &mut self,
        end: i64,
        audio_end: i64,
        last: bool,
        out: &mut Vec<Packaged>,
    ) -> Result<(), PackageError> {
        while let Some(front) = self.audio.front()
            && self.in_ticks(Kind::Audio, front.dts) < audio_end
        {
            let Some(mut audio) = self.audio.pop_front() else {
                break;
            };
            audio.packet.set_pts(Some(audio.pts));
            audio.packet.set_dts(Some(audio.dts));
            audio.packet.set_duration(self.audio_frame);
            self.fragmenter.write(Kind::Audio, &mut audio.packet)?;
        }
        let data = self.fragmenter.flush()?;
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let (init, discontinuity, program_date_time_ms) = self.place(open.start);
        out.push(Packaged::Part(Part {
            segment: self.segment,
            index: self.part,
            init,
            discontinuity,
            start: u64::try_from(open.start).unwrap_or(0),
            duration: u32::try_from(end - open.start).unwrap_or(0),
            program_date_time_ms,
            independent: open.independent,
            last,
            data,
        }));
        self.part += 1;
        if last {
            self.segment += 1;
        }
        Ok(())
    }

    /// Init, discontinuities and wall clock of a part that starts at `start`.
    fn place(&self, start: i64) -> (u32, u32, u64) {
        let ms = |ticks: i64| ticks * 1000 / i64::from(TIMESCALE);
        match &self.cuts {
            Cuts::Found { resume, epoch_ms } => {
                let since = ms(start - self.first.unwrap_or(start));
                let wall = epoch_ms.saturating_add_signed(since);
                (resume.init, resume.discontinuity, wall)
            }
            Cuts::Given { init, current, .. } => current.map_or((*init, 0, 0), |mark| {
                let wall = mark.program_date_time_ms;
                let wall = wall.saturating_add_signed(ms(start - mark.start));
                (*init, mark.discontinuity, wall)
            }),
        }
    }
}
