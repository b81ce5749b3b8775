//! Inputs, as [`crate::record::input`] writes them.

use bytes::Bytes;
use headwater_proto::{
    AddressText, BroadcastId, Checked, Finish, JobId, ManifestId, MasterPlaylist, Message, NodeId,
    Part, Position, RenditionName, StreamId, TranscodeClaim, decode,
};

use super::{
    bytes::{Damaged, Get},
    config::get_roles,
};
use crate::{Answer, AskId, Command, CommandId, DialId, Input, Link, record::input::VIOLATIONS};

pub(super) fn input(from: &mut Bytes) -> Result<Input, Damaged> {
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
        14 => {
            let Message::GetReceipts(get) = get_message(from)? else {
                return Err(Damaged);
            };
            Command::GetReceipts { body: get.body }
        }
        15 => Command::Unpublish {
            stream: get_stream(from)?,
        },
        _ => return Err(Damaged),
    })
}

fn get_answer(from: &mut Bytes) -> Result<Answer, Damaged> {
    Ok(match from.get_byte()? {
        0 => Answer::Claim(if from.get_flag()? {
            Some(Box::new(get_claim(from)?))
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
        7 if from.get_flag()? => {
            let Message::Receipts(receipts) = get_message(from)? else {
                return Err(Damaged);
            };
            Answer::Receipts(Some(receipts.body))
        }
        7 => Answer::Receipts(None),
        _ => return Err(Damaged),
    })
}

fn get_message(from: &mut Bytes) -> Result<Message, Damaged> {
    decode(from.get_blob()?).map_err(|_| Damaged)
}

fn get_master(from: &mut Bytes) -> Result<headwater_proto::Signed<MasterPlaylist>, Damaged> {
    let Message::MasterPlaylistData(data) = get_message(from)? else {
        return Err(Damaged);
    };
    Ok(data.body)
}

fn get_claim(from: &mut Bytes) -> Result<(TranscodeClaim, [u8; 65]), Damaged> {
    let Message::TranscodeSub(sub) = get_message(from)? else {
        return Err(Damaged);
    };
    Ok((sub.claim, sub.signature))
}

fn get_stream(from: &mut Bytes) -> Result<StreamId, Damaged> {
    Ok(StreamId {
        node: get_node(from)?,
        broadcast: BroadcastId::from_bytes(from.get_array()?),
        rendition: get_name(from)?,
    })
}

fn get_manifest(from: &mut Bytes) -> Result<ManifestId, Damaged> {
    Ok(ManifestId {
        node: get_node(from)?,
        broadcast: BroadcastId::from_bytes(from.get_array()?),
    })
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
