//! Every bound on the wire. A message beyond one is refused before memory is taken.

/// Payload bytes of one chunk; the unit of hashing, verifying and scheduling.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of one part or init: a key frame of a 4K stream has room.
pub const MAX_PART_BYTES: usize = 4 * 1024 * 1024;
/// Chunks of one part.
pub const MAX_CHUNKS: usize = MAX_PART_BYTES / CHUNK_BYTES;
/// Bytes of a frame's header, which is every message but a chunk's payload.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Bytes of fields that are in no schema here, in one header or one statement.
pub const MAX_UNKNOWN_BYTES: usize = 1024;
/// Relays that may pass a request on.
pub const MAX_HOPS: u8 = 16;
/// Addresses in a claim or for one node.
pub const MAX_ADDRESSES: usize = 4;
/// Bytes of a multiaddr's text.
pub const MAX_ADDRESS_BYTES: usize = 256;
/// Bytes of sealed addresses, whatever is in them: an ephemeral key, the padded text and
/// an authentication tag.
pub const SEALED_BYTES: usize = 32 + MAX_ADDRESSES * (MAX_ADDRESS_BYTES + 1) + 16;
/// Nodes in one Redirect.
pub const MAX_REDIRECT_NODES: usize = 8;
/// Entries of a path.
pub const MAX_PATH: usize = 32;
/// Renditions of one broadcast, the source included.
pub const MAX_RENDITIONS: usize = 32;
/// Bytes of a codec string.
pub const MAX_CODECS_BYTES: usize = 128;
/// Bytes of an agent string.
pub const MAX_AGENT_BYTES: usize = 64;
/// Streams in one status.
pub const MAX_STATUS_STREAMS: usize = 256;
/// Receipts in one answer.
pub const MAX_RECEIPTS: usize = 64;
/// A SubAck is repeated after this long without data, in milliseconds.
pub const SUB_ACK_INTERVAL_MS: u64 = 250;
/// How long a GetMasterPlaylist is answered with changes, in milliseconds.
pub const MASTER_LEASE_MS: u64 = 15_000;
/// Highest segment number; at one a second it is reached in nine million years.
pub const MAX_SEGMENT: u64 = 1 << 48;
/// Parts of one segment: an hour of them at 50 ms.
pub const MAX_PARTS: u32 = 72_000;
/// Highest index of an init, and count of discontinuities, in a stream's life.
pub const MAX_INIT: u32 = 1 << 24;
/// Latest start of a part, in 90 kHz ticks: six years.
pub const MAX_START: u64 = 1 << 44;
/// Latest wall clock, in ms since 1970.
pub const MAX_UNIX_MS: u64 = 1 << 48;
