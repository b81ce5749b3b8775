//! Inputs to begin with, made by the code of today so that they fit it.

use bytes::Bytes;
use headwater_proto::{
    Chunk, Finish, MasterPlaylist, MasterPlaylistData, Message, NodeStatus, NodeStatusData, Part,
    Position, RequestId, Roles, Signed, Slot, StreamEnd, SubAck, SubState, encode,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::{
    core, link,
    material::{self, PARTS, key, made},
};

/// The wire's golden vectors, one a line: name, then hex.
const VECTORS: &str = include_str!("../../../proto/tests/vectors.txt");
/// Random scripts for the core.
const SCRIPTS: u64 = 12;
/// Bytes of one of them.
const SCRIPT_BYTES: usize = 1200;

/// An input.
#[derive(Debug, Clone)]
pub struct Seed {
    /// Which target it is for.
    pub target: &'static str,
    /// What is in it; a file name.
    pub name: String,
    /// The bytes.
    pub data: Vec<u8>,
}

fn seed(target: &'static str, name: impl Into<String>, data: impl Into<Vec<u8>>) -> Seed {
    Seed {
        target,
        name: name.into(),
        data: data.into(),
    }
}

/// Inputs for every target.
///
/// # Panics
/// When the golden vectors are not hex: they are part of the repository.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut all = Vec::new();
    for line in VECTORS.lines() {
        let (name, hex) = line.split_once(' ').expect("a name and hex");
        let frame = data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex");
        all.push(seed("decode", name, frame));
    }
    all.extend(link_seeds());
    for number in 0..SCRIPTS {
        let mut script = vec![0; SCRIPT_BYTES];
        ChaCha8Rng::seed_from_u64(number).fill_bytes(&mut script);
        // The first byte is the roles.
        script[0] = number.to_le_bytes()[0];
        let recorded = core::recorded(&script);
        all.push(seed("trace", format!("script-{number}"), recorded));
        all.push(seed("core", format!("script-{number}"), script));
    }
    all.extend(text_seeds());
    all
}

/// What a correct parent sends, in full and in part.
fn link_seeds() -> Vec<Seed> {
    let bed = link::viewer();
    let sub = bed.asked.iter().find(|asked| asked.stream.is_some());
    let stream = sub.map_or(RequestId(0), |asked| asked.request);
    let others: Vec<_> = (bed.asked.iter())
        .filter(|asked| asked.stream.is_none())
        .map(|asked| asked.request)
        .collect();
    let bytes = |messages: &[Message]| {
        let frames = messages.iter().filter_map(|message| encode(message).ok());
        let frames: Vec<_> = frames.map(|frame| material::whole(&frame)).collect();
        frames.concat()
    };
    let (short, full) = (play(stream, 1, false), play(stream, 2, true));
    let mut answers = Vec::new();
    for request in others {
        answers.extend(answer(request));
    }
    vec![
        seed("link", "segment", bytes(&short)),
        seed("link", "to-the-end", bytes(&full)),
        seed("link", "answers", bytes(&answers)),
    ]
}

/// So many segments of the stream that is wanted.
fn play(request: RequestId, segments: u64, ends: bool) -> Vec<Message> {
    let (stream, ..) = link::wanted();
    let ack = SubAck {
        request,
        state: SubState::Live(Some(Position {
            segment: 0,
            part: 0,
        })),
        load: 1,
        path: vec![7, 8],
    };
    let mut messages = vec![Message::SubAck(ack)];
    let parts = (0..segments)
        .flat_map(|segment| (0..PARTS).map(move |part| Slot::Part(Position { segment, part })));
    for slot in std::iter::once(Slot::Init(0)).chain(parts) {
        let (header, chunks) = made(link::OWNER, &stream, slot, 0);
        messages.push(Message::Part(Part { request, header }));
        let chunks = (0..).zip(chunks).map(|(index, payload)| {
            Message::Chunk(Chunk {
                request,
                slot,
                index,
                payload,
            })
        });
        messages.extend(chunks);
    }
    if ends {
        let last = Some(Position {
            segment: segments - 1,
            part: PARTS - 1,
        });
        let body = Signed::sign(StreamEnd { stream, last }, &key(link::OWNER));
        messages.push(Message::Finish(Finish { request, body }));
    }
    messages
}

/// Both answers to a request of which only the id is known.
fn answer(request: RequestId) -> [Message; 2] {
    let (_, manifest, node) = link::wanted();
    let master = MasterPlaylist {
        manifest,
        version: 1,
        ended: false,
        renditions: Vec::new(),
    };
    let status = NodeStatus {
        node,
        time_ms: 1,
        agent: "seed".into(),
        roles: Roles::default(),
        uptime_s: 1,
        peers: 1,
        load: 1,
        streams: Vec::new(),
    };
    let key = key(link::OWNER);
    [
        Message::MasterPlaylistData(MasterPlaylistData {
            request,
            body: Signed::sign(master, &key),
        }),
        Message::NodeStatusData(NodeStatusData {
            request,
            body: Signed::sign(status, &key),
        }),
    ]
}

fn text_seeds() -> Vec<Seed> {
    let (stream, manifest, node) = link::wanted();
    let master = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-STREAM-INF:BANDWIDTH=900000,AVERAGE-BANDWIDTH=800000,CODECS=\"avc1.64001f\",\
        RESOLUTION=640x480,FRAME-RATE=30,NAME=\"480p\"\na.m3u8\n";
    vec![
        seed("text", "stream", stream.to_string()),
        seed("text", "manifest", manifest.to_string()),
        seed("text", "node", node.to_string()),
        seed(
            "text",
            "peer-id",
            Bytes::copy_from_slice(&node.to_peer_id_bytes()),
        ),
        seed("text", "name", "480p_low-latency"),
        seed("text", "address", material::address().to_string()),
        seed("text", "master", master),
    ]
}
