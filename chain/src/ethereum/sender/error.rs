//! Why a transaction was not made.

use super::super::refusal::Refusal;
use crate::journal::JournalError;

/// Why a transaction was not made, or had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// The contract refuses it, or refused it in its block.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No node of the chain answers as it should. A transaction that was begun goes on.
    #[error("{0}")]
    Chain(String),
    /// It cannot be remembered, so it is not sent.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The chain is too dear at present.
    #[error(
        "gas costs {needed} wei at present, more than {limit} (--max-fee); \
         wait, or allow more"
    )]
    TooDear {
        /// What a unit of gas costs.
        needed: u128,
        /// What it may cost.
        limit: u128,
    },
    /// It would need more gas than any honest call.
    #[error("it needs {needed} gas, more than the {limit} that is ever spent")]
    TooMuchGas {
        /// What it needs.
        needed: u64,
        /// What it may.
        limit: u64,
    },
    /// The account cannot pay.
    #[error("account {0} cannot pay for it and its gas; send it some of the chain's coin")]
    Funds(crate::types::Address),
    /// Another transaction of the account took its place.
    #[error("another transaction of the account took its place")]
    Replaced,
}
