//! Which segments of a job are whole, at both ends: the source and each rendition.

use std::collections::BTreeMap;

use headwater_proto::{Position, RenditionName, SegmentHasher, renditions_hash};

use super::whole::WholeSegments;

/// Segments that wait for their renditions, at most; more than any ladder lags.
const WAITING: usize = 64;

/// What is known of one segment.
#[derive(Debug, Default)]
struct Segment {
    source: Option<[u8; 32]>,
    renditions: BTreeMap<RenditionName, [u8; 32]>,
}

/// Brings together the hashes of a job's segments.
#[derive(Debug, Default)]
pub struct Segments {
    under_way: WholeSegments,
    waiting: BTreeMap<u64, Segment>,
}

impl Segments {
    /// A part of the source came; `last` is that of its segment.
    pub fn source(&mut self, position: Position, last: bool, chunks: &[impl AsRef<[u8]>]) {
        let add = |hasher: &mut SegmentHasher| hasher.chunks(chunks);
        let Some(hash) = self.under_way.part(position, last, add) else {
            return;
        };
        self.waiting.entry(position.segment).or_default().source = Some(hash);
        while self.waiting.len() > WAITING {
            self.waiting.pop_first();
        }
    }

    /// A rendition of a segment is whole; `of` renditions are made. When all are, and the
    /// source was whole: the hash of the source and that of the renditions.
    pub fn rendition(
        &mut self,
        segment: u64,
        name: &RenditionName,
        hash: [u8; 32],
        of: usize,
    ) -> Option<([u8; 32], [u8; 32])> {
        let known = self.waiting.get_mut(&segment)?;
        known.renditions.insert(name.clone(), hash);
        if known.renditions.len() < of {
            return None;
        }
        let done = self.waiting.remove(&segment)?;
        let renditions = done.renditions.iter().map(|(name, hash)| (name, *hash));
        Some((done.source?, renditions_hash(renditions)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, part: u32) -> Position {
        Position { segment, part }
    }

    fn names() -> [RenditionName; 2] {
        ["360p", "720p"].map(|name| name.parse().unwrap())
    }

    #[test]
    fn a_segment_counts_when_its_source_and_all_renditions_are_whole() {
        let [low, high] = names();
        let mut segments = Segments::default();
        segments.source(at(4, 0), false, &[b"a"]);
        segments.source(at(4, 1), true, &[b"bc"]);
        let mut hasher = SegmentHasher::default();
        hasher.chunks(&[b"a"]);
        hasher.chunks(&[b"bc"]);

        assert_eq!(segments.rendition(4, &low, [1; 32], 2), None);
        let (source, renditions) = segments.rendition(4, &high, [2; 32], 2).unwrap();

        assert_eq!(source, hasher.finish());
        assert_eq!(
            renditions,
            renditions_hash([(&low, [1; 32]), (&high, [2; 32])])
        );
        assert_eq!(segments.rendition(4, &high, [2; 32], 2), None, "once");
    }

    #[test]
    fn a_segment_that_lacks_a_part_of_its_source_never_counts() {
        let [low, _] = names();
        let mut segments = Segments::default();
        // Joined in the middle; then one is lost from the middle, then the first.
        segments.source(at(1, 3), true, &[b"a"]);
        segments.source(at(2, 0), false, &[b"a"]);
        segments.source(at(2, 2), true, &[b"a"]);
        segments.source(at(3, 1), true, &[b"a"]);
        for segment in 1..=3 {
            assert_eq!(segments.rendition(segment, &low, [1; 32], 1), None);
        }
        segments.source(at(4, 0), true, &[b"a"]);
        assert!(segments.rendition(4, &low, [1; 32], 1).is_some());
    }

    #[test]
    fn segments_whose_renditions_never_come_are_forgotten() {
        let [low, _] = names();
        let mut segments = Segments::default();
        for segment in 0..100 {
            segments.source(at(segment, 0), true, &[b"a"]);
        }
        assert_eq!(segments.rendition(35, &low, [1; 32], 1), None);
        assert!(segments.rendition(36, &low, [1; 32], 1).is_some());
    }
}
