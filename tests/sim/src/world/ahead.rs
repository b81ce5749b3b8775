//! Memory that is needed soon, read ahead.
//!
//! A world of thousands of nodes does not fit into a processor's caches, and what an event
//! looks at first leads to what it looks at next, far apart. Reads that do not depend on
//! each other are waited for together: so what all events of a slot look at first is read
//! at once, and then what that leads to.

use std::hint::black_box;

use super::Event;
use crate::{
    host::{Badge, Host},
    net::Net,
};

/// Where events look first.
pub(super) struct Ahead<'a> {
    pub(super) net: &'a Net,
    pub(super) hosts: &'a [Host],
    pub(super) badges: &'a [Badge],
}

impl Ahead<'_> {
    /// Reads what these events will look at; nothing comes of it but speed.
    pub(super) fn read<'e>(&self, events: impl Iterator<Item = &'e Event> + Clone) {
        let mut read = 0;
        for event in events.clone() {
            if let Event::Arrive(dir) | Event::Drain(dir) | Event::Written(dir) = event {
                read ^= self.net.peek(*dir);
            } else if let Event::Wake(host) = event {
                read ^= self.hosts[host.at()].peek();
            }
        }
        for event in events.clone() {
            if let Event::Arrive(dir) = event
                && let Some(dir) = self.net.get(*dir)
            {
                read ^= self.net.peek_first(dir);
                read ^= self.hosts[dir.to.at()].peek();
                read ^= u64::from(self.badges[dir.from.at()].honest);
            }
        }
        for event in events {
            if let Event::Arrive(dir) = event
                && let Some(dir) = self.net.get(*dir)
            {
                read ^= self.hosts[dir.to.at()]
                    .node
                    .poll_timeout()
                    .map_or(0, |due| due.at.as_micros());
            }
        }
        black_box(read);
    }
}
