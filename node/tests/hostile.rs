//! A node against a neighbour that speaks libp2p and misbehaves on its link.

#![expect(
    clippy::unwrap_used,
    reason = "a peer that does not start has failed its test"
)]

use std::{net::SocketAddr, time::Duration};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use headwater::net::{self, NetConfig, NetEvent, NetHandle};
use headwater_proto::{Hello, Message, NodeId, Roles, SigningKey, Violation, encode};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder, identity::Keypair, noise,
    swarm::SwarmEvent, tcp, yamux,
};
use libp2p_stream::Control;
use tokio::{net::TcpSocket, sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const PROTOCOLS: [&str; 4] = [
    "/headwater/ctl/1",
    "/headwater/data/feed/1",
    "/headwater/data/live/1",
    "/headwater/data/backfill/1",
];

struct Victim {
    net: NetHandle,
    events: mpsc::Receiver<NetEvent>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Victim {
    async fn start(key: SigningKey) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let config = NetConfig {
            key,
            roles: Roles::default(),
            agent: "victim".into(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            external: vec![],
            bootstrap: vec![],
            known: vec![],
            allow_private: true,
            home_links: 0,
            max_links: 16,
        };
        let (net, events) = net::start(config, &tasks, stop.clone()).await.unwrap();
        Self {
            net,
            events,
            tasks,
            stop,
        }
    }

    async fn next(&mut self) -> NetEvent {
        timeout(Duration::from_secs(20), self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(Duration::from_secs(10), self.tasks.wait())
            .await
            .unwrap();
    }
}

struct Raw {
    node: NodeId,
    victim: PeerId,
    control: Control,
    swarm: tokio::task::JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}

impl Raw {
    async fn connect(key: &SigningKey, victim: &Victim) -> Self {
        let keypair = Keypair::ed25519_from_bytes(key.to_bytes()).unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        let address: Multiaddr = victim.net.listen_addresses()[0].as_str().parse().unwrap();
        swarm.dial(address).unwrap();
        let peer = loop {
            if let SwarmEvent::ConnectionEstablished { peer_id, .. } =
                swarm.select_next_some().await
            {
                break peer_id;
            }
        };
        let control = swarm.behaviour().new_control();
        let swarm = tokio::spawn(async move { while swarm.next().await.is_some() {} });
        Self {
            node: key.node_id(),
            victim: peer,
            control,
            swarm,
        }
    }

    async fn open(&mut self, protocol: &'static str) -> Stream {
        let protocol = StreamProtocol::new(protocol);
        self.control
            .open_stream(self.victim, protocol)
            .await
            .unwrap()
    }

    /// Opens a whole link, and says Hello on it.
    async fn link(&mut self) -> Vec<Stream> {
        let mut streams = Vec::new();
        for protocol in PROTOCOLS {
            streams.push(self.open(protocol).await);
        }
        let hello = encode(&Message::Hello(Hello {
            roles: Roles::default(),
            agent: "raw".into(),
        }))
        .unwrap();
        streams[0].write_all(&hello.head).await.unwrap();
        streams[0].flush().await.unwrap();
        streams
    }
}

/// Two keys, so that the first one's node opens links to the second one's.
fn opener_and_acceptor() -> (SigningKey, SigningKey) {
    let peer = |key: &SigningKey| {
        let keypair = Keypair::ed25519_from_bytes(key.to_bytes()).unwrap();
        keypair.public().to_peer_id()
    };
    let (a, b) = (
        SigningKey::from_bytes(&[1; 32]),
        SigningKey::from_bytes(&[2; 32]),
    );
    if peer(&a) < peer(&b) { (a, b) } else { (b, a) }
}

async fn linked(victim: &mut Victim, raw: &mut Raw) -> Vec<Stream> {
    let streams = raw.link().await;
    let peer = loop {
        if let NetEvent::Connected { peer, .. } = victim.next().await {
            break peer;
        }
    };
    assert_eq!(peer, raw.node);
    streams
}

async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
}

#[tokio::test]
async fn garbage_ends_the_link_and_is_counted() {
    let (opener, acceptor) = opener_and_acceptor();
    for substream in 0..PROTOCOLS.len() {
        let mut victim = Victim::start(acceptor.clone()).await;
        let mut raw = Raw::connect(&opener, &victim).await;
        let mut streams = linked(&mut victim, &mut raw).await;

        streams[substream].write_all(&[0xff; 64]).await.unwrap();
        streams[substream].flush().await.unwrap();

        let NetEvent::Violation { from, violation } = victim.next().await else {
            panic!("garbage passed");
        };
        assert_eq!((from, violation), (raw.node, Violation::Malformed));
        assert!(matches!(
            victim.next().await,
            NetEvent::Disconnected { peer, .. } if peer == raw.node
        ));
        assert!(victim.net.peers().is_empty());
        victim.stop().await;
    }
}

#[tokio::test]
async fn a_link_that_does_not_begin_with_hello_never_is_one() {
    let (opener, acceptor) = opener_and_acceptor();
    let mut victim = Victim::start(acceptor).await;
    let mut raw = Raw::connect(&opener, &victim).await;
    let mut streams = Vec::new();
    for protocol in PROTOCOLS {
        streams.push(raw.open(protocol).await);
    }
    let ping = encode(&Message::Ping(headwater_proto::Ping { nonce: 1 })).unwrap();
    streams[0].write_all(&ping.head).await.unwrap();
    streams[0].flush().await.unwrap();

    // The victim's own Hello, and then the end.
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(20), streams[0].read_to_end(&mut rest));
    // A reset is an end as well.
    drop(ended.await.unwrap());

    assert!(victim.net.peers().is_empty());
    assert!(victim.events.try_recv().is_err());
    victim.stop().await;
}

#[tokio::test]
async fn surplus_substreams_are_reset_and_counted() {
    let (opener, acceptor) = opener_and_acceptor();
    let mut victim = Victim::start(acceptor).await;
    let mut raw = Raw::connect(&opener, &victim).await;
    let streams = linked(&mut victim, &mut raw).await;

    let _surplus = raw.open(PROTOCOLS[2]).await;

    let NetEvent::Violation { from, violation } = victim.next().await else {
        panic!("a fifth substream was taken");
    };
    assert_eq!((from, violation), (raw.node, Violation::TooManyStreams));
    assert_eq!(victim.net.peers().len(), 1, "the link goes on");
    drop(streams);
    victim.stop().await;
}

#[tokio::test]
async fn who_has_to_accept_may_not_open() {
    let (opener, acceptor) = opener_and_acceptor();
    let mut victim = Victim::start(opener).await;
    let mut raw = Raw::connect(&acceptor, &victim).await;

    let _wrong = raw.open(PROTOCOLS[0]).await;

    let NetEvent::Violation { from, violation } = victim.next().await else {
        panic!("the wrong side opened a link");
    };
    assert_eq!((from, violation), (raw.node, Violation::TooManyStreams));
    victim.stop().await;
}

#[tokio::test]
async fn one_host_that_says_nothing_keeps_nobody_else_out() {
    let (opener, acceptor) = opener_and_acceptor();
    let mut victim = Victim::start(acceptor).await;
    let address = victim.net.listen_addresses()[0].to_string();
    let port = address.rsplit_once('/').unwrap().1.parse().unwrap();
    let mut silent = Vec::new();
    for _ in 0..300 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let victim = SocketAddr::from(([127, 0, 0, 1], port));
        silent.push(socket.connect(victim).await.unwrap());
    }

    let connecting = Raw::connect(&opener, &victim);
    let mut raw = timeout(Duration::from_secs(8), connecting).await.unwrap();
    let _streams = linked(&mut victim, &mut raw).await;

    drop(silent);
    victim.stop().await;
}

/// The reader waits for the driver, so that only the swarm can tell of the end.
#[tokio::test]
async fn a_connection_that_ends_is_not_said_to_be_closed_by_this_node() {
    let (opener, acceptor) = opener_and_acceptor();
    let mut victim = Victim::start(acceptor).await;
    let mut raw = Raw::connect(&opener, &victim).await;
    let mut streams = linked(&mut victim, &mut raw).await;
    let ping = encode(&Message::Ping(headwater_proto::Ping { nonce: 1 })).unwrap();
    streams[0].write_all(&ping.head.repeat(2000)).await.unwrap();
    streams[0].flush().await.unwrap();
    until(|| victim.events.len() == victim.events.max_capacity()).await;

    drop((streams, raw));
    until(|| victim.net.peers().is_empty()).await;

    let reason = loop {
        if let NetEvent::Disconnected { reason, .. } = victim.next().await {
            break reason;
        }
    };
    assert_eq!(reason, "the connection is gone");
    victim.stop().await;
}

/// Whoever lost its state opens a new link while the old one still seems to be up.
#[tokio::test]
async fn a_link_that_is_replaced_ends_before_its_successor_begins() {
    let (opener, acceptor) = opener_and_acceptor();
    let mut victim = Victim::start(acceptor).await;
    let mut first = Raw::connect(&opener, &victim).await;
    let _old = linked(&mut victim, &mut first).await;
    let mut second = Raw::connect(&opener, &victim).await;

    let _new = second.link().await;

    assert!(matches!(
        victim.next().await,
        NetEvent::Disconnected { peer, .. } if peer == second.node
    ));
    assert!(matches!(
        victim.next().await,
        NetEvent::Connected { peer, .. } if peer == second.node
    ));
    assert_eq!(victim.net.peers().len(), 1);
    victim.stop().await;
}
