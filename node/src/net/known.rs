//! Which relayers a node remembers for a later run: those it met before those it only heard
//! of, and of both the latest.

use std::{cmp::Reverse, collections::BTreeMap};

use headwater_proto::{AddressText, NodeId};

/// Relayers remembered at most.
const MAX: usize = 256;

/// Relayers, bounded.
#[derive(Debug, Default)]
pub(super) struct Known {
    relayers: BTreeMap<NodeId, Relayer>,
    /// Counts what is learned, so that the latest can be told.
    turn: u64,
}

#[derive(Debug)]
struct Relayer {
    addresses: Vec<AddressText>,
    /// When it last said itself where it is; 0 if never in this run.
    met: u64,
    /// When anybody last said so.
    heard: u64,
}

impl Known {
    /// What an earlier run remembered, the most useful first.
    pub(super) fn of_earlier_run(relayers: &[(NodeId, Vec<AddressText>)]) -> Self {
        let mut this = Self::default();
        for (node, addresses) in relayers.iter().rev() {
            this.heard_of(*node, addresses.clone());
        }
        this
    }

    /// A relayer said itself where it is.
    pub(super) fn met(&mut self, node: NodeId, addresses: Vec<AddressText>) {
        self.turn += 1;
        let (met, heard) = (self.turn, self.turn);
        let relayer = Relayer {
            addresses,
            met,
            heard,
        };
        self.relayers.insert(node, relayer);
        self.forget();
    }

    /// Somebody else said where a relayer is, which is worth less than its own word.
    pub(super) fn heard_of(&mut self, node: NodeId, addresses: Vec<AddressText>) {
        self.turn += 1;
        let heard = self.turn;
        match self.relayers.get_mut(&node) {
            Some(known) if known.met > 0 => known.heard = heard,
            Some(_) | None => {
                let relayer = Relayer {
                    addresses,
                    met: 0,
                    heard,
                };
                self.relayers.insert(node, relayer);
            }
        }
        self.forget();
    }

    /// All of them, the most useful first.
    pub(super) fn ranked(&self) -> Vec<(NodeId, Vec<AddressText>)> {
        let mut ranked: Vec<_> = self.relayers.iter().collect();
        ranked.sort_by_key(|(_, relayer)| Reverse((relayer.met, relayer.heard)));
        ranked
            .into_iter()
            .map(|(node, relayer)| (*node, relayer.addresses.clone()))
            .collect()
    }

    fn forget(&mut self) {
        if self.relayers.len() <= MAX {
            return;
        }
        let least = self.relayers.iter();
        let least = least.min_by_key(|(_, relayer)| (relayer.met, relayer.heard));
        if let Some(node) = least.map(|(node, _)| *node) {
            self.relayers.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u16) -> NodeId {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        NodeId::from_public_key(key)
    }

    fn at(n: u16) -> Vec<AddressText> {
        vec![AddressText::new(&format!("/ip4/192.0.2.1/tcp/{n}")).unwrap()]
    }

    fn nodes(known: &Known) -> Vec<NodeId> {
        known.ranked().into_iter().map(|(node, _)| node).collect()
    }

    #[test]
    fn whom_a_node_met_is_kept_whatever_it_hears_of() {
        let mut known = Known::default();
        known.met(node(9000), at(1));
        known.met(node(9001), at(2));
        for n in 0..1000 {
            known.heard_of(node(n), at(3));
        }

        let ranked = nodes(&known);
        assert_eq!(ranked.len(), MAX);
        let latest: Vec<_> = [9001, 9000, 999, 998].map(node).into();
        assert_eq!(ranked[..4], latest);
    }

    #[test]
    fn the_latest_come_first_and_an_earlier_run_s_come_last_in_their_order() {
        let earlier = [(node(5), at(5)), (node(6), at(6)), (node(7), at(7))];
        let mut known = Known::of_earlier_run(&earlier);
        assert_eq!(known.ranked(), earlier);

        known.heard_of(node(8), at(8));
        known.met(node(6), at(60));
        known.heard_of(node(6), at(61));

        assert_eq!(nodes(&known), [6, 8, 5, 7].map(node));
        assert_eq!(known.ranked()[0].1, at(60), "its own word counts");
    }
}
