//! What monitors read, in the OpenMetrics text form: every family with its type and help,
//! and no more series than the bounds below.

use std::{collections::BTreeMap, fmt::Write as _};

use headwater_chain::ethereum::EndpointStatus;
use headwater_proto::{NodeId, Roles};
use headwater_protocol::StreamView;

use super::{Side, traffic::Traffic};
use crate::{
    clock,
    driver::Snapshot,
    ledger::{LedgerReport, LedgerState},
    net::PeerInfo,
    receipts::ReceiptCounts,
    status::About,
};

/// Media type of what [`write`] returns.
pub(super) const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Streams with series of their own; the others count in the totals only.
const MAX_STREAMS: usize = 64;
/// Neighbours with series of their own.
const MAX_PEERS: usize = 256;

/// All that is told.
pub(super) fn write(
    about: &About,
    snapshot: &Snapshot,
    peers: &[PeerInfo],
    traffic: &Traffic,
    receipts: Option<ReceiptCounts>,
    ledger: Option<&LedgerReport>,
) -> String {
    let mut page = Page::default();
    node(&mut page, about, snapshot, peers);
    counters(&mut page, snapshot);
    streams(&mut page, &snapshot.streams);
    neighbours(&mut page, peers, &snapshot.streams);
    http(&mut page, traffic);
    if let Some(counts) = receipts {
        collected(&mut page, counts);
    }
    if let Some(report) = ledger {
        followed(&mut page, report);
    }
    page.text.push_str("# EOF\n");
    page.text
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Info,
}

#[derive(Default)]
struct Page {
    text: String,
}

/// A sample's labels.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Page {
    fn family<'a>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) {
        let (kind, suffix) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
            Kind::Info => ("info", "_info"),
        };
        // Writing to a string cannot fail.
        let _infallible = write!(
            self.text,
            "# TYPE headwater_{name} {kind}\n# HELP headwater_{name} {help}\n"
        );
        for (labels, value) in samples {
            let labels: Vec<_> = labels
                .into_iter()
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let labels = match labels.as_slice() {
                [] => String::new(),
                labels => format!("{{{}}}", labels.join(",")),
            };
            let _infallible = writeln!(self.text, "headwater_{name}{suffix}{labels} {value}");
        }
    }

    fn one(&mut self, kind: Kind, name: &str, help: &str, value: u64) {
        self.family(kind, name, help, [(vec![], value)]);
    }
}

/// A label's value; what others tell of themselves may hold anything.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for symbol in text.chars() {
        match symbol {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            other if other.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    escaped
}

fn node(page: &mut Page, about: &About, snapshot: &Snapshot, peers: &[PeerInfo]) {
    let roles = roles(about.roles);
    let labels = vec![("agent", about.agent.as_str()), ("roles", roles.as_str())];
    page.family(Kind::Info, "node", "Program and roles.", [(labels, 1)]);
    let uptime = clock::now().since(about.started).as_secs();
    let children = snapshot.streams.iter().map(|view| view.children.len());
    let ring = snapshot.streams.iter().map(|view| view.ring_bytes);
    for (name, help, value) in [
        ("uptime_seconds", "Since the node started.", uptime),
        ("peers", "Open links.", peers.len() as u64),
        ("streams", "Streams carried.", snapshot.streams.len() as u64),
        (
            "children",
            "Nodes that streams go to.",
            children.sum::<usize>() as u64,
        ),
        (
            "ring_bytes",
            "Payload bytes kept.",
            ring.sum::<usize>() as u64,
        ),
    ] {
        page.one(Kind::Gauge, name, help, value);
    }
}

fn counters(page: &mut Page, snapshot: &Snapshot) {
    let stats = &snapshot.stats;
    for (name, help, value) in [
        (
            "bytes_in",
            "Payload bytes received and kept.",
            stats.bytes_in,
        ),
        ("bytes_out", "Payload bytes sent.", stats.bytes_out),
        ("messages_in", "Messages received.", stats.messages_in),
        ("messages_out", "Messages sent.", stats.messages_out),
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
            "children_skipped",
            "Children moved ahead because they were too slow.",
            stats.children_skipped,
        ),
        (
            "duplicates",
            "Headers and chunks that came twice.",
            stats.duplicates,
        ),
        ("nacks_in", "Repairs that others asked for.", stats.nacks_in),
        ("nacks_out", "Repairs asked for.", stats.nacks_out),
        (
            "parents_lost",
            "Parents lost or given up.",
            stats.parents_lost,
        ),
        (
            "redirects_in",
            "Other parents that this node was sent to.",
            stats.redirects_in,
        ),
        (
            "redirects_out",
            "Nodes that were sent to this node's children.",
            stats.redirects_out,
        ),
        (
            "cycles",
            "Streams taken from below oneself, and left.",
            stats.cycles,
        ),
        ("lookups", "Walks through the overlay.", stats.lookups),
        (
            "dials",
            "Dials of nodes for a stream or a job.",
            stats.dials,
        ),
        (
            "contradictions",
            "Parts that another of their stream contradicts, both signed by its node.",
            stats.contradictions,
        ),
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
            "receipts_asked",
            "Requests of transcoders for receipts.",
            stats.receipts_asked,
        ),
        (
            "receipts_refused",
            "Those of them that were not answered with receipts.",
            stats.receipts_refused,
        ),
        (
            "overloaded",
            "Requests turned away at a limit.",
            stats.overloaded,
        ),
    ] {
        page.one(Kind::Counter, name, help, value);
    }
    let violations = stats.violations.iter();
    page.family(
        Kind::Counter,
        "violations",
        "What no correct node sends, by kind.",
        violations.map(|(kind, count)| (vec![("kind", *kind)], *count)),
    );
}

/// What a transcoder is owed.
fn collected(page: &mut Page, counts: ReceiptCounts) {
    let received = "Receipts for segments this transcoder made.";
    page.one(
        Kind::Counter,
        "receipts_received",
        received,
        counts.received,
    );
    let bad = "Receipts that are not what was done, or not the broadcaster's.";
    page.one(Kind::Counter, "receipts_bad", bad, counts.bad);
    let waiting = "Segments of all jobs that have no receipt yet.";
    page.one(Kind::Gauge, "receipts_waiting", waiting, counts.waiting);
}

/// The ledger, and the chain that it is on.
fn followed(page: &mut Page, report: &LedgerReport) {
    let open = u64::from(report.state == LedgerState::Open);
    page.one(
        Kind::Gauge,
        "ledger_open",
        "Whether the ledger answers.",
        open,
    );
    let endpoints = &report.endpoints;
    if endpoints.is_empty() {
        return;
    }
    if let Some(settled) = report.settled {
        let help = "The newest block that counts.";
        page.one(Kind::Gauge, "chain_settled_block", help, settled);
    }
    let mut each = |kind, name: &str, help: &str, read: fn(&EndpointStatus) -> Option<u64>| {
        let samples = endpoints.iter().filter_map(|status| {
            let labels = vec![("endpoint", status.endpoint.as_str())];
            Some((labels, read(status)?))
        });
        page.family(kind, name, help, samples);
    };
    let up = "Whether it is asked before those that are not.";
    each(Kind::Gauge, "chain_endpoint_up", up, |status| {
        Some(u64::from(status.healthy))
    });
    let head = "The newest block it was seen to have.";
    each(Kind::Gauge, "chain_endpoint_head", head, |status| {
        status.head
    });
    let asked = "Requests to it.";
    each(Kind::Counter, "chain_endpoint_requests", asked, |status| {
        Some(status.requests)
    });
    let failed = "Requests that it failed.";
    each(Kind::Counter, "chain_endpoint_errors", failed, |status| {
        Some(status.errors)
    });
    if let Some(pending) = report.pending {
        let help = "Transactions of this node that are under way.";
        page.one(Kind::Gauge, "chain_transactions_pending", help, pending);
    }
}

fn streams(page: &mut Page, streams: &[StreamView]) {
    let told = &streams[..streams.len().min(MAX_STREAMS)];
    let names: Vec<_> = told.iter().map(|view| view.stream.to_string()).collect();
    let mut gauge = |name: &str, help: &str, read: &dyn Fn(&StreamView) -> Option<u64>| {
        let samples = names.iter().zip(told).filter_map(|(stream, view)| {
            let owned = if view.owned { "true" } else { "false" };
            let labels = vec![("stream", stream.as_str()), ("owned", owned)];
            Some((labels, read(view)?))
        });
        page.family(Kind::Gauge, name, help, samples);
    };
    gauge(
        "stream_newest_segment",
        "Number of the newest segment of which anything is here.",
        &|view| view.edge.map(|edge| edge.segment),
    );
    gauge(
        "stream_live",
        "Whether data can be expected now.",
        &|view| Some(u64::from(view.live)),
    );
    gauge(
        "stream_delivered",
        "Whether it is delivered to this machine.",
        &|view| Some(u64::from(view.delivered)),
    );
    gauge(
        "stream_depth",
        "Nodes from its owner down to this one.",
        &|view| Some(view.depth as u64),
    );
    gauge("stream_children", "Nodes that it goes to.", &|view| {
        Some(view.children.len() as u64)
    });
    gauge("stream_ring_bytes", "Payload bytes kept of it.", &|view| {
        Some(view.ring_bytes as u64)
    });
}

fn neighbours(page: &mut Page, peers: &[PeerInfo], streams: &[StreamView]) {
    let mut from: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut to: BTreeMap<NodeId, u64> = BTreeMap::new();
    for view in streams {
        if let Some(parent) = view.parent {
            *from.entry(parent).or_default() += 1;
        }
        for child in &view.children {
            *to.entry(*child).or_default() += 1;
        }
    }
    let told: Vec<_> = peers.iter().take(MAX_PEERS).collect();
    let names: Vec<_> = told
        .iter()
        .map(|peer| (peer.peer.to_string(), roles(peer.roles)))
        .collect();
    let infos = told.iter().zip(&names).map(|(peer, (name, roles))| {
        let dialled = if peer.outbound { "true" } else { "false" };
        let labels = vec![
            ("peer", name.as_str()),
            ("roles", roles.as_str()),
            ("agent", peer.agent.as_str()),
            ("dialled", dialled),
        ];
        (labels, 1)
    });
    page.family(Kind::Info, "peer", "A neighbour.", infos);
    let mut counter = |name: &str, help: &str, read: fn(&PeerInfo) -> u64| {
        let samples = told.iter().zip(&names);
        let samples = samples.map(|(peer, (name, _))| (vec![("peer", name.as_str())], read(peer)));
        page.family(Kind::Counter, name, help, samples);
    };
    counter("peer_bytes_in", "Bytes that came from it.", |peer| {
        peer.bytes_in
    });
    counter("peer_bytes_out", "Bytes that went to it.", |peer| {
        peer.bytes_out
    });
    let skipped = "Messages from it of kinds that are not known here.";
    counter("peer_skipped_messages", skipped, |peer| peer.skipped);
    let measured = told.iter().zip(&names).filter_map(|(peer, (name, _))| {
        let micros = u64::try_from(peer.round_trip?.as_micros()).ok()?;
        Some((vec![("peer", name.as_str())], micros))
    });
    page.family(
        Kind::Gauge,
        "peer_round_trip_microseconds",
        "The way to it and back.",
        measured,
    );
    let mut gauge = |name: &str, help: &str, counts: &BTreeMap<NodeId, u64>| {
        let samples = told.iter().zip(&names).map(|(peer, (name, _))| {
            let count = counts.get(&peer.peer).copied().unwrap_or(0);
            (vec![("peer", name.as_str())], count)
        });
        page.family(Kind::Gauge, name, help, samples);
    };
    gauge("peer_streams_from", "Streams that come from it.", &from);
    gauge("peer_streams_to", "Streams that go to it.", &to);
}

fn http(page: &mut Page, traffic: &Traffic) {
    let sides = [("public", Side::Public), ("admin", Side::Admin)];
    let requests = sides.into_iter().flat_map(|(name, side)| {
        let counted = side.of(traffic).requests();
        counted
            .filter(|(.., count)| *count > 0)
            .map(move |(class, status, count)| {
                let labels = vec![("listener", name), ("class", class), ("status", status)];
                (labels, count)
            })
    });
    page.family(
        Kind::Counter,
        "http_requests",
        "Requests answered, by what they were for and how.",
        requests,
    );
    let connections = sides.map(|(name, side)| (name, side.of(traffic).read()));
    let each = |read: fn(&super::traffic::Connections) -> u64| {
        connections
            .iter()
            .map(move |(name, state)| (vec![("listener", *name)], read(state)))
    };
    page.family(
        Kind::Gauge,
        "http_connections",
        "Open connections.",
        each(|state| state.open),
    );
    page.family(
        Kind::Counter,
        "http_refused_connections",
        "Connections turned away because there were too many.",
        each(|state| state.refused),
    );
    page.family(
        Kind::Counter,
        "http_stalled_connections",
        "Connections closed because an answer was not taken.",
        each(|state| state.stalled),
    );
    page.family(
        Kind::Counter,
        "http_bytes_out",
        "Bytes written, headers included.",
        each(|state| state.bytes_out),
    );
}

fn roles(roles: Roles) -> String {
    super::admin::roles(roles).join("+")
}

#[cfg(test)]
mod tests;
