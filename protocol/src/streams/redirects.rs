//! Redirects: nodes that a neighbour says have the stream, and what is made of them.

use headwater_proto::{NoRouteReason, NodeAddresses, NodeId, RequestId};

use super::{
    parents::{DIAL_PATIENCE, MAX_OPEN, fed},
    stream::{Source, Stream},
    upstream::{Rivalry, Role, close_up},
};
use crate::{cx::Cx, output::Failure};

/// Shortest time between two introductions that a node follows.
const MOVE_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// What became of a Redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirected {
    /// It concerns this node.
    Followed,
    /// The only child goes there itself.
    PassedOn(NodeId),
}

impl Stream {
    /// A neighbour names others that have the stream.
    pub(crate) fn on_redirect(
        &mut self,
        cx: &mut Cx,
        from: NodeId,
        request: RequestId,
        nodes: Vec<NodeAddresses>,
    ) -> Redirected {
        let only = self
            .only_child()
            .filter(|child| !child.insists && child.from().is_none())
            .map(|child| (child.peer, child.request));
        let Source::Remote(up) = &mut self.source else {
            return Redirected::Followed;
        };
        let Some(index) = up.find(from, request) else {
            return Redirected::Followed;
        };
        let overloaded = Failure::NoRoute(NoRouteReason::Overloaded);
        let parent = &up.parents[index];
        if parent.is_live() {
            // Not a refusal: the parent would rather have the node elsewhere.
            if parent.role == Role::Feed {
                self.move_to(cx, nodes);
            }
            return Redirected::Followed;
        }
        if parent.role != Role::Feed {
            if parent.role == Role::Rival(Rivalry::Stalled) && up.follow_left > 0 {
                // It is full; those it names may do as well.
                cx.stats.redirects_in += 1;
                up.follow_left -= 1;
                up.learn(nodes.into_iter());
            }
            self.lose_parent(cx, index, overloaded, false);
            return Redirected::Followed;
        }
        cx.stats.redirects_in += 1;
        if up.follow_left == 0 || nodes.is_empty() {
            self.lose_parent(cx, index, overloaded, false);
            return Redirected::Followed;
        }
        up.follow_left -= 1;
        if let (Some((child, asked)), 1) = (only, up.open()) {
            // Nobody here needs the stream: the one that does goes there itself.
            let parent = up.parents.remove(index);
            close_up(cx, parent.peer, parent.request, false);
            self.drop_child(cx, (child, asked));
            cx.redirect(child, asked, nodes);
            return Redirected::PassedOn(child);
        }
        up.learn(nodes.into_iter());
        let parent = up.parents.remove(index);
        close_up(cx, parent.peer, parent.request, false);
        up.tried.insert(from);
        up.failure = Some(overloaded);
        if up.open() == 0 {
            self.seek(cx);
        } else {
            self.ask_another(cx);
        }
        Redirected::Followed
    }

    /// The parent serves nobody but this node and asks it to go to its own parent.
    fn move_to(&mut self, cx: &mut Cx, nodes: Vec<NodeAddresses>) {
        let from = self.resume_from();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let recent = up.moved.is_some_and(|at| at + MOVE_PAUSE > cx.now);
        let Some(node) = nodes.into_iter().next() else {
            return;
        };
        let peer = node.node;
        if recent || up.rival().is_some() || peer == cx.me || fed(&self.children, &peer) {
            return;
        }
        up.moved = Some(cx.now);
        if peer == self.id.node && !self.local.jobs.is_empty() && cx.links.contains(&peer) {
            // Its own link is measured before it is taken.
            return;
        }
        if let Some(index) = up.standby().filter(|i| up.parents[*i].peer == peer) {
            return self.activate(cx, index, Rivalry::Moved);
        }
        if up.has_parent(&peer) {
            return;
        }
        if cx.links.contains(&peer) {
            let role = Role::Rival(Rivalry::Moved);
            up.subscribe(cx, self.key, &self.id, peer, from, role);
        } else if cx.wish(self.key, node) {
            up.dial_as = Rivalry::Moved;
            up.dialling.insert(peer, cx.now + DIAL_PATIENCE);
        }
    }

    /// A node that was dialled for this stream is linked now, or is not waited for any more.
    pub(crate) fn on_dialled(&mut self, cx: &mut Cx, peer: NodeId, linked: bool) {
        let from = self.resume_from();
        let has_all = self.has_all();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if up.dialling.remove(&peer).is_none() {
            // It took longer than the search did, or than it waited.
            let wanted = linked && !up.is_live() && !has_all && up.open() < MAX_OPEN;
            if wanted && !up.has_parent(&peer) && !fed(&self.children, &peer) {
                self.subscribe(cx, peer, from);
            }
            return;
        }
        let wanted = linked && !up.has_parent(&peer) && !fed(&self.children, &peer);
        if up.is_live() {
            if wanted && up.rival().is_none() {
                let role = Role::Rival(up.dial_as);
                up.subscribe(cx, self.key, &self.id, peer, from, role);
            } else if !linked && up.dial_as == Rivalry::Stalled {
                self.doubt_more(cx);
            }
        } else if wanted {
            self.subscribe(cx, peer, from);
        } else {
            up.tried.insert(peer);
            self.ask_another(cx);
        }
    }
}
