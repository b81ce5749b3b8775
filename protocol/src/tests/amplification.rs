//! Bytes that a node sends for each byte of a stranger, over every kind of message.
//!
//! A stranger is a neighbour none of whose subscriptions has turned out to exist. What
//! counts is what goes over the wire, as it is encoded: *answers* go back to it, *copies*
//! go to others on its account, a search by the driver counted as one of a kilobyte.
//! Both together may be no more than what it sent itself, beyond the first [`GRACE`] bytes
//! that every link has.

use headwater_proto::{
    Cancel, Chunk, Finish, Gap, GetMasterPlaylist, GetReceipts, Hello, JobId, JobProbe,
    JobProbeReply, ManifestId, MasterPlaylist, MasterPlaylistData, Message, Nack, NoRoute,
    NoRouteReason, NodeId, NodeStatus, NodeStatusData, NodeStatusReq, NotFound, Part, Ping,
    Position, ReceiptList, Receipts, ReceiptsWanted, Redirect, RequestId, Roles, Signed,
    SigningKey, Slot, StreamEnd, StreamId, Sub, SubAck, SubState, TranscodeClaim,
    TranscodeResponse, TranscodeResult, TranscodeSub,
};

use super::{
    strangers::{neighbourhood, on_the_wire, stream},
    world::{ClaimPolicy, World, key},
};
use crate::{links::GRACE, output::LOOKUP_BYTES};

/// Messages of one kind that are sent.
const TIMES: u64 = 300;
const RELAY: usize = 6;
const STRANGER: usize = 7;

/// Makes the message of one kind with this number.
type Kind = fn(&World, u64) -> Message;

/// Every kind, by name; requests ask for something elsewhere and for something here.
const KINDS: [(&str, Kind); 30] = [
    ("hello", |_, _| {
        Message::Hello(Hello {
            roles: Roles::default(),
            agent: String::new(),
        })
    }),
    ("ping", |_, nonce| Message::Ping(Ping { nonce })),
    ("pong", |_, nonce| Message::Pong(Ping { nonce })),
    ("sub", |_, n| sub(n, stream(n))),
    ("sub here", |world, n| sub(n, here(world, n))),
    ("sub again", |_, n| sub(n, stream(1))),
    ("sub_ack", |_, n| {
        Message::SubAck(SubAck {
            request: RequestId(n),
            state: SubState::Pending,
            load: 0,
            path: Vec::new(),
        })
    }),
    ("not_found", |_, n| {
        Message::NotFound(NotFound {
            request: RequestId(n),
        })
    }),
    ("no_route", |_, n| {
        Message::NoRoute(NoRoute {
            request: RequestId(n),
            reason: NoRouteReason::Timeout,
        })
    }),
    ("redirect", |_, n| {
        Message::Redirect(Redirect {
            request: RequestId(n),
            nodes: Vec::new(),
        })
    }),
    ("cancel", |_, n| {
        Message::Cancel(Cancel {
            request: RequestId(n),
        })
    }),
    ("finish", |_, n| {
        let end = StreamEnd {
            stream: owned(n),
            last: None,
        };
        Message::Finish(Finish {
            request: RequestId(n),
            body: Signed::sign(end, &signer()),
        })
    }),
    ("part", |world, n| {
        let (header, _) = world.init(0, &owned(n), 0);
        let header = Signed::sign(header.value().clone(), &signer());
        let request = RequestId(n);
        Message::Part(Part { request, header })
    }),
    ("chunk", |_, n| {
        Message::Chunk(Chunk {
            request: RequestId(n),
            slot: Slot::Init(0),
            index: 0,
            payload: vec![1].into(),
        })
    }),
    ("nack", |_, n| {
        Message::Nack(Nack {
            request: RequestId(n),
            slot: Slot::Init(0),
            chunks: Vec::new(),
        })
    }),
    ("gap", |_, n| {
        let at = |part| Position { segment: 0, part };
        Message::Gap(Gap {
            request: RequestId(n),
            from: at(0),
            to: at(1),
        })
    }),
    ("get_master", |_, n| get_master(n, &stream(n))),
    ("get_master here", |world, n| get_master(n, &here(world, n))),
    ("master", |_, n| {
        let StreamId {
            node, broadcast, ..
        } = owned(n);
        let master = MasterPlaylist {
            manifest: ManifestId { node, broadcast },
            version: n,
            ended: false,
            renditions: Vec::new(),
        };
        Message::MasterPlaylistData(MasterPlaylistData {
            request: RequestId(n),
            body: Signed::sign(master, &signer()),
        })
    }),
    ("status_req", |_, n| status_req(n, stream(n).node)),
    ("status_req here", |world, n| status_req(n, world.id(RELAY))),
    ("status", |_, n| {
        let status = NodeStatus {
            node: signer().node_id(),
            time_ms: n,
            agent: String::new(),
            roles: Roles::default(),
            uptime_s: 0,
            peers: 0,
            load: 0,
            streams: Vec::new(),
        };
        Message::NodeStatusData(NodeStatusData {
            request: RequestId(n),
            body: Signed::sign(status, &signer()),
        })
    }),
    ("transcode_sub", |_, n| claim(n, stream(n), n % 2 == 0)),
    ("transcode_sub here", |world, n| {
        claim(n, here(world, n), n % 2 == 0)
    }),
    ("response", |_, n| response(n, stream(n))),
    ("response here", |world, n| response(n, here(world, n))),
    ("probe", |_, n| {
        Message::from(JobProbe {
            request: RequestId(n),
            transcoder: stream(n).node,
            stream: stream(n),
            renditions: Vec::new(),
            hops_left: 15,
        })
    }),
    ("probe_reply", |_, n| {
        Message::JobProbeReply(JobProbeReply {
            request: RequestId(n),
            available: true,
            load: 0,
        })
    }),
    ("get_receipts", |world, n| {
        let wanted = ReceiptsWanted {
            stream: if n % 2 == 0 {
                stream(n)
            } else {
                here(world, n)
            },
            job: JobId(n),
            transcoder: signer().node_id(),
            from_segment: 0,
        };
        Message::GetReceipts(GetReceipts {
            request: RequestId(n),
            hops_left: 15,
            body: Signed::sign(wanted, &signer()),
        })
    }),
    ("receipts", |_, n| {
        let list = ReceiptList {
            stream: owned(n),
            job: JobId(n),
            transcoder: signer().node_id(),
            from_segment: 0,
            receipts: Vec::new(),
        };
        Message::Receipts(Receipts {
            request: RequestId(n),
            body: Signed::sign(list, &signer()),
        })
    }),
];

/// The stranger's own key, with which it signs whatever it likes.
fn signer() -> SigningKey {
    key(60)
}

/// A stream of the stranger's own.
fn owned(number: u64) -> StreamId {
    StreamId {
        node: signer().node_id(),
        ..stream(number)
    }
}

/// A stream that the relay might have made, and has not.
fn here(world: &World, number: u64) -> StreamId {
    StreamId {
        node: world.id(RELAY),
        ..stream(number)
    }
}

fn sub(number: u64, stream: StreamId) -> Message {
    Message::from(Sub {
        request: RequestId(number),
        stream,
        from: None,
        hops_left: 15,
    })
}

fn get_master(number: u64, stream: &StreamId) -> Message {
    Message::GetMasterPlaylist(GetMasterPlaylist {
        request: RequestId(number),
        manifest: ManifestId {
            node: stream.node,
            broadcast: stream.broadcast,
        },
        hops_left: 15,
    })
}

fn status_req(number: u64, node: NodeId) -> Message {
    Message::NodeStatusReq(NodeStatusReq {
        request: RequestId(number),
        node,
        hops_left: 15,
    })
}

fn claim(number: u64, stream: StreamId, branch: bool) -> Message {
    Message::from(TranscodeSub {
        request: RequestId(number),
        branch,
        from: None,
        hops_left: 15,
        claim: TranscodeClaim {
            stream,
            job: JobId(number),
            transcoder: signer().node_id(),
            addresses: Vec::new(),
            sealed: None,
            sequence: number,
            expires_ms: 0,
        },
        signature: [0; 65],
    })
}

fn response(number: u64, stream: StreamId) -> Message {
    let result = TranscodeResult {
        stream,
        job: JobId(number),
        transcoder: signer().node_id(),
        sequence: number,
        renditions: Vec::new(),
    };
    Message::TranscodeResponse(TranscodeResponse {
        request: RequestId(number),
        hops_left: 15,
        body: Signed::sign(result, &signer()),
    })
}

/// Bytes of the stranger, answers to it, and copies to others.
fn measure(kind: Kind) -> (usize, usize, usize) {
    let mut world = neighbourhood();
    world.hosts[RELAY].claims = ClaimPolicy::Refuse;
    world.run(1000);
    world.hosts[RELAY].sent.clear();
    let lookups = world.hosts[RELAY].node.stats().lookups;
    let mut received = 0;
    for number in 0..TIMES {
        if !world.linked(RELAY, STRANGER) {
            break;
        }
        let message = kind(&world, number);
        received += on_the_wire(&message);
        world.arrive(STRANGER, RELAY, &message);
        world.run(20);
    }
    world.run(5000);
    let (mut answers, mut copies) = (0, 0);
    for (to, message) in &world.hosts[RELAY].sent {
        if *to == world.id(STRANGER) {
            answers += on_the_wire(message);
        } else {
            copies += on_the_wire(message);
        }
    }
    let lookups = world.hosts[RELAY].node.stats().lookups - lookups;
    copies += LOOKUP_BYTES * usize::try_from(lookups).unwrap();
    (received, answers, copies)
}

#[test]
fn a_stranger_is_sent_and_makes_others_be_sent_no_more_than_it_sends() {
    let mut worst = [(0, ""); 3];
    for (name, kind) in KINDS {
        let (received, answers, copies) = measure(kind);
        for (worst, sent) in worst.iter_mut().zip([answers, copies, answers + copies]) {
            let permille = sent.saturating_sub(GRACE) * 1000 / received;
            *worst = (*worst).max((permille, name));
        }
    }
    for (what, (permille, name)) in ["answers", "copies", "both"].into_iter().zip(worst) {
        assert!(permille <= 1000, "{what}: {permille} ‰ by {name}");
    }
}
