//! Names of nodes, broadcasts, streams, jobs and requests, and their text forms.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use crate::error::IdError;

/// Length of an Ed25519 public key in bytes.
pub const NODE_KEY_BYTES: usize = 32;

/// A libp2p PeerId of an Ed25519 key is an identity multihash of the key's protobuf:
/// these bytes, then the key.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Longest [`RenditionName`] in bytes.
pub const MAX_RENDITION_NAME_BYTES: usize = 32;

/// A node: the Ed25519 public key inside its libp2p PeerId.
///
/// Text form: base58 of the PeerId, `12D3KooW…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; NODE_KEY_BYTES]);

impl NodeId {
    /// Takes the bytes of an Ed25519 public key.
    #[must_use]
    pub const fn from_public_key(key: [u8; NODE_KEY_BYTES]) -> Self {
        Self(key)
    }

    /// The Ed25519 public key.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; NODE_KEY_BYTES] {
        &self.0
    }

    /// The binary libp2p PeerId.
    #[must_use]
    pub fn to_peer_id_bytes(self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        bytes
    }

    /// Reads a binary libp2p PeerId.
    ///
    /// # Errors
    /// When it is not the PeerId of an Ed25519 key.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Result<Self, IdError> {
        let key = bytes
            .strip_prefix(&PEER_ID_PREFIX)
            .ok_or(IdError::NotEd25519)?;
        Ok(Self(key.try_into().map_err(|_| IdError::NotEd25519)?))
    }

    /// Where the node lies in Kademlia's key space.
    #[must_use]
    pub fn routing_key(&self) -> RoutingKey {
        RoutingKey(Sha256::digest(self.to_peer_id_bytes()).into())
    }

    /// The last eight characters, for logs.
    #[must_use]
    pub fn fmt_short(&self) -> String {
        let text = self.to_string();
        text[text.len() - 8..].to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_peer_id_bytes()).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        // 38 bytes never need more than 53 characters; longer text is not decoded at all.
        if text.len() > 60 {
            return Err(IdError::NodeText);
        }
        let bytes = bs58::decode(text)
            .into_vec()
            .map_err(|_| IdError::NodeText)?;
        Self::from_peer_id_bytes(&bytes)
    }
}

/// SHA-256 of a PeerId: the key by which Kademlia and our routing measure distance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoutingKey([u8; 32]);

impl RoutingKey {
    /// XOR distance to another key.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Distance {
        let mut out = [0; 32];
        for (o, (a, b)) in out.iter_mut().zip(self.0.iter().zip(&other.0)) {
            *o = a ^ b;
        }
        Distance(out)
    }

    /// The first eight bytes, as in [`crate::SubAck::path`].
    #[must_use]
    pub fn prefix(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }
}

/// XOR distance of two routing keys; smaller is closer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Distance([u8; 32]);

impl Distance {
    /// The distance of a key to itself.
    pub const ZERO: Self = Self([0; 32]);
}

/// One broadcast of a node: 16 random bytes.
///
/// Text form: 26 characters of lower-case base32 without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BroadcastId([u8; 16]);

impl BroadcastId {
    /// Takes 16 bytes from a cryptographic random source.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for BroadcastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &data_encoding::BASE32_NOPAD
                .encode(&self.0)
                .to_ascii_lowercase(),
        )
    }
}

impl fmt::Debug for BroadcastId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastId({self})")
    }
}

impl FromStr for BroadcastId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 26 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(IdError::BroadcastText);
        }
        let bytes = data_encoding::BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .map_err(|_| IdError::BroadcastText)?;
        Ok(Self(bytes.try_into().map_err(|_| IdError::BroadcastText)?))
    }
}

/// Name of a rendition within a broadcast: 1 to 32 of `a-z 0-9 _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RenditionName(Box<str>);

impl RenditionName {
    /// Name of the rendition that the encoder sent.
    #[must_use]
    pub fn source() -> Self {
        Self("source".into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RenditionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RenditionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

impl FromStr for RenditionName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > MAX_RENDITION_NAME_BYTES || !text.bytes().all(allowed) {
            return Err(IdError::RenditionText);
        }
        Ok(Self(text.into()))
    }
}

/// A broadcast: its broadcaster and 16 random bytes.
///
/// Text form: `<NodeId>.<BroadcastId>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestId {
    /// The broadcaster.
    pub node: NodeId,
    /// Which of its broadcasts.
    pub broadcast: BroadcastId,
}

impl ManifestId {
    /// The stream the encoder sent.
    #[must_use]
    pub fn source(&self) -> StreamId {
        StreamId {
            node: self.node,
            broadcast: self.broadcast,
            rendition: RenditionName::source(),
        }
    }
}

impl fmt::Display for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.broadcast)
    }
}

impl fmt::Debug for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestId({self})")
    }
}

impl FromStr for ManifestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.parse()? {
            MediaId::Manifest(id) => Ok(id),
            MediaId::Stream(_) => Err(IdError::IsStream),
        }
    }
}

/// One rendition of a broadcast, with the node that makes and signs it.
///
/// A rendition made by a transcoder carries the transcoder's id, so that a
/// subscription routes straight to it. Text form: `<NodeId>.<BroadcastId>.<rendition>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Who makes and signs it.
    pub node: NodeId,
    /// The broadcast it belongs to.
    pub broadcast: BroadcastId,
    /// Which rendition.
    pub rendition: RenditionName,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node, self.broadcast, self.rendition)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({self})")
    }
}

impl FromStr for StreamId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.parse()? {
            MediaId::Stream(id) => Ok(id),
            MediaId::Manifest(_) => Err(IdError::IsManifest),
        }
    }
}

/// Either id, as it stands in URLs: the one parser of both text forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaId {
    /// Two fields.
    Manifest(ManifestId),
    /// Three fields.
    Stream(StreamId),
}

impl FromStr for MediaId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut fields = text.splitn(3, '.');
        let mut next = || fields.next().ok_or(IdError::Fields);
        let node = next()?.parse()?;
        let broadcast = next()?.parse()?;
        Ok(match fields.next() {
            None => Self::Manifest(ManifestId { node, broadcast }),
            Some(rendition) => Self::Stream(StreamId {
                node,
                broadcast,
                rendition: rendition.parse()?,
            }),
        })
    }
}

/// A transcoding job, as the ledger numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a request, and the subscription it opens, on one link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// One part of a stream: segment number and index within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// Segment number, at most [`crate::limits::MAX_SEGMENT`].
    pub segment: u64,
    /// Index of the part in the segment, below [`crate::limits::MAX_PARTS`].
    pub part: u32,
}

/// What a header and its chunks are: an init or a part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Slot {
    /// The initialisation segment with this index, at most [`crate::limits::MAX_INIT`].
    Init(u32),
    /// A part.
    Part(Position),
}
