//! What the packager produces and everything downstream consumes: parts of segments.
//!
//! A *segment* starts at a key frame and lasts about two seconds; a *part* is one CMAF
//! fragment of it, about 200 ms, with every track muxed in. The bytes of a segment are
//! its parts' bytes one after the other. An *init* is the `ftyp`+`moov` that parts need
//! before them.

use bytes::Bytes;

/// Ticks per second of every time in this crate's public types.
///
/// Video tracks use the same timescale inside the file, so a segment's first video
/// timestamp is exactly the `baseMediaDecodeTime` of its first fragment.
pub const TIMESCALE: u32 = 90_000;

/// One thing that leaves a packager, in stream order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packaged {
    /// Comes first, and again before the first part that needs a new one.
    Init(Init),
    /// One fragment.
    Part(Part),
}

/// Initialisation segment: `ftyp` and `moov`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// Counts the inits of one stream from 0; parts name theirs.
    pub index: u32,
    /// What the tracks are.
    pub tracks: Tracks,
    /// The bytes of the init.
    pub data: Bytes,
}

/// One CMAF fragment (`moof`+`mdat`) with all tracks muxed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Number of the segment it belongs to; goes up by one per segment and never back,
    /// over reconnects of the encoder too.
    pub segment: u64,
    /// Position within the segment, from 0.
    pub index: u32,
    /// The [`Init::index`] it decodes with.
    pub init: u32,
    /// How many discontinuities lie before it in the stream's life.
    pub discontinuity: u32,
    /// Where it begins, in [`TIMESCALE`] ticks: for the first part of a segment the
    /// presentation time of its key frame (of its first audio sample when there is no
    /// video), for later parts as far after that as they are decoded after it.
    pub start: u64,
    /// Length in [`TIMESCALE`] ticks, up to the start of the next part.
    pub duration: u32,
    /// Wall clock of [`Part::start`] at the ingest, in milliseconds since 1970.
    pub program_date_time_ms: u64,
    /// Starts with a key frame (or is audio only).
    pub independent: bool,
    /// No further part of this segment follows.
    pub last: bool,
    /// The bytes of the fragment.
    pub data: Bytes,
}

/// The tracks of a stream: at least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracks {
    /// The video track, if there is one.
    pub video: Option<VideoTrack>,
    /// The audio track, if there is one.
    pub audio: Option<AudioTrack>,
}

/// What a playlist has to say of a video track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoTrack {
    /// RFC 6381 codec string, for example `avc1.64001f`.
    pub codec: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second times 1000; 0 when the input does not say.
    pub frame_rate_milli: u32,
}

/// What a playlist has to say of an audio track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioTrack {
    /// RFC 6381 codec string, for example `mp4a.40.2`.
    pub codec: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u32,
}

/// Where a packager takes up the numbering, so that a stream outlives its encoder's
/// connection.
///
/// The default is the start of a new stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resume {
    /// Number of the first segment to write.
    pub segment: u64,
    /// Index of the first init to write.
    pub init: u32,
    /// Discontinuities so far, counting the one this resumption causes.
    pub discontinuity: u32,
    /// Earliest [`Part::start`] to write, in ticks.
    pub start: u64,
}
