//! One broadcaster without a world: a test gives it each input and sees what it wants.

use std::time::Duration;

use bytes::Bytes;
use headwater_proto::{
    AddressText, Checked, JobId, ManifestId, MediaInfo, Message, NodeId, PartHeader, Ping,
    Position, RequestId, Roles, Signed, SigningKey, Slot, StreamEnd, StreamId, TranscodeClaim,
    TranscodeSub, limits::MAX_HOPS,
};

use super::world::{key, relayer};
use crate::{
    Answer, AskId, Command, CommandId, Config, DialId, Input, Link, Node, Output, Question, Time,
};

/// A claim, by what makes it another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// Number of the transcoder's node.
    pub(super) transcoder: u8,
    pub(super) job: u64,
    /// Number of the stream.
    pub(super) stream: u8,
    pub(super) sequence: u64,
    /// Where it may be dialled.
    pub(super) address: u8,
    /// Its signature is not the transcoder's.
    pub(super) forged: bool,
}

/// See the module.
pub(super) struct Desk {
    pub(super) node: Node,
    pub(super) now: Time,
    key: SigningKey,
    /// Segments that were appended to each stream.
    pub(super) next: [u64; 2],
    requests: u64,
    commands: u64,
}

pub(super) fn id(number: u8) -> NodeId {
    key(number).node_id()
}

/// The number of a node.
pub(super) fn number(node: &NodeId) -> u8 {
    (0..16).find(|number| id(*number) == *node).unwrap()
}

pub(super) fn address(number: u8) -> AddressText {
    AddressText::new(&format!("/ip4/192.0.2.{number}/tcp/4935")).unwrap()
}

impl Desk {
    /// A broadcaster without links and streams.
    pub(super) fn new(config: Config) -> Self {
        let key = key(0);
        let now = Time::from_millis(1_000_000);
        Self {
            node: Node::new(key.node_id(), config, [9; 32], now),
            now,
            key,
            next: [0; 2],
            requests: 0,
            commands: 0,
        }
    }

    /// Gives an input and returns all that the node wants. Pings are answered at once.
    pub(super) fn give(&mut self, input: Input) -> Vec<Output> {
        self.node.handle(self.now, input);
        let mut outputs = Vec::new();
        let mut pings = Vec::new();
        while let Some(output) = self.node.poll_output() {
            if let Output::Send {
                to,
                message: Message::Ping(ping),
                ..
            } = &output
            {
                pings.push((*to, *ping));
            }
            outputs.push(output);
        }
        for (from, ping) in pings {
            let nonce = ping.nonce;
            outputs.extend(self.hear(from, Message::Pong(Ping { nonce })));
        }
        outputs
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, millis: u64) -> Vec<Output> {
        let until = self.now + Duration::from_millis(millis);
        let mut outputs = Vec::new();
        while let Some(next) = self.node.poll_timeout().filter(|next| next.at <= until) {
            self.now = next.at;
            outputs.extend(self.give(Input::Timeout));
        }
        self.now = until;
        outputs
    }

    pub(super) fn command(&mut self, command: Command) -> Vec<Output> {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.give(Input::Command { id, command })
    }

    /// A neighbour is linked: 1 and 2 are relayers.
    pub(super) fn connect(&mut self, peer: u8, dial: Option<DialId>) -> Vec<Output> {
        let roles = if peer <= 2 {
            relayer()
        } else {
            Roles::default()
        };
        let link = Link {
            roles,
            credit: 1 << 40,
            dial,
        };
        let peer = id(peer);
        self.give(Input::Connected { peer, link })
    }

    pub(super) fn disconnect(&mut self, peer: u8) -> Vec<Output> {
        let peer = id(peer);
        self.give(Input::Disconnected { peer })
    }

    fn hear(&mut self, from: NodeId, message: Message) -> Vec<Output> {
        let message = Checked::assume(message);
        self.give(Input::Received { from, message })
    }

    pub(super) fn arrive(&mut self, from: u8, message: Message) -> Vec<Output> {
        self.hear(id(from), message)
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// A claim comes from a neighbour, as a subscription or not.
    pub(super) fn claim(
        &mut self,
        from: u8,
        claim: Claim,
        branch: bool,
    ) -> (RequestId, Vec<Output>) {
        let request = self.request();
        let message = Message::TranscodeSub(Box::new(TranscodeSub {
            request,
            branch,
            from: None,
            hops_left: MAX_HOPS,
            claim: self.signed(claim),
            signature: [u8::from(claim.forged); 65],
        }));
        (request, self.arrive(from, message))
    }

    fn signed(&self, claim: Claim) -> TranscodeClaim {
        TranscodeClaim {
            stream: self.stream(claim.stream),
            job: JobId(claim.job),
            transcoder: id(claim.transcoder),
            addresses: vec![address(claim.address)],
            sealed: None,
            sequence: claim.sequence,
            expires_ms: 1,
        }
    }

    /// The claim of a question.
    pub(super) fn asked(question: &Question) -> Option<Claim> {
        let Question::CheckClaim { claim, signature } = question else {
            return None;
        };
        let broadcast = claim.stream.broadcast.as_bytes()[0];
        let address = (0..8).find(|number| claim.addresses == [address(*number)]);
        Some(Claim {
            transcoder: number(&claim.transcoder),
            job: claim.job.0,
            stream: broadcast,
            sequence: claim.sequence,
            address: address.unwrap(),
            forged: signature[0] == 1,
        })
    }

    /// Answers a check.
    pub(super) fn answer(&mut self, ask: AskId, addresses: Option<u8>) -> Vec<Output> {
        let granted = addresses.map(|number| Answer::ClaimGranted {
            addresses: vec![address(number)],
        });
        let answer = granted.unwrap_or(Answer::ClaimRefused);
        self.give(Input::Answer { ask, answer })
    }

    pub(super) fn revoke(&mut self, transcoder: u8, job: u64) -> Vec<Output> {
        let (transcoder, job) = (id(transcoder), JobId(job));
        self.command(Command::RevokeClaim { transcoder, job })
    }

    // ---- streams -------------------------------------------------------------------

    pub(super) fn stream(&self, number: u8) -> StreamId {
        let manifest = ManifestId {
            node: self.key.node_id(),
            broadcast: headwater_proto::BroadcastId::from_bytes([number; 16]),
        };
        manifest.source()
    }

    pub(super) fn publish(&mut self, number: u8) -> Vec<Output> {
        let stream = self.stream(number);
        let mut outputs = self.command(Command::Publish { stream });
        outputs.extend(self.put(number, Slot::Init(0), None));
        outputs
    }

    /// Appends a segment of one part.
    pub(super) fn append(&mut self, number: u8) -> Vec<Output> {
        let segment = self.next[usize::from(number)];
        self.next[usize::from(number)] += 1;
        let media = MediaInfo {
            init: 0,
            start: segment * 90_000,
            duration: 90_000,
            program_date_time_ms: 0,
            discontinuity: 0,
            independent: true,
            last: true,
        };
        self.put(
            number,
            Slot::Part(Position { segment, part: 0 }),
            Some(media),
        )
    }

    fn put(&mut self, number: u8, slot: Slot, media: Option<MediaInfo>) -> Vec<Output> {
        let payload = Bytes::from_static(&[5; 100]);
        let stream = self.stream(number);
        let (header, chunks) = PartHeader::for_payload(stream, slot, media, &payload).unwrap();
        let header = Signed::sign(header, &self.key);
        self.command(Command::Append { header, chunks })
    }

    pub(super) fn finish(&mut self, number: u8) -> Vec<Output> {
        let last = self.next[usize::from(number)].checked_sub(1);
        let end = StreamEnd {
            stream: self.stream(number),
            last: last.map(|segment| Position { segment, part: 0 }),
        };
        let body = Signed::sign(end, &self.key);
        self.command(Command::Finish { body })
    }
}
