//! Which addresses that others tell us of may be dialled.
//!
//! An address in a claim or a routing table was chosen by somebody else, who may want us
//! to knock at a third party's door, or at our own network's inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use headwater_proto::{AddressText, NodeId};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a multiaddr.
    #[error("not a multiaddr")]
    Malformed,
    /// Not IP with TCP or QUIC.
    #[error("only /ip4 or /ip6 with /tcp or /udp/…/quic-v1 is dialled")]
    Transport,
    /// Another node's id at its end.
    #[error("the address is of another node")]
    OtherNode,
    /// Not a public address.
    #[error("not a public address")]
    Private,
    /// A port of another service.
    #[error("port 0 and ports below 1024 are not dialled")]
    Port,
}

/// The addresses of a list that may be dialled to reach `node`.
#[must_use]
pub fn filter(addresses: &[AddressText], node: NodeId, allow_private: bool) -> Vec<AddressText> {
    let dialable = |address: &&AddressText| match check(address, node, allow_private) {
        Ok(()) => true,
        Err(reason) => {
            tracing::debug!(%address, %reason, "address not dialled");
            false
        }
    };
    addresses.iter().filter(dialable).cloned().collect()
}

/// Whether an address may be dialled to reach `node`.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(address: &AddressText, node: NodeId, allow_private: bool) -> Result<(), Refused> {
    let address: Multiaddr = address.as_str().parse().map_err(|_| Refused::Malformed)?;
    check_multiaddr(&address, Some(node), allow_private)
}

pub(super) fn check_multiaddr(
    address: &Multiaddr,
    node: Option<NodeId>,
    allow_private: bool,
) -> Result<(), Refused> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        Some(_) | None => return Err(Refused::Transport),
    };
    let port = match parts.next() {
        Some(Protocol::Tcp(port)) => port,
        Some(Protocol::Udp(port)) if parts.next() == Some(Protocol::QuicV1) => port,
        Some(_) | None => return Err(Refused::Transport),
    };
    match parts.next() {
        None => {}
        Some(Protocol::P2p(peer)) => {
            let other = node.is_some_and(|node| peer_of(node) != Some(peer));
            if other || parts.next().is_some() {
                return Err(Refused::OtherNode);
            }
        }
        Some(_) => return Err(Refused::Transport),
    }
    if port == 0 || (port < 1024 && !allow_private) {
        return Err(Refused::Port);
    }
    // An IPv4 address inside an IPv6 one is what the system will dial.
    let ip = ip.to_canonical();
    let public = match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    };
    let nowhere = ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST;
    if nowhere || (!public && !allow_private) {
        return Err(Refused::Private);
    }
    Ok(())
}

/// The special-purpose ranges of RFC 6890 and its successors are not public.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (192, 168, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // Only 2000::/3 is in use on the internet; inside it, tunnels that hold an IPv4
    // address, documentation and benchmarking are not.
    let global = segments[0] & 0xe000 == 0x2000;
    let special = match (segments[0], segments[1]) {
        (0x2001, second) => second < 0x0200 || second == 0x0db8,
        (0x2002, _) => true,
        (0x3fff, second) => second < 0x1000,
        _ => false,
    };
    global && !special
}

pub(super) fn peer_of(node: NodeId) -> Option<PeerId> {
    PeerId::from_bytes(&node.to_peer_id_bytes()).ok()
}

pub(super) fn node_of(peer: &PeerId) -> Option<NodeId> {
    NodeId::from_peer_id_bytes(&peer.to_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str, allow_private: bool) -> Result<(), Refused> {
        let address = AddressText::new(text).unwrap();
        check(&address, NodeId::from_public_key([7; 32]), allow_private)
    }

    #[test]
    fn public_addresses_are_dialled() {
        for text in [
            "/ip4/93.184.216.34/tcp/4935",
            "/ip4/93.184.216.34/udp/4935/quic-v1",
            "/ip6/2606:2800:220:1::1/tcp/4935",
        ] {
            assert_eq!(verdict(text, false), Ok(()), "{text}");
        }
    }

    #[test]
    fn nothing_inside_a_network_is_dialled_unless_allowed() {
        for ip in [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.9",
            "240.0.0.1",
            "192.0.0.8",
        ] {
            let text = format!("/ip4/{ip}/tcp/4935");
            assert_eq!(verdict(&text, false), Err(Refused::Private), "{text}");
            assert_eq!(verdict(&text, true), Ok(()), "{text}");
        }
        for ip in [
            "::1",
            "fe80::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            let text = format!("/ip6/{ip}/tcp/4935");
            assert_eq!(verdict(&text, false), Err(Refused::Private), "{text}");
        }
    }

    #[test]
    fn nowhere_is_never_dialled() {
        for text in [
            "/ip4/0.0.0.0/tcp/4935",
            "/ip4/224.0.0.1/tcp/4935",
            "/ip4/255.255.255.255/tcp/4935",
            "/ip6/::/tcp/4935",
            "/ip6/::ffff:0.0.0.0/tcp/4935",
            "/ip6/ff02::1/tcp/4935",
        ] {
            assert_eq!(verdict(text, true), Err(Refused::Private), "{text}");
        }
        assert_eq!(verdict("/ip4/127.0.0.1/tcp/0", true), Err(Refused::Port));
    }

    #[test]
    fn other_transports_names_ports_and_nodes_are_refused() {
        let other = NodeId::from_public_key([8; 32]);
        let cases = [
            ("/dns4/example.com/tcp/4935".to_owned(), Refused::Transport),
            ("/ip4/93.184.216.34/udp/4935".to_owned(), Refused::Transport),
            (
                "/ip4/93.184.216.34/tcp/4935/ws".to_owned(),
                Refused::Transport,
            ),
            ("/ip4/93.184.216.34/tcp/25".to_owned(), Refused::Port),
            (
                format!("/ip4/93.184.216.34/tcp/4935/p2p/{other}"),
                Refused::OtherNode,
            ),
            ("/unix/tmp".to_owned(), Refused::Transport),
            ("/nonsense".to_owned(), Refused::Malformed),
        ];
        for (text, reason) in cases {
            assert_eq!(verdict(&text, false), Err(reason), "{text}");
        }
    }
}
