//! Delivery to this machine: whole parts, in order, each once.

use headwater_proto::{Slot, StreamId};

use super::Node;
use crate::{
    output::{Delivery, Output},
    ring::{Ring, next},
    stream::Local,
};

impl Node {
    /// Hands over everything that is due.
    pub(super) fn deliver(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let Some(local) = &mut stream.local else {
            return;
        };
        let end = stream.finish.as_ref().map(|finish| finish.value().last);
        while let Some(delivery) = due(&stream.ring, local, end) {
            match delivery {
                Delivery::Part { .. } => self.stats.parts_delivered += 1,
                Delivery::Gap { .. } => self.stats.gaps_delivered += 1,
                Delivery::Init { .. } | Delivery::Finished | Delivery::Waiting(_) => {}
            }
            self.out.push_back(Output::Deliver {
                stream: id.clone(),
                delivery,
            });
        }
    }
}

/// The next item for this machine, if it is here.
fn due(
    ring: &Ring,
    local: &mut Local,
    end: Option<Option<headwater_proto::Position>>,
) -> Option<Delivery> {
    if local.finished {
        return None;
    }
    if let Some(last) = end {
        // An end without a part, or one that has been passed.
        if last.is_none_or(|last| local.next.is_some_and(|at| at > last)) {
            local.finished = true;
            return Some(Delivery::Finished);
        }
    }
    if local.next.is_none() {
        local.next = ring.join();
    }
    let at = local.next?;
    if let Err(to) = ring.resolve(at) {
        if to <= at {
            return None;
        }
        local.next = Some(to);
        return Some(Delivery::Gap { from: at, to });
    }
    let entry = ring.entry(Slot::Part(at))?;
    let media = *entry.media()?;
    if local.init != Some(media.init) {
        let chunks = ring.entry(Slot::Init(media.init))?.payload()?;
        local.init = Some(media.init);
        let index = media.init;
        return Some(Delivery::Init { index, chunks });
    }
    let chunks = entry.payload()?;
    local.next = Some(next(at, media.last));
    Some(Delivery::Part {
        position: at,
        media,
        chunks,
    })
}
