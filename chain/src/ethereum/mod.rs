//! Keys, signatures and addresses as Ethereum has them. The only place that uses ethers.

mod claim;
mod key;

pub use claim::{Claim, Domain, digest, recover};
pub use key::{Key, KeyError};

use crate::types::Address;

/// EIP-55 text of an address.
pub(crate) fn checksummed(address: &Address) -> String {
    ethers_core::utils::to_checksum(&address.0.into(), None)
}
