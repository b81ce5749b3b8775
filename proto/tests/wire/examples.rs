//! One message of each kind, from small numbers, and what stands on the wire of one.

use bytes::Bytes;
use headwater_proto::*;

pub(super) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(super) fn stream() -> StreamId {
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

pub(super) fn part(payload: &Bytes) -> (Signed<PartHeader>, Vec<Bytes>) {
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

type Named = (&'static str, Message);

/// Every kind of message, named.
pub(super) fn all() -> Vec<Named> {
    [
        greetings(),
        subscriptions(),
        data(),
        answers(),
        jobs(),
        receipts(),
    ]
    .concat()
}

fn greetings() -> Vec<Named> {
    let roles = relayer();
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
    ]
}

fn subscriptions() -> Vec<Named> {
    let request = RequestId(300);
    let node = key().node_id();
    let address = address();
    vec![
        (
            "sub",
            Message::from(Sub {
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
    ]
}

fn data() -> Vec<Named> {
    let request = RequestId(300);
    let key = key();
    let payload = Bytes::from(vec![0x5a; 20_000]);
    let (header, chunks) = part(&payload);
    let init = PartHeader::for_payload(stream(), Slot::Init(1), None, &payload)
        .unwrap()
        .0;
    let end = StreamEnd {
        stream: stream(),
        last: Some(position(9, 4)),
    };
    let slot = Slot::Part(position(5, 0));
    vec![
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
    ]
}

fn answers() -> Vec<Named> {
    let request = RequestId(300);
    let key = key();
    let node = key.node_id();
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
        roles: relayer(),
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
    vec![
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
    ]
}

fn jobs() -> Vec<Named> {
    let request = RequestId(300);
    let key = key();
    let node = key.node_id();
    let result = TranscodeResult {
        stream: stream(),
        job: JobId(4),
        transcoder: node,
        sequence: 2,
        renditions: vec![rendition()],
    };
    let open = TranscodeClaim {
        stream: stream(),
        job: JobId(4),
        transcoder: node,
        addresses: vec![address()],
        sealed: None,
        sequence: 2,
        expires_ms: 1_800_000_060_000,
    };
    let sealed = open.clone().seal([5; 32]).unwrap();
    let transcode_sub = |claim| {
        Message::from(TranscodeSub {
            request,
            branch: true,
            from: None,
            hops_left: 16,
            claim,
            signature: [8; 65],
        })
    };
    vec![
        ("transcode_sub", transcode_sub(open)),
        ("transcode_sub_sealed", transcode_sub(sealed)),
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
            Message::from(JobProbe {
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

fn receipts() -> Vec<Named> {
    let request = RequestId(300);
    let key = key();
    let transcoder = key.node_id();
    let wanted = ReceiptsWanted {
        stream: stream(),
        job: JobId(4),
        transcoder,
        from_segment: 5,
    };
    let receipt = |segment| SegmentReceipt {
        segment,
        source_hash: [6; 32],
        signature: [8; 65],
    };
    let list = ReceiptList {
        stream: stream(),
        job: JobId(4),
        transcoder,
        from_segment: 5,
        receipts: vec![receipt(5), receipt(7)],
    };
    vec![
        (
            "get_receipts",
            Message::GetReceipts(GetReceipts {
                request,
                hops_left: 16,
                body: Signed::sign(wanted, &key),
            }),
        ),
        (
            "receipts",
            Message::Receipts(Receipts {
                request,
                body: Signed::sign(list, &key),
            }),
        ),
    ]
}

fn address() -> AddressText {
    AddressText::new("/ip4/192.0.2.1/tcp/4935").unwrap()
}

fn relayer() -> Roles {
    Roles {
        relayer: true,
        ..Roles::default()
    }
}

pub(super) fn bytes(message: &Message) -> Bytes {
    let frame = encode(message).unwrap();
    let mut bytes = frame.head.to_vec();
    bytes.extend_from_slice(&frame.payload.unwrap_or_default());
    bytes.into()
}

/// The header of a message, without its length.
pub(super) fn header(message: &Message) -> Bytes {
    let mut head = encode(message).unwrap().head;
    let mut prefix = LengthPrefix::default();
    while prefix.push(head.split_to(1)[0]).unwrap().is_none() {}
    head
}

/// The number of a message's kind, as it stands on the wire.
pub(super) fn kind(message: &Message) -> u64 {
    let header = header(message);
    let (low, high) = (u64::from(header[0]), u64::from(header[1]));
    let tag = if low < 0x80 {
        low
    } else {
        low & 0x7f | high << 7
    };
    assert!(low < 0x80 || high < 0x80, "numbers up to 2047 are enough");
    tag >> 3
}

/// Name and number of every kind of message in the schema.
pub(super) fn schema() -> Vec<(&'static str, u64)> {
    let schema = include_str!("../../schema/headwater.proto");
    let (_, body) = schema.split_once("oneof body {").unwrap();
    let (body, _) = body.split_once('}').unwrap();
    let field = |line: &'static str| {
        let (field, number) = line.split_once('=').unwrap();
        let name = field.split_whitespace().nth(1).unwrap();
        (name, number.trim().parse().unwrap())
    };
    body.split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(field)
        .collect()
}
