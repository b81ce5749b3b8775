//! Serves connections within bounds: how many there are, how long each may take, and how
//! long a stop may.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, StatusCode},
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::{
    Side,
    traffic::{Class, Traffic},
    watch::{Patience, Verdict, Watch, WatchedBody, WatchedIo},
};
use crate::clock;

/// Bytes of a request's head, and of what may wait to be written, per connection.
const BUFFER: usize = 64 * 1024;
/// Header lines of a request.
const HEADERS: usize = 64;
/// Requests under way at once on one HTTP/2 connection.
const STREAMS: u32 = 64;
/// How often an HTTP/2 peer is asked whether it is there, and how long it may take.
const PING: Duration = Duration::from_secs(20);
/// How long to wait when the system gives no more sockets.
const OUT_OF_SOCKETS: Duration = Duration::from_secs(1);

/// The bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once; more are closed as soon as they are made.
    pub(super) connections: usize,
    /// How long a connection may go without progress.
    pub(super) patience: Patience,
    /// How long answers under way may take when the node stops.
    pub(super) drain: Duration,
}

impl Limits {
    pub(super) const PUBLIC: Self = Self {
        connections: 1024,
        patience: Patience {
            idle: Duration::from_secs(30),
            stall: Duration::from_secs(20),
            answer: Duration::from_secs(120),
        },
        drain: Duration::from_secs(2),
    };
    pub(super) const ADMIN: Self = Self {
        connections: 64,
        ..Self::PUBLIC
    };
}

/// From where a request came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote(pub(super) SocketAddr);

/// Serves a listener until `stop`, and then what is under way for a while.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    (side, traffic): (Side, Arc<Traffic>),
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let (socket, remote) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            side.of(&traffic).refused();
            debug!(%remote, "too many connections; closing one");
            continue;
        };
        let connection = Connection {
            router: router.clone(),
            limits,
            side,
            traffic: traffic.clone(),
            remote,
        };
        let (stop, cut) = (stop.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection.run(socket, stop) => {}
                () = cut.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if timeout(limits.drain, connections.wait()).await.is_err() {
        debug!(open = connections.len(), "cutting off what is under way");
        cut.cancel();
        connections.wait().await;
    }
}

/// The next connection. What fails is tried again: a connection that went away before it
/// was taken is nobody's fault, and sockets that are used up come back.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                warn!(%error, "no connection can be taken now");
                tokio::time::sleep(OUT_OF_SOCKETS).await;
            }
        }
    }
}

struct Connection {
    router: Router,
    limits: Limits,
    side: Side,
    traffic: Arc<Traffic>,
    remote: SocketAddr,
}

impl Connection {
    async fn run(self, socket: TcpStream, stop: CancellationToken) {
        // Playlists are small and awaited: they are not held back to fill a packet.
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%error, "the connection is gone already");
            return;
        }
        let Self {
            router,
            limits,
            side,
            traffic,
            remote,
        } = self;
        let watch = Watch::new(limits.patience, clock::now());
        let open = Open::new(side, traffic.clone());
        let io = TokioIo::new(WatchedIo::new(socket, watch.clone(), traffic.clone(), side));
        let asked = watch.clone();
        let service = hyper::service::service_fn(move |request| {
            answer(
                router.clone(),
                request,
                remote,
                asked.clone(),
                side,
                traffic.clone(),
            )
        });
        let builder = builder(limits.patience.idle);
        let mut serving = pin!(builder.serve_connection(io, service));
        let mut look = interval(watch.period());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            tokio::select! {
                served = serving.as_mut() => {
                    if let Err(error) = served {
                        debug!(%remote, error, "connection ended");
                    }
                    return;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
                _ = look.tick() => {
                    if let Some(verdict) = watch.verdict(clock::now()) {
                        open.end(verdict);
                        debug!(%remote, ?verdict, "closing a connection");
                        return;
                    }
                }
            }
        }
    }
}

fn builder(idle: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(16 * 1024)
        .max_send_buf_size(BUFFER);
    builder
}

async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    remote: SocketAddr,
    watch: Arc<Watch>,
    side: Side,
    traffic: Arc<Traffic>,
) -> Result<Response<WatchedBody<Body>>, Infallible> {
    let in_flight = watch.asked(clock::now());
    let class = Class::of(request.uri().path());
    request.extensions_mut().insert(Remote(remote));
    let response = router.oneshot(request.map(Body::new)).await?;
    let status: StatusCode = response.status();
    side.of(&traffic).answered(class, status.as_u16());
    Ok(response.map(|body| WatchedBody::new(body, in_flight)))
}

/// A connection that counts as open until it is dropped.
struct Open {
    side: Side,
    traffic: Arc<Traffic>,
}

impl Open {
    fn new(side: Side, traffic: Arc<Traffic>) -> Self {
        side.of(&traffic).opened();
        Self { side, traffic }
    }

    fn end(&self, verdict: Verdict) {
        match verdict {
            Verdict::Idle => {}
            Verdict::Stalled => self.side.of(&self.traffic).stalled(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.side.of(&self.traffic).closed();
    }
}

#[cfg(test)]
mod tests;
