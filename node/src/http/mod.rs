//! HTTP for players and for operators. The only place that uses axum.

mod admin;
mod assets;
mod error;
mod playback;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::Request, http::HeaderValue, middleware::Next, response::Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{compression::CompressionLayer, cors::CorsLayer};

pub use admin::{Admin, JobReport, PeerReport, StatusReport, StreamReport};

use crate::pipeline::{Broadcasts, Library};

/// What players are served from.
#[derive(Debug, Clone)]
pub struct Public {
    /// Streams.
    pub library: Arc<Library>,
    /// Names of this node's broadcasts; `None` on a node that is no broadcaster.
    pub broadcasts: Option<Arc<Broadcasts>>,
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

/// Serves players until `stop`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve_public(
    listener: TcpListener,
    state: Public,
    stop: CancellationToken,
) -> io::Result<()> {
    let cors = CorsLayer::new()
        .allow_origin(tower_http::cors::Any)
        .allow_methods([axum::http::Method::GET, axum::http::Method::HEAD])
        .allow_headers([axum::http::header::RANGE])
        .expose_headers([
            axum::http::header::CONTENT_RANGE,
            axum::http::header::CONTENT_LENGTH,
        ]);
    let router = playback::router(state)
        .merge(assets::router())
        .fallback(error::no_such_page)
        .method_not_allowed_fallback(error::only_reading)
        .layer(CompressionLayer::new().gzip(true).compress_when(TextOnly))
        .layer(cors);
    serve(listener, router, stop).await
}

/// Serves operators until `stop`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve_admin(
    listener: TcpListener,
    state: Admin,
    stop: CancellationToken,
) -> io::Result<()> {
    let router = admin::router(state)
        .fallback(error::no_such_page)
        .layer(axum::middleware::from_fn(local_host_only));
    serve(listener, router, stop).await
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let gone = stop.clone();
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    tokio::select! {
        result = serving => result,
        // Players hold their connections open; a node that stops does not wait for them.
        () = async {
            gone.cancelled().await;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        } => Ok(()),
    }
}

/// Refuses requests that a web page elsewhere made by naming a host that leads here.
async fn local_host_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(axum::http::header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let local = bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok();
    if local {
        next.run(request).await
    } else {
        error::foreign_host()
    }
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
