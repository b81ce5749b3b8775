//! The swarm as this program wants it: transports, limits, behaviours; and its sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::StreamExt as _;
use headwater_proto::AddressText;
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder,
    connection_limits::{self, ConnectionLimits},
    identify, identity, kad,
    multiaddr::Protocol,
    noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp,
};
use tokio::{net::TcpSocket, time::timeout};

use super::{
    NetConfig, NetError,
    address::{self, Purpose},
    behaviour::Links,
    hearsay::GuardedKad,
    muxer::Bounded,
    newcomers::{self, Newcomers},
    swarm::registry,
};

/// The overlay's Kademlia, apart from all others.
pub(super) const KAD: StreamProtocol = StreamProtocol::new("/headwater/kad/1");

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    newcomers: Newcomers,
    pub(super) links: Links,
    pub(super) overlay: GuardedKad,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// Reads the multiaddrs of a flag.
pub(super) fn parse(
    texts: &[String],
    flag: &'static str,
    purpose: Purpose,
) -> Result<Vec<Multiaddr>, NetError> {
    let one = |text: &String| {
        address::parse(text, purpose).map_err(|reason| NetError::Address {
            flag,
            address: text.clone(),
            reason,
        })
    };
    texts.iter().map(one).collect()
}

pub(super) fn build(config: &NetConfig) -> Result<Swarm<Behaviour>, NetError> {
    let failed = |error: &dyn std::fmt::Display| NetError::Start(error.to_string());
    let key = identity::Keypair::ed25519_from_bytes(config.key.to_bytes())
        .map_err(|error| failed(&error))?;
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            Bounded::new,
        )
        .map_err(|error| failed(&error))?
        .with_quic_config(|mut quic| {
            // Worst case memory is links times max_connection_data.
            quic.max_stream_data = 4 * 1024 * 1024;
            quic.max_connection_data = 8 * 1024 * 1024;
            quic.max_concurrent_stream_limit = 64;
            quic
        })
        .with_behaviour(|key| behaviour(config, key))
        .map_err(|error| failed(&error))?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(10)))
        .build();
    Ok(swarm)
}

fn behaviour(config: &NetConfig, key: &identity::Keypair) -> Behaviour {
    let local = key.public().to_peer_id();
    let limits = ConnectionLimits::default()
        .with_max_established_per_peer(Some(4))
        .with_max_established(Some(config.max_links.saturating_mul(2)))
        .with_max_pending_outgoing(Some(64))
        .with_max_pending_incoming(Some(newcomers::ALL));
    let mut kad_config = kad::Config::new(KAD);
    kad_config
        .set_query_timeout(Duration::from_secs(5))
        .set_periodic_bootstrap_interval(None)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_provider_record_ttl(Some(registry::KEPT))
        .set_provider_publication_interval(None)
        .set_record_filtering(kad::StoreInserts::FilterBoth);
    let store = registry::store(local);
    let mut kad = kad::Behaviour::with_config(local, store, kad_config);
    // Relayers are the routing table; others only ask it.
    kad.set_mode(Some(if config.roles.relayer {
        kad::Mode::Server
    } else {
        kad::Mode::Client
    }));
    // Addresses that others tell of are kept by us, after the policy has seen them.
    let identify = identify::Config::new("/headwater/1".into(), key.public())
        .with_agent_version(config.agent.clone())
        .with_cache_size(0);
    Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        newcomers: Newcomers::default(),
        links: Links::new(local),
        overlay: GuardedKad {
            kad,
            allow_private: config.allow_private,
        },
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::default(),
    }
}

/// Listens on every address; returns those the system gave.
pub(super) async fn bind(
    swarm: &mut Swarm<Behaviour>,
    listen: Vec<Multiaddr>,
) -> Result<Vec<AddressText>, NetError> {
    let failed = |address: &Multiaddr, reason: String| NetError::Listen {
        address: address.to_string(),
        reason,
    };
    for address in &listen {
        untaken(address).map_err(|error| failed(address, error.to_string()))?;
    }
    let mut waiting = BTreeMap::new();
    for address in listen {
        match swarm.listen_on(address.clone()) {
            Ok(listener) => {
                waiting.insert(format!("{listener:?}"), address);
            }
            Err(error) => return Err(failed(&address, innermost(&error))),
        }
    }
    let mut listening = Vec::new();
    // Several addresses may come from one listener, for all interfaces: those that come
    // at once are waited for.
    let mut ready = BTreeSet::new();
    while ready.len() < waiting.len() {
        let event = timeout(Duration::from_secs(10), swarm.select_next_some()).await;
        let Ok(event) = event else {
            return Err(NetError::Start("the sockets did not open in 10 s".into()));
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "nothing else can happen that matters before there is a link"
        )]
        match event {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                ready.insert(format!("{listener_id:?}"));
                listening.extend(AddressText::new(&address.to_string()));
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason: Err(error),
                ..
            } => {
                let address = waiting.get(&format!("{listener_id:?}"));
                return Err(NetError::Listen {
                    address: address.map(ToString::to_string).unwrap_or_default(),
                    reason: error.to_string(),
                });
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                let address = waiting.get(&format!("{listener_id:?}"));
                return Err(NetError::Listen {
                    address: address.map(ToString::to_string).unwrap_or_default(),
                    reason: error.to_string(),
                });
            }
            _ => {}
        }
    }
    Ok(listening)
}

/// Fails when another program listens on a TCP port. libp2p would share it with one that
/// shares too, such as another node of the same user, and each would get half of the
/// connections.
fn untaken(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        Some(_) | None => return Ok(()),
    };
    let Some(Protocol::Tcp(port)) = parts.next() else {
        return Ok(());
    };
    let socket = match ip {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // What is left of connections of an earlier run does not count.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(ip, port))
}

pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
