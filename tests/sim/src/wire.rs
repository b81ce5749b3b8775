//! How long a message is on the wire, and a fingerprint of it for the trace hash.

use bytes::Bytes;
use headwater_proto::{Chunk, Message, Part, PartHeader, RequestId, Signed, Slot, encode};

/// Protobuf tag of a field with a number below 16, and the length of a short body.
const TAG: usize = 1;
/// Bytes of a signature with its tag and length.
const SIGNATURE: usize = 66;

/// Length in bytes, and a fingerprint of the content; `None` when the message is beyond a
/// bound of the wire.
///
/// What travels often is computed; the rest is encoded.
#[must_use]
pub fn measure(message: &Message) -> Option<(usize, u64)> {
    Some(match message {
        Message::Ping(ping) | Message::Pong(ping) => {
            let pong = u64::from(matches!(message, Message::Pong(_)));
            let len = frame(field(ping.nonce));
            (len, mix(2 + pong, ping.nonce))
        }
        Message::Part(part) => {
            let body = part.header.bytes().len();
            let len = field(part.request.0) + TAG + varint(body as u64) + body + SIGNATURE;
            let print = mix(slot_print(part.header.value().slot), part.request.0);
            let signed = u64::from_le_bytes(first_eight(part.header.signature()));
            (frame(len), mix(print, signed))
        }
        Message::Chunk(chunk) => {
            let payload = chunk.payload.len();
            let slot = slot_len(chunk.slot);
            let len = field(chunk.request.0)
                + nested(slot)
                + field(u64::from(chunk.index))
                + field(payload as u64);
            let print = mix(slot_print(chunk.slot), chunk.request.0);
            let rest = u64::from(chunk.index) << 32 | payload as u64;
            let content = u64::from_le_bytes(first_eight(&chunk.payload));
            (frame(len) + payload, mix(mix(print, rest), content))
        }
        Message::Hello(_)
        | Message::Sub(_)
        | Message::SubAck(_)
        | Message::NotFound(_)
        | Message::NoRoute(_)
        | Message::Redirect(_)
        | Message::Cancel(_)
        | Message::Finish(_)
        | Message::Nack(_)
        | Message::Gap(_)
        | Message::GetMasterPlaylist(_)
        | Message::MasterPlaylistData(_)
        | Message::NodeStatusReq(_)
        | Message::NodeStatusData(_)
        | Message::TranscodeSub(_)
        | Message::TranscodeResponse(_)
        | Message::JobProbe(_)
        | Message::JobProbeReply(_)
        | Message::GetReceipts(_)
        | Message::Receipts(_) => {
            let head = encode(message).ok()?.head;
            let print = head.chunks(8).fold(1, |print, word| {
                mix(print, u64::from_le_bytes(first_eight(word)))
            });
            (head.len(), print)
        }
    })
}

/// Bytes on a link of one part or init, header and chunks, under a request id of two bytes.
#[must_use]
pub fn media_bytes(header: &Signed<PartHeader>, chunks: &[Bytes]) -> u64 {
    let request = RequestId(1 << 13);
    let slot = header.value().slot;
    let part = Message::Part(Part {
        request,
        header: header.clone(),
    });
    let chunks = (0..=u16::MAX).zip(chunks).map(|(index, payload)| {
        Message::Chunk(Chunk {
            request,
            slot,
            index,
            payload: payload.clone(),
        })
    });
    let messages = std::iter::once(part).chain(chunks);
    let sizes = messages.filter_map(|message| measure(&message));
    sizes.map(|(size, _)| size as u64).sum()
}

/// Whether it carries media rather than talk about it.
#[must_use]
pub const fn is_media(message: &Message) -> bool {
    matches!(message, Message::Part(_) | Message::Chunk(_))
}

/// A message for people: its kind and what tells it from others, without payload.
#[must_use]
pub fn brief(message: &Message) -> String {
    match message {
        Message::Part(part) => {
            format!("Part {} {:?}", part.request.0, part.header.value().slot)
        }
        Message::Chunk(chunk) => {
            let Chunk {
                request,
                slot,
                index,
                ..
            } = chunk;
            format!("Chunk {} {slot:?} {index}", request.0)
        }
        Message::Finish(finish) => format!("Finish {}", finish.request.0),
        Message::MasterPlaylistData(data) => format!("MasterPlaylistData {}", data.request.0),
        Message::NodeStatusData(data) => format!("NodeStatusData {}", data.request.0),
        Message::TranscodeResponse(m) => format!("TranscodeResponse {}", m.request.0),
        Message::GetReceipts(m) => format!("GetReceipts {}", m.request.0),
        Message::Receipts(m) => format!("Receipts {}", m.request.0),
        Message::TranscodeSub(sub) => format!("TranscodeSub {}", sub.request.0),
        Message::Hello(_)
        | Message::Ping(_)
        | Message::Pong(_)
        | Message::Sub(_)
        | Message::SubAck(_)
        | Message::NotFound(_)
        | Message::NoRoute(_)
        | Message::Redirect(_)
        | Message::Cancel(_)
        | Message::Nack(_)
        | Message::Gap(_)
        | Message::GetMasterPlaylist(_)
        | Message::NodeStatusReq(_)
        | Message::JobProbe(_)
        | Message::JobProbeReply(_) => format!("{message:?}"),
    }
}

/// Adds a word to a fingerprint. No cryptography: it finds differences, not forgers.
#[must_use]
pub const fn mix(print: u64, word: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (print.rotate_left(23) ^ word).wrapping_mul(ODD);
    mixed ^ (mixed >> 29)
}

fn frame(body: usize) -> usize {
    let envelope = TAG + varint(body as u64) + body;
    varint(envelope as u64) + envelope
}

fn nested(body: usize) -> usize {
    TAG + varint(body as u64) + body
}

/// A number's field; zero is left out.
const fn field(value: u64) -> usize {
    if value == 0 { 0 } else { TAG + varint(value) }
}

const fn varint(value: u64) -> usize {
    let bits = (u64::BITS - (value | 1).leading_zeros()) as usize;
    bits.div_ceil(7)
}

fn slot_len(slot: Slot) -> usize {
    match slot {
        // A variant that is set is written even when it is zero.
        Slot::Init(index) => TAG + varint(u64::from(index)),
        Slot::Part(at) => nested(field(at.segment) + field(u64::from(at.part))),
    }
}

const fn slot_print(slot: Slot) -> u64 {
    match slot {
        Slot::Init(index) => mix(u64::MAX, index as u64),
        Slot::Part(at) => mix(at.segment, at.part as u64),
    }
}

fn first_eight(bytes: &[u8]) -> [u8; 8] {
    let mut word = [0; 8];
    let len = bytes.len().min(8);
    word[..len].copy_from_slice(&bytes[..len]);
    word
}

#[cfg(test)]
mod tests {
    use headwater_proto::{MediaInfo, Ping, Position};

    use super::*;
    use crate::media::tests::stream;

    fn samples() -> Vec<Message> {
        let (key, stream) = stream(7);
        let mut all = Vec::new();
        for number in [0, 1, 127, 128, 70_000, u64::MAX >> 1] {
            let request = RequestId(number);
            let position = Position {
                segment: number >> 16,
                part: u32::try_from(number % 200).unwrap(),
            };
            all.push(Message::Ping(Ping { nonce: number }));
            all.push(Message::Pong(Ping { nonce: number }));
            for slot in [Slot::Init(0), Slot::Init(300), Slot::Part(position)] {
                let payload = Bytes::from(vec![1; 1 + usize::try_from(number % 16_000).unwrap()]);
                let media = matches!(slot, Slot::Part(_)).then_some(MediaInfo {
                    init: 0,
                    start: number >> 20,
                    duration: 90,
                    program_date_time_ms: 5,
                    discontinuity: 0,
                    independent: true,
                    last: false,
                });
                let (header, _) =
                    PartHeader::for_payload(stream.clone(), slot, media, &payload).unwrap();
                let header = Signed::sign(header, &key);
                all.push(Message::Part(Part { request, header }));
                all.push(Message::Chunk(Chunk {
                    request,
                    slot,
                    index: u16::try_from(number % 200).unwrap(),
                    payload,
                }));
            }
        }
        all
    }

    #[test]
    fn computed_lengths_are_those_of_the_codec() {
        for message in samples() {
            let encoded = encode(&message).unwrap();
            assert_eq!(measure(&message).unwrap().0, encoded.len(), "{message:?}");
        }
    }

    #[test]
    fn different_messages_have_different_fingerprints() {
        let samples = samples();
        let mut seen: Vec<_> = samples.iter().map(|m| measure(m).unwrap().1).collect();
        seen.sort_unstable();
        seen.dedup();

        assert_eq!(seen.len(), samples.len());
    }
}
