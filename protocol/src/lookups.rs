//! Searches for somebody closer to a node, which the driver does: where routing over the
//! open links ends short of its target.
//!
//! A target is looked up once at a time, and not again for a while, whatever came of it:
//! what was found is linked by then, and what was not found will not be found at once.

use std::collections::BTreeMap;

use headwater_proto::NodeId;

use crate::{
    cx::{Asked, Cx},
    output::Question,
    time::Time,
};

/// Targets that are remembered, at most.
const MAX_KNOWN: usize = 256;

/// What may come of asking for a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is under way; its end is told.
    Later,
    /// It was done a short while ago, there is no room for it, or there is nobody to
    /// begin with.
    Nothing,
}

#[derive(Debug)]
enum Search {
    /// Under way; the driver may have forgotten it after that time.
    Open(Time),
    /// Not to be repeated before that time.
    Done(Time),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    table: BTreeMap<NodeId, Search>,
    open: usize,
}

impl Lookups {
    /// Whether a node is being looked for.
    pub(crate) fn is_open(&self, target: &NodeId, now: Time) -> bool {
        matches!(self.table.get(target), Some(Search::Open(until)) if *until > now)
    }

    fn tidy(&mut self, now: Time) {
        self.table.retain(|_, search| match search {
            Search::Open(until) | Search::Done(until) => *until > now,
        });
        let open = |search: &&Search| matches!(search, Search::Open(_));
        self.open = self.table.values().filter(open).count();
    }
}

impl Cx {
    /// Has the driver look for somebody closer to a node, unless it just did.
    pub(crate) fn look_up(&mut self, target: NodeId) -> Found {
        let now = self.now;
        match self.lookups.table.get(&target) {
            Some(Search::Open(until)) if *until > now => return Found::Later,
            Some(Search::Done(until)) if *until > now => return Found::Nothing,
            Some(_) | None => {}
        }
        if self.links.len() == 0 {
            return Found::Nothing;
        }
        let full = self.lookups.open >= self.config.max_lookups;
        if full || self.lookups.table.len() >= MAX_KNOWN {
            self.lookups.tidy(now);
        }
        if self.lookups.open >= self.config.max_lookups
            || self.lookups.table.len() >= MAX_KNOWN
            || !self.ask(Question::Lookup { target }, Asked::Lookup { target })
        {
            return Found::Nothing;
        }
        self.stats.lookups += 1;
        // Whoever waits gives up after the same time.
        let until = now + self.config.lookup_patience;
        self.lookups.table.insert(target, Search::Open(until));
        self.lookups.open += 1;
        Found::Later
    }

    /// The driver has looked.
    pub(crate) fn looked_up(&mut self, target: NodeId) {
        let until = self.now + self.config.lookup_pause;
        if let Some(Search::Open(_)) = self.lookups.table.insert(target, Search::Done(until)) {
            self.lookups.open = self.lookups.open.saturating_sub(1);
        }
    }
}
