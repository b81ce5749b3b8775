//! Which transcoder gets a job: one pure function, the same in the job book and on the
//! chain.
//!
//! 1. Candidates are the registered transcoders with stake above zero and price at most
//!    the job's, without those excluded, in ascending order of address.
//! 2. `total` is the sum of their stakes; with none there is no winner.
//! 3. `r = uint256(keccak256(seed ‖ uint32(round))) mod total`, both big endian.
//! 4. The winner is the first candidate for which the stakes up to and including its own
//!    exceed `r`.
//!
//! The seed is fixed only after the job is: in the job book it is the checksum of the
//! entry that creates the job, on the chain the hash of a later block.

use ethers_core::{types::U256, utils::keccak256};

use crate::types::{Address, Transcoder, Wei};

/// Elects a transcoder. The order of `candidates` does not matter.
#[must_use]
pub fn elect<'a>(
    seed: &[u8; 32],
    round: u32,
    candidates: impl IntoIterator<Item = &'a Transcoder>,
    max_price: Wei,
    excluded: &[Address],
) -> Option<&'a Transcoder> {
    let mut eligible: Vec<_> = candidates
        .into_iter()
        .filter(|candidate| candidate.stake > Wei(0) && candidate.price_per_segment <= max_price)
        .filter(|candidate| !excluded.contains(&candidate.address))
        .collect();
    eligible.sort_by_key(|candidate| candidate.address);
    let stake = |candidate: &Transcoder| U256::from(candidate.stake.0);
    let total = eligible.iter().fold(U256::zero(), |sum, c| sum + stake(c));
    if total.is_zero() {
        return None;
    }
    let mut bytes = seed.to_vec();
    bytes.extend_from_slice(&round.to_be_bytes());
    let mut left = U256::from_big_endian(&keccak256(bytes)) % total;
    eligible.into_iter().find(|candidate| {
        let stake = stake(candidate);
        let wins = left < stake;
        if !wins {
            left -= stake;
        }
        wins
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::NodeKey;

    fn candidate(n: u8, price: u128, stake: u128) -> Transcoder {
        Transcoder {
            address: Address([n; 20]),
            node: NodeKey([n; 32]),
            price_per_segment: Wei(price),
            stake: Wei(stake),
        }
    }

    fn winner(seed: u8, candidates: &[Transcoder], max: u128, not: &[Address]) -> Option<u8> {
        elect(&[seed; 32], 0, candidates, Wei(max), not).map(|winner| winner.address.0[0])
    }

    #[test]
    fn known_seeds_have_known_winners() {
        let candidates = [
            candidate(1, 5, 10),
            candidate(2, 5, 20),
            candidate(3, 5, 30),
        ];
        let winners: Vec<_> = (0..12)
            .filter_map(|s| winner(s, &candidates, 5, &[]))
            .collect();

        assert_eq!(winners, GOLDEN);
    }

    const GOLDEN: [u8; 12] = [3, 2, 2, 2, 1, 1, 1, 3, 1, 2, 3, 1];

    #[test]
    fn too_dear_unstaked_and_excluded_are_never_elected() {
        let candidates = [candidate(1, 9, 10), candidate(2, 5, 0), candidate(3, 5, 1)];

        for seed in 0..50 {
            assert_eq!(winner(seed, &candidates, 5, &[]), Some(3));
            assert_eq!(winner(seed, &candidates, 5, &[Address([3; 20])]), None);
        }
        assert_eq!(winner(0, &[], 5, &[]), None);
    }

    #[test]
    fn chances_are_as_stakes() {
        let candidates = [
            candidate(1, 1, 100),
            candidate(2, 1, 300),
            candidate(3, 1, 600),
        ];
        let mut wins = [0_u32; 4];
        for round in 0..10_000 {
            let winner = elect(&[9; 32], round, &candidates, Wei(1), &[]).unwrap();
            wins[usize::from(winner.address.0[0])] += 1;
        }
        for (n, expected) in [(1, 1000), (2, 3000), (3, 6000)] {
            assert!(wins[n].abs_diff(expected) < 200, "{wins:?}");
        }
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_stakes_never_overflow(
            stakes in prop::collection::vec(any::<u128>(), 1..8),
            seed in any::<[u8; 32]>(),
            round in any::<u32>(),
        ) {
            let mut candidates: Vec<_> = (1..).zip(stakes).map(|(n, s)| candidate(n, 0, s)).collect();
            let forwards = elect(&seed, round, &candidates, Wei(0), &[]).cloned();
            candidates.reverse();
            let backwards = elect(&seed, round, &candidates, Wei(0), &[]).cloned();
            prop_assert_eq!(forwards, backwards);
        }
    }
}
