//! Addresses that only the broadcaster can read, though relays carry them.
//!
//! A box is an ephemeral X25519 key, then ChaCha20-Poly1305 of the padded text: as long
//! whatever is in it, and bound to the claim that it came with. `SPEC.md` has the bytes.

use std::fmt;

use chacha20poly1305::{AeadInPlace as _, ChaCha20Poly1305, KeyInit as _, Tag};
use ed25519_dalek::VerifyingKey;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::Zeroizing;

use crate::{
    AddressText, SigningKey, TranscodeClaim,
    error::SealError,
    limits::{MAX_ADDRESS_BYTES, MAX_ADDRESSES, SEALED_BYTES},
};

const CONTEXT: &str = "headwater 2026 v1 sealed addresses";
const KEY_BYTES: usize = 32;
/// Each address is as long as it may be, and ends in a newline.
const TEXT_BYTES: usize = MAX_ADDRESSES * (MAX_ADDRESS_BYTES + 1);
const TAG_AT: usize = KEY_BYTES + TEXT_BYTES;
/// A key is used for one box only.
const NONCE: [u8; 12] = [0; 12];

/// The addresses of a [`TranscodeClaim`], readable by the node of its stream only.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedAddresses(Box<[u8; SEALED_BYTES]>);

impl SealedAddresses {
    /// Takes what came over the wire.
    #[must_use]
    pub fn from_bytes(bytes: [u8; SEALED_BYTES]) -> Self {
        Self(Box::new(bytes))
    }

    /// What goes over the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SEALED_BYTES] {
        &self.0
    }
}

impl fmt::Debug for SealedAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedAddresses(..)")
    }
}

impl TranscodeClaim {
    /// Moves the addresses into a box that only the stream's node can open. `ephemeral`
    /// are 32 bytes from a cryptographic random source, for this box alone.
    ///
    /// # Errors
    /// When that node's id is no valid key, or there are too many addresses.
    pub fn seal(self, ephemeral: [u8; 32]) -> Result<Self, SealError> {
        if self.addresses.len() > MAX_ADDRESSES {
            return Err(SealError::TooMany);
        }
        let owner = VerifyingKey::from_bytes(self.stream.node.public_key())
            .map_err(|_| SealError::Key)?
            .to_montgomery()
            .to_bytes();
        let ephemeral = Zeroizing::new(ephemeral);
        let public = x25519(*ephemeral, X25519_BASEPOINT_BYTES);
        let shared = Zeroizing::new(x25519(*ephemeral, owner));

        let mut sealed = Box::new([0; SEALED_BYTES]);
        sealed[..KEY_BYTES].copy_from_slice(&public);
        let text = &mut sealed[KEY_BYTES..TAG_AT];
        let mut at = 0;
        for address in &self.addresses {
            let address = address.as_str().as_bytes();
            text[at..at + address.len()].copy_from_slice(address);
            at += address.len();
            text[at] = b'\n';
            at += 1;
        }
        let tag = cipher(&shared, &public, &owner)?
            .encrypt_in_place_detached(&NONCE.into(), &self.bound_to(), text)
            .map_err(|_| SealError::Closed)?;
        sealed[TAG_AT..].copy_from_slice(&tag);
        Ok(Self {
            addresses: Vec::new(),
            sealed: Some(SealedAddresses(sealed)),
            ..self
        })
    }

    /// Opens the box with the key of the stream's node; a claim without one stays as it
    /// is.
    ///
    /// # Errors
    /// When it was sealed to another node or for another claim, was changed, or has
    /// anything but addresses in it.
    pub fn open(self, key: &SigningKey) -> Result<Self, SealError> {
        let Some(SealedAddresses(mut sealed)) = self.sealed.clone() else {
            return Ok(self);
        };
        let (public, rest) = sealed.split_at_mut(KEY_BYTES);
        let (text, tag) = rest.split_at_mut(TEXT_BYTES);
        let public: [u8; KEY_BYTES] = (&*public).try_into().map_err(|_| SealError::Key)?;
        let secret = key.to_x25519();
        let owner = x25519(*secret, X25519_BASEPOINT_BYTES);
        let shared = Zeroizing::new(x25519(*secret, public));
        cipher(&shared, &public, &owner)?
            .decrypt_in_place_detached(&NONCE.into(), &self.bound_to(), text, Tag::from_slice(tag))
            .map_err(|_| SealError::Closed)?;
        Ok(Self {
            addresses: addresses(text)?,
            sealed: None,
            ..self
        })
    }

    /// What a box is good for: this stream, job, transcoder and sequence.
    fn bound_to(&self) -> Vec<u8> {
        let Self {
            stream,
            job,
            transcoder,
            addresses: _,
            sealed: _,
            sequence,
            expires_ms: _,
        } = self;
        let mut bytes = transcoder.public_key().to_vec();
        bytes.extend_from_slice(&job.0.to_be_bytes());
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(stream.to_string().as_bytes());
        bytes
    }
}

/// Reads the padded text; the box proves only that its maker wrote it.
fn addresses(text: &[u8]) -> Result<Vec<AddressText>, SealError> {
    let mut addresses = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        if addresses.len() == MAX_ADDRESSES {
            return Err(SealError::TooMany);
        }
        let address = str::from_utf8(&rest[..end]).map_err(|_| SealError::Closed)?;
        addresses.push(AddressText::new(address)?);
        rest = &rest[end + 1..];
    }
    if rest.iter().any(|byte| *byte != 0) {
        return Err(SealError::Closed);
    }
    Ok(addresses)
}

fn cipher(
    shared: &[u8; 32],
    ephemeral: &[u8; 32],
    owner: &[u8; 32],
) -> Result<ChaCha20Poly1305, SealError> {
    // A key of small order shares the same secret with everybody.
    if *shared == [0; 32] {
        return Err(SealError::Key);
    }
    let material = Zeroizing::new([*shared, *ephemeral, *owner].concat());
    let key = Zeroizing::new(blake3::derive_key(CONTEXT, &material));
    Ok(ChaCha20Poly1305::new((&*key).into()))
}
