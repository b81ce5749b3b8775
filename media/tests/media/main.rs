//! Media in and out, made and read back by FFmpeg's own tools.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot make its media has failed"
)]

mod common;
mod ingest;
mod push;
mod rtmp;
mod transcode;
