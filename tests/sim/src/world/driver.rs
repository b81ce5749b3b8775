//! What a node wants done, done: the counterpart of the program's driver.

use std::time::Duration;

use headwater_proto::{NodeId, NodeStatus, Signed, StreamId};
use headwater_protocol::{
    Answer, AskId, Delivery, Event as Observed, Input, Output, Question, Reply, Time,
};

use super::{Why, World};
use crate::{
    checks::{Rule, Taken},
    host::HostIx,
    wire::brief,
};

/// The program takes this long for an answer.
const ANSWER: Duration = Duration::from_millis(1);
/// A loop among parents must be gone after this.
const LOOP: Duration = Duration::from_secs(2);

impl World {
    pub(super) fn carry_out(&mut self, host: HostIx, output: Output) {
        match output {
            Output::Send {
                to,
                message,
                priority,
            } => match self.hosts[host.at()].line(&to) {
                Some(line) => self.send(host, line.out, message, priority),
                None if self.hosts[host.at()].lost.contains(&to) => {}
                None => {
                    let seen =
                        || format!("sends to {to}, which is no neighbour: {}", brief(&message));
                    self.checks.breach(self.now(), host, Rule::OpenLink, seen);
                }
            },
            Output::Dial { dial, peer, .. } => {
                self.note(host, 0x21, dial.0);
                self.measure.dials += 1;
                self.check_dial(host, &peer);
                match self.find(&peer) {
                    Some(to) => self.dial(host, to, Why::Core(dial)),
                    None => self.input_later(host, self.now() + ANSWER, Input::DialFailed { dial }),
                }
            }
            Output::Disconnect { peer, reason } => {
                self.note(host, 0x22, reason as u64);
                if let Some(peer) = self.find(&peer) {
                    self.on_disconnect(host, peer, reason);
                }
            }
            Output::Deliver { stream, delivery } => self.deliver(host, &stream, &delivery),
            Output::Master { body } => self.note(host, 0x24, body.value().version),
            Output::MasterMissing { .. } => self.note(host, 0x25, 0),
            Output::Ask { ask, question } => self.ask(host, ask, &question),
            Output::Reply { id, result } => {
                self.note(host, 0x27, u64::from(result.is_ok()));
                let asked = self.open_commands.remove(&id.0);
                if asked.is_none_or(|(asked, _)| asked != host) {
                    let seen = || format!("a reply to no open command: {result:?}");
                    self.checks.breach(self.now(), host, Rule::OneReply, seen);
                }
                match result {
                    Ok(Reply::Status(_)) => self.measure.statuses += 1,
                    Ok(Reply::Done | Reply::Probe { .. } | Reply::Receipts(_)) => {}
                    Err(_) => self.measure.refused_commands += 1,
                }
            }
            Output::Observe(event) => self.observe(host, &event),
        }
    }

    fn deliver(&mut self, host: HostIx, stream: &StreamId, delivery: &Delivery) {
        let kind = match delivery {
            Delivery::Init { .. } => 0,
            Delivery::Part { .. } => 1,
            Delivery::Gap { .. } => 2,
            Delivery::Finished => 3,
            Delivery::Waiting(_) => 4,
        };
        self.note(host, 0x23, kind);
        let Some(broadcast) = self.broadcast(stream) else {
            let seen = || format!("delivers a stream that nobody made: {stream}");
            return self.checks.breach(self.now(), host, Rule::Forgery, seen);
        };
        let sessions = &self.hosts[host.at()].sessions;
        let open = |number: &&u32| self.sessions[**number as usize].broadcast == broadcast;
        let Some(number) = sessions.iter().find(open).copied() else {
            let seen = || format!("delivers what nobody there watches: {}", summary(delivery));
            return self.checks.breach(self.now(), host, Rule::Order, seen);
        };
        let published = self.broadcasts[broadcast as usize].published;
        let now = self.now();
        let session = &mut self.sessions[number as usize];
        let first = session.first.is_none();
        match session.take(&self.shape, published, now, delivery) {
            Taken::Part(part) => self.delivered(number, part, first),
            Taken::Other => {}
            Taken::Wrong(rule, what) => {
                let seen = || format!("{what}: {}", summary(delivery));
                self.checks.breach(now, host, rule, seen);
            }
        }
    }

    fn ask(&mut self, host: HostIx, ask: AskId, question: &Question) {
        self.note(host, 0x26, ask.0);
        let answer = match question {
            Question::Lookup { target } => {
                self.measure.lookups += 1;
                return self.look_up(host, target, ask);
            }
            Question::Claim { job } => Answer::Claim(self.claim(host, *job).map(Box::new)),
            Question::CheckClaim { claim, signature } => self.check_claim(host, claim, signature),
            Question::CheckResult { .. } => Answer::Result { accepted: false },
            Question::Status => Answer::Status(self.status(host)),
            Question::Probe { .. } => Answer::Probe { available: false },
            // Its jobs are of no ledger that pays.
            Question::Receipts { .. } => Answer::Receipts(None),
        };
        self.input_later(host, self.now() + ANSWER, Input::Answer { ask, answer });
    }

    fn status(&self, host: HostIx) -> Signed<NodeStatus> {
        let h = &self.hosts[host.at()];
        let status = NodeStatus {
            node: h.id,
            time_ms: self.now().as_micros() / 1000,
            agent: "simulated".into(),
            roles: h.roles,
            uptime_s: 0,
            peers: u32::try_from(h.lines().len()).unwrap_or(u32::MAX),
            load: 0,
            streams: Vec::new(),
        };
        Signed::sign(status, &h.key)
    }

    fn observe(&mut self, host: HostIx, event: &Observed) {
        match event {
            Observed::ParentChanged { stream, to, .. } => {
                self.note(host, 0x28, u64::from(to.is_some()));
                self.parent_changed(host, stream, to.as_ref());
            }
            Observed::Misbehaved { peer, what } => {
                self.note(host, 0x29, what.len() as u64);
                self.measure.violations += 1;
                let honest = |ix: HostIx| self.hosts[ix.at()].is_honest();
                if let Some(accused) = self.find(peer).filter(|p| honest(*p) && honest(host)) {
                    let seen = || format!("says that host {} misbehaves: {what}", accused.0);
                    self.checks
                        .breach(self.now(), host, Rule::FalseAccusation, seen);
                }
            }
            Observed::StageChanged { from, to, .. } => {
                self.note(host, 0x2c, *to as u64);
                if !from.leads_to(*to) {
                    let seen = || format!("goes from {from:?} to {to:?}");
                    self.checks.breach(self.now(), host, Rule::Stage, seen);
                }
            }
            Observed::GrantChanged { from, to, .. } => {
                self.note(host, 0x2d, *to as u64);
                if !from.leads_to(*to) {
                    let seen = || format!("a grant goes from {from:?} to {to:?}");
                    self.checks.breach(self.now(), host, Rule::Stage, seen);
                }
            }
            Observed::FeedStarted {
                transcoder, direct, ..
            } => {
                self.note(host, 0x2a, u64::from(*direct));
                self.feed_started(host, transcoder, *direct);
            }
            Observed::FeedEnded { direct, .. } => self.note(host, 0x2b, u64::from(*direct)),
        }
    }

    fn parent_changed(&mut self, host: HostIx, stream: &StreamId, to: Option<&NodeId>) {
        let Some(broadcast) = self.broadcast(stream) else {
            return;
        };
        let parent = to.and_then(|to| self.find(to));
        self.hosts[host.at()].set_parent(broadcast, parent, self.now);
        self.feeders_changed(host);
        if self.in_loop(host, broadcast).is_some() {
            self.measure.passing_loops += 1;
            let event = super::Event::CheckLoop(host, broadcast);
            self.events.push(self.now() + LOOP, event);
        }
    }

    pub(super) fn check_loop(&mut self, host: HostIx, broadcast: u32) {
        // One of which a host has changed its parent since is another.
        let since = self.in_loop(host, broadcast);
        if since.is_some_and(|since| since + LOOP <= self.now()) {
            let seen = || format!("is its own parent's descendant for {LOOP:?}");
            self.checks.breach(self.now(), host, Rule::Loop, seen);
        }
    }

    /// Since when following parents leads back to a host, if it does; hostile and dead ones
    /// end the way.
    fn in_loop(&self, host: HostIx, broadcast: u32) -> Option<Time> {
        let (mut at, mut since) = (host, Time::default());
        for _ in 0..self.hosts.len() {
            let source = self.hosts[at.at()].source(broadcast)?;
            since = since.max(source.since);
            at = source.parent;
            if at == host {
                return Some(since);
            }
            if !self.hosts[at.at()].is_up() || !self.hosts[at.at()].is_honest() {
                return None;
            }
        }
        // A loop further up, which its own members report.
        None
    }
}

/// A delivery without its payload.
fn summary(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Part {
            position, media, ..
        } => format!("part {position:?}, {media:?}"),
        Delivery::Init { index, .. } => format!("init {index}"),
        Delivery::Gap { .. } | Delivery::Finished | Delivery::Waiting(_) => format!("{delivery:?}"),
    }
}
