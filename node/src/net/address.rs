//! Which multiaddrs an operator may name.

use libp2p::{Multiaddr, multiaddr::Protocol};

/// What a multiaddr is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To listen on.
    Listen,
    /// To be told to others.
    External,
    /// To be dialled; a host name is looked up.
    Bootstrap,
}

/// Whether a multiaddr is one that this program speaks.
///
/// # Errors
/// Says what is wrong, and what is accepted.
pub fn check_address(text: &str, purpose: Purpose) -> Result<(), String> {
    parse(text, purpose).map(drop)
}

pub(super) fn parse(text: &str, purpose: Purpose) -> Result<Multiaddr, String> {
    let address: Multiaddr = text
        .parse()
        .map_err(|error| format!("{error}; an address is such as /ip4/192.0.2.1/tcp/4935"))?;
    let mut parts = address.iter();
    match (parts.next(), purpose) {
        (Some(Protocol::Ip4(_) | Protocol::Ip6(_)), _)
        | (Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)), Purpose::Bootstrap) => {}
        (_, Purpose::Bootstrap) => {
            return Err(
                "an address begins with /ip4/ADDRESS, /ip6/ADDRESS or /dns/NAME".to_owned(),
            );
        }
        (_, Purpose::Listen | Purpose::External) => {
            return Err("an address begins with /ip4/ADDRESS or /ip6/ADDRESS".to_owned());
        }
    }
    let spoken = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => matches!(parts.next(), Some(Protocol::QuicV1)),
        Some(_) | None => false,
    };
    let end = match (parts.next(), purpose) {
        (None, _) => true,
        (Some(Protocol::P2p(_)), Purpose::External | Purpose::Bootstrap) => parts.next().is_none(),
        (Some(_), _) => false,
    };
    if spoken && end {
        return Ok(address);
    }
    Err(match purpose {
        Purpose::Listen => "only /tcp/PORT and /udp/PORT/quic-v1 are spoken",
        Purpose::External | Purpose::Bootstrap => {
            "only /tcp/PORT and /udp/PORT/quic-v1 are spoken, with /p2p/NODE_ID or without"
        }
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    #[test]
    fn tcp_and_quic_over_ip_are_spoken() {
        for text in [
            "/ip4/192.0.2.1/tcp/4935",
            "/ip6/2001:db8::1/udp/4935/quic-v1",
        ] {
            assert_eq!(check_address(text, Purpose::Listen), Ok(()), "{text}");
            let named = format!("{text}/p2p/{NODE}");
            assert_eq!(check_address(&named, Purpose::External), Ok(()), "{named}");
            assert!(check_address(&named, Purpose::Listen).is_err(), "{named}");
        }
    }

    #[test]
    fn only_bootstrap_nodes_have_names() {
        for text in [
            "/dns/relay.example.org/tcp/4935",
            "/dns4/relay.example.org/udp/4935/quic-v1",
        ] {
            assert_eq!(check_address(text, Purpose::Bootstrap), Ok(()), "{text}");
            assert!(check_address(text, Purpose::External).is_err(), "{text}");
            assert!(check_address(text, Purpose::Listen).is_err(), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_accepted() {
        for (text, hint) in [
            ("nonsense", "/ip4/192.0.2.1/tcp/4935"),
            ("", "/ip4/"),
            ("/dns4/example.org/tcp/4935", "/ip4/ADDRESS"),
            ("/ip4/192.0.2.1", "/tcp/PORT"),
            ("/ip4/192.0.2.1/udp/4935", "/quic-v1"),
            ("/ip4/192.0.2.1/tcp/4935/ws", "/tcp/PORT"),
            ("/ip4/192.0.2.1/tcp/99999", "/ip4/"),
        ] {
            let reason = check_address(text, Purpose::External).unwrap_err();
            assert!(reason.contains(hint), "{text}: {reason}");
        }
    }
}
