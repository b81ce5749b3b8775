//! Where deliveries of one stream go: a bounded queue per consumer that loses whole
//! groups, and says so, rather than make the core wait.

use headwater_proto::Position;
use headwater_protocol::Delivery;
use tokio::sync::mpsc;

/// Deliveries that may wait for one consumer: 50 seconds of 200 ms parts.
pub const SINK_ITEMS: usize = 256;

/// A consumer's end of a stream.
#[derive(Debug)]
pub struct Subscription {
    items: mpsc::Receiver<Delivery>,
}

impl Subscription {
    /// The next item in stream order; `None` when the node stops. Cancel-safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.items.recv().await
    }
}

/// The driver's end.
#[derive(Debug)]
pub(super) struct Sink {
    items: mpsc::Sender<Delivery>,
    /// First part that the consumer had no room for.
    missed: Option<Position>,
}

impl Sink {
    pub(super) fn new() -> (Self, Subscription) {
        let (tx, rx) = mpsc::channel(SINK_ITEMS);
        let sink = Self {
            items: tx,
            missed: None,
        };
        (sink, Subscription { items: rx })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.items.is_closed()
    }

    /// Hands an item on. A consumer that is behind misses parts up to the next start of
    /// a segment that it has room for, and is told so by a Gap.
    pub(super) fn offer(&mut self, item: &Delivery) {
        match item {
            Delivery::Part { position, .. } => self.offer_part(*position, item),
            // Room is kept for the few items that are not parts, so that an init or the
            // end is not lost behind a queue of parts.
            Delivery::Init { .. }
            | Delivery::Gap { .. }
            | Delivery::Finished
            | Delivery::Waiting(_) => {
                if self.items.try_send(item.clone()).is_err() {
                    tracing::debug!(closed = self.items.is_closed(), "item not taken");
                }
            }
        }
    }

    fn offer_part(&mut self, position: Position, item: &Delivery) {
        const RESERVED: usize = 16;
        let room = self.items.capacity() > RESERVED;
        if let Some(from) = self.missed {
            if !room || position.part != 0 {
                return;
            }
            let gap = Delivery::Gap { from, to: position };
            if self.items.try_send(gap).is_err() {
                return;
            }
            self.missed = None;
        } else if !room {
            self.missed = Some(position);
            return;
        }
        if self.items.try_send(item.clone()).is_err() {
            self.missed = Some(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headwater_proto::MediaInfo;

    use super::*;

    fn part(segment: u64, part: u32) -> Delivery {
        Delivery::Part {
            position: Position { segment, part },
            media: MediaInfo {
                init: 0,
                start: 0,
                duration: 1,
                program_date_time_ms: 0,
                discontinuity: 0,
                independent: part == 0,
                last: part == 9,
            },
            chunks: vec![Bytes::from_static(b"x")],
        }
    }

    #[tokio::test]
    async fn consumer_that_falls_behind_gets_a_gap_up_to_a_segment_start() {
        let (mut sink, mut subscription) = Sink::new();
        for segment in 0..40 {
            for index in 0..10 {
                sink.offer(&part(segment, index));
            }
        }

        let mut got = 0;
        while let Ok(Delivery::Part { .. }) = subscription.items.try_recv() {
            got += 1;
        }
        sink.offer(&part(40, 3));
        sink.offer(&part(41, 0));

        assert_eq!(got, 240, "sixteen places are kept free");
        let gap = subscription.next().await.unwrap();
        let from = Position {
            segment: 24,
            part: 0,
        };
        let to = Position {
            segment: 41,
            part: 0,
        };
        assert_eq!(gap, Delivery::Gap { from, to });
        assert_eq!(subscription.next().await.unwrap(), part(41, 0));
    }
}
