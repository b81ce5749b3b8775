//! Ways in: files, a test pattern, and encoders that publish over RTMP.

mod audio;
mod demux;
mod file;
mod flv;
pub mod rtmp;
mod test_source;

use std::{ops::ControlFlow, time::Duration};

pub use demux::{Probe, probe};
pub(crate) use demux::{best_video, open_file};
pub use file::{FileOptions, run_file};
pub use flv::run_flv;
pub use test_source::{TestSource, run_test_source};

use crate::{
    ffmpeg::FfmpegError,
    packager::PackageError,
    part::{Packaged, Resume},
};

/// Takes what an ingest makes, in order; [`ControlFlow::Break`] stops the ingest.
pub type Sink<'a> = dyn FnMut(Packaged) -> ControlFlow<()> + 'a;

/// The clocks an ingest lives by; tests bring their own.
pub trait Clock: Send {
    /// Wall clock, ms since 1970.
    fn unix_ms(&mut self) -> u64;

    /// Waits until `elapsed` has passed since the first call of it.
    fn wait_until(&mut self, elapsed: Duration);
}

/// Why an ingest ended early.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
    /// It is no media file.
    #[error("{path} is not a media file that FFmpeg can read")]
    NotMedia {
        /// The file.
        path: String,
    },
    /// Its tracks cannot be used.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// FFmpeg refused.
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
}

/// How an ingest ended: where a later one takes up.
pub type Ended = Result<Resume, IngestError>;
