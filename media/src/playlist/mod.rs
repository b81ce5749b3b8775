//! HLS playlists (RFC 8216 and draft-pantos-hls-rfc8216bis).

mod master;
mod media;

pub use master::{MasterError, Variant, parse_master, write_master};
pub(crate) use media::{Segment, write_media};
