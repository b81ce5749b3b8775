//! What operators and monitors ask, as JSON.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::join_all;
use headwater_proto::{BroadcastId, ManifestId, NodeId, NodeStatus, Position, Roles, StreamId};
use headwater_protocol::{Command, Reply};
use serde::{Deserialize, Serialize};

use super::{
    error::{NO_STORE, bad_id, error},
    health::Readiness,
    metrics,
    traffic::Traffic,
};
use crate::{
    driver::{Core, CoreError},
    ledger::{Later, LedgerReport, Opening},
    net::NetHandle,
    pipeline::Transcoding,
    receipts::Collector,
    status,
};

/// What the admin routes tell about.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The core.
    pub core: Core,
    /// The links.
    pub net: NetHandle,
    /// Roles, program and start of this node.
    pub about: status::About,
    /// Jobs of this transcoder.
    pub transcoding: Option<Arc<Transcoding>>,
    /// What collects its receipts, once a ledger that pays is open.
    pub collector: Later<Arc<Collector>>,
    /// The ledger, if the node has one.
    pub ledger: Option<Arc<Opening>>,
    /// When this node is of use.
    pub readiness: Readiness,
    /// Counts what is asked.
    pub traffic: Arc<Traffic>,
}

/// One node, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusReport {
    /// The node.
    pub node: String,
    /// Program and version.
    pub agent: String,
    /// What it does: any of broadcaster, relayer, transcoder; empty for an edge.
    pub roles: Vec<String>,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Open links.
    pub peers: u32,
    /// 0 idle to 255 full.
    pub load: u8,
    /// Where it listens; only told of the node itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// How its ledger does; only told of the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerStatus>,
    /// The streams it carries.
    pub streams: Vec<StreamReport>,
}

/// How a ledger does, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// `open`, `reading`, `unreachable` or `failed`.
    pub state: String,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The newest block of a chain that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
}

/// One stream, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamReport {
    /// The stream.
    pub stream: String,
    /// Newest segment.
    pub segment: Option<u64>,
    /// Newest part of it.
    pub part: Option<u32>,
    /// From whom it comes; none at its owner.
    pub parent: Option<String>,
    /// To how many nodes it goes.
    pub children: u32,
}

/// One neighbour, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerReport {
    /// The neighbour.
    pub node: String,
    /// What it does.
    pub roles: Vec<String>,
    /// Program and version.
    pub agent: String,
    /// Where it is.
    pub address: String,
    /// This node dialled it.
    pub outbound: bool,
    /// When the link came up, in milliseconds since 1970.
    pub since_ms: u64,
    /// The way there and back in microseconds, once it was measured.
    pub round_trip_us: Option<u64>,
    /// Bytes of messages that came.
    pub bytes_in: u64,
    /// Bytes of messages that went.
    pub bytes_out: u64,
}

/// A transcoder that the network knows of, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TranscoderReport {
    /// The transcoder.
    pub node: String,
    /// It answered, and would take a job now.
    pub available: bool,
    /// 0 idle to 255 full; none when it did not answer.
    pub load: Option<u8>,
}

/// One job of this transcoder, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobReport {
    /// The job.
    pub job: u64,
    /// Its source.
    pub stream: String,
    /// Renditions that are made.
    pub renditions: Vec<String>,
    /// How far they are behind the source, in milliseconds of media.
    pub lag_ms: u64,
}

pub(super) fn router(state: Admin) -> Router {
    Router::new()
        .route("/api/v1/status", get(own_status))
        .route("/api/v1/status/{node}", get(node_status))
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/peers", get(peers))
        .route("/api/v1/transcoders", get(transcoders))
        .route("/api/v1/jobs", get(jobs))
        .route("/metrics", get(counters))
        .with_state(state)
}

async fn own_status(State(admin): State<Admin>) -> Response {
    report(&admin, admin.net.node()).await
}

async fn node_status(State(admin): State<Admin>, Path(node): Path<String>) -> Response {
    match node.parse() {
        Ok(node) => report(&admin, node).await,
        Err(reason) => bad_id(&reason),
    }
}

async fn report(admin: &Admin, node: NodeId) -> Response {
    match admin.core.command(Command::RequestStatus { node }).await {
        Ok(Reply::Status(body)) => {
            let mut report = StatusReport::from(body.value());
            if node == admin.net.node() {
                let addresses = admin.net.listen_addresses();
                let full = |address| format!("{address}/p2p/{node}");
                report.addresses = addresses.iter().map(full).collect();
                let ledger = admin.ledger.as_ref().map(|ledger| ledger.report());
                report.ledger = ledger.map(LedgerStatus::from);
            }
            ([NO_STORE], Json(report)).into_response()
        }
        Ok(_) => stopping(),
        Err(CoreError::Refused(reason)) => error(
            StatusCode::GATEWAY_TIMEOUT,
            &reason.to_string(),
            "the node may be down, or no relay may know the way to it",
        ),
        Err(CoreError::Stopped(_)) => stopping(),
    }
}

fn stopping() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping", "")
}

async fn streams(State(admin): State<Admin>) -> Response {
    let Ok(snapshot) = admin.core.snapshot().await else {
        return stopping();
    };
    let report = |view: headwater_protocol::StreamView| {
        let children = u32::try_from(view.children.len()).unwrap_or(u32::MAX);
        StreamReport::new(&view.stream, view.edge, view.parent, children)
    };
    Json(snapshot.streams.into_iter().map(report).collect::<Vec<_>>()).into_response()
}

async fn peers(State(admin): State<Admin>) -> Response {
    let peers = admin.net.peers().into_iter().map(|peer| PeerReport {
        node: peer.peer.to_string(),
        roles: roles(peer.roles),
        agent: peer.agent,
        address: peer.address,
        outbound: peer.outbound,
        since_ms: peer.since_ms,
        round_trip_us: peer
            .round_trip
            .and_then(|time| u64::try_from(time.as_micros()).ok()),
        bytes_in: peer.bytes_in,
        bytes_out: peer.bytes_out,
    });
    ([NO_STORE], Json(peers.collect::<Vec<_>>())).into_response()
}

/// Those that have announced themselves, each asked whether it is there.
async fn transcoders(State(admin): State<Admin>) -> Response {
    let found = admin.net.find_transcoders().await;
    let asked = found.into_iter().map(|node| ask_transcoder(&admin, node));
    ([NO_STORE], Json(join_all(asked).await)).into_response()
}

async fn ask_transcoder(admin: &Admin, transcoder: NodeId) -> TranscoderReport {
    // No stream in particular: one of this node.
    let manifest = ManifestId {
        node: admin.net.node(),
        broadcast: BroadcastId::from_bytes([0; 16]),
    };
    let probe = Command::Probe {
        transcoder,
        stream: manifest.source(),
        renditions: Vec::new(),
    };
    let (available, load) = match admin.core.command(probe).await {
        Ok(Reply::Probe { available, load }) => (available, Some(load)),
        Ok(_) | Err(_) => (false, None),
    };
    let node = transcoder.to_string();
    TranscoderReport {
        node,
        available,
        load,
    }
}

async fn jobs(State(admin): State<Admin>) -> Response {
    let held = admin.transcoding.iter().flat_map(|jobs| jobs.list());
    let jobs = held.map(|held| JobReport {
        job: held.job.0,
        stream: held.stream.to_string(),
        renditions: held.renditions,
        lag_ms: held.lag_ms,
    });
    ([NO_STORE], Json(jobs.collect::<Vec<_>>())).into_response()
}

/// Counters in the OpenMetrics text form.
async fn counters(State(admin): State<Admin>) -> Response {
    let Ok(snapshot) = admin.core.snapshot().await else {
        return stopping();
    };
    let peers = admin.net.peers();
    let receipts = admin.collector.get().map(|collector| collector.counts());
    let ledger = admin.ledger.as_ref().map(|ledger| ledger.report());
    let text = metrics::write(
        &admin.about,
        &snapshot,
        &peers,
        &admin.traffic,
        receipts,
        ledger.as_ref(),
    );
    let kind = [(header::CONTENT_TYPE, metrics::KIND)];
    ([NO_STORE], kind, text).into_response()
}

impl From<LedgerReport> for LedgerStatus {
    fn from(report: LedgerReport) -> Self {
        let (state, reason) = report.state.told();
        Self {
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            settled: report.settled,
        }
    }
}

impl From<&NodeStatus> for StatusReport {
    fn from(status: &NodeStatus) -> Self {
        let stream = |s: &headwater_proto::StreamStatus| {
            StreamReport::new(&s.stream, s.edge, s.parent, s.children)
        };
        Self {
            node: status.node.to_string(),
            agent: status.agent.clone(),
            roles: roles(status.roles),
            uptime_s: status.uptime_s,
            peers: status.peers,
            load: status.load,
            addresses: Vec::new(),
            ledger: None,
            streams: status.streams.iter().map(stream).collect(),
        }
    }
}

impl StreamReport {
    fn new(
        stream: &StreamId,
        edge: Option<Position>,
        parent: Option<NodeId>,
        children: u32,
    ) -> Self {
        Self {
            stream: stream.to_string(),
            segment: edge.map(|edge| edge.segment),
            part: edge.map(|edge| edge.part),
            parent: parent.map(|parent| parent.to_string()),
            children,
        }
    }
}

pub(super) fn roles(roles: Roles) -> Vec<String> {
    let named = [
        (roles.broadcaster, "broadcaster"),
        (roles.relayer, "relayer"),
        (roles.transcoder, "transcoder"),
    ];
    let held = named.into_iter().filter(|(held, _)| *held);
    held.map(|(_, name)| name.to_owned()).collect()
}
