//! Receipts: a broadcaster's signature on each segment that it feeds to a transcoder, and
//! what the transcoder made of it. Hashes are those of the contract's `Receipts.sol`.

use ethers_core::{abi::Token, utils::keccak256};

use super::eip712::{self, Domain, text, word};
use crate::types::{Address, JobId};

const SEGMENT_TYPE: &str =
    "Segment(uint256 jobId,address transcoder,string streamId,uint64 number,bytes32 sourceHash)";

/// What the account that created a job signs for each segment it feeds to the transcoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The job.
    pub job: JobId,
    /// To whom it was fed. To another the signature is worth nothing.
    pub transcoder: Address,
    /// The source stream.
    pub stream: String,
    /// Its number in the stream.
    pub number: u64,
    /// Hash of what was fed.
    pub source: [u8; 32],
}

impl Segment {
    /// The hash that is signed.
    #[must_use]
    pub fn digest(&self, domain: &Domain) -> [u8; 32] {
        let message = [
            text(SEGMENT_TYPE),
            Token::Uint(self.job.0.into()),
            Token::Address(self.transcoder.0.into()),
            text(&self.stream),
            Token::Uint(self.number.into()),
            word(self.source),
        ];
        eip712::digest(domain, &message)
    }

    /// Who signed; `None` when the signature is none, or the mirror image of one. A receipt
    /// is good when this is the account that created the job.
    #[must_use]
    pub fn signer(&self, domain: &Domain, signature: &[u8; 65]) -> Option<Address> {
        eip712::signer(self.digest(domain), signature)
    }
}

/// Proof that a segment was transcoded on order. Whose, and for which job, stands in the
/// [`Segment`] that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The segment's number.
    pub number: u64,
    /// Hash of what was fed.
    pub source: [u8; 32],
    /// Hash of what was made of it.
    pub renditions: [u8; 32],
    /// The broadcaster's: r, s, v.
    pub signature: [u8; 65],
}

impl Receipt {
    /// Length of a receipt in bytes.
    pub const BYTES: usize = 8 + 32 + 32 + 65;

    /// All of it, in order of its fields, numbers big endian. Without loss.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..40].copy_from_slice(&self.source);
        bytes[40..72].copy_from_slice(&self.renditions);
        bytes[72..].copy_from_slice(&self.signature);
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` for another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (renditions, signature) = rest.split_first_chunk()?;
        Some(Self {
            number: u64::from_be_bytes(*number),
            source: *source,
            renditions: *renditions,
            signature: signature.try_into().ok()?,
        })
    }

    /// Its leaf in a claim's tree. Leaves begin with 0, nodes with 1, so that none passes
    /// for the other.
    #[must_use]
    pub fn leaf(&self, stream: &str) -> [u8; 32] {
        self.leaf_of(keccak256(stream))
    }

    /// The same from the hash of the stream's id, which is what the contract keeps.
    pub(super) fn leaf_of(&self, stream: [u8; 32]) -> [u8; 32] {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&stream);
        bytes.extend_from_slice(&self.to_bytes());
        keccak256(bytes)
    }
}

#[cfg(test)]
mod tests {
    use ethers_core::types::transaction::eip712::{Eip712 as _, TypedData};

    use super::*;
    use crate::ethereum::{Key, ReceiptTree};

    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        contract: Address([0xcc; 20]),
    };

    fn segment() -> Segment {
        Segment {
            job: JobId(7),
            transcoder: Address([3; 20]),
            stream: "12D3Koo.abc.source".into(),
            number: 41,
            source: [9; 32],
        }
    }

    #[test]
    fn the_digest_is_that_of_an_independent_implementation() {
        let segment = segment();
        let typed: TypedData = serde_json::from_value(serde_json::json!({
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                "Segment": [
                    {"name": "jobId", "type": "uint256"},
                    {"name": "transcoder", "type": "address"},
                    {"name": "streamId", "type": "string"},
                    {"name": "number", "type": "uint64"},
                    {"name": "sourceHash", "type": "bytes32"},
                ],
            },
            "primaryType": "Segment",
            "domain": {
                "name": "Headwater", "version": "1", "chainId": 31337,
                "verifyingContract": DOMAIN.contract.to_string(),
            },
            "message": {
                "jobId": segment.job.0, "transcoder": segment.transcoder.to_string(),
                "streamId": segment.stream, "number": segment.number,
                "sourceHash": format!("0x{}", crate::types::to_hex(&segment.source)),
            },
        }))
        .unwrap();

        assert_eq!(segment.digest(&DOMAIN), typed.encode_eip712().unwrap());
    }

    #[test]
    fn a_signature_is_for_one_segment_of_one_job_to_one_transcoder() {
        let key = Key::random();
        let signature = key.sign_segment(&DOMAIN, &segment());

        assert_eq!(segment().signer(&DOMAIN, &signature), Some(key.address()));
        assert_eq!(signature, key.sign_segment(&DOMAIN, &segment()));
        let others: [fn(&mut Segment); 5] = [
            |segment| segment.job = JobId(8),
            |segment| segment.transcoder = Address([4; 20]),
            |segment| segment.stream.push('x'),
            |segment| segment.number += 1,
            |segment| segment.source[31] ^= 1,
        ];
        for change in others {
            let mut other = segment();
            change(&mut other);
            assert_ne!(other.signer(&DOMAIN, &signature), Some(key.address()));
        }
        let elsewhere = Domain {
            chain_id: 1,
            ..DOMAIN
        };
        assert_ne!(
            segment().signer(&elsewhere, &signature),
            Some(key.address())
        );
    }

    #[test]
    fn bytes_of_a_receipt_are_read_back_and_others_are_none() {
        let receipt = Receipt {
            number: 0x0102_0304_0506_0708,
            source: [1; 32],
            renditions: [2; 32],
            signature: [3; 65],
        };
        let bytes = receipt.to_bytes();

        assert_eq!(Receipt::from_bytes(&bytes), Some(receipt));
        assert_eq!(Receipt::from_bytes(&bytes[1..]), None);
        assert_eq!(Receipt::from_bytes(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Receipt::from_bytes(&[]), None);
    }

    #[test]
    fn receipts_trees_and_proofs_are_those_of_the_contracts_tests() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../contracts/test/receipt-vectors.json"))
                .unwrap();
        let domain = Domain {
            chain_id: vectors.chain_id,
            contract: vectors.contract,
        };
        let key = Key::from_hex(&vectors.key).unwrap();
        let mut leaves = Vec::new();
        for each in &vectors.receipts {
            let segment = Segment {
                job: vectors.job,
                transcoder: vectors.transcoder,
                stream: vectors.stream.clone(),
                number: each.number,
                source: bytes(&each.source),
            };
            let receipt = Receipt {
                number: each.number,
                source: segment.source,
                renditions: bytes(&each.renditions),
                signature: key.sign_segment(&domain, &segment),
            };
            assert_eq!(receipt.signature, bytes(&each.signature));
            assert_eq!(receipt.leaf(&vectors.stream), bytes(&each.leaf));
            leaves.push(receipt.leaf(&vectors.stream));
        }
        let tree = ReceiptTree::new(leaves).unwrap();
        assert_eq!(tree.root(), bytes(&vectors.root));
        for (index, each) in vectors.receipts.iter().enumerate() {
            let proof: Vec<[u8; 32]> = each.proof.iter().map(|hash| bytes(hash)).collect();
            assert_eq!(tree.proof(index), proof);
        }
    }

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        crate::types::hex(text.strip_prefix("0x").unwrap()).unwrap()
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vectors {
        key: String,
        chain_id: u64,
        contract: Address,
        job: JobId,
        transcoder: Address,
        stream: String,
        receipts: Vec<Vector>,
        root: String,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        number: u64,
        source: String,
        renditions: String,
        signature: String,
        leaf: String,
        proof: Vec<String>,
    }
}
