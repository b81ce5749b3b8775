//! Statements that their author signs with its node key.
//!
//! A signature covers the BLAKE3 hash, keyed by a context string of its own for each
//! kind of statement, of the exact bytes that travel. Whoever passes a statement on
//! passes those bytes on.

use bytes::Bytes;

use crate::NodeId;

/// Length of an Ed25519 signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// A statement, the bytes that were signed, and the signature.
///
/// Holding one proves nothing: see [`Signed::verify`] and [`crate::LinkVerifier`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    value: T,
    bytes: Bytes,
    signature: [u8; SIGNATURE_BYTES],
}

impl<T> Signed<T> {
    /// What is stated.
    #[must_use]
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// The bytes that were signed.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.signature
    }
}

/// A kind of statement.
pub trait Statement: Sized {
    /// BLAKE3 key-derivation context; no two kinds share one.
    const CONTEXT: &'static str;

    /// Who has to have signed it.
    fn author(&self) -> NodeId;
}
