//! Who is near whom: nodes sorted by routing key, as a Kademlia lookup would find them.

use crate::host::HostIx;

/// Nodes by the first 64 bits of their routing keys, which no two of a world share.
#[derive(Debug, Default)]
pub struct Keyspace {
    sorted: Vec<(u64, HostIx)>,
}

impl Keyspace {
    /// Takes nodes with the prefixes of their routing keys.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (u64, HostIx)>) -> Self {
        let mut sorted: Vec<_> = nodes.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// The nodes nearest to a key, nearest first, without the key's own.
    #[must_use]
    pub fn nearest(&self, key: u64, count: usize, wanted: impl Fn(HostIx) -> bool) -> Vec<HostIx> {
        let mut found = Vec::with_capacity(count);
        let mut inner = self.prefix(key, 64);
        // Each shorter prefix holds all that are nearer than what it adds.
        for bits in (0..64).rev() {
            let outer = self.prefix(key, bits);
            if outer == inner {
                continue;
            }
            let added = self.sorted[outer.0..inner.0]
                .iter()
                .chain(&self.sorted[inner.1..outer.1]);
            let mut ring: Vec<_> = added
                .filter(|(_, host)| wanted(*host))
                .map(|(other, host)| (other ^ key, *host))
                .collect();
            ring.sort_unstable();
            found.extend(ring.into_iter().map(|(_, host)| host));
            if found.len() >= count {
                break;
            }
            inner = outer;
        }
        found.truncate(count);
        found
    }

    /// The other nodes by the length of the prefix they share with a key: Kademlia's
    /// buckets, farthest first, without empty ones.
    pub fn buckets(&self, key: u64) -> impl Iterator<Item = &[(u64, HostIx)]> {
        let buckets = (0..64).map_while(move |bits| {
            let outer = self.prefix(key, bits);
            let inner = self.prefix(key, bits + 1);
            if outer.0 == outer.1 {
                return None;
            }
            // One of the two sides is the key's own.
            let before = &self.sorted[outer.0..inner.0];
            let after = &self.sorted[inner.1..outer.1];
            Some(if before.is_empty() { after } else { before })
        });
        buckets.filter(|bucket| !bucket.is_empty())
    }

    /// Indices of the nodes that share so many bits with a key.
    fn prefix(&self, key: u64, bits: u32) -> (usize, usize) {
        let free = u64::MAX.checked_shr(bits).unwrap_or(0);
        let (low, high) = (key & !free, key | free);
        let start = self.sorted.partition_point(|(other, _)| *other < low);
        let end = self.sorted.partition_point(|(other, _)| *other <= high);
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn random(count: u32) -> (Keyspace, Vec<(u64, HostIx)>) {
        let mut dice = Dice::new(1, "keys");
        let nodes: Vec<_> = (0..count).map(|n| (dice.draw(), HostIx(n))).collect();
        (Keyspace::new(nodes.clone()), nodes)
    }

    #[test]
    fn nearest_nodes_are_those_of_a_full_search() {
        let (space, nodes) = random(500);
        for (key, me) in &nodes {
            let mut all: Vec<_> = nodes
                .iter()
                .filter(|(_, host)| host != me && host.0 % 3 != 0)
                .map(|(other, host)| (other ^ key, *host))
                .collect();
            all.sort_unstable();
            let expected: Vec<_> = all.iter().take(8).map(|(_, host)| *host).collect();

            assert_eq!(space.nearest(*key, 8, |host| host.0 % 3 != 0), expected);
        }
    }

    #[test]
    fn buckets_hold_every_other_node_once_and_halve_in_distance() {
        let (space, nodes) = random(300);
        let (key, me) = nodes[17];
        let mut seen = Vec::new();
        let mut shared = 0;
        for bucket in space.buckets(key) {
            for (other, host) in bucket {
                let bits = (other ^ key).leading_zeros();
                assert!(bits >= shared);
                seen.push(*host);
            }
            shared = (bucket[0].0 ^ key).leading_zeros() + 1;
        }

        seen.sort_unstable();
        let others: Vec<_> = (0..300).map(HostIx).filter(|host| *host != me).collect();
        assert_eq!(seen, others);
    }
}
