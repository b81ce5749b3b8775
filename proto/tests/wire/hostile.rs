//! Bytes from anywhere, and frames that were cut or changed: never a panic, and never
//! something other than what was signed.

use bytes::Bytes;
use headwater_proto::{
    Header, LinkVerifier, Message, RequestId, Violation, decode, decode_header, encode,
};
use proptest::{prelude::*, sample::select};

use crate::{
    examples::{all, bytes, header, schema},
    generated,
};

fn messages() -> impl Strategy<Value = Message> {
    let kinds = generated::kinds().into_iter().map(|(_, kind)| kind);
    proptest::strategy::Union::new(kinds)
}

/// Body and signature of the statement in a message.
fn statement(message: &Message) -> Option<(&Bytes, &[u8])> {
    Some(match message {
        Message::Part(part) => (part.header.bytes(), part.header.signature()),
        Message::Finish(finish) => (finish.body.bytes(), finish.body.signature()),
        Message::MasterPlaylistData(data) => (data.body.bytes(), data.body.signature()),
        Message::NodeStatusData(data) => (data.body.bytes(), data.body.signature()),
        Message::TranscodeResponse(answer) => (answer.body.bytes(), answer.body.signature()),
        Message::GetReceipts(get) => (get.body.bytes(), get.body.signature()),
        Message::Receipts(receipts) => (receipts.body.bytes(), receipts.body.signature()),
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
        | Message::JobProbeReply(_) => return None,
    })
}

#[test]
fn every_flipped_bit_of_a_statement_or_its_signature_is_refused() {
    let mut statements = 0;
    for (name, message) in all() {
        let Some((body, signature)) = statement(&message) else {
            continue;
        };
        statements += 1;
        let header = header(&message);
        for signed in [&body[..], signature] {
            let start = (header.windows(signed.len()).position(|at| at == signed)).unwrap();
            for bit in 0..signed.len() * 8 {
                let mut changed = header.to_vec();
                changed[start + bit / 8] ^= 1 << (bit % 8);
                let Ok(read) = decode_header(changed.into()) else {
                    continue;
                };
                let Header::Message(read) = read else {
                    panic!("{name}: {read:?}");
                };
                let verdict = LinkVerifier::default().check(*read);
                assert_eq!(verdict, Err(Violation::BadSignature), "{name}, bit {bit}");
            }
        }
    }
    assert_eq!(
        statements, 8,
        "seven statements, a header for an init and for a part"
    );
}

#[test]
fn no_cut_frame_is_a_message() {
    for (name, message) in all() {
        let whole = bytes(&message);
        for end in 0..whole.len() {
            assert!(decode(whole.slice(..end)).is_err(), "{name} to {end}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(decode(longer.into()).is_err(), "{name} and one more");
    }
}

/// Whatever is read can be sent on, and is then read the same.
fn sent_on(message: &Message) -> Result<(), TestCaseError> {
    let again = decode(bytes(message));
    prop_assert_eq!(again.as_ref(), Ok(message));
    Ok(())
}

/// Something like protobuf: fields with small numbers, some of them nested.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let scalar = (1..26_u8, any::<u8>()).prop_map(|(number, value)| {
        let tag = u16::from(number) << 3;
        let [low, high] = [tag.to_le_bytes()[0] | 0x80, u8::try_from(tag >> 7).unwrap()];
        vec![low, high, value & 0x7f]
    });
    let leaf = prop_oneof![
        scalar,
        prop::collection::vec(any::<u8>(), 0..6),
        select(vec![vec![0x80, 0x80], vec![0xff; 9]]),
    ];
    leaf.prop_recursive(4, 60, 6, |inner| {
        let highest = schema().iter().map(|(_, number)| *number).max().unwrap();
        let number = 1..=u16::try_from(highest).unwrap() + 1;
        (number, prop::collection::vec(inner, 0..6)).prop_map(|(number, inner)| {
            let body = inner.concat();
            let tag = number << 3 | 2;
            let [low, high] = [tag.to_le_bytes()[0] | 0x80, u8::try_from(tag >> 7).unwrap()];
            let len = u16::try_from(body.len()).unwrap();
            let len = [len.to_le_bytes()[0] | 0x80, u8::try_from(len >> 7).unwrap()];
            [&[low, high], &len[..], &body[..]].concat()
        })
    })
}

proptest! {
    #[test]
    fn bytes_from_anywhere_are_read_or_refused(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..400), likely()],
    ) {
        if let Ok(message) = decode(bytes.clone().into()) {
            sent_on(&message)?;
        }
        if let Ok(Header::Message(message)) = decode_header(bytes.into()) {
            sent_on(&message)?;
        }
    }

    #[test]
    fn a_changed_header_is_refused_or_another_message(
        message in messages(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        replace in 0..3_usize,
        insert in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let whole = header(&message);
        let at = at.index(whole.len());
        let rest = &whole[(at + replace).min(whole.len())..];
        let mut changed = [&whole[..at], &insert, rest].concat();
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= with;
        }
        match decode_header(changed.into()) {
            Ok(Header::Message(read)) => sent_on(&read)?,
            Ok(Header::Chunk(chunk)) => {
                let payload = vec![0; chunk.payload_len()].into();
                sent_on(&chunk.finish(payload).unwrap())?;
            }
            Ok(Header::Unknown) | Err(_) => {}
        }
    }

    #[test]
    fn a_statement_is_that_of_its_author_or_refused(
        message in select(all()),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let (name, message) = message;
        let mut changed = bytes(&message).to_vec();
        let place = at.index(changed.len());
        changed[place] ^= 1 << bit;
        let Ok(read) = decode(changed.into()) else {
            return Ok(());
        };
        if let (Some(before), Some(after)) = (statement(&message), statement(&read)) {
            let verdict = LinkVerifier::default().check(read.clone());
            prop_assert_eq!(verdict.is_ok(), before == after, "{}", name);
        }
    }

    #[test]
    fn a_request_is_read_whole_whatever_its_number(request in any::<u64>()) {
        let cancel = Message::Cancel(headwater_proto::Cancel { request: RequestId(request) });
        prop_assert!(encode(&cancel).unwrap().len() <= 16);
        sent_on(&cancel)?;
    }
}
