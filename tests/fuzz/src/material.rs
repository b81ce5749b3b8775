//! What targets build inputs from: a few keys, streams and signed parts that meet again
//! and again.

use std::{cell::RefCell, collections::BTreeMap};

use bytes::{Bytes, BytesMut};
use headwater_proto::{
    AddressText, BroadcastId, Frame, ManifestId, MediaInfo, NodeId, PartHeader, Position, Signed,
    SigningKey, Slot, StreamId,
};

/// Parts of a segment.
pub(crate) const PARTS: u32 = 4;

/// The key of a node; node 0 is the one that is tested.
pub(crate) fn key(number: u8) -> SigningKey {
    let mut secret = [0x5a; 32];
    secret[0] = number;
    SigningKey::from_bytes(&secret)
}

/// The id of a node.
pub(crate) fn id(number: u8) -> NodeId {
    thread_local! {
        static IDS: Vec<NodeId> = (0..=u8::MAX).map(|number| key(number).node_id()).collect();
    }
    IDS.with(|ids| ids[usize::from(number)])
}

/// A broadcast of a node.
pub(crate) fn manifest(owner: u8, broadcast: u8) -> ManifestId {
    ManifestId {
        node: id(owner),
        broadcast: BroadcastId::from_bytes([broadcast; 16]),
    }
}

/// A stream of a node.
pub(crate) fn stream(owner: u8, broadcast: u8, rendition: bool) -> StreamId {
    let source = manifest(owner, broadcast).source();
    if !rendition {
        return source;
    }
    StreamId {
        rendition: "480p".parse().expect("it is a short name"),
        ..source
    }
}

/// An address that can be dialled from nowhere.
pub(crate) fn address() -> AddressText {
    AddressText::new("/ip4/192.0.2.1/tcp/4935").expect("it begins with a slash")
}

/// A frame in one piece.
pub(crate) fn whole(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::with_capacity(frame.len());
    bytes.extend_from_slice(&frame.head);
    bytes.extend_from_slice(frame.payload.as_deref().unwrap_or_default());
    bytes.freeze()
}

/// A part or init with its signed header.
pub(crate) type Made = (Signed<PartHeader>, Vec<Bytes>);

/// What the owner of a stream makes for a slot. Each of the versions is signed: an owner
/// can contradict himself.
pub(crate) fn made(owner: u8, stream: &StreamId, slot: Slot, version: u8) -> Made {
    thread_local! {
        static MADE: RefCell<BTreeMap<(StreamId, Slot, u8), Made>> = RefCell::default();
    }
    let name = (stream.clone(), slot, version);
    MADE.with_borrow_mut(|made| {
        let made = made.entry(name);
        made.or_insert_with(|| sign(owner, stream, slot, version))
            .clone()
    })
}

fn sign(owner: u8, stream: &StreamId, slot: Slot, version: u8) -> Made {
    let (media, size) = match slot {
        Slot::Init(_) => (None, 300),
        // A key frame of three chunks, then parts of one and two.
        Slot::Part(at) => (
            Some(media(at, version)),
            [40_000, 900, 20_000, 5][at.part as usize % 4],
        ),
    };
    let payload = Bytes::from(vec![payload_byte(slot, version); size]);
    let (header, chunks) = PartHeader::for_payload(stream.clone(), slot, media, &payload)
        .expect("payloads are neither empty nor beyond the bound");
    (Signed::sign(header, &key(owner)), chunks)
}

fn payload_byte(slot: Slot, version: u8) -> u8 {
    let place = match slot {
        Slot::Init(index) => index.to_le_bytes()[0],
        Slot::Part(at) => (at.segment * 4 + u64::from(at.part)).to_le_bytes()[0],
    };
    place.wrapping_mul(3).wrapping_add(version)
}

fn media(at: Position, version: u8) -> MediaInfo {
    MediaInfo {
        init: u32::from(version & 1),
        start: at.segment * 180_000 + u64::from(at.part) * 45_000,
        duration: 45_000,
        program_date_time_ms: 0,
        discontinuity: 0,
        independent: at.part == 0,
        last: at.part + 1 == PARTS,
    }
}
