//! What other nodes tell us of relayers: a bounded memory, and a guard so that the routing
//! table never makes us dial an address that the policy forbids.

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
};

use headwater_proto::{AddressText, NodeId, limits::MAX_ADDRESSES};
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    kad,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use super::policy::{check_multiaddr, node_of};

/// Relayers that are remembered for later runs.
pub(super) const KNOWN: usize = 512;

/// Kademlia whose dials keep to the address policy, whoever told of the address.
pub(super) struct GuardedKad {
    pub(super) kad: kad::Behaviour<kad::store::MemoryStore>,
    pub(super) allow_private: bool,
}

type Kad = kad::Behaviour<kad::store::MemoryStore>;

impl NetworkBehaviour for GuardedKad {
    type ConnectionHandler = <Kad as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = <Kad as NetworkBehaviour>::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.kad
            .handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut told = self
            .kad
            .handle_pending_outbound_connection(id, peer, addresses, role)?;
        let node = peer.as_ref().and_then(node_of);
        told.retain(|address| check_multiaddr(address, node, self.allow_private).is_ok());
        told.truncate(MAX_ADDRESSES);
        Ok(told)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.kad.on_connection_handler_event(peer, id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.kad.poll(cx)
    }
}

/// Relayers and where they are, as they said themselves or as others say.
#[derive(Debug, Default)]
pub(super) struct Known {
    relayers: BTreeMap<NodeId, Entry>,
    /// Counts insertions, so that the oldest can be found.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<AddressText>,
    /// The relayer told us itself.
    first_hand: bool,
    heard: u64,
}

impl Known {
    /// Takes addresses in; `false` when better is known already. What a relayer says of
    /// itself is never replaced by what others say of it.
    pub(super) fn learn(
        &mut self,
        node: NodeId,
        mut addresses: Vec<AddressText>,
        first_hand: bool,
    ) -> bool {
        addresses.truncate(MAX_ADDRESSES);
        let known = self.relayers.get(&node).is_some_and(|entry| {
            entry.first_hand >= first_hand
                && (entry.first_hand != first_hand || entry.addresses == addresses)
        });
        if addresses.is_empty() || known {
            return false;
        }
        self.clock += 1;
        let entry = Entry {
            addresses,
            first_hand,
            heard: self.clock,
        };
        self.relayers.insert(node, entry);
        if self.relayers.len() > KNOWN {
            let oldest = self
                .relayers
                .iter()
                .filter(|(other, _)| **other != node)
                .min_by_key(|(_, entry)| (entry.first_hand, entry.heard))
                .map(|(oldest, _)| *oldest);
            if let Some(oldest) = oldest {
                self.relayers.remove(&oldest);
            }
        }
        true
    }

    /// The relayer was not reached where it should be: others may know better.
    pub(super) fn doubt(&mut self, node: NodeId) {
        if let Some(entry) = self.relayers.get_mut(&node) {
            entry.first_hand = false;
        }
    }

    /// All of them, those that were heard of last first.
    pub(super) fn newest_first(&self) -> Vec<(NodeId, Vec<AddressText>)> {
        let mut all: Vec<_> = self.relayers.iter().collect();
        all.sort_by_key(|(_, entry)| std::cmp::Reverse((entry.first_hand, entry.heard)));
        all.into_iter()
            .map(|(node, entry)| (*node, entry.addresses.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        NodeId::from_public_key(bytes)
    }

    fn at(port: u32) -> Vec<AddressText> {
        vec![AddressText::new(&format!("/ip4/192.0.2.1/tcp/{port}")).unwrap()]
    }

    #[test]
    fn the_routing_table_dials_no_address_that_the_policy_forbids() {
        let local = libp2p::identity::Keypair::generate_ed25519();
        let peer = crate::net::policy::peer_of(node(1)).unwrap();
        let addresses: Vec<Multiaddr> = [
            "/ip4/127.0.0.1/tcp/4935",
            "/ip4/93.184.216.34/tcp/22",
            "/ip4/93.184.216.34/tcp/4935",
        ]
        .map(|text| text.parse().unwrap())
        .to_vec();
        let dialled = |allow_private| {
            let local = local.public().to_peer_id();
            let store = kad::store::MemoryStore::new(local);
            let mut kad = kad::Behaviour::new(local, store);
            for address in &addresses {
                kad.add_address(&peer, address.clone());
            }
            let mut guarded = GuardedKad { kad, allow_private };
            let id = ConnectionId::new_unchecked(1);
            let mut dialled = guarded
                .handle_pending_outbound_connection(id, Some(peer), &[], Endpoint::Dialer)
                .unwrap();
            for address in &mut dialled {
                let named = address.pop();
                assert_eq!(named, Some(libp2p::multiaddr::Protocol::P2p(peer)));
            }
            dialled
        };

        assert_eq!(dialled(false), addresses[2..]);
        assert_eq!(dialled(true), addresses);
    }

    #[test]
    fn what_a_relayer_says_of_itself_stands_against_hearsay() {
        let mut known = Known::default();

        assert!(known.learn(node(1), at(1), false));
        assert!(known.learn(node(1), at(2), true));
        assert!(!known.learn(node(1), at(3), false));

        assert_eq!(known.newest_first(), [(node(1), at(2))]);
        known.doubt(node(1));
        assert!(
            known.learn(node(1), at(3), false),
            "it was not reached there"
        );
    }

    #[test]
    fn memory_is_bounded_and_hearsay_goes_first() {
        let mut known = Known::default();
        known.learn(node(0), at(1), true);

        for number in 1..2 * KNOWN as u32 {
            known.learn(node(number), at(number), false);
        }

        let all = known.newest_first();
        assert_eq!(all.len(), KNOWN);
        assert_eq!(all[0].0, node(0));
        assert_eq!(all[1].0, node(2 * KNOWN as u32 - 1));
    }
}
