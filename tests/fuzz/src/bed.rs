//! A node with a driver that keeps the driver's side of the contract, and that panics
//! when the node does not keep its own.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex},
};

use headwater_proto::{
    JobId, LinkVerifier, Message, NodeId, RequestId, Roles, StreamId, decode, encode,
};
use headwater_protocol::{
    AskId, Command, CommandId, Config, DialId, Input, Link, Node, Output, Question, Time,
    message_cost, record::Recorder,
};

use crate::{material, viewer::Viewer};

/// Credit of every link, in bytes.
pub(crate) const CREDIT: usize = 60_000;
/// Things that the node wants after one input. Not more than rings of three streams hold,
/// to each of a few children, and what goes with it.
const MOST_OUTPUTS: usize = 2_000;
/// Wake-ups in a row that come to nothing, at most: some deadlines recede.
const MOST_IN_VAIN: usize = 100;
/// Requests of the node that can be answered.
const KEPT: usize = 6;
/// The largest payload of a part or init of [`material`].
const LARGEST: usize = 40_000;

/// A request that the node has sent.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) to: NodeId,
    pub(crate) request: RequestId,
    /// What is subscribed to.
    pub(crate) stream: Option<StreamId>,
}

#[derive(Debug, Default)]
struct LinkEnd {
    verifier: LinkVerifier,
    in_flight: usize,
}

/// A command without a reply, and what to take back when it fails.
#[derive(Debug)]
enum Open {
    Subscribe(StreamId),
    StartJob(StreamId, JobId),
    Other,
}

/// See the module.
pub(crate) struct Bed {
    pub(crate) node: Node,
    pub(crate) now: Time,
    /// Its latest requests, the newest last.
    pub(crate) asked: VecDeque<Asked>,
    /// Its questions without an answer, also those for which it waits no more.
    pub(crate) questions: Vec<(AskId, Question)>,
    /// Its dials without an outcome.
    pub(crate) dials: Vec<(DialId, NodeId)>,
    config: Config,
    links: BTreeMap<NodeId, LinkEnd>,
    commands: BTreeMap<CommandId, Open>,
    given: u64,
    viewers: BTreeMap<StreamId, Viewer>,
    recorder: Option<Recorder>,
}

/// Small limits, so that they are reached.
pub(crate) fn config(roles: Roles) -> Config {
    Config {
        roles,
        max_peers: 4,
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

/// Where a recording goes that is read afterwards.
#[derive(Clone, Default)]
pub(crate) struct Tape(Arc<Mutex<Vec<u8>>>);

impl Tape {
    /// What was recorded so far.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics while it writes"))
    }
}

impl io::Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("nobody panics while it writes")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Bed {
    /// Node 0 without links; all that passes goes to `tape`, if there is one.
    pub(crate) fn new(config: Config, tape: Option<Tape>) -> Self {
        let (me, now) = (material::id(0), Time::from_millis(1_000));
        let mut recorder =
            tape.map(|tape| Recorder::new(tape).expect("writing to memory can't fail"));
        if let Some(recorder) = &mut recorder {
            recorder.start(0, &me, &config, [9; 32], now);
        }
        Self {
            node: Node::new(me, config.clone(), [9; 32], now),
            now,
            asked: VecDeque::new(),
            questions: Vec::new(),
            dials: Vec::new(),
            config,
            links: BTreeMap::new(),
            commands: BTreeMap::new(),
            given: 0,
            viewers: BTreeMap::new(),
            recorder,
        }
    }

    /// A link comes up.
    pub(crate) fn connect(&mut self, peer: NodeId, roles: Roles, dial: Option<DialId>) {
        self.links.insert(peer, LinkEnd::default());
        let link = Link {
            roles,
            credit: CREDIT,
            dial,
        };
        self.give(Input::Connected { peer, link });
    }

    /// A link breaks, if it is there.
    pub(crate) fn disconnect(&mut self, peer: NodeId) {
        if self.links.remove(&peer).is_some() {
            self.give(Input::Disconnected { peer });
        }
    }

    /// A link's writer has written up to so many bytes.
    pub(crate) fn write(&mut self, peer: NodeId, most: usize) {
        if let Some(link) = self.links.get_mut(&peer) {
            let credit = link.in_flight.min(most);
            link.in_flight -= credit;
            self.give(Input::Writable { peer, credit });
        }
    }

    /// A message arrives over an open link, through the codec and the link's verifier.
    /// What can't be encoded can't arrive.
    pub(crate) fn arrive(&mut self, from: NodeId, message: &Message) {
        let Ok(frame) = encode(message) else {
            return;
        };
        let decoded = decode(material::whole(&frame)).expect("what was encoded is decoded");
        assert_eq!(decoded, *message, "read as it was written");
        self.receive(from, decoded);
    }

    /// As [`Self::arrive`], for what was decoded.
    pub(crate) fn receive(&mut self, from: NodeId, message: Message) {
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        let input = match link.verifier.check(message) {
            Ok(message) => Input::Received { from, message },
            Err(violation) => Input::Violation { from, violation },
        };
        self.give(input);
    }

    /// The stream of a job that this node holds.
    pub(crate) fn stream_of(&self, job: JobId) -> Option<StreamId> {
        let mut viewers = self.viewers.iter();
        let found = viewers.find(|(_, viewer)| viewer.jobs.contains(&job));
        found.map(|(stream, _)| stream.clone())
    }

    /// Whether a link is up, as far as both sides know.
    pub(crate) fn is_linked(&self, peer: &NodeId) -> bool {
        self.links.contains_key(peer)
    }

    /// The program wants something.
    pub(crate) fn command(&mut self, command: Command) {
        self.given += 1;
        let id = CommandId(self.given);
        let open = self.expect(&command);
        self.commands.insert(id, open);
        self.give(Input::Command { id, command });
    }

    /// Notes what a command changes for the viewers of this machine.
    fn expect(&mut self, command: &Command) -> Open {
        let viewers = &mut self.viewers;
        if let Command::Subscribe { stream, .. } = command {
            let viewer = viewers.entry(stream.clone()).or_default();
            viewer.begin();
            if !std::mem::replace(&mut viewer.subscribed, true) {
                return Open::Subscribe(stream.clone());
            }
        } else if let Command::Unsubscribe { stream } = command {
            viewers.entry(stream.clone()).or_default().subscribed = false;
        } else if let Command::StartJob { job, stream, .. } = command {
            let viewer = viewers.entry(stream.clone()).or_default();
            viewer.begin();
            if viewer.jobs.insert(*job) {
                return Open::StartJob(stream.clone(), *job);
            }
        } else if let Command::StopJob { job } = command {
            for viewer in viewers.values_mut() {
                viewer.jobs.remove(job);
            }
        }
        Open::Other
    }

    /// Gives an input, carries out what the node wants, and checks all of it.
    /// Returns how much that was.
    pub(crate) fn give(&mut self, input: Input) -> usize {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(0, self.now, &input);
        }
        self.node.handle(self.now, input);
        let mut outputs = 0;
        while let Some(output) = self.node.poll_output() {
            if let Some(recorder) = &mut self.recorder {
                recorder.output(0, &output);
            }
            outputs += 1;
            assert!(outputs <= MOST_OUTPUTS, "no end of outputs: {output:?}");
            self.carry_out(output);
        }
        self.check_bounds();
        if let Some(deadline) = self.node.poll_timeout() {
            assert!(deadline.at > self.now, "{deadline:?} was due");
        }
        outputs
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { to, message, .. } => self.sent(to, &message),
            Output::Dial { dial, peer, .. } => {
                let twice = self.dials.iter().any(|(other, _)| *other == dial);
                assert!(!twice && peer != self.node.id(), "{dial:?}");
                self.dials.push((dial, peer));
            }
            Output::Disconnect { peer, .. } => {
                let open = self.links.remove(&peer);
                assert!(open.is_some(), "closes a link that is not open");
            }
            Output::Deliver { stream, delivery } => {
                let owner = owner(&stream).expect("a stream that somebody asked for");
                let viewer = self.viewers.entry(stream.clone()).or_default();
                viewer.take(owner, &stream, &delivery);
            }
            Output::Ask { ask, question } => {
                let twice = self.questions.iter().any(|(other, _)| *other == ask);
                assert!(!twice, "{ask:?}");
                self.questions.push((ask, question));
            }
            Output::Reply { id, result } => {
                let open = self.commands.remove(&id);
                let open = open.expect("a reply to a command, and one for each");
                if result.is_err() {
                    self.take_back(open);
                }
            }
            Output::Master { .. } | Output::MasterMissing { .. } | Output::Observe(_) => {}
        }
    }

    fn sent(&mut self, to: NodeId, message: &Message) {
        assert!(encode(message).is_ok(), "beyond the bounds: {message:?}");
        let link = self.links.get_mut(&to).expect("sends on open links only");
        link.in_flight += message_cost(message);
        assert!(link.in_flight <= CREDIT, "beyond the credit: {message:?}");
        if let Some((request, stream)) = request(message) {
            if self.asked.len() == KEPT {
                self.asked.pop_front();
            }
            self.asked.push_back(Asked {
                to,
                request,
                stream,
            });
        }
    }

    fn take_back(&mut self, open: Open) {
        let (stream, job) = match open {
            Open::Subscribe(stream) => (stream, None),
            Open::StartJob(stream, job) => (stream, Some(job)),
            Open::Other => return,
        };
        let viewer = self.viewers.entry(stream).or_default();
        match job {
            None => viewer.subscribed = false,
            Some(job) => drop(viewer.jobs.remove(&job)),
        }
    }

    fn check_bounds(&self) {
        let Self { node, config, .. } = self;
        assert!(node.peers().count() <= config.max_peers);
        assert!(node.peers().all(|peer| self.links.contains_key(&peer.peer)));
        assert!(node.streams().count() <= config.max_streams);
        assert!(node.open_requests() <= config.max_requests);
        assert!(node.known_masters() <= config.max_masters);
        assert!(node.open_questions() <= config.max_asks);
        for peer in node.peers() {
            assert!(peer.to <= config.max_subs_per_peer);
            let in_flight = self.links.get(&peer.peer).map_or(0, |link| link.in_flight);
            assert!(peer.credit + in_flight <= CREDIT);
        }
        let mut total = 0;
        for stream in node.streams() {
            assert!(stream.children.len() <= config.max_children + config.max_feeds);
            // The newest part and the inits stay whatever their size.
            assert!(stream.ring_bytes <= config.ring_bytes.max(LARGEST + 2 * 300));
            total += stream.ring_bytes;
        }
        assert!(total <= config.total_ring_bytes + config.max_streams * LARGEST);
    }

    /// Lets time pass; the node is woken when it wants to be.
    pub(crate) fn pass(&mut self, until: Time) {
        let mut in_vain = 0;
        while let Some(deadline) = self.node.poll_timeout().filter(|next| next.at <= until) {
            self.now = deadline.at;
            let outputs = self.give(Input::Timeout);
            in_vain = if outputs == 0 { in_vain + 1 } else { 0 };
            assert!(in_vain <= MOST_IN_VAIN, "{deadline:?}, again and again");
        }
        self.now = self.now.max(until);
    }
}

/// The number of the node that owns a stream.
pub(crate) fn owner(stream: &StreamId) -> Option<u8> {
    (0..16).find(|number| material::id(*number) == stream.node)
}

/// The id of a request that can be answered, and the stream that is subscribed to.
fn request(message: &Message) -> Option<(RequestId, Option<StreamId>)> {
    Some(match message {
        Message::Sub(sub) => (sub.request, Some(sub.stream.clone())),
        Message::TranscodeSub(sub) => (sub.request, Some(sub.claim.stream.clone())),
        Message::GetMasterPlaylist(get) => (get.request, None),
        Message::NodeStatusReq(get) => (get.request, None),
        Message::JobProbe(probe) => (probe.request, None),
        Message::TranscodeResponse(response) => (response.request, None),
        Message::GetReceipts(get) => (get.request, None),
        Message::Hello(_)
        | Message::Ping(_)
        | Message::Pong(_)
        | Message::SubAck(_)
        | Message::NotFound(_)
        | Message::NoRoute(_)
        | Message::Redirect(_)
        | Message::Cancel(_)
        | Message::Finish(_)
        | Message::Part(_)
        | Message::Chunk(_)
        | Message::Nack(_)
        | Message::Gap(_)
        | Message::MasterPlaylistData(_)
        | Message::NodeStatusData(_)
        | Message::Receipts(_)
        | Message::JobProbeReply(_) => return None,
    })
}
