//! Messages of every kind with anything in them that is within bounds.

use bytes::Bytes;
use headwater_proto::{limits::*, *};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::examples::{bytes, key, kind};

#[test]
fn every_kind_of_message_reads_back_whatever_is_in_it() {
    for (number, messages) in kinds() {
        let outcome = TestRunner::default().run(&messages, |message| {
            prop_assert_eq!(kind(&message), number);
            prop_assert_eq!(decode(bytes(&message)), Ok(message));
            Ok(())
        });
        assert_eq!(outcome, Ok(()), "kind {number}");
    }
}

/// A strategy for each kind, with the kind's number.
pub(super) fn kinds() -> Vec<(u64, BoxedStrategy<Message>)> {
    let simple = [
        (1, hello().boxed()),
        (2, any_nonce().prop_map(Message::Ping).boxed()),
        (3, any_nonce().prop_map(Message::Pong).boxed()),
        (4, sub().boxed()),
        (5, sub_ack().boxed()),
        (
            6,
            request()
                .prop_map(|r| NotFound { request: r })
                .prop_map(Message::NotFound)
                .boxed(),
        ),
        (7, no_route().boxed()),
        (8, redirect().boxed()),
        (
            9,
            request()
                .prop_map(|r| Cancel { request: r })
                .prop_map(Message::Cancel)
                .boxed(),
        ),
        (12, chunk().boxed()),
        (13, nack().boxed()),
        (14, gap().boxed()),
        (15, get_master_playlist().boxed()),
        (17, node_status_req().boxed()),
        (19, transcode_sub().boxed()),
        (21, job_probe().boxed()),
        (22, job_probe_reply().boxed()),
    ];
    let signed = [
        (10, finish().boxed()),
        (11, part().boxed()),
        (16, master_playlist_data().boxed()),
        (18, node_status_data().boxed()),
        (20, transcode_response().boxed()),
        (23, get_receipts().boxed()),
        (24, receipts().boxed()),
    ];
    simple.into_iter().chain(signed).collect()
}

fn hello() -> impl Strategy<Value = Message> {
    (roles(), agent()).prop_map(|(roles, agent)| Message::Hello(Hello { roles, agent }))
}

fn any_nonce() -> impl Strategy<Value = Ping> {
    any::<u64>().prop_map(|nonce| Ping { nonce })
}

fn sub() -> impl Strategy<Value = Message> {
    (request(), stream(), maybe(position()), hops()).prop_map(
        |(request, stream, from, hops_left)| {
            Message::from(Sub {
                request,
                stream,
                from,
                hops_left,
            })
        },
    )
}

fn sub_ack() -> impl Strategy<Value = Message> {
    let state = prop_oneof![
        maybe(position()).prop_map(SubState::Live),
        Just(SubState::Pending),
    ];
    let path = few(any::<u64>(), MAX_PATH);
    (request(), state, any::<u8>(), path).prop_map(|(request, state, load, path)| {
        Message::SubAck(SubAck {
            request,
            state,
            load,
            path,
        })
    })
}

fn no_route() -> impl Strategy<Value = Message> {
    let reason = prop::sample::select(vec![
        NoRouteReason::NoCloserPeer,
        NoRouteReason::HopLimit,
        NoRouteReason::Timeout,
        NoRouteReason::Overloaded,
    ]);
    (request(), reason).prop_map(|(request, reason)| Message::NoRoute(NoRoute { request, reason }))
}

fn redirect() -> impl Strategy<Value = Message> {
    let node =
        (node(), addresses()).prop_map(|(node, addresses)| NodeAddresses { node, addresses });
    (request(), few(node, MAX_REDIRECT_NODES))
        .prop_map(|(request, nodes)| Message::Redirect(Redirect { request, nodes }))
}

fn chunk() -> impl Strategy<Value = Message> {
    let index = 0..u16::try_from(MAX_CHUNKS).unwrap();
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..100),
        (1..=CHUNK_BYTES).prop_map(|len| vec![0xa5; len]),
    ];
    (request(), slot(), index, payload).prop_map(|(request, slot, index, payload)| {
        Message::Chunk(Chunk {
            request,
            slot,
            index,
            payload: Bytes::from(payload),
        })
    })
}

fn nack() -> impl Strategy<Value = Message> {
    let index = 0..u16::try_from(MAX_CHUNKS).unwrap();
    (request(), slot(), few(index, MAX_CHUNKS)).prop_map(|(request, slot, chunks)| {
        Message::Nack(Nack {
            request,
            slot,
            chunks,
        })
    })
}

fn gap() -> impl Strategy<Value = Message> {
    (request(), position(), position())
        .prop_filter("a gap has a length", |(_, from, to)| from != to)
        .prop_map(|(request, a, b)| {
            Message::Gap(Gap {
                request,
                from: a.min(b),
                to: a.max(b),
            })
        })
}

fn get_master_playlist() -> impl Strategy<Value = Message> {
    (request(), manifest(), hops()).prop_map(|(request, manifest, hops_left)| {
        Message::GetMasterPlaylist(GetMasterPlaylist {
            request,
            manifest,
            hops_left,
        })
    })
}

fn node_status_req() -> impl Strategy<Value = Message> {
    (request(), node(), hops()).prop_map(|(request, node, hops_left)| {
        Message::NodeStatusReq(NodeStatusReq {
            request,
            node,
            hops_left,
        })
    })
}

fn transcode_sub() -> impl Strategy<Value = Message> {
    let outer = (request(), any::<bool>(), maybe(position()), hops());
    let signature = prop::collection::vec(any::<u8>(), 65);
    (outer, claim(), signature).prop_map(
        |((request, branch, from, hops_left), claim, signature)| {
            Message::from(TranscodeSub {
                request,
                branch,
                from,
                hops_left,
                claim,
                signature: signature.try_into().unwrap(),
            })
        },
    )
}

fn claim() -> impl Strategy<Value = TranscodeClaim> {
    let sealed = (any::<u8>(), 0..SEALED_BYTES, any::<u8>()).prop_map(|(fill, at, other)| {
        let mut bytes = [fill; SEALED_BYTES];
        bytes[at] = other;
        (vec![], Some(SealedAddresses::from_bytes(bytes)))
    });
    let open = addresses().prop_map(|addresses| (addresses, None));
    let numbers = (any::<u64>(), any::<u64>(), 0..=MAX_UNIX_MS);
    (stream(), node(), prop_oneof![open, sealed], numbers).prop_map(
        |(stream, transcoder, (addresses, sealed), (job, sequence, expires_ms))| TranscodeClaim {
            stream,
            job: JobId(job),
            transcoder,
            addresses,
            sealed,
            sequence,
            expires_ms,
        },
    )
}

fn job_probe() -> impl Strategy<Value = Message> {
    let names = few(rendition_name(), MAX_RENDITIONS);
    (request(), node(), stream(), names, hops()).prop_map(
        |(request, transcoder, stream, renditions, hops_left)| {
            Message::from(JobProbe {
                request,
                transcoder,
                stream,
                renditions,
                hops_left,
            })
        },
    )
}

fn job_probe_reply() -> impl Strategy<Value = Message> {
    (request(), any::<bool>(), any::<u8>()).prop_map(|(request, available, load)| {
        Message::JobProbeReply(JobProbeReply {
            request,
            available,
            load,
        })
    })
}

fn finish() -> impl Strategy<Value = Message> {
    (request(), stream(), maybe(position())).prop_map(|(request, stream, last)| {
        let body = Signed::sign(StreamEnd { stream, last }, &key());
        Message::Finish(Finish { request, body })
    })
}

fn part() -> impl Strategy<Value = Message> {
    let size = prop_oneof![1..40_000_u32, 1..=u32::try_from(MAX_PART_BYTES).unwrap()];
    let hash = any::<[u8; 32]>();
    let init = (0..=MAX_INIT).prop_map(|index| (Slot::Init(index), None));
    let media = (position(), media()).prop_map(|(at, media)| (Slot::Part(at), Some(media)));
    (request(), stream(), prop_oneof![init, media], size, hash).prop_map(
        |(request, stream, (slot, media), size, hash)| {
            let chunks = usize::try_from(size).unwrap().div_ceil(CHUNK_BYTES);
            let header = PartHeader {
                stream,
                slot,
                media,
                size,
                hashes: vec![hash; chunks],
            };
            Message::Part(Part {
                request,
                header: Signed::sign(header, &key()),
            })
        },
    )
}

fn media() -> impl Strategy<Value = MediaInfo> {
    let counts = (0..=MAX_INIT, 0..=MAX_INIT);
    let times = (0..=MAX_START, any::<u32>(), 0..=MAX_UNIX_MS);
    (counts, times, any::<bool>(), any::<bool>()).prop_map(
        |((init, discontinuity), (start, duration, wall_clock), independent, last)| MediaInfo {
            init,
            start,
            duration,
            program_date_time_ms: wall_clock,
            discontinuity,
            independent,
            last,
        },
    )
}

fn master_playlist_data() -> impl Strategy<Value = Message> {
    let version = any::<u64>();
    (request(), manifest(), version, any::<bool>(), renditions()).prop_map(
        |(request, manifest, version, ended, renditions)| {
            let master = MasterPlaylist {
                manifest,
                version,
                ended,
                renditions,
            };
            let body = Signed::sign(master, &key());
            Message::MasterPlaylistData(MasterPlaylistData { request, body })
        },
    )
}

fn node_status_data() -> impl Strategy<Value = Message> {
    let of_stream = (stream(), maybe(position()), maybe(node()), any::<u32>()).prop_map(
        |(stream, edge, parent, children)| StreamStatus {
            stream,
            edge,
            parent,
            children,
        },
    );
    let about = (node(), agent(), roles(), any::<u32>(), any::<u8>());
    let times = (0..=MAX_UNIX_MS, 0..=MAX_UNIX_MS / 1000);
    (request(), about, times, few(of_stream, MAX_STATUS_STREAMS)).prop_map(
        |(request, (node, agent, roles, peers, load), (time_ms, uptime_s), streams)| {
            let status = NodeStatus {
                node,
                time_ms,
                agent,
                roles,
                uptime_s,
                peers,
                load,
                streams,
            };
            let body = Signed::sign(status, &key());
            Message::NodeStatusData(NodeStatusData { request, body })
        },
    )
}

fn transcode_response() -> impl Strategy<Value = Message> {
    let numbers = (any::<u64>(), any::<u64>());
    (request(), hops(), stream(), node(), numbers, renditions()).prop_map(
        |(request, hops_left, stream, transcoder, (job, sequence), renditions)| {
            let result = TranscodeResult {
                stream,
                job: JobId(job),
                transcoder,
                sequence,
                renditions,
            };
            Message::TranscodeResponse(TranscodeResponse {
                request,
                hops_left,
                body: Signed::sign(result, &key()),
            })
        },
    )
}

fn get_receipts() -> impl Strategy<Value = Message> {
    let numbers = (any::<u64>(), 0..=MAX_SEGMENT);
    (request(), hops(), stream(), node(), numbers).prop_map(
        |(request, hops_left, stream, transcoder, (job, from_segment))| {
            let wanted = ReceiptsWanted {
                stream,
                job: JobId(job),
                transcoder,
                from_segment,
            };
            Message::GetReceipts(GetReceipts {
                request,
                hops_left,
                body: Signed::sign(wanted, &key()),
            })
        },
    )
}

fn receipts() -> impl Strategy<Value = Message> {
    let room = MAX_RECEIPTS as u64;
    let one = (any::<[u8; 32]>(), any::<u8>(), 1..=1000_u64);
    let numbers = (any::<u64>(), 0..=MAX_SEGMENT - 1000 * room);
    (request(), stream(), node(), numbers, few(one, MAX_RECEIPTS)).prop_map(
        |(request, stream, transcoder, (job, from_segment), receipts)| {
            let mut segment = from_segment;
            let receipts = receipts.into_iter().map(|(source_hash, byte, step)| {
                segment += step;
                SegmentReceipt {
                    segment,
                    source_hash,
                    signature: [byte; 65],
                }
            });
            let list = ReceiptList {
                stream,
                job: JobId(job),
                transcoder,
                from_segment,
                receipts: receipts.collect(),
            };
            let body = Signed::sign(list, &key());
            Message::Receipts(Receipts { request, body })
        },
    )
}

fn renditions() -> impl Strategy<Value = Vec<Rendition>> {
    let codecs = "[!#-~]{0,128}";
    let picture = (any::<u32>(), any::<u32>(), any::<u32>());
    let rates = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let one = (stream(), codecs, picture, rates).prop_map(
        |(stream, codecs, (width, height, frame_rate_milli), rates)| Rendition {
            stream,
            codecs,
            width,
            height,
            frame_rate_milli,
            bandwidth: rates.0,
            average_bandwidth: rates.1,
            target_duration_ms: rates.2,
            part_target_ms: rates.3,
        },
    );
    few(one, MAX_RENDITIONS)
}

/// Mostly a few; now and then as many as there may be.
fn few<T>(element: impl Strategy<Value = T> + 'static, max: usize) -> impl Strategy<Value = Vec<T>>
where
    T: Clone + std::fmt::Debug,
{
    let element = element.boxed();
    prop_oneof![
        8 => prop::collection::vec(element.clone(), 0..=max.min(4)),
        1 => element.prop_map(move |one| vec![one; max]),
    ]
}

fn maybe<S: Strategy>(value: S) -> impl Strategy<Value = Option<S::Value>> {
    prop::option::of(value)
}

fn request() -> impl Strategy<Value = RequestId> {
    any::<u64>().prop_map(RequestId)
}

fn hops() -> impl Strategy<Value = u8> {
    0..=MAX_HOPS
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId::from_public_key)
}

fn manifest() -> impl Strategy<Value = ManifestId> {
    (node(), any::<[u8; 16]>()).prop_map(|(node, broadcast)| ManifestId {
        node,
        broadcast: BroadcastId::from_bytes(broadcast),
    })
}

fn stream() -> impl Strategy<Value = StreamId> {
    (manifest(), rendition_name()).prop_map(|(manifest, rendition)| StreamId {
        rendition,
        ..manifest.source()
    })
}

fn rendition_name() -> impl Strategy<Value = RenditionName> {
    let text = prop::sample::select(vec!["source", "720p", "audio_en", "a-b", "0"]);
    text.prop_map(|text| text.parse().unwrap())
}

fn position() -> impl Strategy<Value = Position> {
    let segment = prop_oneof![0..100_u64, 0..=MAX_SEGMENT];
    let part = prop_oneof![0..20_u32, 0..MAX_PARTS];
    (segment, part).prop_map(|(segment, part)| Position { segment, part })
}

fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![
        (0..=MAX_INIT).prop_map(Slot::Init),
        position().prop_map(Slot::Part),
    ]
}

fn addresses() -> impl Strategy<Value = Vec<AddressText>> {
    let long = format!("/{}", "a".repeat(MAX_ADDRESS_BYTES - 1));
    let texts = ["/ip4/192.0.2.1/tcp/4935", "/ip6/::1/udp/1/quic-v1", &long];
    let known = texts.map(|text| AddressText::new(text).unwrap()).to_vec();
    prop::collection::vec(prop::sample::select(known), 0..=MAX_ADDRESSES)
}

fn roles() -> impl Strategy<Value = Roles> {
    any::<[bool; 3]>().prop_map(|[broadcaster, relayer, transcoder]| Roles {
        broadcaster,
        relayer,
        transcoder,
    })
}

fn agent() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,64}", "[à-ÿ]{0,32}"]
}
