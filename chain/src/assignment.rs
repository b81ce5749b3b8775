//! Whether a transcoder's claim to a job holds.

use crate::{
    ethereum::{Claim, recover},
    ledger::{Ledger, LedgerError},
    types::{Address, Job, JobId, JobState},
};

/// A claim that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The job it is for.
    pub job: Job,
    /// Who signed.
    pub transcoder: Address,
}

/// Why a claim does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimRefused {
    /// The signature is not one.
    #[error("malformed signature")]
    Malformed,
    /// Its time is over.
    #[error("the claim expired {ago_ms} ms ago; do the clocks of both nodes agree?")]
    Expired {
        /// How long it has been, by the clock of who checks.
        ago_ms: u64,
    },
    /// It is valid for longer than claims may be.
    #[error(
        "the claim is valid for {ahead_ms} ms, which is too long; do the clocks of both nodes agree?"
    )]
    TooLong {
        /// How long it would be, by the clock of who checks.
        ahead_ms: u64,
    },
    /// The ledger has no such job (yet).
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// The job is over.
    #[error("job {0} has ended")]
    Ended(JobId),
    /// The job is for another stream.
    #[error("job {0} is for another stream")]
    WrongStream(JobId),
    /// Another key signed than that of the elected transcoder, or for another ledger.
    #[error("signed by {0}, who does not hold the job")]
    WrongSigner(Address),
    /// The transcoder registered another node.
    #[error("the transcoder registered another node")]
    WrongNode,
    /// The ledger cannot be asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Claims are valid for ten minutes at most.
const MAX_CLAIM_MS: u64 = 10 * 60 * 1000;

/// Checks a claim against a ledger.
///
/// # Errors
/// Says why the claim does not hold.
pub async fn verify_assignment(
    ledger: &dyn Ledger,
    claim: &Claim,
    signature: &[u8; 65],
    now_ms: u64,
) -> Result<Assignment, ClaimRefused> {
    let ahead_ms = claim.expires_ms.saturating_sub(now_ms);
    if ahead_ms == 0 {
        let ago_ms = now_ms - claim.expires_ms;
        return Err(ClaimRefused::Expired { ago_ms });
    }
    if ahead_ms > MAX_CLAIM_MS {
        return Err(ClaimRefused::TooLong { ahead_ms });
    }
    let signer = recover(&ledger.domain(), claim, signature).ok_or(ClaimRefused::Malformed)?;
    let job = ledger.job(claim.job).await?;
    let job = job.ok_or(ClaimRefused::UnknownJob(claim.job))?;
    if job.state == JobState::Ended {
        return Err(ClaimRefused::Ended(job.id));
    }
    if job.stream != claim.stream {
        return Err(ClaimRefused::WrongStream(job.id));
    }
    let holder = job
        .transcoder
        .as_ref()
        .filter(|holder| holder.address == signer);
    let holder = holder.ok_or(ClaimRefused::WrongSigner(signer))?;
    if holder.node != claim.node {
        return Err(ClaimRefused::WrongNode);
    }
    let transcoder = holder.address;
    Ok(Assignment { job, transcoder })
}
