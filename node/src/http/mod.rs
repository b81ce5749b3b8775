//! HTTP for players and for operators. The only place that uses axum and hyper.
//!
//! `server` bounds connections, `guard` looks at requests before their routes do.

mod admin;
mod assets;
mod error;
mod guard;
mod health;
mod metrics;
mod playback;
mod range;
mod server;
mod streams;
mod traffic;
mod watch;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, http::HeaderValue, middleware::from_fn, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;

pub use admin::{Admin, JobReport, PeerReport, StatusReport, StreamReport, TranscoderReport};
pub use health::Readiness;
pub use traffic::Traffic;

use crate::pipeline::{Broadcasts, Library};
use server::Limits;
use traffic::Counters;

/// What players are served from.
#[derive(Debug, Clone)]
pub struct Public {
    /// Streams.
    pub library: Arc<Library>,
    /// Names of this node's broadcasts; `None` on a node that is no broadcaster.
    pub broadcasts: Option<Arc<Broadcasts>>,
    /// When this node is of use.
    pub readiness: Readiness,
    /// Counts what is asked.
    pub traffic: Arc<Traffic>,
}

/// Which of the two listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Public,
    Admin,
}

impl Side {
    fn of(self, traffic: &Traffic) -> &Counters {
        match self {
            Self::Public => &traffic.public,
            Self::Admin => &traffic.admin,
        }
    }
}

/// A socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({flag}): {reason}")]
pub struct BindError {
    address: SocketAddr,
    flag: &'static str,
    reason: io::Error,
}

/// Binds a listener; the error names the flag to change.
///
/// # Errors
/// When the address is in use or not this machine's.
pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|reason| BindError {
            address,
            flag,
            reason,
        })
}

/// Serves players until `stop`, and what is under way for two seconds more.
pub async fn serve_public(listener: TcpListener, state: Public, stop: CancellationToken) {
    let counted = (Side::Public, state.traffic.clone());
    server::serve(listener, public(state), Limits::PUBLIC, counted, stop).await;
}

/// Serves operators until `stop`, and what is under way for two seconds more.
pub async fn serve_admin(listener: TcpListener, state: Admin, stop: CancellationToken) {
    let counted = (Side::Admin, state.traffic.clone());
    server::serve(listener, admin(state), Limits::ADMIN, counted, stop).await;
}

fn public(state: Public) -> Router {
    let lists = Router::new()
        .route(guard::PRIVATE, get(streams::list))
        .with_state(state.clone());
    playback::router(state.clone())
        .merge(lists)
        .merge(health(state.readiness))
        .merge(assets::router())
        .fallback(error::no_such_page)
        .method_not_allowed_fallback(async || error::only(error::PUBLIC_METHODS))
        .layer(CompressionLayer::new().gzip(true).compress_when(TextOnly))
        .layer(from_fn(guard::readable_path))
        .layer(from_fn(guard::cross_origin))
}

fn admin(state: Admin) -> Router {
    health(state.readiness.clone())
        .merge(admin::router(state))
        .fallback(error::no_such_page)
        .method_not_allowed_fallback(async || error::only(error::ADMIN_METHODS))
        .layer(from_fn(guard::readable_path))
        .layer(from_fn(guard::local_host_only))
}

fn health(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .with_state(readiness)
}

/// Playlists and pages are compressed; media is already.
#[derive(Debug, Clone, Copy)]
struct TextOnly;

impl tower_http::compression::Predicate for TextOnly {
    fn should_compress<B>(&self, response: &axum::http::Response<B>) -> bool
    where
        B: axum::body::HttpBody,
    {
        let kind = response.headers().get(axum::http::header::CONTENT_TYPE);
        let text = |kind: &HeaderValue| {
            let kind = kind.as_bytes();
            kind.starts_with(b"text/")
                || kind.starts_with(b"application/vnd.apple.mpegurl")
                || kind.starts_with(b"application/json")
        };
        response.status().is_success() && kind.is_some_and(text)
    }
}
