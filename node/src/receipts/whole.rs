//! The hash of each segment of which no part is missing.

use headwater_proto::{Position, SegmentHasher};

/// Follows the parts of one stream.
#[derive(Debug, Default)]
pub struct WholeSegments(Option<(Position, SegmentHasher)>);

impl WholeSegments {
    /// A part; `add` gives it to the hasher, `last` is that of its segment. Returns the
    /// segment's hash when it is complete and was followed from its first part on.
    pub fn part(
        &mut self,
        position: Position,
        last: bool,
        add: impl FnOnce(&mut SegmentHasher),
    ) -> Option<[u8; 32]> {
        let hasher = match self.0.take() {
            _ if position.part == 0 => Some(SegmentHasher::default()),
            Some((next, hasher)) if next == position => Some(hasher),
            Some(_) | None => None,
        };
        let mut hasher = hasher?;
        add(&mut hasher);
        if last {
            return Some(hasher.finish());
        }
        let next = Position {
            part: position.part + 1,
            ..position
        };
        self.0 = Some((next, hasher));
        None
    }
}
