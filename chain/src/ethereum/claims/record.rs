//! A claim as the transcoder remembers it.

use serde::{Deserialize, Serialize};

use super::super::{receipt::Receipt, receipts::Receipts, tree::ReceiptTree};
use crate::{
    journal::{Change, Journal, JournalError},
    types::JobId,
};

/// What has become of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimState {
    /// Its receipts are chosen; it is on its way to the chain.
    Prepared,
    /// The contract has it.
    Made {
        /// Its number there.
        claim: u64,
        /// The block that it is in.
        block: u64,
    },
    /// It is paid.
    Settled,
    /// Somebody showed that it is false.
    Slashed,
    /// It came too late.
    Lost,
}

/// A claim of this transcoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// The job.
    pub job: JobId,
    /// Its number among the job's claims by this transcoder, from 1.
    pub sequence: u64,
    /// The root of its tree.
    pub root: [u8; 32],
    /// The least number of a segment in it.
    pub first: u64,
    /// The greatest.
    pub last: u64,
    /// How many receipts it has.
    pub count: u32,
    /// What has become of it.
    pub state: ClaimState,
}

impl ClaimRecord {
    /// A claim that is to be made, of receipts in order.
    ///
    /// # Errors
    /// When there is none, or there are more than a claim takes.
    pub(super) fn prepared(
        job: JobId,
        sequence: u64,
        stream: [u8; 32],
        receipts: &[Receipt],
    ) -> Result<Self, JournalError> {
        let leaves = receipts.iter().map(|receipt| receipt.leaf_of(stream));
        let tree = ReceiptTree::new(leaves.collect());
        let (Some(tree), Some(first), Some(last)) = (tree, receipts.first(), receipts.last())
        else {
            let count = receipts.len();
            return Err(JournalError(format!("{count} receipts make no claim")));
        };
        Ok(Self {
            job,
            sequence,
            root: tree.root(),
            first: first.number,
            last: last.number,
            count: u32::try_from(receipts.len()).unwrap_or(u32::MAX),
            state: ClaimState::Prepared,
        })
    }

    /// Whether nothing is left to be done for it.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        match self.state {
            ClaimState::Prepared | ClaimState::Made { .. } => false,
            ClaimState::Settled | ClaimState::Slashed | ClaimState::Lost => true,
        }
    }

    pub(super) fn put(&self) -> Result<Change, JournalError> {
        let value = serde_json::to_vec(self).map_err(|error| JournalError(error.to_string()))?;
        let key = key(self.job, self.sequence);
        Ok(Change::Put { key, value })
    }

    pub(super) fn remove(&self) -> Change {
        let key = key(self.job, self.sequence);
        Change::Remove { key }
    }

    /// All claims for a job, in order.
    pub(super) fn of_job(journal: &dyn Journal, job: JobId) -> Result<Vec<Self>, JournalError> {
        let prefix = prefix(job);
        let entries = journal.scan(&prefix, &prefix, usize::MAX)?.into_iter();
        let read = |(key, value): (String, Vec<u8>)| {
            serde_json::from_slice(&value)
                .map_err(|error| JournalError(format!("the entry {key} is damaged: {error}")))
        };
        entries.map(read).collect()
    }

    /// Its receipts, in the order of its leaves.
    pub(super) fn receipts(&self, receipts: &Receipts) -> Result<Vec<Receipt>, JournalError> {
        receipts.of_claim(self.job, self.sequence, self.first, self.last)
    }
}

fn prefix(job: JobId) -> String {
    format!("claim/{:020}/", job.0)
}

fn key(job: JobId, sequence: u64) -> String {
    format!("{}{sequence:020}", prefix(job))
}
