//! A network under random mishaps, against a plain model of what each viewer must see.
//!
//! The model knows nothing of trees or links. It says: what is delivered of a stream is
//! what its owner appended, each part once and in order; what is left out is told as a
//! gap; the end comes when everything before it is accounted for, and nothing comes
//! after it or to one who did not ask. Every request for a status has one answer, in
//! time, and it is the status of the node that was asked for or a reason. And when the
//! mishaps end, everybody who waits plays on, and every request is answered with a status.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{Message, Position, Roles, StreamId};
use proptest::prelude::*;

use super::world::{PARTS, World, at, key, payload, relayer};
use crate::{Command, CommandError, CommandId, Config, Delivery, Reply, Time};

/// A request is answered within this: what its originator waits, and some.
const ANSWERED: std::time::Duration = std::time::Duration::from_secs(5);

const RELAYS: usize = 4;
const VIEWERS: usize = 4;
const HOSTS: usize = 1 + RELAYS + VIEWERS;

/// One mishap, or one thing that people do.
#[derive(Debug, Clone, Copy)]
enum Step {
    Append(u8),
    Subscribe(usize),
    Unsubscribe(usize),
    StartJob(usize),
    StopJob(usize),
    Connect(usize, usize),
    Cut(usize, usize),
    Restart(usize),
    Freeze(usize),
    Slow(usize, usize),
    LoseData(usize, usize),
    Mute(usize),
    Ask(usize, usize),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let host = 0..HOSTS;
    let viewer = 1 + RELAYS..HOSTS;
    let asker = viewer.clone();
    let relay = 1..=RELAYS;
    prop_oneof![
        6 => (1_u8..6).prop_map(Step::Append),
        3 => viewer.clone().prop_map(Step::Subscribe),
        1 => viewer.clone().prop_map(Step::Unsubscribe),
        1 => viewer.clone().prop_map(Step::StartJob),
        1 => viewer.prop_map(Step::StopJob),
        4 => (host.clone(), host.clone()).prop_map(|(a, b)| Step::Connect(a, b)),
        2 => (host.clone(), host.clone()).prop_map(|(a, b)| Step::Cut(a, b)),
        1 => relay.clone().prop_map(Step::Restart),
        1 => relay.clone().prop_map(Step::Freeze),
        1 => (host.clone(), host.clone()).prop_map(|(a, b)| Step::Slow(a, b)),
        2 => (host.clone(), host).prop_map(|(a, b)| Step::LoseData(a, b)),
        1 => relay.prop_map(Step::Mute),
        3 => (asker, 0..HOSTS).prop_map(|(a, b)| Step::Ask(a, b)),
        3 => (1_u16..3000).prop_map(Step::Wait),
    ]
}

/// What one viewer has seen since it subscribed.
#[derive(Debug, Default, Clone)]
struct Seen {
    wanted: bool,
    jobs: BTreeSet<u64>,
    /// The part that has to come next; `None` before the first.
    next: Option<Position>,
    finished: bool,
    inits: BTreeSet<u32>,
}

impl Seen {
    fn wants(&self) -> bool {
        self.wanted || !self.jobs.is_empty()
    }

    fn begin(&mut self) {
        if !self.wants() {
            *self = Self::default();
        }
    }
}

struct Play {
    world: World,
    stream: StreamId,
    next: Position,
    seen: BTreeMap<usize, Seen>,
    /// Requests for a status: whose, which, of whom, and until when it must be answered.
    asked: Vec<(usize, CommandId, usize, Time)>,
    /// Deliveries of each host that were looked at.
    read: BTreeMap<usize, usize>,
}

fn data(message: &Message) -> bool {
    matches!(message, Message::Part(_) | Message::Chunk(_))
}

impl Play {
    fn new() -> Self {
        let mut world = World::new(0, 0);
        for number in 1..HOSTS {
            let roles = if number <= RELAYS {
                relayer()
            } else {
                Roles::default()
            };
            let mut config = Config::for_roles(roles);
            config.max_children = 3;
            world.add_with(key(number as u8), config);
        }
        for relay in 1..=RELAYS {
            world.connect(0, relay);
            for viewer in 1 + RELAYS..HOSTS {
                if (relay + viewer).is_multiple_of(2) {
                    world.connect(relay, viewer);
                }
            }
        }
        let stream = world.publish();
        Self {
            world,
            stream,
            next: at(0, 0),
            seen: (0..HOSTS).map(|host| (host, Seen::default())).collect(),
            asked: Vec::new(),
            read: BTreeMap::new(),
        }
    }

    fn run(&mut self, millis: u64) {
        self.world.run(millis);
        self.check();
    }

    fn append(&mut self) {
        let Position { segment, part } = self.next;
        self.world.append(0, &self.stream, segment, part);
        self.next = follower(self.next);
        self.run(50);
    }

    /// Loses every link of a host, as when its machine goes down.
    fn isolate(&mut self, host: usize) {
        for other in 0..HOSTS {
            self.world.cut(host, other);
        }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Append(parts) => (0..parts).for_each(|_| self.append()),
            Step::Subscribe(host) => {
                let seen = self.seen.get_mut(&host).unwrap();
                seen.begin();
                seen.wanted = true;
                self.world.subscribe(host, &self.stream);
            }
            Step::Unsubscribe(host) => {
                if std::mem::take(&mut self.seen.get_mut(&host).unwrap().wanted) {
                    self.world.unsubscribe(host, &self.stream);
                }
            }
            Step::StartJob(host) => {
                let job = host as u64;
                let seen = self.seen.get_mut(&host).unwrap();
                seen.begin();
                if seen.jobs.insert(job) {
                    self.world.start_job(host, job, &self.stream);
                }
            }
            Step::StopJob(host) => {
                let job = headwater_proto::JobId(host as u64);
                if self.seen.get_mut(&host).unwrap().jobs.remove(&job.0) {
                    self.world.must(host, Command::StopJob { job });
                }
            }
            Step::Connect(a, b) if a != b && !self.world.linked(a, b) => self.world.connect(a, b),
            Step::Cut(a, b) => self.world.cut(a, b),
            Step::Restart(host) => {
                self.isolate(host);
                self.world
                    .reconfigure(host, |config| config.max_children = 3);
                self.world.hosts[host].swallows = None;
            }
            Step::Freeze(host) => {
                self.world.freeze(host);
                self.run(2000);
                // By now its links have broken, whatever it thinks.
                self.world.hosts[host].alive = true;
                self.isolate(host);
            }
            Step::Slow(a, b) if self.world.linked(a, b) => self.world.throttle(a, b, 500_000),
            Step::LoseData(a, b) => self.world.lose(a, b, data),
            Step::Mute(host) => {
                let muted = &mut self.world.hosts[host].swallows;
                *muted = muted.is_none().then_some(data as fn(&Message) -> bool);
            }
            Step::Ask(host, of) => self.ask(host, of),
            Step::Wait(millis) => self.run(u64::from(millis)),
            Step::Connect(..) | Step::Slow(..) => {}
        }
        self.check();
    }

    /// Compares what was delivered since the last time with the model.
    fn check(&mut self) {
        for host in 0..HOSTS {
            let read = self.read.entry(host).or_default();
            let seen = self.seen.get_mut(&host).unwrap();
            for (stream, delivery) in &self.world.hosts[host].deliveries[*read..] {
                assert_eq!(*stream, self.stream);
                match delivery {
                    Delivery::Waiting(_) => continue,
                    _ => assert!(seen.wants() && !seen.finished, "{host}: {delivery:?}"),
                }
                take(seen, self.next, delivery);
            }
            *read = self.world.hosts[host].deliveries.len();
        }
        self.check_answers();
    }

    fn ask(&mut self, host: usize, of: usize) {
        let node = self.world.id(of);
        let id = self.world.command(host, Command::RequestStatus { node });
        let until = self.world.now + ANSWERED;
        self.asked.push((host, id, of, until));
    }

    /// Every request that had its time has an answer, and the right one.
    fn check_answers(&self) {
        for (host, id, of, until) in &self.asked {
            match self.world.hosts[*host].replies.get(id) {
                None => assert!(self.world.now < *until, "host {host} waits for {id:?}"),
                Some(Ok(Reply::Status(body))) => {
                    assert_eq!(body.value().node, self.world.id(*of));
                    assert!(body.verify().is_ok());
                }
                Some(Ok(other)) => panic!("host {host} asked for a status: {other:?}"),
                Some(Err(error)) => assert!(matches!(error, CommandError::Failed(_)), "{error:?}"),
            }
        }
    }

    /// Ends all mishaps.
    fn heal(&mut self) {
        for host in 0..HOSTS {
            self.world.hosts[host].swallows = None;
            self.isolate(host);
        }
        for relay in 1..=RELAYS {
            for other in (0..HOSTS).filter(|other| *other != relay) {
                if !self.world.linked(relay, other) {
                    self.world.connect(relay, other);
                }
            }
        }
    }

    fn finish(&mut self) {
        while self.next.part != 0 {
            self.append();
        }
        let last = self.next.segment.checked_sub(1);
        self.world.finish(&self.stream, last);
        self.run(6000);
    }
}

fn follower(position: Position) -> Position {
    if position.part + 1 == PARTS {
        at(position.segment + 1, 0)
    } else {
        at(position.segment, position.part + 1)
    }
}

fn take(seen: &mut Seen, made: Position, delivery: &Delivery) {
    match delivery {
        Delivery::Init { index, .. } => {
            seen.inits.insert(*index);
        }
        Delivery::Part {
            position,
            media,
            chunks,
        } => {
            assert!(seen.inits.contains(&media.init), "an init comes first");
            assert!(*position < made, "it was made");
            assert_eq!(chunks.concat(), payload(*position));
            match seen.next {
                None => assert_eq!(position.part, 0, "it begins with a segment"),
                Some(next) => assert_eq!(*position, next, "in order, each once"),
            }
            seen.next = Some(follower(*position));
        }
        Delivery::Gap { from, to } => {
            assert_eq!(Some(*from), seen.next, "a gap follows what came");
            assert!(from < to && *to <= made, "{to:?}");
            seen.next = Some(*to);
        }
        Delivery::Finished => {
            assert!(seen.next.is_none_or(|next| next == made), "all came");
            seen.finished = true;
        }
        Delivery::Waiting(_) => {}
    }
}

fn play(steps: &[Step]) {
    let mut play = Play::new();
    for step in steps {
        play.act(*step);
    }
    play.heal();
    play.run(12_000);
    (0..2 * PARTS).for_each(|_| play.append());
    play.run(3000);
    let last = play.asked.len();
    for viewer in 1 + RELAYS..HOSTS {
        play.ask(viewer, 0);
        play.ask(viewer, 1);
    }
    play.run(6000);
    for (host, id, of, _) in &play.asked[last..] {
        let reply = &play.world.hosts[*host].replies[id];
        assert!(
            reply.is_ok(),
            "host {host} asked for that of {of}: {reply:?}"
        );
    }
    let next = play.next;
    for (host, seen) in &play.seen {
        let came = seen.next;
        assert!(
            !seen.wants() || came == Some(next),
            "host {host} stands at {came:?}, not {next:?}"
        );
    }
    play.finish();
    for (host, seen) in &play.seen {
        assert!(!seen.wants() || seen.finished, "host {host} saw no end");
    }
    play.run(45_000);
    for host in 0..HOSTS {
        let left = play.world.hosts[host].node.streams().count();
        assert_eq!(left, 0, "host {host} has forgotten it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: super::cases(16),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_viewers_see_what_was_made_and_requests_are_answered(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        play(&steps);
    }
}
