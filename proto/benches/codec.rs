//! What one chunk and one part header cost: to write, to read, to check.
//!
//! Run with `cargo bench -p headwater-proto`.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use headwater_proto::{
    BroadcastId, Chunk, LinkVerifier, ManifestId, MediaInfo, Message, Part, PartHeader, Position,
    RequestId, Signed, SigningKey, Slot, decode, encode, limits::CHUNK_BYTES,
};

/// Payload of a part: 400 kB, which is 200 ms at 16 Mbit/s.
const PART_BYTES: usize = 400_000;

/// A part and its first chunk, on one subscription.
fn messages() -> (Message, Message) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let manifest = ManifestId {
        node: key.node_id(),
        broadcast: BroadcastId::from_bytes([3; 16]),
    };
    let slot = Slot::Part(Position {
        segment: 5,
        part: 0,
    });
    let media = MediaInfo {
        init: 1,
        start: 900_000,
        duration: 18_000,
        program_date_time_ms: 1_800_000_000_000,
        discontinuity: 0,
        independent: true,
        last: false,
    };
    let payload = Bytes::from(vec![0x5a; PART_BYTES]);
    let made = PartHeader::for_payload(manifest.source(), slot, Some(media), &payload);
    let (header, chunks) = made.expect("a payload within bounds is split");
    let request = RequestId(300);
    let part = Message::Part(Part {
        request,
        header: Signed::sign(header, &key),
    });
    let chunk = Message::Chunk(Chunk {
        request,
        slot,
        index: 0,
        payload: chunks[0].clone(),
    });
    (part, chunk)
}

fn bytes(message: &Message) -> Bytes {
    let frame = encode(message).expect("messages here are within bounds");
    let mut bytes = BytesMut::from(&frame.head[..]);
    bytes.extend_from_slice(&frame.payload.unwrap_or_default());
    bytes.freeze()
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let (part, chunk) = messages();
    for (name, message) in [("part", &part), ("chunk", &chunk)] {
        let frame = bytes(message);
        group.bench_function(format!("encode/{name}"), |bench| {
            bench.iter(|| encode(black_box(message)));
        });
        group.bench_function(format!("decode/{name}"), |bench| {
            bench.iter(|| decode(black_box(frame.clone())));
        });
    }
    group.finish();
}

fn verify(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify");
    let (part, chunk) = messages();
    group.bench_function("part", |bench| {
        bench.iter(|| LinkVerifier::default().check(black_box(part.clone())));
    });
    let mut verifier = LinkVerifier::default();
    let announced = verifier.check(part);
    announced.expect("a signed part passes");
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    group.bench_function("chunk", |bench| {
        bench.iter(|| verifier.check(black_box(chunk.clone())));
    });
    group.finish();
}

criterion_group!(benches, codec, verify);
criterion_main!(benches);
