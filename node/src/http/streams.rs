//! What can be watched here, for the page at `/`.
//!
//! The broadcasts of this node are listed to everybody. What its viewers watch is theirs:
//! it is listed to a page of this node on this machine only.

use axum::{
    Json,
    extract::{Extension, Request, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{Public, error::NO_STORE, guard::is_local_host, server::Remote};

#[derive(Serialize)]
struct Listed {
    manifest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// An encoder is connected, or the broadcast comes from another node.
    live: bool,
    renditions: Vec<String>,
}

/// A proxy asks for somebody else.
fn is_passed_on(headers: &HeaderMap) -> bool {
    const MARKS: [&str; 5] = [
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
    ];
    MARKS.iter().any(|mark| headers.contains_key(*mark))
}

pub(super) async fn list(
    State(state): State<Public>,
    Extension(Remote(remote)): Extension<Remote>,
    request: Request,
) -> Response {
    let local = remote.ip().to_canonical().is_loopback()
        && is_local_host(request.uri(), request.headers())
        && !is_passed_on(request.headers());
    let watched = state.library.list();
    let own = state
        .broadcasts
        .iter()
        .flat_map(|broadcasts| broadcasts.list());
    let mut streams: Vec<_> = own
        .map(|live| {
            let known = watched.iter().find(|one| one.manifest == live.manifest);
            Listed {
                manifest: live.manifest.to_string(),
                name: Some(live.name),
                live: live.connected,
                renditions: known.map(|one| one.renditions.clone()).unwrap_or_default(),
            }
        })
        .collect();
    if local {
        for one in watched {
            let manifest = one.manifest.to_string();
            if streams.iter().all(|own| own.manifest != manifest) {
                streams.push(Listed {
                    manifest,
                    name: None,
                    live: true,
                    renditions: one.renditions,
                });
            }
        }
    }
    let body = serde_json::json!({ "streams": streams });
    ([NO_STORE], Json(body)).into_response()
}
