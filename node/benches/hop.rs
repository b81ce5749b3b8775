//! What a relay adds to the way of a part: from the moment it has the whole part to the
//! moment each of its eight children has it.
//!
//! `cargo bench -p headwater --bench hop`; ten nodes over TCP on loopback, a stream of
//! 200 ms parts in real time. Prints the median, the 99th percentile and the worst.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run has nothing to report, and reports on stdout"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use headwater::{
    clock,
    driver::{self, Core, Subscription},
    net::{self, NetConfig, NetHandle},
};
use headwater_proto::{
    BroadcastId, ManifestId, MediaInfo, PartHeader, Position, Roles, Signed, SigningKey, Slot,
};
use headwater_protocol::{Command, Config, Delivery, Node};
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const CHILDREN: u8 = 8;
const PART: Duration = Duration::from_millis(200);
const PARTS: u64 = 150;
const PARTS_PER_SEGMENT: u64 = 10;

struct Running {
    net: NetHandle,
    core: Core,
}

#[tokio::main]
async fn main() {
    for megabits in [3, 8] {
        let mut added = measure(megabits).await;
        added.sort_unstable();
        let at = |percent: usize| added[(added.len() - 1) * percent / 100];
        println!(
            "{megabits} Mbit/s, {CHILDREN} children, {} samples: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            added.len(),
            at(50).as_secs_f64() * 1e3,
            at(99).as_secs_f64() * 1e3,
            at(100).as_secs_f64() * 1e3,
        );
    }
}

/// Every child's delay behind the relay, for every part.
async fn measure(megabits: usize) -> Vec<Duration> {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let start = async |seed: u8, roles: Roles, bootstrap: Vec<String>| {
        start(seed, roles, bootstrap, &tasks, &stop).await
    };
    let relayer = Roles {
        relayer: true,
        ..Roles::default()
    };
    let broadcaster = Roles {
        broadcaster: true,
        ..Roles::default()
    };
    let relay = start(1, relayer, vec![]).await;
    let join = vec![relay.net.listen_addresses()[0].to_string()];
    let source = start(2, broadcaster, join.clone()).await;
    let key = SigningKey::from_bytes(&[2; 32]);
    let stream = ManifestId {
        node: key.node_id(),
        broadcast: BroadcastId::from_bytes([1; 16]),
    }
    .source();
    let publish = Command::Publish {
        stream: stream.clone(),
    };
    source.core.command(publish).await.unwrap();
    let (header, chunks) = PartHeader::for_payload(
        stream.clone(),
        Slot::Init(0),
        None,
        &Bytes::from_static(b"init"),
    )
    .unwrap();
    let header = Signed::sign(header, &key);
    let append = Command::Append { header, chunks };
    source.core.command(append).await.unwrap();
    let mut receivers = JoinSet::new();
    let mut children = Vec::new();
    let at_relay = relay.core.subscribe(stream.clone()).await.unwrap();
    receivers.spawn(async move { (0, receive(at_relay).await) });
    for number in 1..=CHILDREN {
        let child = start(number + 2, Roles::default(), join.clone()).await;
        let subscription = child.core.subscribe(stream.clone()).await.unwrap();
        receivers.spawn(async move { (number, receive(subscription).await) });
        children.push(child);
    }
    let sending = async {
        let bytes = megabits * 1_000_000 / 8 * PART.as_millis() as usize / 1000;
        let mut pace = tokio::time::interval(PART);
        for number in 0..PARTS {
            pace.tick().await;
            let (header, chunks) = part(&key, &stream, number, bytes);
            let append = Command::Append { header, chunks };
            source.core.command(append).await.unwrap();
        }
    };
    sending.await;
    let mut seen = BTreeMap::new();
    while let Some(received) = receivers.join_next().await {
        let (number, times) = received.unwrap();
        seen.insert(number, times);
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let relayed = seen.remove(&0).unwrap();
    let mut added = Vec::new();
    for times in seen.values() {
        for (position, at) in times {
            if let Some(before) = relayed.get(position) {
                added.push(at.saturating_duration_since(*before));
            }
        }
    }
    added
}

async fn start(
    seed: u8,
    roles: Roles,
    bootstrap: Vec<String>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Running {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let node = Node::new(
        key.node_id(),
        Config::for_roles(roles),
        [seed; 32],
        clock::now(),
    );
    let config = NetConfig {
        key,
        roles,
        agent: "bench".into(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        external: vec![],
        bootstrap,
        known: vec![],
        allow_private: true,
        home_links: 8,
        max_links: 64,
    };
    let (net, events) = net::start(config, tasks, stop.clone()).await.unwrap();
    // No question is asked without jobs.
    let (core, _) = driver::start(
        node,
        net.clone(),
        events,
        None,
        net::SPARE_AFTER,
        tasks,
        stop.clone(),
    );
    Running { net, core }
}

/// When each part of the second half came; the first half is for joining.
async fn receive(mut subscription: Subscription) -> BTreeMap<Position, Instant> {
    let mut times = BTreeMap::new();
    while let Some(delivery) = subscription.next().await {
        if let Delivery::Part { position, .. } = delivery {
            let number = position.segment * PARTS_PER_SEGMENT + u64::from(position.part);
            if number >= PARTS / 2 {
                times.insert(position, Instant::now());
            }
            if number == PARTS - 1 {
                break;
            }
        }
    }
    times
}

fn part(
    key: &SigningKey,
    stream: &headwater_proto::StreamId,
    number: u64,
    bytes: usize,
) -> (Signed<PartHeader>, Vec<Bytes>) {
    let index = number % PARTS_PER_SEGMENT;
    let slot = Slot::Part(Position {
        segment: number / PARTS_PER_SEGMENT,
        part: u32::try_from(index).unwrap(),
    });
    let ticks = PART.as_millis() as u64 * 90;
    let media = MediaInfo {
        init: 0,
        start: number * ticks,
        duration: u32::try_from(ticks).unwrap(),
        program_date_time_ms: 0,
        discontinuity: 0,
        independent: index == 0,
        last: index == PARTS_PER_SEGMENT - 1,
    };
    let payload = Bytes::from(vec![7; bytes]);
    let (header, chunks) =
        PartHeader::for_payload(stream.clone(), slot, Some(media), &payload).unwrap();
    (Signed::sign(header, key), chunks)
}
