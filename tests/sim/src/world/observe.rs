//! What is seen of a world while it runs: ways, delays, recoveries, and once a second
//! its whole shape.

use headwater_proto::Message;
use headwater_proto::limits::MAX_HOPS;
use headwater_protocol::Time;
use serde::Serialize;

use super::World;
use crate::{
    checks::{self, Rule},
    histogram::Histogram,
    host::{HostIx, Source},
    measure::Tree,
};

/// A request may take this long until its answer, beside what the core allows itself.
const ANSWER_SLACK_MS: u64 = 2_000;
/// Slack of a subscription's first answer.
const SUB_ANSWER_MS: u64 = 2_000;

/// A command may take this long.
const COMMAND_MS: u64 = 10_000;

/// The world at one second.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Seconds since the world began.
    pub second: u64,
    /// Viewers that were handed a part within the last second.
    pub playing: u64,
    /// Viewers that are subscribed.
    pub watching: u64,
    /// Mean links from the owner.
    pub depth_mean: f64,
    /// The most links from the owner.
    pub depth_max: u64,
    /// Half of the parts of this second came within so many milliseconds.
    pub delay_p50_ms: u64,
    /// Ninety-nine of a hundred came within so many milliseconds.
    pub delay_p99_ms: u64,
    /// The most control messages that one node has sent in this second.
    pub control_max: u32,
}

impl World {
    /// A viewer was handed a part.
    pub(super) fn delivered(&mut self, session: u32, part: u64, first: bool) {
        let now = self.now();
        let session = &mut self.sessions[session as usize];
        let (host, broadcast, from) = (session.host, session.broadcast, session.from);
        let due = self.broadcasts[broadcast as usize].due(&self.shape, part);
        if let Some(since) = session.cut_off
            && due >= since
        {
            session.cut_off = None;
            self.measure.recovery.add(millis(now, since));
        }
        if let Some(since) = session.resumed
            && due >= since
        {
            session.resumed = None;
            self.measure.resumed.add(millis(now, since));
        }
        // What was published before the viewer came is as late as it came.
        if due >= from {
            self.measure.delay.add(millis(now, due));
            self.measure.second_delay.add(millis(now, due));
        }
        if first {
            self.measure.join.add(millis(now, from));
            if let Some(hops) = self.way(host, broadcast) {
                self.measure.hops.add(hops);
            }
        }
    }

    /// Links from a broadcast's owner to a host; `None` when there is no unbroken way.
    pub(super) fn way(&self, host: HostIx, broadcast: u32) -> Option<u64> {
        let owner = self.owner(broadcast)?;
        let mut at = host;
        for links in 0..=self.hosts.len() as u64 {
            if at == owner {
                return Some(links);
            }
            let next = self.hosts[at.at()].parent(broadcast)?;
            self.line_of(at, next)?;
            if !self.hosts[next.at()].is_up() {
                return None;
            }
            at = next;
        }
        None
    }

    /// A request for a status has arrived at its target.
    pub(super) fn count_hops(&mut self, at: HostIx, message: &Message) {
        if let Message::NodeStatusReq(request) = message
            && self.hosts[at.at()].id == request.node
        {
            let links = u64::from(MAX_HOPS.saturating_sub(request.hops_left)) + 1;
            self.measure.route_hops.add(links);
        }
    }

    pub(super) fn sample(&mut self) {
        let now = self.now();
        let tree = self.tree();
        let delay = std::mem::take(&mut self.measure.second_delay);
        let open = self.sessions.iter().filter(|s| s.until.is_none());
        let (mut playing, mut watching) = (0, 0);
        for session in open {
            watching += 1;
            let fresh = session.first.is_some() && millis(now, session.last) <= 1_000;
            playing += u64::from(fresh);
        }
        let control_max = self.measure.end_second();
        let depth = tree.depth.summary();
        self.measure.samples.push(Sample {
            second: now.as_micros() / 1_000_000,
            playing,
            watching,
            depth_mean: depth.mean,
            depth_max: depth.max,
            delay_p50_ms: delay.permille(500),
            delay_p99_ms: delay.permille(990),
            control_max,
        });
        self.check_rings();
        if (now.as_micros() / 1_000_000).is_multiple_of(10) {
            self.check_answers();
        }
    }

    /// The end of the run: what is owed, and the final shape.
    pub(super) fn last_look(&mut self) {
        self.check_answers();
        self.check_commands();
        self.measure.tree = self.tree();
        // The dead ones were counted when they died.
        for host in self.hosts.iter().filter(|host| !host.is_down()) {
            self.measure.collect(host.node.stats());
        }
    }

    /// Every command but those that wait for another node has its reply at once.
    fn check_commands(&mut self) {
        let late = |(_, at): &&(HostIx, Time)| millis(self.now, *at) > COMMAND_MS;
        let mut late: Vec<_> = self.open_commands.values().filter(late).copied().collect();
        late.sort_unstable();
        for (host, _) in late.into_iter().filter(|(h, _)| self.hosts[h.at()].is_up()) {
            let seen = || "has not replied to a command".to_owned();
            self.checks.breach(self.now, host, Rule::OneReply, seen);
        }
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        for session in self.sessions.iter().filter(|s| s.until.is_none()) {
            if let Some(depth) = self.way(session.host, session.broadcast) {
                tree.depth.add(depth);
            }
        }
        for (ix, host) in (0..).map(HostIx).zip(&self.hosts) {
            for Source { broadcast, .. } in host.parents.iter().filter(|_| host.is_up()) {
                let watches =
                    |number: &u32| self.sessions[*number as usize].broadcast == *broadcast;
                tree.members += 1;
                tree.unpaid += u64::from(!host.sessions.iter().any(watches));
                if self.way(ix, *broadcast).is_none() {
                    tree.adrift += 1;
                }
            }
        }
        tree
    }

    /// No ring of a node is beyond its bound. One host in sixteen is looked at each
    /// time, in turn.
    fn check_rings(&mut self) {
        let turn = usize::try_from(self.now.as_micros() / 1_000_000).unwrap_or(0);
        let mut wrong = Vec::new();
        for (ix, host) in (0..).map(HostIx).zip(&self.hosts) {
            if ix.at() % 16 != turn % 16 {
                continue;
            }
            let bound = host.config.ring_bytes;
            for stream in host.node.streams() {
                if stream.ring_bytes > bound {
                    wrong.push((ix, stream.ring_bytes, stream.children.len()));
                }
            }
        }
        for (host, bytes, children) in wrong {
            let seen = || format!("{bytes} bytes in a ring, {children} children");
            self.checks.breach(self.now, host, Rule::Queues, seen);
        }
    }

    /// Nobody owes an answer for longer than the core allows itself.
    fn check_answers(&mut self) {
        let mut wrong = Vec::new();
        for dir in self.net.iter() {
            let asks = self.net.get(dir.back);
            if !asks.is_some_and(|asks| asks.open && !asks.deaf) {
                continue;
            }
            let answerer = &self.hosts[dir.from.at()];
            let asker = &self.hosts[dir.to.at()];
            let both = [answerer, asker];
            if !both.iter().all(|host| host.is_up() && host.is_honest()) {
                continue;
            }
            let once = answerer.config.request_timeout.as_millis();
            let once = u64::try_from(once).unwrap_or(u64::MAX) + ANSWER_SLACK_MS;
            for owed in checks::owed(&dir.asks) {
                let limit = match owed.kind {
                    checks::AskKind::Stream => SUB_ANSWER_MS,
                    // The owner acts on it; nobody owes the sender a message.
                    checks::AskKind::Claim => continue,
                    checks::AskKind::Master | checks::AskKind::Once => once,
                };
                if millis(self.now, owed.since) > limit {
                    wrong.push((dir.from, dir.to, owed));
                }
            }
        }
        for (host, asker, owed) in wrong {
            let seen = || format!("has not answered host {}: {owed:?}", asker.0);
            self.checks.breach(self.now, host, Rule::Answered, seen);
        }
    }

    /// All delays so far.
    #[must_use]
    pub const fn delays(&self) -> &Histogram {
        &self.measure.delay
    }
}

const fn millis(later: Time, earlier: Time) -> u64 {
    later.as_micros().saturating_sub(earlier.as_micros()) / 1000
}
