//! Links between real nodes over real sockets on loopback.

#![expect(
    clippy::unwrap_used,
    reason = "a node that does not start has failed its test"
)]

use std::time::Duration;

use bytes::Bytes;
use headwater::net::{self, NetConfig, NetError, NetEvent, NetHandle};
use headwater_proto::{
    BroadcastId, Chunk, ManifestId, MediaInfo, Message, NodeId, Part, PartHeader, Ping, Position,
    RequestId, Roles, Signed, SigningKey, Slot,
};
use headwater_protocol::{Priority, message_cost};
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

/// A link takes so much at once and no more; what was written is given back, and all of it
/// arrives in order.
#[tokio::test]
async fn a_thousand_chunks_go_through_within_the_credit() {
    let mut a = Peer::start(config(1, TCP, &[])).await;
    let mut b = Peer::start(config(2, TCP, &[a.address()])).await;
    let mut credit = loop {
        if let NetEvent::Connected { credit, .. } = b.next().await {
            break credit;
        }
    };
    let granted = credit;
    let messages = part(&SigningKey::from_bytes(&[2; 32]), 1000);
    let total: usize = messages.iter().map(message_cost).sum();
    assert!(total > 10 * granted);

    let (sender, to) = (b.net.clone(), a.net.node());
    let sending = async {
        let mut back = 0;
        for message in messages {
            while credit < message_cost(&message) {
                if let NetEvent::Writable { credit: more, .. } = b.next().await {
                    credit += more;
                    back += more;
                }
            }
            credit -= message_cost(&message);
            sender.send(to, message, Priority::Live);
        }
        while back < total {
            if let NetEvent::Writable { credit: more, .. } = b.next().await {
                back += more;
            }
        }
        back
    };
    let receiving = async {
        let mut chunks = Vec::new();
        while chunks.len() < 1000 {
            match a.next().await {
                NetEvent::Received { message, .. } => {
                    if let Message::Chunk(chunk) = &*message {
                        chunks.push((chunk.slot, chunk.index));
                    }
                }
                NetEvent::Violation { violation, .. } => panic!("{violation}"),
                NetEvent::Connected { .. }
                | NetEvent::Addresses { .. }
                | NetEvent::Disconnected { .. }
                | NetEvent::DialFailed { .. }
                | NetEvent::Writable { .. } => {}
            }
        }
        chunks
    };
    let (back, chunks) = tokio::join!(sending, receiving);

    assert_eq!(back, total);
    assert!(chunks.is_sorted());
    let peer = &a.net.peers()[0];
    assert!(peer.bytes_in > 1000 * 16 * 1024, "{peer:?}");
    a.stop().await;
    b.stop().await;
}

/// This test's thread queues everything before the link's task writes.
#[tokio::test]
async fn control_overtakes_a_full_queue_of_backfill() {
    let mut a = Peer::start(config(1, TCP, &[])).await;
    let mut b = Peer::start(config(2, TCP, &[a.address()])).await;
    assert_eq!(a.linked().await, b.net.node());
    assert_eq!(b.linked().await, a.net.node());

    for message in part(&SigningKey::from_bytes(&[2; 32]), 30) {
        b.net.send(a.net.node(), message, Priority::Backfill);
    }
    b.net.send(a.net.node(), ping(7), Priority::Control);

    let first = loop {
        if let NetEvent::Received { message, .. } = a.next().await {
            break message;
        }
    };
    assert!(matches!(&*first, Message::Ping(ping) if ping.nonce == 7));
    a.stop().await;
    b.stop().await;
}

/// One node's parts of 20 chunks each, with as many chunks in all.
fn part(key: &SigningKey, chunks: usize) -> Vec<Message> {
    let manifest = ManifestId {
        node: key.node_id(),
        broadcast: BroadcastId::from_bytes([1; 16]),
    };
    let per_part = 20;
    let payload = Bytes::from(vec![7; per_part * 16 * 1024]);
    let mut messages = Vec::new();
    for segment in 0..chunks.div_ceil(per_part) {
        let slot = Slot::Part(Position {
            segment: segment as u64,
            part: 0,
        });
        let media = MediaInfo {
            init: 0,
            start: 0,
            duration: 18_000,
            program_date_time_ms: 0,
            discontinuity: 0,
            independent: true,
            last: true,
        };
        let request = RequestId(1);
        let (header, chunks) =
            PartHeader::for_payload(manifest.source(), slot, Some(media), &payload).unwrap();
        let header = Signed::sign(header, key);
        messages.push(Message::Part(Part { request, header }));
        for (index, payload) in (0..).zip(chunks) {
            messages.push(Message::Chunk(Chunk {
                request,
                slot,
                index,
                payload,
            }));
        }
    }
    messages
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

    let [to_a, to_b] = addresses;
    a.net.dial(1, b.net.node(), to_b).unwrap();
    b.net.dial(2, a.net.node(), to_a).unwrap();

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

    b.net.dial(5, stranger, a.net.listen_addresses()).unwrap();

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

/// A relay that knows a node only by the overlay walks towards it and links to it, and then
/// can tell others where it is.
#[tokio::test]
async fn a_walk_ends_in_a_link_to_the_target_or_near_it() {
    let relay = |seed, bootstrap: &[String]| NetConfig {
        roles: Roles {
            relayer: true,
            ..Roles::default()
        },
        home_links: 0,
        ..config(seed, TCP, bootstrap)
    };
    let middle = Peer::start(relay(1, &[])).await;
    let mut target = Peer::start(relay(2, &[middle.address()])).await;
    let mut seeker = Peer::start(config(3, TCP, &[middle.address()])).await;
    assert_eq!(target.linked().await, middle.net.node());
    assert_eq!(seeker.linked().await, middle.net.node());

    let goal = target.net.node();
    let linked = async {
        loop {
            seeker.net.look_up(goal).await;
            if seeker.net.peers().iter().any(|peer| peer.peer == goal) {
                break;
            }
        }
    };
    timeout(Duration::from_secs(20), linked).await.unwrap();

    assert_eq!(seeker.linked().await, goal);
    let addresses = loop {
        if let NetEvent::Addresses { peer, addresses } = seeker.next().await
            && peer == goal
        {
            break addresses;
        }
    };
    assert_eq!(addresses, target.net.listen_addresses());
    for peer in [middle, target, seeker] {
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

/// Two nodes on one TCP port would each get half of the connections.
#[tokio::test]
async fn a_port_of_another_node_is_taken() {
    let first = Peer::start(config(1, TCP, &[])).await;
    let address = first.net.listen_addresses()[0].to_string();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());

    let second = net::start(config(2, &address, &[]), &tasks, stop).await;

    let error = second.unwrap_err();
    assert!(matches!(error, NetError::Listen { .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
    first.stop().await;
}
