//! Shapes other than Kademlia networks.

use std::collections::VecDeque;

use headwater_proto::{Roles, SigningKey};

use super::{
    BROADCASTER, Keyspace, Member, NEAREST, PER_BUCKET, Plan, RELAYER, each_once, some_of,
};
use crate::{
    dice::Dice,
    host::HostIx,
    scenario::{Scenario, Topology},
};

/// Links that a new node makes in a power-law network.
const POWER_LAW_LINKS: usize = 3;
/// Nodes below each in a tree.
const TREE_WIDTH: u32 = 4;

/// One connected shape around the broadcaster.
pub(super) fn shape(scenario: &Scenario, keys: Vec<(u64, SigningKey)>, dice: &mut Dice) -> Plan {
    let n = scenario.nodes;
    let pairs = |pairs: Vec<(u32, u32)>| pairs.into_iter().map(|(a, b)| (HostIx(a), HostIx(b)));
    let links: Vec<_> = match scenario.topology {
        Topology::Line => pairs((1..n).map(|i| (i, i - 1)).collect()).collect(),
        Topology::Ring => {
            let line = (1..n).map(|i| (i, i - 1));
            pairs(line.chain([(0, n - 1)]).collect()).collect()
        }
        Topology::Tree => pairs((1..n).map(|i| (i, (i - 1) / TREE_WIDTH)).collect()).collect(),
        Topology::PowerLaw => power_law(n, dice),
        // The boot node is host 1.
        Topology::Boot => {
            let others = (0..n).filter(|i| *i != 1);
            pairs(others.map(|i| (i, 1)).collect()).collect()
        }
        Topology::Star | Topology::Kademlia | Topology::Islands => {
            pairs((1..n).map(|i| (i, 0)).collect()).collect()
        }
    };
    let links = each_once(links);
    let order = breadth_first(n, &links);
    let keys = by_distance(keys);
    let mut members: Vec<Option<Member>> = (0..n).map(|_| None).collect();
    for (host, key) in order.into_iter().zip(keys) {
        let roles = match (host.0, scenario.topology) {
            (0, _) => BROADCASTER,
            (1, Topology::Boot) => RELAYER,
            (_, Topology::Boot | Topology::Star) => Roles::default(),
            _ => RELAYER,
        };
        members[host.at()] = Some(Member { key, roles });
    }
    Plan {
        members: members.into_iter().flatten().collect(),
        links,
    }
}

/// The broadcaster's Kademlia network and another, whose node nearest to the broadcaster
/// has the one link across.
pub(super) fn islands(
    scenario: &Scenario,
    mut keys: Vec<(u64, SigningKey)>,
    dice: &mut Dice,
) -> Plan {
    let goal = keys[0].0;
    keys.sort_by_key(|(prefix, _)| prefix ^ goal);
    let half = keys.len().div_ceil(2);
    let prefixes: Vec<u64> = keys.iter().map(|(prefix, _)| *prefix).collect();
    let members = (0..).zip(keys).map(|(index, (_, key))| Member {
        key,
        roles: if index == 0 { BROADCASTER } else { RELAYER },
    });
    let members = members.collect();
    let mut links = Vec::new();
    for island in [0..half, half..prefixes.len()] {
        let hosts = || (0..).map(HostIx).zip(&prefixes);
        let inside = |host: HostIx| island.contains(&host.at()) && host.0 != 0;
        let space = Keyspace::new(hosts().filter(|(h, _)| inside(*h)).map(|(h, p)| (*p, h)));
        for (host, prefix) in hosts().filter(|(host, _)| island.contains(&host.at())) {
            if host.0 != 0 {
                for bucket in space.buckets(*prefix) {
                    links.extend(some_of(bucket, PER_BUCKET, dice).map(|other| (host, other)));
                }
            }
            let nearest = space.nearest(*prefix, NEAREST, |other| other != host);
            links.extend(nearest.into_iter().map(|other| (host, other)));
        }
    }
    if let (Ok(bridge), true) = (u32::try_from(half), scenario.nodes > 2) {
        let across = 1 + dice.index(half.saturating_sub(1));
        let across = HostIx(u32::try_from(across).unwrap_or(1));
        links.push((HostIx(bridge), across.min(HostIx(bridge - 1))));
    }
    Plan {
        members,
        links: each_once(links),
    }
}

/// Each node links to earlier ones, more likely to those with many links.
fn power_law(nodes: u32, dice: &mut Dice) -> Vec<(HostIx, HostIx)> {
    // Every end of every link so far: choosing one chooses a node by its degree.
    let mut ends = vec![HostIx(0)];
    let mut links = Vec::new();
    for new in (1..nodes).map(HostIx) {
        for _ in 0..POWER_LAW_LINKS {
            let other = ends[dice.index(ends.len())];
            if other != new {
                links.push((new, other));
                ends.push(other);
            }
        }
        ends.push(new);
    }
    links
}

fn breadth_first(nodes: u32, links: &[(HostIx, HostIx)]) -> Vec<HostIx> {
    let mut next: Vec<Vec<HostIx>> = (0..nodes).map(|_| Vec::new()).collect();
    for (a, b) in links {
        next[a.at()].push(*b);
        next[b.at()].push(*a);
    }
    let mut seen = vec![false; next.len()];
    let mut order = Vec::with_capacity(next.len());
    let mut queue = VecDeque::from([HostIx(0)]);
    seen[0] = true;
    while let Some(host) = queue.pop_front() {
        order.push(host);
        for other in &next[host.at()] {
            if !std::mem::replace(&mut seen[other.at()], true) {
                queue.push_back(*other);
            }
        }
    }
    order
}

/// The first key, then the others by their distance to it.
fn by_distance(mut keys: Vec<(u64, SigningKey)>) -> Vec<SigningKey> {
    let goal = keys[0].0;
    keys.sort_by_key(|(prefix, _)| prefix ^ goal);
    keys.into_iter().map(|(_, key)| key).collect()
}
