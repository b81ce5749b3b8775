//! Errors as players and operators see them: JSON with a hint, never cached.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::pipeline::PlayError;

/// Methods that are served to players.
pub(super) const PUBLIC_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// Methods that are served to operators.
pub(super) const ADMIN_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// What may not be kept.
pub(super) const NO_STORE: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

pub(super) fn error(status: StatusCode, message: &str, hint: &str) -> Response {
    let body = Json(json!({ "error": message, "hint": hint }));
    let mut response = (status, [NO_STORE], body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let second = HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, second);
    }
    response
}

pub(super) fn play_error(reason: &PlayError) -> Response {
    let (status, hint) = match reason {
        PlayError::Unknown => (
            StatusCode::NOT_FOUND,
            "check the id; a stream that starts later can be asked for again",
        ),
        PlayError::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "ask again in a second"),
        PlayError::Unreachable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ask again; the node may have just started, or lost its links",
        ),
        PlayError::Ended => (StatusCode::GONE, "the next broadcast has another id"),
        PlayError::Gone => (StatusCode::GONE, "fetch the playlist again"),
        PlayError::Busy | PlayError::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "try another node")
        }
    };
    error(status, &reason.to_string(), hint)
}

pub(super) fn bad_id(reason: &dyn std::fmt::Display) -> Response {
    error(
        StatusCode::BAD_REQUEST,
        &reason.to_string(),
        "copy the whole id",
    )
}

pub(super) async fn no_such_page() -> Response {
    error(
        StatusCode::NOT_FOUND,
        "no such page",
        "the list of streams is at /",
    )
}

/// An answer to a method that is not served, naming those that are.
pub(super) fn only(methods: HeaderValue) -> Response {
    let mut response = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "this method is not served here",
        "ask with GET or HEAD",
    );
    response.headers_mut().insert(header::ALLOW, methods);
    response
}
