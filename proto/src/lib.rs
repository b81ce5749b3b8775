//! What is on the wire: ids, messages, codec, limits, signatures.
//!
//! `SPEC.md` beside this crate is the normative text; how a node behaves is the
//! `headwater-protocol` crate's.

#![forbid(unsafe_code)]

mod announced;
mod codec;
mod error;
mod id;
pub mod limits;
mod message;
mod part;
mod rendition;
mod seal;
mod segment;
mod sign;
mod verify;

pub use codec::{ChunkHeader, Frame, Header, LengthPrefix, decode, decode_header, encode};
pub use error::{DecodeError, IdError, OutOfBounds, PayloadSize, SealError, SignatureError};
pub use id::{
    BroadcastId, Distance, JobId, MAX_RENDITION_NAME_BYTES, ManifestId, MediaId, NODE_KEY_BYTES,
    NodeId, Position, RenditionName, RequestId, RoutingKey, Slot, StreamId,
};
pub use message::{
    Cancel, Chunk, Finish, Gap, GetMasterPlaylist, GetReceipts, Hello, JobProbe, JobProbeReply,
    MasterPlaylist, MasterPlaylistData, MediaInfo, Message, Nack, NoRoute, NoRouteReason,
    NodeAddresses, NodeStatus, NodeStatusData, NodeStatusReq, NotFound, Part, PartHeader, Ping,
    ReceiptList, Receipts, ReceiptsWanted, Redirect, SegmentReceipt, StreamEnd, StreamStatus, Sub,
    SubAck, SubState, TranscodeClaim, TranscodeResponse, TranscodeResult, TranscodeSub,
};
pub use rendition::{AddressText, Rendition, Roles};
pub use seal::SealedAddresses;
pub use segment::{RENDITIONS_CONTEXT, SEGMENT_CONTEXT, SegmentHasher, renditions_hash};
pub use sign::{SIGNATURE_BYTES, Signed, SigningKey, Statement};
pub use verify::{Checked, LinkVerifier, Violation};
