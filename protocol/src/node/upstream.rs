//! Where a stream comes from: finding a parent, noticing that it failed, replacing it.

use headwater_proto::{
    Cancel, Finish, Message, NoRouteReason, NodeId, NotFound, Redirect, RequestId, StreamId, Sub,
    SubAck, SubState, TranscodeSub,
};

use super::Node;
use crate::{
    output::{Delivery, Event, Failure, Output},
    stream::{Upstream, UpstreamState},
    timers::Timer,
};

impl Node {
    /// Looks for a parent if the stream needs one.
    pub(super) fn seek(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let wants = !stream.owned && stream.is_wanted() && !stream.is_whole();
        if !wants || !stream.upstreams.is_empty() {
            return;
        }
        if let (Some(job), None) = (stream.jobs.first(), &stream.claim) {
            // A transcoder subscribes with a claim, so that the broadcaster can dial it.
            return self.want_claim(*job);
        }
        let hops = self.next_hops(id.node, None);
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let candidates = hops.iter().copied().filter(|hop| {
            !stream.failed.contains(hop) && !stream.children.keys().any(|(peer, _)| peer == hop)
        });
        match candidates.into_iter().next() {
            Some(hop) => self.ask_parent(id, hop),
            None if self.links.is_empty() => self.search_failed(id, Failure::NoPeers),
            None => {
                let reason = NoRouteReason::NoCloserPeer;
                self.search_failed(id, Failure::NoRoute(reason));
            }
        }
    }

    /// Subscribes at a neighbour, beside any parent there is.
    pub(super) fn ask_parent(&mut self, id: &StreamId, peer: NodeId) {
        let request = self.fresh_request();
        let now = self.now;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let from = stream.needed().or(stream.from);
        let hops_left = stream.hops;
        let message = match stream.claim.take() {
            Some((claim, signature)) => Message::TranscodeSub(TranscodeSub {
                request,
                branch: true,
                from,
                hops_left,
                claim,
                signature,
            }),
            None => Message::Sub(Sub {
                request,
                stream: id.clone(),
                from,
                hops_left,
            }),
        };
        stream.upstreams.push(Upstream {
            peer,
            request,
            state: UpstreamState::Asked,
            heard: now,
        });
        self.subs.insert(request, id.clone());
        self.send(peer, message);
        self.timers
            .set_if_unset(Timer::Upstream(id.clone()), now + self.config.ask);
    }

    pub(super) fn on_sub_ack(&mut self, from: NodeId, ack: SubAck) {
        let state = match ack.state {
            SubState::Live(_) => UpstreamState::Live,
            SubState::Pending => UpstreamState::Pending,
        };
        let Some(id) = self.upstream_spoke(from, ack.request, state) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.parent() == Some(from)
        {
            stream.path = ack.path;
        }
    }

    /// Notes that a parent is alive. Returns the stream when it is one of ours.
    pub(super) fn upstream_spoke(
        &mut self,
        from: NodeId,
        request: RequestId,
        state: UpstreamState,
    ) -> Option<StreamId> {
        let now = self.now;
        let id = self.subs.get(&request)?.clone();
        let stream = self.streams.get_mut(&id)?;
        let upstream = stream.upstream(from, request)?;
        let before = upstream.state;
        // A parent that goes on saying it has nothing does not prolong its time.
        if state != UpstreamState::Pending || before != UpstreamState::Pending {
            upstream.heard = now;
        }
        upstream.state = state;
        if before == state {
            return Some(id);
        }
        if state == UpstreamState::Live {
            stream.failed.clear();
            stream.attempts = 0;
            self.timers.stop(&Timer::Retry(id.clone()));
            self.promote(&id, from, request);
        }
        let span = match state {
            UpstreamState::Live => self.config.silence,
            UpstreamState::Pending | UpstreamState::Asked => self.config.pending,
        };
        self.timers.set(Timer::Upstream(id.clone()), now + span);
        if self.streams.get(&id)?.parent() == Some(from) {
            self.tell_children(&id);
        }
        Some(id)
    }

    /// The neighbour that delivers becomes the parent; any other is cancelled now, and
    /// not before: make before break.
    fn promote(&mut self, id: &StreamId, peer: NodeId, request: RequestId) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let (winner, others): (Vec<_>, Vec<_>) = std::mem::take(&mut stream.upstreams)
            .into_iter()
            .partition(|up| up.peer == peer && up.request == request);
        stream.upstreams = winner;
        for other in &others {
            self.cancel_upstream(other.peer, other.request);
        }
        let from = others.first().map(|other| other.peer);
        self.out.push_back(Output::Observe(Event::ParentChanged {
            stream: id.clone(),
            from,
            to: Some(peer),
        }));
    }

    fn tell_children(&mut self, id: &StreamId) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let children: Vec<_> = stream.children.keys().copied().collect();
        for (peer, request) in children {
            self.send_sub_ack(id, peer, request);
        }
    }

    /// A parent may have been silent for too long.
    pub(super) fn upstream_timeout(&mut self, id: &StreamId) {
        let now = self.now;
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        if stream.is_whole() {
            return;
        }
        let config = &self.config;
        let silent: Vec<_> = stream
            .upstreams
            .iter()
            .filter(|up| up.patience_ends(config) <= now)
            .cloned()
            .collect();
        for upstream in silent {
            self.cancel_upstream(upstream.peer, upstream.request);
            self.upstream_failed(id, upstream.peer, upstream.request, Failure::ParentLost);
        }
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let config = &self.config;
        if let Some(at) = stream
            .upstreams
            .iter()
            .map(|up| up.patience_ends(config))
            .min()
        {
            self.timers.set(Timer::Upstream(id.clone()), at);
        }
    }

    pub(super) fn cancel_upstream(&mut self, peer: NodeId, request: RequestId) {
        if self.links.contains_key(&peer) {
            self.send(peer, Message::Cancel(Cancel { request }));
        }
    }

    /// A neighbour that was asked does not deliver (any more).
    pub(super) fn upstream_failed(
        &mut self,
        id: &StreamId,
        peer: NodeId,
        request: RequestId,
        failure: Failure,
    ) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let Some(at) = stream
            .upstreams
            .iter()
            .position(|up| up.peer == peer && up.request == request)
        else {
            return;
        };
        let lost = stream.upstreams.remove(at);
        stream.failed.insert(peer);
        self.stats.parents_lost += 1;
        if !stream.upstreams.is_empty() {
            return;
        }
        if lost.state == UpstreamState::Live {
            self.out.push_back(Output::Observe(Event::ParentChanged {
                stream: id.clone(),
                from: Some(peer),
                to: None,
            }));
            // Children wait longer when they know that we are looking.
            self.tell_children(id);
        }
        if failure == Failure::NotFound {
            // The owner itself said so; nobody else can know better.
            self.search_failed(id, failure);
        } else {
            self.seek(id);
        }
    }

    /// Nobody has the stream now: tells whoever waits, and tries again for this machine.
    fn search_failed(&mut self, id: &StreamId, failure: Failure) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        stream.failed.clear();
        stream.claim = None;
        let children: Vec<_> = stream.children.keys().copied().collect();
        if stream.local.is_some() || !stream.jobs.is_empty() {
            let doublings = stream.attempts.min(8);
            stream.attempts += 1;
            self.out.push_back(Output::Deliver {
                stream: id.clone(),
                delivery: Delivery::Waiting(failure),
            });
            let span = self.config.retry_min * 2_u32.pow(doublings);
            let at = self.jittered(span.min(self.config.retry_max));
            self.timers.set(Timer::Retry(id.clone()), at);
        }
        for (peer, request) in children {
            if failure == Failure::NotFound {
                self.send(peer, Message::NotFound(NotFound { request }));
            } else {
                self.refuse(peer, request, NoRouteReason::NoCloserPeer);
            }
            self.remove_child(id, peer, request);
        }
    }

    pub(super) fn on_not_found(&mut self, from: NodeId, request: RequestId) {
        if self.master_not_found(from, request) {
            return;
        }
        if let Some(id) = self.subs.get(&request).cloned() {
            return self.upstream_failed(&id, from, request, Failure::NotFound);
        }
        if let Some(origin) = self.take_request(from, request) {
            self.request_failed(origin, Failure::NotFound);
        }
    }

    pub(super) fn on_no_route(&mut self, from: NodeId, request: RequestId, reason: NoRouteReason) {
        if self.master_no_route(from, request) || self.request_no_route(from, request) {
            return;
        }
        if let Some(id) = self.subs.get(&request).cloned() {
            self.upstream_failed(&id, from, request, Failure::NoRoute(reason));
        }
    }

    /// A neighbour that sends us elsewhere takes no children itself; the search goes on
    /// among the neighbours there are.
    pub(super) fn on_redirect(&mut self, from: NodeId, redirect: &Redirect) {
        self.on_no_route(from, redirect.request, NoRouteReason::Overloaded);
    }

    pub(super) fn on_finish(&mut self, from: NodeId, finish: &Finish) {
        let Some(id) = self.upstream_spoke(from, finish.request, UpstreamState::Live) else {
            return;
        };
        if finish.body.value().stream != id {
            return self.misbehaved(from, "the end of another stream");
        }
        self.stream_ended(&id, &finish.body);
    }

    /// New links may be what streams without a parent wait for, and the owner of a
    /// job's stream is a better parent than any relay.
    pub(super) fn streams_gained_link(&mut self, peer: NodeId) {
        let ids: Vec<_> = self.streams.keys().cloned().collect();
        for id in ids {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let owner = id.node == peer;
            if stream.upstreams.is_empty() {
                stream.failed.remove(&peer);
                self.seek(&id);
            } else if owner && !stream.jobs.is_empty() && stream.parent() != Some(peer) {
                self.ask_parent(&id, peer);
            }
        }
    }
}
