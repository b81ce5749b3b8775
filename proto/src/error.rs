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
