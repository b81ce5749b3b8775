//! One message of each kind, from small numbers.

use bytes::Bytes;
use headwater_proto::*;

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn stream() -> StreamId {
    ManifestId {
        node: key().node_id(),
        broadcast: BroadcastId::from_bytes([3; 16]),
    }
    .source()
}

fn manifest() -> ManifestId {
    ManifestId {
        node: key().node_id(),
        broadcast: BroadcastId::from_bytes([3; 16]),
    }
}

fn rendition() -> Rendition {
    Rendition {
        stream: stream(),
        codecs: "avc1.64001f,mp4a.40.2".into(),
        width: 1280,
        height: 720,
        frame_rate_milli: 29_970,
        bandwidth: 3_000_000,
        average_bandwidth: 2_500_000,
        target_duration_ms: 4000,
        part_target_ms: 200,
    }
}

fn position(segment: u64, part: u32) -> Position {
    Position { segment, part }
}

pub(crate) fn part(payload: &Bytes) -> (Signed<PartHeader>, Vec<Bytes>) {
    let media = MediaInfo {
        init: 1,
        start: 900_000,
        duration: 18_000,
        program_date_time_ms: 1_800_000_000_000,
        discontinuity: 2,
        independent: true,
        last: false,
    };
    let slot = Slot::Part(position(5, 0));
    let (header, chunks) = PartHeader::for_payload(stream(), slot, Some(media), payload).unwrap();
    (Signed::sign(header, &key()), chunks)
}

/// Every kind of message, named.
pub(crate) fn all() -> Vec<(&'static str, Message)> {
    let request = RequestId(300);
    let key = key();
    let node = key.node_id();
    let payload = Bytes::from(vec![0x5a; 20_000]);
    let (header, chunks) = part(&payload);
    let init = PartHeader::for_payload(stream(), Slot::Init(1), None, &payload)
        .unwrap()
        .0;
    let address = AddressText::new("/ip4/192.0.2.1/tcp/4935").unwrap();
    let roles = Roles {
        relayer: true,
        ..Roles::default()
    };
    let end = StreamEnd {
        stream: stream(),
        last: Some(position(9, 4)),
    };
    let master = MasterPlaylist {
        manifest: manifest(),
        version: 12,
        ended: false,
        renditions: vec![rendition()],
    };
    let status = NodeStatus {
        node,
        time_ms: 1_800_000_000_000,
        agent: "headwater/1".into(),
        roles,
        uptime_s: 60,
        peers: 3,
        load: 9,
        streams: vec![StreamStatus {
            stream: stream(),
            edge: Some(position(5, 1)),
            parent: Some(node),
            children: 2,
        }],
    };
    let result = TranscodeResult {
        stream: stream(),
        job: JobId(4),
        transcoder: node,
        sequence: 2,
        renditions: vec![rendition()],
    };
    let claim = TranscodeClaim {
        stream: stream(),
        job: JobId(4),
        transcoder: node,
        addresses: vec![address.clone()],
        sequence: 2,
        expires_ms: 1_800_000_060_000,
    };
    let slot = Slot::Part(position(5, 0));
    vec![
        (
            "hello",
            Message::Hello(Hello {
                roles,
                agent: "headwater/1".into(),
            }),
        ),
        ("ping", Message::Ping(Ping { nonce: 1 })),
        ("pong", Message::Pong(Ping { nonce: 1 })),
        (
            "sub",
            Message::Sub(Sub {
                request,
                stream: stream(),
                from: Some(position(5, 0)),
                hops_left: 16,
            }),
        ),
        (
            "sub_ack",
            Message::SubAck(SubAck {
                request,
                state: SubState::Live(Some(position(5, 1))),
                load: 4,
                path: vec![1, u64::MAX],
            }),
        ),
        (
            "sub_ack_pending",
            Message::SubAck(SubAck {
                request,
                state: SubState::Pending,
                load: 0,
                path: vec![],
            }),
        ),
        ("not_found", Message::NotFound(NotFound { request })),
        (
            "no_route",
            Message::NoRoute(NoRoute {
                request,
                reason: NoRouteReason::HopLimit,
            }),
        ),
        (
            "redirect",
            Message::Redirect(Redirect {
                request,
                nodes: vec![NodeAddresses {
                    node,
                    addresses: vec![address],
                }],
            }),
        ),
        ("cancel", Message::Cancel(Cancel { request })),
        (
            "finish",
            Message::Finish(Finish {
                request,
                body: Signed::sign(end, &key),
            }),
        ),
        ("part", Message::Part(Part { request, header })),
        (
            "init",
            Message::Part(Part {
                request,
                header: Signed::sign(init, &key),
            }),
        ),
        (
            "chunk",
            Message::Chunk(Chunk {
                request,
                slot,
                index: 1,
                payload: chunks[1].slice(..8),
            }),
        ),
        (
            "nack",
            Message::Nack(Nack {
                request,
                slot,
                chunks: vec![0, 3],
            }),
        ),
        (
            "gap",
            Message::Gap(Gap {
                request,
                from: position(5, 0),
                to: position(7, 0),
            }),
        ),
        (
            "get_master_playlist",
            Message::GetMasterPlaylist(GetMasterPlaylist {
                request,
                manifest: manifest(),
                hops_left: 3,
            }),
        ),
        (
            "master_playlist_data",
            Message::MasterPlaylistData(MasterPlaylistData {
                request,
                body: Signed::sign(master, &key),
            }),
        ),
        (
            "node_status_req",
            Message::NodeStatusReq(NodeStatusReq {
                request,
                node,
                hops_left: 3,
            }),
        ),
        (
            "node_status_data",
            Message::NodeStatusData(NodeStatusData {
                request,
                body: Signed::sign(status, &key),
            }),
        ),
        (
            "transcode_sub",
            Message::TranscodeSub(TranscodeSub {
                request,
                branch: true,
                from: None,
                hops_left: 16,
                claim,
                signature: [8; 65],
            }),
        ),
        (
            "transcode_response",
            Message::TranscodeResponse(TranscodeResponse {
                request,
                hops_left: 16,
                body: Signed::sign(result, &key),
            }),
        ),
        (
            "job_probe",
            Message::JobProbe(JobProbe {
                request,
                transcoder: node,
                stream: stream(),
                renditions: vec!["360p".parse().unwrap()],
                hops_left: 2,
            }),
        ),
        (
            "job_probe_reply",
            Message::JobProbeReply(JobProbeReply {
                request,
                available: true,
                load: 1,
            }),
        ),
    ]
}

/// The number of kinds in the schema; a new kind breaks [`kind`] first.
pub(crate) const KINDS: usize = 22;

pub(crate) fn kind(message: &Message) -> usize {
    match message {
        Message::Hello(_) => 1,
        Message::Ping(_) => 2,
        Message::Pong(_) => 3,
        Message::Sub(_) => 4,
        Message::SubAck(_) => 5,
        Message::NotFound(_) => 6,
        Message::NoRoute(_) => 7,
        Message::Redirect(_) => 8,
        Message::Cancel(_) => 9,
        Message::Finish(_) => 10,
        Message::Part(_) => 11,
        Message::Chunk(_) => 12,
        Message::Nack(_) => 13,
        Message::Gap(_) => 14,
        Message::GetMasterPlaylist(_) => 15,
        Message::MasterPlaylistData(_) => 16,
        Message::NodeStatusReq(_) => 17,
        Message::NodeStatusData(_) => 18,
        Message::TranscodeSub(_) => 19,
        Message::TranscodeResponse(_) => 20,
        Message::JobProbe(_) => 21,
        Message::JobProbeReply(_) => 22,
    }
}

pub(crate) fn bytes(message: &Message) -> Bytes {
    let frame = encode(message);
    let mut bytes = frame.head.to_vec();
    bytes.extend_from_slice(&frame.payload.unwrap_or_default());
    bytes.into()
}
