//! Messages that a neighbour could send, from a few choices each.

use arbitrary::Arbitrary;
use headwater_proto::{
    Cancel, Chunk, Finish, Gap, GetMasterPlaylist, GetReceipts, Hello, JobId, JobProbe,
    JobProbeReply, MasterPlaylist, MasterPlaylistData, Message, Nack, NoRoute, NoRouteReason,
    NodeAddresses, NodeStatus, NodeStatusData, NodeStatusReq, NotFound, Part, Ping, Position,
    ReceiptList, Receipts, ReceiptsWanted, Redirect, Rendition, RequestId, Roles, SegmentReceipt,
    Signed, Slot, StreamEnd, StreamId, Sub, SubAck, SubState, TranscodeClaim, TranscodeResponse,
    TranscodeResult, TranscodeSub,
};

use crate::{
    material::{self, Made, address, id, key},
    viewer::VERSIONS,
};

/// Nodes that own streams.
const OWNERS: u8 = 4;
/// Nodes that may be neighbours, from 1 on.
pub(super) const PEERS: u8 = 6;

/// A stream: whose, and which of two broadcasts and two renditions.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct Which {
    owner: u8,
    other: bool,
    rendition: bool,
}

impl Which {
    pub(super) const fn new(owner: u8, other: bool, rendition: bool) -> Self {
        Self {
            owner,
            other,
            rendition,
        }
    }

    /// The same of this node's own streams.
    pub(super) const fn own(self) -> Self {
        Self { owner: 0, ..self }
    }

    pub(super) const fn owner(self) -> u8 {
        self.owner % OWNERS
    }

    pub(super) fn stream(self) -> StreamId {
        material::stream(self.owner(), u8::from(self.other), self.rendition)
    }

    pub(super) fn manifest(self) -> headwater_proto::ManifestId {
        material::manifest(self.owner(), u8::from(self.other))
    }
}

/// A place in a stream; one in nine parts is far ahead.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct At {
    segment: u8,
    part: u8,
}

impl At {
    pub(super) fn position(self) -> Position {
        let segment = u64::from(self.segment % 18);
        Position {
            segment: if segment >= 16 {
                segment << 16
            } else {
                segment
            },
            part: u32::from(self.part) % material::PARTS,
        }
    }

    /// One in eight places is that of an init.
    pub(super) fn slot(self) -> Slot {
        if self.part >= 224 {
            Slot::Init(u32::from(self.segment % 2))
        } else {
            Slot::Part(self.position())
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Said {
    Request(Request),
    Reply(Reply),
}

/// What begins something.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Request {
    Hello,
    Ping(u8),
    Sub(Which, Option<At>, u8),
    GetMaster(Which, u8),
    Status(u8, u8),
    TranscodeSub(Which, Claim, Option<At>, u8),
    Response(Which, u8, u8, u8),
    GetReceipts(Which, u8, u8),
    Probe(Which, u8, u8),
}

/// What belongs to something that has begun.
#[derive(Debug, Clone, Arbitrary)]
pub(super) enum Reply {
    Pong(u8),
    SubAck(Option<Option<At>>, u8, u8),
    NotFound,
    NoRoute(u8),
    Redirect(u8, u8),
    Cancel,
    Finish(Which, Option<At>),
    Part(At, u8),
    PartOf(Which, At, u8),
    Chunk(At, u8, u8),
    Nack(At, u8),
    Gap(At, At),
    Master(Which, u8, bool),
    Status(u8),
    Probe(bool, u8),
    Receipts(Which, u8, u8),
}

/// What a transcoder claims.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct Claim {
    transcoder: u8,
    job: u8,
    sequence: u8,
    addresses: u8,
    branch: bool,
}

impl Claim {
    pub(super) fn of(self, stream: StreamId) -> TranscodeClaim {
        TranscodeClaim {
            stream,
            job: JobId(u64::from(self.job % 3)),
            transcoder: peer(self.transcoder),
            addresses: vec![address(); usize::from(self.addresses % 5)],
            sealed: None,
            sequence: u64::from(self.sequence % 8),
            expires_ms: 0,
        }
    }

    pub(super) const fn job(self) -> u8 {
        self.job
    }

    /// What this node claims for a job that it holds.
    pub(super) fn own(self, job: JobId, stream: StreamId) -> TranscodeClaim {
        TranscodeClaim {
            job,
            transcoder: id(0),
            ..self.of(stream)
        }
    }
}

/// A node that may be a neighbour.
pub(super) fn peer(choice: u8) -> headwater_proto::NodeId {
    id(1 + choice % PEERS)
}

/// Any node: this one, neighbours, and some that never are.
fn node(choice: u8) -> headwater_proto::NodeId {
    id(choice % 12)
}

/// A playlist of a broadcast.
pub(super) fn master(which: Which, version: u8, full: bool) -> Signed<MasterPlaylist> {
    let rendition = |rendition| Rendition {
        stream: Which { rendition, ..which }.stream(),
        codecs: "avc1.64001f".into(),
        width: 640,
        height: 480,
        frame_rate_milli: 30_000,
        bandwidth: 900_000,
        average_bandwidth: 800_000,
        target_duration_ms: 2_000,
        part_target_ms: 200,
    };
    let body = MasterPlaylist {
        manifest: which.manifest(),
        version: u64::from(version % 8),
        ended: version >= 192,
        renditions: if full {
            vec![rendition(false), rendition(true)]
        } else {
            Vec::new()
        },
    };
    Signed::sign(body, &key(which.owner()))
}

/// The end of a stream.
pub(super) fn end(which: Which, last: Option<At>) -> Signed<StreamEnd> {
    let end = StreamEnd {
        stream: which.stream(),
        last: last.map(At::position),
    };
    Signed::sign(end, &key(which.owner()))
}

/// A node's status.
pub(super) fn status(of: u8) -> Signed<NodeStatus> {
    let status = NodeStatus {
        node: id(of),
        time_ms: 0,
        agent: "fuzz".into(),
        roles: Roles::default(),
        uptime_s: 0,
        peers: 0,
        load: 0,
        streams: Vec::new(),
    };
    Signed::sign(status, &key(of))
}

/// What a transcoder says that it makes.
pub(super) fn result(which: Which, job: u8, sequence: u8, by: u8) -> Signed<TranscodeResult> {
    let by = 1 + by % PEERS;
    let result = TranscodeResult {
        stream: which.stream(),
        job: JobId(u64::from(job % 3)),
        transcoder: id(by),
        sequence: u64::from(sequence % 8),
        renditions: Vec::new(),
    };
    Signed::sign(result, &key(by))
}

/// Which receipts a transcoder wants.
pub(super) fn wanted(which: Which, job: u8, by: u8) -> Signed<ReceiptsWanted> {
    let wanted = ReceiptsWanted {
        stream: which.stream(),
        job: JobId(u64::from(job % 3)),
        transcoder: id(by),
        from_segment: 0,
    };
    Signed::sign(wanted, &key(by))
}

/// A transcoder's receipts.
pub(super) fn receipts(which: Which, job: u8, by: u8) -> Signed<ReceiptList> {
    let receipt = |segment| SegmentReceipt {
        segment,
        source_hash: [7; 32],
        signature: [8; 65],
    };
    let list = ReceiptList {
        stream: which.stream(),
        job: JobId(u64::from(job % 3)),
        transcoder: node(by),
        from_segment: 0,
        receipts: (0..u64::from(by % 4)).map(receipt).collect(),
    };
    Signed::sign(list, &key(which.owner()))
}

/// The part or init of a stream.
pub(super) fn made(which: Which, at: At, version: u8) -> Made {
    material::made(
        which.owner(),
        &which.stream(),
        at.slot(),
        version % VERSIONS,
    )
}

impl Said {
    /// The message, under this request id. `stream` is what the request asks for, or one
    /// of many.
    pub(super) fn message(self, id: RequestId, stream: Which) -> Message {
        match self {
            Self::Request(request) => request.message(id),
            Self::Reply(reply) => reply.message(id, stream),
        }
    }
}

impl Request {
    fn message(self, request: RequestId) -> Message {
        match self {
            Self::Hello => Message::Hello(Hello {
                roles: Roles::default(),
                agent: String::new(),
            }),
            Self::Ping(nonce) => Message::Ping(Ping {
                nonce: u64::from(nonce),
            }),
            Self::Sub(which, from, hops) => Message::from(Sub {
                request,
                stream: which.stream(),
                from: from.map(At::position),
                hops_left: hops % 17,
            }),
            Self::GetMaster(which, hops) => Message::GetMasterPlaylist(GetMasterPlaylist {
                request,
                manifest: which.manifest(),
                hops_left: hops % 17,
            }),
            Self::Status(of, hops) => Message::NodeStatusReq(NodeStatusReq {
                request,
                node: node(of),
                hops_left: hops % 17,
            }),
            Self::TranscodeSub(which, claim, from, hops) => Message::from(TranscodeSub {
                request,
                branch: claim.branch,
                from: from.map(At::position),
                hops_left: hops % 17,
                claim: claim.of(which.stream()),
                signature: [0; 65],
            }),
            Self::Response(which, job, sequence, by) => {
                Message::TranscodeResponse(TranscodeResponse {
                    request,
                    hops_left: by % 17,
                    body: result(which, job, sequence, by),
                })
            }
            Self::GetReceipts(which, job, by) => Message::GetReceipts(GetReceipts {
                request,
                hops_left: by % 17,
                body: wanted(which, job, 1 + by % PEERS),
            }),
            Self::Probe(which, of, hops) => Message::from(JobProbe {
                request,
                transcoder: node(of),
                stream: which.stream(),
                renditions: Vec::new(),
                hops_left: hops % 17,
            }),
        }
    }
}

impl Reply {
    fn message(self, request: RequestId, stream: Which) -> Message {
        match self {
            Self::Pong(nonce) => Message::Pong(Ping {
                nonce: u64::from(nonce),
            }),
            Self::SubAck(live, load, path) => Message::SubAck(SubAck {
                request,
                state: live.map_or(SubState::Pending, |edge| {
                    SubState::Live(edge.map(At::position))
                }),
                load,
                path: (0..path % 33)
                    .map(|place| u64::from(path ^ place))
                    .collect(),
            }),
            Self::NotFound => Message::NotFound(NotFound { request }),
            Self::NoRoute(reason) => {
                let reasons = [
                    NoRouteReason::NoCloserPeer,
                    NoRouteReason::HopLimit,
                    NoRouteReason::Timeout,
                    NoRouteReason::Overloaded,
                ];
                let reason = reasons[usize::from(reason) % reasons.len()];
                Message::NoRoute(NoRoute { request, reason })
            }
            Self::Redirect(count, first) => {
                let nodes = (0..count % 9).map(|number| NodeAddresses {
                    node: node(first.wrapping_add(number)),
                    addresses: vec![address(); usize::from(count / 9 % 5)],
                });
                let nodes = nodes.collect();
                Message::Redirect(Redirect { request, nodes })
            }
            Self::Finish(which, last) => Message::Finish(Finish {
                request,
                body: end(which, last),
            }),
            Self::Part(at, version) => Message::Part(Part {
                request,
                header: made(stream, at, version).0,
            }),
            Self::PartOf(which, at, version) => Message::Part(Part {
                request,
                header: made(which, at, version).0,
            }),
            Self::Chunk(at, version, index) => chunk(request, stream, at, version, index),
            Self::Nack(at, chunks) => Message::Nack(Nack {
                request,
                slot: at.slot(),
                chunks: (0..u16::from(chunks % 5)).collect(),
            }),
            Self::Gap(from, to) => Message::Gap(Gap {
                request,
                from: from.position(),
                to: to.position(),
            }),
            Self::Master(which, version, full) => Message::MasterPlaylistData(MasterPlaylistData {
                request,
                body: master(which, version, full),
            }),
            Self::Status(of) => Message::NodeStatusData(NodeStatusData {
                request,
                body: status(of % 12),
            }),
            Self::Probe(available, load) => Message::JobProbeReply(JobProbeReply {
                request,
                available,
                load,
            }),
            Self::Receipts(which, job, by) => Message::Receipts(Receipts {
                request,
                body: receipts(which, job, by),
            }),
            Self::Cancel => Message::Cancel(Cancel { request }),
        }
    }
}

/// A chunk; one in sixteen is not what its header says.
fn chunk(request: RequestId, stream: Which, at: At, version: u8, index: u8) -> Message {
    let (header, chunks) = made(stream, at, version);
    let place = usize::from(index) % chunks.len();
    let payload = if index >= 240 {
        bytes::Bytes::from(vec![index; chunks[place].len()])
    } else {
        chunks[place].clone()
    };
    Message::Chunk(Chunk {
        request,
        slot: header.value().slot,
        index: u16::from(index) % 3,
        payload,
    })
}
