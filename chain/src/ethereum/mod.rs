//! Keys, signatures and addresses as Ethereum has them. The only place that uses ethers.

mod account;
mod action;
mod claim;
mod claims;
mod contract;
mod eip712;
pub mod election;
mod follow;
mod key;
mod ledger;
mod receipt;
mod receipts;
mod refusal;
mod rpc;
mod sender;
mod tree;
mod view;
mod write;

pub use account::{Account, Made, Standing};
pub use action::{Action, Opening, Rules};
pub use claim::{Claim, digest, recover};
pub use claims::{ClaimConfig, ClaimRecord, ClaimState, Claims};
pub use eip712::Domain;
pub use key::{Key, KeyError};
pub use ledger::{ChainSettings, ChainStatus, EthereumLedger};
pub use receipt::{Receipt, Segment};
pub use receipts::Receipts;
pub use refusal::Refusal;
pub use rpc::{EndpointStatus, EndpointUrl, EndpointUrlError, Endpoints};
pub use sender::{Estimate, SenderConfig, TransactionError};
pub use tree::ReceiptTree;
pub use write::{Spending, Writer};

use ethers_core::rand::{RngCore as _, rngs::OsRng};

use crate::types::Address;

/// Keccak-256, the hash of Ethereum.
pub(crate) fn keccak256(bytes: &[u8]) -> [u8; 32] {
    ethers_core::utils::keccak256(bytes)
}

/// 32 bytes from the system's random source.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// EIP-55 text of an address.
pub(crate) fn checksummed(address: &Address) -> String {
    ethers_core::utils::to_checksum(&address.0.into(), None)
}
