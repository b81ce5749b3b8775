//! One link per neighbour, whatever connections there are.
//!
//! Of two nodes the one with the smaller PeerId opens the link, on the connection it
//! chooses; the other accepts. So two nodes that dial each other at once agree.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};

use super::handler::{HandlerEvent, LinkHandler, OPENING, Open, Side, Streams};

/// A neighbour that dials when its connection is older has lost it: before, it may only
/// have dialled at the same time as this node.
const AT_ONCE: Duration = Duration::from_secs(5);

/// From the behaviour to the swarm's task.
#[derive(Debug)]
pub(super) enum LinksEvent {
    /// A link's substreams are open.
    Ready {
        peer: PeerId,
        connection: ConnectionId,
        address: Multiaddr,
        outbound: bool,
        streams: Box<Streams>,
    },
    /// The connection of a link closed.
    Closed {
        peer: PeerId,
        connection: ConnectionId,
    },
    /// A neighbour opened a substream that it may not open.
    Surplus { peer: PeerId },
}

#[derive(Debug)]
struct Connection {
    address: Multiaddr,
    outbound: bool,
    /// It could not be made a link.
    failed: bool,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Links {
    local: PeerId,
    connections: BTreeMap<PeerId, BTreeMap<ConnectionId, Connection>>,
    /// The connection that is a neighbour's link, or becomes it.
    active: BTreeMap<PeerId, ConnectionId>,
    events: VecDeque<ToSwarm<LinksEvent, Open>>,
}

impl Links {
    pub(super) const fn new(local: PeerId) -> Self {
        Self {
            local,
            connections: BTreeMap::new(),
            active: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    fn side(&self, peer: PeerId) -> Side {
        if self.local < peer {
            Side::Opener
        } else {
            Side::Acceptor
        }
    }

    /// Opens a link on a connection, if it is ours to open and there is none.
    fn open(&mut self, peer: PeerId) {
        if self.side(peer) == Side::Acceptor || self.active.contains_key(&peer) {
            return;
        }
        let connections = self.connections.get(&peer).into_iter().flatten();
        let usable = connections
            .into_iter()
            .find(|(_, connection)| !connection.failed);
        if let Some((id, _)) = usable {
            let id = *id;
            self.active.insert(peer, id);
            self.open_on(peer, id);
        }
    }

    fn open_on(&mut self, peer: PeerId, id: ConnectionId) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(id),
            event: Open,
        });
    }

    /// Whether a neighbour that dials now has lost the link that is ours to open, such as by a
    /// restart that this node has not noticed.
    fn has_lost(&self, peer: PeerId) -> bool {
        let connection = |id| self.connections.get(&peer)?.get(id);
        let active = self.active.get(&peer).and_then(connection);
        self.side(peer) == Side::Opener && active.is_some_and(|old| old.since.elapsed() >= AT_ONCE)
    }

    fn closed(&mut self, peer: PeerId, id: ConnectionId) {
        if let Some(connections) = self.connections.get_mut(&peer) {
            connections.remove(&id);
            if connections.is_empty() {
                self.connections.remove(&peer);
            }
        }
        if self.active.get(&peer) == Some(&id) {
            self.active.remove(&peer);
            self.events
                .push_back(ToSwarm::GenerateEvent(LinksEvent::Closed {
                    peer,
                    connection: id,
                }));
            self.open(peer);
        }
    }
}

impl NetworkBehaviour for Links {
    type ConnectionHandler = LinkHandler;
    type ToSwarm = LinksEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(LinkHandler::new(self.side(peer), OPENING))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(LinkHandler::new(self.side(peer), OPENING))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the library's enum has further events that do not concern links"
        )]
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let (address, outbound) = match established.endpoint {
                    ConnectedPoint::Dialer { address, .. } => (address.clone(), true),
                    ConnectedPoint::Listener { send_back_addr, .. } => {
                        (send_back_addr.clone(), false)
                    }
                };
                let connection = Connection {
                    address,
                    outbound,
                    failed: false,
                    since: Instant::now(),
                };
                let (peer, id) = (established.peer_id, established.connection_id);
                let lost = !outbound && self.has_lost(peer);
                let connections = self.connections.entry(peer).or_default();
                connections.insert(id, connection);
                if lost {
                    // The old one stays until this one is a link.
                    self.open_on(peer, id);
                } else {
                    self.open(peer);
                }
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.closed(closed.peer_id, closed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            HandlerEvent::Ready(streams) => {
                let connections = self.connections.get(&peer);
                let Some(connection) = connections.and_then(|all| all.get(&id)) else {
                    return;
                };
                // The side that accepts learns here which connection was chosen. When
                // a link is replaced, the old one is over for us too.
                let address = connection.address.clone();
                let outbound = connection.outbound;
                if let Some(old) = self.active.insert(peer, id).filter(|old| *old != id) {
                    self.events.push_back(ToSwarm::CloseConnection {
                        peer_id: peer,
                        connection: CloseConnection::One(old),
                    });
                }
                self.events
                    .push_back(ToSwarm::GenerateEvent(LinksEvent::Ready {
                        peer,
                        connection: id,
                        address,
                        outbound,
                        streams,
                    }));
            }
            HandlerEvent::Failed(reason) => {
                tracing::debug!(%peer, reason, "no link on this connection");
                let connections = self.connections.get_mut(&peer);
                if let Some(connection) = connections.and_then(|all| all.get_mut(&id)) {
                    connection.failed = true;
                }
                if self.active.get(&peer) == Some(&id) {
                    self.active.remove(&peer);
                    self.open(peer);
                }
            }
            HandlerEvent::Surplus => {
                let event = LinksEvent::Surplus { peer };
                self.events.push_back(ToSwarm::GenerateEvent(event));
            }
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LinksEvent, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::{identity::Keypair, swarm::behaviour::ConnectionEstablished};

    use super::*;

    fn peers() -> (PeerId, PeerId) {
        let [a, b] = [1, 2].map(|seed| {
            let key = Keypair::ed25519_from_bytes([seed; 32]).unwrap();
            key.public().to_peer_id()
        });
        (a.min(b), a.max(b))
    }

    fn dialled_by(links: &mut Links, peer: PeerId, id: usize) {
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/4935".parse().unwrap();
        let endpoint = ConnectedPoint::Listener {
            local_addr: address.clone(),
            send_back_addr: address,
        };
        links.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: ConnectionId::new_unchecked(id),
            endpoint: &endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
    }

    /// The connections that links were opened on.
    fn opened(links: &mut Links) -> Vec<ConnectionId> {
        let id = |event| {
            let ToSwarm::NotifyHandler {
                handler: NotifyHandler::One(id),
                ..
            } = event
            else {
                panic!("{event:?}");
            };
            id
        };
        links.events.drain(..).map(id).collect()
    }

    fn grow_old(links: &mut Links) {
        let all = links.connections.values_mut();
        for connection in all.flat_map(BTreeMap::values_mut) {
            connection.since -= AT_ONCE;
        }
    }

    #[test]
    fn a_neighbour_that_dials_again_gets_its_link_there() {
        let (opener, acceptor) = peers();
        let mut links = Links::new(opener);
        let [first, at_once, later] = [1, 2, 3].map(ConnectionId::new_unchecked);
        dialled_by(&mut links, acceptor, 1);
        assert_eq!(opened(&mut links), [first]);

        dialled_by(&mut links, acceptor, 2);
        assert_eq!(opened(&mut links), [], "{at_once} may cross {first}");

        grow_old(&mut links);
        dialled_by(&mut links, acceptor, 3);
        assert_eq!(opened(&mut links), [later]);
    }

    #[test]
    fn the_side_that_accepts_opens_nothing() {
        let (opener, acceptor) = peers();
        let mut links = Links::new(acceptor);
        dialled_by(&mut links, opener, 1);
        grow_old(&mut links);

        dialled_by(&mut links, opener, 2);

        assert_eq!(opened(&mut links), []);
    }
}
