//! EIP-712: what a transcoder signs when it claims a job.

use ethers_core::{abi::Token, utils::keccak256};

use super::eip712::{self, Domain, text, word};
use crate::types::{Address, JobId, NodeKey};

/// What a transcoder claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The source stream.
    pub stream: String,
    /// The job.
    pub job: JobId,
    /// The transcoder's node.
    pub node: NodeKey,
    /// Where it may be dialled.
    pub addresses: Vec<String>,
    /// Grows with every claim.
    pub sequence: u64,
    /// Void after this time, ms since 1970.
    pub expires_ms: u64,
}

const CLAIM_TYPE: &str = "TranscodeSub(string streamId,uint256 jobId,bytes32 nodeId,\
     string[] addresses,uint64 sequence,uint64 expires)";

/// The hash that is signed (EIP-712, `encode(domainSeparator, hashStruct(message))`).
#[must_use]
pub fn digest(domain: &Domain, claim: &Claim) -> [u8; 32] {
    let addresses: Vec<u8> = claim.addresses.iter().flat_map(keccak256).collect();
    let message = [
        text(CLAIM_TYPE),
        text(&claim.stream),
        Token::Uint(claim.job.0.into()),
        word(claim.node.0),
        word(keccak256(addresses)),
        Token::Uint(claim.sequence.into()),
        Token::Uint(claim.expires_ms.into()),
    ];
    eip712::digest(domain, &message)
}

/// Who signed a claim; `None` when the signature is none, or one of the two forms that
/// only serve to make a second valid signature of the first.
#[must_use]
pub fn recover(domain: &Domain, claim: &Claim, signature: &[u8; 65]) -> Option<Address> {
    eip712::signer(digest(domain, claim), signature)
}

#[cfg(test)]
mod tests {
    use ethers_core::types::{
        U256,
        transaction::eip712::{Eip712 as _, TypedData},
    };

    use super::*;
    use crate::ethereum::{Key, eip712::half_order};

    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        contract: Address([0xcc; 20]),
    };

    fn claim() -> Claim {
        Claim {
            stream: "12D3Koo.abc.source".into(),
            job: JobId(7),
            node: NodeKey([5; 32]),
            addresses: vec![
                "/ip4/1.2.3.4/tcp/4935".into(),
                "/ip4/1.2.3.4/udp/4935/quic-v1".into(),
            ],
            sequence: 3,
            expires_ms: 1_800_000_000_000,
        }
    }

    #[test]
    fn the_digest_is_that_of_an_independent_implementation() {
        let claim = claim();
        let typed: TypedData = serde_json::from_value(serde_json::json!({
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                "TranscodeSub": [
                    {"name": "streamId", "type": "string"},
                    {"name": "jobId", "type": "uint256"},
                    {"name": "nodeId", "type": "bytes32"},
                    {"name": "addresses", "type": "string[]"},
                    {"name": "sequence", "type": "uint64"},
                    {"name": "expires", "type": "uint64"},
                ],
            },
            "primaryType": "TranscodeSub",
            "domain": {
                "name": "Headwater", "version": "1", "chainId": 31337,
                "verifyingContract": format!("{}", DOMAIN.contract),
            },
            "message": {
                "streamId": claim.stream, "jobId": claim.job.0,
                "nodeId": format!("0x{}", claim.node), "addresses": claim.addresses,
                "sequence": claim.sequence, "expires": claim.expires_ms,
            },
        }))
        .unwrap();

        assert_eq!(digest(&DOMAIN, &claim), typed.encode_eip712().unwrap());
    }

    #[test]
    fn a_signature_names_its_signer_and_nothing_else_does() {
        let key = Key::random();
        let signature = key.sign(&DOMAIN, &claim());

        assert_eq!(recover(&DOMAIN, &claim(), &signature), Some(key.address()));
        let other_chain = Domain {
            chain_id: 1,
            ..DOMAIN
        };
        let other_contract = Domain {
            contract: Address([1; 20]),
            ..DOMAIN
        };
        for domain in [other_chain, other_contract] {
            assert_ne!(recover(&domain, &claim(), &signature), Some(key.address()));
        }
        let changed = [
            Claim {
                stream: "x".into(),
                ..claim()
            },
            Claim {
                job: JobId(8),
                ..claim()
            },
            Claim {
                node: NodeKey([6; 32]),
                ..claim()
            },
            Claim {
                addresses: vec![],
                ..claim()
            },
            Claim {
                sequence: 4,
                ..claim()
            },
            Claim {
                expires_ms: 1,
                ..claim()
            },
        ];
        for claim in changed {
            assert_ne!(recover(&DOMAIN, &claim, &signature), Some(key.address()));
        }
    }

    #[test]
    fn the_mirror_image_of_a_signature_is_none() {
        let mut signature = Key::random().sign(&DOMAIN, &claim());
        let order: U256 = half_order() * 2 + 1;
        let s = U256::from_big_endian(&signature[32..64]);
        let mirrored: U256 = order - s;
        mirrored.to_big_endian(&mut signature[32..64]);
        signature[64] = 27 + 28 - signature[64];

        assert_eq!(recover(&DOMAIN, &claim(), &signature), None);
        assert_eq!(recover(&DOMAIN, &claim(), &[0; 65]), None);
    }
}
