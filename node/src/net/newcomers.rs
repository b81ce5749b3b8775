//! Connections of which it is not known yet whose they are: one host may not take all the
//! room that there is for them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

/// Newcomers of all hosts at once.
pub(super) const ALL: u32 = 256;
/// Newcomers of one host; each has 10 s to say who it is.
const OF_ONE_HOST: usize = 16;

/// Too many newcomers of one host.
#[derive(Debug, thiserror::Error)]
#[error("too many connections of {0} have not said whose they are")]
struct TooMany(IpAddr);

#[derive(Debug, Default)]
pub(super) struct Newcomers(BTreeMap<ConnectionId, IpAddr>);

impl NetworkBehaviour for Newcomers {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(host) = host(remote) else {
            return Ok(());
        };
        if self.0.values().filter(|other| **other == host).count() >= OF_ONE_HOST {
            return Err(ConnectionDenied::new(TooMany(host)));
        }
        self.0.insert(id, host);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the library's enum has further events that do not concern newcomers"
        )]
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.0.remove(&established.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.0.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Whose address it is; all of an IPv6 network of 64 bits is one host's.
fn host(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(IpAddr::V4(ip)),
        Some(Protocol::Ip6(ip)) => {
            let network = ip.to_bits() >> 64 << 64;
            Some(IpAddr::V6(Ipv6Addr::from_bits(network)))
        }
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_network() {
        let host = |text: &str| host(&text.parse().unwrap()).unwrap().to_string();
        assert_eq!(host("/ip4/192.0.2.1/tcp/4935"), "192.0.2.1");
        assert_eq!(
            host("/ip6/2001:db8:1:2:3:4:5:6/udp/1/quic-v1"),
            "2001:db8:1:2::"
        );
    }
}
