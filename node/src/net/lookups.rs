//! Walks through the overlay that somebody waits for.

use std::collections::HashMap;

use headwater_proto::NodeId;
use libp2p::{Multiaddr, PeerId, kad::QueryId};
use tokio::{sync::oneshot, time::Instant};

/// Nodes nearest to a target that are dialled when it cannot be reached itself.
const NEAREST: usize = 3;

/// What is done with what a walk finds.
#[derive(Debug)]
pub(super) enum Errand {
    /// A link to the target or somebody near it.
    Near(NodeId, oneshot::Sender<()>),
    /// The driver's dial of the target itself.
    Dial(u64, NodeId),
}

/// Walks under way, and links that they wait for.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    walks: HashMap<QueryId, Errand>,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Any of these will do.
    peers: Vec<PeerId>,
    done: oneshot::Sender<()>,
    until: Instant,
}

impl Lookups {
    pub(super) fn began(&mut self, walk: QueryId, errand: Errand) {
        self.walks.insert(walk, errand);
    }

    /// A walk has ended; `None` when nobody waits for it.
    pub(super) fn ended(&mut self, walk: QueryId) -> Option<Errand> {
        self.walks.remove(&walk)
    }

    /// Peers are being dialled for somebody.
    pub(super) fn wait(&mut self, peers: Vec<PeerId>, done: oneshot::Sender<()>, until: Instant) {
        if peers.is_empty() {
            // Whoever asked may have gone; so it is everywhere below.
            let _gone = done.send(());
        } else {
            self.waiting.push(Waiting { peers, done, until });
        }
    }

    /// A link to a peer is up.
    pub(super) fn linked(&mut self, peer: PeerId) {
        self.finish(|waiting| waiting.peers.contains(&peer));
    }

    /// A peer was not reached.
    pub(super) fn not_reached(&mut self, peer: PeerId) {
        for waiting in &mut self.waiting {
            waiting.peers.retain(|other| *other != peer);
        }
        self.finish(|waiting| waiting.peers.is_empty());
    }

    /// Gives up what takes too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.finish(|waiting| waiting.until <= now);
    }

    fn finish(&mut self, over: impl Fn(&Waiting) -> bool) {
        for waiting in self.waiting.extract_if(.., |waiting| over(waiting)) {
            let _gone = waiting.done.send(());
        }
    }
}

/// Of those that a walk found, whom to dial: the target, or else the nearest to it that are
/// nearer than `own`.
pub(super) fn choose(
    target: NodeId,
    own: NodeId,
    found: impl IntoIterator<Item = (NodeId, Vec<Multiaddr>)>,
) -> Vec<(NodeId, Vec<Multiaddr>)> {
    let goal = target.routing_key();
    let mut nearer: Vec<_> = found
        .into_iter()
        .filter(|(_, addresses)| !addresses.is_empty())
        .map(|(node, addresses)| (goal.distance(&node.routing_key()), node, addresses))
        .filter(|(far, ..)| *far < goal.distance(&own.routing_key()))
        .collect();
    nearer.sort_by_key(|(far, ..)| *far);
    let count = match nearer.first() {
        Some((_, first, _)) if *first == target => 1,
        Some(_) | None => NEAREST,
    };
    nearer
        .into_iter()
        .take(count)
        .map(|(_, node, addresses)| (node, addresses))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_public_key([number; 32])
    }

    fn somewhere() -> Vec<Multiaddr> {
        vec!["/ip4/192.0.2.1/tcp/4935".parse().unwrap()]
    }

    #[test]
    fn the_target_itself_is_enough() {
        let found = (1..20).map(|number| (node(number), somewhere()));
        let chosen = choose(node(7), node(30), found);
        let chosen: Vec<_> = chosen.into_iter().map(|(node, _)| node).collect();
        assert_eq!(chosen, [node(7)]);
    }

    #[test]
    fn those_that_are_not_nearer_or_nowhere_are_left_out() {
        let (target, own) = (node(40), node(41));
        let goal = target.routing_key();
        let far = |other: NodeId| goal.distance(&other.routing_key());
        let found: Vec<_> = (1..20)
            .map(|number| {
                let known = if number % 2 == 0 { somewhere() } else { vec![] };
                (node(number), known)
            })
            .collect();

        let chosen = choose(target, own, found);

        assert!(chosen.len() <= NEAREST);
        for (other, _) in &chosen {
            assert!(far(*other) < far(own));
        }
        let mut all: Vec<_> = (1..20)
            .filter(|number| number % 2 == 0)
            .map(node)
            .filter(|other| far(*other) < far(own))
            .collect();
        all.sort_by_key(|other| far(*other));
        all.truncate(NEAREST);
        let chosen: Vec<_> = chosen.into_iter().map(|(node, _)| node).collect();
        assert_eq!(chosen, all);
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_first_link_or_the_last_failure() {
        let peers: Vec<_> = (0..2).map(|_| PeerId::random()).collect();
        let until = Instant::now() + std::time::Duration::from_secs(3600);
        let mut lookups = Lookups::default();
        let (tx, mut linked) = oneshot::channel();
        lookups.wait(peers.clone(), tx, until);
        lookups.linked(peers[1]);
        assert!(linked.try_recv().is_ok());

        let (tx, mut failed) = oneshot::channel();
        lookups.wait(peers.clone(), tx, until);
        lookups.not_reached(peers[0]);
        assert!(failed.try_recv().is_err());
        lookups.not_reached(peers[1]);
        assert!(failed.try_recv().is_ok());

        let (tx, mut late) = oneshot::channel();
        lookups.wait(peers, tx, until);
        lookups.expire(until);
        assert!(late.try_recv().is_ok());
    }
}
