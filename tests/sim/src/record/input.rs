//! Inputs. What is signed, and claims, travel inside the message that carries them on
//! the wire, so that the wire's codec is the only one.

use bytes::Bytes;
use headwater_proto::{
    AddressText, BroadcastId, Checked, Finish, JobId, ManifestId, MasterPlaylist,
    MasterPlaylistData, Message, NodeId, NodeStatusData, Part, Position, RenditionName, RequestId,
    StreamId, TranscodeClaim, TranscodeResponse, TranscodeSub, Violation, decode, encode,
};
use headwater_protocol::{Answer, AskId, Command, CommandId, DialId, Input, Link};

use super::{
    bytes::{Damaged, Get, Put},
    config::{get_roles, put_roles},
};

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

pub(super) fn get(from: &mut Bytes) -> Result<Input, Damaged> {
    Ok(match from.get_byte()? {
        0 => Input::Command {
            id: CommandId(from.get_long()?),
            command: get_command(from)?,
        },
        1 => Input::Connected {
            peer: get_node(from)?,
            link: Link {
                roles: get_roles(from)?,
                credit: from.get_size()?,
                dial: match (from.get_flag()?, from.get_long()?) {
                    (true, dial) => Some(DialId(dial)),
                    (false, _) => None,
                },
            },
        },
        2 => Input::Disconnected {
            peer: get_node(from)?,
        },
        3 => Input::DialFailed {
            dial: DialId(from.get_long()?),
        },
        4 => Input::Received {
            from: get_node(from)?,
            message: Checked::assume(get_message(from)?),
        },
        5 => Input::Violation {
            from: get_node(from)?,
            violation: *VIOLATIONS
                .get(usize::from(from.get_byte()?))
                .ok_or(Damaged)?,
        },
        6 => Input::Writable {
            peer: get_node(from)?,
            credit: from.get_size()?,
        },
        7 => Input::Answer {
            ask: AskId(from.get_long()?),
            answer: get_answer(from)?,
        },
        8 => Input::Timeout,
        9 => Input::Addresses {
            peer: get_node(from)?,
            addresses: get_list(from, get_address)?,
        },
        _ => return Err(Damaged),
    })
}

/// Only grows at the end.
const VIOLATIONS: [Violation; 6] = [
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
    }
}

fn get_command(from: &mut Bytes) -> Result<Command, Damaged> {
    Ok(match from.get_byte()? {
        0 => Command::Publish {
            stream: get_stream(from)?,
        },
        1 => {
            let Message::Part(Part { header, .. }) = get_message(from)? else {
                return Err(Damaged);
            };
            let chunks = get_list(from, Get::get_blob)?;
            Command::Append { header, chunks }
        }
        2 => {
            let Message::Finish(Finish { body, .. }) = get_message(from)? else {
                return Err(Damaged);
            };
            Command::Finish { body }
        }
        3 => Command::SetMaster {
            body: get_master(from)?,
        },
        4 => Command::Subscribe {
            stream: get_stream(from)?,
            from: get_position(from)?,
        },
        5 => Command::Unsubscribe {
            stream: get_stream(from)?,
        },
        6 => Command::FollowMaster {
            manifest: get_manifest(from)?,
        },
        7 => Command::UnfollowMaster {
            manifest: get_manifest(from)?,
        },
        8 => Command::RequestStatus {
            node: get_node(from)?,
        },
        9 => Command::Probe {
            transcoder: get_node(from)?,
            stream: get_stream(from)?,
            renditions: get_list(from, get_name)?,
        },
        10 => Command::StartJob {
            job: JobId(from.get_long()?),
            stream: get_stream(from)?,
            from: get_position(from)?,
        },
        11 => Command::StopJob {
            job: JobId(from.get_long()?),
        },
        12 => {
            let Message::TranscodeResponse(response) = get_message(from)? else {
                return Err(Damaged);
            };
            let body = response.body;
            Command::Respond { body }
        }
        13 => Command::RevokeClaim {
            transcoder: get_node(from)?,
            job: JobId(from.get_long()?),
        },
        _ => return Err(Damaged),
    })
}

fn put_answer(out: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::Claim(claim) => {
            out.u8(0);
            out.flag(claim.is_some());
            if let Some((claim, signature)) = claim {
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
    }
}

fn get_answer(from: &mut Bytes) -> Result<Answer, Damaged> {
    Ok(match from.get_byte()? {
        0 => Answer::Claim(if from.get_flag()? {
            Some(get_claim(from)?)
        } else {
            None
        }),
        1 => Answer::ClaimGranted {
            addresses: get_list(from, get_address)?,
        },
        2 => Answer::ClaimRefused,
        3 => Answer::Result {
            accepted: from.get_flag()?,
        },
        4 => {
            let Message::NodeStatusData(data) = get_message(from)? else {
                return Err(Damaged);
            };
            Answer::Status(data.body)
        }
        5 => Answer::Probe {
            available: from.get_flag()?,
        },
        6 => Answer::Lookup,
        _ => return Err(Damaged),
    })
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

fn get_message(from: &mut Bytes) -> Result<Message, Damaged> {
    decode(from.get_blob()?).map_err(|_| Damaged)
}

pub(super) fn put_master(out: &mut Vec<u8>, body: &headwater_proto::Signed<MasterPlaylist>) {
    let body = body.clone();
    let request = REQUEST;
    put_message(
        out,
        &Message::MasterPlaylistData(MasterPlaylistData { request, body }),
    );
}

fn get_master(from: &mut Bytes) -> Result<headwater_proto::Signed<MasterPlaylist>, Damaged> {
    let Message::MasterPlaylistData(data) = get_message(from)? else {
        return Err(Damaged);
    };
    Ok(data.body)
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
    put_message(out, &Message::TranscodeSub(sub));
}

fn get_claim(from: &mut Bytes) -> Result<(TranscodeClaim, [u8; 65]), Damaged> {
    let Message::TranscodeSub(sub) = get_message(from)? else {
        return Err(Damaged);
    };
    Ok((sub.claim, sub.signature))
}

pub(super) fn put_stream(out: &mut Vec<u8>, stream: &StreamId) {
    out.bytes(stream.node.public_key());
    out.bytes(stream.broadcast.as_bytes());
    out.blob(stream.rendition.as_str().as_bytes());
}

fn get_stream(from: &mut Bytes) -> Result<StreamId, Damaged> {
    Ok(StreamId {
        node: get_node(from)?,
        broadcast: BroadcastId::from_bytes(from.get_array()?),
        rendition: get_name(from)?,
    })
}

pub(super) fn put_manifest(out: &mut Vec<u8>, manifest: &ManifestId) {
    out.bytes(manifest.node.public_key());
    out.bytes(manifest.broadcast.as_bytes());
}

fn get_manifest(from: &mut Bytes) -> Result<ManifestId, Damaged> {
    Ok(ManifestId {
        node: get_node(from)?,
        broadcast: BroadcastId::from_bytes(from.get_array()?),
    })
}

pub(super) fn put_position(out: &mut Vec<u8>, position: Option<Position>) {
    out.flag(position.is_some());
    if let Some(at) = position {
        out.u64(at.segment);
        out.u32(at.part);
    }
}

fn get_position(from: &mut Bytes) -> Result<Option<Position>, Damaged> {
    if !from.get_flag()? {
        return Ok(None);
    }
    Ok(Some(Position {
        segment: from.get_long()?,
        part: from.get_word()?,
    }))
}

fn put_addresses(out: &mut Vec<u8>, addresses: &[AddressText]) {
    out.u64(addresses.len() as u64);
    for address in addresses {
        out.blob(address.as_str().as_bytes());
    }
}

fn get_address(from: &mut Bytes) -> Result<AddressText, Damaged> {
    AddressText::new(&get_text(from)?).map_err(|_| Damaged)
}

fn get_node(from: &mut Bytes) -> Result<NodeId, Damaged> {
    from.get_array().map(NodeId::from_public_key)
}

fn get_name(from: &mut Bytes) -> Result<RenditionName, Damaged> {
    get_text(from)?.parse().map_err(|_| Damaged)
}

fn get_text(from: &mut Bytes) -> Result<String, Damaged> {
    String::from_utf8(from.get_blob()?.into()).map_err(|_| Damaged)
}

fn get_list<T>(
    from: &mut Bytes,
    item: impl Fn(&mut Bytes) -> Result<T, Damaged>,
) -> Result<Vec<T>, Damaged> {
    let len = from.get_size()?;
    // Each item takes at least a byte, so a damaged length can't ask for much memory.
    if len > from.len() {
        return Err(Damaged);
    }
    (0..len).map(|_| item(from)).collect()
}
