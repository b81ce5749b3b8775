//! The wire against its golden bytes, and against bytes that mean it ill.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made has failed its test"
)]

mod common;

use std::{collections::BTreeSet, fmt::Write as _};

use bytes::Bytes;
use common::{KINDS, all, bytes, kind, part};
use headwater_proto::{
    BroadcastId, Chunk, DecodeError, LengthPrefix, LinkVerifier, ManifestId, MediaId, Message,
    NodeId, Part, RequestId, Signed, Slot, StreamId, Violation, decode, limits::MAX_HEADER_BYTES,
};
use proptest::prelude::*;

const VECTORS: &str = include_str!("vectors.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn golden_bytes_never_change_and_every_kind_has_some() {
    let written: String = all()
        .iter()
        .map(|(n, m)| format!("{n} {}\n", hex(&bytes(m))))
        .collect();
    assert_eq!(
        written, VECTORS,
        "a changed wire needs a new version of SPEC.md"
    );
    let kinds: BTreeSet<_> = all().iter().map(|(_, message)| kind(message)).collect();
    assert_eq!(kinds, (1..=KINDS).collect());
}

#[test]
fn every_message_reads_back() {
    for (name, message) in all() {
        assert_eq!(decode(bytes(&message)).unwrap(), message, "{name}");
    }
}

#[test]
fn length_prefixes_are_short_and_bounded() {
    let read = |bytes: &[u8]| {
        let mut prefix = LengthPrefix::default();
        let mut last = Ok(None);
        for byte in bytes {
            last = prefix.push(*byte);
            if last != Ok(None) {
                break;
            }
        }
        last
    };
    assert_eq!(read(&[1]), Ok(Some(1)));
    assert_eq!(read(&[0x80, 0x80, 4]), Ok(Some(MAX_HEADER_BYTES)));
    for bad in [
        &[0][..],
        &[0x81, 0],
        &[0x81, 0x80, 4],
        &[0xff, 0xff, 0xff, 1],
    ] {
        assert_eq!(read(bad), Err(DecodeError::FrameLength), "{bad:?}");
    }
}

#[test]
fn ids_have_the_text_that_every_libp2p_shows() {
    // The PeerId of the Ed25519 key whose secret is 32 zero bytes.
    let key = headwater_proto::SigningKey::from_bytes(&[0; 32]);
    let text = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    assert_eq!(key.node_id().to_string(), text);
    assert_eq!(text.parse(), Ok(key.node_id()));
    for bad in [
        "",
        "12D3",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        &"1".repeat(100),
    ] {
        assert!(bad.parse::<NodeId>().is_err(), "{bad}");
    }
    let id = format!("{text}.{}", "a".repeat(26));
    assert!(matches!(id.parse(), Ok(MediaId::Manifest(_))));
    assert!(matches!(
        format!("{id}.360p").parse(),
        Ok(MediaId::Stream(_))
    ));
    for bad in [
        format!("{id}."),
        format!("{id}.a b"),
        id.to_uppercase(),
        format!("{id}.a.b"),
    ] {
        assert!(bad.parse::<MediaId>().is_err(), "{bad}");
    }
}

/// A verifier that has seen the header of a part, and that part's chunks.
fn seen() -> (LinkVerifier, Vec<Bytes>) {
    let (header, chunks) = part(&Bytes::from(vec![0x5a; 20_000]));
    let request = RequestId(1);
    let mut verifier = LinkVerifier::default();
    verifier
        .check(Message::Part(Part { request, header }))
        .unwrap();
    (verifier, chunks)
}

fn chunk(index: u16, payload: Bytes) -> Message {
    Message::Chunk(Chunk {
        request: RequestId(1),
        slot: Slot::Part(headwater_proto::Position {
            segment: 5,
            part: 0,
        }),
        index,
        payload,
    })
}

#[test]
fn chunks_pass_only_as_their_header_says() {
    let (mut verifier, chunks) = seen();
    assert!(verifier.check(chunk(0, chunks[0].clone())).is_ok());
    assert!(verifier.check(chunk(1, chunks[1].clone())).is_ok());

    let bad = Err(Violation::BadChunk);
    assert_eq!(
        verifier.check(chunk(1, chunks[0].clone())),
        bad,
        "another chunk's bytes"
    );
    assert_eq!(
        verifier.check(chunk(2, chunks[0].clone())),
        bad,
        "beyond the end"
    );
    assert_eq!(
        verifier.check(chunk(1, chunks[1].slice(1..))),
        bad,
        "too short"
    );
    let unannounced = LinkVerifier::default().check(chunk(0, chunks[0].clone()));
    assert_eq!(unannounced, Err(Violation::UnannouncedChunk));
}

#[test]
fn two_headers_for_one_part_are_one_too_many() {
    let request = RequestId(1);
    let (header, _) = part(&Bytes::from_static(b"one"));
    let (other, _) = part(&Bytes::from_static(b"two"));
    let mut verifier = LinkVerifier::default();

    let message = |header: &Signed<_>| {
        Message::Part(Part {
            request,
            header: header.clone(),
        })
    };
    assert!(verifier.check(message(&header)).is_ok());
    assert!(
        verifier.check(message(&header)).is_ok(),
        "the same again is a repair"
    );
    assert_eq!(
        verifier.check(message(&other)),
        Err(Violation::Equivocation)
    );
}

proptest! {
    #[test]
    fn bytes_from_anywhere_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(decode(bytes.into()));
    }

    #[test]
    fn a_changed_frame_is_never_taken_for_what_was_signed(
        which in 0..24_usize,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let (_, message) = all().swap_remove(which);
        let mut changed = bytes(&message).to_vec();
        let place = at.index(changed.len());
        changed[place] ^= 1 << bit;
        let Ok(read) = decode(changed.into()) else {
            return Ok(());
        };
        let body = |message: &Message| match message {
            Message::Part(part) => Some(part.header.bytes().clone()),
            Message::Finish(finish) => Some(finish.body.bytes().clone()),
            Message::MasterPlaylistData(data) => Some(data.body.bytes().clone()),
            Message::NodeStatusData(data) => Some(data.body.bytes().clone()),
            Message::TranscodeResponse(response) => Some(response.body.bytes().clone()),
            Message::Hello(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::Sub(_)
            | Message::SubAck(_)
            | Message::NotFound(_)
            | Message::NoRoute(_)
            | Message::Redirect(_)
            | Message::Cancel(_)
            | Message::Chunk(_)
            | Message::Nack(_)
            | Message::Gap(_)
            | Message::GetMasterPlaylist(_)
            | Message::NodeStatusReq(_)
            | Message::TranscodeSub(_)
            | Message::JobProbe(_)
            | Message::JobProbeReply(_) => None,
        };
        if let (Some(before), Some(after)) = (body(&message), body(&read))
            && before != after
        {
            prop_assert!(LinkVerifier::default().check(read).is_err());
        }
    }

    #[test]
    fn truncated_frames_are_refused(which in 0..24_usize, at in any::<prop::sample::Index>()) {
        let (_, message) = all().swap_remove(which);
        let whole = bytes(&message);
        let cut = whole.slice(..at.index(whole.len()));
        prop_assert!(decode(cut).is_err());
    }

    #[test]
    fn any_flipped_bit_of_a_chunk_is_found(at in 0..16_384_usize, bit in 0..8_u32) {
        let (mut verifier, chunks) = seen();
        let mut bytes = chunks[0].to_vec();
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(verifier.check(chunk(0, bytes.into())), Err(Violation::BadChunk));
    }

    #[test]
    fn texts_of_ids_read_back(
        node in any::<[u8; 32]>(),
        broadcast in any::<[u8; 16]>(),
        rendition in "[a-z0-9_-]{1,32}",
    ) {
        let manifest = ManifestId {
            node: NodeId::from_public_key(node),
            broadcast: BroadcastId::from_bytes(broadcast),
        };
        let stream = StreamId { rendition: rendition.parse().unwrap(), ..manifest.source() };
        prop_assert_eq!(manifest.to_string().parse(), Ok(manifest));
        prop_assert_eq!(stream.to_string().parse(), Ok(stream));
    }

    #[test]
    fn text_from_anywhere_is_read_or_refused(text in ".{0,120}") {
        drop(text.parse::<MediaId>());
    }
}
