//! How links come, carry and go: what the node's network driver does.

use std::time::Duration;

use headwater_proto::{LinkVerifier, Message, NodeId};
use headwater_protocol::{
    Answer, AskId, DialId, DisconnectReason, Input, Link, Priority, message_cost,
};

use super::{Attempt, Event, Why, World};
use crate::{
    checks::{self, Rule, Whose},
    dice::Dice,
    host::{Health, HostIx},
    net::{CREDIT, DirIx, Due, Parcel, TOGETHER},
    scenario::{Distance, Topology},
    topology::{NEAREST, PER_BUCKET},
    wire,
};

/// Ways over the link that a connection takes until both sides have said Hello.
const HANDSHAKE_WAYS: u64 = 4;
/// Ways over a link that a walk through the network's table takes.
const LOOKUP_WAYS: u64 = 6;
/// A dial that nobody answers is given up after this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// A driver looks for new neighbours about this long after it lost one, in ms.
const MAINTAIN_MS: u64 = 1_000;
/// A link that only the node wanted is closed when nothing has used it for this long.
const SPARE_AFTER: Duration = Duration::from_mins(1);
/// A driver looks this often for such links, while there are any that may become spare.
const SPARE_LOOK: Duration = Duration::from_secs(5);
/// One-way latency in microseconds at each tenth of all links, for
/// [`Distance::Internet`].
const INTERNET: [u64; 11] = [
    3_000, 7_000, 11_000, 15_000, 20_000, 25_000, 32_000, 42_000, 55_000, 85_000, 200_000,
];

impl World {
    // ---- making links --------------------------------------------------------------

    pub(super) fn open_planned(&mut self, link: u32) {
        let (a, b) = self.plan_links[link as usize];
        let latency = self.draw_latency();
        if self.can_meet(a, b) && self.line_of(a, b).is_none() {
            self.connect(a, b, None, latency);
        }
    }

    /// A node asks for somebody closer to a target: a walk through the network's table,
    /// which here knows who is alive, and then a dial.
    pub(super) fn look_up(&mut self, from: HostIx, target: &NodeId, ask: AskId) {
        let walk = Duration::from_micros(LOOKUP_WAYS * self.draw_latency());
        let goal = target.routing_key().prefix();
        let own = self.hosts[from.at()].prefix ^ goal;
        let found = self.find(target).filter(|to| self.can_meet(from, *to));
        let found = found.filter(|to| self.hosts[to.at()].dialable).or_else(|| {
            let closer = |host: HostIx| {
                let other = &self.hosts[host.at()];
                other.prefix ^ goal < own && host != from && self.can_meet(from, host)
            };
            self.space.nearest(goal, 1, closer).first().copied()
        });
        let Some(to) = found.filter(|to| self.line_of(from, *to).is_none()) else {
            let answer = Answer::Lookup;
            return self.input_later(from, self.now + walk, Input::Answer { ask, answer });
        };
        self.attempt(from, to, Why::Lookup(ask), walk);
    }

    /// Tries to connect.
    pub(super) fn dial(&mut self, from: HostIx, to: HostIx, why: Why) {
        self.attempt(from, to, why, Duration::ZERO);
    }

    fn attempt(&mut self, from: HostIx, to: HostIx, why: Why, walk: Duration) {
        let latency_us = self.draw_latency();
        let attempt = Attempt {
            from,
            starts: self.hosts[from.at()].starts,
            to,
            why,
            latency_us,
        };
        let target = &self.hosts[to.at()];
        let wait = match target.health {
            Health::Crashed => Duration::from_micros(2 * latency_us),
            Health::Vanished | Health::Frozen => DIAL_TIMEOUT,
            Health::Up if !self.may_dial(from, to) => DIAL_TIMEOUT,
            Health::Up => Duration::from_micros(HANDSHAKE_WAYS * latency_us),
        };
        let attempt = self.attempts.put(attempt);
        self.events
            .push(self.now + walk + wait, Event::Dialled(attempt));
    }

    pub(super) fn dialled(&mut self, attempt: u32) {
        let Some(attempt) = self.attempts.take(attempt) else {
            return;
        };
        let Attempt {
            from,
            starts,
            to,
            why,
            latency_us,
        } = attempt;
        if self.hosts[from.at()].starts != starts || self.hosts[from.at()].is_down() {
            return;
        }
        let linked = self.line_of(from, to).is_some();
        let meet = !linked && self.may_dial(from, to) && self.can_meet(from, to);
        match why {
            Why::Driver if meet => self.connect(from, to, None, latency_us),
            Why::Driver if linked => {}
            Why::Driver => self.maintain_soon(from),
            Why::Core(dial) if meet => {
                self.connect(from, to, Some(dial), latency_us);
                self.sought(from, to);
            }
            Why::Core(dial) => self.input(from, Input::DialFailed { dial }),
            Why::Lookup(ask) => {
                if meet {
                    self.connect(from, to, None, latency_us);
                    self.sought(from, to);
                }
                let answer = Answer::Lookup;
                self.input(from, Input::Answer { ask, answer });
            }
        }
    }

    fn may_dial(&self, from: HostIx, to: HostIx) -> bool {
        let apart = self.hosts[from.at()].side != self.hosts[to.at()].side;
        self.hosts[to.at()].dialable && !(self.partitioned && apart)
    }

    fn can_meet(&self, a: HostIx, b: HostIx) -> bool {
        let (first, second) = (&self.hosts[a.at()], &self.hosts[b.at()]);
        let apart = self.partitioned && first.side != second.side;
        first.is_up() && second.is_up() && !apart
    }

    pub(super) fn line_of(&self, a: HostIx, b: HostIx) -> Option<crate::host::Line> {
        self.hosts[a.at()].line(&self.hosts[b.at()].id)
    }

    fn connect(&mut self, a: HostIx, b: HostIx, dial: Option<DialId>, latency_us: u64) {
        // The other side may not know yet that an earlier link is gone.
        if let Some(old) = self.line_of(b, a) {
            self.forget(b, a, old.out);
        }
        let kbps = self.scenario.link;
        let (there, back) = self.net.link(a, b, latency_us, kbps, self.now);
        for (host, peer, out, dial) in [(b, a, back, None), (a, b, there, dial)] {
            let id = self.hosts[peer.at()].id;
            if !self.hosts[host.at()].is_honest()
                && let Some(dir) = self.net.get_mut(out)
            {
                dir.verifier = Some(Box::new(LinkVerifier::default()));
            }
            self.hosts[host.at()].add_line(&id, peer, out);
            let link = Link {
                roles: self.hosts[peer.at()].roles,
                credit: CREDIT,
                dial,
            };
            self.input(host, Input::Connected { peer: id, link });
        }
        for (host, peer) in [(b, a), (a, b)] {
            if self.hosts[peer.at()].dialable && self.line_of(host, peer).is_some() {
                let peer = self.hosts[peer.at()].id;
                let addresses = vec![self.address.clone()];
                self.input(host, Input::Addresses { peer, addresses });
            }
        }
    }

    fn draw_latency(&mut self) -> u64 {
        let draw = self.link_dice.below(10_000);
        match self.scenario.distance {
            Distance::Lan => 200,
            Distance::Fixed => 20_000,
            Distance::Internet => {
                let tenth = usize::try_from(draw / 1000).unwrap_or(0);
                let (low, high) = (INTERNET[tenth], INTERNET[tenth + 1]);
                low + (high - low) * (draw % 1000) / 1000
            }
        }
    }

    // ---- ending links --------------------------------------------------------------

    /// A side closes its link: it hears nothing more, the other learns of it.
    pub(super) fn close(&mut self, host: HostIx, out: DirIx, kept: bool) {
        if let Some(arrives) = self.net.close(out, self.now, kept) {
            self.events.push(arrives, Event::Arrive(out));
        }
        self.maintain_soon(host);
    }

    /// Closes a side's link and tells its node.
    fn forget(&mut self, host: HostIx, peer: HostIx, out: DirIx) {
        let id = self.hosts[peer.at()].id;
        self.hosts[host.at()].remove_line(&id);
        self.close(host, out, true);
        self.input(host, Input::Disconnected { peer: id });
    }

    /// A link is reset on both sides at once.
    pub(super) fn reset(&mut self, a: HostIx, b: HostIx) {
        for (host, peer) in [(a, b), (b, a)] {
            let id = self.hosts[peer.at()].id;
            if let Some(line) = self.hosts[host.at()].remove_line(&id) {
                self.net.free(line.out);
                self.maintain_soon(host);
                self.input(host, Input::Disconnected { peer: id });
            }
        }
    }

    pub(super) fn on_disconnect(&mut self, host: HostIx, peer: HostIx, reason: DisconnectReason) {
        self.measure.disconnects += 1;
        let honest = self.hosts[host.at()].is_honest() && self.hosts[peer.at()].is_honest();
        if reason == DisconnectReason::Violations && honest {
            let seen = || format!("closes the link to host {} for violations", peer.0);
            self.checks
                .breach(self.now, host, Rule::FalseAccusation, seen);
        }
        let id = self.hosts[peer.at()].id;
        if let Some(line) = self.hosts[host.at()].remove_line(&id) {
            self.close(host, line.out, true);
        }
    }

    // ---- sending -------------------------------------------------------------------

    /// Puts a message of a host onto a link, after its hostility was at it.
    pub(super) fn send(&mut self, host: HostIx, out: DirIx, message: Message, class: Priority) {
        let h = &mut self.hosts[host.at()];
        let Some(hostile) = &mut h.hostile else {
            return self.put_on_line(out, message, class);
        };
        for (late_ms, message) in hostile.tamper(&h.key, message) {
            if late_ms == 0 {
                self.put_on_line(out, message, class);
            } else {
                let at = self.now + Duration::from_millis(late_ms);
                let late = self.late_sends.put((out, message, class));
                self.events.push(at, Event::LateSend(late));
            }
        }
    }

    pub(super) fn put_on_line(&mut self, out: DirIx, message: Message, class: Priority) {
        let Some((size, print)) = wire::measure(&message) else {
            return self.beyond_bounds(out, &message);
        };
        let cost = message_cost(&message);
        let Some(dir) = self.net.get(out).filter(|dir| dir.open) else {
            return;
        };
        let (from, to, back, in_flight) = (dir.from, dir.to, dir.back, dir.in_flight);
        let jitter = self.jitter(dir.latency_us());
        self.note(from, 0x20, print ^ u64::from(to.0));
        self.measure.sent(from, &message, size);
        let honest = |host: HostIx| self.badges[host.at()].honest;
        match (honest(from), honest(to)) {
            (false, true) => self.measure.from_hostile += size as u64,
            (true, false) if !wire::is_media(&message) => self.measure.to_hostile += size as u64,
            (true, false | true) | (false, false) => {}
        }
        if self.badges[from.at()].honest {
            if in_flight + cost > CREDIT {
                let seen = || format!("{} bytes in flight to host {}", in_flight + cost, to.0);
                self.checks.breach(self.now, from, Rule::Credit, seen);
            }
            self.check_sent(from, to, out, back, &message);
        }
        let mut uplink = self.hosts[from.at()].uplink;
        let parcel = Parcel::Message(message);
        let due = self.net.send(
            out,
            self.now,
            parcel,
            size,
            cost,
            class,
            &mut uplink,
            jitter,
        );
        self.hosts[from.at()].uplink = uplink;
        self.plan(out, due);
        if due.overflow {
            self.overflow(from, to);
        }
    }

    /// The real driver can't send it.
    fn beyond_bounds(&mut self, out: DirIx, message: &Message) {
        let from = self.net.get(out).map(|dir| dir.from);
        if let Some(from) = from.filter(|from| self.hosts[from.at()].is_honest()) {
            let seen = || format!("sends {}", wire::brief(message));
            self.checks.breach(self.now, from, Rule::WireBounds, seen);
        }
    }

    fn check_sent(&mut self, from: HostIx, to: HostIx, out: DirIx, back: DirIx, m: &Message) {
        let mut wrong = None;
        // Of who asks for anything and everything, and answers nothing, no requests are kept.
        let kept = self.badges[to.at()].honest;
        if checks::target(m).is_some() {
            let sender = &self.hosts[from.at()];
            let peer = self.badges[to.at()].id;
            // Who was named in a Redirect may be asked whatever the distance.
            let strict = sender.roles.relayer && !sender.was_named(&peer);
            // Who wants the stream itself asks in its own name, whatever made it ask; and
            // who asks again asks for all his children.
            let own = self.net.get(back).map_or(&[][..], |dir| &dir.asks);
            let again = checks::asks_again(own, m);
            let passes_on = kept && sender.sessions.is_empty() && !again;
            let passing = self.passing.as_ref().filter(|_| passes_on);
            wrong = checks::route(&sender.id, strict, &peer, m, passing);
        }
        let list = match checks::whose(m) {
            _ if !kept => None,
            Whose::Own => Some(back),
            Whose::Theirs => Some(out),
            Whose::Nobodys => None,
        };
        if let Some(dir) = list.and_then(|dir| self.net.get_mut(dir)) {
            wrong = wrong.or(checks::sent(&mut dir.asks, m));
        }
        if let Some((rule, what)) = wrong {
            let seen = || format!("{what}, to host {}: {}", to.0, wire::brief(m));
            self.checks.breach(self.now, from, rule, seen);
        }
    }

    /// The real driver closes a link whose queue of control messages is full.
    fn overflow(&mut self, from: HostIx, to: HostIx) {
        let idle = self.hosts[to.at()].is_up() && self.hosts[to.at()].is_honest();
        if idle && self.hosts[from.at()].is_honest() {
            let seen = || {
                format!(
                    "more than a thousand control messages wait for host {}",
                    to.0
                )
            };
            self.checks.breach(self.now, from, Rule::Queues, seen);
        }
        if let Some(line) = self.line_of(from, to) {
            let id = self.hosts[to.at()].id;
            self.hosts[from.at()].remove_line(&id);
            self.close(from, line.out, true);
            self.input_later(from, self.now, Input::Disconnected { peer: id });
        }
    }

    pub(super) fn drain(&mut self, out: DirIx) {
        let Some(dir) = self.net.get(out) else {
            return;
        };
        let (from, latency) = (dir.from, dir.latency_us());
        let mut uplink = self.hosts[from.at()].uplink;
        let measure = |parcel: &Parcel| match parcel {
            Parcel::Message(message) => {
                let size = wire::measure(message).map_or(0, |(size, _)| size);
                (size, message_cost(message))
            }
            Parcel::Close => (0, 0),
        };
        let dice = &mut self.jitter_dice;
        let jitter = || jitter(dice, latency);
        let due = self.net.drain(out, self.now, &mut uplink, measure, jitter);
        self.hosts[from.at()].uplink = uplink;
        self.plan(out, due);
    }

    fn plan(&mut self, out: DirIx, due: Due) {
        for (at, event) in [
            (due.arrival, Event::Arrive(out)),
            (due.report, Event::Written(out)),
            (due.drain, Event::Drain(out)),
        ] {
            if let Some(at) = at {
                self.events.push(at, event);
            }
        }
    }

    fn jitter(&mut self, latency_us: u64) -> u64 {
        jitter(&mut self.jitter_dice, latency_us)
    }

    // ---- arriving ------------------------------------------------------------------

    pub(super) fn written(&mut self, out: DirIx) {
        let credit = self.net.report(out, self.now);
        let Some(dir) = self.net.get(out).filter(|dir| dir.open && credit > 0) else {
            return;
        };
        let (from, to) = (dir.from, dir.to);
        let peer = self.badges[to.at()].id;
        self.input(from, Input::Writable { peer, credit });
    }

    pub(super) fn arrive(&mut self, out: DirIx) {
        let (mut parcel, mut next) = self.net.arrive(out, self.now);
        loop {
            match parcel {
                None => return,
                Some(Parcel::Message(message)) => self.received(out, message),
                Some(Parcel::Close) => return self.closed(out),
            }
            match next {
                None => return,
                Some(at) if at > self.now + TOGETHER => {
                    return self.events.push(at, Event::Arrive(out));
                }
                // A reader takes in what is there.
                Some(_) => (parcel, next) = self.net.arrive(out, self.now + TOGETHER),
            }
        }
    }

    fn received(&mut self, out: DirIx, message: Message) {
        let now = self.now;
        let Some(dir) = self.net.get(out).filter(|dir| !dir.deaf) else {
            return;
        };
        let (from, to, back) = (dir.from, dir.to, dir.back);
        let kept = self.badges[from.at()].honest && self.badges[to.at()].honest;
        if kept
            && checks::whose(&message) == Whose::Own
            && let Some(back) = self.net.get_mut(back)
        {
            checks::arrived(&mut back.asks, &message, now);
        }
        let Some(dir) = self.net.get_mut(out) else {
            return;
        };
        if kept {
            checks::heard(&mut dir.asks, &message);
        }
        let peer = self.badges[from.at()].id;
        let input = match &mut dir.verifier {
            None => Input::Received {
                from: peer,
                message: headwater_proto::Checked::assume(message),
            },
            Some(verifier) => match verifier.check(message) {
                Ok(message) => Input::Received {
                    from: peer,
                    message,
                },
                Err(violation) => Input::Violation {
                    from: peer,
                    violation,
                },
            },
        };
        if let Input::Received { message, .. } = &input {
            if let Message::Redirect(redirect) = &**message {
                let named = redirect.nodes.iter().map(|node| node.node);
                self.hosts[to.at()].note_named(named);
            }
            self.measure.received(message);
            self.count_hops(to, message);
        }
        self.input(to, input);
    }

    /// The other side has closed.
    fn closed(&mut self, out: DirIx) {
        let Some(dir) = self.net.get(out) else {
            return;
        };
        let (from, to, back) = (dir.from, dir.to, dir.back);
        let id = self.hosts[from.at()].id;
        let line = self.hosts[to.at()].line(&id);
        self.net.free(out);
        if line.is_some_and(|line| line.out == back) {
            self.hosts[to.at()].remove_line(&id);
            self.maintain_soon(to);
            self.input(to, Input::Disconnected { peer: id });
        }
    }

    // ---- keeping links -------------------------------------------------------------

    pub(super) fn maintain_soon(&mut self, host: HostIx) {
        if std::mem::replace(&mut self.hosts[host.at()].maintenance_due, true) {
            return;
        }
        let wait = MAINTAIN_MS / 2 + self.life_dice.below(MAINTAIN_MS);
        let at = self.now + Duration::from_millis(wait);
        self.events.push(at, Event::Maintain(host));
    }

    /// Dials who should be a neighbour and is none. A lookup in the real network takes
    /// some round trips; here it knows who is alive, and the wait before it stands for
    /// them.
    pub(super) fn maintain(&mut self, host: HostIx) {
        self.hosts[host.at()].maintenance_due = false;
        if !self.hosts[host.at()].is_up() {
            return;
        }
        let wanted = match self.scenario.topology {
            Topology::Kademlia => self.wanted(host),
            Topology::Line
            | Topology::Star
            | Topology::Ring
            | Topology::Tree
            | Topology::Islands
            | Topology::PowerLaw
            | Topology::Boot => self.planned(host),
        };
        // Who finds nobody looks again.
        let mut missing = wanted.is_empty();
        for other in wanted {
            if self.line_of(host, other).is_none() {
                missing = true;
                self.dial(host, other, Why::Driver);
            }
        }
        // Some may be dead and come back.
        if missing {
            self.maintain_soon(host);
        }
    }

    /// A link was made because a node wanted it.
    fn sought(&mut self, host: HostIx, peer: HostIx) {
        if self.line_of(host, peer).is_some() {
            self.hosts[host.at()].sought.push(peer);
            if self.hosts[host.at()].spare_look.is_none() {
                self.look_for_spare(host);
            }
        }
    }

    fn look_for_spare(&mut self, host: HostIx) {
        let at = self.now + SPARE_LOOK;
        self.hosts[host.at()].spare_look = Some(at);
        self.events.push(at, Event::CloseSpare(host));
    }

    /// Closes the links that a node wanted and has not used for a while, but for those that
    /// its driver would make.
    pub(super) fn close_spare(&mut self, host: HostIx) {
        let h = &mut self.hosts[host.at()];
        // One that is not due is of before it was started anew.
        if h.spare_look.is_none_or(|at| at > self.now) {
            return;
        }
        h.spare_look = None;
        let mut idle = Vec::new();
        h.sought.retain(|peer| {
            let since = h.node.idle_since(&self.badges[peer.at()].id);
            let spare = since.is_some_and(|since| self.now.since(since) >= SPARE_AFTER);
            if spare {
                idle.push(*peer);
            }
            !spare
        });
        if !h.sought.is_empty() {
            self.look_for_spare(host);
        }
        for peer in idle {
            if let Some(line) = self.line_of(host, peer)
                && !self.keeps(host, peer)
            {
                self.measure.spare_links_closed += 1;
                self.forget(host, peer, line.out);
            }
        }
    }

    /// Whether a driver would make a link to a neighbour if there were none.
    fn keeps(&self, host: HostIx, peer: HostIx) -> bool {
        if self.scenario.topology != Topology::Kademlia {
            return self.planned(host).contains(&peer);
        }
        if !self.hosts[peer.at()].roles.relayer {
            return false;
        }
        let prefix = self.hosts[host.at()].prefix;
        let is_near = || {
            let alive = |other: HostIx| other != host && self.hosts[other.at()].is_up();
            self.space.nearest(prefix, NEAREST, alive).contains(&peer)
        };
        let in_bucket = || {
            let mut buckets = self.space.buckets(prefix);
            let bucket = buckets.find(|bucket| bucket.iter().any(|(_, other)| *other == peer));
            let others = bucket.into_iter().flatten().map(|(_, other)| *other);
            let linked = others.filter(|other| self.line_of(host, *other).is_some());
            linked.count() <= PER_BUCKET
        };
        is_near() || (self.hosts[host.at()].roles.relayer && in_bucket())
    }

    fn planned(&self, host: HostIx) -> Vec<HostIx> {
        let of = |(a, _): &&(HostIx, HostIx)| *a == host;
        self.plan_links.iter().filter(of).map(|(_, b)| *b).collect()
    }

    fn wanted(&mut self, host: HostIx) -> Vec<HostIx> {
        let prefix = self.hosts[host.at()].prefix;
        let reachable = |other: HostIx| {
            let apart = self.hosts[host.at()].side != self.hosts[other.at()].side;
            other != host
                && self.hosts[other.at()].health == Health::Up
                && !(self.partitioned && apart)
        };
        let mut wanted = self.space.nearest(prefix, NEAREST, reachable);
        if !self.hosts[host.at()].roles.relayer {
            return wanted;
        }
        for bucket in self.space.buckets(prefix) {
            let linked = bucket
                .iter()
                .filter(|(_, o)| self.line_of(host, *o).is_some());
            let missing = PER_BUCKET.saturating_sub(linked.count());
            if missing == 0 {
                continue;
            }
            let start = self.link_dice.index(bucket.len());
            let turn = bucket[start..].iter().chain(&bucket[..start]);
            let others = turn.map(|(_, other)| *other).filter(|o| reachable(*o));
            wanted.extend(
                others
                    .filter(|o| self.line_of(host, *o).is_none())
                    .take(missing),
            );
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }
}

/// Up to an eighth of the latency.
fn jitter(dice: &mut Dice, latency_us: u64) -> u64 {
    dice.below(latency_us / 8 + 1)
}
