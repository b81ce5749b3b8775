//! Statements that their author signs with its node key.
//!
//! A signature covers the BLAKE3 hash, derived with a context string of its own for each
//! kind of statement, of the exact bytes that travel. Whoever passes a statement on
//! passes those bytes on.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use zeroize::Zeroizing;

use crate::{
    NodeId,
    error::{DecodeError, OutOfBounds, SignatureError},
};

/// Length of an Ed25519 signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// A kind of statement.
pub trait Statement: Sized {
    /// BLAKE3 key-derivation context; no two kinds share one.
    const CONTEXT: &'static str;

    /// Who has to have signed it.
    fn author(&self) -> NodeId;

    /// Holds it against the bounds that its reader has.
    ///
    /// # Errors
    /// Names the first field beyond its bound.
    fn check(&self) -> Result<(), OutOfBounds>;

    /// The bytes to sign.
    fn encode(&self) -> Bytes;

    /// Reads what was signed.
    ///
    /// # Errors
    /// When the bytes are no statement of this kind or break a bound.
    fn decode(bytes: Bytes) -> Result<Self, DecodeError>;
}

/// A statement, the bytes that were signed, and the signature.
///
/// Holding one proves nothing: see [`Signed::verify`] and [`crate::LinkVerifier`].
/// Cheap to clone: a relay keeps one copy of a header, whatever it goes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Signed<T>(Arc<Inner<T>>);

#[derive(Debug, PartialEq, Eq)]
struct Inner<T> {
    value: T,
    bytes: Bytes,
    signature: [u8; SIGNATURE_BYTES],
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Statement> Signed<T> {
    /// Signs a statement. The key must be its author's for it to verify. One beyond its
    /// bounds is refused by [`crate::encode`].
    #[must_use]
    pub fn sign(value: T, key: &SigningKey) -> Self {
        let bytes = value.encode();
        let signature = key.0.sign(&digest::<T>(&bytes)).to_bytes();
        Self(Arc::new(Inner {
            value,
            bytes,
            signature,
        }))
    }

    /// Takes a statement as it came over the wire, without looking at the signature.
    ///
    /// # Errors
    /// When the bytes are no statement of this kind or break a bound.
    pub fn from_wire(bytes: Bytes, signature: &[u8]) -> Result<Self, DecodeError> {
        let signature = signature
            .try_into()
            .map_err(|_| DecodeError::OutOfBounds("signature"))?;
        Ok(Self(Arc::new(Inner {
            value: T::decode(bytes.clone())?,
            bytes,
            signature,
        })))
    }

    /// Checks that the statement's author signed it.
    ///
    /// # Errors
    /// When the author's id is no valid key or the signature is not its.
    pub fn verify(&self) -> Result<(), SignatureError> {
        let key = VerifyingKey::from_bytes(self.0.value.author().public_key())
            .map_err(|_| SignatureError::Key)?;
        key.verify_strict(
            &digest::<T>(&self.0.bytes),
            &Signature::from_bytes(&self.0.signature),
        )
        .map_err(|_| SignatureError::Mismatch)
    }
}

impl<T> Signed<T> {
    /// What is stated.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.0.value
    }

    /// The bytes that were signed.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0.signature
    }
}

fn digest<T: Statement>(bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key(T::CONTEXT, bytes)
}

/// A node's secret key. Zeroed when dropped; never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Takes 32 bytes from a cryptographic random source.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The secret, for the transport that proves it to neighbours.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The secret as X25519 takes it.
    pub(crate) fn to_x25519(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_scalar_bytes())
    }

    /// The node whose key it is.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::from_public_key(self.0.verifying_key().to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}
