//! What of a stream is delivered to this machine, and how far it has got.

use std::collections::BTreeSet;

use headwater_proto::{JobId, Position, StreamId};

use super::ring::{Ring, Step, after};
use crate::{
    cx::Cx,
    output::{Delivery, Failure},
};

/// Delivered inits that are remembered.
const MAX_INITS_KNOWN: usize = 64;

/// The local consumers of one stream; they share one cursor.
#[derive(Debug, Default)]
pub(crate) struct Local {
    /// Somebody subscribed.
    pub(crate) viewer: bool,
    /// Jobs whose source it is.
    pub(crate) jobs: BTreeSet<JobId>,
    at: Option<Position>,
    inits: BTreeSet<u32>,
    /// The last of them.
    newest_init: Option<u32>,
    /// The last failure that was reported, until something comes.
    reported: Option<Failure>,
}

impl Local {
    pub(crate) fn wanted(&self) -> bool {
        self.viewer || !self.jobs.is_empty()
    }

    /// Where delivery begins; without effect when it has begun.
    pub(crate) fn begin(&mut self, from: Option<Position>) {
        if !self.wanted() {
            *self = Self {
                at: from,
                ..Self::default()
            };
        }
    }

    /// Tells that nothing comes for the moment, once until something has come.
    pub(crate) fn report(&mut self, cx: &mut Cx, stream: &StreamId, failure: Failure) {
        if self.wanted() && self.reported != Some(failure) {
            self.reported = Some(failure);
            cx.deliver(stream, Delivery::Waiting(failure));
        }
    }

    /// Delivers every part that is complete and in order.
    pub(crate) fn pump(&mut self, cx: &mut Cx, ring: &Ring, stream: &StreamId) {
        if !self.wanted() {
            return;
        }
        if self.at.is_none() {
            self.at = ring.join_position();
        }
        while let Some(at) = self.at {
            match ring.step(at) {
                Step::Here(entry) => {
                    let (Some(chunks), Some(media)) = (entry.payload(), entry.media()) else {
                        return;
                    };
                    if !self.deliver_init(cx, ring, stream, media.init) {
                        return;
                    }
                    self.reported = None;
                    cx.deliver(
                        stream,
                        Delivery::Part {
                            position: at,
                            media,
                            chunks,
                        },
                    );
                    self.at = Some(after(at, media.last));
                }
                Step::Skip(to) => self.skip(cx, stream, at, to),
                Step::Wait => return,
            }
        }
    }

    /// Ends delivery; what is missing before `end` is told as a gap.
    pub(crate) fn finish(&mut self, cx: &mut Cx, stream: &StreamId, end: Option<Position>) {
        if !self.wanted() {
            return;
        }
        if let (Some(at), Some(end)) = (self.at, end)
            && at < end
        {
            self.skip(cx, stream, at, end);
        }
        cx.deliver(stream, Delivery::Finished);
        *self = Self::default();
    }

    fn skip(&mut self, cx: &mut Cx, stream: &StreamId, from: Position, to: Position) {
        cx.deliver(stream, Delivery::Gap { from, to });
        self.at = Some(to);
    }

    fn deliver_init(&mut self, cx: &mut Cx, ring: &Ring, stream: &StreamId, index: u32) -> bool {
        if self.newest_init == Some(index) || self.inits.contains(&index) {
            return true;
        }
        let Some(chunks) = ring.init(index).and_then(|entry| entry.payload()) else {
            return false;
        };
        cx.deliver(stream, Delivery::Init { index, chunks });
        self.inits.insert(index);
        self.newest_init = Some(index);
        // Later parts name later inits; an old one may be delivered twice at worst.
        if self.inits.len() > MAX_INITS_KNOWN {
            self.inits.pop_first();
        }
        true
    }
}
