//! What an account can do at the contract, each as the call that does it.

use ethers_contract::EthCall;
use ethers_core::abi::AbiEncode;
use serde::{Deserialize, Serialize};

use super::{contract, receipt::Receipt, sender::Call};
use crate::types::{Address, JobId, NodeKey, Wei};

/// The rules of a deployment of the contract, fixed for its life. Times are in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Least stake of a transcoder.
    pub min_stake: Wei,
    /// What a challenger puts up for each receipt it asks for.
    pub challenge_bond: Wei,
    /// Segments that are paid for in advance when a job is created.
    pub reserve_segments: u32,
    /// How long an elected transcoder has to acknowledge.
    pub ack_blocks: u32,
    /// How long a job lives after its creation or last extension.
    pub job_blocks: u32,
    /// How long after a job's end its work can be claimed.
    pub claim_blocks: u32,
    /// How long a claim can be challenged.
    pub challenge_blocks: u32,
    /// How long the transcoder has to answer a challenge.
    pub answer_blocks: u32,
    /// How long stake stays bonded after leaving; above 256.
    pub unbond_blocks: u32,
}

/// What an account can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Puts a contract on the chain.
    Deploy(Rules),
    /// Registers as a transcoder, or changes the terms.
    Register {
        /// The transcoder's node.
        node: NodeKey,
        /// What it asks for one segment.
        price: Wei,
        /// Names of the renditions it makes; they take no part in elections.
        profiles: Vec<String>,
        /// Added to its stake.
        stake: Wei,
    },
    /// Takes no part in elections any more.
    Unregister,
    /// Has the stake back, some time after leaving.
    ReleaseStake,
    /// Adds to the balance.
    Deposit(Wei),
    /// Takes from the balance.
    Withdraw(Wei),
    /// Creates a job; sets money aside for it.
    CreateJob {
        /// The stream.
        stream: String,
        /// Names of the renditions that are wanted.
        profiles: Vec<String>,
        /// The highest price of a segment.
        max_price: Wei,
    },
    /// Elects the transcoder of an open job.
    Assign(JobId),
    /// Says that it works on a job.
    Acknowledge(JobId),
    /// Takes a job from its holder.
    Reassign(JobId),
    /// Sets more money aside for a job, and lets it live longer.
    Extend {
        /// The job.
        job: JobId,
        /// Segments that are paid for in advance.
        segments: u32,
    },
    /// Ends a job.
    End(JobId),
    /// Has back what is left of an ended job's reserve.
    ReleaseReserve(JobId),
    /// Claims work.
    Claim {
        /// The job.
        job: JobId,
        /// Of the tree of receipts.
        root: [u8; 32],
        /// The least number of a segment.
        first: u64,
        /// The greatest.
        last: u64,
        /// How many receipts.
        count: u32,
    },
    /// Shows a receipt that was asked for.
    Answer(Opening),
    /// Is paid for a claim.
    Settle(u64),
    /// Asks to see a receipt of somebody's claim.
    Challenge {
        /// The claim.
        claim: u64,
        /// Which of its receipts.
        index: u32,
        /// What the contract asks for.
        bond: Wei,
    },
    /// Shows that a receipt in somebody's claim is bad.
    ProveBad(Opening),
    /// Shows that somebody claimed a segment twice.
    ProveDouble(Opening, Opening),
}

/// A receipt, and its place in a claim's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The claim.
    pub claim: u64,
    /// Its place.
    pub index: u32,
    /// What is there.
    pub receipt: Receipt,
    /// Siblings from leaf to root.
    pub proof: Vec<[u8; 32]>,
}

impl Action {
    /// What is sent with it, in wei.
    #[must_use]
    pub const fn value(&self) -> Wei {
        match self {
            Self::Register { stake: value, .. }
            | Self::Deposit(value)
            | Self::Challenge { bond: value, .. } => *value,
            Self::Deploy(_)
            | Self::Unregister
            | Self::ReleaseStake
            | Self::Withdraw(_)
            | Self::CreateJob { .. }
            | Self::Assign(_)
            | Self::Acknowledge(_)
            | Self::Reassign(_)
            | Self::Extend { .. }
            | Self::End(_)
            | Self::ReleaseReserve(_)
            | Self::Claim { .. }
            | Self::Answer(_)
            | Self::Settle(_)
            | Self::ProveBad(_)
            | Self::ProveDouble(..) => Wei(0),
        }
    }

    pub(super) fn call(&self, ledger: Address) -> Call {
        let data = match self.clone() {
            Self::Deploy(rules) => {
                let code = contract::HEADWATER_BYTECODE.to_vec();
                [code, contract::Settings::from(rules).encode()].concat()
            }
            Self::Register {
                node,
                price,
                profiles,
                ..
            } => encode(contract::RegisterCall {
                node: node.0,
                price: price.0,
                profiles,
            }),
            Self::Unregister => encode(contract::UnregisterCall),
            Self::ReleaseStake => encode(contract::ReleaseStakeCall),
            Self::Deposit(_) => encode(contract::DepositCall),
            Self::Withdraw(amount) => encode(contract::WithdrawCall {
                amount: amount.0.into(),
            }),
            Self::CreateJob {
                stream,
                profiles,
                max_price,
            } => encode(contract::CreateJobCall {
                stream_id: stream,
                profiles,
                max_price_per_segment: max_price.0,
            }),
            Self::Assign(job) => encode(contract::AssignCall { job_id: id(job) }),
            Self::Acknowledge(job) => encode(contract::AcknowledgeCall { job_id: id(job) }),
            Self::Reassign(job) => encode(contract::ReassignCall { job_id: id(job) }),
            Self::Extend { job, segments } => encode(contract::ExtendJobCall {
                job_id: id(job),
                segments,
            }),
            Self::End(job) => encode(contract::EndJobCall { job_id: id(job) }),
            Self::ReleaseReserve(job) => encode(contract::ReleaseReserveCall { job_id: id(job) }),
            Self::Claim {
                job,
                root,
                first,
                last,
                count,
            } => encode(contract::ClaimWorkCall {
                job_id: id(job),
                root,
                first,
                last,
                count,
            }),
            Self::Answer(shown) => encode(contract::AnswerCall {
                shown: shown.into(),
            }),
            Self::Settle(claim) => encode(contract::SettleClaimCall {
                claim_id: claim.into(),
            }),
            Self::Challenge { claim, index, .. } => encode(contract::ChallengeCall {
                claim_id: claim.into(),
                index,
            }),
            Self::ProveBad(shown) => encode(contract::ProveBadCall {
                shown: shown.into(),
            }),
            Self::ProveDouble(shown, other) => encode(contract::ProveDoubleCall {
                shown: shown.into(),
                other: other.into(),
            }),
        };
        let to = (!matches!(self, Self::Deploy(_))).then_some(ledger);
        Call {
            to,
            value: self.value().0,
            data,
        }
    }
}

fn encode(call: impl EthCall) -> Vec<u8> {
    call.encode()
}

fn id(job: JobId) -> ethers_core::types::U256 {
    job.0.into()
}

impl From<Opening> for contract::Opening {
    fn from(shown: Opening) -> Self {
        Self {
            claim_id: shown.claim.into(),
            index: shown.index,
            receipt: contract::Receipt {
                segment: shown.receipt.number,
                source_hash: shown.receipt.source,
                renditions_hash: shown.receipt.renditions,
                signature: shown.receipt.signature.into(),
            },
            proof: shown.proof,
        }
    }
}

impl From<Rules> for contract::Settings {
    fn from(rules: Rules) -> Self {
        Self {
            min_stake: rules.min_stake.0,
            challenge_bond: rules.challenge_bond.0,
            reserve_segments: rules.reserve_segments,
            ack_blocks: rules.ack_blocks,
            job_blocks: rules.job_blocks,
            claim_blocks: rules.claim_blocks,
            challenge_blocks: rules.challenge_blocks,
            answer_blocks: rules.answer_blocks,
            unbond_blocks: rules.unbond_blocks,
        }
    }
}

impl From<contract::Settings> for Rules {
    fn from(set: contract::Settings) -> Self {
        Self {
            min_stake: Wei(set.min_stake),
            challenge_bond: Wei(set.challenge_bond),
            reserve_segments: set.reserve_segments,
            ack_blocks: set.ack_blocks,
            job_blocks: set.job_blocks,
            claim_blocks: set.claim_blocks,
            challenge_blocks: set.challenge_blocks,
            answer_blocks: set.answer_blocks,
            unbond_blocks: set.unbond_blocks,
        }
    }
}
