//! What is missing in the middle of a stream: asked for again, first of the parent, then
//! of the standby, and given up in the end.

use headwater_proto::{Message, Nack, NodeId, Position, RequestId, Slot};

use super::{
    ring::Ring,
    stream::{Source, Stream},
    upstream::{Hole, MAX_FOLLOWED, ParentState},
};
use crate::{cx::Cx, output::Priority};

/// A parent is doubted each time it was asked so often for what is missing.
const DOUBT: u8 = 3;
/// Chunks named in one Nack.
const NACK_CHUNKS: usize = 64;

impl Stream {
    /// What is missing though later parts are here.
    fn missing(&self) -> Option<Slot> {
        let edge = self.ring.edge()?;
        let newest = self.ring.part(edge)?.media()?;
        if self.ring.init(newest.init).is_none() {
            return Some(Slot::Init(newest.init));
        }
        let ready = self.ring.ready()?;
        (edge > ready).then_some(Slot::Part(ready))
    }

    /// Notes a hole, asks for it, and gives it up in the end.
    pub(crate) fn mend(&mut self, cx: &mut Cx) {
        let missing = self.missing();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let (Some(slot), Some(live)) = (missing, up.live()) else {
            up.hole = None;
            return;
        };
        let refused = denied(&live.gaps, slot);
        let main = (live.peer, live.request);
        let mut hole = match up.hole {
            Some(hole) if hole.slot == slot => hole,
            _ => Hole {
                slot,
                since: cx.now,
                asked: None,
                times: 0,
            },
        };
        let pause = if refused && hole.times == 0 {
            std::time::Duration::ZERO
        } else {
            cx.config.nack_after
        };
        if hole.asked.unwrap_or(hole.since) + pause > cx.now {
            up.hole = Some(hole);
            return;
        }
        // Who was asked last may still have it; after that it is too late for anybody.
        let asked = up
            .rival()
            .is_some_and(|i| up.parents[i].state == ParentState::Asked);
        let more = if asked {
            cx.config.parent_silence
        } else {
            std::time::Duration::ZERO
        };
        if hole.since + cx.config.gap_after + more <= cx.now
            && let Slot::Part(from) = slot
            && let Some(to) = self.ring.next_after(from)
        {
            up.hole = None;
            self.ring.declare_gap(from, to);
            return self.pump_children(cx);
        }
        // Every other time another path is asked, and always when the parent has said no.
        let other = up.standby().map(|index| &up.parents[index]);
        let other = other.filter(|p| p.is_live() && !denied(&p.gaps, slot));
        let target = match other {
            Some(other) if refused || hole.times % 2 == 1 => (other.peer, other.request),
            _ => main,
        };
        hole.asked = Some(cx.now);
        hole.times = hole.times.saturating_add(1);
        up.hole = Some(hole);
        nack(&self.ring, cx, target, slot);
        if hole.times.is_multiple_of(DOUBT) {
            up.follow_left = MAX_FOLLOWED;
            self.doubt(cx);
        }
    }

    /// Another that was tried had nothing either: the next is, while something has been
    /// missing for long.
    pub(super) fn doubt_more(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &self.source else {
            return;
        };
        if up.hole.is_some_and(|hole| hole.times >= DOUBT) && up.dialling.is_empty() {
            self.doubt(cx);
        }
    }

    /// Takes to heart what parents said will not come, where the part after it is here
    /// and no other path may have it.
    pub(crate) fn commit_gaps(&mut self, cx: &Cx) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let standby = up.standby().map(|index| &up.parents[index]);
        // A short gap may be had of the standby; a long one is a jump.
        let other = standby.filter(|p| p.is_live()).map(|p| p.gaps.clone());
        let patience = cx.config.nack_after.saturating_mul(3);
        let hole = up.hole;
        let ring = &mut self.ring;
        for parent in up.parents.iter_mut().filter(|p| !p.is_standby()) {
            parent.gaps.retain(|&(from, to)| {
                let Some(ready) = ring.ready() else {
                    return true;
                };
                let known = ring.part(to).is_some();
                let short = to.segment <= ready.segment.saturating_add(2);
                let hopeful = other.as_ref().is_some_and(|gaps| {
                    short
                        && to > ready
                        && !denied(gaps, Slot::Part(ready))
                        && hole.is_none_or(|hole| hole.since + patience > cx.now)
                });
                if known && !hopeful {
                    ring.declare_gap(from.max(ready), to);
                }
                (!known || hopeful) && to > ready
            });
        }
        if let Some(index) = up.standby()
            && let Some(ready) = ring.ready()
        {
            up.parents[index].gaps.retain(|(_, to)| *to > ready);
        }
    }
}

fn nack(ring: &Ring, cx: &mut Cx, (peer, request): (NodeId, RequestId), slot: Slot) {
    let entry = ring.entry(slot);
    let chunks = entry
        .map(|entry| entry.missing_chunks(NACK_CHUNKS))
        .unwrap_or_default();
    cx.stats.nacks_out += 1;
    let message = Message::Nack(Nack {
        request,
        slot,
        chunks,
    });
    cx.send(peer, message, Priority::Control);
}

/// Whether a parent has said that a part will not come.
fn denied(gaps: &[(Position, Position)], slot: Slot) -> bool {
    match slot {
        Slot::Part(at) => gaps.iter().any(|(from, to)| *from <= at && at < *to),
        Slot::Init(_) => false,
    }
}
