//! Frames: what they may hold, what is refused on the way in and on the way out.

use bytes::Bytes;
use headwater_proto::{
    Chunk, DecodeError, Gap, Header, Hello, LengthPrefix, Message, Nack, NoRoute, NoRouteReason,
    NodeAddresses, OutOfBounds, Part, PartHeader, Position, Redirect, RequestId, Roles, Signed,
    Slot, Sub, SubAck, SubState, decode, decode_header, encode,
    limits::{
        CHUNK_BYTES, MAX_AGENT_BYTES, MAX_CHUNKS, MAX_HEADER_BYTES, MAX_HOPS, MAX_PARTS, MAX_PATH,
        MAX_REDIRECT_NODES, MAX_SEGMENT, MAX_UNKNOWN_BYTES,
    },
};

use crate::examples::{all, bytes, header, key, part, stream};

/// A length-delimited protobuf field.
fn field(number: u16, body: &[u8]) -> Vec<u8> {
    let two = |value: u16| {
        [
            value.to_le_bytes()[0] | 0x80,
            u8::try_from(value >> 7).unwrap(),
        ]
    };
    let (tag, len) = (
        two(number << 3 | 2),
        two(u16::try_from(body.len()).unwrap()),
    );
    [&tag, &len, body].concat()
}

/// A field of a later version, this long with its tag.
fn unknown(bytes: usize) -> Vec<u8> {
    field(999, &vec![0; bytes - 4])
}

fn refused(header: impl Into<Bytes>) -> Option<DecodeError> {
    decode_header(header.into()).err()
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
fn a_length_prefix_takes_nothing_after_its_end_or_an_error() {
    for (first, result) in [(1, Ok(Some(1))), (0, Err(DecodeError::FrameLength))] {
        let mut prefix = LengthPrefix::default();
        assert_eq!(prefix.push(first), result);
        for byte in [0, 1, 0x80].into_iter().cycle().take(100) {
            assert_eq!(prefix.push(byte), Err(DecodeError::FrameLength));
        }
    }
}

#[test]
fn a_signed_body_keeps_no_more_memory_than_it_needs() {
    let overlaps = |body: &Bytes, header: &Bytes| header.as_ptr_range().contains(&body.as_ptr());
    let (signed, _) = part(&Bytes::from_static(b"payload"));
    let message = Message::Part(Part {
        request: RequestId(1),
        header: signed,
    });
    let body = |header: &Bytes| {
        let Ok(Header::Message(message)) = decode_header(header.clone()) else {
            panic!("a part with padding is a message");
        };
        let Message::Part(part) = *message else {
            panic!("a part stays one");
        };
        part.header.bytes().clone()
    };

    let plain = header(&message);
    assert!(overlaps(&body(&plain), &plain), "no copy without need");
    let padded = Bytes::from([plain.to_vec(), unknown(MAX_UNKNOWN_BYTES)].concat());
    let copy = body(&padded);
    assert_eq!(copy, body(&plain));
    assert!(!overlaps(&copy, &padded));
}

#[test]
fn fields_of_a_later_version_are_ignored_within_their_bound() {
    for (name, message) in all() {
        let with = |bytes| [header(&message).to_vec(), unknown(bytes)].concat();
        assert_eq!(refused(with(MAX_UNKNOWN_BYTES)), None, "{name}");
        let out = Some(DecodeError::OutOfBounds("unknown"));
        assert_eq!(refused(with(MAX_UNKNOWN_BYTES + 1)), out, "{name}");
    }
}

#[test]
fn a_message_of_a_later_version_is_skipped() {
    for bytes in [4, 100, MAX_UNKNOWN_BYTES + 1] {
        let read = decode_header(unknown(bytes).into());
        assert!(matches!(read, Ok(Header::Unknown)), "{read:?}");
    }
    let frame = [vec![100], unknown(100)].concat();
    assert_eq!(decode(frame.into()), Err(DecodeError::UnknownMessage));
}

#[test]
fn a_frame_has_one_body() {
    for (name, first) in all() {
        for (_, second) in all() {
            let both = [header(&first), header(&second)].concat();
            let found = refused(both);
            let out = matches!(found, Some(DecodeError::OutOfBounds(_)));
            assert!(out, "{name}: {found:?}");
        }
    }
}

#[test]
fn a_statement_has_each_field_once() {
    let (signed, _) = part(&Bytes::from_static(b"payload"));
    let twice = [signed.bytes().to_vec(), vec![4 << 3, 7]].concat();
    let read = Signed::<PartHeader>::from_wire(twice.into(), signed.signature());
    assert_eq!(read, Err(DecodeError::OutOfBounds("size")));

    let padded = [signed.bytes().to_vec(), unknown(MAX_UNKNOWN_BYTES + 1)].concat();
    let read = Signed::<PartHeader>::from_wire(padded.into(), signed.signature());
    assert_eq!(read, Err(DecodeError::OutOfBounds("unknown")));
}

#[test]
fn too_many_elements_are_refused_before_the_rest_is_read() {
    // What follows the last element allowed is no protobuf: whoever read on would say so.
    let garbage = [0xff; 12];
    let nodes = [&field(2, &[]).repeat(MAX_REDIRECT_NODES + 1)[..], &garbage].concat();
    let out = |field| Some(DecodeError::OutOfBounds(field));
    assert_eq!(refused(field(8, &nodes)), out("nodes"));

    let path = [&field(5, &[0; 8 * (MAX_PATH + 1)])[..], &garbage].concat();
    assert_eq!(refused(field(5, &path)), out("path"));

    let chunks = [&field(3, &[1; MAX_CHUNKS + 1])[..], &garbage].concat();
    assert_eq!(refused(field(13, &chunks)), out("chunks"));

    // As many empty structs as fit a header.
    let flood = field(2, &[]).repeat(3000);
    assert_eq!(refused(field(8, &flood)), out("nodes"));
}

#[test]
fn what_a_neighbour_would_refuse_is_not_sent() {
    for (message, field) in beyond_bounds() {
        assert_eq!(encode(&message), Err(OutOfBounds(field)), "{message:?}");
    }
}

/// A message for each bound that a domain type does not keep by itself.
fn beyond_bounds() -> Vec<(Message, &'static str)> {
    let request = RequestId(1);
    let position = |segment, part| Position { segment, part };
    let ok = position(5, 0);
    let sub = |from, hops_left| {
        Message::from(Sub {
            request,
            stream: stream(),
            from,
            hops_left,
        })
    };
    let hello = |agent: String| {
        Message::Hello(Hello {
            roles: Roles::default(),
            agent,
        })
    };
    let nack = |slot, chunks| {
        Message::Nack(Nack {
            request,
            slot,
            chunks,
        })
    };
    let chunk = |len| {
        Message::Chunk(Chunk {
            request,
            slot: Slot::Part(ok),
            index: 0,
            payload: vec![0; len].into(),
        })
    };
    let gap = |from, to| Message::Gap(Gap { request, from, to });
    let signed = |change: fn(&mut PartHeader)| {
        let mut header = part(&Bytes::from_static(b"payload")).0.value().clone();
        change(&mut header);
        Message::Part(Part {
            request,
            header: Signed::sign(header, &key()),
        })
    };
    let node = NodeAddresses {
        node: key().node_id(),
        addresses: vec![],
    };
    let ack = SubAck {
        request,
        state: SubState::Pending,
        load: 0,
        path: vec![0; MAX_PATH + 1],
    };
    let redirect = Redirect {
        request,
        nodes: vec![node; MAX_REDIRECT_NODES + 1],
    };
    vec![
        (hello("a".repeat(MAX_AGENT_BYTES + 1)), "agent"),
        (hello("\u{1b}[2J".to_owned()), "agent"),
        (sub(None, MAX_HOPS + 1), "hops_left"),
        (sub(Some(position(MAX_SEGMENT + 1, 0)), 1), "from"),
        (sub(Some(position(0, MAX_PARTS)), 1), "from"),
        (Message::SubAck(ack), "path"),
        (Message::Redirect(redirect), "nodes"),
        (chunk(0), "payload_bytes"),
        (chunk(CHUNK_BYTES + 1), "payload_bytes"),
        (nack(Slot::Init(u32::MAX), vec![]), "slot"),
        (nack(Slot::Part(ok), vec![256]), "index"),
        (nack(Slot::Part(ok), vec![0; MAX_CHUNKS + 1]), "chunks"),
        (gap(ok, ok), "to"),
        (gap(position(6, 0), ok), "to"),
        (gap(ok, position(MAX_SEGMENT + 1, 0)), "to"),
        (signed(|header| header.size = 0), "size"),
        (signed(|header| header.size = u32::MAX), "size"),
        (signed(|header| header.hashes.clear()), "hashes"),
        (signed(|header| header.media = None), "media"),
        (signed(|header| header.slot = Slot::Init(1)), "media"),
    ]
}

#[test]
fn what_is_beyond_a_bound_is_not_read() {
    let number = |number: u8, value: u8| [number << 3, value];
    let position = field(3, &[1 << 3, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]);
    for (number, body, name) in [
        (5, [&number(1, 1)[..], &position].concat(), "edge"),
        (5, [&number(2, 1)[..], &field(3, &[])].concat(), "edge"),
        (7, number(2, 0).to_vec(), "reason"),
        (12, number(4, 0).to_vec(), "payload_bytes"),
        (22, vec![3 << 3, 0x80, 2], "load"),
    ] {
        let found = refused(field(number, &body));
        let at = |field| field == name;
        let named = match found {
            Some(DecodeError::OutOfBounds(field) | DecodeError::Missing(field)) => at(field),
            _ => false,
        };
        assert!(named, "{name}: {found:?}");
    }
}

#[test]
fn a_refusal_for_a_reason_of_a_later_version_is_a_refusal() {
    let read = decode_header(field(7, &[1 << 3, 9, 2 << 3, 77]).into()).unwrap();
    let Header::Message(message) = read else {
        panic!("{read:?}");
    };
    let expected = NoRoute {
        request: RequestId(9),
        reason: NoRouteReason::NoCloserPeer,
    };
    assert_eq!(*message, Message::NoRoute(expected));
}

#[test]
fn a_chunk_has_no_length_beyond_its_part() {
    let (signed, chunks) = part(&Bytes::from(vec![0x5a; 20_000]));
    let header = signed.value();
    assert_eq!(header.chunk_len(0), chunks[0].len());
    assert_eq!(header.chunk_len(1), chunks[1].len());
    assert_eq!(header.chunk_len(2), 0);
    assert_eq!(header.chunk_len(usize::MAX), 0);
}

#[test]
fn a_frame_tells_its_length() {
    for (name, message) in all() {
        assert_eq!(
            encode(&message).unwrap().len(),
            bytes(&message).len(),
            "{name}"
        );
    }
}
