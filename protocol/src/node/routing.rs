//! Which neighbour comes next on the way to a node.
//!
//! A relayer passes a request only to a neighbour strictly closer to the target than it
//! is itself. Distances along a path of relayers therefore fall with every hop, so no
//! relayer comes twice: there are no loops, and nothing needs to remember what passed.
//! Only relayers, and the target itself, are passed anything. A node that is no relayer
//! may thus begin anywhere: it can only ever be the first on a path.

use headwater_proto::NodeId;

use super::Node;

impl Node {
    /// The neighbours to try for `target`, best first.
    pub(super) fn next_hops(&self, target: NodeId, previous: Option<NodeId>) -> Vec<NodeId> {
        let goal = target.routing_key();
        let own = self.key.distance(&goal);
        let mut hops: Vec<_> = self
            .links
            .iter()
            .filter(|(peer, link)| **peer == target || link.roles.relayer)
            .filter(|(peer, _)| Some(**peer) != previous)
            .map(|(peer, link)| (link.key.distance(&goal), *peer))
            .filter(|(distance, _)| !self.config.roles.relayer || *distance < own)
            .collect();
        hops.sort_unstable();
        hops.into_iter().map(|(_, peer)| peer).collect()
    }
}
