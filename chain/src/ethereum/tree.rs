//! The tree of a claim: as low as it can be, complete, missing leaves zero.

use ethers_core::utils::keccak256;

/// Merkle tree over the leaves of receipts. Keeps all of its nodes, 64 bytes a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptTree {
    /// From the leaves to the root.
    levels: Vec<Vec<[u8; 32]>>,
}

impl ReceiptTree {
    /// Receipts in one tree; the longest proof has 12 steps.
    pub const MAX: usize = 4096;

    /// Builds the tree; `None` with no leaf or more than [`Self::MAX`].
    #[must_use]
    pub fn new(mut leaves: Vec<[u8; 32]>) -> Option<Self> {
        if leaves.is_empty() || leaves.len() > Self::MAX {
            return None;
        }
        leaves.resize(leaves.len().next_power_of_two(), [0; 32]);
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let (pairs, _) = below.as_chunks::<2>();
            let above = pairs.iter().map(|[left, right]| node(left, right));
            levels.push(above.collect());
        }
        Some(Self { levels })
    }

    /// What a claim names.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let top = self.levels.last().and_then(|level| level.first());
        *top.expect("a tree has a leaf")
    }

    /// The siblings on the way from a leaf to the root. Empty for a leaf that is not there,
    /// and in a tree of one.
    #[must_use]
    pub fn proof(&self, index: usize) -> Vec<[u8; 32]> {
        let below = &self.levels[..self.levels.len() - 1];
        let siblings = below.iter().enumerate();
        siblings
            .filter_map(|(height, level)| level.get(index >> height ^ 1).copied())
            .collect()
    }
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut bytes = vec![1];
    bytes.extend_from_slice(left);
    bytes.extend_from_slice(right);
    keccak256(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `Receipts.sol` goes up from a leaf.
    fn climb(mut hash: [u8; 32], index: usize, proof: &[[u8; 32]]) -> [u8; 32] {
        for (level, sibling) in proof.iter().enumerate() {
            hash = match index >> level & 1 {
                1 => node(sibling, &hash),
                _ => node(&hash, sibling),
            };
        }
        hash
    }

    fn leaves(count: usize) -> Vec<[u8; 32]> {
        (0..count).map(|n| keccak256(n.to_be_bytes())).collect()
    }

    #[test]
    fn every_leaf_of_any_tree_is_proven() {
        for count in [1, 2, 3, 4, 5, 31, 33, 100] {
            let tree = ReceiptTree::new(leaves(count)).unwrap();
            for (index, leaf) in leaves(count).into_iter().enumerate() {
                let proof = tree.proof(index);
                assert_eq!(1 << proof.len(), count.next_power_of_two());
                assert_eq!(
                    climb(leaf, index, &proof),
                    tree.root(),
                    "{index} of {count}"
                );
                assert_ne!(climb([7; 32], index, &proof), tree.root());
            }
        }
    }

    #[test]
    fn a_tree_has_as_many_leaves_as_a_claim_may_have() {
        assert_eq!(ReceiptTree::new(leaves(0)), None);
        assert_eq!(ReceiptTree::new(leaves(ReceiptTree::MAX + 1)), None);
        let tree = ReceiptTree::new(leaves(ReceiptTree::MAX)).unwrap();
        assert_eq!(tree.proof(ReceiptTree::MAX - 1).len(), 12);
    }
}
