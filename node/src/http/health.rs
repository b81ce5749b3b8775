//! Whether the node runs, and whether it is of use yet.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::error::NO_STORE;
use crate::{ledger::Opening, net::NetHandle};

/// When a node is ready: it listens, and has found others if it was told of any.
#[derive(Debug, Clone)]
pub struct Readiness {
    net: NetHandle,
    joins: bool,
    ledger: Option<Arc<Opening>>,
}

impl Readiness {
    /// `joins` is true for a node that was given nodes to begin with. What its ledger does
    /// is told, but streams are carried without one.
    #[must_use]
    pub const fn new(net: NetHandle, joins: bool, ledger: Option<Arc<Opening>>) -> Self {
        Self { net, joins, ledger }
    }

    /// What is missing; empty when the node is ready. And how many links it has.
    fn missing(&self) -> (Vec<&'static str>, usize) {
        let links = self.net.peers().len();
        let mut missing = Vec::new();
        if self.net.listen_addresses().is_empty() {
            missing.push("it does not listen for other nodes yet");
        }
        if self.joins && links == 0 {
            missing.push("it has no link to another node yet");
        }
        (missing, links)
    }
}

pub(super) async fn alive() -> Response {
    ([NO_STORE], "ok\n").into_response()
}

pub(super) async fn ready(State(readiness): State<Readiness>) -> Response {
    let (missing, links) = readiness.missing();
    let mut body = json!({ "ready": missing.is_empty(), "links": links });
    if let Some(ledger) = &readiness.ledger {
        // Players may ask too: nothing about endpoints.
        body["ledger"] = json!(ledger.state().told().0);
    }
    if missing.is_empty() {
        return ([NO_STORE], Json(body)).into_response();
    }
    let error = format!("the node is not ready: {}", missing.join("; "));
    body["error"] = json!(error);
    body["hint"] = json!("check --listen and --bootstrap if this lasts");
    (StatusCode::SERVICE_UNAVAILABLE, [NO_STORE], Json(body)).into_response()
}
