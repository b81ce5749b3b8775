//! What came of a run, for people and for programs.

use std::collections::BTreeMap;

use headwater_proto::limits::MAX_PATH;
use serde::Serialize;

use crate::{
    checks::{Breach, Rule, Session},
    histogram::{Summary, ratio},
    host::HostIx,
    scenario::Workload,
    schedule::BEGIN,
    topology::Plan,
    world::{Sample, World},
};

/// A viewer should play this long after it came, in milliseconds: what was published
/// before is not counted against the network.
const JOIN_GRACE_MS: u64 = 2_000;
/// What was published in the last so many milliseconds may still be on its way.
const END_GRACE_MS: u64 = 2_000;
/// The same for each link of the longest way.
const HOP_GRACE_MS: u64 = 50;

/// Viewers that are not back and are named.
const LOST_NAMED: usize = 10;

/// How viewers came back after faults.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Recovery {
    /// Milliseconds from the fault to a part made after it, of those who came back.
    #[serde(flatten)]
    pub times: Summary,
    /// Viewers that were cut off and are not back, though they live.
    pub lost: u64,
    /// The first of them, by number.
    pub lost_hosts: Vec<u32>,
    /// Share of the living viewers cut off that were back within five seconds.
    pub within_5s: f64,
}

/// See the module. Bytes are of messages, without what transports add.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Repeats the run.
    pub command: String,
    /// Fingerprint of every input and output.
    pub trace_hash: String,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Nodes.
    pub nodes: u32,
    /// Links at the end.
    pub links: usize,
    /// Stays of viewers.
    pub sessions: u64,
    /// Those of them that were never handed a part, though they had the time.
    pub never_played: u64,
    /// The first of them, by number.
    pub never_hosts: Vec<u32>,
    /// Parts delivered of those that should have been.
    pub delivered_ratio: f64,
    /// Parts that viewers were told are lost.
    pub gap_parts: u64,
    /// The first who were, by number.
    pub gap_hosts: Vec<u32>,
    /// Links between owner and viewer when its first part came, which is the way that its
    /// Sub took; of status requests where those are the workload.
    pub hops: Summary,
    /// Links from the owner at the end.
    pub depth: Summary,
    /// Milliseconds from Subscribe to the first part.
    pub join_ms: Summary,
    /// Milliseconds from a part's completion at its owner to its delivery.
    pub delay_ms: Summary,
    /// Milliseconds from the start of a job until its transcoder is fed directly.
    pub direct_ms: Summary,
    /// Milliseconds from the first part of a broadcast that goes on after a pause until a
    /// transcoder has one.
    pub resumed_ms: Summary,
    /// Milliseconds until viewers played again.
    pub recovery_ms: Recovery,
    /// Share of all bytes that is neither parts nor chunks.
    pub control_bytes_ratio: f64,
    /// The most control messages of one node in one second.
    pub control_messages_per_second_max: u32,
    /// Share of payload bytes that were there already.
    pub duplicate_bytes_ratio: f64,
    /// Bytes of parts and chunks that the busiest broadcaster sent, for each byte of one copy
    /// of all parts and chunks that it published; 0 where everybody is a broadcaster.
    pub broadcaster_uplink_ratio: f64,
    /// Nodes of the trees that have no viewer, at the end.
    pub unpaid_ratio: f64,
    /// Loops among parents that arose and went.
    pub passing_loops: u64,
    /// Subscribers sent elsewhere, dials and lookups by cores, repairs asked for.
    pub redirects: u64,
    /// See `redirects`.
    pub dials: u64,
    /// See `redirects`.
    pub lookups: u64,
    /// Links that drivers closed because nothing used them.
    pub spare_links_closed: u64,
    /// See `redirects`.
    pub nacks: u64,
    /// Answers that came, of those asked for, in the status workload.
    pub answered_ratio: f64,
    /// What nodes counted as misbehaviour.
    pub violations: u64,
    /// Bytes that hostile nodes were sent, without media, for each byte that they sent.
    pub hostile_answer_ratio: f64,
    /// Events.
    pub events: u64,
    /// Inputs to nodes, by kind.
    pub inputs: BTreeMap<&'static str, u64>,
    /// Breaches of rules.
    pub breaches: u64,
    /// The same by rule.
    pub breaches_by_rule: BTreeMap<Rule, u64>,
    /// The first of them.
    pub first_breaches: Vec<Breach>,
    /// Real seconds.
    pub wall_s: f64,
    /// The world at each second.
    #[serde(skip)]
    pub samples: Vec<Sample>,
    /// Counts of recovery times, for plots.
    #[serde(skip)]
    pub recoveries: Vec<(u64, u32)>,
}

impl Report {
    /// Sums a world up.
    #[must_use]
    pub fn new(world: &World, wall_s: f64) -> Self {
        let m = &world.measure;
        let (mut expected, mut delivered) = (0, 0);
        let mut never = Vec::new();
        for session in &world.sessions {
            let (want, got) = owed(world, session);
            expected += want;
            delivered += got;
            if want > 0 && session.first.is_none() {
                never.push(session.host.0);
            }
        }
        let routed = world.scenario.workload == Workload::Status;
        let lost = world.sessions.iter();
        let lost = lost.filter(|s| s.until.is_none() && s.cut_off.is_some());
        let lost_hosts: Vec<u32> = lost.map(|session| session.host.0).collect();
        let lost = lost_hosts.len() as u64;
        let back = m.recovery.count();
        let all = m.media_bytes + m.control_bytes;
        Self {
            command: world.scenario.command(),
            trace_hash: format!("{:016x}", world.trace_hash()),
            simulated_ms: world.now().as_micros() / 1000,
            nodes: world.scenario.nodes,
            links: world.net.len() / 2,
            sessions: world.sessions.len() as u64,
            never_played: never.len() as u64,
            never_hosts: never.into_iter().take(LOST_NAMED).collect(),
            delivered_ratio: ratio(delivered, expected),
            gap_parts: world.sessions.iter().map(|s| s.lost).sum(),
            gap_hosts: world
                .sessions
                .iter()
                .filter(|s| s.lost > 0)
                .map(|s| s.host.0)
                .take(LOST_NAMED)
                .collect(),
            hops: if routed { &m.route_hops } else { &m.hops }.summary(),
            depth: m.tree.depth.summary(),
            join_ms: m.join.summary(),
            delay_ms: m.delay.summary(),
            direct_ms: m.direct.summary(),
            resumed_ms: m.resumed.summary(),
            recovery_ms: Recovery {
                times: m.recovery.summary(),
                lost,
                lost_hosts: lost_hosts.into_iter().take(LOST_NAMED).collect(),
                within_5s: ratio(m.recovery.up_to(5_000), back + lost),
            },
            control_bytes_ratio: ratio(m.control_bytes, all),
            control_messages_per_second_max: m
                .samples
                .iter()
                .map(|s| s.control_max)
                .max()
                .unwrap_or(0),
            duplicate_bytes_ratio: ratio(m.duplicate_bytes, m.arrived_bytes),
            broadcaster_uplink_ratio: uplink(world),
            unpaid_ratio: ratio(m.tree.unpaid, m.tree.members),
            passing_loops: m.passing_loops,
            redirects: m.redirects,
            dials: m.dials,
            lookups: m.lookups,
            spare_links_closed: m.spare_links_closed,
            nacks: m.nacks,
            answered_ratio: ratio(m.statuses, m.status_asked),
            violations: m.violations,
            hostile_answer_ratio: ratio(m.to_hostile, m.from_hostile),
            events: m.events,
            inputs: m
                .inputs
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
            breaches: world.checks.count,
            breaches_by_rule: world.checks.by_rule.clone(),
            first_breaches: world.checks.kept.clone(),
            wall_s,
            samples: m.samples.clone(),
            recoveries: m.recovery.iter().collect(),
        }
    }
}

/// Parts that a stay should have had, and those of them that it had.
fn owed(world: &World, session: &Session) -> (u64, u64) {
    let broadcast = &world.broadcasts[session.broadcast as usize];
    if world.scenario.workload == Workload::Route {
        return (1, u64::from(session.parts > 0));
    }
    let part_us = world.shape().part_ms * 1000;
    let begins = broadcast.begins.as_micros();
    // Parts that were complete at a time.
    let complete = |at_us: u64| {
        if at_us < begins {
            0
        } else {
            ((at_us - begins) / part_us + 1).min(broadcast.published)
        }
    };
    let from = complete(session.from.as_micros().max(BEGIN.as_micros()) + JOIN_GRACE_MS * 1000);
    let end = session.until.unwrap_or(world.now()).as_micros();
    let bound = Plan::hop_bound(world.scenario.topology, world.scenario.nodes);
    // No tree is deeper than a path can be.
    let grace = END_GRACE_MS + bound.min(MAX_PATH as u64) * HOP_GRACE_MS;
    let to = complete(end.saturating_sub(grace * 1000));
    if to <= from {
        return (0, 0);
    }
    let had = session.range.map_or(0, |(first, next)| {
        next.min(to).saturating_sub(first.max(from))
    });
    // Gaps are counted as if they were all in what was owed.
    (to - from, had.saturating_sub(session.lost))
}

/// What the busiest broadcaster has sent of its media, in copies.
fn uplink(world: &World) -> f64 {
    if world.scenario.workload == Workload::Route {
        return 0.0;
    }
    let copies = world.broadcasts.iter().filter_map(|broadcast| {
        let HostIx(owner) = world.find(&broadcast.stream.node)?;
        let sent = world.measure.media_from[owner as usize];
        Some(ratio(sent, broadcast.media_bytes))
    });
    copies.fold(0.0, f64::max)
}
