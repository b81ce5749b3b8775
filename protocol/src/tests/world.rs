//! A deterministic world of a few nodes: links with latency and bandwidth, drivers that
//! answer questions, and a publisher whose payloads can be told apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use headwater_proto::{
    AddressText, BroadcastId, JobId, ManifestId, MasterPlaylist, MediaInfo, Message, NodeId,
    NodeStatus, PartHeader, Position, ReceiptList, ReceiptsWanted, Roles, SegmentReceipt, Signed,
    SigningKey, Slot, StreamEnd, StreamId, TranscodeClaim,
};

use super::wire::Wire;
use crate::{
    Answer, Command, CommandError, CommandId, Config, Delivery, DisconnectReason, Event, Failure,
    Input, Link, Node, Output, Priority, Question, Reply, Time, message_cost,
};

/// Credit of a link unless a test says otherwise.
pub(crate) const CREDIT: usize = 256 * 1024;
/// Payload bytes of a part: three chunks, the last one short.
pub(crate) const PART_BYTES: usize = 40_000;
/// Parts of a segment.
pub(crate) const PARTS: u32 = 4;

/// What a host's driver says to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimPolicy {
    Grant,
    Refuse,
    RefuseJob(JobId),
    Ignore,
}

/// One node and its driver.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) key: SigningKey,
    pub(crate) id: NodeId,
    pub(crate) roles: Roles,
    pub(crate) node: Node,
    pub(crate) alive: bool,
    pub(crate) deliveries: Vec<(StreamId, Delivery)>,
    pub(crate) replies: BTreeMap<CommandId, Result<Reply, CommandError>>,
    pub(crate) events: Vec<Event>,
    pub(crate) masters: Vec<Signed<MasterPlaylist>>,
    pub(crate) missing: Vec<Failure>,
    pub(crate) disconnects: Vec<(NodeId, DisconnectReason)>,
    pub(crate) dials: usize,
    pub(crate) asked: Vec<Question>,
    pub(crate) claims: ClaimPolicy,
    /// Transcoders and jobs whose claim its driver has granted, until they are revoked.
    pub(crate) granted: BTreeSet<(NodeId, JobId)>,
    /// Whether others reach it when they dial.
    pub(crate) dialable: bool,
    pub(crate) sequence: u64,
    /// Hosts that its driver finds and connects to when it looks somebody up.
    pub(crate) finds: Vec<usize>,
    /// Messages that it never sends, whatever its node says.
    pub(crate) swallows: Option<fn(&Message) -> bool>,
    /// What it sent, and in which class.
    pub(crate) classes: Vec<(Message, Priority)>,
    /// What it sent: target, message.
    pub(crate) sent: Vec<(NodeId, Message)>,
}

#[derive(Debug)]
enum Happening {
    Arrives {
        from: usize,
        to: usize,
        link: u64,
        message: Message,
    },
    Written {
        from: usize,
        to: usize,
        link: u64,
        bytes: usize,
    },
    Answer {
        host: usize,
        input: Input,
    },
}

/// One direction of a link.
#[derive(Debug)]
struct Direction {
    /// Bytes of data per second; `None` is at once.
    rate: Option<u64>,
    /// The writer is busy until then.
    busy: Time,
    in_flight: usize,
    wire: Wire,
}

#[derive(Debug)]
struct Cable {
    id: u64,
    latency: Duration,
    directions: BTreeMap<usize, Direction>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pub(crate) now: Time,
    pub(crate) latency: Duration,
    pub(crate) credit: usize,
    queue: BTreeMap<(Time, u64), Happening>,
    cables: BTreeMap<(usize, usize), Cable>,
    cut: BTreeSet<u64>,
    serial: u64,
    commands: u64,
}

pub(crate) fn relayer() -> Roles {
    Roles {
        relayer: true,
        ..Roles::default()
    }
}

pub(crate) fn key(number: u8) -> SigningKey {
    let mut secret = [0x5a; 32];
    secret[0] = number;
    SigningKey::from_bytes(&secret)
}

impl Host {
    /// Three receipts for whoever's claims its driver grants.
    fn receipts(&self, wanted: &ReceiptsWanted) -> Option<Signed<ReceiptList>> {
        let receipts = (0..3).map(|number| SegmentReceipt {
            segment: wanted.from_segment + number,
            source_hash: [1; 32],
            signature: [2; 65],
        });
        let list = ReceiptList {
            stream: wanted.stream.clone(),
            job: wanted.job,
            transcoder: wanted.transcoder,
            from_segment: wanted.from_segment,
            receipts: receipts.collect(),
        };
        (self.claims == ClaimPolicy::Grant).then(|| Signed::sign(list, &self.key))
    }
}

impl World {
    /// A world whose host 0 owns the stream, followed by `relays` relayers, the nearest
    /// to host 0 first, and then `others` that are no relayers. No links.
    pub(crate) fn new(relays: usize, others: usize) -> Self {
        let owner = key(0);
        let goal = owner.node_id().routing_key();
        let mut keys: Vec<_> = (1..=60).map(key).collect();
        keys.sort_by_key(|key| key.node_id().routing_key().distance(&goal));
        let edges = keys.split_off(30);
        let mut world = Self {
            hosts: Vec::new(),
            now: Time::from_millis(1000),
            latency: Duration::from_millis(10),
            credit: CREDIT,
            queue: BTreeMap::new(),
            cables: BTreeMap::new(),
            cut: BTreeSet::new(),
            serial: 0,
            commands: 0,
        };
        world.add(owner, Roles::default());
        for key in keys.into_iter().take(relays) {
            world.add(key, relayer());
        }
        for key in edges.into_iter().take(others) {
            world.add(key, Roles::default());
        }
        world
    }

    /// Owner and viewer.
    pub(crate) fn pair() -> Self {
        let mut world = Self::new(0, 1);
        world.connect(0, 1);
        world
    }

    /// Owner, `relays` relayers one after the other, and a viewer at the far end.
    pub(crate) fn line(relays: usize) -> Self {
        let mut world = Self::new(relays, 1);
        for host in 0..=relays {
            world.connect(host, host + 1);
        }
        world
    }

    /// Owner and `viewers`, all linked to one relayer, which is host 1.
    pub(crate) fn star(viewers: usize) -> Self {
        let mut world = Self::new(1, viewers);
        world.connect(0, 1);
        for viewer in 0..viewers {
            world.connect(1, 2 + viewer);
        }
        world
    }

    /// Broadcaster (0), relay (1), transcoder (2), viewer (3), all linked to the relay only.
    pub(crate) fn with_transcoder() -> Self {
        let mut world = Self::star(2);
        world.hosts[2].roles = Roles {
            transcoder: true,
            ..Roles::default()
        };
        world
    }

    /// Owner and viewer, with two relayers (hosts 1 and 2) that are linked to both.
    pub(crate) fn diamond() -> Self {
        let mut world = Self::new(2, 1);
        for relay in [1, 2] {
            world.connect(0, relay);
            world.connect(relay, 3);
        }
        world
    }

    pub(crate) fn add(&mut self, key: SigningKey, roles: Roles) -> usize {
        self.add_with(key, Config::for_roles(roles))
    }

    pub(crate) fn add_with(&mut self, key: SigningKey, config: Config) -> usize {
        let id = key.node_id();
        let roles = config.roles;
        let node = Node::new(id, config, *id.public_key(), self.now);
        self.hosts.push(Host {
            key,
            id,
            roles,
            node,
            alive: true,
            deliveries: Vec::new(),
            replies: BTreeMap::new(),
            events: Vec::new(),
            masters: Vec::new(),
            missing: Vec::new(),
            disconnects: Vec::new(),
            dials: 0,
            asked: Vec::new(),
            claims: ClaimPolicy::Grant,
            granted: BTreeSet::new(),
            dialable: true,
            sequence: 0,
            finds: Vec::new(),
            swallows: None,
            classes: Vec::new(),
            sent: Vec::new(),
        });
        self.hosts.len() - 1
    }

    /// Starts a host's node anew with another configuration; before it has links.
    pub(crate) fn reconfigure(&mut self, host: usize, change: impl FnOnce(&mut Config)) {
        let mut config = Config::for_roles(self.hosts[host].roles);
        change(&mut config);
        let id = self.hosts[host].id;
        self.hosts[host].roles = config.roles;
        self.hosts[host].node = Node::new(id, config, *id.public_key(), self.now);
    }

    pub(crate) fn id(&self, host: usize) -> NodeId {
        self.hosts[host].id
    }

    pub(crate) fn find(&self, id: NodeId) -> Option<usize> {
        self.hosts.iter().position(|host| host.id == id)
    }

    pub(crate) fn linked(&self, a: usize, b: usize) -> bool {
        self.cables.contains_key(&(a.min(b), a.max(b)))
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        self.connect_by(a, b, None);
    }

    fn connect_by(&mut self, a: usize, b: usize, dial: Option<crate::DialId>) {
        self.serial += 1;
        let direction = || Direction {
            rate: None,
            busy: Time::default(),
            in_flight: 0,
            wire: Wire::default(),
        };
        let cable = Cable {
            id: self.serial,
            latency: self.latency,
            directions: [(a, direction()), (b, direction())].into(),
        };
        self.cables.insert((a.min(b), a.max(b)), cable);
        for (host, other, dial) in [(a, b, dial), (b, a, None)] {
            let link = Link {
                roles: self.hosts[other].roles,
                credit: self.credit,
                dial,
            };
            let peer = self.id(other);
            self.input(host, Input::Connected { peer, link });
        }
    }

    /// Limits what `from` can send to `to`, in bytes per second.
    pub(crate) fn throttle(&mut self, from: usize, to: usize, rate: u64) {
        let cable = self.cables.get_mut(&(from.min(to), from.max(to))).unwrap();
        cable.directions.get_mut(&from).unwrap().rate = Some(rate);
    }

    /// Cuts a link; what was on the way is lost.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        let Some(cable) = self.cables.remove(&(a.min(b), a.max(b))) else {
            return;
        };
        self.cut.insert(cable.id);
        for (host, other) in [(a, b), (b, a)] {
            let peer = self.id(other);
            self.input(host, Input::Disconnected { peer });
        }
    }

    /// A host dies; its neighbours notice at once.
    pub(crate) fn kill(&mut self, host: usize) {
        self.hosts[host].alive = false;
        for other in 0..self.hosts.len() {
            self.cut(host, other);
        }
    }

    /// A host falls silent: its links stay up, but nothing comes out of it.
    pub(crate) fn freeze(&mut self, host: usize) {
        self.hosts[host].alive = false;
    }

    // ---- time ----------------------------------------------------------------------

    pub(crate) fn input(&mut self, host: usize, input: Input) {
        if !self.hosts[host].alive {
            return;
        }
        self.hosts[host].node.handle(self.now, input);
        self.drain(host);
    }

    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timer = self
                .hosts
                .iter()
                .enumerate()
                .filter(|(_, host)| host.alive)
                .filter_map(|(index, host)| Some((host.node.poll_timeout()?.at, index)))
                .min();
            let next = match (event, timer) {
                (Some(event), Some((timer, _))) => event.min(timer),
                (Some(event), None) => event,
                (None, Some((timer, _))) => timer,
                (None, None) => break,
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            match timer {
                Some((at, host)) if at <= next && event.is_none_or(|event| at < event) => {
                    self.input(host, Input::Timeout);
                }
                _ => self.happen(),
            }
        }
        self.now = end;
    }

    fn happen(&mut self) {
        let Some((_, happening)) = self.queue.pop_first() else {
            return;
        };
        match happening {
            Happening::Arrives {
                from,
                to,
                link,
                message,
            } => {
                if !self.cut.contains(&link) {
                    self.arrive(from, to, &message);
                }
            }
            Happening::Written {
                from,
                to,
                link,
                bytes,
            } => {
                if self.cut.contains(&link) {
                    return;
                }
                let cable = self.cables.get_mut(&(from.min(to), from.max(to))).unwrap();
                cable.directions.get_mut(&from).unwrap().in_flight -= bytes;
                let peer = self.id(to);
                self.input(
                    from,
                    Input::Writable {
                        peer,
                        credit: bytes,
                    },
                );
            }
            Happening::Answer { host, input } => self.input(host, input),
        }
    }

    /// Gives a message to a host as if it had come over the link from another.
    pub(crate) fn arrive(&mut self, from: usize, to: usize, message: &Message) {
        let Some(cable) = self.cables.get_mut(&(from.min(to), from.max(to))) else {
            return;
        };
        let wire = &mut cable.directions.get_mut(&from).unwrap().wire;
        let from = self.hosts[from].id;
        match wire.carry(message) {
            Ok(message) => self.input(to, Input::Received { from, message }),
            Err(violation) => self.input(to, Input::Violation { from, violation }),
        }
    }

    /// Loses messages that are on their way; the writer notices nothing.
    pub(crate) fn lose(&mut self, a: usize, b: usize, which: impl Fn(&Message) -> bool) {
        self.queue.retain(|_, happening| match happening {
            Happening::Arrives {
                from, to, message, ..
            } => !(*from == a && *to == b && which(message)),
            Happening::Written { .. } | Happening::Answer { .. } => true,
        });
    }

    fn schedule(&mut self, at: Time, happening: Happening) {
        self.serial += 1;
        self.queue.insert((at, self.serial), happening);
    }

    // ---- the drivers ---------------------------------------------------------------

    fn drain(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].node.poll_output() {
            self.carry_out(host, output);
        }
    }

    fn carry_out(&mut self, host: usize, output: Output) {
        match output {
            Output::Send {
                to,
                message,
                priority,
            } => {
                self.hosts[host].classes.push((message.clone(), priority));
                self.hosts[host].sent.push((to, message.clone()));
                self.send(host, to, message);
            }
            Output::Dial { dial, peer, .. } => {
                self.hosts[host].dials += 1;
                let target = self.find(peer).filter(|t| self.hosts[*t].dialable);
                match target {
                    // Whoever dials one that is gone hears nothing for long.
                    Some(target) if !self.hosts[target].alive => {}
                    Some(target) => self.connect_by(host, target, Some(dial)),
                    None => self.later(host, Input::DialFailed { dial }),
                }
            }
            Output::Disconnect { peer, reason } => {
                self.hosts[host].disconnects.push((peer, reason));
                if let Some(other) = self.find(peer) {
                    self.cut(host, other);
                }
            }
            Output::Deliver { stream, delivery } => {
                self.hosts[host].deliveries.push((stream, delivery));
            }
            Output::Master { body } => self.hosts[host].masters.push(body),
            Output::MasterMissing { failure, .. } => self.hosts[host].missing.push(failure),
            Output::Ask { ask, question } => {
                self.hosts[host].asked.push(question.clone());
                if matches!(question, Question::Lookup { .. }) {
                    for found in std::mem::take(&mut self.hosts[host].finds) {
                        self.connect(host, found);
                    }
                }
                if let Some(answer) = self.answer(host, &question) {
                    self.later(host, Input::Answer { ask, answer });
                }
            }
            Output::Reply { id, result } => {
                let before = self.hosts[host].replies.insert(id, result);
                assert!(before.is_none(), "one reply for each command");
            }
            Output::Observe(event) => {
                assert_listed(&event);
                self.hosts[host].events.push(event);
            }
        }
    }

    fn later(&mut self, host: usize, input: Input) {
        let at = self.now + Duration::from_millis(1);
        self.schedule(at, Happening::Answer { host, input });
    }

    fn answer(&mut self, host: usize, question: &Question) -> Option<Answer> {
        let address = AddressText::new("/ip4/192.0.2.1/tcp/4935").unwrap();
        let host = &mut self.hosts[host];
        Some(match question {
            Question::Claim { job } => {
                host.sequence += 1;
                let claim = TranscodeClaim {
                    stream: host.job_stream(*job),
                    job: *job,
                    transcoder: host.id,
                    addresses: vec![address],
                    sealed: None,
                    sequence: host.sequence,
                    expires_ms: 1,
                };
                Answer::Claim(Some(Box::new((claim, [7; 65]))))
            }
            Question::CheckClaim { claim, .. } => match host.claims {
                ClaimPolicy::Refuse => Answer::ClaimRefused,
                ClaimPolicy::RefuseJob(job) if job == claim.job => Answer::ClaimRefused,
                ClaimPolicy::Grant | ClaimPolicy::RefuseJob(_) => {
                    host.granted.insert((claim.transcoder, claim.job));
                    Answer::ClaimGranted {
                        addresses: vec![address],
                    }
                }
                ClaimPolicy::Ignore => return None,
            },
            Question::CheckResult { body } => {
                let name = (body.value().transcoder, body.value().job);
                let accepted = host.granted.contains(&name);
                Answer::Result { accepted }
            }
            Question::Status => {
                let status = NodeStatus {
                    node: host.id,
                    time_ms: 1,
                    agent: "test".into(),
                    roles: host.roles,
                    uptime_s: 1,
                    peers: 0,
                    load: 0,
                    streams: Vec::new(),
                };
                Answer::Status(Signed::sign(status, &host.key))
            }
            Question::Probe { .. } => Answer::Probe { available: true },
            Question::Receipts { body } => Answer::Receipts(host.receipts(body.value())),
            Question::Lookup { .. } => Answer::Lookup,
        })
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let to = self.find(to).unwrap();
        let cable = self
            .cables
            .get_mut(&(from.min(to), from.max(to)))
            .expect("a node sends on open links only");
        let (link, latency) = (cable.id, cable.latency);
        let direction = cable.directions.get_mut(&from).unwrap();
        let bytes = message_cost(&message);
        let mut arrives = self.now + latency;
        let swallowed = self.hosts[from].swallows.is_some_and(|is| is(&message));
        if bytes > 0 {
            direction.in_flight += bytes;
            assert!(
                direction.in_flight <= self.credit,
                "credit is never exceeded"
            );
            let takes = direction
                .rate
                .map_or(0, |rate| bytes as u64 * 1_000_000 / rate);
            direction.busy = direction.busy.max(self.now) + Duration::from_micros(takes);
            let written = direction.busy;
            arrives = written + latency;
            let happening = Happening::Written {
                from,
                to,
                link,
                bytes,
            };
            self.schedule(written, happening);
        }
        let happening = Happening::Arrives {
            from,
            to,
            link,
            message,
        };
        if !swallowed {
            self.schedule(arrives, happening);
        }
    }

    // ---- commands ------------------------------------------------------------------

    pub(crate) fn command(&mut self, host: usize, command: Command) -> CommandId {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.input(host, Input::Command { id, command });
        id
    }

    /// Gives a command that must be done.
    pub(crate) fn must(&mut self, host: usize, command: Command) {
        let id = self.command(host, command);
        assert_eq!(self.hosts[host].replies.get(&id), Some(&Ok(Reply::Done)));
    }

    /// A broadcaster hears that a job is not a transcoder's any more.
    pub(crate) fn revoke(&mut self, host: usize, transcoder: NodeId, job: JobId) {
        self.hosts[host].granted.remove(&(transcoder, job));
        self.must(host, Command::RevokeClaim { transcoder, job });
    }

    /// Gives a command that must be refused.
    pub(crate) fn refused(&mut self, host: usize, command: Command) -> CommandError {
        let id = self.command(host, command);
        self.hosts[host].replies[&id].clone().unwrap_err()
    }

    pub(crate) fn manifest(&self, host: usize) -> ManifestId {
        ManifestId {
            node: self.id(host),
            broadcast: BroadcastId::from_bytes([3; 16]),
        }
    }

    /// Tells a host where its neighbours can be dialled.
    pub(crate) fn tell_addresses(&mut self, host: usize) {
        let address = AddressText::new("/ip4/192.0.2.1/tcp/4935").unwrap();
        for other in 0..self.hosts.len() {
            let (peer, addresses) = (self.id(other), vec![address.clone()]);
            self.input(host, Input::Addresses { peer, addresses });
        }
    }

    /// Opens a stream of host 0.
    pub(crate) fn publish(&mut self) -> StreamId {
        let stream = self.manifest(0).source();
        self.open(0, &stream);
        stream
    }

    pub(crate) fn open(&mut self, host: usize, stream: &StreamId) {
        self.must(
            host,
            Command::Publish {
                stream: stream.clone(),
            },
        );
        let (header, chunks) = self.init(host, stream, 0);
        self.must(host, Command::Append { header, chunks });
    }

    pub(crate) fn init(
        &self,
        host: usize,
        stream: &StreamId,
        index: u32,
    ) -> (Signed<PartHeader>, Vec<Bytes>) {
        let payload = Bytes::from(vec![index as u8; 600]);
        let slot = Slot::Init(index);
        let (header, chunks) =
            PartHeader::for_payload(stream.clone(), slot, None, &payload).unwrap();
        (Signed::sign(header, &self.hosts[host].key), chunks)
    }

    pub(crate) fn part(
        &self,
        host: usize,
        stream: &StreamId,
        position: Position,
        discontinuity: u32,
    ) -> (Signed<PartHeader>, Vec<Bytes>) {
        let payload = payload(position);
        let slot = Slot::Part(position);
        let media = media(position, discontinuity);
        let (header, chunks) =
            PartHeader::for_payload(stream.clone(), slot, Some(media), &payload).unwrap();
        (Signed::sign(header, &self.hosts[host].key), chunks)
    }

    pub(crate) fn append(&mut self, host: usize, stream: &StreamId, segment: u64, part: u32) {
        let position = Position { segment, part };
        let (header, chunks) = self.part(host, stream, position, 0);
        self.must(host, Command::Append { header, chunks });
    }

    /// Appends whole segments to a stream of host 0, a part every 50 ms.
    pub(crate) fn stream(&mut self, stream: &StreamId, segments: std::ops::Range<u64>) {
        let owner = self.find(stream.node).unwrap();
        for segment in segments {
            for part in 0..PARTS {
                self.append(owner, stream, segment, part);
                self.run(50);
            }
        }
    }

    /// Ends a stream after a segment.
    pub(crate) fn finish(&mut self, stream: &StreamId, last_segment: Option<u64>) {
        let owner = self.find(stream.node).unwrap();
        let body = self.end(stream, last_segment);
        self.must(owner, Command::Finish { body });
    }

    pub(crate) fn end(&self, stream: &StreamId, last_segment: Option<u64>) -> Signed<StreamEnd> {
        let owner = self.find(stream.node).unwrap();
        let last = last_segment.map(|segment| at(segment, PARTS - 1));
        let end = StreamEnd {
            stream: stream.clone(),
            last,
        };
        Signed::sign(end, &self.hosts[owner].key)
    }

    pub(crate) fn subscribe(&mut self, host: usize, stream: &StreamId) {
        self.subscribe_from(host, stream, None);
    }

    pub(crate) fn subscribe_from(
        &mut self,
        host: usize,
        stream: &StreamId,
        from: Option<Position>,
    ) {
        let stream = stream.clone();
        self.must(host, Command::Subscribe { stream, from });
    }

    pub(crate) fn unsubscribe(&mut self, host: usize, stream: &StreamId) {
        let stream = stream.clone();
        self.must(host, Command::Unsubscribe { stream });
    }

    pub(crate) fn start_job(&mut self, host: usize, job: u64, stream: &StreamId) {
        let (job, stream) = (JobId(job), stream.clone());
        let from = None;
        self.hosts[host].asked.clear();
        self.must(host, Command::StartJob { job, stream, from });
    }

    pub(crate) fn set_master(&mut self, version: u64) {
        let body = self.master(version);
        self.must(0, Command::SetMaster { body });
    }

    pub(crate) fn master(&self, version: u64) -> Signed<MasterPlaylist> {
        let master = MasterPlaylist {
            manifest: self.manifest(0),
            version,
            ended: false,
            renditions: Vec::new(),
        };
        Signed::sign(master, &self.hosts[0].key)
    }
}

/// A change of state that is told is one that the tables list.
fn assert_listed(event: &Event) {
    match event {
        Event::StageChanged { from, to, .. } => {
            assert!(from.leads_to(*to), "{from:?} does not lead to {to:?}");
        }
        Event::GrantChanged { from, to, .. } => {
            assert!(from.leads_to(*to), "{from:?} does not lead to {to:?}");
        }
        Event::ParentChanged { .. }
        | Event::FeedStarted { .. }
        | Event::FeedEnded { .. }
        | Event::Misbehaved { .. } => {}
    }
}

impl Host {
    fn job_stream(&self, job: JobId) -> StreamId {
        self.node.jobs.stream(job).unwrap()
    }
}

pub(crate) const fn at(segment: u64, part: u32) -> Position {
    Position { segment, part }
}

/// The payload every owner publishes at a position.
pub(crate) fn payload(position: Position) -> Bytes {
    let seed = (position.segment * 31 + u64::from(position.part)) as u8;
    let bytes = (0..PART_BYTES).map(|i| seed.wrapping_add((i % 251) as u8));
    bytes.collect::<Vec<_>>().into()
}

fn media(position: Position, discontinuity: u32) -> MediaInfo {
    MediaInfo {
        init: 0,
        start: position.segment * 180_000 + u64::from(position.part) * 45_000,
        duration: 45_000,
        program_date_time_ms: 0,
        discontinuity,
        independent: position.part == 0,
        last: position.part == PARTS - 1,
    }
}

/// The kinds of messages tests count.
pub(crate) fn is_redirect(message: &Message) -> bool {
    matches!(message, Message::Redirect(_))
}

pub(crate) fn is_sub(message: &Message) -> bool {
    matches!(message, Message::Sub(_))
}

pub(crate) fn is_cancel(message: &Message) -> bool {
    matches!(message, Message::Cancel(_))
}
