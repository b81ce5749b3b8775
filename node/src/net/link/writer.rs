//! The writing half of a link: strict priorities.
//!
//! The transport knows none, so one task writes all substreams, in slices, and looks for
//! something more urgent after each. What a slice may delay is what the transport has
//! taken already.

use std::{
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncWrite, future::poll_fn, io::WriteHalf};
use headwater_proto::{Frame, Message, NodeId, encode};
use headwater_protocol::message_cost;
use libp2p::Stream;
use tokio::{sync::mpsc, time::timeout};

use super::{CLASSES, Counters, LinkError, NetEvent, Outgoing, Shared};

/// Most that is given to the transport at once.
const SLICE: usize = 16 * 1024;
/// A link that takes nothing for this long, though there is something, is dead.
const STALL: Duration = Duration::from_secs(10);
/// Written bytes are reported once they are this many, or when there is nothing to write.
const REPORT: usize = 64 * 1024;

/// Writes until the link ends.
pub(super) async fn run(
    peer: NodeId,
    writers: [WriteHalf<Stream>; CLASSES],
    outgoing: Outgoing,
    shared: &Shared,
    counters: &Counters,
) -> LinkError {
    let [ctl, feed, live, backfill] = writers;
    let [feed_queue, live_queue, backfill_queue] = outgoing.data;
    let mut lanes = Lanes {
        lanes: [
            Lane::new(ctl, vec![outgoing.control, outgoing.playlists]),
            Lane::new(feed, vec![feed_queue]),
            Lane::new(live, vec![live_queue]),
            Lane::new(backfill, vec![backfill_queue]),
        ],
        credit: 0,
        moved: 0,
    };
    loop {
        let step = timeout(STALL, poll_fn(|cx| lanes.poll(cx))).await;
        let moved = std::mem::take(&mut lanes.moved);
        counters.written.fetch_add(moved as u64, Relaxed);
        match step {
            Ok(Ok(credit)) => shared.tell(NetEvent::Writable { peer, credit }).await,
            Ok(Err(error)) => return error,
            Err(_) if moved == 0 && lanes.wants_to_write() => return LinkError::Stalled,
            Err(_) => {}
        }
    }
}

/// A link's substreams, most urgent first.
struct Lanes<W> {
    lanes: [Lane<W>; CLASSES],
    /// Written, not reported.
    credit: usize,
    /// Bytes given to the transport.
    moved: usize,
}

impl<W: AsyncWrite + Unpin> Lanes<W> {
    fn wants_to_write(&self) -> bool {
        self.lanes
            .iter()
            .any(|lane| lane.frame.is_some() || lane.dirty)
    }

    /// Writes; ready with the credit to report.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, LinkError>> {
        loop {
            let mut idle = true;
            for lane in &mut self.lanes {
                match lane.poll(cx)? {
                    Poll::Ready(Step::Wrote { bytes, credit }) => {
                        self.moved += bytes;
                        self.credit += credit;
                        idle = false;
                    }
                    Poll::Ready(Step::Idle) => continue,
                    // What is less urgent waits.
                    Poll::Pending => return self.poll_report(),
                }
                break;
            }
            if idle || self.credit >= REPORT {
                return self.poll_report();
            }
        }
    }

    fn poll_report(&mut self) -> Poll<Result<usize, LinkError>> {
        match std::mem::take(&mut self.credit) {
            0 => Poll::Pending,
            credit => Poll::Ready(Ok(credit)),
        }
    }
}

enum Step {
    Wrote {
        bytes: usize,
        /// Of the frame that is complete now.
        credit: usize,
    },
    /// Nothing to write.
    Idle,
}

/// One substream.
struct Lane<W> {
    writer: W,
    /// Most urgent first.
    queues: Vec<mpsc::Receiver<Message>>,
    frame: Option<Writing>,
    /// Something was written and not flushed.
    dirty: bool,
}

struct Writing {
    frame: Frame,
    written: usize,
    credit: usize,
}

impl Writing {
    /// What comes next, in one slice; empty when all is written.
    fn rest(&self) -> &[u8] {
        let head = &self.frame.head;
        let rest = if self.written < head.len() {
            &head[self.written..]
        } else {
            let payload = self.frame.payload.as_deref().unwrap_or_default();
            &payload[self.written - head.len()..]
        };
        &rest[..rest.len().min(SLICE)]
    }
}

impl<W: AsyncWrite + Unpin> Lane<W> {
    const fn new(writer: W, queues: Vec<mpsc::Receiver<Message>>) -> Self {
        Self {
            writer,
            queues,
            frame: None,
            dirty: false,
        }
    }

    /// Writes one slice.
    fn poll(&mut self, cx: &mut Context<'_>) -> Result<Poll<Step>, LinkError> {
        if self.frame.is_none() {
            match self.poll_message(cx) {
                Poll::Ready(Some(message)) => {
                    let credit = message_cost(&message);
                    match encode(&message) {
                        Ok(frame) => {
                            self.frame = Some(Writing {
                                frame,
                                written: 0,
                                credit,
                            });
                        }
                        // A neighbour would count it against this node.
                        Err(reason) => {
                            tracing::error!(%reason, "own message not sent");
                            let bytes = 0;
                            return Ok(Poll::Ready(Step::Wrote { bytes, credit }));
                        }
                    }
                }
                Poll::Ready(None) => return Err(LinkError::Closed),
                Poll::Pending => return self.poll_flush(cx),
            }
        }
        let Some(writing) = &mut self.frame else {
            return Ok(Poll::Ready(Step::Idle));
        };
        let bytes = match Pin::new(&mut self.writer).poll_write(cx, writing.rest()) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(written) => written?,
        };
        if bytes == 0 {
            return Err(LinkError::Closed);
        }
        self.dirty = true;
        writing.written += bytes;
        let mut credit = 0;
        if writing.rest().is_empty() {
            credit = writing.credit;
            self.frame = None;
        }
        Ok(Poll::Ready(Step::Wrote { bytes, credit }))
    }

    /// The next message of the most urgent queue that has one; `None` when all are closed.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut open = false;
        for queue in &mut self.queues {
            match queue.poll_recv(cx) {
                Poll::Ready(Some(message)) => return Poll::Ready(Some(message)),
                Poll::Ready(None) => {}
                Poll::Pending => open = true,
            }
        }
        if open {
            Poll::Pending
        } else {
            Poll::Ready(None)
        }
    }

    /// Flushes; a flush that has to wait delays nobody.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<Step>, LinkError> {
        if self.dirty
            && let Poll::Ready(flushed) = Pin::new(&mut self.writer).poll_flush(cx)
        {
            flushed?;
            self.dirty = false;
        }
        Ok(Poll::Ready(Step::Idle))
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, io, rc::Rc};

    use bytes::Bytes;
    use futures::task::noop_waker;
    use headwater_proto::{Chunk, Ping, Position, RequestId, Slot};

    use super::*;

    /// What all substreams were given, in order, and how much more they take.
    #[derive(Default)]
    struct Wire {
        slices: Vec<(usize, usize)>,
        room: usize,
    }

    struct Substream(usize, Rc<RefCell<Wire>>);

    impl AsyncWrite for Substream {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let mut wire = self.1.borrow_mut();
            let taken = bytes.len().min(wire.room);
            if taken == 0 {
                return Poll::Pending;
            }
            wire.room -= taken;
            wire.slices.push((self.0, taken));
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    struct Bench {
        wire: Rc<RefCell<Wire>>,
        lanes: Lanes<Substream>,
        queues: Vec<mpsc::Sender<Message>>,
    }

    fn bench() -> Bench {
        let wire = Rc::new(RefCell::new(Wire::default()));
        let mut queues = Vec::new();
        let lanes = std::array::from_fn(|class| {
            let (queue, out) = mpsc::channel(64);
            queues.push(queue);
            Lane::new(Substream(class, wire.clone()), vec![out])
        });
        let lanes = Lanes {
            lanes,
            credit: 0,
            moved: 0,
        };
        Bench {
            wire,
            lanes,
            queues,
        }
    }

    impl Bench {
        fn poll(&mut self, room: usize) -> Poll<Result<usize, LinkError>> {
            self.wire.borrow_mut().room = room;
            let waker = noop_waker();
            self.lanes.poll(&mut Context::from_waker(&waker))
        }

        fn classes(&self) -> Vec<usize> {
            let wire = self.wire.borrow();
            wire.slices.iter().map(|(class, _)| *class).collect()
        }
    }

    fn chunk() -> Message {
        Message::Chunk(Chunk {
            request: RequestId(1),
            slot: Slot::Part(Position {
                segment: 1,
                part: 0,
            }),
            index: 0,
            payload: Bytes::from(vec![7; SLICE]),
        })
    }

    #[test]
    fn the_more_urgent_goes_between_two_slices_of_the_less_urgent() {
        let mut bench = bench();
        bench.queues[3].try_send(chunk()).unwrap();
        bench.queues[3].try_send(chunk()).unwrap();
        assert!(bench.poll(1000).is_pending(), "the wire is full");
        bench.queues[0]
            .try_send(Message::Ping(Ping { nonce: 1 }))
            .unwrap();
        bench.queues[1].try_send(chunk()).unwrap();

        let credit = bench.poll(usize::MAX);

        let mut classes = bench.classes();
        classes.dedup();
        assert_eq!(classes, [3, 0, 1, 3]);
        let expected = 3 * message_cost(&chunk());
        assert!(matches!(credit, Poll::Ready(Ok(credit)) if credit == expected));
    }

    #[test]
    fn nothing_passes_an_urgent_message_that_waits_for_room() {
        let mut bench = bench();
        bench.queues[1].try_send(chunk()).unwrap();
        bench.queues[3].try_send(chunk()).unwrap();

        assert!(bench.poll(1000).is_pending());
        assert!(bench.poll(1000).is_pending());

        assert!(bench.classes().iter().all(|class| *class == 1));
        assert!(bench.lanes.wants_to_write());
    }

    #[test]
    fn credit_comes_back_once_for_every_message() {
        let mut bench = bench();
        for _ in 0..40 {
            bench.queues[2].try_send(chunk()).unwrap();
        }

        let mut back = 0;
        while let Poll::Ready(credit) = bench.poll(usize::MAX) {
            let credit = credit.unwrap();
            assert!(credit < REPORT + SLICE + 1024, "reported while writing");
            back += credit;
        }

        assert_eq!(back, 40 * message_cost(&chunk()));
    }
}
