//! What a segment consisted of, as one hash: what receipts are about.

use crate::{PartHeader, RenditionName};

/// BLAKE3 key-derivation context of a segment's hash.
pub const SEGMENT_CONTEXT: &str = "headwater 2026 v1 segment";
/// BLAKE3 key-derivation context of the hash over a segment's renditions.
pub const RENDITIONS_CONTEXT: &str = "headwater 2026 v1 segment renditions";

/// Hashes the parts of one segment, from its first to its last.
///
/// Of each part it takes the size (4 bytes, big endian) and the hashes of its chunks, as
/// its [`PartHeader`] has them. A segment that lacks a part has no hash.
#[derive(Debug, Clone)]
pub struct SegmentHasher(blake3::Hasher);

impl Default for SegmentHasher {
    fn default() -> Self {
        Self(blake3::Hasher::new_derive_key(SEGMENT_CONTEXT))
    }
}

impl SegmentHasher {
    /// Adds the next part by its header.
    pub fn header(&mut self, header: &PartHeader) {
        self.0.update(&header.size.to_be_bytes());
        for hash in &header.hashes {
            self.0.update(hash);
        }
    }

    /// Adds the next part by its chunks, each of [`crate::limits::CHUNK_BYTES`] but the
    /// last: what a receiver has.
    pub fn chunks(&mut self, chunks: &[impl AsRef<[u8]>]) {
        let size: usize = chunks.iter().map(|chunk| chunk.as_ref().len()).sum();
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.0.update(&size.to_be_bytes());
        for chunk in chunks {
            self.0.update(blake3::hash(chunk.as_ref()).as_bytes());
        }
    }

    /// The hash, after the last part.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// One hash over all renditions of a segment: for each, by growing name, the length of
/// its name (1 byte), the name and the segment's hash in it.
#[must_use]
pub fn renditions_hash<'a>(
    renditions: impl IntoIterator<Item = (&'a RenditionName, [u8; 32])>,
) -> [u8; 32] {
    let mut sorted: Vec<_> = renditions.into_iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| name.as_str());
    let mut hasher = blake3::Hasher::new_derive_key(RENDITIONS_CONTEXT);
    for (name, hash) in sorted {
        let name = name.as_str().as_bytes();
        // A name has at most 32 bytes.
        hasher.update(&[u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        hasher.update(name);
        hasher.update(&hash);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{BroadcastId, ManifestId, NodeId, Slot};

    fn parts() -> Vec<(PartHeader, Vec<Bytes>)> {
        let stream = ManifestId {
            node: NodeId::from_public_key([1; 32]),
            broadcast: BroadcastId::from_bytes([3; 16]),
        }
        .source();
        [1, 16_384, 16_385, 50_000]
            .into_iter()
            .map(|size| {
                let payload = Bytes::from(vec![0x5a; size]);
                PartHeader::for_payload(stream.clone(), Slot::Init(0), None, &payload).unwrap()
            })
            .collect()
    }

    #[test]
    fn sender_and_receiver_get_the_hash_that_the_specification_says() {
        let (mut sender, mut receiver) = (SegmentHasher::default(), SegmentHasher::default());
        let mut bytes = Vec::new();
        for (header, chunks) in parts() {
            sender.header(&header);
            receiver.chunks(&chunks);
            bytes.extend_from_slice(&header.size.to_be_bytes());
            for chunk in chunks {
                bytes.extend_from_slice(blake3::hash(&chunk).as_bytes());
            }
        }

        assert_eq!(sender.finish(), blake3::derive_key(SEGMENT_CONTEXT, &bytes));
        assert_eq!(receiver.finish(), sender.finish());
    }

    #[test]
    fn order_and_bounds_of_parts_matter() {
        let parts = parts();
        let hash = |order: &[usize]| {
            let mut hasher = SegmentHasher::default();
            order.iter().for_each(|at| hasher.header(&parts[*at].0));
            hasher.finish()
        };
        let all = hash(&[0, 1, 2, 3]);
        assert_ne!(all, hash(&[1, 0, 2, 3]));
        assert_ne!(all, hash(&[0, 1, 2]));
        let mut joined = SegmentHasher::default();
        joined.chunks(
            &parts
                .iter()
                .flat_map(|(_, c)| c.clone())
                .collect::<Vec<_>>(),
        );
        assert_ne!(all, joined.finish());
    }

    #[test]
    fn renditions_are_hashed_by_name_in_whatever_order_they_come() {
        let [a, b]: [RenditionName; 2] = ["360p", "720p"].map(|name| name.parse().unwrap());
        let hash = renditions_hash([(&a, [1; 32]), (&b, [2; 32])]);

        let bytes = [b"\x04360p", &[1; 32][..], b"\x04720p", &[2; 32]].concat();
        assert_eq!(hash, blake3::derive_key(RENDITIONS_CONTEXT, &bytes));
        assert_eq!(hash, renditions_hash([(&b, [2; 32]), (&a, [1; 32])]));
        assert_ne!(hash, renditions_hash([(&a, [2; 32]), (&b, [1; 32])]));
    }
}
