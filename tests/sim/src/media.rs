//! What broadcasters publish: parts of real size whose bytes are all zero and shared, so
//! that ten thousand rings take the memory of their headers.
//!
//! Everything of a part follows from its number, so a delivery can be checked without
//! remembering what was published.

use bytes::Bytes;
use headwater_proto::{
    BroadcastId, ManifestId, MediaInfo, PartHeader, Position, Signed, SigningKey, Slot, StreamEnd,
    StreamId,
};
use headwater_protocol::Time;

/// Length of an init in bytes.
const INIT_BYTES: usize = 700;
/// 90 kHz ticks of a millisecond.
const TICKS: u64 = 90;

/// The shape of every stream of a world.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Length of a part in milliseconds.
    pub part_ms: u64,
    /// Parts of a segment.
    pub parts: u32,
    /// Bytes of a part that is not the first of its segment.
    part_bytes: usize,
    zeros: Bytes,
}

impl Shape {
    /// Streams of this bitrate. A segment's first part has a key frame and is twice
    /// as large as the others; a part is at least one byte.
    #[must_use]
    pub fn new(bitrate_kbps: u64, part_ms: u64, parts: u32) -> Self {
        let segment_bytes = bitrate_kbps * part_ms * u64::from(parts) / 8;
        let part_bytes = (segment_bytes / (u64::from(parts) + 1)).max(1);
        let part_bytes = usize::try_from(part_bytes)
            .unwrap_or(usize::MAX)
            .min(1 << 20);
        Self {
            part_ms,
            parts,
            part_bytes,
            zeros: Bytes::from(vec![0; part_bytes * 2]),
        }
    }

    /// Where a part belongs.
    #[must_use]
    pub fn position(&self, number: u64) -> Position {
        let parts = u64::from(self.parts);
        Position {
            segment: number / parts,
            part: u32::try_from(number % parts).unwrap_or(0),
        }
    }

    /// The number of the part at a position.
    #[must_use]
    pub fn number(&self, at: Position) -> u64 {
        at.segment * u64::from(self.parts) + u64::from(at.part)
    }

    /// Times and flags of a part.
    #[must_use]
    pub fn media(&self, at: Position) -> MediaInfo {
        let ticks = self.part_ms * TICKS;
        MediaInfo {
            init: 0,
            start: self.number(at) * ticks,
            duration: u32::try_from(ticks).unwrap_or(u32::MAX),
            program_date_time_ms: self.number(at) * self.part_ms,
            discontinuity: 0,
            independent: at.part == 0,
            last: at.part + 1 == self.parts,
        }
    }

    /// Payload bytes of a part.
    #[must_use]
    pub const fn size(&self, at: Position) -> usize {
        if at.part == 0 {
            self.part_bytes * 2
        } else {
            self.part_bytes
        }
    }

    /// Payload bytes of a second, on average.
    #[must_use]
    pub const fn bytes_per_second(&self) -> u64 {
        let segment = self.part_bytes as u64 * (self.parts as u64 + 1);
        segment * 1000 / (self.part_ms * self.parts as u64)
    }

    /// Whether this is the payload that was published at a position.
    #[must_use]
    pub fn is_payload(&self, at: Position, chunks: &[Bytes]) -> bool {
        let len: usize = chunks.iter().map(Bytes::len).sum();
        // A slice of the shared zeros needs no look at each byte.
        let range = self.zeros.as_ptr_range();
        let zero =
            |chunk: &Bytes| range.contains(&chunk.as_ptr()) || chunk.iter().all(|byte| *byte == 0);
        len == self.size(at) && chunks.iter().all(zero)
    }

    fn payload(&self, at: Position) -> Bytes {
        self.zeros.slice(..self.size(at))
    }
}

/// One broadcast of a world.
#[derive(Debug)]
pub struct Broadcast {
    /// Its source stream.
    pub stream: StreamId,
    /// When its first part is complete.
    pub begins: Time,
    /// Parts that were published.
    pub published: u64,
    /// Bytes of one copy of what was published, headers and all, on a link.
    pub media_bytes: u64,
    /// It was ended.
    pub ended: bool,
    /// Its owner's node knows of it.
    pub open: bool,
    /// Its owner makes it no more for the time being.
    pub withdrawn: bool,
    key: SigningKey,
}

impl Broadcast {
    /// A broadcast of the node with this key.
    #[must_use]
    pub fn new(key: SigningKey, broadcast: [u8; 16], begins: Time) -> Self {
        let manifest = ManifestId {
            node: key.node_id(),
            broadcast: BroadcastId::from_bytes(broadcast),
        };
        Self {
            stream: manifest.source(),
            begins,
            published: 0,
            media_bytes: 0,
            ended: false,
            open: false,
            withdrawn: false,
            key,
        }
    }

    /// The init, signed.
    #[must_use]
    pub fn init(&self) -> (Signed<PartHeader>, Vec<Bytes>) {
        let payload = Bytes::from_static(&[0; INIT_BYTES]);
        self.signed(Slot::Init(0), None, &payload)
    }

    /// A part, signed.
    #[must_use]
    pub fn part(&self, shape: &Shape, number: u64) -> (Signed<PartHeader>, Vec<Bytes>) {
        let at = shape.position(number);
        self.signed(Slot::Part(at), Some(shape.media(at)), &shape.payload(at))
    }

    /// The end after what was published.
    #[must_use]
    pub fn end(&self, shape: &Shape) -> Signed<StreamEnd> {
        let last = self.published.checked_sub(1).map(|n| shape.position(n));
        let stream = self.stream.clone();
        Signed::sign(StreamEnd { stream, last }, &self.key)
    }

    /// When a part is complete at its owner.
    #[must_use]
    pub fn due(&self, shape: &Shape, number: u64) -> Time {
        self.begins + std::time::Duration::from_millis(number * shape.part_ms)
    }

    /// The owner was started anew, or takes the stream up again: it goes on with the next
    /// segment, and what would have been published meanwhile never is. Returns when its first part is complete.
    pub fn resume(&mut self, shape: &Shape, now: Time) -> Time {
        self.open = false;
        while self.due(shape, self.published) <= now || shape.position(self.published).part > 0 {
            self.published += 1;
        }
        self.due(shape, self.published)
    }

    fn signed(
        &self,
        slot: Slot,
        media: Option<MediaInfo>,
        payload: &Bytes,
    ) -> (Signed<PartHeader>, Vec<Bytes>) {
        let (header, chunks) = PartHeader::for_payload(self.stream.clone(), slot, media, payload)
            .expect("payloads are neither empty nor beyond four megabytes");
        (Signed::sign(header, &self.key), chunks)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key and a stream of its node.
    pub(crate) fn stream(number: u8) -> (SigningKey, StreamId) {
        let key = SigningKey::from_bytes(&[number; 32]);
        let stream = Broadcast::new(key.clone(), [number; 16], Time::default()).stream;
        (key, stream)
    }

    #[test]
    fn parts_of_a_second_have_the_bytes_of_the_bitrate() {
        let shape = Shape::new(2_000, 200, 10);
        let segment: usize = (0..10).map(|n| shape.size(shape.position(n))).sum();

        assert!((499_000..=500_000).contains(&segment), "{segment}");
        assert!((249_000..=250_000).contains(&shape.bytes_per_second()));
    }

    #[test]
    fn foreign_bytes_are_told_from_published_ones() {
        let shape = Shape::new(800, 200, 10);
        let broadcast = Broadcast::new(SigningKey::from_bytes(&[1; 32]), [1; 16], Time::default());
        let at = shape.position(3);
        let (_, chunks) = broadcast.part(&shape, 3);

        assert!(shape.is_payload(at, &chunks));
        let copied = vec![Bytes::from(chunks.concat())];
        assert!(shape.is_payload(at, &copied));
        let mut forged = chunks.concat();
        forged[5] = 1;
        assert!(!shape.is_payload(at, &[Bytes::from(forged)]));
        assert!(
            !shape.is_payload(shape.position(10), &chunks),
            "a key part is longer"
        );
    }
}
