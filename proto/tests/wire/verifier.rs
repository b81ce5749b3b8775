//! What a link's verifier lets through, over many parts and subscriptions.

use bytes::Bytes;
use headwater_proto::{
    Checked, Chunk, LinkVerifier, Message, Part, PartHeader, Position, RequestId, Signed, Slot,
    Violation, limits::MAX_PART_BYTES,
};

use crate::examples::{key, part, stream};

type Header = Signed<PartHeader>;

/// One link's verifier, and what one would write to it.
#[derive(Default)]
struct Link(LinkVerifier);

impl Link {
    fn part(&mut self, request: u64, header: &Header) -> Result<Checked<Message>, Violation> {
        self.0.check(Message::Part(Part {
            request: RequestId(request),
            header: header.clone(),
        }))
    }

    fn chunk(&mut self, request: u64, header: &Header, index: u16, payload: &Bytes) -> Verdict {
        self.0.check(Message::Chunk(Chunk {
            request: RequestId(request),
            slot: header.value().slot,
            index,
            payload: payload.clone(),
        }))
    }
}

type Verdict = Result<Checked<Message>, Violation>;

/// A part of its own number, with its chunks.
fn numbered(segment: u64, payload: &Bytes) -> (Header, Vec<Bytes>) {
    let media = part(payload).0.value().media;
    let slot = Slot::Part(Position { segment, part: 0 });
    let (header, chunks) = PartHeader::for_payload(stream(), slot, media, payload).unwrap();
    (Signed::sign(header, &key()), chunks)
}

fn two_chunks() -> (Header, Vec<Bytes>) {
    part(&Bytes::from(vec![0x5a; 20_000]))
}

#[test]
fn chunks_pass_only_as_their_header_says() {
    let (header, chunks) = two_chunks();
    let mut link = Link::default();
    let early = link.chunk(1, &header, 0, &chunks[0]);
    assert_eq!(early, Err(Violation::UnannouncedChunk));
    link.part(1, &header).unwrap();
    let elsewhere = link.chunk(2, &header, 0, &chunks[0]);
    assert_eq!(elsewhere, Err(Violation::UnannouncedChunk));

    let bad = Err(Violation::BadChunk);
    assert_eq!(
        link.chunk(1, &header, 1, &chunks[0]),
        bad,
        "another's bytes"
    );
    assert_eq!(link.chunk(1, &header, 2, &chunks[0]), bad, "beyond the end");
    assert_eq!(
        link.chunk(1, &header, 1, &chunks[1].slice(1..)),
        bad,
        "short"
    );
    assert!(link.chunk(1, &header, 0, &chunks[0]).is_ok());
    assert!(link.chunk(1, &header, 1, &chunks[1]).is_ok());
}

#[test]
fn every_flipped_bit_of_a_chunk_is_found() {
    let (header, chunks) = two_chunks();
    let mut link = Link::default();
    link.part(1, &header).unwrap();
    let short = chunks[1].to_vec();
    for bit in 0..short.len() * 8 {
        let mut changed = short.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let verdict = link.chunk(1, &header, 1, &changed.into());
        assert_eq!(verdict, Err(Violation::BadChunk), "bit {bit}");
    }
}

#[test]
fn two_signed_headers_for_one_part_are_equivocation() {
    let (header, _) = part(&Bytes::from_static(b"one"));
    let (other, _) = part(&Bytes::from_static(b"two"));
    let mut link = Link::default();
    assert!(link.part(1, &header).is_ok());
    assert!(link.part(1, &header).is_ok(), "the same again is a repair");
    assert_eq!(link.part(1, &other), Err(Violation::Equivocation));
    assert!(link.part(2, &other).is_ok(), "another subscription");
}

#[test]
fn a_known_header_with_a_broken_signature_is_a_forgery_and_no_equivocation() {
    let (header, chunks) = part(&Bytes::from_static(b"one"));
    let (other, _) = part(&Bytes::from_static(b"two"));
    let mut link = Link::default();
    link.part(1, &header).unwrap();

    for bytes in [header.bytes(), other.bytes()] {
        let mut signature = *header.signature();
        signature[5] ^= 1;
        let forged = Header::from_wire(bytes.clone(), &signature).unwrap();
        assert_eq!(link.part(1, &forged), Err(Violation::BadSignature));
    }
    assert!(link.chunk(1, &header, 0, &chunks[0]).is_ok(), "still known");
}

#[test]
fn a_long_backfill_takes_nothing_from_the_live_edge() {
    let (live, live_chunks) = numbered(10_000, &Bytes::from(vec![1; 20_000]));
    let mut link = Link::default();
    link.part(1, &live).unwrap();
    for segment in 0..400 {
        let (old, chunks) = numbered(segment, &Bytes::from(segment.to_be_bytes().to_vec()));
        link.part(1, &old).unwrap();
        link.chunk(1, &old, 0, &chunks[0]).unwrap();
    }
    for (index, chunk) in (0..).zip(&live_chunks) {
        assert!(link.chunk(1, &live, index, chunk).is_ok());
    }
}

#[test]
fn a_chunk_may_come_twice_after_its_part_is_complete() {
    let (header, chunks) = two_chunks();
    let mut link = Link::default();
    link.part(1, &header).unwrap();
    for _ in 0..2 {
        assert!(link.chunk(1, &header, 0, &chunks[0]).is_ok());
        assert!(link.chunk(1, &header, 1, &chunks[1]).is_ok());
    }
}

#[test]
fn headers_whose_chunks_never_come_are_forgotten_oldest_first() {
    let parts: Vec<_> = (0..130)
        .map(|segment| numbered(segment, &Bytes::from_static(b"payload")))
        .collect();
    let mut link = Link::default();
    for (header, _) in &parts {
        link.part(1, header).unwrap();
    }
    let mut verdict = |part: usize| {
        let (header, chunks) = &parts[part];
        link.chunk(1, header, 0, &chunks[0]).map(drop)
    };
    assert_eq!(verdict(0), Err(Violation::UnannouncedChunk));
    assert_eq!(verdict(1), Err(Violation::UnannouncedChunk));
    assert_eq!(verdict(2), Ok(()));
    assert_eq!(verdict(129), Ok(()));
}

#[test]
fn a_quiet_subscription_keeps_its_header_beside_busy_ones() {
    let (small, small_chunks) = numbered(1, &Bytes::from_static(b"small"));
    let (large, large_chunks) = numbered(2, &Bytes::from(vec![0; MAX_PART_BYTES]));
    let mut link = Link::default();
    link.part(0, &small).unwrap();
    // Each needs more than 16 KiB, all together more than a link may take.
    for request in 1..=400 {
        link.part(request, &large).unwrap();
    }

    let kept = (1..=400)
        .filter(|request| link.chunk(*request, &large, 0, &large_chunks[0]).is_ok())
        .count();
    assert!((100..300).contains(&kept), "{kept} of 400 are kept");
    assert!(link.chunk(0, &small, 0, &small_chunks[0]).is_ok());
}
