//! Segments, playlists, ingest and transcoding. Knows no peers.

mod part;

pub use part::{AudioTrack, Init, Packaged, Part, Resume, TIMESCALE, Tracks, VideoTrack};
