//! Errors as players and operators see them: never cached, and with a hint.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::pipeline::PlayError;

pub(super) fn error(status: StatusCode, message: &str, hint: &str) -> Response {
    let body = Json(json!({ "error": message, "hint": hint }));
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
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
        PlayError::Gone => (StatusCode::NOT_FOUND, "fetch the playlist again"),
        PlayError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "try another node"),
        PlayError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "try another node"),
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

pub(super) async fn only_reading() -> Response {
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        "only GET and HEAD are served here",
        "",
    )
}

pub(super) fn foreign_host() -> Response {
    error(
        StatusCode::FORBIDDEN,
        "this address is for this machine only",
        "ask by IP address or as localhost",
    )
}
