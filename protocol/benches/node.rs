//! What a relay costs per part: one header and 25 chunks in, as many out for each child.
//!
//! Run with `cargo bench -p headwater-protocol`.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use headwater_proto::{
    BroadcastId, Checked, Chunk, ManifestId, MediaInfo, Message, NodeId, Part, PartHeader,
    Position, RequestId, Roles, Signed, SigningKey, Slot, StreamId, Sub, SubAck, SubState,
    limits::MAX_HOPS,
};
use headwater_protocol::{Config, Input, Link, Node, Output, Time};

/// Payload of a part: 400 kB, which is 200 ms at 16 Mbit/s.
const PART_BYTES: usize = 400_000;
const CREDIT: usize = 1 << 20;

struct Relay {
    node: Node,
    owner: NodeId,
    children: Vec<NodeId>,
    request: RequestId,
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn connected(peer: NodeId) -> Input {
    let link = Link {
        roles: Roles::default(),
        credit: CREDIT,
        dial: None,
    };
    Input::Connected { peer, link }
}

fn received(from: NodeId, message: Message) -> Input {
    let message = Checked::assume(message);
    Input::Received { from, message }
}

impl Relay {
    /// A relay whose owner link is live, with children that have joined.
    fn new(stream: &StreamId, children: u8) -> Self {
        let roles = Roles {
            relayer: true,
            ..Roles::default()
        };
        let node = Node::new(
            key(200).node_id(),
            Config::for_roles(roles),
            [0; 32],
            Time::default(),
        );
        let mut relay = Self {
            node,
            owner: stream.node,
            children: (0..children).map(|n| key(1 + n).node_id()).collect(),
            request: RequestId(0),
        };
        relay.handle(connected(stream.node));
        for child in relay.children.clone() {
            relay.handle(connected(child));
            let sub = Sub {
                request: RequestId(1),
                stream: stream.clone(),
                from: None,
                hops_left: MAX_HOPS,
            };
            for output in relay.handle(received(child, Message::from(sub))) {
                if let Output::Send {
                    message: Message::Sub(sub),
                    ..
                } = output
                {
                    relay.request = sub.request;
                }
            }
        }
        let ack = SubAck {
            request: relay.request,
            state: SubState::Live(None),
            load: 0,
            path: Vec::new(),
        };
        relay.handle(received(stream.node, Message::SubAck(ack)));
        relay
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        self.node.handle(Time::default(), input);
        std::iter::from_fn(|| self.node.poll_output()).collect()
    }

    /// Takes a part in and returns how many messages it sent for it.
    fn relay(&mut self, header: &Signed<PartHeader>, chunks: &[Bytes]) -> usize {
        let request = self.request;
        let part = Part {
            request,
            header: header.clone(),
        };
        let mut sent = self.handle(received(self.owner, Message::Part(part))).len();
        for (index, payload) in (0..).zip(chunks) {
            let chunk = Chunk {
                request,
                slot: header.value().slot,
                index,
                payload: payload.clone(),
            };
            sent += self
                .handle(received(self.owner, Message::Chunk(chunk)))
                .len();
        }
        sent
    }
}

fn slot_of(stream: &StreamId, slot: Slot, bytes: usize) -> (Signed<PartHeader>, Vec<Bytes>) {
    let media = match slot {
        Slot::Init(_) => None,
        Slot::Part(_) => Some(MediaInfo {
            init: 0,
            start: 0,
            duration: 18_000,
            program_date_time_ms: 0,
            discontinuity: 0,
            independent: true,
            last: false,
        }),
    };
    let payload = Bytes::from(vec![7; bytes]);
    let made = PartHeader::for_payload(stream.clone(), slot, media, &payload);
    let (header, chunks) = made.expect("the payload has a size that parts may have");
    (Signed::sign(header, &key(100)), chunks)
}

fn fan_out(c: &mut Criterion) {
    let stream = ManifestId {
        node: key(100).node_id(),
        broadcast: BroadcastId::from_bytes([1; 16]),
    }
    .source();
    let position = Position {
        segment: 0,
        part: 0,
    };
    let init = slot_of(&stream, Slot::Init(0), 600);
    let part = slot_of(&stream, Slot::Part(position), PART_BYTES);
    let mut group = c.benchmark_group("relay a part of 400 kB");
    for children in [1, 8] {
        group.throughput(Throughput::Elements(1 + part.1.len() as u64));
        group.bench_with_input(BenchmarkId::new("children", children), &children, |b, n| {
            b.iter_batched(
                || {
                    let mut relay = Relay::new(&stream, *n);
                    relay.relay(&init.0, &init.1);
                    relay
                },
                |mut relay| {
                    let sent = relay.relay(&part.0, &part.1);
                    // The init, a header and one chunk, goes before the first part.
                    assert_eq!(sent, usize::from(*n) * (2 + 1 + part.1.len()));
                    relay
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
