//! Parents besides the one that feeds the stream: the standby, which is ready to take
//! over, and the rival, which is tried because it may be better.

use headwater_proto::{NoRouteReason, NodeId};

use super::{
    children::CROWDED,
    parents::{dial_lead, fed},
    stream::{Source, Stream},
    upstream::{Rivalry, Role, STANDBY, Upstream},
};
use crate::{cx::Cx, output::Failure, time::Time};

/// A standby that is this many levels above the parent takes its place.
const CLIMB: usize = 3;
/// Shortest time between two such changes.
const CLIMB_PAUSE: std::time::Duration = std::time::Duration::from_secs(20);
/// A standby with so much less load than a crowded parent takes its place.
const RELIEF: u8 = 96;
/// SubAcks in a row by which a standby must be that much less busy.
const RELIEF_ACKS: u8 = 4;
/// One of so many children leaves a crowded parent with each SubAck of its standby, so
/// that they do not all leave at once.
const RELIEF_CHANCE: u64 = 8;
/// For how long a parent that withheld something is asked last.
const DISTRUST: std::time::Duration = std::time::Duration::from_secs(60);
/// Neighbours of this kind that are remembered.
const MAX_DISTRUSTED: usize = 16;
/// Neighbours that are asked to stand by before the next pause.
const STANDBY_TRIES: usize = 4;

impl Stream {
    /// Makes the standby send data, besides the parent that feeds the stream.
    pub(super) fn activate(&mut self, cx: &mut Cx, index: usize, rivalry: Rivalry) {
        let from = self.resume_from();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        up.parents[index].recast(Role::Rival(rivalry), cx.now);
        up.renew(cx, self.key, &self.id, index, from);
    }

    /// Tries another parent when no data comes though others may have some.
    pub(crate) fn check_stall(&mut self, cx: &mut Cx) {
        let from = self.resume_from();
        let has_all = self.has_all();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if !up.is_live() || has_all || up.rival().is_some() {
            return;
        }
        let due = *up
            .stall_at
            .get_or_insert(up.data_at + cx.config.stall.first);
        if due > cx.now {
            return;
        }
        if up.data_at + cx.config.stall.first > cx.now {
            up.stall.reset();
            up.stall_at = Some(up.data_at + cx.config.stall.first);
            return;
        }
        up.stall_at = Some(up.stall.schedule(cx));
        if let Some(index) = up.standby() {
            let standby = &up.parents[index];
            let news = match (standby.edge, from) {
                (Some(edge), Some(from)) => edge >= from,
                (edge, _) => edge.is_some(),
            };
            if standby.is_live() && !news {
                // The stream is quiet for others too, if that is true: another is asked.
                let failure = Failure::NoRoute(NoRouteReason::NoCloserPeer);
                return self.lose_parent(cx, index, failure, true);
            }
        }
        self.doubt(cx);
    }

    /// Tries another parent besides the one that feeds the stream: the standby, a closer
    /// neighbour, or a node that is said to have it.
    pub(crate) fn doubt(&mut self, cx: &mut Cx) {
        let from = self.resume_from();
        let asker = self.asker();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        if !up.is_live() || up.rival().is_some() {
            return;
        }
        if let Some(index) = up.standby().filter(|index| up.parents[*index].is_live()) {
            return self.activate(cx, index, Rivalry::Stalled);
        }
        let children = &self.children;
        let skip = |up: &Upstream, peer: &NodeId| {
            up.has_parent(peer) || fed(children, peer) || up.no_standby.contains(peer)
        };
        let mut next: Vec<_> = up
            .leads
            .iter()
            .map(|lead| lead.node)
            .filter(|peer| cx.links.contains(peer) && !skip(up, peer))
            .collect();
        next.extend(cx.candidates(&self.id.node, asker, |peer| skip(up, peer)));
        next.sort_by_key(|peer| up.distrusts(peer, cx.now));
        if let Some(peer) = next.first().copied() {
            let role = Role::Rival(Rivalry::Stalled);
            up.no_standby.insert(peer);
            up.subscribe(cx, self.key, &self.id, peer, from, role);
        } else {
            up.no_standby.clear();
            up.dial_as = Rivalry::Stalled;
            dial_lead(cx, up, self.key);
        }
    }

    /// The standby has said how far it is and how far from the owner: it takes over when
    /// it stays ahead, or is much nearer.
    pub(crate) fn check_standby(&mut self, cx: &mut Cx, index: usize) {
        let owner = self.id.node;
        let ready = self.ring.ready();
        let mine = self.ring.edge();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        // Whatever way the stream takes begins at its owner.
        let main = up.main().map(|p| p.peer).filter(|peer| *peer != owner);
        let main = main.and_then(|peer| Some(cx.links.get(&peer)?.key.prefix()));
        let standby = &mut up.parents[index];
        let through_main = main.is_some_and(|main| standby.path.contains(&main));
        // It says it is live and has nothing, of a stream that has come to here.
        let useless = through_main || (standby.edge.is_none() && mine.is_some());
        let failure = Failure::NoRoute(NoRouteReason::NoCloserPeer);
        if useless || !standby.is_live() {
            return self.lose_parent(cx, index, failure, true);
        }
        // A segment ahead, or three parts: more than the paths may differ.
        let ahead = match (standby.edge, mine.or(ready)) {
            (Some(edge), Some(mine)) => {
                edge.segment > mine.segment.saturating_add(1)
                    || (edge.segment == mine.segment && edge.part > mine.part.saturating_add(2))
                    || (edge.segment > mine.segment && edge.part > 2)
            }
            _ => false,
        };
        standby.ahead = if ahead { standby.ahead + 1 } else { 0 };
        let higher = standby.path.len() + CLIMB;
        let recent = up.moved.is_some_and(|at| at + CLIMB_PAUSE > cx.now);
        if up.rival().is_none() && up.live().is_some_and(|p| p.path.len() >= higher) && !recent {
            up.moved = Some(cx.now);
            return self.activate(cx, index, Rivalry::Moved);
        }
        if !recent && self.is_relief(cx, index) {
            if let Source::Remote(up) = &mut self.source {
                up.moved = Some(cx.now);
            }
            return self.activate(cx, index, Rivalry::Moved);
        }
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let standby = &up.parents[index];
        if standby.ahead >= 3 && up.is_live() && up.rival().is_none() {
            self.activate(cx, index, Rivalry::Stalled);
        }
    }

    /// Whether the standby takes the parent's place because the parent is crowded: it has
    /// been much less busy for a while, is no further from the owner, and it is this
    /// child's turn. Who was moved stays for a while, and the parent says so when it is no
    /// longer crowded: so nobody goes to and fro.
    fn is_relief(&mut self, cx: &mut Cx, index: usize) -> bool {
        let Source::Remote(up) = &mut self.source else {
            return false;
        };
        let Some((load, depth)) = up.live().map(|p| (p.load, p.path.len())) else {
            return false;
        };
        let free = up.rival().is_none() && self.local.jobs.is_empty();
        let standby = &mut up.parents[index];
        let lighter = load >= CROWDED
            && standby.load.saturating_add(RELIEF) <= load
            && standby.path.len() <= depth;
        standby.lighter = if lighter {
            standby.lighter.saturating_add(1)
        } else {
            0
        };
        free && standby.lighter >= RELIEF_ACKS && cx.random().is_multiple_of(RELIEF_CHANCE)
    }

    pub(crate) fn plan_standby(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        up.standby_at = (cx.config.standby && up.is_live() && up.standby().is_none())
            .then(|| up.standby_retry.schedule(cx));
    }

    /// Asks a neighbour to stand by.
    pub(crate) fn find_standby(&mut self, cx: &mut Cx) {
        let has_all = self.has_all();
        let asker = self.asker();
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        up.standby_at = None;
        if !up.is_live() || up.standby().is_some() || has_all {
            return;
        }
        let children = &self.children;
        let skip = |up: &Upstream, peer: &NodeId| {
            up.has_parent(peer)
                || up.no_standby.contains(peer)
                || fed(children, peer)
                || up.distrusts(peer, cx.now)
        };
        let lead = up
            .leads
            .iter()
            .map(|lead| lead.node)
            .find(|peer| cx.links.contains(peer) && !skip(up, peer));
        let tries = up.no_standby.len();
        let next = lead.or_else(|| {
            let candidates = cx.candidates(&self.id.node, asker, |peer| skip(up, peer));
            candidates.first().copied()
        });
        match next {
            Some(peer) if tries < STANDBY_TRIES => {
                let role = Role::Standby;
                up.subscribe(cx, self.key, &self.id, peer, Some(STANDBY), role);
            }
            _ => {
                up.no_standby.clear();
                up.standby_at = Some(up.standby_retry.schedule(cx));
            }
        }
    }
}

impl Upstream {
    /// Remembers a parent that did not bring what another one had.
    pub(super) fn distrust(&mut self, peer: NodeId, now: Time) {
        self.distrusted.insert(peer, now + DISTRUST);
        if self.distrusted.len() > MAX_DISTRUSTED {
            self.distrusted.pop_first();
        }
    }

    pub(super) fn distrusts(&self, peer: &NodeId, now: Time) -> bool {
        self.distrusted.get(peer).is_some_and(|until| *until > now)
    }
}
