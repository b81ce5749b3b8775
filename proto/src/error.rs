//! Why bytes or text were refused.

/// Why a text or binary id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The PeerId is of another kind of key.
    #[error("not the PeerId of an Ed25519 key")]
    NotEd25519,
    /// Not base58.
    #[error("a node id is base58 text such as 12D3KooW…")]
    NodeText,
    /// Not 26 characters of base32.
    #[error("a broadcast id is 26 characters of lower-case base32")]
    BroadcastText,
    /// Characters or length.
    #[error("a rendition name is 1 to 32 of a-z, 0-9, '-' and '_'")]
    RenditionText,
    /// Not two or three fields.
    #[error("an id is <node>.<broadcast> or <node>.<broadcast>.<rendition>")]
    Fields,
    /// A stream id stands where a manifest id belongs.
    #[error("this is a stream id; a manifest id has no rendition")]
    IsStream,
    /// A manifest id stands where a stream id belongs.
    #[error("this is a manifest id; a stream id ends in a rendition")]
    IsManifest,
    /// Not a multiaddr's text.
    #[error("an address is a multiaddr such as /ip4/192.0.2.1/tcp/4935")]
    AddressText,
}

/// Why bytes from a peer are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length before the header is beyond [`crate::limits::MAX_HEADER_BYTES`], zero,
    /// or not in its shortest form.
    #[error("bad frame length")]
    FrameLength,
    /// Not protobuf.
    #[error("malformed header")]
    Malformed,
    /// A message of a kind this version does not know.
    #[error("unknown message")]
    UnknownMessage,
    /// A field that must be there is not, or the reverse.
    #[error("field {0} is missing or out of place")]
    Missing(&'static str),
    /// A length, count or number beyond its bound, or a field that stands twice.
    #[error("field {0} is out of bounds")]
    OutOfBounds(&'static str),
    /// An id or text in it is malformed.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The payload is not as long as its header says.
    #[error("payload length")]
    PayloadLength,
}

impl From<OutOfBounds> for DecodeError {
    fn from(OutOfBounds(field): OutOfBounds) -> Self {
        Self::OutOfBounds(field)
    }
}

impl From<prost::DecodeError> for DecodeError {
    fn from(_: prost::DecodeError) -> Self {
        Self::Malformed
    }
}

/// A field whose value no peer would take, so that it is not sent either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("field {0} is out of bounds")]
pub struct OutOfBounds(pub &'static str);

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The author's id is no point on the curve.
    #[error("the author's id is no valid key")]
    Key,
    /// Another key signed, or other bytes.
    #[error("the signature is not the author's")]
    Mismatch,
}

/// Why addresses were not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The id of the stream's node, or the key in the box, is no point to agree on a
    /// secret with.
    #[error("no secret can be shared with that key")]
    Key,
    /// More than [`crate::limits::MAX_ADDRESSES`].
    #[error("too many addresses")]
    TooMany,
    /// Sealed to another node, for another claim, or changed on the way.
    #[error("the box does not open")]
    Closed,
    /// What was sealed are no addresses.
    #[error(transparent)]
    Address(#[from] IdError),
}

/// Why a part's payload cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part has 1 to {max} bytes, not {got}", max = crate::limits::MAX_PART_BYTES)]
pub struct PayloadSize {
    /// Bytes it has.
    pub got: usize,
}
