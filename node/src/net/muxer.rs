//! Yamux with bounded memory: the library's own upgrade leaves each connection 1 GiB.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};
use yamux::{Connection, ConnectionError, Mode};

/// Substreams of one connection: a link's four, and the few short ones of the overlay.
const STREAMS: usize = 32;
/// Bytes that a neighbour may make us hold for one connection. Yamux wants 256 KiB for
/// each possible substream; half as much again lets a few of them grow.
const WINDOW: usize = 12 * 1024 * 1024;
/// Substreams that wait to be accepted; one more is reset.
const WAITING: usize = 16;

/// Negotiates yamux on a connection.
#[derive(Debug, Clone)]
pub(super) struct Bounded(yamux::Config);

impl Bounded {
    pub(super) fn new() -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS);
        config.set_max_connection_receive_window(Some(WINDOW));
        Self(config)
    }
}

impl UpgradeInfo for Bounded {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Bounded {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(socket, self.0, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Bounded {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, socket: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(socket, self.0, Mode::Client)))
    }
}

/// A yamux connection as libp2p drives it.
#[derive(Debug)]
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Yamux moves forward only while it is asked for inbound substreams; those that come
    /// while libp2p does not ask wait here.
    inbound: VecDeque<yamux::Stream>,
    acceptor: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(socket: C, config: yamux::Config, mode: Mode) -> Self {
        Self {
            connection: Connection::new(socket, config, mode),
            inbound: VecDeque::new(),
            acceptor: None,
        }
    }

    fn poll_connection(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.connection
            .poll_next_inbound(cx)
            .map(|next| next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, ConnectionError>> {
        let this = self.get_mut();
        if let Some(stream) = this.inbound.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = this.poll_connection(cx);
        if next.is_pending() {
            this.acceptor = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.get_mut().connection.poll_new_outbound(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.get_mut().connection.poll_close(cx)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        let this = self.get_mut();
        loop {
            match this.poll_connection(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(stream)) => {
                    if this.inbound.len() < WAITING {
                        this.inbound.push_back(stream);
                        if let Some(acceptor) = this.acceptor.take() {
                            acceptor.wake();
                        }
                    }
                }
            }
        }
    }
}
