//! EIP-712: the domain of everything that is signed for a ledger, and who signed.

use ethers_core::{
    abi::{Token, encode},
    types::{Signature, U256},
    utils::keccak256,
};

use crate::types::Address;

/// What a signature is for: one ledger on one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain {
    /// 0 for a job book.
    pub chain_id: u64,
    /// The contract; for a job book the last 20 bytes of its random id.
    pub contract: Address,
}

const DOMAIN_TYPE: &str =
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

pub(super) fn word(bytes: [u8; 32]) -> Token {
    Token::FixedBytes(bytes.to_vec())
}

pub(super) fn text(text: &str) -> Token {
    word(keccak256(text))
}

/// The hash that is signed: `encode(domainSeparator, hashStruct(message))`, where the
/// message's first word is the hash of its type.
pub(super) fn digest(domain: &Domain, message: &[Token]) -> [u8; 32] {
    let separator = keccak256(encode(&[
        text(DOMAIN_TYPE),
        text("Headwater"),
        text("1"),
        Token::Uint(domain.chain_id.into()),
        Token::Address(domain.contract.0.into()),
    ]));
    let message = keccak256(encode(message));
    let mut bytes = vec![0x19, 0x01];
    bytes.extend_from_slice(&separator);
    bytes.extend_from_slice(&message);
    keccak256(bytes)
}

/// Who signed a hash; `None` when the signature is none, or one of the two forms that only
/// serve to make a second valid signature of the first.
pub(super) fn signer(hash: [u8; 32], signature: &[u8; 65]) -> Option<Address> {
    let [r, s] = [&signature[..32], &signature[32..64]].map(U256::from_big_endian);
    let v = signature[64];
    if !matches!(v, 27 | 28) || s > half_order() {
        return None;
    }
    let signature = Signature {
        r,
        s,
        v: u64::from(v),
    };
    let address = signature.recover(hash).ok()?;
    Some(Address(address.0))
}

/// Half the order of secp256k1: of the two values of `s` that verify, only the lower one
/// counts (EIP-2).
pub(super) fn half_order() -> U256 {
    U256::from_big_endian(&[
        0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b,
        0x20, 0xa0,
    ])
}
