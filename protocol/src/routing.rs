//! Which neighbours a request may go to next.
//!
//! A relayer, and whoever passes a request on for another, may only use neighbours that
//! are strictly closer (XOR of routing keys) to the target than itself. An originator
//! that is no relayer may use any relayer as its first hop.
//!
//! Why no loop can arise: candidates are relayers, or the target itself. From the first
//! relayer on, every hop is strictly closer to the target than the one before, so no
//! relayer is visited twice. An originator that is no relayer is never a candidate for
//! anybody (unless it is the target, where the request ends), so its free choice of a
//! first hop can't close a cycle either.

use headwater_proto::NodeId;

use crate::cx::Cx;

/// For whom a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// For this machine.
    Own,
    /// For a neighbour.
    Neighbour,
}

impl Cx {
    /// The neighbours a request may go to, closest to the target first.
    pub(crate) fn candidates(
        &self,
        target: &NodeId,
        asker: Asker,
        mut skip: impl FnMut(&NodeId) -> bool,
    ) -> Vec<NodeId> {
        let goal = target.routing_key();
        let mine = self.key.distance(&goal);
        let strict = self.config.roles.relayer || asker == Asker::Neighbour;
        let mut found: Vec<_> = self
            .links
            .iter()
            .filter(|(peer, link)| *peer == target || link.roles.relayer)
            .map(|(peer, link)| (link.key.distance(&goal), *peer))
            .filter(|(distance, peer)| (!strict || *distance < mine) && !skip(peer))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, peer)| peer).collect()
    }
}
