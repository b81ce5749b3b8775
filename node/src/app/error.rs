//! Why a node did not start.

use std::net::SocketAddr;

use headwater_chain::LedgerError;

use crate::{config::AccountError, http::BindError, net::NetError, store::StoreError};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// HTTP.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// RTMP.
    #[error("cannot listen on {address} (--rtmp): {reason}")]
    Rtmp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The node's account.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A transcoder without a ledger gets no jobs.
    #[error("a transcoder needs a ledger to get jobs from; add --ledger file:PATH")]
    NoLedger,
    /// The recording.
    #[error("cannot record to {path} (--record): {reason}")]
    Record {
        /// The file.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}
