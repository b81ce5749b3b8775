//! What neighbours say about streams.

use headwater_proto::{
    Cancel, Chunk, Finish, Gap, Nack, NoRouteReason, NodeId, Part, Position, Redirect, RequestId,
    SubAck, SubState, limits::MAX_PATH,
};

use super::{
    Source, Stream, StreamKey, Streams, account,
    redirects::Redirected,
    ring::{Accepted, Ring},
    stream::Finished,
    upstream::{ParentState, Rivalry, Role},
};
use crate::{cx::Cx, output::Failure};

impl Streams {
    pub(crate) fn on_part(&mut self, cx: &mut Cx, from: NodeId, part: &Part) {
        let Some(key) = up_key(cx, from, part.request) else {
            return cx.unsolicited(from, part.request);
        };
        let Some(stream) = self.table.get_mut(key) else {
            return;
        };
        stream.on_part(cx, from, part);
        if stream.is_smooth() {
            // Its chunks bring the rest into order.
            account(stream, cx);
        } else {
            self.with(cx, key, |_, _| ());
        }
    }

    pub(crate) fn on_chunk(&mut self, cx: &mut Cx, from: NodeId, chunk: Chunk) {
        let Some(key) = up_key(cx, from, chunk.request) else {
            return cx.unsolicited(from, chunk.request);
        };
        let Some(stream) = self.table.get_mut(key) else {
            return;
        };
        if !stream.on_chunk(cx, from, chunk) {
            return;
        }
        stream.mend(cx);
        stream.commit_gaps(cx);
        stream.feed_jobs(cx);
        if stream.is_smooth() {
            // Nothing is amiss: only what was completed is handed on, and children are told
            // what they are to be told.
            stream.local.pump(cx, &stream.ring, &stream.id);
            account(stream, cx);
            stream.heartbeat(cx);
            stream.rearm(cx);
        } else {
            self.with(cx, key, |_, _| ());
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

    /// NotFound or NoRoute; false when no subscription has that request id.
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

    /// False when no subscription has that request id.
    pub(crate) fn on_redirect(&mut self, cx: &mut Cx, from: NodeId, redirect: Redirect) -> bool {
        let Some(key) = up_key(cx, from, redirect.request) else {
            return false;
        };
        let outcome = self.with(cx, key, |stream, cx| {
            let id = stream.id.clone();
            let outcome = stream.on_redirect(cx, from, redirect.request, redirect.nodes);
            (id, outcome)
        });
        if let Some((id, Redirected::PassedOn(child))) = outcome {
            self.remember_sent_away(cx, child, id);
        }
        true
    }

    pub(crate) fn on_cancel(&mut self, cx: &mut Cx, from: NodeId, cancel: &Cancel) {
        let down = cx.links.get(&from).map(|link| &link.down);
        // A Cancel may cross a refusal or the end: then there is nothing to cancel.
        if let Some(key) = down.and_then(|down| down.get(cancel.request)) {
            let name = (from, cancel.request);
            self.with(cx, key, |stream, cx| stream.drop_child(cx, name));
        }
    }

    pub(crate) fn on_nack(&mut self, cx: &mut Cx, from: NodeId, nack: Nack) {
        cx.stats.nacks_in += 1;
        let down = cx.links.get(&from).map(|link| &link.down);
        let Some(key) = down.and_then(|down| down.get(nack.request)) else {
            return;
        };
        let Some(stream) = self.table.get_mut(key) else {
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
                self.mend(cx);
                self.commit_gaps(cx);
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

    /// True when it completed a part or init, or changed who feeds the stream.
    fn on_chunk(&mut self, cx: &mut Cx, from: NodeId, chunk: Chunk) -> bool {
        let Some(mut index) = self.hear(cx, from, chunk.request) else {
            return false;
        };
        let Source::Remote(up) = &mut self.source else {
            return false;
        };
        let (slot, size) = (chunk.slot, chunk.payload.len() as u64);
        let parent = &mut up.parents[index];
        if !parent.has_announced(slot) || !self.ring.put(slot, chunk.index, chunk.payload) {
            cx.stats.duplicates += 1;
            cx.stats.duplicate_bytes += size;
            return false;
        }
        cx.stats.bytes_in += size;
        parent.firsts = parent.firsts.saturating_add(1);
        if !parent.is_standby() {
            up.data_at = cx.now;
        }
        let mut changed = false;
        if up.parents[index].role == Role::Rival(Rivalry::Stalled) {
            self.promote(cx, index);
            (index, changed) = (0, true);
        }
        let Source::Remote(up) = &mut self.source else {
            return changed;
        };
        let complete = self.ring.entry(slot).is_some_and(|entry| entry.complete());
        if complete {
            cx.stats.parts_in += 1;
            up.parents[index].completed(slot);
        }
        self.pump_children(cx);
        complete || changed
    }

    fn on_sub_ack(&mut self, cx: &mut Cx, from: NodeId, ack: SubAck) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let Some(index) = up.find(from, ack.request) else {
            return;
        };
        if ack.path.contains(&cx.key.prefix()) || ack.path.len() >= MAX_PATH {
            cx.stats.cycles += 1;
            let failure = Failure::NoRoute(NoRouteReason::NoCloserPeer);
            return self.lose_parent(cx, index, failure, true);
        }
        let parent = &mut up.parents[index];
        parent.path = ack.path;
        parent.load = ack.load;
        let (state, edge) = match ack.state {
            SubState::Live(edge) => (ParentState::Live, edge),
            SubState::Pending => (ParentState::Pending, None),
        };
        parent.edge = edge;
        let changed = parent.hear(cx.now, state);
        if parent.is_standby() {
            return self.check_standby(cx, index);
        }
        if changed && state == ParentState::Pending && parent.role == Role::Feed {
            // It has lost its own parent: another is asked if it takes long.
            let pause = cx.config.hedge_after.saturating_mul(2);
            up.hedge_at.get_or_insert(cx.now + pause);
        } else if changed || parent.role == Role::Rival(Rivalry::Stalled) {
            self.came_to_life(cx, index);
        }
        self.doubt_start(cx, edge);
        self.tell_state(cx);
    }

    /// A parent may be live now: it feeds the stream unless it is one's rival.
    fn came_to_life(&mut self, cx: &mut Cx, index: usize) {
        let from = self.resume_from();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let parent = &up.parents[index];
        if !parent.is_live() {
            return;
        }
        let feeding = up.live().map(|p| p.request);
        match parent.role {
            Role::Feed if up.reported == Some(parent.peer) && index == 0 && up.open() == 1 => {
                up.hedge_at = None;
            }
            Role::Feed | Role::Rival(Rivalry::Moved) => self.promote(cx, index),
            Role::Rival(Rivalry::Direct) => match feeding {
                None => self.promote(cx, index),
                Some(_) => {
                    // From here on each chunk counts for the one that brought it first.
                    up.parents.iter_mut().for_each(|p| p.firsts = 0);
                }
            },
            Role::Rival(Rivalry::Stalled) => {
                // It has nothing either: the stream is quiet.
                let nothing = match (parent.edge, from) {
                    (Some(edge), Some(from)) => edge < from,
                    (edge, _) => edge.is_none(),
                };
                if nothing {
                    let failure = Failure::NoRoute(NoRouteReason::NoCloserPeer);
                    self.lose_parent(cx, index, failure, true);
                }
            }
            Role::Standby => {}
        }
    }

    /// A relay that was asked for a part far beyond what the owner has made must not keep
    /// others from what there is: it begins anew with what there is.
    fn doubt_start(&mut self, cx: &mut Cx, edge: Option<Position>) {
        let (Some(edge), Source::Remote(up)) = (edge, &mut self.source) else {
            return;
        };
        let beyond = up
            .wanted
            .is_some_and(|from| from.segment > edge.segment.saturating_add(1));
        let relays = !self.local.wanted() && self.ring.edge().is_none();
        let main = up
            .parents
            .iter()
            .position(|p| p.role == Role::Feed && p.is_live());
        if let (true, true, Some(main)) = (beyond, relays, main) {
            let from = Some(Position {
                segment: edge.segment.saturating_sub(1),
                part: 0,
            });
            up.wanted = from;
            self.ring = Ring::starting_at(from);
            up.renew(cx, self.key, &self.id, main, from);
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
        self.mend(cx);
        self.commit_gaps(cx);
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

    /// Notes that data came on a subscription, which is a sign of life.
    fn hear(&mut self, cx: &mut Cx, from: NodeId, request: RequestId) -> Option<usize> {
        let Source::Remote(up) = &mut self.source else {
            return None;
        };
        let index = up.find(from, request)?;
        let changed = up.parents[index].hear(cx.now, ParentState::Live);
        if !changed {
            return Some(index);
        }
        self.came_to_life(cx, index);
        match &self.source {
            Source::Remote(up) => up.find(from, request),
            Source::Owned(_) => None,
        }
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
}

fn up_key(cx: &Cx, from: NodeId, request: RequestId) -> Option<StreamKey> {
    cx.links.get(&from)?.up.get(request)
}
