//! Whatever happens to a node, in whatever order: it does not panic, keeps its bounds,
//! and does the same again.

use bytes::Bytes;
use headwater_proto::{
    AddressText, Cancel, Checked, Chunk, Finish, Gap, GetMasterPlaylist, GetReceipts, JobId,
    JobProbe, JobProbeReply, MasterPlaylistData, Message, Nack, NoRoute, NoRouteReason,
    NodeAddresses, NodeId, NodeStatusReq, NotFound, Part, Ping, Position, ReceiptList, Receipts,
    ReceiptsWanted, Redirect, RequestId, Roles, SegmentReceipt, Signed, Slot, StreamId, Sub,
    SubAck, SubState, TranscodeClaim, TranscodeSub,
};
use proptest::prelude::*;

use super::world::{World, key};
use crate::{Answer, AskId, Command, CommandId, Config, DialId, Input, Link, Node, Output, Time};

/// One step: what, three choices, and milliseconds until then.
type Step = (u8, u8, u8, u8, u16);

const PEERS: u8 = 4;
const CREDIT: usize = 60_000;

/// Turns steps into inputs, with few different ids so that they meet.
struct Script {
    /// Host 0 is the node itself; the others are its neighbours.
    world: World,
    commands: u64,
    /// Subscriptions the node has asked for.
    asked: Vec<(NodeId, RequestId, usize)>,
    /// Questions it has put.
    questions: Vec<AskId>,
}

impl Script {
    fn new() -> Self {
        let mut world = World::new(0, 0);
        for number in 1..=PEERS {
            world.add(key(number), Roles::default());
        }
        Self {
            world,
            commands: 0,
            asked: Vec::new(),
            questions: Vec::new(),
        }
    }

    /// Remembers a subscription, to answer it.
    fn notice(&mut self, to: NodeId, message: &Message) {
        let (request, stream) = match message {
            Message::Sub(sub) => (sub.request, &sub.stream),
            Message::TranscodeSub(sub) => (sub.request, &sub.claim.stream),
            _ => return,
        };
        if let Some(host) = self.world.find(stream.node) {
            self.asked.push((to, request, host));
        }
    }

    /// What a parent might say on one of the latest subscriptions.
    fn answer_to_sub(&mut self, a: u8, b: u8, c: u8) -> Input {
        let latest = self.asked.len().saturating_sub(3);
        let latest = &self.asked[latest..];
        let Some(&(from, request, host)) = latest.get(usize::from(c) % latest.len().max(1)) else {
            return Input::Timeout;
        };
        let stream = self.stream(host as u8);
        let (header, chunks) = self.part(host as u8, b);
        let index = usize::from(c / 8) % chunks.len();
        let message = match a % 13 {
            0 => Message::NotFound(NotFound { request }),
            12 => Message::Redirect(Redirect {
                request,
                nodes: self.nodes(b),
            }),
            1 | 2 => Message::SubAck(SubAck {
                request,
                state: if c.is_multiple_of(3) {
                    SubState::Pending
                } else {
                    SubState::Live(None)
                },
                load: b,
                path: vec![u64::from(b % 3); usize::from(b % 40)],
            }),
            3 => Message::Gap(Gap {
                request,
                from: Self::position(b),
                to: Self::position(c),
            }),
            4 if c.is_multiple_of(8) => Message::Finish(Finish {
                request,
                body: self.world.end(&stream, Some(u64::from(b % 12))),
            }),
            4..=8 => Message::Part(Part { request, header }),
            _ => Message::Chunk(Chunk {
                request,
                slot: header.value().slot,
                index: index as u16,
                payload: chunks[index].clone(),
            }),
        };
        Input::Received {
            from,
            message: Checked::assume(message),
        }
    }

    fn addresses(&self, choice: u8) -> Vec<AddressText> {
        let address = AddressText::new("/ip4/192.0.2.1/tcp/4935").unwrap();
        vec![address; usize::from(choice % 7)]
    }

    /// Nodes that a Redirect names: the node itself and strangers among them.
    fn nodes(&self, choice: u8) -> Vec<NodeAddresses> {
        (0..choice % 5)
            .map(|number| NodeAddresses {
                node: match (choice / 8 + number) % 9 {
                    0 => self.world.id(0),
                    stranger @ 5.. => key(200 + stranger).node_id(),
                    neighbour => self.peer(neighbour),
                },
                addresses: self.addresses(choice % 3),
            })
            .collect()
    }

    fn peer(&self, choice: u8) -> NodeId {
        self.world.id(usize::from(choice % PEERS) + 1)
    }

    fn stream(&self, choice: u8) -> StreamId {
        self.world.manifest(usize::from(choice % 3)).source()
    }

    fn position(choice: u8) -> Position {
        Position {
            segment: u64::from(choice / 4 % 12),
            part: u32::from(choice % 4),
        }
    }

    fn part(&self, a: u8, b: u8) -> (Signed<headwater_proto::PartHeader>, Vec<Bytes>) {
        let host = usize::from(a % 3);
        let stream = self.stream(a);
        if b.is_multiple_of(16) {
            self.world.init(host, &stream, u32::from(b / 16 % 2))
        } else {
            self.world.part(host, &stream, Self::position(b), 0)
        }
    }

    fn input(&mut self, (op, a, b, c, _): Step) -> Input {
        let peer = self.peer(a);
        match op % 8 {
            0 => Input::Connected {
                peer,
                link: Link {
                    roles: Roles {
                        relayer: b.is_multiple_of(2),
                        ..Roles::default()
                    },
                    credit: CREDIT,
                    dial: (b.is_multiple_of(5)).then_some(DialId(u64::from(c % 4))),
                },
            },
            1 if b.is_multiple_of(4) => Input::Disconnected { peer },
            1 if b.is_multiple_of(5) => Input::Addresses {
                peer,
                addresses: self.addresses(c),
            },
            1 => Input::Writable {
                peer,
                credit: usize::from(b) * 500,
            },
            2 => self.command(a, b, c),
            3 => Input::Answer {
                ask: self.question(b),
                answer: self.answer(c),
            },
            4 if b.is_multiple_of(8) => Input::DialFailed {
                dial: DialId(u64::from(c % 4)),
            },
            4 if b.is_multiple_of(2) => Input::Received {
                from: peer,
                message: Checked::assume(self.message(20 * 8, b, c)),
            },
            4 => Input::Timeout,
            5 => Input::Received {
                from: peer,
                message: Checked::assume(self.message(op, b, c)),
            },
            _ => self.answer_to_sub(a, b, c),
        }
    }

    /// What makes most steps meaningful: links, a stream made here, one from elsewhere.
    fn preamble(&mut self) -> Vec<Input> {
        let mut inputs: Vec<_> = (0..3).map(|peer| self.input((0, peer, 0, 0, 0))).collect();
        // Publish; append the init and the first part; subscribe to two others.
        let commands = [(0, 0, 0), (1, 0, 0), (1, 0, 4), (6, 1, 1), (6, 2, 1)];
        for (a, b, c) in commands {
            inputs.push(self.command(a, b, c));
        }
        inputs
    }

    /// One of the latest questions.
    fn question(&self, choice: u8) -> AskId {
        let mut latest = self.questions.iter().rev();
        let found = latest.nth(usize::from(choice % 3)).copied();
        found.unwrap_or(AskId(u64::from(choice)))
    }

    fn answer(&self, c: u8) -> Answer {
        let address = AddressText::new("/ip4/192.0.2.1/tcp/4935").unwrap();
        match c % 7 {
            0 => Answer::Claim(Some(Box::new((self.claim(c, c), [0; 65])))),
            1 => Answer::ClaimGranted {
                addresses: vec![address],
            },
            2 => Answer::ClaimRefused,
            3 => Answer::Result { accepted: true },
            4 => Answer::Lookup,
            5 => Answer::Receipts((c > 100).then(|| self.receipts(c, c))),
            _ => Answer::Probe { available: true },
        }
    }

    fn claim(&self, b: u8, c: u8) -> TranscodeClaim {
        TranscodeClaim {
            stream: self.stream(b),
            job: JobId(u64::from(c % 2)),
            transcoder: self.peer(c),
            addresses: Vec::new(),
            sealed: None,
            sequence: u64::from(c / 64),
            expires_ms: 0,
        }
    }

    fn wanted(&self, b: u8, c: u8) -> Signed<ReceiptsWanted> {
        let wanted = ReceiptsWanted {
            stream: self.stream(b),
            job: JobId(u64::from(c % 2)),
            transcoder: self.peer(c),
            from_segment: u64::from(c / 64),
        };
        Signed::sign(wanted, &key(b))
    }

    fn receipts(&self, b: u8, c: u8) -> Signed<ReceiptList> {
        let wanted = self.wanted(b, c).value().clone();
        let receipt = SegmentReceipt {
            segment: wanted.from_segment,
            source_hash: [0; 32],
            signature: [0; 65],
        };
        let list = ReceiptList {
            stream: wanted.stream,
            job: wanted.job,
            transcoder: wanted.transcoder,
            from_segment: wanted.from_segment,
            receipts: vec![receipt; usize::from(b % 2)],
        };
        Signed::sign(list, &key(b))
    }

    fn command(&mut self, a: u8, b: u8, c: u8) -> Input {
        let stream = self.stream(b);
        let from = (c.is_multiple_of(3)).then(|| Self::position(c));
        let job = JobId(u64::from(c % 3));
        let manifest = self.world.manifest(usize::from(b % 3));
        let command = match a % 16 {
            0 => Command::Publish { stream },
            1..=3 => {
                let (header, chunks) = self.part(b, c);
                Command::Append { header, chunks }
            }
            4 => Command::Finish {
                body: self
                    .world
                    .end(&stream, (c.is_multiple_of(2)).then_some(u64::from(c % 12))),
            },
            5 => Command::SetMaster {
                body: self.world.master(u64::from(c % 4)),
            },
            6 => Command::Subscribe { stream, from },
            7 => Command::Unsubscribe { stream },
            8 => Command::FollowMaster { manifest },
            9 => Command::UnfollowMaster { manifest },
            10 => Command::RequestStatus { node: self.peer(b) },
            11 => Command::StartJob { job, stream, from },
            12 => Command::RevokeClaim {
                transcoder: self.peer(c),
                job: JobId(u64::from(c % 2)),
            },
            13 => Command::GetReceipts {
                body: self.wanted(b, c),
            },
            14 => Command::Unpublish { stream },
            _ => Command::StopJob { job },
        };
        self.commands += 1;
        let id = CommandId(self.commands);
        Input::Command { id, command }
    }

    fn message(&self, op: u8, b: u8, c: u8) -> Message {
        let request = RequestId(u64::from(c % 8));
        let stream = self.stream(b);
        let from = (b.is_multiple_of(3)).then(|| Self::position(b));
        let hops_left = b % 4;
        let slot = if b.is_multiple_of(16) {
            Slot::Init(0)
        } else {
            Slot::Part(Self::position(b))
        };
        match op / 8 % 26 {
            0..=2 => Message::from(Sub {
                request,
                stream,
                from,
                hops_left,
            }),
            3 => Message::SubAck(SubAck {
                request,
                state: if b.is_multiple_of(3) {
                    SubState::Pending
                } else {
                    SubState::Live(from)
                },
                load: b,
                path: vec![u64::from(b); usize::from(b % 3)],
            }),
            4 => Message::NotFound(NotFound { request }),
            5 => Message::NoRoute(NoRoute {
                request,
                reason: NoRouteReason::HopLimit,
            }),
            6 => Message::Redirect(Redirect {
                request,
                nodes: self.nodes(c),
            }),
            7 => Message::Cancel(Cancel { request }),
            8 => Message::Finish(Finish {
                request,
                body: self
                    .world
                    .end(&stream, (b.is_multiple_of(2)).then_some(u64::from(b % 12))),
            }),
            9..=11 => Message::Part(Part {
                request,
                header: self.part(op, b).0,
            }),
            12..=14 => {
                let (header, chunks) = self.part(op, b);
                let index = usize::from(c / 8) % chunks.len();
                Message::Chunk(Chunk {
                    request,
                    slot: header.value().slot,
                    index: index as u16,
                    payload: chunks[index].clone(),
                })
            }
            15 => Message::Nack(Nack {
                request,
                slot,
                chunks: vec![u16::from(b); usize::from(b % 3)],
            }),
            16 => Message::Gap(Gap {
                request,
                from: Self::position(b),
                to: Self::position(c),
            }),
            17 => Message::GetMasterPlaylist(GetMasterPlaylist {
                request,
                manifest: self.world.manifest(usize::from(b % 3)),
                hops_left,
            }),
            18 => Message::MasterPlaylistData(MasterPlaylistData {
                request,
                body: self.world.master(u64::from(b)),
            }),
            19 => Message::NodeStatusReq(NodeStatusReq {
                request,
                node: self.peer(b),
                hops_left,
            }),
            20 | 21 => Message::from(TranscodeSub {
                request,
                branch: b.is_multiple_of(2),
                from,
                hops_left,
                claim: self.claim(b, c),
                signature: [0; 65],
            }),
            22 => Message::from(JobProbe {
                request,
                transcoder: self.peer(b),
                stream,
                renditions: Vec::new(),
                hops_left,
            }),
            23 => Message::GetReceipts(GetReceipts {
                request,
                hops_left,
                body: self.wanted(b, c),
            }),
            24 => Message::Receipts(Receipts {
                request,
                body: self.receipts(b, c),
            }),
            _ if b.is_multiple_of(2) => Message::Pong(Ping { nonce: 1 }),
            _ => Message::JobProbeReply(JobProbeReply {
                request,
                available: true,
                load: b,
            }),
        }
    }
}

fn config(relayer: bool) -> Config {
    Config {
        roles: Roles {
            relayer,
            ..Roles::default()
        },
        max_peers: 3,
        max_violations: 60,
        max_streams: 3,
        max_children: 3,
        max_subs_per_peer: 3,
        max_requests: 6,
        max_requests_per_peer: 3,
        max_masters: 2,
        max_followers: 2,
        max_jobs: 2,
        max_claims: 2,
        max_asks: 6,
        max_feeds: 1,
        max_dials: 2,
        max_lookups: 2,
        ring_segments: 3,
        ring_bytes: 200_000,
        total_ring_bytes: 300_000,
        ..Config::default()
    }
}

/// Runs the steps and returns everything the node wanted.
fn run(steps: &[Step], relayer: bool) -> Vec<String> {
    let config = config(relayer);
    let mut script = Script::new();
    let mut node = Node::new(script.world.id(0), config.clone(), [9; 32], Time::default());
    let mut now = 0;
    let mut wanted = Vec::new();
    let mut linked = std::collections::BTreeSet::new();
    let mut begin = script.preamble().into_iter();
    let mut steps = steps.iter();
    loop {
        let input = match (begin.next(), steps.as_slice()) {
            (Some(input), _) => input,
            (None, []) => break,
            (None, [step, ..]) => {
                steps.next();
                now += u64::from(step.4);
                script.input(*step)
            }
        };
        match &input {
            Input::Connected { peer, .. } => {
                linked.insert(*peer);
            }
            Input::Disconnected { peer } => {
                linked.remove(peer);
            }
            _ => {}
        }
        node.handle(Time::from_millis(now), input);
        while let Some(output) = node.poll_output() {
            match &output {
                Output::Send { to, message, .. } => {
                    assert!(linked.contains(to), "sends on open links");
                    script.notice(*to, message);
                }
                Output::Ask { ask, .. } => script.questions.push(*ask),
                Output::Disconnect { peer, .. } => {
                    linked.remove(peer);
                }
                _ => {}
            }
            wanted.push(format!("{output:?}"));
        }
        check_bounds(&node, &config);
        if let Some(deadline) = node.poll_timeout() {
            assert!(deadline.at > Time::from_millis(now), "{deadline:?} was due");
        }
    }
    wanted
}

fn check_bounds(node: &Node, config: &Config) {
    assert!(node.peers().count() <= config.max_peers);
    assert!(node.streams().count() <= config.max_streams);
    assert!(node.open_requests() <= config.max_requests);
    assert!(node.known_masters() <= config.max_masters);
    for peer in node.peers() {
        assert!(peer.to <= config.max_subs_per_peer);
        assert!(peer.credit <= CREDIT);
    }
    let mut total = 0;
    for stream in node.streams() {
        assert!(stream.children.len() <= config.max_children + config.max_feeds);
        // The newest part and the inits stay whatever their size.
        assert!(stream.ring_bytes <= config.ring_bytes.max(50_000));
        total += stream.ring_bytes;
    }
    assert!(total <= config.total_ring_bytes + 3 * 50_000);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: super::cases(48),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_of_inputs_keeps_the_bounds_and_gives_the_same_again(
        steps in prop::collection::vec(
            (any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), 0_u16..700),
            1..250,
        ),
        relayer in any::<bool>(),
    ) {
        let once = run(&steps, relayer);
        let again = run(&steps, relayer);
        prop_assert_eq!(once, again);
    }
}

#[test]
fn the_random_steps_reach_what_they_should() {
    let mut kinds = std::collections::BTreeSet::new();
    let mut state = 1_u64;
    for round in 0..24_u8 {
        let mut steps = Vec::new();
        for _ in 0..250 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let bytes = state.to_be_bytes();
            let pause = u16::from(bytes[4]);
            steps.push((bytes[0], bytes[1], bytes[2], bytes[3], pause));
        }
        for wanted in run(&steps, round.is_multiple_of(2)) {
            for kind in [
                "Chunk",
                "Gap",
                "Nack",
                "Dial ",
                "Deliver",
                "Disconnect",
                "NoRoute",
            ] {
                if wanted.contains(kind) {
                    kinds.insert(kind);
                }
            }
        }
    }
    assert_eq!(kinds.len(), 7, "{kinds:?}");
}
