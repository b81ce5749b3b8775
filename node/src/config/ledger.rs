//! Where jobs are, and on whose account.

use std::path::{Path, PathBuf};

use headwater_chain::{
    Address, Wei,
    ethereum::{EndpointUrl, Key, KeyError},
};

use super::value::{PasswordError, read_password};
use crate::secret::Secret;

/// Name of the keystore in the data directory of a node that was told of no other.
pub const KEYSTORE: &str = "ethereum.json";

/// The ledger of jobs.
#[derive(Debug, Clone)]
pub enum LedgerConfig {
    /// A job book in a file.
    Book(PathBuf),
    /// A contract on a chain.
    Chain(ChainConfig),
}

/// A contract on a chain, and how it is used.
#[derive(Debug, Clone)]
pub struct ChainConfig {
    /// Whom to ask, in order of preference; at least one.
    pub endpoints: Vec<EndpointUrl>,
    /// The contract.
    pub contract: Address,
    /// How many blocks have to follow a block until it counts, 0 to 64.
    pub confirmations: u64,
    /// Wei paid for a unit of gas at most.
    pub max_fee: Wei,
}

/// Jobs that a broadcaster creates by itself.
#[derive(Debug, Clone, Copy)]
pub struct JobCreation {
    /// Whether it does.
    pub create: bool,
    /// Paid for one segment at most.
    pub max_price: Wei,
    /// Reserved for jobs within any 24 hours at most.
    pub spend_limit: Wei,
}

/// Whose account is used.
#[derive(Debug, Clone)]
pub struct AccountConfig {
    /// The keystore that was named.
    pub keystore: Option<PathBuf>,
    /// The file with its password; without one it has none.
    pub password_file: Option<PathBuf>,
    /// The key itself, in hex. It wins over the keystore.
    pub private_key: Option<Secret>,
}

/// Why there is no account to use.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The keystore, or the key in the environment.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordError),
}

impl AccountConfig {
    /// The key that was named, or else that of a keystore which need not be there.
    ///
    /// # Errors
    /// When what is there cannot be used.
    pub fn key(&self, otherwise: Option<&Path>) -> Result<Option<Key>, AccountError> {
        if let Some(key) = &self.private_key {
            return Ok(Some(Key::from_hex(key.expose())?));
        }
        let otherwise = otherwise.filter(|path| path.exists());
        match self.keystore.as_deref().or(otherwise) {
            Some(keystore) => Ok(Some(Key::load(keystore, self.password()?.expose())?)),
            None => Ok(None),
        }
    }

    /// The password of the keystore; empty when none was named.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn password(&self) -> Result<Secret, PasswordError> {
        let password = self
            .password_file
            .as_deref()
            .map(read_password)
            .transpose()?;
        Ok(password.unwrap_or_else(|| Secret::from("")))
    }
}
