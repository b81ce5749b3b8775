//! How far a stream of this node has come, written down before it gets there.
//!
//! Whoever has a part of a stream takes another with the same position, signed by the same
//! node, for a contradiction. So a node that was killed has to know what it may have
//! published, and goes on behind that. With each segment that is complete the next is
//! written down too, so that no part waits for the disk.

use headwater_media::Packaged;

/// The first numbers of a stream that nothing was published with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) init: u32,
    pub(super) discontinuity: u32,
}

impl Place {
    /// What has to be written down before an item is published, unless it is already.
    pub(super) fn before(&mut self, item: &Packaged) -> Option<Self> {
        self.reach(Self::behind(item))
    }

    /// What has to be written down when an item was published, unless it is already.
    pub(super) fn after(&mut self, item: &Packaged) -> Option<Self> {
        let last = matches!(item, Packaged::Part(part) if part.last);
        let behind = Self::behind(item);
        let segment = behind.segment + u64::from(last);
        self.reach(Self { segment, ..behind })
    }

    /// Behind an item.
    fn behind(item: &Packaged) -> Self {
        match item {
            Packaged::Init(init) => Self {
                init: init.index + 1,
                ..Self::default()
            },
            Packaged::Part(part) => Self {
                segment: part.segment + 1,
                init: part.init + 1,
                discontinuity: part.discontinuity + 1,
            },
        }
    }

    /// Goes on until it is behind another as well; `None` when it was.
    fn reach(&mut self, other: Self) -> Option<Self> {
        let farther = Self {
            segment: self.segment.max(other.segment),
            init: self.init.max(other.init),
            discontinuity: self.discontinuity.max(other.discontinuity),
        };
        if farther == *self {
            return None;
        }
        *self = farther;
        Some(farther)
    }
}
