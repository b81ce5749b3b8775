//! The overlay: whom this node hears of, whom it keeps links to, and walks towards others.

use std::collections::BTreeSet;

use headwater_proto::{AddressText, NodeId};
use libp2p::{
    Multiaddr, PeerId, kad,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use tokio::time::Instant;
use tracing::debug;

use super::{DIAL, Task, texts};
use crate::{
    mutex::lock,
    net::{
        lookups::{self, Errand},
        policy::{self, node_of, peer_of},
    },
};

/// Links that a relayer keeps to each bucket of its routing table.
const PER_BUCKET: usize = 2;

impl Task {
    pub(super) fn walk(&mut self, target: PeerId, errand: Errand) {
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        let walk = kad.get_closest_peers(target);
        self.lookups.began(walk, errand);
    }

    /// Takes note of a relayer: itself or another node says that it is one.
    pub(super) fn heard_of(&mut self, peer: PeerId, addresses: &[Multiaddr], first_hand: bool) {
        let Some(node) = node_of(&peer).filter(|node| *node != self.handle.node) else {
            return;
        };
        self.add_relayer(node, &texts(addresses), first_hand);
    }

    pub(super) fn add_relayer(
        &mut self,
        node: NodeId,
        addresses: &[AddressText],
        first_hand: bool,
    ) {
        let Some(peer) = peer_of(node) else {
            return;
        };
        let mut addresses = policy::filter(addresses, node, self.config.allow_private);
        addresses.truncate(headwater_proto::limits::MAX_ADDRESSES);
        let parsed: Vec<Multiaddr> = addresses
            .iter()
            .filter_map(|address| address.as_str().parse().ok())
            .collect();
        let learned = lock(&self.handle.known).learn(node, addresses, first_hand);
        if !learned {
            return;
        }
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        // The routing table only ever adds addresses: the old ones go first.
        kad.remove_peer(&peer);
        for address in parsed {
            kad.add_address(&peer, address);
        }
    }

    /// A walk that somebody waits for has ended.
    pub(super) async fn walked(&mut self, errand: Errand, found: Vec<kad::PeerInfo>) {
        let found = found
            .into_iter()
            .filter_map(|info| Some((node_of(&info.peer_id)?, info.addrs)));
        match errand {
            Errand::Dial(dial, target) => {
                let addresses = found
                    .into_iter()
                    .find(|(node, _)| *node == target)
                    .map(|(_, addresses)| texts(&addresses))
                    .unwrap_or_default();
                if let Some(peer) = peer_of(target) {
                    self.dial(dial, peer, &addresses).await;
                }
            }
            Errand::Near(target, done) => {
                let chosen = lookups::choose(target, self.handle.node, found);
                let mut dialled = Vec::new();
                for (node, addresses) in chosen {
                    let allow = self.config.allow_private;
                    let addresses = policy::filter(&texts(&addresses), node, allow);
                    let Some(peer) = peer_of(node).filter(|peer| !self.links.contains_key(peer))
                    else {
                        continue;
                    };
                    if !addresses.is_empty() && self.attempt(peer, &addresses).is_ok() {
                        dialled.push(peer);
                    }
                }
                self.lookups.wait(dialled, done, Instant::now() + DIAL);
            }
        }
    }

    /// Asks the overlay for the nodes nearest to this one, and a relayer also for those
    /// around a random place.
    pub(super) fn search(&mut self) {
        let local = *self.swarm.local_peer_id();
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        kad.get_closest_peers(local);
        let mut place = [0; 32];
        if self.config.roles.relayer && getrandom::fill(&mut place).is_ok() {
            kad.get_closest_peers(place.to_vec());
        }
    }

    /// Dials the relayers that this node should be linked to; `true` when links are
    /// missing.
    pub(super) fn dial_overlay(&mut self, now: Instant) -> bool {
        let wanted = self.wanted();
        let mut missing = wanted.len() < self.config.home_links;
        for peer in wanted {
            if self.links.contains_key(&peer) {
                continue;
            }
            missing = true;
            if self.avoid.get(&peer).is_some_and(|a| !a.is_over(now)) {
                continue;
            }
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            if let Err(error) = self.swarm.dial(options) {
                debug!(%peer, %error, "relayer not dialled");
            }
        }
        missing
    }

    /// Closes links that nothing uses, but for those of the overlay.
    ///
    /// The nodes that each search asks are spared too: it would only dial them again. And
    /// nothing is closed while none of the links that are wanted is there: the others may
    /// be the only way to the network.
    pub(super) fn close_spare(&mut self, nodes: &[NodeId]) {
        let mut wanted = self.wanted();
        if !wanted.iter().any(|peer| self.links.contains_key(peer)) {
            return;
        }
        wanted.extend(self.nearest(kad::K_VALUE.get()));
        for peer in nodes.iter().filter_map(|node| peer_of(*node)) {
            if let Some(link) = self.links.get(&peer)
                && !wanted.contains(&peer)
            {
                debug!(%peer, "nothing uses the link; closing it");
                link.stop.cancel();
            }
        }
    }

    /// The relayers nearest to this node.
    fn nearest(&mut self, count: usize) -> BTreeSet<PeerId> {
        let key = kad::KBucketKey::from(*self.swarm.local_peer_id());
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        let nearest = kad.get_closest_local_peers(&key);
        nearest
            .map(kad::KBucketKey::into_preimage)
            .take(count)
            .collect()
    }

    /// The nearest relayers; for a relayer also some of each bucket, those with a link
    /// first. With the nearest every greedy route ends at its goal, and with the others
    /// it takes few hops.
    fn wanted(&mut self) -> BTreeSet<PeerId> {
        let mut wanted = self.nearest(self.config.home_links);
        if self.config.roles.relayer {
            let kad = &mut self.swarm.behaviour_mut().overlay.kad;
            for bucket in kad.kbuckets() {
                let mut peers: Vec<PeerId> = bucket
                    .iter()
                    .map(|entry| *entry.node.key.preimage())
                    .collect();
                peers.sort_by_key(|peer| (!self.links.contains_key(peer), *peer));
                wanted.extend(peers.into_iter().take(PER_BUCKET));
            }
        }
        wanted
    }
}
