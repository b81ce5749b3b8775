//! What neighbours say about streams.

use headwater_proto::{
    Cancel, Chunk, Finish, Gap, Nack, NoRouteReason, NodeId, Part, RequestId, SubAck, SubState,
};

use super::{
    Source, Stream, StreamKey, Streams,
    ring::Accepted,
    stream::Finished,
    upstream::{ParentState, SignedClaim},
};
use crate::{cx::Cx, output::Failure};

impl Streams {
    pub(crate) fn on_part(&mut self, cx: &mut Cx, from: NodeId, part: &Part) {
        let Some(key) = up_key(cx, from, part.request) else {
            return cx.unsolicited(from, part.request);
        };
        self.with(cx, key, |stream, cx| stream.on_part(cx, from, part));
    }

    pub(crate) fn on_chunk(&mut self, cx: &mut Cx, from: NodeId, chunk: Chunk) {
        let Some(key) = up_key(cx, from, chunk.request) else {
            return cx.unsolicited(from, chunk.request);
        };
        let Some(stream) = self.table.get_mut(&key) else {
            return;
        };
        if stream.on_chunk(cx, from, chunk) {
            self.with(cx, key, |stream, cx| stream.mend(cx));
        }
    }

    pub(crate) fn on_sub_ack(&mut self, cx: &mut Cx, from: NodeId, ack: SubAck) {
        let Some(key) = up_key(cx, from, ack.request) else {
            return cx.unsolicited(from, ack.request);
        };
        self.with(cx, key, |stream, cx| stream.on_sub_ack(cx, from, ack));
    }

    pub(crate) fn on_gap(&mut self, cx: &mut Cx, from: NodeId, gap: &Gap) {
        let Some(key) = up_key(cx, from, gap.request) else {
            return cx.unsolicited(from, gap.request);
        };
        self.with(cx, key, |stream, cx| stream.on_gap(cx, from, gap));
    }

    pub(crate) fn on_finish(&mut self, cx: &mut Cx, from: NodeId, finish: Finish) {
        let Some(key) = up_key(cx, from, finish.request) else {
            return cx.unsolicited(from, finish.request);
        };
        self.with(cx, key, |stream, cx| stream.on_finish(cx, from, finish));
    }

    /// NotFound, NoRoute or Redirect; false when no subscription has that request id.
    pub(crate) fn on_refused(
        &mut self,
        cx: &mut Cx,
        from: NodeId,
        request: RequestId,
        failure: Failure,
    ) -> bool {
        let Some(key) = up_key(cx, from, request) else {
            return false;
        };
        self.with(cx, key, |stream, cx| {
            if let Source::Remote(up) = &stream.source
                && let Some(index) = up.find(from, request)
            {
                stream.lose_parent(cx, index, failure, false);
            }
        });
        true
    }

    pub(crate) fn on_cancel(&mut self, cx: &mut Cx, from: NodeId, cancel: &Cancel) {
        let down = cx.links.get(&from).map(|link| &link.down);
        // A Cancel may cross a refusal or the end: then there is nothing to cancel.
        if let Some(key) = down.and_then(|down| down.get(&cancel.request)).copied() {
            let name = (from, cancel.request);
            self.with(cx, key, |stream, cx| stream.drop_child(cx, name));
        }
    }

    pub(crate) fn on_nack(&mut self, cx: &mut Cx, from: NodeId, nack: Nack) {
        cx.stats.nacks_in += 1;
        let down = cx.links.get(&from).map(|link| &link.down);
        let Some(key) = down.and_then(|down| down.get(&nack.request)).copied() else {
            return;
        };
        let Some(stream) = self.table.get_mut(&key) else {
            return;
        };
        if let Some(child) = stream.children.get_mut(&(from, nack.request)) {
            child.on_nack(cx, &stream.ring, nack.slot, nack.chunks);
            child.pump(cx, &stream.ring);
        }
    }
}

impl Stream {
    fn on_part(&mut self, cx: &mut Cx, from: NodeId, part: &Part) {
        if part.header.value().stream != self.id {
            cx.violation(from, "part of another stream");
            // The link's reader holds that header to be the true one from now on, so
            // nothing good can come on this subscription any more.
            return self.leave_liar(cx, from, part.request);
        }
        let Some(index) = self.hear(cx, from, part.request) else {
            return;
        };
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let slot = part.header.value().slot;
        match self.ring.announce(&part.header) {
            Accepted::New => {
                up.parents[index].announce(slot);
                self.commit_gaps();
                self.mend(cx);
                self.pump_children(cx);
            }
            Accepted::Known => {
                cx.stats.duplicates += 1;
                if self.ring.entry(slot).is_some_and(|entry| !entry.complete()) {
                    up.parents[index].announce(slot);
                }
            }
            Accepted::Stale | Accepted::Full => cx.stats.stale_parts += 1,
            Accepted::Contradiction => cx.stats.contradictions += 1,
        }
    }

    /// True when it completed a part or init.
    fn on_chunk(&mut self, cx: &mut Cx, from: NodeId, chunk: Chunk) -> bool {
        let Some(index) = self.hear(cx, from, chunk.request) else {
            return false;
        };
        let Source::Remote(up) = &mut self.source else {
            return false;
        };
        let (slot, size) = (chunk.slot, chunk.payload.len() as u64);
        let parent = &mut up.parents[index];
        if !parent.has_announced(slot) || !self.ring.put(slot, chunk.index, chunk.payload) {
            cx.stats.duplicates += 1;
            return false;
        }
        cx.stats.bytes_in += size;
        let complete = self.ring.entry(slot).is_some_and(|entry| entry.complete());
        if complete {
            cx.stats.parts_in += 1;
            parent.completed(slot);
        }
        self.pump_children(cx);
        complete
    }

    fn on_sub_ack(&mut self, cx: &mut Cx, from: NodeId, ack: SubAck) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let Some(index) = up.find(from, ack.request) else {
            return;
        };
        if ack.path.contains(&cx.key.prefix()) {
            let failure = Failure::NoRoute(NoRouteReason::NoCloserPeer);
            return self.lose_parent(cx, index, failure, true);
        }
        let parent = &mut up.parents[index];
        parent.path = ack.path;
        match ack.state {
            SubState::Live(_) => {
                let changed = parent.hear(cx.now, ParentState::Live);
                if changed || index > 0 {
                    self.promote(cx, index);
                }
            }
            SubState::Pending => {
                if parent.hear(cx.now, ParentState::Pending) {
                    self.tell_state(cx);
                }
            }
        }
    }

    fn on_gap(&mut self, cx: &mut Cx, from: NodeId, gap: &Gap) {
        let Some(index) = self.hear(cx, from, gap.request) else {
            return;
        };
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if gap.from >= gap.to {
            return cx.violation(from, "empty gap");
        }
        up.parents[index].note_gap(gap.from, gap.to);
        self.commit_gaps();
        self.pump_children(cx);
    }

    fn on_finish(&mut self, cx: &mut Cx, from: NodeId, finish: Finish) {
        let end = finish.body.value();
        if end.stream != self.id {
            return cx.violation(from, "end of another stream");
        }
        if self.hear(cx, from, finish.request).is_none() {
            return;
        }
        // The stream has outlived this end: it is from before the owner went on.
        if self
            .ring
            .edge()
            .is_some_and(|edge| end.last.is_none_or(|last| last < edge))
        {
            cx.stats.stale_finishes += 1;
            return;
        }
        if self.finished.is_none() {
            let body = finish.body;
            self.finished = Some(Finished { body, at: cx.now });
            self.tell_finish(cx);
        }
    }

    /// Notes that data came on a subscription, which makes it the one that counts.
    fn hear(&mut self, cx: &mut Cx, from: NodeId, request: RequestId) -> Option<usize> {
        let Source::Remote(up) = &mut self.source else {
            return None;
        };
        let index = up.find(from, request)?;
        let changed = up.parents[index].hear(cx.now, ParentState::Live);
        if changed || index > 0 {
            self.promote(cx, index);
            return Some(0);
        }
        Some(index)
    }

    fn leave_liar(&mut self, cx: &mut Cx, peer: NodeId, request: RequestId) {
        if let Source::Remote(up) = &self.source
            && let Some(index) = up.find(peer, request)
        {
            self.lose_parent(cx, index, Failure::ParentLost, true);
        }
    }

    pub(super) fn on_parent_gone(&mut self, cx: &mut Cx, peer: NodeId, request: RequestId) {
        if let Source::Remote(up) = &self.source
            && let Some(index) = up.find(peer, request)
        {
            self.lose_parent(cx, index, Failure::ParentLost, false);
        }
    }

    pub(super) fn on_claim(&mut self, cx: &mut Cx, claim: Option<SignedClaim>) {
        let from = self.resume_from();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        up.claim_asked = false;
        let (Some(claim), false) = (claim, self.local.jobs.is_empty()) else {
            if up.parents.is_empty() {
                up.retry_at = Some(up.retry.schedule(cx));
            }
            return;
        };
        up.claim = Some(claim);
        let main = up.main().map(|p| (p.peer, p.request, p.state));
        match main {
            None => self.seek(cx),
            Some((_, _, ParentState::Live)) => up.claim = None,
            Some((peer, request, ParentState::Asked | ParentState::Pending)) => {
                up.send_sub(cx, &self.id, peer, request, from, false);
                up.resend_at = Some(up.retry.schedule(cx));
            }
        }
    }
}

fn up_key(cx: &Cx, from: NodeId, request: RequestId) -> Option<StreamKey> {
    cx.links.get(&from)?.up.get(&request).copied()
}
