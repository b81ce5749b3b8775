//! Nodes that streams want a link to, because they are said to have them.
//!
//! The names and addresses come from neighbours, so a liar could have this node dial
//! anybody: few dials are under way at a time, few are begun in a minute, and the driver
//! decides which addresses may be dialled at all.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use headwater_proto::{NodeAddresses, NodeId};

use crate::{cx::Cx, input::DialId, output::Output, streams::StreamKey, time::Time};

const MINUTE: Duration = Duration::from_secs(60);

/// One node that is being dialled.
#[derive(Debug)]
struct Wish {
    dial: DialId,
    streams: BTreeSet<StreamKey>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    wishes: BTreeMap<NodeId, Wish>,
    begun: VecDeque<Time>,
}

impl Dials {
    /// The streams that waited for a node, which is linked or can't be reached.
    pub(crate) fn take(&mut self, peer: &NodeId) -> BTreeSet<StreamKey> {
        let wish = self.wishes.remove(peer);
        wish.map(|wish| wish.streams).unwrap_or_default()
    }

    /// Whether streams wait for a link to a node.
    pub(crate) fn is_wished(&self, peer: &NodeId) -> bool {
        self.wishes.contains_key(peer)
    }

    /// Whom a dial was for.
    pub(crate) fn target(&self, dial: DialId) -> Option<NodeId> {
        let mut wishes = self.wishes.iter();
        wishes
            .find(|(_, wish)| wish.dial == dial)
            .map(|(peer, _)| *peer)
    }
}

impl Cx {
    /// Dials a node for a stream; false when there were too many dials lately.
    pub(crate) fn wish(&mut self, stream: StreamKey, node: NodeAddresses) -> bool {
        if let Some(wish) = self.dials.wishes.get_mut(&node.node) {
            wish.streams.insert(stream);
            return true;
        }
        let now = self.now;
        let old = |at: &Time| now.since(*at) > MINUTE;
        while self.dials.begun.front().is_some_and(old) {
            self.dials.begun.pop_front();
        }
        if self.dials.wishes.len() >= self.config.max_dials
            || self.dials.begun.len() >= self.config.max_stream_dials_per_minute
        {
            return false;
        }
        let dial = self.dial_id();
        let wish = Wish {
            dial,
            streams: BTreeSet::from([stream]),
        };
        self.dials.wishes.insert(node.node, wish);
        self.dials.begun.push_back(now);
        self.stats.dials += 1;
        self.emit(Output::Dial {
            dial,
            peer: node.node,
            addresses: node.addresses,
        });
        true
    }
}
