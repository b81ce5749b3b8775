//! A broadcaster under random claims, answers, links and commands, against a plain model of
//! who may be checked, fed and dialled.
//!
//! The model knows no states. It says: a claim is checked once, and only if it is newer than
//! what has held, and to the stream of what holds, and if not too many that came from the same
//! neighbour are being checked; nothing else is asked about it. A check counts as refused when
//! it has no answer for [`ASK_PATIENCE`]. Only its answer grants anything, and only if neither
//! the job was revoked nor the stream is over since it was asked for, nor has a newer one held.
//! A subscription is sent data if it came with no
//! claim, or with one that was granted, or is the transcoder's own, and until the job is
//! revoked. Dialled is in the moment of a grant, at the addresses of the answer, a
//! transcoder that is not linked and not being dialled, three times in a minute.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use headwater_proto::{Message, NoRouteReason, NodeId, RequestId, SubState};
use proptest::prelude::*;

use super::desk::{Claim, Desk, address, number};
use crate::{AskId, Command, Config, DialId, Input, Output, Priority, Time, cx::ASK_PATIENCE};

/// Neighbours: relays 1 and 2, transcoders 3 and 4.
const PEERS: std::ops::RangeInclusive<u8> = 1..=4;
/// The same claim may come again for this long.
const AGAIN_MS: u64 = 10_000;
/// Claims of one neighbour that are checked at a time.
const CHECKS: usize = 16;
/// Dials are counted over this long ...
const MINUTE_MS: u64 = 60_000;
/// ... and are at most so many.
const DIALS: usize = 3;

/// A transcoder and its job.
type Name = (u8, u64);
/// A subscription: whose, and its stream. A neighbour has one for each stream.
type Seat = (u8, u8);

#[derive(Debug, Clone, Copy)]
enum Step {
    Connect(u8),
    Disconnect(u8),
    Publish(u8),
    Finish(u8),
    Unpublish(u8),
    Append(u8),
    Claim(u8, Claim, bool),
    /// The last claim once more, from somebody else perhaps.
    Repeat(u8, bool),
    Subscribe(u8, u8),
    Cancel(u8, u8),
    /// Which check, and whether it holds.
    Answer(usize, bool),
    /// Which dial, and whether it led anywhere.
    Dialled(usize, bool),
    Revoke(u8, u64),
    /// A newer claim that holds, and whose dial fails.
    Refresh(Claim),
    Wait(u64),
}

fn claim() -> impl Strategy<Value = Claim> {
    let who = (3_u8..=4, 1_u64..=2, prop::bool::weighted(0.1));
    let what = (1_u64..9, 1_u8..=2, prop::bool::weighted(0.2));
    (who, what).prop_map(
        |((transcoder, job, other), (sequence, address, forged))| Claim {
            transcoder,
            job,
            // The job's own stream, nearly always.
            stream: u8::from((job == 2) != other),
            sequence,
            address,
            forged,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let peer = PEERS;
    let stream = 0_u8..2;
    let often = prop::bool::weighted(0.75);
    prop_oneof![
        4 => peer.clone().prop_map(Step::Connect),
        1 => peer.clone().prop_map(Step::Disconnect),
        2 => stream.clone().prop_map(Step::Publish),
        1 => stream.clone().prop_map(Step::Finish),
        1 => stream.clone().prop_map(Step::Unpublish),
        5 => stream.clone().prop_map(Step::Append),
        12 => (peer.clone(), claim(), often).prop_map(|(p, c, b)| Step::Claim(p, c, b)),
        3 => (peer.clone(), often).prop_map(|(p, b)| Step::Repeat(p, b)),
        2 => (peer.clone(), stream.clone()).prop_map(|(p, s)| Step::Subscribe(p, s)),
        1 => (peer, stream).prop_map(|(p, s)| Step::Cancel(p, s)),
        10 => (0_usize..4, often).prop_map(|(a, holds)| Step::Answer(a, holds)),
        4 => (0_usize..4, often).prop_map(|(d, linked)| Step::Dialled(d, linked)),
        2 => (3_u8..=4, 1_u64..=2).prop_map(|(t, j)| Step::Revoke(t, j)),
        6 => claim().prop_map(Step::Refresh),
        4 => (1_u64..4_000).prop_map(Step::Wait),
        1 => (9_000_u64..70_000).prop_map(Step::Wait),
    ]
}

/// Why a neighbour has a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// Like everybody.
    Plain,
    /// A claim that has not been decided.
    Waits(Claim),
    /// A job.
    Fed(Name),
}

#[derive(Debug, Default)]
struct Model {
    linked: BTreeSet<u8>,
    open: BTreeSet<u8>,
    held: BTreeMap<Name, (Claim, Time)>,
    /// The greatest sequence that has held.
    newest: BTreeMap<Name, u64>,
    /// With the neighbour that the claim came from.
    checking: BTreeMap<AskId, (Claim, u8)>,
    /// Whose claim is to be checked next.
    brought_by: u8,
    seats: BTreeMap<Seat, (RequestId, Basis)>,
    dials: BTreeMap<Name, Vec<Time>>,
    dialling: BTreeMap<DialId, Name>,
}

/// What an input may bring, beside what concerns neither claims nor data.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    checks: Vec<Claim>,
    dials: Vec<(u8, u8)>,
    /// Subscriptions that are turned away.
    refused: BTreeSet<(u8, RequestId)>,
    /// Subscriptions for whose claim there is no room.
    overloaded: BTreeSet<(u8, RequestId)>,
    /// Subscriptions that are told they are live.
    live: BTreeSet<(u8, RequestId)>,
    stale: u64,
}

struct Play {
    desk: Desk,
    model: Model,
    /// Checks without an answer and since when, the oldest first.
    asks: Vec<(AskId, Time)>,
    dials: Vec<DialId>,
    last: Option<Claim>,
}

impl Model {
    /// What comes of a claim.
    fn claim(
        &mut self,
        seat: Seat,
        request: RequestId,
        claim: Claim,
        branch: bool,
        now: Time,
    ) -> Wanted {
        let name = (claim.transcoder, claim.job);
        let mut wanted = Wanted::default();
        if !self.open.contains(&claim.stream) {
            wanted.refused.extend(branch.then_some((seat.0, request)));
            return wanted;
        }
        let own = seat.0 == claim.transcoder
            && (self.held.get(&name)).is_some_and(|(held, _)| held.stream == claim.stream);
        let again = self.held.get(&name).is_some_and(|(held, since)| {
            let same = Claim {
                forged: held.forged,
                ..claim
            };
            same == *held && now.since(*since).as_millis() <= u128::from(AGAIN_MS)
        });
        let mut checking = self.checking.values();
        let known = checking.any(|(known, _)| *known == claim);
        let others = self.checking.values().filter(|(_, from)| *from == seat.0);
        let room = others.count() < CHECKS;
        let basis = if again {
            Basis::Fed(name)
        } else if self
            .newest
            .get(&name)
            .is_some_and(|newest| claim.sequence <= *newest)
        {
            wanted.stale = 1;
            return wanted;
        } else if let Some((held, _)) = self.held.get(&name)
            && held.stream != claim.stream
        {
            wanted.refused.extend(branch.then_some((seat.0, request)));
            return wanted;
        } else {
            if !known && !room {
                wanted
                    .overloaded
                    .extend(branch.then_some((seat.0, request)));
                return wanted;
            }
            if !known {
                wanted.checks.push(claim);
                self.brought_by = seat.0;
            }
            if own {
                Basis::Fed(name)
            } else {
                Basis::Waits(claim)
            }
        };
        if branch {
            self.seat(seat, request, basis, &mut wanted);
        }
        wanted
    }

    fn seat(&mut self, seat: Seat, request: RequestId, basis: Basis, wanted: &mut Wanted) {
        self.seats.insert(seat, (request, basis));
        if !matches!(basis, Basis::Waits(_)) {
            wanted.live.insert((seat.0, request));
        }
    }

    fn turn_away(&mut self, wanted: &mut Wanted, which: Basis) {
        self.seats.retain(|(peer, _), (request, basis)| {
            if *basis == which {
                wanted.refused.insert((*peer, *request));
            }
            *basis != which
        });
    }

    fn subscribe(&mut self, seat: Seat, request: RequestId) -> Wanted {
        let mut wanted = Wanted::default();
        if !self.open.contains(&seat.1) {
            wanted.refused.insert((seat.0, request));
            return wanted;
        }
        let job = self.job_of(seat);
        let basis = job.map_or(Basis::Plain, |job| Basis::Fed((seat.0, job)));
        self.seat(seat, request, basis, &mut wanted);
        wanted
    }

    /// The job for which a transcoder is fed with a stream.
    fn job_of(&self, (peer, stream): Seat) -> Option<u64> {
        let mut jobs = self.held.iter();
        let found = jobs.find(|((t, _), (claim, _))| *t == peer && claim.stream == stream);
        found.map(|((_, job), _)| *job)
    }

    /// What comes of the answer to a check.
    fn answer(&mut self, ask: AskId, holds: bool, now: Time) -> Wanted {
        let mut wanted = Wanted::default();
        let Some((claim, _)) = self.checking.remove(&ask) else {
            return wanted;
        };
        let name = (claim.transcoder, claim.job);
        let newer = |newest: &u64| claim.sequence > *newest;
        let newer = self.newest.get(&name).is_none_or(newer);
        let held = self.held.get(&name).map(|(held, _)| held.stream);
        if holds && newer && held.is_none_or(|held| held == claim.stream) {
            self.grant(name, claim, now, &mut wanted);
        } else {
            wanted.stale = u64::from(holds);
            self.turn_away(&mut wanted, Basis::Waits(claim));
        }
        wanted
    }

    fn grant(&mut self, name: Name, claim: Claim, now: Time, wanted: &mut Wanted) {
        self.held.insert(name, (claim, now));
        self.newest.insert(name, claim.sequence);
        for ((peer, stream), (request, basis)) in &mut self.seats {
            let own = *peer == name.0 && *stream == claim.stream && *basis == Basis::Plain;
            if *basis == Basis::Waits(claim) {
                wanted.live.insert((*peer, *request));
            }
            if own || *basis == Basis::Waits(claim) {
                *basis = Basis::Fed(name);
            }
        }
        let dials = self.dials.entry(name).or_default();
        dials.retain(|at| now.since(*at).as_millis() <= u128::from(MINUTE_MS));
        let busy = self.dialling.values().any(|dialled| *dialled == name);
        if !self.linked.contains(&name.0) && !busy && dials.len() < DIALS {
            wanted.dials.push((name.0, claim.address));
            dials.push(now);
        }
    }

    fn revoke(&mut self, name: Name) -> Wanted {
        let mut wanted = Wanted::default();
        self.end(name, &mut wanted);
        let Some((claim, _)) = self.held.remove(&name) else {
            return wanted;
        };
        match self.job_of((name.0, claim.stream)) {
            None => self.turn_away(&mut wanted, Basis::Fed(name)),
            Some(other) => {
                for (_, basis) in self.seats.values_mut() {
                    if *basis == Basis::Fed(name) {
                        *basis = Basis::Fed((name.0, other));
                    }
                }
            }
        }
        wanted
    }

    /// Nothing that is not decided counts any more.
    fn end(&mut self, name: Name, wanted: &mut Wanted) {
        let of = |claim: &Claim| (claim.transcoder, claim.job) == name;
        let over = self.checking.extract_if(.., |_, (claim, _)| of(claim));
        for (_, (claim, _)) in over.collect::<Vec<_>>() {
            self.turn_away(wanted, Basis::Waits(claim));
        }
        self.dialling.retain(|_, dialled| *dialled != name);
    }

    /// A stream is made no more; `told` when it has ended, so that nobody is turned away
    /// who has all of it.
    fn over(&mut self, stream: u8, ended: bool) -> Wanted {
        let mut wanted = Wanted::default();
        if !self.open.remove(&stream) {
            return wanted;
        }
        for ((peer, of), (request, basis)) in &self.seats {
            if *of == stream && (!ended || matches!(basis, Basis::Waits(_))) {
                wanted.refused.insert((*peer, *request));
            }
        }
        self.seats.retain(|(_, of), _| *of != stream);
        let of = |claim: &Claim| claim.stream == stream;
        let over = self.checking.extract_if(.., |_, (claim, _)| of(claim));
        for (_, (claim, _)) in over.collect::<Vec<_>>() {
            self.turn_away(&mut wanted, Basis::Waits(claim));
        }
        let over = self.held.extract_if(.., |_, (claim, _)| of(claim));
        let over: BTreeSet<_> = over.map(|(name, _)| name).collect();
        self.dialling.retain(|_, dialled| !over.contains(dialled));
        wanted
    }

    fn disconnect(&mut self, peer: u8) {
        self.linked.remove(&peer);
        self.seats.retain(|(of, _), _| *of != peer);
    }
}

impl Play {
    fn new() -> Self {
        let mut play = Self {
            desk: Desk::new(Config::default()),
            model: Model::default(),
            asks: Vec::new(),
            dials: Vec::new(),
            last: None,
        };
        for peer in [1, 2] {
            play.act(Step::Connect(peer));
        }
        for stream in [0, 1] {
            play.act(Step::Publish(stream));
        }
        play
    }

    fn act(&mut self, step: Step) {
        let Step::Refresh(claim) = step else {
            return self.act_once(step);
        };
        let name = (claim.transcoder, claim.job);
        let newest = self.model.newest.get(&name).copied().unwrap_or_default();
        let claim = Claim {
            sequence: newest + 1,
            ..claim
        };
        self.act_once(Step::Claim(1, claim, false));
        self.act_once(Step::Answer(self.asks.len().saturating_sub(1), true));
        self.act_once(Step::Dialled(self.dials.len().saturating_sub(1), false));
    }

    fn act_once(&mut self, step: Step) {
        let afterwards = 20;
        let waits = if let Step::Wait(millis) = step {
            millis
        } else {
            0
        };
        self.give_up(Duration::from_millis(waits + afterwards));
        let stale = self.desk.node.stats().stale_claims;
        let (outputs, wanted) = self.apply(step);
        let now = self.desk.node.stats().stale_claims;
        let mut seen = self.see(&outputs);
        seen.stale = now - stale;
        // Who is told it is live again has been before.
        seen.live.retain(|one| wanted.live.contains(one));
        assert_eq!(seen, wanted, "after {step:?}");
        self.check_data(&outputs);
        if let Step::Append(stream) = step {
            self.check_fed(stream, &outputs);
        }
        let outputs = self.desk.pass(afterwards);
        assert_eq!(self.see(&outputs).checks, []);
        self.check_data(&outputs);
    }

    /// Lets time go on to where each of the checks is given up that would be within a time.
    fn give_up(&mut self, within: Duration) {
        while let Some((ask, since)) = self.asks.first().copied()
            && since + ASK_PATIENCE <= self.desk.now + within
        {
            self.asks.remove(0);
            let left = (since + ASK_PATIENCE).since(self.desk.now);
            // Others that were asked for at the same time are given up at once, too.
            let same = self.asks.iter().take_while(|(_, other)| *other == since);
            let same: Vec<_> = same.map(|(ask, _)| *ask).collect();
            self.asks.drain(..same.len());
            let outputs = self.desk.pass(u64::try_from(left.as_millis()).unwrap());
            let mut wanted = Wanted::default();
            for ask in std::iter::once(ask).chain(same) {
                let of = self.model.answer(ask, false, self.desk.now);
                wanted.checks.extend(of.checks);
                wanted.refused.extend(of.refused);
            }
            let mut seen = self.see(&outputs);
            seen.live.clear();
            assert_eq!(seen, wanted, "{ask:?} is given up");
            self.check_data(&outputs);
        }
    }

    fn apply(&mut self, step: Step) -> (Vec<Output>, Wanted) {
        let now = self.desk.now;
        let nothing = (Vec::new(), Wanted::default());
        match step {
            Step::Connect(peer) => {
                if !self.model.linked.insert(peer) {
                    return nothing;
                }
                (self.desk.connect(peer, None), Wanted::default())
            }
            Step::Disconnect(peer) => {
                self.model.disconnect(peer);
                (self.desk.disconnect(peer), Wanted::default())
            }
            Step::Publish(stream) => {
                if !self.model.open.insert(stream) {
                    return nothing;
                }
                let mut outputs = self.desk.publish(stream);
                outputs.extend(self.desk.append(stream));
                (outputs, Wanted::default())
            }
            Step::Finish(stream) => {
                let wanted = self.model.over(stream, true);
                (self.desk.finish(stream), wanted)
            }
            Step::Unpublish(stream) => {
                let wanted = self.model.over(stream, false);
                let stream = self.desk.stream(stream);
                (self.desk.command(Command::Unpublish { stream }), wanted)
            }
            Step::Append(stream) if self.model.open.contains(&stream) => {
                (self.desk.append(stream), Wanted::default())
            }
            Step::Claim(peer, claim, branch) if self.model.linked.contains(&peer) => {
                self.last = Some(claim);
                let (request, outputs) = self.desk.claim(peer, claim, branch);
                let seat = (peer, claim.stream);
                (outputs, self.model.claim(seat, request, claim, branch, now))
            }
            Step::Repeat(peer, branch) => match self.last {
                Some(claim) => self.apply(Step::Claim(peer, claim, branch)),
                None => nothing,
            },
            Step::Subscribe(peer, stream)
                if self.model.linked.contains(&peer) && self.model.open.contains(&stream) =>
            {
                let request = self.desk.request();
                let sub = headwater_proto::Sub {
                    request,
                    stream: self.desk.stream(stream),
                    from: None,
                    hops_left: 8,
                };
                let outputs = self.desk.arrive(peer, Message::Sub(Box::new(sub)));
                (outputs, self.model.subscribe((peer, stream), request))
            }
            Step::Cancel(peer, stream) => match self.model.seats.remove(&(peer, stream)) {
                Some((request, _)) => {
                    let cancel = Message::Cancel(headwater_proto::Cancel { request });
                    (self.desk.arrive(peer, cancel), Wanted::default())
                }
                None => nothing,
            },
            Step::Answer(which, holds) if !self.asks.is_empty() => {
                let (ask, _) = self.asks.remove(which % self.asks.len());
                let claim = self.model.checking.get(&ask);
                let addresses = claim.map_or(7, |(claim, _)| claim.address);
                let wanted = self.model.answer(ask, holds, now);
                (self.desk.answer(ask, holds.then_some(addresses)), wanted)
            }
            Step::Dialled(which, linked) if !self.dials.is_empty() => {
                let dial = self.dials.remove(which % self.dials.len());
                let name = self.model.dialling.remove(&dial);
                match name.filter(|_| linked) {
                    Some((peer, _)) => {
                        self.model.disconnect(peer);
                        self.model.linked.insert(peer);
                        (self.desk.connect(peer, Some(dial)), Wanted::default())
                    }
                    None => (
                        self.desk.give(Input::DialFailed { dial }),
                        Wanted::default(),
                    ),
                }
            }
            Step::Revoke(transcoder, job) => {
                let wanted = self.model.revoke((transcoder, job));
                (self.desk.revoke(transcoder, job), wanted)
            }
            Step::Wait(millis) => (self.desk.pass(millis), Wanted::default()),
            Step::Append(_)
            | Step::Claim(..)
            | Step::Subscribe(..)
            | Step::Answer(..)
            | Step::Dialled(..)
            | Step::Refresh(_) => nothing,
        }
    }

    /// What the node wants, as far as the model says something about it.
    fn see(&mut self, outputs: &[Output]) -> Wanted {
        let mut seen = Wanted::default();
        for output in outputs {
            match output {
                Output::Ask { ask, question } => {
                    let claim = Desk::asked(question).expect("a broadcaster asks nothing else");
                    let from = self.model.brought_by;
                    self.model.checking.insert(*ask, (claim, from));
                    self.asks.push((*ask, self.desk.now));
                    seen.checks.push(claim);
                }
                Output::Dial {
                    dial,
                    peer,
                    addresses,
                } => {
                    let peer = number(peer);
                    let to = (0..8).find(|number| *addresses == [address(*number)]);
                    seen.dials.push((peer, to.unwrap()));
                    self.dials.push(*dial);
                    let granted = self.model.held.iter().filter(|((t, _), _)| *t == peer);
                    let newest = granted.max_by_key(|(_, (_, since))| *since);
                    let (name, _) = newest.expect("a dial is of one that holds");
                    self.model.dialling.insert(*dial, *name);
                }
                Output::Send { to, message, .. } => see_answer(&mut seen, to, message),
                Output::Disconnect { peer, reason } => panic!("closes {peer}: {reason:?}"),
                _ => {}
            }
        }
        seen
    }

    /// Parts and chunks go only to those who may have them, in the class that is theirs.
    fn check_data(&self, outputs: &[Output]) {
        for output in outputs {
            let Output::Send {
                to,
                message,
                priority,
            } = output
            else {
                continue;
            };
            let request = match message {
                Message::Part(part) => part.request,
                Message::Chunk(chunk) => chunk.request,
                _ => continue,
            };
            let mut seats = self.model.seats.iter();
            let seat = seats.find(|((peer, _), (of, _))| *of == request && *peer == number(to));
            let Some((_, (_, basis))) = seat else {
                panic!("data on {request:?}, which nobody has: {message:?}");
            };
            match basis {
                Basis::Plain => assert_ne!(*priority, Priority::Feed),
                Basis::Fed(name) => {
                    assert_eq!(*priority, Priority::Feed, "{name:?}");
                    assert!(self.model.held.contains_key(name), "{name:?}");
                }
                Basis::Waits(claim) => panic!("data before the answer about {claim:?}"),
            }
        }
    }

    /// All who may have a stream are sent its newest part.
    fn check_fed(&self, stream: u8, outputs: &[Output]) {
        if !self.model.open.contains(&stream) {
            return;
        }
        for ((peer, of), (request, basis)) in &self.model.seats {
            if *of != stream || matches!(basis, Basis::Waits(_)) {
                continue;
            }
            let sent = outputs.iter().any(|output| match output {
                Output::Send {
                    message: Message::Part(part),
                    ..
                } => part.request == *request,
                _ => false,
            });
            assert!(sent, "{peer} is not sent {stream} on {basis:?}");
        }
    }
}

fn see_answer(seen: &mut Wanted, to: &NodeId, message: &Message) {
    match message {
        Message::NotFound(answer) => {
            assert!(seen.refused.insert((number(to), answer.request)));
        }
        Message::SubAck(ack) if matches!(ack.state, SubState::Live(_)) => {
            seen.live.insert((number(to), ack.request));
        }
        Message::NoRoute(answer) => {
            assert_eq!(answer.reason, NoRouteReason::Overloaded);
            assert!(seen.overloaded.insert((number(to), answer.request)));
        }
        Message::Redirect(_) => panic!("{message:?}"),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: super::cases(256),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn only_what_holds_is_fed_and_dialled_and_only_as_long_as_it_does(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut play = Play::new();
        for step in steps {
            play.act(step);
        }
    }
}
