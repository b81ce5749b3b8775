//! What a node says of itself: to neighbours, signed, and to monitors.

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
