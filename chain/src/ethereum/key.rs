//! The key a transcoder signs with, kept in a geth-compatible keystore.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use ethers_core::{
    rand::rngs::OsRng,
    types::{H256, Signature, transaction::eip2718::TypedTransaction},
};
use ethers_signers::{LocalWallet, Signer as _};

use super::{
    claim::{Claim, digest},
    eip712::Domain,
    receipt::Segment,
};
use crate::{lasting::sync_folder, types::Address};

/// An Ethereum key. Never printed.
#[derive(Clone)]
pub struct Key(LocalWallet);

/// Why a key cannot be had or kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 64 hex digits of a valid key.
    #[error("a private key is 64 hex digits")]
    Form,
    /// The keystore cannot be read, or the password is wrong.
    #[error("keystore {path}: {reason}")]
    Keystore {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// A new key from the system's random source.
    #[must_use]
    pub fn random() -> Self {
        Self(LocalWallet::new(&mut OsRng))
    }

    /// Reads a private key in hex, with or without `0x`.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let bytes: [u8; 32] = crate::types::hex(digits).ok_or(KeyError::Form)?;
        LocalWallet::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| KeyError::Form)
    }

    /// Reads a keystore.
    ///
    /// # Errors
    /// When the file is no keystore or the password is wrong.
    pub fn load(path: &Path, password: &str) -> Result<Self, KeyError> {
        fs::File::open(path).map_err(|error| failed(path, &error))?;
        let wallet = LocalWallet::decrypt_keystore(path, password);
        wallet.map(Self).map_err(|error| {
            let reason = format!("the password is wrong, or the file is no keystore ({error})");
            failed(path, &reason)
        })
    }

    /// Writes a keystore, which must not exist yet.
    ///
    /// # Errors
    /// When it exists or cannot be written.
    pub fn save(&self, path: &Path, password: &str) -> Result<(), KeyError> {
        if path.exists() {
            return Err(failed(path, &"it exists already and is not overwritten"));
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(path, &"not the path of a file"));
        };
        let name = name
            .to_str()
            .ok_or_else(|| failed(path, &"not a readable name"))?;
        fs::create_dir_all(folder).map_err(|error| failed(path, &error))?;
        let secret = self.0.signer().to_bytes();
        let name = format!("{name}.new");
        LocalWallet::encrypt_keystore(folder, &mut OsRng, secret, password, Some(&name))
            .map_err(|error| failed(path, &error))?;
        keep(&folder.join(name), path).map_err(|error| failed(path, &error))
    }

    /// The address it signs for.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(self.0.address().0)
    }

    /// Signs a claim: r, s, v.
    #[must_use]
    pub fn sign(&self, domain: &Domain, claim: &Claim) -> [u8; 65] {
        self.sign_hash(digest(domain, claim))
    }

    /// Signs that a segment was fed to a transcoder: r, s, v. The same segment always gets
    /// the same signature (RFC 6979).
    #[must_use]
    pub fn sign_segment(&self, domain: &Domain, segment: &Segment) -> [u8; 65] {
        self.sign_hash(segment.digest(domain))
    }

    /// Signs a transaction.
    pub(super) fn sign_transaction(&self, transaction: &TypedTransaction) -> Signature {
        self.0
            .sign_transaction_sync(transaction)
            .expect("a hash of 32 bytes can be signed")
    }

    fn sign_hash(&self, hash: [u8; 32]) -> [u8; 65] {
        let signature = self
            .0
            .sign_hash(H256::from(hash))
            .expect("a hash of 32 bytes can be signed");
        let mut bytes = [0; 65];
        bytes.copy_from_slice(&signature.to_vec());
        bytes
    }
}

/// Puts a whole file in its place: a crash leaves either no key or all of it, and a key that
/// was told of is not lost with the power.
fn keep(beside: &Path, path: &Path) -> io::Result<()> {
    // Encrypted, but nobody else's business all the same.
    fs::set_permissions(beside, fs::Permissions::from_mode(0o600))?;
    fs::File::open(beside)?.sync_all()?;
    fs::rename(beside, path)?;
    sync_folder(path)
}

fn failed(path: &Path, reason: &dyn fmt::Display) -> KeyError {
    KeyError::Keystore {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keystore_keeps_the_key_and_needs_its_password() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/transcoder.json");
        let key = Key::from_hex(&format!("0x{}", "4f".repeat(32))).unwrap();

        key.save(&path, "right").unwrap();

        assert_eq!(Key::load(&path, "right").unwrap().address(), key.address());
        let error = Key::load(&path, "wrong").unwrap_err().to_string();
        assert!(error.contains("the password is wrong"), "{error}");
        assert!(key.save(&path, "right").is_err(), "never overwritten");
        assert_eq!(format!("{key:?}"), "Key(..)");
    }

    #[test]
    fn a_keystore_is_whole_private_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.json");
        fs::write(dir.path().join("key.json.new"), "of a killed progr").unwrap();

        Key::random().save(&path, "").unwrap();

        Key::load(&path, "").unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_address_is_the_one_every_wallet_shows() {
        // The first account of the usual development mnemonic.
        let secret = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let address = Key::from_hex(secret).unwrap().address();
        assert_eq!(
            address.to_string(),
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        );
        assert_eq!(Key::from_hex("12").unwrap_err(), KeyError::Form);
        assert_eq!(Key::from_hex(&"0".repeat(64)).unwrap_err(), KeyError::Form);
    }
}
