//! Whether neighbours are still there: links that have been quiet are pinged.
//!
//! All links of a node share one wake-up. A link that would be pinged soon is pinged with
//! the one that is due, so a node with many idle links wakes up seldom. Of the two sides
//! of a link the one with the smaller id is the first to ask; its Ping and the Pong that
//! it gets are signs of life for both.

use headwater_proto::{Message, NodeId, Ping};

use crate::{
    config::Config,
    cx::Cx,
    links::LinkState,
    node::Node,
    output::{DisconnectReason, Output, Priority},
    time::Time,
    timers::Timer,
};

/// A link is pinged earlier by up to this share of [`Config::ping_after`], together with
/// others.
const TOGETHER: u32 = 8;
/// The side with the greater id waits longer by this share of it.
const SECOND: u32 = 4;

/// What is to be done about a link.
enum Look {
    /// Nothing until then.
    Until(Time),
    /// It is asked.
    Ping,
    /// It has not answered.
    Silent,
}

impl Node {
    /// Pings the links that are quiet and closes those that stay so.
    pub(crate) fn check_links(&mut self) {
        let (mut quiet, mut silent) = (Vec::new(), Vec::new());
        let mut next: Option<Time> = None;
        let Cx {
            me,
            now,
            config,
            links,
            ..
        } = &mut self.cx;
        for (peer, link) in links.iter_mut() {
            match look(link, peer < *me, *now, config) {
                Look::Until(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Look::Ping => quiet.push(peer),
                Look::Silent => silent.push(peer),
            }
        }
        for peer in quiet {
            let at = self.ping(peer);
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        self.cx.timers.set(Timer::Links, next);
        for peer in silent {
            let reason = DisconnectReason::Silent;
            self.cx.emit(Output::Disconnect { peer, reason });
            self.on_disconnected(peer);
        }
    }

    /// Asks a neighbour; returns until when it has to answer.
    fn ping(&mut self, peer: NodeId) -> Time {
        let cx = &mut self.cx;
        let nonce = cx.random();
        if let Some(link) = cx.links.get_mut(&peer) {
            link.ping = Some((nonce, cx.now));
        }
        cx.send(peer, Message::Ping(Ping { nonce }), Priority::Control);
        cx.now + cx.config.pong_within
    }

    pub(crate) fn on_pong(&mut self, from: NodeId, pong: Ping) {
        let link = self.cx.links.get_mut(&from);
        let sent = link.and_then(|link| link.ping.take());
        if sent.is_none_or(|(nonce, _)| nonce != pong.nonce) {
            self.cx.violation(from, "pong without ping");
        }
    }
}

/// What is to be done about a link; `second` says that the other side is to ask first.
fn look(link: &mut LinkState, second: bool, now: Time, config: &Config) -> Look {
    if let Some((_, sent)) = link.ping {
        let until = sent + config.pong_within;
        if until > now {
            return Look::Until(until);
        }
        if link.heard < sent {
            return Look::Silent;
        }
        link.ping = None;
    }
    let more = if second {
        config.ping_after / SECOND
    } else {
        std::time::Duration::ZERO
    };
    let due = link.heard + config.ping_after + more;
    if due <= now + config.ping_after / TOGETHER {
        Look::Ping
    } else {
        Look::Until(due)
    }
}
