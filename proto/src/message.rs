//! Every message that travels between two nodes, as plain data.
//!
//! Requests carry a [`RequestId`] chosen by the node that sends them on this link; the
//! answer repeats it. A relay that passes a request on chooses an id of its own towards
//! the next hop and maps the answer back, so ids mean something on one link only.

use bytes::Bytes;

use crate::{
    AddressText, JobId, ManifestId, NodeId, Position, Rendition, RenditionName, RequestId, Roles,
    SealedAddresses, Signed, Slot, StreamId,
};

/// One message. `SPEC.md` has the number of each on the wire.
///
/// It is moved from queue to queue many times, so what is long and seldom is boxed: what
/// carries media is no longer than a line of memory and a bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// First message in each direction of a link.
    Hello(Hello),
    /// Asks the neighbour to show it is alive.
    Ping(Ping),
    /// Answers [`Message::Ping`] with its nonce.
    Pong(Ping),
    /// Asks for a stream.
    Sub(Box<Sub>),
    /// Accepts a [`Message::Sub`], and is repeated while no data flows.
    SubAck(SubAck),
    /// The node that should have it does not have it, or not yet.
    NotFound(NotFound),
    /// Nobody closer to the target could be reached.
    NoRoute(NoRoute),
    /// Sends a subscriber to other nodes that have the stream.
    Redirect(Redirect),
    /// Ends a subscription from the subscriber's side.
    Cancel(Cancel),
    /// Ends a stream, signed by its owner.
    Finish(Finish),
    /// Data: the signed header of one part or init.
    Part(Part),
    /// Data: up to 16 KiB of the payload of one part or init.
    Chunk(Chunk),
    /// Asks the sender of data for pieces that are missing.
    Nack(Nack),
    /// Says that a range will not come on this subscription.
    Gap(Gap),
    /// Asks for the master playlist of a broadcast.
    GetMasterPlaylist(GetMasterPlaylist),
    /// The master playlist, signed by the broadcaster.
    MasterPlaylistData(MasterPlaylistData),
    /// Asks any node of the network for its status.
    NodeStatusReq(NodeStatusReq),
    /// The status, signed by the node.
    NodeStatusData(NodeStatusData),
    /// A transcoder's subscription, with the addresses the broadcaster may dial.
    TranscodeSub(Box<TranscodeSub>),
    /// The transcoder tells the broadcaster which renditions it makes.
    TranscodeResponse(TranscodeResponse),
    /// Asks a transcoder whether it would take a job now.
    JobProbe(Box<JobProbe>),
    /// Answers [`Message::JobProbe`].
    JobProbeReply(JobProbeReply),
    /// A transcoder asks the broadcaster for receipts.
    GetReceipts(GetReceipts),
    /// The receipts, signed by the broadcaster's account and, as a list, by its node.
    Receipts(Receipts),
}

impl From<Sub> for Message {
    fn from(sub: Sub) -> Self {
        Self::Sub(Box::new(sub))
    }
}

impl From<TranscodeSub> for Message {
    fn from(sub: TranscodeSub) -> Self {
        Self::TranscodeSub(Box::new(sub))
    }
}

impl From<JobProbe> for Message {
    fn from(probe: JobProbe) -> Self {
        Self::JobProbe(Box::new(probe))
    }
}

/// Who the neighbour is; its [`NodeId`] is proven by the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What it does for the network.
    pub roles: Roles,
    /// Program name and version, at most [`crate::limits::MAX_AGENT_BYTES`].
    pub agent: String,
}

/// Body of Ping and Pong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Repeated in the answer.
    pub nonce: u64,
}

/// Asks for a stream; the id names the subscription on this link until it ends.
///
/// Answered by SubAck, NotFound, NoRoute or Redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sub {
    /// Names the subscription on this link.
    pub request: RequestId,
    /// What is wanted.
    pub stream: StreamId,
    /// First part wanted; `None` joins at the newest independent part.
    pub from: Option<Position>,
    /// How many more relays may pass it on.
    pub hops_left: u8,
}

/// State of a subscription, from parent to child.
///
/// Sent once at acceptance and again at least every
/// [`crate::limits::SUB_ACK_INTERVAL_MS`] while no data flows, so that silence always
/// means trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// The subscription.
    pub request: RequestId,
    /// Whether data can be expected now.
    pub state: SubState,
    /// How busy the parent is: 0 idle, 255 takes no more children.
    pub load: u8,
    /// First eight bytes of the routing key of every node from the stream's owner down
    /// to the parent.
    pub path: Vec<u64>,
}

/// Whether data can be expected on a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubState {
    /// Data flows, or its source is quiet; the newest position the parent has.
    Live(Option<Position>),
    /// The parent has no data now and is looking for it.
    Pending,
}

/// The target of a request has nothing under that id, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// The request that is answered.
    pub request: RequestId,
}

/// A request could not be brought nearer to its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoute {
    /// The request that is answered.
    pub request: RequestId,
    /// Why.
    pub reason: NoRouteReason,
}

/// Why a request could not be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoRouteReason {
    /// No neighbour is closer to the target.
    NoCloserPeer,
    /// [`Sub::hops_left`] or its like was used up.
    HopLimit,
    /// Nobody answered in time.
    Timeout,
    /// A relay is at one of its limits.
    Overloaded,
}

/// Other nodes that have the stream and take children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The subscription that is turned away.
    pub request: RequestId,
    /// Where to ask instead, at most [`crate::limits::MAX_REDIRECT_NODES`].
    pub nodes: Vec<NodeAddresses>,
}

/// A node and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddresses {
    /// The node.
    pub node: NodeId,
    /// Its addresses, at most [`crate::limits::MAX_ADDRESSES`].
    pub addresses: Vec<AddressText>,
}

/// Ends a subscription; there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// The subscription that ends.
    pub request: RequestId,
}

/// The stream is over; data up to its last position may still be on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The subscription it comes on.
    pub request: RequestId,
    /// The owner's statement.
    pub body: Signed<StreamEnd>,
}

/// What the owner of a stream signs when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// The stream that ended.
    pub stream: StreamId,
    /// Its last part; `None` when it never had one.
    pub last: Option<Position>,
}

/// Header of one part or init; its chunks follow on the same link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The subscription it comes on.
    pub request: RequestId,
    /// What the owner of the stream signed.
    pub header: Signed<PartHeader>,
}

/// What the owner of a stream signs for each part and init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHeader {
    /// The stream.
    pub stream: StreamId,
    /// Which part or init it is.
    pub slot: Slot,
    /// Times and flags; `None` for an init.
    pub media: Option<MediaInfo>,
    /// Payload length in bytes, at most [`crate::limits::MAX_PART_BYTES`].
    pub size: u32,
    /// BLAKE3 of each [`crate::limits::CHUNK_BYTES`] of the payload; the last may be
    /// shorter.
    pub hashes: Vec<[u8; 32]>,
}

/// Times and flags of one part. Times are in 90 kHz ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaInfo {
    /// Index of the init it decodes with.
    pub init: u32,
    /// Decode time of the first sample.
    pub start: u64,
    /// Length up to the next part; any.
    pub duration: u32,
    /// Wall clock of `start` at the ingest, ms since 1970.
    pub program_date_time_ms: u64,
    /// Discontinuities before this part in the stream's life.
    pub discontinuity: u32,
    /// Starts with a key frame.
    pub independent: bool,
    /// Last part of its segment.
    pub last: bool,
}

/// One piece of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The subscription it comes on.
    pub request: RequestId,
    /// Which part or init it belongs to.
    pub slot: Slot,
    /// Which [`crate::limits::CHUNK_BYTES`] of the payload, below
    /// [`crate::limits::MAX_CHUNKS`].
    pub index: u16,
    /// The bytes.
    pub payload: Bytes,
}

/// Asks for chunks of a part again; answered by Part and Chunk, or Gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The subscription on which they should come.
    pub request: RequestId,
    /// The part or init.
    pub slot: Slot,
    /// The chunks; empty asks for the header and all of them.
    pub chunks: Vec<u16>,
}

/// Parts that will not come on this subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The subscription.
    pub request: RequestId,
    /// First missing part.
    pub from: Position,
    /// First part that comes again, after `from`.
    pub to: Position,
}

/// Asks for a broadcast's master playlist, and for its changes during
/// [`crate::limits::MASTER_LEASE_MS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetMasterPlaylist {
    /// Repeated in every answer.
    pub request: RequestId,
    /// The broadcast.
    pub manifest: ManifestId,
    /// How many more relays may pass it on.
    pub hops_left: u8,
}

/// The current master playlist; sent again on the same request when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterPlaylistData {
    /// The request that is answered.
    pub request: RequestId,
    /// What the broadcaster signed.
    pub body: Signed<MasterPlaylist>,
}

/// What a broadcaster signs of its broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterPlaylist {
    /// The broadcast.
    pub manifest: ManifestId,
    /// Grows with every change; a smaller one is old.
    pub version: u64,
    /// The broadcast is over.
    pub ended: bool,
    /// The live renditions, the source first; at most
    /// [`crate::limits::MAX_RENDITIONS`].
    pub renditions: Vec<Rendition>,
}

/// Asks a node for its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatusReq {
    /// Repeated in the answer.
    pub request: RequestId,
    /// Whose status.
    pub node: NodeId,
    /// How many more relays may pass it on.
    pub hops_left: u8,
}

/// Answers [`NodeStatusReq`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatusData {
    /// The request that is answered.
    pub request: RequestId,
    /// What the node signed.
    pub body: Signed<NodeStatus>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Its clock when it answered, ms since 1970.
    pub time_ms: u64,
    /// Program name and version, as in [`Hello::agent`].
    pub agent: String,
    /// What it does for the network.
    pub roles: Roles,
    /// Time since it started, in seconds.
    pub uptime_s: u64,
    /// Open links.
    pub peers: u32,
    /// As in [`SubAck::load`].
    pub load: u8,
    /// The streams it carries, at most [`crate::limits::MAX_STATUS_STREAMS`].
    pub streams: Vec<StreamStatus>,
}

/// One stream that a node carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStatus {
    /// The stream.
    pub stream: StreamId,
    /// Newest part it has.
    pub edge: Option<Position>,
    /// From whom it comes; `None` at its owner.
    pub parent: Option<NodeId>,
    /// To how many nodes it goes.
    pub children: u32,
}

/// A transcoder's subscription to the source of a job it was assigned.
///
/// Relays treat it as [`Sub`] when `branch` is set, and always pass it on to the
/// broadcaster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscodeSub {
    /// Names the subscription on this link, when there is one.
    pub request: RequestId,
    /// The receiver should send the stream on this link.
    pub branch: bool,
    /// As in [`Sub::from`].
    pub from: Option<Position>,
    /// How many more relays may pass it on.
    pub hops_left: u8,
    /// What the transcoder claims.
    pub claim: TranscodeClaim,
    /// EIP-712 signature of the claim by the transcoder's Ethereum key: r, s, v.
    pub signature: [u8; 65],
}

/// What a transcoder claims and signs with its Ethereum key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscodeClaim {
    /// The source stream.
    pub stream: StreamId,
    /// The job.
    pub job: JobId,
    /// The transcoder's node.
    pub transcoder: NodeId,
    /// Where the broadcaster may dial it, at most [`crate::limits::MAX_ADDRESSES`]; empty
    /// while they are sealed. The signature is over the open ones.
    pub addresses: Vec<AddressText>,
    /// The addresses as only the broadcaster can read them: see [`TranscodeClaim::seal`].
    pub sealed: Option<SealedAddresses>,
    /// Grows with every claim of this transcoder for this job.
    pub sequence: u64,
    /// The claim is void after this time, ms since 1970.
    pub expires_ms: u64,
}

/// From a transcoder to the broadcaster; answered by [`MasterPlaylistData`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscodeResponse {
    /// Repeated in the answer.
    pub request: RequestId,
    /// How many more relays may pass it on.
    pub hops_left: u8,
    /// What the transcoder's node signed.
    pub body: Signed<TranscodeResult>,
}

/// The renditions a transcoder makes now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscodeResult {
    /// The source stream.
    pub stream: StreamId,
    /// The job.
    pub job: JobId,
    /// The transcoder's node; it signs, and the renditions carry its id.
    pub transcoder: NodeId,
    /// Grows with every result; a smaller one is old.
    pub sequence: u64,
    /// What can be subscribed to; empty withdraws all.
    pub renditions: Vec<Rendition>,
}

/// Asks a transcoder whether it would take a job now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProbe {
    /// Repeated in the answer.
    pub request: RequestId,
    /// The transcoder that is asked.
    pub transcoder: NodeId,
    /// The source stream.
    pub stream: StreamId,
    /// The renditions that are wanted, at most [`crate::limits::MAX_RENDITIONS`].
    pub renditions: Vec<RenditionName>,
    /// How many more relays may pass it on.
    pub hops_left: u8,
}

/// Answers [`JobProbe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobProbeReply {
    /// The request that is answered.
    pub request: RequestId,
    /// It would take the job.
    pub available: bool,
    /// As in [`SubAck::load`].
    pub load: u8,
}

/// Asks the broadcaster of a job for receipts; answered by [`Receipts`] or [`NotFound`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetReceipts {
    /// Repeated in the answer.
    pub request: RequestId,
    /// How many more relays may pass it on.
    pub hops_left: u8,
    /// What the transcoder's node signed.
    pub body: Signed<ReceiptsWanted>,
}

/// Which receipts a transcoder wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptsWanted {
    /// The source stream.
    pub stream: StreamId,
    /// The job.
    pub job: JobId,
    /// The transcoder's node; it signs.
    pub transcoder: NodeId,
    /// The first segment of interest.
    pub from_segment: u64,
}

/// Answers [`GetReceipts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts {
    /// The request that is answered.
    pub request: RequestId,
    /// What the broadcaster's node signed.
    pub body: Signed<ReceiptList>,
}

/// Receipts of a transcoder for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptList {
    /// The source stream; its node signs.
    pub stream: StreamId,
    /// The job.
    pub job: JobId,
    /// The transcoder's node.
    pub transcoder: NodeId,
    /// As in [`ReceiptsWanted::from_segment`].
    pub from_segment: u64,
    /// The first that there are, by growing number, at most
    /// [`crate::limits::MAX_RECEIPTS`]. A segment that is left out between two of them,
    /// or in a list that is not full, has no receipt now.
    pub receipts: Vec<SegmentReceipt>,
}

/// The broadcaster's account says that it fed a segment to the transcoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentReceipt {
    /// The segment.
    pub segment: u64,
    /// What it consisted of: see [`crate::SegmentHasher`].
    pub source_hash: [u8; 32],
    /// EIP-712 signature by the account of the job's broadcaster: r, s, v.
    pub signature: [u8; 65],
}

const _: () = assert!(size_of::<Message>() <= 80, "see Message");
