//! Segments, playlists, ingest and transcoding. Knows no peers.
//!
//! An ingest ([`ingest`]) reads what an encoder or a file brings and packages it as
//! [`Part`]s of segments; a [`transcode`]r turns the parts of one stream into those of a
//! ladder of renditions; a [`hls::Timeline`] keeps the newest segments of one stream and
//! writes its playlist.

mod codec;
mod ffmpeg;
mod film;
mod fragment;
pub mod hls;
pub mod ingest;
mod packager;
mod part;
pub mod playlist;
pub mod push;
pub mod transcode;

pub use ffmpeg::FfmpegError;
pub use film::Film;
pub use packager::{PackageError, PackagerConfig};
pub use part::{AudioTrack, Init, Packaged, Part, Resume, TIMESCALE, Tracks, VideoTrack};
