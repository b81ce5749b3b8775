//! Bytes as what one neighbour sends over its link, read as the node's reader does.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes};
use headwater_proto::{
    Checked, DecodeError, Header, LengthPrefix, LinkVerifier, ManifestId, Message, NodeId,
    RequestId, Roles, Slot, StreamId, Violation, decode_header,
};
use headwater_protocol::{Command, Input};

use crate::{
    bed::{Bed, config},
    material,
};

/// The broadcaster; no neighbour.
pub(crate) const OWNER: u8 = 3;
/// The neighbour that sends the bytes.
const ENEMY: u8 = 1;
/// Time between two frames, in milliseconds.
const PACE: u64 = 7;

/// The bytes as frames from the only relay of a viewer.
///
/// # Panics
/// When something passes the link's verifier that its author has not signed, or that no
/// header announced, and when the node does what no correct node does.
pub fn link(data: &[u8]) {
    let mut bed = viewer();
    let enemy = material::id(ENEMY);
    let mut verifier = LinkVerifier::default();
    let mut announced = BTreeMap::new();
    let mut rest = Bytes::copy_from_slice(data);
    while !rest.is_empty() && bed.is_linked(&enemy) {
        bed.pass(bed.now + std::time::Duration::from_millis(PACE));
        match next(&mut rest) {
            Ok(Some(message)) => {
                if let Ok(checked) = verifier.check(message.clone()) {
                    assert_authentic(&mut announced, &checked);
                }
                bed.receive(enemy, message);
            }
            Ok(None) => {}
            Err(_) => {
                // The reader tells it and ends.
                let (from, violation) = (enemy, Violation::Malformed);
                if bed.is_linked(&from) {
                    bed.give(Input::Violation { from, violation });
                }
                bed.disconnect(enemy);
            }
        }
    }
}

/// What the viewer wants: a stream, its broadcast's playlist and the owner's status.
pub(crate) fn wanted() -> (StreamId, ManifestId, NodeId) {
    let manifest = material::manifest(OWNER, 0);
    (manifest.source(), manifest, manifest.node)
}

/// A node that is linked to the enemy and to a harmless neighbour, and has asked for all
/// that it wants.
pub(crate) fn viewer() -> Bed {
    let mut bed = Bed::new(config(Roles::default()), None);
    let relayer = Roles {
        relayer: true,
        ..Roles::default()
    };
    bed.connect(material::id(ENEMY), relayer, None);
    let (stream, manifest, node) = wanted();
    bed.command(Command::Subscribe { stream, from: None });
    bed.command(Command::FollowMaster { manifest });
    bed.command(Command::RequestStatus { node });
    bed.connect(material::id(2), Roles::default(), None);
    bed
}

/// The next message; `None` for one of a later version.
fn next(from: &mut Bytes) -> Result<Option<Message>, DecodeError> {
    let mut prefix = LengthPrefix::default();
    let len = loop {
        if from.is_empty() {
            return Err(DecodeError::FrameLength);
        }
        if let Some(len) = prefix.push(from.get_u8())? {
            break len;
        }
    };
    match decode_header(take(from, len)?)? {
        Header::Unknown => Ok(None),
        Header::Message(message) => Ok(Some(*message)),
        Header::Chunk(chunk) => {
            let payload = take(from, chunk.payload_len())?;
            chunk.finish(payload).map(Some)
        }
    }
}

fn take(from: &mut Bytes, len: usize) -> Result<Bytes, DecodeError> {
    if from.len() < len {
        return Err(DecodeError::FrameLength);
    }
    Ok(from.split_to(len))
}

/// The hashes of the headers that passed, by request and place.
type Announced = BTreeMap<(RequestId, Slot), Vec<[u8; 32]>>;

fn assert_authentic(announced: &mut Announced, checked: &Checked<Message>) {
    match &**checked {
        Message::Part(part) => {
            assert!(part.header.verify().is_ok(), "{part:?}");
            let header = part.header.value();
            let name = (part.request, header.slot);
            announced.insert(name, header.hashes.clone());
        }
        Message::Chunk(chunk) => {
            let hashes = announced.get(&(chunk.request, chunk.slot));
            let hashes = hashes.expect("its header came before");
            let hash = hashes.get(usize::from(chunk.index));
            assert_eq!(hash, Some(blake3::hash(&chunk.payload).as_bytes()));
        }
        Message::Finish(finish) => assert!(finish.body.verify().is_ok()),
        Message::MasterPlaylistData(data) => assert!(data.body.verify().is_ok()),
        Message::NodeStatusData(data) => assert!(data.body.verify().is_ok()),
        Message::TranscodeResponse(response) => assert!(response.body.verify().is_ok()),
        Message::GetReceipts(get) => assert!(get.body.verify().is_ok()),
        Message::Receipts(list) => assert!(list.body.verify().is_ok()),
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
        | Message::TranscodeSub(_)
        | Message::JobProbe(_)
        | Message::JobProbeReply(_) => {}
    }
}
