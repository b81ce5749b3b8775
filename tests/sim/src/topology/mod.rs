//! Who there is and who is linked to whom when a world begins.
//!
//! In shapes that are no Kademlia network, greedy routing works towards one node only:
//! routing keys are handed out so that of two linked nodes the one nearer to the
//! broadcaster in the shape is nearer in key space too. Bounds on hops, for `n` nodes:
//!
//! | shape | bound |
//! |---|---|
//! | line | n - 1 |
//! | star | 1 |
//! | ring | n / 2 |
//! | tree | ⌈log₄ (3n)⌉ |
//! | islands | 2 ⌈log₂ n⌉ + 1 |
//! | kademlia | ⌈log₂ n⌉, mean ≤ 4 and p99 ≤ 6 at 10,000 nodes |
//! | power law | ⌈log₂ n⌉ |
//! | boot | 2 |
//!
//! Where a node takes fewer children than have it as their way, push-down adds levels. A
//! path in a SubAck has 32 entries at most, so no tree is deeper than that: in a longer line
//! nodes find shorter ways by lookups.

mod keyspace;
mod shapes;

use headwater_proto::{Roles, SigningKey};

use crate::{
    dice::Dice,
    host::HostIx,
    scenario::{Scenario, Topology},
};

pub use keyspace::Keyspace;

/// Relayers nearest to its own key that a node keeps links to.
pub const NEAREST: usize = 8;
/// Relayers of each bucket that a relayer keeps links to.
pub const PER_BUCKET: usize = 2;

/// One node before it starts.
#[derive(Debug)]
pub struct Member {
    /// Its key.
    pub key: SigningKey,
    /// What it does for the network.
    pub roles: Roles,
}

/// The nodes of a world and their first links.
#[derive(Debug)]
pub struct Plan {
    /// The broadcasters, then the relayers, then the others.
    pub members: Vec<Member>,
    /// Each link once; the first of a pair dials.
    pub links: Vec<(HostIx, HostIx)>,
}

impl Plan {
    /// Decides on nodes and links.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let mut dice = Dice::new(scenario.seed, "topology");
        let count = scenario.nodes as usize;
        let keys = (0..count).map(|_| SigningKey::from_bytes(&dice.seed()));
        let keys: Vec<_> = keys.map(|key| (prefix(&key), key)).collect();
        match scenario.topology {
            Topology::Kademlia => kademlia(scenario, keys, &mut dice),
            Topology::Islands => shapes::islands(scenario, keys, &mut dice),
            Topology::Line
            | Topology::Star
            | Topology::Ring
            | Topology::Tree
            | Topology::PowerLaw
            | Topology::Boot => shapes::shape(scenario, keys, &mut dice),
        }
    }

    /// The longest way a Sub may take, by the table above; `None` where it depends on
    /// how full nodes are.
    #[must_use]
    pub fn hop_bound(topology: Topology, nodes: u32) -> u64 {
        let n = u64::from(nodes);
        let log2 = u64::from(u64::BITS - (n.max(2) - 1).leading_zeros());
        match topology {
            Topology::Line => n - 1,
            Topology::Star => 1,
            Topology::Ring => n / 2,
            Topology::Tree => (1..)
                .find(|depth| 4_u64.pow(*depth) >= 3 * n)
                .map_or(0, u64::from),
            Topology::Islands => 2 * log2 + 1,
            Topology::Kademlia | Topology::PowerLaw => log2,
            Topology::Boot => 2,
        }
    }
}

/// The first 64 bits of a node's routing key.
#[must_use]
pub fn prefix(key: &SigningKey) -> u64 {
    key.node_id().routing_key().prefix()
}

const BROADCASTER: Roles = Roles {
    broadcaster: true,
    relayer: false,
    transcoder: false,
};
const RELAYER: Roles = Roles {
    broadcaster: false,
    relayer: true,
    transcoder: false,
};

const TRANSCODER: Roles = Roles {
    broadcaster: false,
    relayer: false,
    transcoder: true,
};

/// Relayers that there are, at least one.
fn relayers(scenario: &Scenario) -> usize {
    let rest = (scenario.nodes - scenario.broadcasters) as usize;
    (scenario.nodes as usize * usize::from(scenario.relayers) / 100).clamp(1, rest)
}

fn kademlia(scenario: &Scenario, keys: Vec<(u64, SigningKey)>, dice: &mut Dice) -> Plan {
    let broadcasters = scenario.broadcasters as usize;
    // When all relay, broadcasters do too.
    let all = scenario.relayers == 100;
    let last = broadcasters + relayers(scenario);
    let roles = |index| match index {
        i if i < broadcasters => Roles {
            relayer: all,
            ..BROADCASTER
        },
        i if i < last => RELAYER,
        i if i >= scenario.nodes as usize - scenario.transcoders as usize => TRANSCODER,
        _ => Roles::default(),
    };
    let prefixes: Vec<u64> = keys.iter().map(|(prefix, _)| *prefix).collect();
    let members: Vec<_> = (0..)
        .zip(keys)
        .map(|(index, (_, key))| Member {
            key,
            roles: roles(index),
        })
        .collect();
    let hosts = || (0..).map(HostIx).zip(&prefixes).zip(&members);
    let relaying = hosts().filter(|(_, member)| member.roles.relayer);
    let space = Keyspace::new(relaying.map(|((host, prefix), _)| (*prefix, host)));
    let mut links = Vec::new();
    for ((host, prefix), member) in hosts() {
        if member.roles.relayer {
            for bucket in space.buckets(*prefix) {
                links.extend(some_of(bucket, PER_BUCKET, dice).map(|other| (host, other)));
            }
        }
        let nearest = space.nearest(*prefix, NEAREST, |other| other != host);
        links.extend(nearest.into_iter().map(|other| (host, other)));
    }
    Plan {
        members,
        links: each_once(links),
    }
}

/// Some members of a bucket, each once.
fn some_of(
    bucket: &[(u64, HostIx)],
    count: usize,
    dice: &mut Dice,
) -> impl Iterator<Item = HostIx> {
    let first = dice.index(bucket.len());
    let step = 1 + dice.index(bucket.len().saturating_sub(1));
    (0..count.min(bucket.len())).map(move |n| bucket[(first + n * step) % bucket.len()].1)
}

/// Drops the second of two links between the same nodes, keeping the order.
fn each_once(links: Vec<(HostIx, HostIx)>) -> Vec<(HostIx, HostIx)> {
    let mut seen = std::collections::BTreeSet::new();
    links
        .into_iter()
        .filter(|(a, b)| a != b && seen.insert((*a.min(b), *a.max(b))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Span;

    fn plan(topology: Topology, nodes: u32) -> Plan {
        Plan::new(&Scenario {
            topology,
            nodes,
            join: Span::from_millis(100),
            ..Scenario::default()
        })
    }

    fn links_of(plan: &Plan, host: u32) -> Vec<u32> {
        let other = |(a, b): &(HostIx, HostIx)| match (a.0 == host, b.0 == host) {
            (true, _) => Some(b.0),
            (_, true) => Some(a.0),
            (false, false) => None,
        };
        plan.links.iter().filter_map(other).collect()
    }

    /// Hops of the greedy way to the broadcaster; `None` at a local minimum.
    fn greedy(plan: &Plan, from: u32) -> Option<usize> {
        let goal = prefix(&plan.members[0].key);
        let far = |host: u32| prefix(&plan.members[host as usize].key) ^ goal;
        let mut at = from;
        for hops in 0..plan.members.len() {
            if at == 0 {
                return Some(hops);
            }
            let relays = |host: &u32| *host == 0 || plan.members[*host as usize].roles.relayer;
            let closest = links_of(plan, at).into_iter().filter(relays);
            let next = closest.min_by_key(|host| far(*host))?;
            if plan.members[at as usize].roles.relayer && far(next) >= far(at) {
                return None;
            }
            at = next;
        }
        None
    }

    #[test]
    fn greedy_routing_reaches_the_broadcaster_within_the_bound_in_every_shape() {
        for topology in [
            Topology::Line,
            Topology::Star,
            Topology::Ring,
            Topology::Tree,
            Topology::Islands,
            Topology::Kademlia,
            Topology::PowerLaw,
            Topology::Boot,
        ] {
            let plan = plan(topology, 60);
            let bound = usize::try_from(Plan::hop_bound(topology, 60)).unwrap();
            for host in 1..60 {
                let hops = greedy(&plan, host);
                assert!(
                    hops.is_some_and(|hops| hops <= bound),
                    "{topology:?}: {hops:?} hops from {host}, bound {bound}"
                );
            }
        }
    }

    #[test]
    fn everybody_else_keeps_links_to_eight_relayers() {
        let plan = plan(Topology::Kademlia, 200);
        for host in 41..200 {
            let links = links_of(&plan, host);
            assert_eq!(links.len(), 8);
            assert!(
                links
                    .iter()
                    .all(|l| plan.members[*l as usize].roles.relayer)
            );
        }
    }

    #[test]
    fn a_seed_decides_nodes_and_links() {
        let (a, b) = (plan(Topology::Kademlia, 100), plan(Topology::Kademlia, 100));

        assert_eq!(a.links, b.links);
        assert_eq!(a.members[5].key.node_id(), b.members[5].key.node_id());
    }
}
