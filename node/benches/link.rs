//! Parts over one link against a bare libp2p stream of the same transport, in one run.
//!
//! `cargo bench -p headwater --bench link`; prints MB/s and the ratio. Ours includes framing,
//! hashing and signatures at the receiver, and credit.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run has nothing to report, and reports on stdout"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use headwater::net::{self, NetConfig, NetEvent, NetHandle};
use headwater_proto::{
    BroadcastId, Chunk, ManifestId, MediaInfo, Message, Part, PartHeader, Position, RequestId,
    Roles, Signed, SigningKey, Slot,
};
use headwater_protocol::{Priority, message_cost};
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, noise, swarm::SwarmEvent, tcp, yamux};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const PART: usize = 1024 * 1024;
const PARTS: usize = 256;
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    for transport in ["tcp", "quic"] {
        let mut best = [0.0_f64; 2];
        for _ in 0..ROUNDS {
            best[0] = best[0].max(ours(transport).await);
            best[1] = best[1].max(bare(transport).await);
        }
        let [ours, bare] = best;
        println!(
            "{transport}: link {ours:.0} MB/s, bare libp2p stream {bare:.0} MB/s, ratio {:.2}",
            ours / bare
        );
    }
}

fn address(transport: &str) -> String {
    match transport {
        "tcp" => "/ip4/127.0.0.1/tcp/0",
        _ => "/ip4/127.0.0.1/udp/0/quic-v1",
    }
    .to_owned()
}

fn rate(began: Instant) -> f64 {
    (PART * PARTS) as f64 / 1e6 / began.elapsed().as_secs_f64()
}

async fn node(
    seed: u8,
    transport: &str,
    bootstrap: Vec<String>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (NetHandle, mpsc::Receiver<NetEvent>) {
    let config = NetConfig {
        key: SigningKey::from_bytes(&[seed; 32]),
        roles: Roles::default(),
        agent: "bench".into(),
        listen: vec![address(transport)],
        external: vec![],
        bootstrap,
        known: vec![],
        allow_private: true,
        home_links: 0,
        max_links: 8,
    };
    net::start(config, tasks, stop.clone()).await.unwrap()
}

async fn ours(transport: &str) -> f64 {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (to, mut received) = node(1, transport, vec![], &tasks, &stop).await;
    let bootstrap = vec![to.listen_addresses()[0].to_string()];
    let (from, mut sent) = node(2, transport, bootstrap, &tasks, &stop).await;
    let Some(NetEvent::Connected { peer, credit, .. }) = sent.recv().await else {
        panic!("no link");
    };
    let messages = messages(&SigningKey::from_bytes(&[2; 32]));
    let began = Instant::now();
    let sending = tokio::spawn(async move {
        let mut credit = credit;
        for message in messages {
            while credit < message_cost(&message) {
                if let Some(NetEvent::Writable { credit: more, .. }) = sent.recv().await {
                    credit += more;
                }
            }
            credit -= message_cost(&message);
            from.send(peer, message, Priority::Live);
        }
        sent
    });
    let mut bytes = 0;
    while bytes < PART * PARTS {
        match received.recv().await.unwrap() {
            NetEvent::Received { message, .. } => {
                if let Message::Chunk(chunk) = &*message {
                    bytes += chunk.payload.len();
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
    let rate = rate(began);
    drop(sending.await.unwrap());
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    rate
}

/// The parts, signed and cut before the clock starts.
fn messages(key: &SigningKey) -> Vec<Message> {
    let manifest = ManifestId {
        node: key.node_id(),
        broadcast: BroadcastId::from_bytes([1; 16]),
    };
    let payload = Bytes::from(vec![7; PART]);
    let mut messages = Vec::new();
    for number in 0..PARTS {
        let slot = Slot::Part(Position {
            segment: number as u64,
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
        let (header, chunks) =
            PartHeader::for_payload(manifest.source(), slot, Some(media), &payload).unwrap();
        let request = RequestId(1);
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

fn swarm() -> libp2p::Swarm<libp2p_stream::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .unwrap()
        .with_quic()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(30)))
        .build()
}

async fn bare(transport: &str) -> f64 {
    let protocol = StreamProtocol::new("/bench/1");
    let mut to = swarm();
    let listen: Multiaddr = address(transport).parse().unwrap();
    to.listen_on(listen).unwrap();
    let at = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = to.select_next_some().await {
            break address;
        }
    };
    let peer = *to.local_peer_id();
    let mut incoming = to
        .behaviour()
        .new_control()
        .accept(protocol.clone())
        .unwrap();
    let receiving_swarm = tokio::spawn(async move { while to.next().await.is_some() {} });
    let mut from = swarm();
    from.dial(at).unwrap();
    loop {
        if let SwarmEvent::ConnectionEstablished { .. } = from.select_next_some().await {
            break;
        }
    }
    let mut control = from.behaviour().new_control();
    let sending_swarm = tokio::spawn(async move { while from.next().await.is_some() {} });
    let mut stream = control.open_stream(peer, protocol).await.unwrap();
    let began = Instant::now();
    let sending = tokio::spawn(async move {
        let chunk = vec![7; 16 * 1024];
        for _ in 0..PART * PARTS / chunk.len() {
            stream.write_all(&chunk).await.unwrap();
        }
        stream.close().await.unwrap();
    });
    let (_, mut stream) = incoming.next().await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    while bytes < PART * PARTS {
        bytes += stream.read(&mut buffer).await.unwrap();
    }
    let rate = rate(began);
    sending.await.unwrap();
    receiving_swarm.abort();
    sending_swarm.abort();
    rate
}
