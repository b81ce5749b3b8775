//! Where media and protocol meet: streams in, streams out, streams transcoded.

mod broadcast;
mod library;
mod origin;
mod place;
mod renditions;
mod served;
mod transcode;

pub use broadcast::{
    Broadcasts, BroadcastsConfig, EndReason, Hook, Ingest, LiveBroadcast, PublishError, RealTime,
};
pub use library::{Library, LibraryConfig, LiveStream, PlayError};
pub use origin::{Complete, Origin, OriginError, SharedTimeline};
pub use transcode::{HeldStatus, Transcoding, TranscodingConfig};

use headwater_media::{Packaged, Part};
use headwater_proto::{MediaInfo, Position};

fn position_of(part: &Part) -> Position {
    Position {
        segment: part.segment,
        part: part.index,
    }
}

fn info_of(part: &Part) -> MediaInfo {
    MediaInfo {
        init: part.init,
        start: part.start,
        duration: part.duration,
        program_date_time_ms: part.program_date_time_ms,
        discontinuity: part.discontinuity,
        independent: part.independent,
        last: part.last,
    }
}

/// A part as it came over the network.
fn part_of(position: Position, media: MediaInfo, data: bytes::Bytes) -> Packaged {
    Packaged::Part(Part {
        segment: position.segment,
        index: position.part,
        init: media.init,
        discontinuity: media.discontinuity,
        start: media.start,
        duration: media.duration,
        program_date_time_ms: media.program_date_time_ms,
        independent: media.independent,
        last: media.last,
        data,
    })
}

/// Chunks as one piece; a single chunk is not copied.
fn join(chunks: Vec<bytes::Bytes>) -> bytes::Bytes {
    match <[bytes::Bytes; 1]>::try_from(chunks) {
        Ok([single]) => single,
        Err(chunks) => chunks.concat().into(),
    }
}
