//! The nodes that an operator named to begin with: their names, and when to try again.

use std::{net::IpAddr, time::Duration};

use libp2p::{
    Multiaddr, PeerId,
    multiaddr::Protocol,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::time::{Instant, timeout};

use super::backoff::{BackOff, chance};

const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(15);
/// How long a name server may take.
const RESOLVE: Duration = Duration::from_secs(5);

/// Every node to begin with.
#[derive(Debug)]
pub(super) struct Bootstraps(Vec<Bootstrap>);

#[derive(Debug)]
struct Bootstrap {
    address: Multiaddr,
    back_off: BackOff,
    /// A name is being looked up, or a dial is under way.
    busy: bool,
    dial: Option<ConnectionId>,
}

impl Bootstraps {
    pub(super) fn new(addresses: Vec<Multiaddr>) -> Self {
        let new = |address| Bootstrap {
            address,
            back_off: BackOff::new(BACK_OFF, BACK_OFF_MAX),
            busy: false,
            dial: None,
        };
        Self(addresses.into_iter().map(new).collect())
    }

    /// Those whose turn it is, which are busy from now on.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(usize, Multiaddr)> {
        let mut due = Vec::new();
        for (index, bootstrap) in self.0.iter_mut().enumerate() {
            if !bootstrap.busy && bootstrap.back_off.is_over(now) {
                bootstrap.busy = true;
                due.push((index, bootstrap.address.clone()));
            }
        }
        due
    }

    /// One is being dialled; whatever comes of it, the next time is later.
    pub(super) fn dialling(&mut self, index: usize, dial: ConnectionId, now: Instant) {
        if let Some(bootstrap) = self.0.get_mut(index) {
            bootstrap.dial = Some(dial);
            bootstrap.back_off.fail(now, chance());
        }
    }

    /// Its name is unknown, or it could not be dialled.
    pub(super) fn failed(&mut self, index: usize, reason: &str, now: Instant) {
        if let Some(bootstrap) = self.0.get_mut(index) {
            tracing::warn!(address = %bootstrap.address, reason, "bootstrap node not reached");
        }
        self.spared(index, now);
    }

    /// It is connected, or being dialled, for another reason.
    pub(super) fn spared(&mut self, index: usize, now: Instant) {
        if let Some(bootstrap) = self.0.get_mut(index) {
            bootstrap.busy = false;
            bootstrap.back_off.fail(now, chance());
        }
    }

    /// A dial ended, well or with an error; `true` when it was one of these.
    pub(super) fn dialled(&mut self, dial: ConnectionId, error: Option<&str>) -> bool {
        let bootstrap = self.0.iter_mut().find(|b| b.dial == Some(dial));
        let Some(bootstrap) = bootstrap else {
            return false;
        };
        bootstrap.busy = false;
        bootstrap.dial = None;
        if let Some(error) = error {
            tracing::warn!(address = %bootstrap.address, error, "bootstrap node not reached");
        }
        true
    }

    /// There are links: when they are lost, everything may be tried at once.
    pub(super) fn reset(&mut self) {
        for bootstrap in &mut self.0 {
            bootstrap.back_off = BackOff::new(BACK_OFF, BACK_OFF_MAX);
        }
    }
}

/// How to dial a bootstrap node at addresses without names.
pub(super) fn options(addresses: Vec<Multiaddr>) -> Option<DialOpts> {
    let named = addresses
        .first()
        .and_then(|address| match address.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(_) | None => None,
        });
    match named {
        Some(peer) => Some(at(peer, addresses)),
        // Whoever answers at the first address is taken.
        None => addresses
            .into_iter()
            .next()
            .map(|address| DialOpts::unknown_peer_id().address(address).build()),
    }
}

fn at(peer: PeerId, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer)
        .condition(PeerCondition::DisconnectedAndNotDialing)
        .addresses(addresses)
        .build()
}

/// Replaces a host name by the IP addresses it has.
pub(super) async fn resolve(address: Multiaddr) -> Result<Vec<Multiaddr>, String> {
    let mut parts = address.iter();
    let (name, wanted): (String, fn(&IpAddr) -> bool) = match parts.next() {
        Some(Protocol::Dns(name)) => (name.into_owned(), |_| true),
        Some(Protocol::Dns4(name)) => (name.into_owned(), IpAddr::is_ipv4),
        Some(Protocol::Dns6(name)) => (name.into_owned(), IpAddr::is_ipv6),
        Some(_) | None => return Ok(vec![address]),
    };
    let found = timeout(RESOLVE, tokio::net::lookup_host((name.as_str(), 0)))
        .await
        .map_err(|_| format!("no name server answered for {name}"))?
        .map_err(|error| format!("host name {name}: {error}"))?;
    let rest: Multiaddr = parts.collect();
    let mut addresses = Vec::new();
    for ip in found.map(|socket| socket.ip()).filter(wanted) {
        let mut address = Multiaddr::from(ip);
        for part in &rest {
            address.push(part);
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(format!("host name {name} has no such address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_become_addresses_of_the_family_that_was_asked_for() {
        let address: Multiaddr = "/dns4/localhost/udp/4935/quic-v1".parse().unwrap();

        let resolved = resolve(address).await.unwrap();

        let expected: Multiaddr = "/ip4/127.0.0.1/udp/4935/quic-v1".parse().unwrap();
        assert_eq!(resolved, [expected]);
    }

    #[tokio::test]
    async fn addresses_without_a_name_stay_as_they_are() {
        let address: Multiaddr = "/ip6/::1/tcp/4935".parse().unwrap();
        assert_eq!(resolve(address.clone()).await, Ok(vec![address]));
    }

    #[tokio::test]
    async fn unknown_names_are_named() {
        let address: Multiaddr = "/dns/name.invalid/tcp/4935".parse().unwrap();
        let error = resolve(address).await.unwrap_err();
        assert!(error.contains("name.invalid"), "{error}");
    }

    #[test]
    fn a_node_that_fails_waits_for_its_turn() {
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/4935".parse().unwrap();
        let mut bootstraps = Bootstraps::new(vec![address.clone()]);
        let now = Instant::now();

        assert_eq!(bootstraps.due(now), [(0, address.clone())]);
        assert!(bootstraps.due(now).is_empty(), "it is busy");
        bootstraps.failed(0, "no such name", now);
        assert!(bootstraps.due(now).is_empty(), "it just failed");

        let later = now + BACK_OFF * 2;
        assert_eq!(bootstraps.due(later), [(0, address.clone())]);
        bootstraps.spared(0, later);
        assert!(bootstraps.due(later).is_empty(), "it was just tried");
        assert_eq!(bootstraps.due(later + BACK_OFF * 3), [(0, address)]);
    }
}
