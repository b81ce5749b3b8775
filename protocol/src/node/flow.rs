//! Media on its way: into the ring, on to children, repaired where it has holes.
//!
//! Children are cursors into the ring. A chunk is passed on the moment it is here, before
//! its part is complete; a child whose link is full simply stays where it is, and when
//! the ring has moved past it, it is told of the gap and goes on at the newest segment.

use headwater_proto::{
    Chunk, Gap, Message, Nack, NodeId, Part, Position, RequestId, Slot, StreamId,
};

use super::Node;
use crate::{
    output::{Failure, Priority, message_cost},
    ring::{Entry, Ring, Taken, next},
    stream::{Child, UpstreamState},
    timers::Timer,
};

/// How often a hole is asked for before its parent is given up.
const NACKS: u32 = 3;

impl Node {
    pub(super) fn on_part(&mut self, from: NodeId, part: &Part) {
        let Some(id) = self.data_from(from, part.request) else {
            return;
        };
        if part.header.value().stream != id {
            return self.misbehaved(from, "a part of another stream");
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.ring.add_header(&part.header) == Taken::Stale {
            self.stats.stale_parts += 1;
        }
        if let Some(local) = &mut stream.local
            && local.next.is_none()
        {
            local.next = stream.ring.join();
        }
    }

    pub(super) fn on_chunk(&mut self, from: NodeId, chunk: &Chunk) {
        let Some(id) = self.data_from(from, chunk.request) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let index = usize::from(chunk.index);
        match stream.ring.add_chunk(chunk.slot, index, &chunk.payload) {
            Taken::New => {
                self.stats.chunks_in += 1;
                self.stats.chunk_bytes_in += chunk.payload.len() as u64;
                self.flow(&id);
            }
            Taken::Duplicate => self.stats.duplicate_chunks += 1,
            Taken::Stale => self.stats.stale_parts += 1,
        }
    }

    pub(super) fn on_gap(&mut self, from: NodeId, gap: &Gap) {
        let Some(id) = self.data_from(from, gap.request) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.ring.add_gap(gap.from, gap.to);
        self.flow(&id);
    }

    /// The stream that a neighbour sends data of on a request of ours.
    fn data_from(&mut self, from: NodeId, request: RequestId) -> Option<StreamId> {
        let id = self.upstream_spoke(from, request, UpstreamState::Live);
        if id.is_none() {
            if request.0 < self.next_id {
                // Sent before our Cancel arrived.
                self.stats.late_data += 1;
            } else {
                self.stats.unsolicited_data += 1;
                self.misbehaved(from, "data that was not asked for");
            }
        }
        id
    }

    /// Brings what is in the ring to whoever waits for it.
    pub(super) fn flow(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let keys: Vec<_> = stream.children.keys().copied().collect();
        for (peer, request) in keys {
            self.pump(id, peer, request);
        }
        self.deliver(id);
        self.watch_for_holes(id);
    }

    /// Serves all of a neighbour's subscriptions, transcoders' feeds first.
    pub(super) fn pump_peer(&mut self, peer: NodeId) {
        let Some(link) = self.links.get(&peer) else {
            return;
        };
        let mut wanted = Vec::new();
        for id in &link.children {
            let Some(stream) = self.streams.get(id) else {
                continue;
            };
            for ((_, request), child) in stream
                .children
                .range((peer, RequestId(0))..=(peer, RequestId(u64::MAX)))
            {
                wanted.push((child.feed.is_none(), child.sent, id.clone(), *request));
            }
        }
        // Those that were served longest ago come first, so that streams share the link.
        wanted.sort();
        for (_, _, id, request) in wanted {
            self.pump(&id, peer, request);
        }
    }

    fn pump(&mut self, id: &StreamId, peer: NodeId, request: RequestId) {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let Some(child) = stream.children.get_mut(&(peer, request)) else {
            return;
        };
        let Some(mut credit) = self.links.get(&peer).map(|link| link.credit) else {
            return;
        };
        let mut sent = Vec::new();
        while let Some((message, priority)) = step(&stream.ring, child, request, credit) {
            credit = credit.saturating_sub(message_cost(&message));
            if let Message::Chunk(chunk) = &message {
                self.stats.chunks_out += 1;
                self.stats.chunk_bytes_out += chunk.payload.len() as u64;
            } else if let Message::Gap(_) = &message {
                self.stats.gaps_sent += 1;
            }
            child.sent = now;
            sent.push((message, priority));
        }
        if let Some(link) = self.links.get_mut(&peer) {
            link.credit = credit;
        }
        for (message, priority) in sent {
            self.send_with(peer, message, priority);
        }
    }

    pub(super) fn on_nack(&mut self, from: NodeId, nack: &Nack) {
        let child = self.streams.iter().find_map(|(id, stream)| {
            let child = stream.children.get(&(from, nack.request))?;
            (!child.held).then_some(id)
        });
        let Some(id) = child.cloned() else {
            return;
        };
        let request = nack.request;
        let Some(entry) = self.streams.get(&id).and_then(|s| s.ring.entry(nack.slot)) else {
            if let Slot::Part(position) = nack.slot {
                self.refuse_repair(&id, from, request, position);
            }
            return;
        };
        let header = entry.header.clone();
        let mut repairs = vec![Message::Part(Part { request, header })];
        for index in 0..entry.chunk_count() {
            let wanted = u16::try_from(index)
                .is_ok_and(|i| nack.chunks.is_empty() || nack.chunks.contains(&i));
            if wanted {
                repairs.extend(chunk_of(entry, request, index));
            }
        }
        for message in repairs {
            let cost = message_cost(&message);
            let link = self.links.get_mut(&from);
            let Some(link) = link.filter(|link| link.credit >= cost) else {
                return;
            };
            link.credit -= cost;
            self.send_with(from, message, Priority::Backfill);
        }
    }

    /// A child asked for what will never come here either.
    fn refuse_repair(&mut self, id: &StreamId, to: NodeId, request: RequestId, at: Position) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let Err(skip) = stream.ring.resolve(at) else {
            return;
        };
        let gap = Gap {
            request,
            from: at,
            to: skip,
        };
        self.stats.gaps_sent += 1;
        self.send(to, Message::Gap(gap));
    }

    /// Starts a timer when something came that should not have come first.
    fn watch_for_holes(&mut self, id: &StreamId) {
        let at = self.now + self.config.repair;
        if self.hole(id).is_some() {
            self.timers.set_if_unset(Timer::Repair(id.clone()), at);
        }
    }

    /// The first position that is missing although later ones are here.
    fn hole(&self, id: &StreamId) -> Option<Position> {
        let stream = self.streams.get(id)?;
        if stream.owned {
            return None;
        }
        let at = match stream.local.as_ref().and_then(|local| local.next) {
            Some(next) => stream.ring.first_incomplete(next),
            None => stream.needed()?,
        };
        stream.ring.is_overtaken(at).then_some(at)
    }

    /// A hole has stayed: asks the parent for it, then another parent, then gives up.
    pub(super) fn repair(&mut self, id: &StreamId) {
        let Some(hole) = self.hole(id) else {
            return;
        };
        let again = self.now + self.config.repair;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let times = match stream.repair {
            Some((at, times)) if at == hole => times + 1,
            Some(_) | None => 1,
        };
        stream.repair = Some((hole, times));
        let Some(upstream) = stream.upstreams.first().cloned() else {
            return self.timers.set(Timer::Repair(id.clone()), again);
        };
        self.timers.set(Timer::Repair(id.clone()), again);
        if times <= NACKS {
            let slot = Slot::Part(hole);
            let chunks = stream.ring.entry(slot).map(|e| e.missing_chunks());
            let nack = Nack {
                request: upstream.request,
                slot,
                chunks: chunks.unwrap_or_default(),
            };
            self.stats.nacks_sent += 1;
            self.send(upstream.peer, Message::Nack(nack));
        } else if times == NACKS + 1 {
            self.cancel_upstream(upstream.peer, upstream.request);
            self.upstream_failed(id, upstream.peer, upstream.request, Failure::ParentLost);
        } else {
            let to = Position {
                segment: hole.segment.saturating_add(1),
                part: 0,
            };
            stream.ring.add_gap(hole, to);
            self.flow(id);
        }
    }
}

/// The next message a child is owed, if it is here and fits the credit.
fn step(
    ring: &Ring,
    child: &mut Child,
    request: RequestId,
    credit: usize,
) -> Option<(Message, Priority)> {
    if child.held {
        return None;
    }
    if child.cursor.next.is_none() {
        child.cursor.next = ring.join();
    }
    let at = child.cursor.next?;
    if let Err(to) = ring.resolve(at) {
        if to <= at {
            return None;
        }
        child.cursor.jump(to);
        let from = at;
        let gap = Gap { request, from, to };
        return Some((Message::Gap(gap), Priority::Control));
    }
    let entry = ring.entry(Slot::Part(at))?;
    let priority = child.priority(at, ring.edge());
    let media = *entry.media()?;
    if child.init != Some(media.init) {
        let message = init_step(ring, child, request, media.init, credit)?;
        return Some((message, priority));
    }
    if !child.cursor.header {
        let header = entry.header.clone();
        let message = affordable(Message::Part(Part { request, header }), credit)?;
        child.cursor.header = true;
        return Some((message, priority));
    }
    let index = child.cursor.chunk;
    let message = affordable(chunk_of(entry, request, index)?, credit)?;
    if index + 1 == entry.chunk_count() {
        child.cursor.jump(next(at, media.last));
    } else {
        child.cursor.chunk += 1;
    }
    Some((message, priority))
}

fn affordable(message: Message, credit: usize) -> Option<Message> {
    (message_cost(&message) <= credit).then_some(message)
}

fn chunk_of(entry: &Entry, request: RequestId, index: usize) -> Option<Message> {
    Some(Message::Chunk(Chunk {
        request,
        slot: entry.header.value().slot,
        index: u16::try_from(index).ok()?,
        payload: entry.chunk(index)?.clone(),
    }))
}

/// The next message of an init that the child needs before its part.
fn init_step(
    ring: &Ring,
    child: &mut Child,
    request: RequestId,
    init: u32,
    credit: usize,
) -> Option<Message> {
    let entry = ring.entry(Slot::Init(init))?;
    let Some(index) = child.cursor.init_chunk else {
        let header = entry.header.clone();
        let message = affordable(Message::Part(Part { request, header }), credit)?;
        child.cursor.init_chunk = Some(0);
        return Some(message);
    };
    let message = affordable(chunk_of(entry, request, index)?, credit)?;
    if index + 1 == entry.chunk_count() {
        child.init = Some(init);
        child.cursor.init_chunk = None;
    } else {
        child.cursor.init_chunk = Some(index + 1);
    }
    Some(message)
}
