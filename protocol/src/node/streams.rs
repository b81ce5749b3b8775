//! Streams of this node, and subscriptions of this machine and of neighbours.

use headwater_proto::{
    Finish, Message, NoRouteReason, NodeId, NotFound, PartHeader, Position, RequestId, Signed,
    Slot, StreamEnd, StreamId, Sub, SubAck, SubState, limits::MAX_HOPS,
};

use super::Node;
use crate::{
    output::{CommandError, Failure},
    ring::{Ring, next},
    stream::{Child, Local, Stream},
    timers::Timer,
};

impl Node {
    pub(super) fn publish(&mut self, id: StreamId) -> Result<(), CommandError> {
        if id.node != self.id {
            return Err(CommandError::NotOurs(id));
        }
        if let Some(stream) = self.streams.get(&id)
            && stream.finish.is_none()
        {
            return Err(CommandError::AlreadyPublished(id));
        }
        if self.streams.len() >= self.config.max_streams {
            return Err(CommandError::TooMany("streams"));
        }
        let ring = Ring::new(self.config.ring_bytes, self.config.ring_segments);
        self.timers.stop(&Timer::Drop(id.clone()));
        self.streams
            .insert(id.clone(), Stream::new(id, true, ring, 0));
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        header: &Signed<PartHeader>,
        chunks: &[bytes::Bytes],
    ) -> Result<(), CommandError> {
        let (id, slot) = (&header.value().stream, header.value().slot);
        let stream = match self.streams.get_mut(id) {
            Some(stream) if stream.owned && stream.finish.is_none() => stream,
            Some(_) | None => return Err(CommandError::UnknownStream(id.clone())),
        };
        let lengths = (0..header.value().hashes.len()).map(|i| header.value().chunk_len(i));
        if !lengths.eq(chunks.iter().map(bytes::Bytes::len)) {
            return Err(CommandError::PayloadMismatch);
        }
        if let Slot::Part(position) = slot {
            check_order(stream, position)?;
        }
        stream.ring.add_header(header);
        for (index, chunk) in chunks.iter().enumerate() {
            stream.ring.add_chunk(slot, index, chunk);
        }
        let id = id.clone();
        self.flow(&id);
        Ok(())
    }

    pub(super) fn finish(&mut self, body: &Signed<StreamEnd>) -> Result<(), CommandError> {
        let id = body.value().stream.clone();
        match self.streams.get(&id) {
            Some(stream) if stream.owned && stream.finish.is_none() => {}
            Some(_) | None => return Err(CommandError::UnknownStream(id)),
        }
        self.stream_ended(&id, body);
        Ok(())
    }

    /// Notes the end and passes it on; data that is missing may still come.
    pub(super) fn stream_ended(&mut self, id: &StreamId, body: &Signed<StreamEnd>) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if stream.finish.is_some() {
            return;
        }
        stream.finish = Some(body.clone());
        let children: Vec<_> = stream.children.keys().copied().collect();
        for (peer, request) in children {
            let body = body.clone();
            self.send(peer, Message::Finish(Finish { request, body }));
        }
        let at = self.now + self.config.keep_finished;
        self.timers.set(Timer::Drop(id.clone()), at);
        self.flow(id);
    }

    pub(super) fn subscribe(
        &mut self,
        id: &StreamId,
        from: Option<Position>,
    ) -> Result<(), CommandError> {
        self.open(id, MAX_HOPS)?;
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        stream.hops = MAX_HOPS;
        let local = stream.local.get_or_insert_with(Local::default);
        local.subscribed = true;
        if local.next.is_none() {
            local.next = from.or_else(|| stream.ring.join());
            stream.from = stream.from.or(from);
        }
        if stream.finish.is_none() {
            self.timers.stop(&Timer::Drop(id.clone()));
        }
        self.seek(id);
        self.flow(id);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, id: &StreamId) -> Result<(), CommandError> {
        if let Some(stream) = self.streams.get_mut(id) {
            if stream.jobs.is_empty() {
                stream.local = None;
            } else if let Some(local) = &mut stream.local {
                local.subscribed = false;
            }
        }
        self.maybe_unwanted(id);
        Ok(())
    }

    /// Makes sure the stream is carried.
    pub(super) fn open(&mut self, id: &StreamId, hops: u8) -> Result<(), CommandError> {
        if self.streams.contains_key(id) {
            return Ok(());
        }
        if self.streams.len() >= self.config.max_streams {
            return Err(CommandError::TooMany("streams"));
        }
        let ring = Ring::new(self.config.ring_bytes, self.config.ring_segments);
        let stream = Stream::new(id.clone(), false, ring, hops);
        self.streams.insert(id.clone(), stream);
        Ok(())
    }

    pub(super) fn on_sub(&mut self, from: NodeId, sub: Sub) {
        let Sub {
            request,
            stream: id,
            from: position,
            hops_left,
        } = sub;
        if let Err(refusal) = self.admit(from, request, &id, hops_left) {
            return self.turn_away(from, request, refusal);
        }
        let feed = self.granted_job(from, &id);
        let mut child = Child::new(position, self.now);
        child.feed = feed;
        self.add_child(from, request, &id, child);
    }

    /// Whether a neighbour may become a child of a stream, which is opened for it.
    pub(super) fn admit(
        &mut self,
        from: NodeId,
        request: RequestId,
        id: &StreamId,
        hops_left: u8,
    ) -> Result<(), Failure> {
        let overloaded = Failure::NoRoute(NoRouteReason::Overloaded);
        if let Some(stream) = self.streams.get(id) {
            let max = if stream.owned {
                self.config.max_children_own
            } else {
                self.config.max_children_relayed
            };
            let known = stream.children.contains_key(&(from, request));
            let feed = self.granted_job(from, id).is_some();
            if stream.children.len() >= max && !known && !feed {
                return Err(overloaded);
            }
            // A parent cannot be a child: that would be a loop.
            if stream
                .upstreams
                .iter()
                .any(|upstream| upstream.peer == from)
            {
                return Err(Failure::NoRoute(NoRouteReason::NoCloserPeer));
            }
            return Ok(());
        }
        if id.node == self.id {
            return Err(Failure::NotFound);
        }
        let hops = self.next_hops(id.node, Some(from));
        if !self.config.roles.relayer || hops.is_empty() {
            return Err(Failure::NoRoute(NoRouteReason::NoCloserPeer));
        }
        let Some(hops_left) = hops_left.checked_sub(1) else {
            return Err(Failure::NoRoute(NoRouteReason::HopLimit));
        };
        self.open(id, hops_left).map_err(|_| overloaded)
    }

    pub(super) fn turn_away(&mut self, peer: NodeId, request: RequestId, failure: Failure) {
        if let Failure::NoRoute(reason) = failure {
            self.refuse(peer, request, reason);
        } else {
            self.send(peer, Message::NotFound(NotFound { request }));
        }
    }

    pub(super) fn add_child(
        &mut self,
        peer: NodeId,
        request: RequestId,
        id: &StreamId,
        mut child: Child,
    ) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if child.cursor.next.is_none() {
            child.cursor.next = stream.ring.join();
        } else if stream.ring.edge().is_none() && stream.from.is_none() {
            stream.from = child.cursor.next;
        }
        let (feed, held) = (child.feed, child.held);
        stream.children.insert((peer, request), child);
        let finish = stream.finish.clone();
        if finish.is_none() {
            self.timers.stop(&Timer::Drop(id.clone()));
        }
        if let Some(link) = self.links.get_mut(&peer) {
            link.children.insert(id.clone());
        }
        self.stats.subs_accepted += 1;
        if let (Some(job), false) = (feed, held) {
            self.feed_started(peer, job, id);
        }
        self.send_sub_ack(id, peer, request);
        if let Some(body) = finish {
            self.send(peer, Message::Finish(Finish { request, body }));
        }
        let at = self.now + HEARTBEAT;
        self.timers.set_if_unset(Timer::Heartbeat(id.clone()), at);
        self.seek(id);
        self.flow(id);
    }

    /// Tells a child whether data can be expected.
    pub(super) fn send_sub_ack(&mut self, id: &StreamId, peer: NodeId, request: RequestId) {
        let load = self.load();
        let key = self.key.prefix();
        let now = self.now;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let (live, edge) = (stream.is_live(), stream.ring.edge());
        let mut path = stream.path.clone();
        path.push(key);
        let Some(child) = stream.children.get_mut(&(peer, request)) else {
            return;
        };
        child.sent = now;
        let state = if live && !child.held {
            SubState::Live(edge)
        } else {
            SubState::Pending
        };
        let ack = SubAck {
            request,
            state,
            load,
            path,
        };
        self.send(peer, Message::SubAck(ack));
    }

    /// Reassures children that data is only pausing. A relay does so only while it is
    /// itself reassured, so a stall anywhere is noticed everywhere below it.
    pub(super) fn heartbeat(&mut self, id: &StreamId) {
        let now = self.now;
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if stream.children.is_empty() {
            return;
        }
        let parent_speaks = stream.owned
            || stream
                .upstreams
                .first()
                .is_some_and(|up| now.since(up.heard) < self.config.silence);
        let quiet: Vec<_> = stream
            .children
            .iter()
            .filter(|(_, child)| parent_speaks && now.since(child.sent) >= HEARTBEAT)
            .map(|(key, _)| *key)
            .collect();
        for (peer, request) in quiet {
            self.send_sub_ack(id, peer, request);
        }
        self.timers
            .set(Timer::Heartbeat(id.clone()), now + HEARTBEAT);
    }

    pub(super) fn on_cancel(&mut self, from: NodeId, request: RequestId) {
        let Some(link) = self.links.get(&from) else {
            return;
        };
        let of = link.children.iter().find(|id| {
            let stream = self.streams.get(*id);
            stream.is_some_and(|s| s.children.contains_key(&(from, request)))
        });
        if let Some(id) = of.cloned() {
            self.remove_child(&id, from, request);
        }
    }

    pub(super) fn remove_child(&mut self, id: &StreamId, peer: NodeId, request: RequestId) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let Some(child) = stream.children.remove(&(peer, request)) else {
            return;
        };
        let others = stream.children.keys().any(|(other, _)| *other == peer);
        if !others && let Some(link) = self.links.get_mut(&peer) {
            link.children.remove(id);
        }
        if let (Some(job), false) = (child.feed, child.held) {
            self.feed_ended(peer, job);
        }
        self.maybe_unwanted(id);
    }

    /// Starts the linger of a stream that nobody needs any more.
    pub(super) fn maybe_unwanted(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if !stream.is_wanted() && stream.finish.is_none() {
            let at = self.now + self.config.linger;
            self.timers.set(Timer::Drop(id.clone()), at);
        }
    }

    /// The linger is over, or the stream ended a while ago.
    pub(super) fn drop_stream(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if stream.finish.is_none() && stream.is_wanted() {
            return;
        }
        let upstreams = stream.upstreams.clone();
        let children: Vec<_> = stream.children.keys().copied().collect();
        for upstream in upstreams {
            self.cancel_upstream(upstream.peer, upstream.request);
        }
        for (peer, request) in children {
            self.remove_child(id, peer, request);
        }
        self.streams.remove(id);
        self.subs.retain(|_, stream| stream != id);
        for timer in [
            Timer::Upstream,
            Timer::Retry,
            Timer::Heartbeat,
            Timer::Repair,
            Timer::Drop,
        ] {
            self.timers.stop(&timer(id.clone()));
        }
    }

    pub(super) fn streams_lost_link(&mut self, peer: NodeId) {
        let ids: Vec<_> = self.streams.keys().cloned().collect();
        for id in ids {
            let Some(stream) = self.streams.get(&id) else {
                continue;
            };
            let children: Vec<_> = stream.children.keys().copied().collect();
            let upstreams: Vec<_> = stream
                .upstreams
                .iter()
                .map(|u| (u.peer, u.request))
                .collect();
            for (_, request) in children.into_iter().filter(|(p, _)| *p == peer) {
                self.remove_child(&id, peer, request);
            }
            for (_, request) in upstreams.into_iter().filter(|(p, _)| *p == peer) {
                self.upstream_failed(&id, peer, request, Failure::ParentLost);
            }
        }
    }
}

const HEARTBEAT: std::time::Duration =
    std::time::Duration::from_millis(headwater_proto::limits::SUB_ACK_INTERVAL_MS);

/// A part follows the one before it, or begins a later segment: what lies between was
/// lost before it could be signed, and is a gap for everybody.
fn check_order(stream: &mut Stream, got: Position) -> Result<(), CommandError> {
    let last = stream.ring.edge();
    let Some(edge) = last else {
        return Ok(());
    };
    let expected = stream.ring.after(edge).unwrap_or_else(|| next(edge, true));
    if got == expected {
        return Ok(());
    }
    if got.part == 0 && got.segment > edge.segment {
        stream.ring.add_gap(expected, got);
        return Ok(());
    }
    Err(CommandError::OutOfOrder { last, got })
}
