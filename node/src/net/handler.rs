//! What one connection does for us: opens or accepts a link's four substreams, and stays
//! open while the link is in use.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Future as _, Ready, ready},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::time::{Sleep, sleep};

/// Substreams of a link: control, feed, live, backfill.
pub(super) const CLASSES: usize = 4;

/// Names of the substreams, most urgent first.
pub(super) const PROTOCOLS: [StreamProtocol; CLASSES] = [
    StreamProtocol::new("/headwater/ctl/1"),
    StreamProtocol::new("/headwater/data/feed/1"),
    StreamProtocol::new("/headwater/data/live/1"),
    StreamProtocol::new("/headwater/data/backfill/1"),
];

/// How long all substreams of a link may take to open.
pub(super) const OPENING: Duration = Duration::from_secs(10);

/// The substreams of one link, by class.
pub(super) type Streams = [Stream; CLASSES];

/// From a handler.
#[derive(Debug)]
pub(super) enum HandlerEvent {
    /// All substreams are open.
    Ready(Box<Streams>),
    /// The other side cannot or does not open them.
    Failed(String),
    /// The other side opened a substream that it may not open.
    Surplus,
}

/// Who opens the substreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Opener,
    Acceptor,
}

/// To a handler: open the substreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open;

#[derive(Debug)]
enum State {
    /// Nobody wants a link on this connection.
    Idle,
    /// Some substreams are open, and the others have until the deadline.
    Opening {
        slots: Box<[Option<Stream>; CLASSES]>,
        deadline: Pin<Box<Sleep>>,
    },
    /// The substreams have been handed over; the connection lives as long as its link.
    Linked,
}

#[derive(Debug)]
pub(super) struct LinkHandler {
    side: Side,
    /// How long all substreams may take to open.
    opening: Duration,
    state: State,
    to_open: VecDeque<usize>,
    events: VecDeque<HandlerEvent>,
    waker: Option<Waker>,
}

impl LinkHandler {
    pub(super) const fn new(side: Side, opening: Duration) -> Self {
        Self {
            side,
            opening,
            state: State::Idle,
            to_open: VecDeque::new(),
            events: VecDeque::new(),
            waker: None,
        }
    }

    fn begin(&mut self) {
        self.state = State::Opening {
            slots: Box::new([const { None }; CLASSES]),
            deadline: Box::pin(sleep(self.opening)),
        };
        // The new deadline has to be polled once to be armed.
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn fail(&mut self, reason: String) {
        self.state = State::Idle;
        self.to_open.clear();
        self.events.push_back(HandlerEvent::Failed(reason));
    }

    fn accepted(&mut self, class: usize, stream: Stream) {
        if self.side == Side::Acceptor && matches!(self.state, State::Idle) {
            self.begin();
        }
        if self.side == Side::Opener || !self.opened(class, stream) {
            self.events.push_back(HandlerEvent::Surplus);
        }
    }

    /// Keeps a substream; `false` when there is no place for it. Dropping it resets it,
    /// which the other side sees.
    fn opened(&mut self, class: usize, stream: Stream) -> bool {
        let State::Opening { slots, .. } = &mut self.state else {
            return false;
        };
        let Some(slot @ None) = slots.get_mut(class) else {
            return false;
        };
        *slot = Some(stream);
        if slots.iter().all(Option::is_some) {
            let slots = std::mem::replace(&mut **slots, [const { None }; CLASSES]);
            if let [Some(ctl), Some(feed), Some(live), Some(backfill)] = slots {
                self.state = State::Linked;
                let streams = Box::new([ctl, feed, live, backfill]);
                self.events.push_back(HandlerEvent::Ready(streams));
            }
        }
        true
    }
}

impl ConnectionHandler for LinkHandler {
    type FromBehaviour = Open;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = AnyClass;
    type OutboundProtocol = OneClass;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<AnyClass, ()> {
        SubstreamProtocol::new(AnyClass, ())
    }

    fn connection_keep_alive(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<OneClass, (), HandlerEvent>> {
        if let State::Opening { deadline, .. } = &mut self.state
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.fail("substreams did not open in time".into());
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(class) = self.to_open.pop_front() {
            let protocol = SubstreamProtocol::new(OneClass(class), ()).with_timeout(self.opening);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        if matches!(self.state, State::Idle) && self.side == Side::Opener {
            self.begin();
            self.to_open.extend(0..CLASSES);
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, AnyClass, OneClass, (), ()>) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the library's enum has further events that do not concern a link"
        )]
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (class, stream),
                ..
            }) => self.accepted(class, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (class, stream),
                ..
            }) => {
                // None has a place when the opening has failed meanwhile.
                self.opened(class, stream);
            }
            ConnectionEvent::DialUpgradeError(error) => self.fail(error.error.to_string()),
            _ => {}
        }
    }
}

/// Accepts a substream of any class.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnyClass;

impl UpgradeInfo for AnyClass {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; CLASSES];

    fn protocol_info(&self) -> Self::InfoIter {
        PROTOCOLS
    }
}

impl InboundUpgrade<Stream> for AnyClass {
    type Output = (usize, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        let class = PROTOCOLS.iter().position(|known| *known == protocol);
        ready(Ok((class.unwrap_or(CLASSES), stream)))
    }
}

/// Opens a substream of one class.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneClass(usize);

impl UpgradeInfo for OneClass {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOLS[self.0].clone())
    }
}

impl OutboundUpgrade<Stream> for OneClass {
    type Output = (usize, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok((self.0, stream)))
    }
}

#[cfg(test)]
mod tests {
    use futures::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_link_whose_substreams_do_not_open_in_time_frees_its_connection() {
        let mut handler = LinkHandler::new(Side::Opener, Duration::from_millis(1));
        handler.on_behaviour_event(Open);
        assert!(handler.connection_keep_alive());

        let failed = poll_fn(|cx| match handler.poll(cx) {
            Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event)) => Poll::Ready(event),
            Poll::Ready(_) | Poll::Pending => Poll::Pending,
        });

        assert!(matches!(failed.await, HandlerEvent::Failed(_)));
        assert!(!handler.connection_keep_alive());
    }

    #[test]
    fn the_accepting_side_never_opens() {
        let mut handler = LinkHandler::new(Side::Acceptor, OPENING);
        handler.on_behaviour_event(Open);
        assert!(handler.to_open.is_empty());
        assert!(!handler.connection_keep_alive());
    }
}
