//! What one connection does for us: opens or accepts a link's four substreams, and stays
//! open while the link is in use.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

/// Substreams of a link: control, feed, live, backfill.
pub(super) const CLASSES: usize = 4;

/// Names of the substreams, most urgent first.
pub(super) const PROTOCOLS: [StreamProtocol; CLASSES] = [
    StreamProtocol::new("/headwater/ctl/1"),
    StreamProtocol::new("/headwater/data/feed/1"),
    StreamProtocol::new("/headwater/data/live/1"),
    StreamProtocol::new("/headwater/data/backfill/1"),
];

/// The substreams of one link, by class.
pub(super) type Streams = [Stream; CLASSES];

/// From a handler.
#[derive(Debug)]
pub(super) enum HandlerEvent {
    /// All substreams are open.
    Ready(Box<Streams>),
    /// The other side cannot or does not open them.
    Failed(String),
    /// The other side opened one too many.
    TooManyStreams,
}

/// To a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandlerOrder {
    /// Open the substreams.
    Open,
}

#[derive(Debug)]
pub(super) struct LinkHandler {
    slots: [Option<Stream>; CLASSES],
    to_open: VecDeque<usize>,
    /// The substreams have been handed over.
    ready: bool,
    /// Somebody wants the connection.
    used: bool,
    events: VecDeque<HandlerEvent>,
}

impl LinkHandler {
    pub(super) fn new() -> Self {
        Self {
            slots: [const { None }; CLASSES],
            to_open: VecDeque::new(),
            ready: false,
            used: false,
            events: VecDeque::new(),
        }
    }

    fn opened(&mut self, class: usize, stream: Stream) {
        let taken = self.ready || self.slots.get(class).is_none_or(Option::is_some);
        if taken {
            // Dropping the stream resets it, which the other side sees.
            drop(stream);
            self.events.push_back(HandlerEvent::TooManyStreams);
            return;
        }
        self.used = true;
        self.slots[class] = Some(stream);
        if self.slots.iter().all(Option::is_some) {
            let slots = std::mem::replace(&mut self.slots, [const { None }; CLASSES]);
            if let [Some(ctl), Some(feed), Some(live), Some(backfill)] = slots {
                self.ready = true;
                let streams = Box::new([ctl, feed, live, backfill]);
                self.events.push_back(HandlerEvent::Ready(streams));
            }
        }
    }
}

impl ConnectionHandler for LinkHandler {
    type FromBehaviour = HandlerOrder;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = AnyClass;
    type OutboundProtocol = OneClass;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<AnyClass, ()> {
        SubstreamProtocol::new(AnyClass, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.used
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<OneClass, (), HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(class) = self.to_open.pop_front() {
            let protocol = SubstreamProtocol::new(OneClass(class), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, order: HandlerOrder) {
        match order {
            HandlerOrder::Open => {
                if !self.used {
                    self.used = true;
                    self.to_open.extend(0..CLASSES);
                }
            }
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
            })
            | ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (class, stream),
                ..
            }) => self.opened(class, stream),
            ConnectionEvent::DialUpgradeError(error) => {
                self.used = false;
                let reason = error.error.to_string();
                self.events.push_back(HandlerEvent::Failed(reason));
            }
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
