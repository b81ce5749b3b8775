//! What a master playlist says of one rendition, and small values that messages share.

use std::fmt;

use crate::{StreamId, error::IdError, limits::MAX_ADDRESS_BYTES};

/// One entry of a master playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Where to subscribe.
    pub stream: StreamId,
    /// RFC 6381 codec strings, comma separated, at most
    /// [`crate::limits::MAX_CODECS_BYTES`].
    pub codecs: String,
    /// Pixels; 0 when there is no video.
    pub width: u32,
    /// Pixels; 0 when there is no video.
    pub height: u32,
    /// Frames per second times 1000; 0 when unknown.
    pub frame_rate_milli: u32,
    /// Peak segment bitrate in bits per second, container included.
    pub bandwidth: u32,
    /// Average bitrate in bits per second, container included.
    pub average_bandwidth: u32,
    /// EXT-X-TARGETDURATION in milliseconds; never changes in the stream's life.
    pub target_duration_ms: u32,
    /// Part target in milliseconds; never changes in the stream's life.
    pub part_target_ms: u32,
}

/// What a node does for the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Roles {
    /// Takes streams in.
    pub broadcaster: bool,
    /// Carries any stream for others and routes requests.
    pub relayer: bool,
    /// Turns streams into ladders of renditions.
    pub transcoder: bool,
}

/// A multiaddr in text form, bounded in length; its meaning is the network layer's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressText(Box<str>);

impl AddressText {
    /// Takes a multiaddr's text.
    ///
    /// # Errors
    /// When it is empty, does not start with `/`, is longer than
    /// [`MAX_ADDRESS_BYTES`], or has characters outside printable ASCII.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic());
        if !text.starts_with('/') || text.len() > MAX_ADDRESS_BYTES || !printable {
            return Err(IdError::AddressText);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
