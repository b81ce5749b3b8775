//! Neighbours: their credit, their signs of life, their misdeeds.

use headwater_proto::{Message, NodeId, Ping, Roles, RoutingKey, StreamId};
use std::collections::BTreeSet;

use super::Node;
use crate::{
    input::{DialId, Link},
    output::{DisconnectReason, Event, Output},
    time::Time,
    timers::Timer,
};

/// Violations are counted over this long.
const VIOLATION_WINDOW_MS: u64 = 10_000;

/// One neighbour.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) roles: Roles,
    pub(super) key: RoutingKey,
    /// Bytes of parts and chunks that may be sent.
    pub(super) credit: usize,
    /// Streams it is a child of.
    pub(super) children: BTreeSet<StreamId>,
    /// When anything came from it last.
    pub(super) heard: Time,
    pinged: bool,
    violations: u32,
    window: Time,
}

impl Node {
    pub(super) fn connected(&mut self, peer: NodeId, link: &Link) {
        if let Some(dial) = link.dial {
            self.dials.remove(&dial);
        }
        if peer == self.id || self.links.len() >= self.config.max_links {
            let reason = DisconnectReason::TooManyLinks;
            self.out.push_back(Output::Disconnect { peer, reason });
            return;
        }
        if self.links.contains_key(&peer) {
            // A new link replaces one whose end was not told.
            self.disconnected(peer);
        }
        let neighbour = Neighbour {
            roles: link.roles,
            key: peer.routing_key(),
            credit: link.credit,
            children: BTreeSet::new(),
            heard: self.now,
            pinged: false,
            violations: 0,
            window: self.now,
        };
        self.links.insert(peer, neighbour);
        let at = self.now + self.config.keep_alive;
        self.timers.set(Timer::KeepAlive(peer), at);
        self.streams_gained_link(peer);
        self.masters_gained_link();
    }

    pub(super) fn disconnected(&mut self, peer: NodeId) {
        if self.links.remove(&peer).is_none() {
            return;
        }
        self.timers.stop(&Timer::KeepAlive(peer));
        self.streams_lost_link(peer);
        self.requests_lost_link(peer);
        self.masters_lost_link(peer);
    }

    pub(super) fn writable(&mut self, peer: NodeId, credit: usize) {
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        link.credit = link.credit.saturating_add(credit);
        self.pump_peer(peer);
    }

    pub(super) fn keep_alive(&mut self, peer: NodeId) {
        let (now, span) = (self.now, self.config.keep_alive);
        let nonce = self.fresh();
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        let quiet = now.since(link.heard);
        if quiet < span {
            link.pinged = false;
            let at = link.heard + span;
            self.timers.set(Timer::KeepAlive(peer), at);
        } else if link.pinged {
            let reason = DisconnectReason::Silent;
            self.out.push_back(Output::Disconnect { peer, reason });
            self.disconnected(peer);
        } else {
            link.pinged = true;
            self.timers.set(Timer::KeepAlive(peer), now + span);
            self.send(peer, Message::Ping(Ping { nonce }));
        }
    }

    /// Counts what no correct neighbour does, and closes the link when it goes on.
    pub(super) fn misbehaved(&mut self, peer: NodeId, what: &'static str) {
        let (now, max) = (self.now, self.config.max_violations);
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        if now.since(link.window).as_millis() > u128::from(VIOLATION_WINDOW_MS) {
            link.window = now;
            link.violations = 0;
        }
        link.violations += 1;
        let expelled = link.violations >= max;
        self.out
            .push_back(Output::Observe(Event::Misbehaved { peer, what }));
        if expelled {
            self.stats.peers_expelled += 1;
            let reason = DisconnectReason::Violations;
            self.out.push_back(Output::Disconnect { peer, reason });
            self.disconnected(peer);
        }
    }

    pub(super) fn dial_failed(&mut self, dial: DialId) {
        self.dials.remove(&dial);
    }

    /// How busy this node is: 0 idle, 255 full.
    pub(super) fn load(&self) -> u8 {
        let children: usize = self.streams.values().map(|s| s.children.len()).sum();
        let share = children * 255 / self.config.max_links.max(1);
        u8::try_from(share).unwrap_or(u8::MAX)
    }
}
