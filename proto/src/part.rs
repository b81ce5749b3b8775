//! How a payload is split into chunks.

use bytes::Bytes;

use crate::{
    MediaInfo, PartHeader, Slot, StreamId,
    error::PayloadSize,
    limits::{CHUNK_BYTES, MAX_PART_BYTES},
};

impl PartHeader {
    /// Splits a payload into chunks, which share its memory, and makes their header.
    ///
    /// # Errors
    /// When the payload is empty or larger than [`MAX_PART_BYTES`].
    pub fn for_payload(
        stream: StreamId,
        slot: Slot,
        media: Option<MediaInfo>,
        payload: &Bytes,
    ) -> Result<(Self, Vec<Bytes>), PayloadSize> {
        let got = payload.len();
        let size = match u32::try_from(got) {
            Ok(size) if size > 0 && got <= MAX_PART_BYTES => size,
            _ => return Err(PayloadSize { got }),
        };
        let chunks: Vec<_> = (0..got)
            .step_by(CHUNK_BYTES)
            .map(|at| payload.slice(at..got.min(at + CHUNK_BYTES)))
            .collect();
        let header = Self {
            stream,
            slot,
            media,
            size,
            hashes: chunks.iter().map(|c| *blake3::hash(c).as_bytes()).collect(),
        };
        Ok((header, chunks))
    }

    /// Length of a chunk in bytes; the last may be shorter than [`CHUNK_BYTES`], and one
    /// beyond the last has none.
    #[must_use]
    pub fn chunk_len(&self, index: usize) -> usize {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        size.saturating_sub(index.saturating_mul(CHUNK_BYTES))
            .min(CHUNK_BYTES)
    }
}
