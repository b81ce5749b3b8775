//! What one stream's deliveries to this machine must be: in order, each part once, gaps
//! told, nothing that its owner has not signed.

use std::collections::BTreeSet;

use headwater_proto::{JobId, Position, Slot, StreamId};
use headwater_protocol::Delivery;

use crate::material::{self, PARTS};

/// Versions of a part that an owner may sign.
pub(crate) const VERSIONS: u8 = 4;

/// Who wants a stream here, and what it was handed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Viewer {
    pub(crate) subscribed: bool,
    pub(crate) jobs: BTreeSet<JobId>,
    seen: Seen,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    /// What has to come next; `None` before the first part.
    next: Option<Position>,
    inits: BTreeSet<u32>,
}

impl Viewer {
    pub(crate) fn wants(&self) -> bool {
        self.subscribed || !self.jobs.is_empty()
    }

    /// Somebody will want the stream: if nobody did, it begins anew.
    pub(crate) fn begin(&mut self) {
        if !self.wants() {
            self.seen = Seen::default();
        }
    }

    pub(crate) fn take(&mut self, owner: u8, stream: &StreamId, delivery: &Delivery) {
        if let Delivery::Waiting(_) = delivery {
            return;
        }
        assert!(self.wants(), "nobody wants {stream}: {delivery:?}");
        let seen = &mut self.seen;
        match delivery {
            Delivery::Init { index, chunks } => {
                seen.inits.insert(*index);
                assert_signed(owner, stream, Slot::Init(*index), &chunks.concat());
            }
            Delivery::Part {
                position,
                media,
                chunks,
            } => {
                assert!(seen.inits.contains(&media.init), "an init comes first");
                assert_signed(owner, stream, Slot::Part(*position), &chunks.concat());
                if let Some(next) = seen.next {
                    assert_eq!(*position, next, "in order, each once: {stream}");
                }
                seen.next = Some(follower(*position));
            }
            Delivery::Gap { from, to } => {
                assert!(from < to, "an empty gap at {from:?}");
                if let Some(next) = seen.next {
                    assert_eq!(*from, next, "a gap follows what came: {stream}");
                }
                seen.next = Some(normal(*to));
            }
            // That is the end of all subscriptions, too.
            Delivery::Finished => {
                self.subscribed = false;
                self.jobs.clear();
            }
            Delivery::Waiting(_) => {}
        }
    }
}

fn assert_signed(owner: u8, stream: &StreamId, slot: Slot, payload: &[u8]) {
    let signed = |version| {
        let (_, chunks) = material::made(owner, stream, slot, version);
        chunks.concat() == payload
    };
    assert!((0..VERSIONS).any(signed), "nobody made this {slot:?}");
}

fn follower(at: Position) -> Position {
    normal(Position {
        part: at.part + 1,
        ..at
    })
}

/// Beyond the last part of a segment is the first of the next.
fn normal(at: Position) -> Position {
    if at.part < PARTS {
        return at;
    }
    Position {
        segment: at.segment + 1,
        part: 0,
    }
}
