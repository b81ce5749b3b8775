//! The world: hosts, links and a queue of what happens next, on integer time.
//!
//! One thread, no clock, no chance but from the seed, no order that depends on memory:
//! the same scenario gives the same run, to the bit.

mod ahead;
mod deeds;
mod driver;
mod jobs;
mod links;
mod observe;
mod recording;

use std::collections::{HashMap, VecDeque};

use headwater_proto::{AddressText, Message, limits::MAX_SEGMENT};
use headwater_protocol::{AskId, Command, CommandId, DialId, Input, Output, Time};

pub use recording::Recording;

use crate::{
    checks::{Checks, Passing, Rule, Session},
    dice::Dice,
    host::{Badge, Health, Host, HostIx, tag},
    hostile::Hostile,
    measure::Measure,
    media::{Broadcast, Shape},
    narrate::Narrator,
    net::{DirIx, Net},
    queue::Queue,
    scenario::{Scenario, Workload},
    schedule::{BEGIN, Deed, schedule},
    topology::{Keyspace, Plan},
    wire::mix,
};

use ahead::Ahead;
pub use observe::Sample;

/// Wake-ups of one node without time passing, after which it counts as a busy loop.
const BUSY: u32 = 64;
/// Links come up within this time, in microseconds.
const LINKS_UP_US: u64 = 1_000_000;
/// Time between two looks at the whole world, in milliseconds.
const SAMPLE_MS: u64 = 1_000;

/// What happens next, somewhere.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    /// Something arrives at the end of a direction.
    Arrive(DirIx),
    /// A direction's writer has written.
    Written(DirIx),
    /// A direction's socket buffer has room.
    Drain(DirIx),
    /// A node wants to be woken.
    Wake(HostIx),
    /// A link of the plan comes up.
    Open(u32),
    /// A connection attempt has come to its end.
    Dialled(u32),
    /// An input that was put off.
    Late(u32),
    /// A message that a hostile node held back.
    LateSend(u32),
    /// A host's driver looks after its links.
    Maintain(HostIx),
    /// A host's driver looks for links that are spare.
    CloseSpare(HostIx),
    /// A hostile host's turn.
    Mischief(HostIx),
    /// A broadcast's next part is complete.
    Part(u32),
    /// Something of the schedule.
    Deed(u32),
    /// Nodes that died come back.
    Return(u32),
    /// Whether a loop that was seen is still there.
    CheckLoop(HostIx, u32),
    /// A node hears of what the ledger says now of a transcoder's job.
    Heard {
        /// Who.
        host: HostIx,
        /// Whose job.
        transcoder: HostIx,
    },
    /// A look at who feeds transcoders.
    CheckFeeds,
    /// A look at the whole world.
    Sample,
}

/// Changes what nodes want; they still count as ones that keep to the protocol.
pub enum Saboteur {
    /// Given a host and one output of its core, gives what is done instead.
    Outputs(Box<dyn FnMut(HostIx, Output) -> Vec<Output>>),
    /// Given a host and when it wants to be woken, gives when it is woken instead.
    Deadlines(Box<dyn FnMut(HostIx, Option<Time>) -> Option<Time>>),
}

impl std::fmt::Debug for Saboteur {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Outputs(_) => "Outputs(..)",
            Self::Deadlines(_) => "Deadlines(..)",
        })
    }
}

/// An attempt to connect.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    from: HostIx,
    starts: u64,
    to: HostIx,
    why: Why,
    latency_us: u64,
}

/// For whom a connection is tried.
#[derive(Debug, Clone, Copy)]
enum Why {
    /// The driver, which keeps neighbours.
    Driver,
    /// The core, by Dial.
    Core(DialId),
    /// The core, by a question for somebody closer.
    Lookup(AskId),
}

/// When a node is woken.
#[derive(Debug, Clone, Copy)]
struct Wake {
    /// When there is an event for it.
    planned: Option<Time>,
    /// When its node wants it.
    wanted: Option<Time>,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    /// What is run.
    pub scenario: Scenario,
    /// The hosts: broadcasters, relayers, others.
    pub hosts: Vec<Host>,
    /// The links.
    pub net: Net,
    /// The broadcasts.
    pub broadcasts: Vec<Broadcast>,
    /// Every viewer's stay.
    pub sessions: Vec<Session>,
    /// What was breached.
    pub checks: Checks,
    /// What was counted.
    pub measure: Measure,
    /// What is done, and when; those that are left out have no event.
    pub schedule: Vec<(Time, Deed)>,
    /// Takes down every input, when wanted.
    pub recorder: Option<Recording>,
    /// Tells what some nodes do, when wanted.
    pub narrator: Option<Narrator>,
    /// Changes what cores want before it is done, to see that the checks notice.
    pub saboteur: Option<Saboteur>,
    shape: Shape,
    now: Time,
    events: Queue<Event>,
    by_tag: HashMap<u64, HostIx>,
    plan_links: Vec<(HostIx, HostIx)>,
    space: Keyspace,
    late: Shelf<(HostIx, u64, Input)>,
    late_sends: Shelf<(DirIx, Message, headwater_protocol::Priority)>,
    attempts: Shelf<Attempt>,
    badges: Vec<Badge>,
    /// Apart from the hosts, so that a look at it touches little memory.
    wakes: Vec<Wake>,
    /// What every node that can be dialled is said to listen at.
    address: AddressText,
    returns: Vec<Vec<HostIx>>,
    partitioned: bool,
    /// Hosts that are frozen.
    frozen: usize,
    commands: u64,
    open_commands: HashMap<u64, (HostIx, Time)>,
    link_dice: Dice,
    jitter_dice: Dice,
    life_dice: Dice,
    busy: (Time, HostIx, u32),
    /// The routed request that is being handled.
    passing: Option<Passing>,
    trace: u64,
    ended: bool,
}

impl World {
    /// A world before its first event.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let plan = Plan::new(&scenario);
        let mut degrees = vec![0; plan.members.len()];
        for (a, b) in &plan.links {
            degrees[a.at()] += 1;
            degrees[b.at()] += 1;
        }
        let hosts = plan.members.iter().zip(&degrees);
        let mut configs = Vec::new();
        let mut hosts: Vec<_> = hosts
            .map(|(member, links)| Host::new(member, &scenario, *links, &mut configs))
            .collect();
        choose_characters(&scenario, &mut hosts);
        let by_tag = (0..).map(HostIx).zip(&hosts);
        let by_tag: HashMap<_, _> = by_tag.map(|(ix, host)| (tag(&host.id), ix)).collect();
        let relayers = (0..).map(HostIx).zip(&hosts);
        let relayers = relayers.filter(|(_, host)| host.roles.relayer);
        let space = Keyspace::new(relayers.map(|(ix, host)| (host.prefix, ix)));
        let viewers = viewers(&scenario, &hosts);
        let deeds = schedule(&scenario, &viewers, plan.links.len());
        let seed = scenario.seed;
        let mut world = Self {
            shape: shape(&scenario),
            broadcasts: broadcasts(&scenario, &hosts),
            measure: Measure::new(hosts.len()),
            sessions: Vec::new(),
            checks: Checks::default(),
            recorder: None,
            narrator: None,
            saboteur: None,
            now: Time::default(),
            events: Queue::default(),
            net: Net::default(),
            by_tag,
            plan_links: plan.links,
            space,
            late: Shelf::default(),
            late_sends: Shelf::default(),
            attempts: Shelf::default(),
            badges: hosts.iter().map(Host::badge).collect(),
            wakes: vec![
                Wake {
                    planned: None,
                    wanted: None
                };
                hosts.len()
            ],
            address: AddressText::new("/ip4/192.0.2.1/udp/4935/quic-v1")
                .expect("it is a short text that begins with a slash"),
            returns: Vec::new(),
            partitioned: false,
            frozen: 0,
            commands: 0,
            open_commands: HashMap::new(),
            link_dice: Dice::new(seed, "links"),
            jitter_dice: Dice::new(seed, "jitter"),
            life_dice: Dice::new(seed, "life"),
            busy: (Time::default(), HostIx(0), 0),
            passing: None,
            trace: seed,
            ended: false,
            schedule: deeds,
            scenario,
            hosts,
        };
        world.begin();
        world
    }

    /// Takes down what nodes are given and do, from the beginning: before the first
    /// [`World::run`].
    pub fn record(&mut self, mut recorder: Recording) {
        for (number, host) in (0..).zip(&self.hosts) {
            recorder.start(number, &host.id, &host.config, host.seed, self.now);
        }
        self.recorder = Some(recorder);
    }

    fn begin(&mut self) {
        for host in (0..).map(HostIx).take(self.hosts.len()) {
            let seed = self.life_dice.seed();
            self.hosts[host.at()].start(seed, self.now);
            if self.hosts[host.at()].hostile.is_some() {
                self.events.push(BEGIN, Event::Mischief(host));
            }
        }
        for link in 0..index32(self.plan_links.len()) {
            let at = Time::from_micros(self.link_dice.below(LINKS_UP_US));
            self.events.push(at, Event::Open(link));
        }
        for (broadcast, begins) in (0..).zip(self.broadcasts.iter().map(|b| b.begins)) {
            self.events.push(begins, Event::Part(broadcast));
        }
        for (number, (at, _)) in self.schedule.iter().enumerate() {
            let chosen = self.scenario.only.as_ref();
            if chosen.is_none_or(|only| only.contains(number)) {
                self.events.push(*at, Event::Deed(index32(number)));
            }
        }
        if self.scenario.transcoders > 0 {
            self.events.push(BEGIN, Event::CheckFeeds);
        }
        self.events
            .push(Time::from_millis(SAMPLE_MS), Event::Sample);
    }

    /// The time it is.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// When the run ends.
    #[must_use]
    pub const fn end(&self) -> Time {
        Time::from_millis(self.scenario.duration.millis())
    }

    /// A fingerprint of every input and output so far.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// What was published.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Lets everything happen up to `until`, and not beyond the end of the run.
    ///
    /// Stops early at the first breach of a rule unless `go_on`.
    pub fn run(&mut self, until: Time, go_on: bool) {
        let until = until.min(self.end());
        loop {
            let ahead = Ahead {
                net: &self.net,
                hosts: &self.hosts,
                badges: &self.badges,
            };
            let read = |soon: &VecDeque<_>| ahead.read(soon.iter().map(|(_, event)| event));
            let Some((at, event)) = self.events.pop(until, read) else {
                break;
            };
            self.now = at;
            self.measure.events += 1;
            self.happen(event);
            if self.checks.count > 0 && !go_on {
                break;
            }
        }
        if self.checks.count == 0 || go_on {
            self.now = until;
        }
        if self.now == self.end() && !self.ended {
            self.ended = true;
            self.last_look();
        }
    }

    fn happen(&mut self, event: Event) {
        if self.frozen > 0
            && let Some(host) = self.concerns(event)
            && self.hosts[host.at()].health == Health::Frozen
        {
            return self.hosts[host.at()].backlog.push_back(event);
        }
        match event {
            Event::Arrive(dir) => self.arrive(dir),
            Event::Written(dir) => self.written(dir),
            Event::Drain(dir) => self.drain(dir),
            Event::Wake(host) => self.wake(host),
            Event::Open(link) => self.open_planned(link),
            Event::Dialled(attempt) => self.dialled(attempt),
            Event::Late(late) => {
                if let Some((host, starts, input)) = self.late.take(late)
                    && self.hosts[host.at()].starts == starts
                {
                    self.input(host, input);
                }
            }
            Event::LateSend(late) => {
                if let Some((dir, message, priority)) = self.late_sends.take(late) {
                    self.put_on_line(dir, message, priority);
                }
            }
            Event::Maintain(host) => self.maintain(host),
            Event::CloseSpare(host) => self.close_spare(host),
            Event::Mischief(host) => self.mischief(host),
            Event::Part(broadcast) => self.publish(broadcast),
            Event::Deed(number) => self.deed(number),
            Event::Return(back) => {
                let hosts = std::mem::take(&mut self.returns[back as usize]);
                self.start_hosts(&hosts);
            }
            Event::CheckLoop(host, broadcast) => self.check_loop(host, broadcast),
            Event::Heard { host, transcoder } => self.heard(host, transcoder),
            Event::CheckFeeds => self.check_feeds(),
            Event::Sample => {
                self.sample();
                let next = self.now + std::time::Duration::from_millis(SAMPLE_MS);
                self.events.push(next, Event::Sample);
            }
        }
    }

    /// The host that must be running for an event to happen; what happens to a dead one
    /// is the event's own matter.
    fn concerns(&self, event: Event) -> Option<HostIx> {
        match event {
            Event::Arrive(dir) => self.net.get(dir).map(|dir| dir.to),
            Event::Written(dir) => self.net.get(dir).map(|dir| dir.from),
            Event::Wake(host)
            | Event::Maintain(host)
            | Event::CloseSpare(host)
            | Event::Mischief(host)
            | Event::Heard { host, .. } => Some(host),
            Event::Late(late) => self.late.get(late).map(|(host, ..)| *host),
            Event::Part(broadcast) => self.owner(broadcast),
            Event::Drain(_)
            | Event::Open(_)
            | Event::Dialled(_)
            | Event::LateSend(_)
            | Event::Deed(_)
            | Event::Return(_)
            | Event::CheckLoop(..)
            | Event::CheckFeeds
            | Event::Sample => None,
        }
    }

    /// The host with this id.
    #[must_use]
    pub fn find(&self, id: &headwater_proto::NodeId) -> Option<HostIx> {
        let host = self.by_tag.get(&tag(id)).copied()?;
        (self.badges[host.at()].id == *id).then_some(host)
    }

    /// A node by its number, for people.
    fn name(&self, id: &headwater_proto::NodeId) -> String {
        self.find(id)
            .map_or_else(|| id.fmt_short(), |host| host.0.to_string())
    }

    /// The host that makes a broadcast.
    #[must_use]
    pub fn owner(&self, broadcast: u32) -> Option<HostIx> {
        self.find(&self.broadcasts.get(broadcast as usize)?.stream.node)
    }

    /// The broadcast with this stream.
    #[must_use]
    pub fn broadcast(&self, stream: &headwater_proto::StreamId) -> Option<u32> {
        // Broadcasts are numbered as their owners are.
        let number = self.find(&stream.node)?.0;
        let broadcast = self.broadcasts.get(number as usize)?;
        (broadcast.stream == *stream).then_some(number)
    }

    // ---- inputs --------------------------------------------------------------------

    /// Gives a node an input, unless it is dead, and carries out what it wants.
    pub fn input(&mut self, host: HostIx, input: Input) {
        match self.hosts[host.at()].health {
            Health::Up => {}
            // It learns of it when it goes on.
            Health::Frozen => {
                if let Input::Disconnected { peer } = &input {
                    self.hosts[host.at()].lost.push(*peer);
                }
                return self.input_later(host, self.now, input);
            }
            Health::Crashed | Health::Vanished => return,
        }
        if let Input::Disconnected { peer } = &input {
            self.hosts[host.at()].lost.retain(|lost| lost != peer);
            self.feeders_changed(host);
        }
        let (kind, name) = input_kind(&input);
        self.measure.count_input(kind, name);
        self.note(host, kind as u64, 0);
        if let Some(recorder) = &mut self.recorder {
            recorder.input(host.0, self.now, &input);
        }
        if let Some(mut narrator) = self.narrator.take() {
            narrator.input(host, self.now, &input, |id| self.name(id));
            self.narrator = Some(narrator);
        }
        let outer = std::mem::replace(&mut self.passing, passing(&input));
        self.hosts[host.at()].node.handle(self.now, input);
        while let Some(output) = self.hosts[host.at()].node.poll_output() {
            if let Some(recorder) = &mut self.recorder {
                recorder.output(host.0, &output);
            }
            if let Some(mut narrator) = self.narrator.take() {
                narrator.output(host, self.now, &output, |id| self.name(id));
                self.narrator = Some(narrator);
            }
            match &mut self.saboteur {
                None | Some(Saboteur::Deadlines(_)) => self.carry_out(host, output),
                Some(Saboteur::Outputs(change)) => {
                    for output in change(host, output) {
                        self.carry_out(host, output);
                    }
                }
            }
        }
        self.passing = outer;
        self.rearm(host);
    }

    /// Gives a node a command, and expects a reply to it.
    pub fn command(&mut self, host: HostIx, command: Command) {
        if !self.hosts[host.at()].is_up() {
            return;
        }
        self.commands += 1;
        self.open_commands.insert(self.commands, (host, self.now));
        let id = CommandId(self.commands);
        self.input(host, Input::Command { id, command });
    }

    /// Gives a node an input after a while, unless it was started anew until then.
    fn input_later(&mut self, host: HostIx, at: Time, input: Input) {
        let starts = self.hosts[host.at()].starts;
        let late = self.late.put((host, starts, input));
        self.events.push(at, Event::Late(late));
    }

    fn rearm(&mut self, host: HostIx) {
        let deadline = self.hosts[host.at()].node.poll_timeout();
        let mut wanted = deadline.map(|deadline| deadline.at.max(self.now));
        if let Some(Saboteur::Deadlines(change)) = &mut self.saboteur {
            wanted = change(host, wanted);
        }
        let wake = &mut self.wakes[host.at()];
        wake.wanted = wanted;
        if let Some(at) = wanted
            && wake.planned.is_none_or(|planned| at < planned)
        {
            wake.planned = Some(at);
            self.events.push(at, Event::Wake(host));
        }
    }

    fn wake(&mut self, host: HostIx) {
        let wake = &mut self.wakes[host.at()];
        // An earlier one took its place, or the node was started anew.
        if wake.planned.is_none_or(|planned| planned > self.now) {
            return;
        }
        wake.planned = None;
        match wake.wanted {
            None => return,
            Some(at) if at > self.now => {
                wake.planned = Some(at);
                return self.events.push(at, Event::Wake(host));
            }
            Some(_) => {}
        }
        self.busy = match self.busy {
            (at, who, times) if at == self.now && who == host => (at, who, times + 1),
            _ => (self.now, host, 1),
        };
        if self.busy.2 == BUSY {
            let why = self.hosts[host.at()].node.poll_timeout();
            let why = why.map_or("", |deadline| deadline.why);
            let seen = || format!("{BUSY} wake-ups at once for a {why}");
            self.checks.breach(self.now, host, Rule::BusyLoop, seen);
            return;
        }
        self.input(host, Input::Timeout);
    }

    /// Adds something to the trace's fingerprint.
    fn note(&mut self, host: HostIx, kind: u64, what: u64) {
        let place = self.now.as_micros() << 24 ^ u64::from(host.0);
        self.trace = mix(mix(self.trace, place), kind << 56 ^ what);
    }
}

/// Things that wait for their event, by number.
#[derive(Debug)]
struct Shelf<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Shelf<T> {
    fn put(&mut self, thing: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(thing);
            return place;
        }
        self.places.push(Some(thing));
        index32(self.places.len() - 1)
    }

    fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref()
    }

    fn take(&mut self, place: u32) -> Option<T> {
        let thing = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(thing)
    }
}

/// The numbers of a run fit into 32 bits.
fn index32(index: usize) -> u32 {
    u32::try_from(index).expect("a run has fewer than 2^32 of anything")
}

/// The routed request that a node is given.
fn passing(input: &Input) -> Option<Passing> {
    if let Input::Received { message, .. } = input {
        // What stands by is passed on to nobody: a search at that moment is another's.
        Passing::of(message).filter(|_| !stands_by(message))
    } else {
        None
    }
}

/// Whether a neighbour wants to hear of a stream, and no data of it.
fn stands_by(message: &Message) -> bool {
    matches!(message, Message::Sub(sub)
        if sub.from.is_some_and(|from| from.segment >= MAX_SEGMENT))
}

/// A number and a name for each kind of input.
const fn input_kind(input: &Input) -> (usize, &'static str) {
    match input {
        Input::Command { .. } => (0, "command"),
        Input::Connected { .. } => (1, "connected"),
        Input::Disconnected { .. } => (2, "disconnected"),
        Input::DialFailed { .. } => (3, "dial_failed"),
        Input::Received { .. } => (4, "received"),
        Input::Violation { .. } => (5, "violation"),
        Input::Writable { .. } => (6, "writable"),
        Input::Answer { .. } => (7, "answer"),
        Input::Timeout => (8, "timeout"),
        Input::Addresses { .. } => (9, "addresses"),
    }
}

/// What streams look like.
fn shape(scenario: &Scenario) -> Shape {
    let parts = if scenario.workload == Workload::Route {
        1
    } else {
        scenario.parts()
    };
    Shape::new(scenario.bitrate, scenario.part.millis(), parts)
}

fn broadcasts(scenario: &Scenario, hosts: &[Host]) -> Vec<Broadcast> {
    let mut dice = Dice::new(scenario.seed, "broadcasts");
    let count = match scenario.workload {
        Workload::Route => hosts.len(),
        Workload::Watch | Workload::Flash | Workload::Zap => scenario.broadcasters as usize,
        Workload::Status => 0,
    };
    let part = scenario.part.millis() * 1000;
    let mut begin = || {
        let mut id = [0; 16];
        id.copy_from_slice(&dice.seed()[..16]);
        // Encoders do not tick together.
        let begins = BEGIN + scenario.late.duration();
        let begins = begins + std::time::Duration::from_micros(dice.below(part));
        (id, begins)
    };
    hosts
        .iter()
        .take(count)
        .map(|host| {
            let (id, begins) = begin();
            Broadcast::new(host.key.clone(), id, begins)
        })
        .collect()
}

/// Who watches: nodes of any role but broadcasters, at random unless all.
fn viewers(scenario: &Scenario, hosts: &[Host]) -> Vec<HostIx> {
    let everybody = matches!(scenario.workload, Workload::Route | Workload::Status);
    let works = |host: &Host| host.roles.broadcaster || host.roles.transcoder;
    let may = |host: &Host| host.is_honest() && (everybody || !works(host));
    let all = (0..).map(HostIx).zip(hosts);
    let mut viewers: Vec<_> = all.filter(|(_, h)| may(h)).map(|(ix, _)| ix).collect();
    if let Some(count) = scenario.viewers {
        Dice::new(scenario.seed, "audience").shuffle(&mut viewers);
        viewers.truncate(count as usize);
        viewers.sort_unstable();
    }
    viewers
}

/// Who can't be dialled, and who is hostile.
fn choose_characters(scenario: &Scenario, hosts: &mut [Host]) {
    let mut dice = Dice::new(scenario.seed, "characters");
    for host in hosts.iter_mut().skip(scenario.broadcasters as usize) {
        host.dialable = host.roles.relayer || !dice.percent(scenario.nat);
        if dice.percent(scenario.hostile) && !host.roles.transcoder {
            let way = scenario.hostility[dice.index(scenario.hostility.len())];
            let own = Dice::new(dice.draw(), "hostile");
            host.hostile = Some(Box::new(Hostile::new(way, own)));
        }
    }
}
