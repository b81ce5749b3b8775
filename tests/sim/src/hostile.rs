//! Nodes that do not keep to the protocol: an honest core whose messages are tampered
//! with on their way out, and mischief of its own from time to time.

use std::collections::VecDeque;

use bytes::Bytes;
use headwater_proto::{
    Cancel, Chunk, Finish, Message, NodeId, NodeStatusReq, Part, PartHeader, Ping, RequestId,
    Signed, SigningKey, Slot, StreamEnd, StreamId, Sub, SubAck, SubState, limits::MAX_HOPS,
};

use crate::{dice::Dice, scenario::Hostility, wire::mix};

/// Messages that a replayer remembers.
const REMEMBERED: usize = 64;
/// Requests that a flooder sends to one neighbour each time.
const FLOOD: usize = 16;
/// Media that is sent late is this late, in milliseconds.
const LATE_MS: u64 = 2_000;
/// Time between two turns of mischief, in milliseconds.
pub const TURN_MS: u64 = 100;

/// See the module.
#[derive(Debug)]
pub struct Hostile {
    /// What it does.
    pub way: Hostility,
    dice: Dice,
    remembered: VecDeque<Message>,
    stream: Option<StreamId>,
    next_request: u64,
}

/// A message and how much later than now it is sent, in milliseconds.
pub type Tampered = (u64, Message);

impl Hostile {
    /// A hostile node that makes its choices by `dice`.
    #[must_use]
    pub const fn new(way: Hostility, dice: Dice) -> Self {
        Self {
            way,
            dice,
            remembered: VecDeque::new(),
            stream: None,
            // Far from what the core counts up.
            next_request: 1 << 40,
        }
    }

    /// What becomes of a message that its core sends.
    pub fn tamper(&mut self, key: &SigningKey, message: Message) -> Vec<Tampered> {
        if let Message::Part(part) = &message {
            self.stream = Some(part.header.value().stream.clone());
        }
        match self.way {
            Hostility::Drop if withheld(&message) => Vec::new(),
            Hostility::Delay if crate::wire::is_media(&message) => vec![(LATE_MS, message)],
            Hostility::Forge => vec![(0, self.forge(key, message))],
            Hostility::Replay => self.replay(message),
            Hostility::Lie => lie(message)
                .map(|message| (0, message))
                .into_iter()
                .collect(),
            Hostility::Drop | Hostility::Delay | Hostility::Flood => vec![(0, message)],
        }
    }

    /// What it sends to one neighbour of its own accord, every [`TURN_MS`].
    pub fn mischief(&mut self, key: &SigningKey) -> Vec<Message> {
        match self.way {
            Hostility::Flood => (0..FLOOD).map(|_| self.request()).collect(),
            Hostility::Forge => self.stream.clone().map_or(Vec::new(), |stream| {
                let end = StreamEnd { stream, last: None };
                let request = RequestId(1 + self.dice.below(64));
                let body = Signed::sign(end, key);
                vec![Message::Finish(Finish { request, body })]
            }),
            Hostility::Replay => {
                let index = self.dice.index(self.remembered.len());
                let old = self.remembered.get(index).cloned();
                let request = RequestId(1 + self.dice.below(64));
                old.into_iter()
                    .chain([Message::Cancel(Cancel { request })])
                    .collect()
            }
            Hostility::Drop | Hostility::Delay | Hostility::Lie => Vec::new(),
        }
    }

    fn request(&mut self) -> Message {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let node = NodeId::from_public_key(self.dice.seed());
        let hops_left = MAX_HOPS;
        match self.dice.below(3) {
            0 => Message::Ping(Ping { nonce: request.0 }),
            1 => Message::NodeStatusReq(NodeStatusReq {
                request,
                node,
                hops_left,
            }),
            _ => {
                let mut broadcast = [0; 16];
                broadcast.copy_from_slice(&self.dice.seed()[..16]);
                let manifest = headwater_proto::ManifestId {
                    node,
                    broadcast: headwater_proto::BroadcastId::from_bytes(broadcast),
                };
                Message::from(Sub {
                    request,
                    stream: manifest.source(),
                    from: None,
                    hops_left,
                })
            }
        }
    }

    fn forge(&mut self, key: &SigningKey, message: Message) -> Message {
        if !self.dice.percent(30) {
            return message;
        }
        if let Message::Part(Part { request, header }) = message {
            let old = header.value();
            let header = PartHeader {
                size: old.size.saturating_sub(1).max(1),
                ..old.clone()
            };
            let header = Signed::sign(header, key);
            Message::Part(Part { request, header })
        } else if let Message::Chunk(chunk) = message {
            Message::Chunk(Chunk {
                payload: Bytes::from(vec![0xff; chunk.payload.len()]),
                ..chunk
            })
        } else {
            message
        }
    }

    fn replay(&mut self, message: Message) -> Vec<Tampered> {
        let old = if self.dice.percent(10) && !self.remembered.is_empty() {
            let index = self.dice.index(self.remembered.len());
            Some((0, self.remembered[index].clone()))
        } else {
            None
        };
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(message.clone());
        old.into_iter().chain([(0, message)]).collect()
    }
}

/// A third of all parts are never sent, however often they are asked for.
fn withheld(message: &Message) -> bool {
    let slot = if let Message::Part(part) = message {
        part.header.value().slot
    } else if let Message::Chunk(chunk) = message {
        chunk.slot
    } else {
        return false;
    };
    match slot {
        Slot::Init(_) => false,
        Slot::Part(at) => mix(at.segment, u64::from(at.part)).is_multiple_of(3),
    }
}

/// Says yes to everybody and sends nothing.
fn lie(message: Message) -> Option<Message> {
    let request = if crate::wire::is_media(&message) {
        return None;
    } else if let Message::SubAck(ack) = &message {
        ack.request
    } else if let Message::NoRoute(answer) = &message {
        answer.request
    } else if let Message::NotFound(answer) = &message {
        answer.request
    } else {
        return Some(message);
    };
    Some(Message::SubAck(SubAck {
        request,
        state: SubState::Live(None),
        load: 0,
        path: Vec::new(),
    }))
}
