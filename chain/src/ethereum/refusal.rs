//! Why the contract refused, in words: its custom errors, one for one.

use ethers_core::{types::U256, utils::keccak256};

macro_rules! refusals {
    ($($name:ident $({ $($field:ident: $type:ident),+ })? => $words:literal;)+) => {
        /// Why the contract refused. Amounts are wei, times are blocks.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[expect(missing_docs, reason = "each says in words what it means")]
        pub enum Refusal {
            $(#[error($words)] $name $({ $($field: u128),+ })?,)+
            /// For a reason that is not the contract's.
            #[error("the chain refused: {0}")]
            Other(String),
        }

        impl Refusal {
            /// Reads what a call reverted with; `None` when it is none of the contract's.
            pub(super) fn decode(data: &[u8]) -> Option<Self> {
                let (selector, words) = data.split_at_checked(4)?;
                $(
                    if selector == &keccak256(signature(
                        stringify!($name),
                        &[$($(stringify!($type)),+)?],
                    ))[..4] {
                        let mut words = words.chunks_exact(32).map(amount);
                        let refusal = Self::$name $({ $($field: words.next()?),+ })?;
                        return words.next().is_none().then_some(refusal);
                    }
                )+
                None
            }

            #[cfg(test)]
            fn signatures() -> Vec<String> {
                vec![$(signature(stringify!($name), &[$($(stringify!($type)),+)?])),+]
            }
        }
    };
}

refusals! {
    AckPending { until: uint256 } => "the transcoder may still acknowledge the job, until block {until}; wait until then";
    AlreadyChallenged => "that receipt was asked for before";
    AlreadyClaimed => "these receipts were claimed before";
    AmountTooLarge => "the amount is too large";
    AnswerPending { until: uint256 } => "the challenge can be answered until block {until}";
    AnsweringOver => "the time to answer the challenge is over";
    BadRange => "a claim has 1 to 4096 receipts with numbers within its range";
    BadSettings => "a setting of the contract is out of bounds: none is 0, and stake is bonded for more than 256 blocks";
    BalanceTooLow { needed: uint256, available: uint256 } => "the balance in the contract is too low: needed {needed} wei, there are {available}; see `headwater ledger deposit`";
    ChallengingOver => "the time to challenge the claim is over";
    ChangedTooRecently { changeable_at: uint256 } => "the terms changed lately; they can change again from block {changeable_at}";
    ClaimClosed { state: uint8 } => "the claim is settled or slashed already (state {state})";
    ClaimingOver => "the time to claim work for the job is over";
    JobExpired => "the job's time is over";
    JobNotExpired { expires_at: uint256 } => "the job lives until block {expires_at}";
    NoNode => "a transcoder needs a node";
    NoStream => "a job needs a stream";
    NotBroadcaster => "only the account that created the job may do that";
    NotChallenged => "the receipt is not asked for";
    NotDouble => "the receipts do not show a double claim";
    NotHolder => "this account does not hold the job";
    NotInClaim => "the receipt is not in the claim";
    NotRegistered => "this account is not registered";
    NotSettleable { settles_at: uint256, open_challenges: uint256 } => "the claim can be settled from block {settles_at}, when no challenge is open (there are {open_challenges})";
    NothingSent => "nothing was sent";
    PaymentFailed => "the account did not take the payment";
    ReceiptIsBad => "the receipt is not the broadcaster's";
    ReceiptIsGood => "the receipt is good";
    ReserveHeld { until: uint256 } => "the job's reserve is held for claims until block {until}";
    ReserveSpent { needed: uint256, reserved: uint256 } => "the job's reserve is spent: needed {needed} wei, there are {reserved}";
    SeatsTaken { needed_stake: uint256 } => "all seats are taken by transcoders with more stake: needed {needed_stake} wei";
    SeedNotMined { seed_block: uint256 } => "the election needs the hash of block {seed_block}, which is not there yet";
    StakeTooLow { needed: uint256 } => "the stake is too low: needed {needed} wei";
    StillBonded { unbonds_at: uint256, open_claims: uint256 } => "the stake is bonded until block {unbonds_at} and until all claims are settled ({open_claims} are not)";
    StreamHasJob { job: uint256 } => "the stream has a job already: {job}";
    TextTooLong => "a stream or rendition name is too long";
    TooManyRounds => "the job was taken from as many transcoders as it may be; end it and create another";
    TooManySegments => "more segments than may be added at once";
    UnknownClaim => "there is no such claim";
    UnknownJob => "there is no such job";
    WrongBond { needed: uint256 } => "a challenge needs a bond of exactly {needed} wei";
    WrongState { state: uint8 } => "the job's state does not allow that (state {state})";
}

fn signature(name: &str, types: &[&str]) -> String {
    format!("{name}({})", types.join(","))
}

/// A word that is larger than any amount of money says as much.
fn amount(word: &[u8]) -> u128 {
    u128::try_from(U256::from_big_endian(word)).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_error_of_the_contract_has_its_words() {
        let artifact = include_str!("../../contracts/artifacts/Headwater.json");
        let artifact: serde_json::Value = serde_json::from_str(artifact).unwrap();
        let entries = artifact["abi"].as_array().unwrap().iter();
        let errors: BTreeSet<String> = entries
            .filter(|entry| entry["type"] == "error")
            .map(|entry| {
                let inputs = entry["inputs"].as_array().unwrap().iter();
                let types: Vec<_> = inputs.map(|i| i["type"].as_str().unwrap()).collect();
                signature(entry["name"].as_str().unwrap(), &types)
            })
            .collect();

        assert_eq!(errors, Refusal::signatures().into_iter().collect());
    }

    #[test]
    fn amounts_are_in_the_words() {
        let mut data = keccak256("ReserveSpent(uint256,uint256)")[..4].to_vec();
        for amount in [150_u64, 99] {
            data.extend_from_slice(&ethers_core::abi::encode(&[ethers_core::abi::Token::Uint(
                amount.into(),
            )]));
        }

        let refusal = Refusal::decode(&data).unwrap();

        let words = "the job's reserve is spent: needed 150 wei, there are 99";
        assert_eq!(refusal.to_string(), words);
        assert_eq!(Refusal::decode(&data[..40]), None);
        assert_eq!(Refusal::decode(&[]), None);
        assert_eq!(Refusal::decode(&[0xff; 68]), None);
    }
}
