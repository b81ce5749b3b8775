//! A stream that this node makes: every item signed, given to the core, and kept for the
//! players of this node.

use std::sync::{Arc, Mutex};

use headwater_media::{
    Packaged, Tracks,
    hls::{Bandwidth, Timeline},
};
use headwater_proto::{
    PartHeader, PayloadSize, Position, Rendition, SegmentHasher, Signed, SigningKey, Slot,
    StreamEnd, StreamId,
};
use headwater_protocol::Command;

use super::{info_of, position_of};
use crate::{
    driver::{Core, CoreError},
    mutex::lock,
    receipts::WholeSegments,
};

/// Why an item could not be published.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The core refused it or stopped.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A part is larger than anything on the wire may be.
    #[error(transparent)]
    Size(#[from] PayloadSize),
}

/// The window of a stream that players are served from.
pub type SharedTimeline = Arc<Mutex<Timeline>>;

/// A segment of which all parts are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// Its number.
    pub segment: u64,
    /// What receipts are about.
    pub hash: [u8; 32],
}

/// A stream that this node makes.
#[derive(Debug)]
pub struct Origin {
    stream: StreamId,
    key: SigningKey,
    core: Core,
    timeline: SharedTimeline,
    last: Option<Position>,
    whole: WholeSegments,
    tracks: Option<Tracks>,
}

impl Origin {
    /// Opens a stream.
    ///
    /// # Errors
    /// When the core refuses it.
    pub async fn open(
        stream: StreamId,
        key: SigningKey,
        core: Core,
        timeline: SharedTimeline,
    ) -> Result<Self, OriginError> {
        let publish = Command::Publish {
            stream: stream.clone(),
        };
        core.command(publish).await?;
        Ok(Self {
            stream,
            key,
            core,
            timeline,
            last: None,
            whole: WholeSegments::default(),
            tracks: None,
        })
    }

    /// Publishes the next item; when it completes a segment, that is returned.
    ///
    /// # Errors
    /// When a part is too large or the core refuses it.
    pub async fn push(&mut self, item: Packaged) -> Result<Option<Complete>, OriginError> {
        let (slot, media, data) = match &item {
            Packaged::Init(init) => {
                self.tracks = Some(init.tracks.clone());
                (Slot::Init(init.index), None, &init.data)
            }
            Packaged::Part(part) => {
                let position = position_of(part);
                self.last = Some(position);
                (Slot::Part(position), Some(info_of(part)), &part.data)
            }
        };
        let stream = self.stream.clone();
        let (header, chunks) = PartHeader::for_payload(stream, slot, media, data)?;
        let complete = match &item {
            Packaged::Init(_) => None,
            Packaged::Part(part) => {
                let add = |hasher: &mut SegmentHasher| hasher.header(&header);
                let hash = self.whole.part(position_of(part), part.last, add);
                hash.map(|hash| Complete {
                    segment: part.segment,
                    hash,
                })
            }
        };
        let header = Signed::sign(header, &self.key);
        self.core
            .command(Command::Append { header, chunks })
            .await?;
        lock(&self.timeline).push(item);
        Ok(complete)
    }

    /// Its id.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Ends the stream for everybody.
    ///
    /// # Errors
    /// When the core has stopped.
    pub async fn finish(self) -> Result<(), OriginError> {
        lock(&self.timeline).end();
        let end = StreamEnd {
            stream: self.stream,
            last: self.last,
        };
        let body = Signed::sign(end, &self.key);
        self.core.command(Command::Finish { body }).await?;
        Ok(())
    }

    /// Stops making the stream, which has not ended: it may be opened anew, from a later
    /// segment on.
    ///
    /// # Errors
    /// When the core has stopped.
    pub async fn withdraw(self) -> Result<(), OriginError> {
        let stream = self.stream;
        self.core.command(Command::Unpublish { stream }).await?;
        Ok(())
    }

    /// What the master playlist says of it, once a segment is complete. A nominal
    /// bitrate keeps the figures steady while few segments have been measured.
    #[must_use]
    pub fn rendition(&self, times: PlaylistTimes, nominal: u32) -> Option<Rendition> {
        let timeline = lock(&self.timeline);
        if !timeline.is_ready() {
            return None;
        }
        let bandwidth = timeline.bandwidth();
        rendition(
            &self.stream,
            self.tracks.as_ref()?,
            bandwidth,
            times,
            nominal,
        )
    }
}

/// What never changes in the life of a playlist, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaylistTimes {
    /// EXT-X-TARGETDURATION.
    pub target_duration_ms: u32,
    /// Part target.
    pub part_target_ms: u32,
}

fn rendition(
    stream: &StreamId,
    tracks: &Tracks,
    bandwidth: Bandwidth,
    times: PlaylistTimes,
    nominal: u32,
) -> Option<Rendition> {
    let video = tracks.video.as_ref();
    let codecs: Vec<_> = video
        .map(|video| video.codec.clone())
        .into_iter()
        .chain(tracks.audio.as_ref().map(|audio| audio.codec.clone()))
        .collect();
    Some(Rendition {
        stream: stream.clone(),
        codecs: codecs.join(","),
        width: video.map_or(0, |video| video.width),
        height: video.map_or(0, |video| video.height),
        frame_rate_milli: video.map_or(0, |video| video.frame_rate_milli),
        bandwidth: bandwidth.peak.max(nominal),
        average_bandwidth: bandwidth.average,
        target_duration_ms: times.target_duration_ms,
        part_target_ms: times.part_target_ms,
    })
}
