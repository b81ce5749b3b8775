//! The contract's events as far as they say who transcodes and which jobs there are.

use ethers_contract::EthLogDecode as _;
use ethers_core::{
    abi::RawLog,
    types::{Log, U256},
};

use super::super::contract::{self, HeadwaterEvents as Raw};
use crate::types::{Address, JobId, NodeKey, Wei};

/// One event, in words of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ethereum) enum Happened {
    /// A transcoder registered or changed its terms.
    Registered {
        transcoder: Address,
        node: NodeKey,
        price: Wei,
        stake: Wei,
    },
    /// It takes part no more.
    Unregistered(Address),
    /// It lost a part of its stake, and its place in elections when it is not `active`.
    Slashed {
        transcoder: Address,
        stake: Wei,
        active: bool,
    },
    Created(Box<Created>),
    /// The hash of this block will elect.
    SeedChosen {
        job: JobId,
        block: u64,
    },
    Assigned {
        job: JobId,
        transcoder: Address,
        node: NodeKey,
        price: Wei,
        round: u32,
        seed_block: u64,
        seed: [u8; 32],
    },
    Acknowledged(JobId),
    /// It was taken from its holder.
    Unassigned {
        job: JobId,
        transcoder: Address,
    },
    /// It lives until another block.
    Extended {
        job: JobId,
        expires_at: u64,
    },
    Ended(JobId),
    /// Of no concern here: balances, claims.
    Other,
}

/// A job as it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ethereum) struct Created {
    pub(in crate::ethereum) job: JobId,
    pub(in crate::ethereum) account: Address,
    pub(in crate::ethereum) stream: String,
    pub(in crate::ethereum) profiles: Vec<String>,
    pub(in crate::ethereum) max_price: Wei,
    pub(in crate::ethereum) expires_at: u64,
}

/// Reads an event of the contract.
///
/// # Errors
/// When it is none.
pub(in crate::ethereum) fn read(log: Log) -> Result<Happened, String> {
    let raw = RawLog {
        topics: log.topics,
        data: log.data.to_vec(),
    };
    let event = Raw::decode_log(&raw).map_err(|_| "an event of another contract".to_owned())?;
    Ok(match event {
        Raw::RegisteredFilter(event) => Happened::Registered {
            transcoder: Address(event.transcoder.0),
            node: NodeKey(event.node),
            price: Wei(event.price),
            stake: Wei(event.stake),
        },
        Raw::UnregisteredFilter(event) => Happened::Unregistered(Address(event.transcoder.0)),
        Raw::StakeSlashedFilter(event) => Happened::Slashed {
            transcoder: Address(event.transcoder.0),
            stake: Wei(event.stake),
            active: event.active,
        },
        Raw::JobCreatedFilter(event) => created(event)?,
        Raw::SeedChosenFilter(event) => Happened::SeedChosen {
            job: job(event.job_id)?,
            block: event.seed_block,
        },
        Raw::JobAssignedFilter(event) => Happened::Assigned {
            job: job(event.job_id)?,
            transcoder: Address(event.transcoder.0),
            node: NodeKey(event.node),
            price: Wei(event.price),
            round: event.round,
            seed_block: event.seed_block,
            seed: event.seed,
        },
        Raw::JobAcknowledgedFilter(event) => Happened::Acknowledged(job(event.job_id)?),
        Raw::JobUnassignedFilter(event) => Happened::Unassigned {
            job: job(event.job_id)?,
            transcoder: Address(event.transcoder.0),
        },
        Raw::JobExtendedFilter(event) => Happened::Extended {
            job: job(event.job_id)?,
            expires_at: event.expires_at,
        },
        Raw::JobEndedFilter(event) => Happened::Ended(job(event.job_id)?),
        Raw::BondReturnedFilter(_)
        | Raw::ChallengeAnsweredFilter(_)
        | Raw::ClaimChallengedFilter(_)
        | Raw::ClaimSettledFilter(_)
        | Raw::ClaimSlashedFilter(_)
        | Raw::CreditedFilter(_)
        | Raw::DebitedFilter(_)
        | Raw::ReserveReleasedFilter(_)
        | Raw::StakeReleasedFilter(_)
        | Raw::WithdrawnFilter(_)
        | Raw::WorkClaimedFilter(_) => Happened::Other,
    })
}

fn created(event: contract::JobCreatedFilter) -> Result<Happened, String> {
    // The contract's own bounds; a text beyond them is not from it.
    let long = event.stream_id.len() > 200
        || event.profiles.len() > 16
        || event.profiles.iter().any(|profile| profile.len() > 32);
    if long {
        return Err("a job with longer texts than the contract takes".into());
    }
    Ok(Happened::Created(Box::new(Created {
        job: job(event.job_id)?,
        account: Address(event.broadcaster.0),
        stream: event.stream_id,
        profiles: event.profiles,
        max_price: Wei(event.max_price_per_segment),
        expires_at: event.expires_at,
    })))
}

/// Jobs are counted from 1, so that no number of a real one is beyond 64 bits.
fn job(id: U256) -> Result<JobId, String> {
    let number = u64::try_from(id).map_err(|_| "a job's number is beyond all bounds".to_owned())?;
    Ok(JobId(number))
}
