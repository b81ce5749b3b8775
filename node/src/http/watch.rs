//! Who keeps a connection waiting: a peer that does not take what it asked for, or asks
//! for nothing, loses its connection; one that waits for us does not.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use headwater_protocol::Time;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::traffic::Traffic;
use crate::{clock, mutex::lock};

/// How long a connection may go without progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Nothing asked, or a request's head not complete.
    pub(super) idle: Duration,
    /// Nothing taken of what was asked.
    pub(super) stall: Duration,
    /// One answer, from the first byte to the last.
    pub(super) answer: Duration,
}

/// Why a connection has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is of no use to anybody.
    Idle,
    /// It holds what others could have.
    Stalled,
}

#[derive(Debug)]
struct Answer {
    begun: Time,
    moved: Time,
    /// The next bytes are ours to give.
    ours: bool,
}

#[derive(Debug)]
struct State {
    next: u64,
    answers: BTreeMap<u64, Answer>,
    /// Since when the socket has taken nothing.
    blocked: Option<Time>,
    /// Since when nothing was asked.
    quiet: Time,
}

/// What one connection is doing.
#[derive(Debug)]
pub(super) struct Watch {
    patience: Patience,
    state: Mutex<State>,
}

impl Watch {
    pub(super) fn new(patience: Patience, now: Time) -> Arc<Self> {
        Arc::new(Self {
            patience,
            state: Mutex::new(State {
                next: 0,
                answers: BTreeMap::new(),
                blocked: None,
                quiet: now,
            }),
        })
    }

    /// A request has come; it lasts until the returned value is dropped.
    pub(super) fn asked(self: &Arc<Self>, now: Time) -> InFlight {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let answer = Answer {
            begun: now,
            moved: now,
            ours: true,
        };
        state.answers.insert(id, answer);
        InFlight {
            watch: self.clone(),
            id,
        }
    }

    /// Whether the connection has to go.
    pub(super) fn verdict(&self, now: Time) -> Option<Verdict> {
        let Patience {
            idle,
            stall,
            answer: whole,
        } = self.patience;
        let state = self.lock();
        let blocked = state.blocked.is_some_and(|since| now.since(since) > stall);
        let held = state.answers.values().any(|answer| {
            !answer.ours && (now.since(answer.moved) > stall || now.since(answer.begun) > whole)
        });
        if blocked || held {
            return Some(Verdict::Stalled);
        }
        let quiet = state.answers.is_empty() && now.since(state.quiet) > idle;
        quiet.then_some(Verdict::Idle)
    }

    /// How often to ask for a [`Watch::verdict`].
    pub(super) fn period(&self) -> Duration {
        let shortest = self.patience.idle.min(self.patience.stall);
        (shortest / 4).max(Duration::from_millis(10))
    }

    fn written(&self, progress: bool) {
        let mut state = self.lock();
        if progress {
            state.blocked = None;
        } else if state.blocked.is_none() {
            state.blocked = Some(clock::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight {
    watch: Arc<Watch>,
    id: u64,
}

impl InFlight {
    /// The peer has taken something; `ours` says who is next to act.
    fn moved(&self, ours: bool) {
        let now = clock::now();
        if let Some(answer) = self.watch.lock().answers.get_mut(&self.id) {
            answer.moved = now;
            answer.ours = ours;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.watch.lock();
        state.answers.remove(&self.id);
        state.quiet = clock::now();
    }
}

/// A body that tells when it is taken from.
#[derive(Debug)]
pub(super) struct WatchedBody<B> {
    inner: B,
    answer: InFlight,
}

impl<B> WatchedBody<B> {
    pub(super) fn new(inner: B, answer: InFlight) -> Self {
        answer.moved(false);
        Self { inner, answer }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.answer.moved(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A socket that tells when it is written to, and counts the bytes.
#[derive(Debug)]
pub(super) struct WatchedIo<S> {
    inner: S,
    watch: Arc<Watch>,
    traffic: Arc<Traffic>,
    side: super::Side,
}

impl<S> WatchedIo<S> {
    pub(super) const fn new(
        inner: S,
        watch: Arc<Watch>,
        traffic: Arc<Traffic>,
        side: super::Side,
    ) -> Self {
        Self {
            inner,
            watch,
            traffic,
            side,
        }
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Pending => self.watch.written(false),
            Poll::Ready(Ok(bytes)) => {
                self.watch.written(true);
                self.side.of(&self.traffic).wrote(*bytes);
            }
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        idle: Duration::from_secs(30),
        stall: Duration::from_secs(20),
        answer: Duration::from_secs(120),
    };

    fn later(now: Time, seconds: u64) -> Time {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_connection_that_asks_for_nothing_is_idle_and_one_that_is_answered_is_not() {
        let now = clock::now();
        let watch = Watch::new(PATIENCE, now);
        assert_eq!(watch.verdict(later(now, 29)), None);
        assert_eq!(watch.verdict(later(now, 31)), Some(Verdict::Idle));

        let asked = watch.asked(now);
        assert_eq!(watch.verdict(later(now, 500)), None, "it waits for us");
        drop(asked);
        assert_eq!(watch.verdict(later(clock::now(), 31)), Some(Verdict::Idle));
    }

    #[test]
    fn a_peer_that_takes_nothing_of_an_answer_is_stalled() {
        let now = clock::now();
        let watch = Watch::new(PATIENCE, now);
        let asked = watch.asked(now);
        asked.moved(false);
        assert_eq!(watch.verdict(later(now, 19)), None);
        assert_eq!(watch.verdict(later(now, 25)), Some(Verdict::Stalled));

        asked.moved(true);
        assert_eq!(watch.verdict(later(now, 25)), None, "it waits for us");
    }

    #[test]
    fn an_answer_that_is_taken_a_drop_at_a_time_is_cut_off() {
        let now = clock::now();
        let watch = Watch::new(PATIENCE, now);
        let asked = watch.asked(now);
        let late = later(now, 121);
        if let Some(answer) = watch.lock().answers.get_mut(&asked.id) {
            answer.ours = false;
            answer.moved = late;
        }
        assert_eq!(watch.verdict(late), Some(Verdict::Stalled));
    }

    #[test]
    fn a_socket_that_takes_nothing_is_stalled_until_it_takes_something() {
        let watch = Watch::new(PATIENCE, clock::now());
        let _asked = watch.asked(clock::now());
        watch.written(false);
        assert_eq!(
            watch.verdict(later(clock::now(), 21)),
            Some(Verdict::Stalled)
        );
        watch.written(true);
        assert_eq!(watch.verdict(later(clock::now(), 21)), None);
    }
}
