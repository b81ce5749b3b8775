//! Inputs. What is signed, and claims, travel inside the message that carries them on
//! the wire, so that the wire's codec is the only one.

use headwater_proto::{
    AddressText, Finish, GetReceipts, ManifestId, MasterPlaylist, MasterPlaylistData, Message,
    NodeStatusData, Part, Position, Receipts, RequestId, StreamId, TranscodeClaim,
    TranscodeResponse, TranscodeSub, Violation, encode,
};

use super::{bytes::Put, config::put_roles};
use crate::{Answer, Command, Input};

/// Carries a statement whose request does not matter.
const REQUEST: RequestId = RequestId(0);

pub(super) fn put(out: &mut Vec<u8>, input: &Input) {
    match input {
        Input::Command { id, command } => {
            out.u8(0);
            out.u64(id.0);
            put_command(out, command);
        }
        Input::Connected { peer, link } => {
            out.u8(1);
            out.bytes(peer.public_key());
            put_roles(out, link.roles);
            out.u64(link.credit as u64);
            out.flag(link.dial.is_some());
            out.u64(link.dial.map_or(0, |dial| dial.0));
        }
        Input::Disconnected { peer } => {
            out.u8(2);
            out.bytes(peer.public_key());
        }
        Input::DialFailed { dial } => {
            out.u8(3);
            out.u64(dial.0);
        }
        Input::Received { from, message } => {
            out.u8(4);
            out.bytes(from.public_key());
            put_message(out, message);
        }
        Input::Violation { from, violation } => {
            out.u8(5);
            out.bytes(from.public_key());
            let number = VIOLATIONS.iter().position(|v| v == violation);
            out.u8(u8::try_from(number.unwrap_or(0)).unwrap_or(0));
        }
        Input::Writable { peer, credit } => {
            out.u8(6);
            out.bytes(peer.public_key());
            out.u64(*credit as u64);
        }
        Input::Answer { ask, answer } => {
            out.u8(7);
            out.u64(ask.0);
            put_answer(out, answer);
        }
        Input::Timeout => out.u8(8),
        Input::Addresses { peer, addresses } => {
            out.u8(9);
            out.bytes(peer.public_key());
            put_addresses(out, addresses);
        }
    }
}

/// Only grows at the end.
pub(super) const VIOLATIONS: [Violation; 6] = [
    Violation::Malformed,
    Violation::BadSignature,
    Violation::Equivocation,
    Violation::UnannouncedChunk,
    Violation::BadChunk,
    Violation::TooManyStreams,
];

fn put_command(out: &mut Vec<u8>, command: &Command) {
    match command {
        Command::Publish { stream } => {
            out.u8(0);
            put_stream(out, stream);
        }
        Command::Append { header, chunks } => {
            out.u8(1);
            let header = header.clone();
            let request = REQUEST;
            put_message(out, &Message::Part(Part { request, header }));
            out.u64(chunks.len() as u64);
            for chunk in chunks {
                out.blob(chunk);
            }
        }
        Command::Finish { body } => {
            out.u8(2);
            let body = body.clone();
            let request = REQUEST;
            put_message(out, &Message::Finish(Finish { request, body }));
        }
        Command::SetMaster { body } => {
            out.u8(3);
            put_master(out, body);
        }
        Command::Subscribe { stream, from } => {
            out.u8(4);
            put_stream(out, stream);
            put_position(out, *from);
        }
        Command::Unsubscribe { stream } => {
            out.u8(5);
            put_stream(out, stream);
        }
        Command::FollowMaster { manifest } => {
            out.u8(6);
            put_manifest(out, manifest);
        }
        Command::UnfollowMaster { manifest } => {
            out.u8(7);
            put_manifest(out, manifest);
        }
        Command::RequestStatus { node } => {
            out.u8(8);
            out.bytes(node.public_key());
        }
        Command::Probe {
            transcoder,
            stream,
            renditions,
        } => {
            out.u8(9);
            out.bytes(transcoder.public_key());
            put_stream(out, stream);
            out.u64(renditions.len() as u64);
            for name in renditions {
                out.blob(name.as_str().as_bytes());
            }
        }
        Command::StartJob { job, stream, from } => {
            out.u8(10);
            out.u64(job.0);
            put_stream(out, stream);
            put_position(out, *from);
        }
        Command::StopJob { job } => {
            out.u8(11);
            out.u64(job.0);
        }
        Command::Respond { body } => {
            out.u8(12);
            let response = TranscodeResponse {
                request: REQUEST,
                hops_left: 0,
                body: body.clone(),
            };
            put_message(out, &Message::TranscodeResponse(response));
        }
        Command::RevokeClaim { transcoder, job } => {
            out.u8(13);
            out.bytes(transcoder.public_key());
            out.u64(job.0);
        }
        Command::GetReceipts { body } => {
            out.u8(14);
            let get = GetReceipts {
                request: REQUEST,
                hops_left: 0,
                body: body.clone(),
            };
            put_message(out, &Message::GetReceipts(get));
        }
        Command::Unpublish { stream } => {
            out.u8(15);
            put_stream(out, stream);
        }
    }
}

fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Claim(claim) => {
            out.u8(0);
            out.flag(claim.is_some());
            if let Some((claim, signature)) = claim.as_deref() {
                put_claim(out, claim, signature);
            }
        }
        Answer::ClaimGranted { addresses } => {
            out.u8(1);
            put_addresses(out, addresses);
        }
        Answer::ClaimRefused => out.u8(2),
        Answer::Result { accepted } => {
            out.u8(3);
            out.flag(*accepted);
        }
        Answer::Status(body) => {
            out.u8(4);
            let body = body.clone();
            let request = REQUEST;
            put_message(
                out,
                &Message::NodeStatusData(NodeStatusData { request, body }),
            );
        }
        Answer::Probe { available } => {
            out.u8(5);
            out.flag(*available);
        }
        Answer::Lookup => out.u8(6),
        Answer::Receipts(list) => {
            out.u8(7);
            out.flag(list.is_some());
            if let Some(body) = list {
                let body = body.clone();
                let request = REQUEST;
                put_message(out, &Message::Receipts(Receipts { request, body }));
            }
        }
    }
}

// ---- values --------------------------------------------------------------------------

pub(super) fn put_message(out: &mut Vec<u8>, message: &Message) {
    // Only what a decoder has let through, or what a correct core has made, comes here;
    // what is neither is recorded as nothing, which no replay can read.
    let Ok(frame) = encode(message) else {
        return out.u32(0);
    };
    out.u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
    out.bytes(&frame.head);
    if let Some(payload) = &frame.payload {
        out.bytes(payload);
    }
}

pub(super) fn put_master(out: &mut Vec<u8>, body: &headwater_proto::Signed<MasterPlaylist>) {
    let body = body.clone();
    let request = REQUEST;
    put_message(
        out,
        &Message::MasterPlaylistData(MasterPlaylistData { request, body }),
    );
}

pub(super) fn put_claim(out: &mut Vec<u8>, claim: &TranscodeClaim, signature: &[u8; 65]) {
    let sub = TranscodeSub {
        request: REQUEST,
        branch: false,
        from: None,
        hops_left: 0,
        claim: claim.clone(),
        signature: *signature,
    };
    put_message(out, &Message::from(sub));
}

pub(super) fn put_stream(out: &mut Vec<u8>, stream: &StreamId) {
    out.bytes(stream.node.public_key());
    out.bytes(stream.broadcast.as_bytes());
    out.blob(stream.rendition.as_str().as_bytes());
}

pub(super) fn put_manifest(out: &mut Vec<u8>, manifest: &ManifestId) {
    out.bytes(manifest.node.public_key());
    out.bytes(manifest.broadcast.as_bytes());
}

pub(super) fn put_position(out: &mut Vec<u8>, position: Option<Position>) {
    out.flag(position.is_some());
    if let Some(at) = position {
        out.u64(at.segment);
        out.u32(at.part);
    }
}

fn put_addresses(out: &mut Vec<u8>, addresses: &[AddressText]) {
    out.u64(addresses.len() as u64);
    for address in addresses {
        out.blob(address.as_str().as_bytes());
    }
}
