//! Links between real nodes over real sockets on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a node that does not start has failed its test"
)]

use std::time::Duration;

use headwater::net::{self, NetConfig, NetError, NetEvent, NetHandle};
use headwater_proto::{Message, NodeId, Ping, Roles, SigningKey};
use headwater_protocol::Priority;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

struct Peer {
    net: NetHandle,
    events: mpsc::Receiver<NetEvent>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn config(seed: u8, listen: &str, bootstrap: &[String]) -> NetConfig {
    NetConfig {
        key: SigningKey::from_bytes(&[seed; 32]),
        roles: Roles::default(),
        agent: format!("test/{seed}"),
        listen: vec![listen.to_owned()],
        external: vec![],
        bootstrap: bootstrap.to_vec(),
        known: vec![],
        allow_private: true,
        home_links: 8,
        max_links: 16,
    }
}

impl Peer {
    async fn start(config: NetConfig) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (net, events) = net::start(config, &tasks, stop.clone()).await.unwrap();
        Self {
            net,
            events,
            tasks,
            stop,
        }
    }

    fn address(&self) -> String {
        format!("{}/p2p/{}", self.net.listen_addresses()[0], self.net.node())
    }

    async fn next(&mut self) -> NetEvent {
        timeout(Duration::from_secs(20), self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// The neighbour of the next link.
    async fn linked(&mut self) -> NodeId {
        loop {
            if let NetEvent::Connected { peer, .. } = self.next().await {
                return peer;
            }
        }
    }

    async fn next_ping(&mut self) -> u64 {
        loop {
            if let NetEvent::Received { message, .. } = self.next().await
                && let Message::Ping(ping) = &*message
            {
                return ping.nonce;
            }
        }
    }

    /// Stops it, and waits until nothing of it runs.
    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(Duration::from_secs(10), self.tasks.wait())
            .await
            .unwrap();
    }
}

fn ping(nonce: u64) -> Message {
    Message::Ping(Ping { nonce })
}

async fn exchange(transport: &str) {
    let mut a = Peer::start(config(1, transport, &[])).await;
    let mut b = Peer::start(config(2, transport, &[a.address()])).await;
    assert_eq!(a.linked().await, b.net.node());
    assert_eq!(b.linked().await, a.net.node());

    for nonce in 0..100 {
        a.net.send(b.net.node(), ping(nonce), Priority::Control);
        b.net.send(a.net.node(), ping(nonce), Priority::Control);
    }

    for nonce in 0..100 {
        assert_eq!(a.next_ping().await, nonce);
        assert_eq!(b.next_ping().await, nonce);
    }
    assert_eq!(a.net.peers()[0].agent, "test/2");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn neighbours_over_tcp_exchange_messages_in_order() {
    exchange(TCP).await;
}

#[tokio::test]
async fn neighbours_over_quic_exchange_messages_in_order() {
    exchange(QUIC).await;
}

#[tokio::test]
async fn the_end_of_a_neighbour_is_told_and_its_return_makes_a_new_link() {
    let mut a = Peer::start(config(1, TCP, &[])).await;
    let address = a.address();
    let mut b = Peer::start(config(2, TCP, std::slice::from_ref(&address))).await;
    let node = b.net.node();
    assert_eq!(a.linked().await, node);
    assert_eq!(b.linked().await, a.net.node());

    b.stop().await;

    let gone = loop {
        if let NetEvent::Disconnected { peer, .. } = a.next().await {
            break peer;
        }
    };
    assert_eq!(gone, node);
    let b = Peer::start(config(2, TCP, &[address])).await;
    assert_eq!(a.linked().await, node);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_at_once_have_one_link() {
    let mut a = Peer::start(config(1, TCP, &[])).await;
    let mut b = Peer::start(config(2, TCP, &[])).await;
    let addresses = [a.net.listen_addresses(), b.net.listen_addresses()];

    a.net.dial(1, b.net.node(), addresses[1].clone());
    b.net.dial(2, a.net.node(), addresses[0].clone());

    assert_eq!(a.linked().await, b.net.node());
    assert_eq!(b.linked().await, a.net.node());
    a.net.send(b.net.node(), ping(7), Priority::Control);
    assert_eq!(b.next_ping().await, 7);
    assert_eq!((a.net.peers().len(), b.net.peers().len()), (1, 1));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_dial_of_another_node_s_address_fails() {
    let a = Peer::start(config(1, TCP, &[])).await;
    let mut b = Peer::start(config(2, TCP, &[])).await;
    let stranger = SigningKey::from_bytes(&[9; 32]).node_id();

    b.net.dial(5, stranger, a.net.listen_addresses());

    let dial = loop {
        if let NetEvent::DialFailed { dial, .. } = b.next().await {
            break dial;
        }
    };
    assert_eq!(dial, 5);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_node_that_knows_one_relay_finds_the_others() {
    let relay = |seed, bootstrap: &[String]| NetConfig {
        roles: Roles {
            relayer: true,
            ..Roles::default()
        },
        ..config(seed, TCP, bootstrap)
    };
    let first = Peer::start(relay(1, &[])).await;
    let second = Peer::start(relay(2, &[first.address()])).await;
    let mut edge = Peer::start(config(3, TCP, &[first.address()])).await;

    let mut linked = vec![edge.linked().await, edge.linked().await];

    linked.sort_unstable();
    let mut relays = vec![first.net.node(), second.net.node()];
    relays.sort_unstable();
    assert_eq!(linked, relays);
    for peer in [first, second, edge] {
        peer.stop().await;
    }
}

#[tokio::test]
async fn bad_addresses_and_taken_ports_are_named() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let refuse =
        async |config: NetConfig| net::start(config, &tasks, stop.clone()).await.unwrap_err();
    let error = refuse(config(1, "/ip4/127.0.0.1/tcp/0/ws", &[])).await;
    assert!(
        matches!(error, NetError::Address { .. } | NetError::Listen { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("--listen"), "{error}");
    let error = refuse(config(1, TCP, &["example.com:4935".into()])).await;
    assert!(
        error.to_string().contains("--bootstrap example.com:4935"),
        "{error}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let error = refuse(config(1, &address, &[])).await;
    assert!(error.to_string().contains(&address), "{error}");
}
