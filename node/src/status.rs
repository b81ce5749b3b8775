//! What a node says of itself: to neighbours, signed, and to monitors.

use std::fmt::Write as _;

use headwater_proto::{
    NodeStatus, Roles, Signed, SigningKey, StreamStatus, limits::MAX_STATUS_STREAMS,
};
use headwater_protocol::Time;

use crate::{clock, driver::Snapshot, net::NetHandle};

/// What does not change while a node runs.
#[derive(Debug, Clone)]
pub struct About {
    /// What it does for the network.
    pub roles: Roles,
    /// Program and version.
    pub agent: String,
    /// When it started.
    pub started: Time,
}

/// Program and version of this build.
#[must_use]
pub fn agent() -> String {
    format!("headwater/{}", env!("CARGO_PKG_VERSION"))
}

/// This node's status, signed.
#[must_use]
pub fn sign(
    about: &About,
    snapshot: &Snapshot,
    net: &NetHandle,
    key: &SigningKey,
) -> Signed<NodeStatus> {
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let streams = snapshot.streams.iter().take(MAX_STATUS_STREAMS);
    let children: usize = snapshot
        .streams
        .iter()
        .map(|view| view.children.len())
        .sum();
    let status = NodeStatus {
        node: net.node(),
        time_ms: clock::unix_ms(),
        agent: about.agent.clone(),
        roles: about.roles,
        uptime_s: clock::now().since(about.started).as_secs(),
        peers: count(net.peers().len()),
        load: u8::try_from(children).unwrap_or(u8::MAX),
        streams: streams
            .map(|view| StreamStatus {
                stream: view.stream.clone(),
                edge: view.edge,
                parent: view.parent,
                children: count(view.children.len()),
            })
            .collect(),
    };
    Signed::sign(status, key)
}

/// Counters in the OpenMetrics text form.
#[must_use]
pub fn metrics(snapshot: &Snapshot, peers: usize) -> String {
    let stats = &snapshot.stats;
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: usize| {
        // Writing to a string cannot fail.
        let _infallible = write!(
            text,
            "# HELP headwater_{name} {help}\n# TYPE headwater_{name} gauge\nheadwater_{name} {value}\n"
        );
    };
    gauge("peers", "Open links.", peers);
    gauge("streams", "Streams carried.", snapshot.streams.len());
    gauge(
        "children",
        "Nodes that streams go to.",
        snapshot
            .streams
            .iter()
            .map(|view| view.children.len())
            .sum(),
    );
    gauge(
        "ring_bytes",
        "Payload bytes kept.",
        snapshot.streams.iter().map(|view| view.ring_bytes).sum(),
    );
    let counters = [
        (
            "bytes_in",
            "Payload bytes received and kept.",
            stats.bytes_in,
        ),
        ("bytes_out", "Payload bytes sent.", stats.bytes_out),
        ("parts_in", "Parts received completely.", stats.parts_in),
        (
            "parts_delivered",
            "Parts handed to this machine.",
            stats.parts_delivered,
        ),
        (
            "gaps_delivered",
            "Gaps handed to this machine.",
            stats.gaps_delivered,
        ),
        ("gaps_out", "Gaps told to other nodes.", stats.gaps_out),
        (
            "duplicates",
            "Headers and chunks that came twice.",
            stats.duplicates,
        ),
        ("nacks_out", "Repairs asked for.", stats.nacks_out),
        (
            "parents_lost",
            "Parents lost or given up.",
            stats.parents_lost,
        ),
        ("dials", "Dials of transcoders.", stats.dials),
        (
            "refused_claims",
            "Claims of transcoders that did not hold.",
            stats.refused_claims,
        ),
        (
            "stale_claims",
            "Claims and results older than one seen.",
            stats.stale_claims,
        ),
        (
            "overloaded",
            "Requests turned away at a limit.",
            stats.overloaded,
        ),
        (
            "violations",
            "What no correct node sends.",
            stats.violations_total(),
        ),
    ];
    for (name, help, value) in counters {
        let _infallible = write!(
            text,
            "# HELP headwater_{name} {help}\n# TYPE headwater_{name} counter\nheadwater_{name}_total {value}\n"
        );
    }
    text.push_str("# EOF\n");
    text
}
