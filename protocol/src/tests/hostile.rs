//! Neighbours that forge, replay, tamper, or send what nobody asked for.

use bytes::Bytes;
use headwater_proto::{
    Chunk, Finish, Message, Part, PartHeader, RequestId, Signed, Slot, StreamId, SubAck, SubState,
};

use super::world::{World, at, is_sub, key};
use crate::DisconnectReason;

/// A diamond in mid-stream: the viewer's relay, the other one, and the viewer's request.
fn watched() -> (World, StreamId, usize, RequestId) {
    let mut world = World::diamond();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..2);
    let relay = world.parent(3, &stream).unwrap();
    let request = world.hosts[3].sent.iter().find_map(|(_, m)| match m {
        Message::Sub(sub) => Some(sub.request),
        _ => None,
    });
    (world, stream, relay, request.unwrap())
}

fn violations(world: &World, what: &str) -> u64 {
    let stats = world.hosts[3].node.stats();
    stats.violations.get(what).copied().unwrap_or_default()
}

/// A part that somebody else signed in the owner's name.
fn forged(stream: &StreamId, segment: u64) -> (Signed<PartHeader>, Vec<Bytes>) {
    let mut liar = World::new(0, 0);
    liar.hosts[0].key = key(99);
    liar.part(0, stream, at(segment, 0), 0)
}

#[test]
fn a_forged_part_is_dropped_and_counted() {
    let (mut world, stream, relay, request) = watched();
    let (header, chunks) = forged(&stream, 2);
    let slot = header.value().slot;

    world.arrive(relay, 3, &Message::Part(Part { request, header }));
    for (index, payload) in (0..).zip(chunks) {
        let chunk = Chunk {
            request,
            slot,
            index,
            payload,
        };
        world.arrive(relay, 3, &Message::Chunk(chunk));
    }
    world.stream(&stream, 2..4);

    world.assert_whole(3, &stream, 0..4);
    assert_eq!(violations(&world, "bad signature"), 1);
    assert_eq!(violations(&world, "chunk without header"), 3);
}

#[test]
fn a_forged_end_is_dropped_and_counted() {
    let (mut world, stream, relay, request) = watched();
    let end = world.end(&stream, Some(1)).value().clone();
    let body = Signed::sign(end, &key(99));

    world.arrive(relay, 3, &Message::Finish(Finish { request, body }));
    world.stream(&stream, 2..4);

    world.assert_whole(3, &stream, 0..4);
    assert_eq!(world.finishes(3), 0);
    assert_eq!(violations(&world, "bad signature"), 1);
}

#[test]
fn a_replayed_end_that_the_stream_has_outlived_changes_nothing() {
    let (mut world, stream, relay, request) = watched();
    let body = world.end(&stream, Some(0));

    world.arrive(relay, 3, &Message::Finish(Finish { request, body }));
    world.stream(&stream, 2..4);

    world.assert_whole(3, &stream, 0..4);
    assert_eq!(world.finishes(3), 0);
    assert_eq!(world.hosts[3].node.stats().stale_finishes, 1);
}

#[test]
fn the_end_of_another_stream_ends_nothing() {
    let (mut world, stream, relay, request) = watched();
    let other = StreamId {
        rendition: "other".parse().unwrap(),
        ..stream.clone()
    };
    let body = world.end(&other, Some(1));

    world.arrive(relay, 3, &Message::Finish(Finish { request, body }));

    assert_eq!(world.finishes(3), 0);
    assert_eq!(violations(&world, "end of another stream"), 1);
}

#[test]
fn a_part_of_another_stream_is_dropped_and_counted() {
    let (mut world, stream, relay, request) = watched();
    let other = StreamId {
        rendition: "other".parse().unwrap(),
        ..stream.clone()
    };
    let (header, _) = world.part(0, &other, at(2, 0), 0);

    world.arrive(relay, 3, &Message::Part(Part { request, header }));
    world.stream(&stream, 2..4);

    world.assert_whole(3, &stream, 0..4);
    assert_eq!(violations(&world, "part of another stream"), 1);
}

#[test]
fn a_replayed_part_is_delivered_once() {
    let (mut world, stream, relay, request) = watched();
    let (header, chunks) = world.part(0, &stream, at(1, 0), 0);
    let slot = header.value().slot;
    let delivered = world.count_parts(3);

    world.arrive(relay, 3, &Message::Part(Part { request, header }));
    for (index, payload) in (0..).zip(chunks) {
        let chunk = Chunk {
            request,
            slot,
            index,
            payload,
        };
        world.arrive(relay, 3, &Message::Chunk(chunk));
    }

    assert_eq!(world.count_parts(3), delivered);
    assert_eq!(world.hosts[3].node.stats().duplicates, 4);
    assert_eq!(world.hosts[3].node.stats().violations_total(), 0);
}

#[test]
fn a_tampered_chunk_is_dropped_and_the_true_one_is_asked_for() {
    let (mut world, stream, relay, request) = watched();

    world.append(0, &stream, 2, 0);
    // The relay's true chunk 1 is lost, and a false one comes in its place.
    for _ in 0..60 {
        world.run(1);
        if world.hosts[3].node.stats().nacks_out > 0 {
            break;
        }
        world.lose(relay, 3, |m| matches!(m, Message::Chunk(c) if c.index == 1));
    }
    let chunk = Chunk {
        request,
        slot: Slot::Part(at(2, 0)),
        index: 1,
        payload: Bytes::from(vec![0; 16 * 1024]),
    };
    world.arrive(relay, 3, &Message::Chunk(chunk));
    for part in 1..4 {
        world.append(0, &stream, 2, part);
        world.run(200);
    }

    world.assert_whole(3, &stream, 0..3);
    assert_eq!(violations(&world, "chunk does not match its header"), 1);
}

#[test]
fn data_that_nobody_asked_for_closes_the_link_in_the_end() {
    let mut world = World::diamond();
    let stream = world.publish();
    let (header, _) = world.part(0, &stream, at(0, 0), 0);

    for request in 0..40 {
        let part = Part {
            request: RequestId(1_000_000 + request),
            header: header.clone(),
        };
        world.arrive(1, 3, &Message::Part(part));
    }

    let closed = (world.id(1), DisconnectReason::Violations);
    assert_eq!(world.hosts[3].disconnects, [closed]);
    assert_eq!(world.delivered(3, &stream), []);
    assert_eq!(world.hosts[3].node.streams().count(), 0);
}

#[test]
fn a_neighbour_that_misbehaves_is_replaced_without_a_hole() {
    let (mut world, stream, relay, _) = watched();
    let (header, _) = world.part(0, &stream, at(0, 0), 0);

    for request in 0..40 {
        let part = Part {
            request: RequestId(1_000_000 + request),
            header: header.clone(),
        };
        world.arrive(relay, 3, &Message::Part(part));
    }
    world.stream(&stream, 2..5);
    world.run(100);

    assert!(!world.linked(relay, 3));
    assert_eq!(world.parent(3, &stream), Some(3 - relay));
    world.assert_whole(3, &stream, 0..5);
}

#[test]
fn data_that_crosses_a_cancel_is_no_violation() {
    let (mut world, stream, relay, _) = watched();
    world.throttle(relay, 3, 400_000);
    for part in 0..4 {
        world.append(0, &stream, 2, part);
    }
    world.run(40);
    // Jumping to the other parent cancels this one while its data is on the way.
    world.freeze(relay);
    world.run(1000);
    world.stream(&stream, 3..5);
    world.run(200);

    world.assert_whole(3, &stream, 0..5);
    assert_eq!(world.hosts[3].node.stats().violations_total(), 0);
}

#[test]
fn a_parent_whose_own_path_leads_through_its_child_is_left() {
    let (mut world, stream, relay, request) = watched();
    let me = world.id(3).routing_key().prefix();
    let ack = SubAck {
        request,
        state: SubState::Live(None),
        load: 0,
        path: vec![1, me, 2],
    };

    world.arrive(relay, 3, &Message::SubAck(ack));
    world.stream(&stream, 2..4);

    assert_eq!(world.parent(3, &stream), Some(3 - relay));
    world.assert_whole(3, &stream, 0..4);
}

#[test]
fn a_silent_link_is_pinged_and_then_closed() {
    let mut world = World::pair();
    world.run(30_000);
    assert!(world.linked(0, 1), "both answer");

    world.freeze(0);
    // A quarter more than the pause until the Ping, whichever side is the first to ask.
    world.run(19_000 + 10_000);

    let silent = (world.id(0), DisconnectReason::Silent);
    assert_eq!(world.hosts[1].disconnects, [silent]);
}

#[test]
fn too_many_links_are_closed_at_once() {
    let mut world = World::new(0, 3);
    world.reconfigure(0, |config| config.max_peers = 2);
    for other in 1..=3 {
        world.connect(0, other);
    }

    let refused = (world.id(3), DisconnectReason::TooManyLinks);
    assert_eq!(world.hosts[0].disconnects, [refused]);
    assert_eq!(world.hosts[0].node.peers().count(), 2);
}

#[test]
fn a_neighbour_has_a_limited_number_of_subscriptions() {
    let mut world = World::pair();
    let stream = world.publish();
    let streams: Vec<StreamId> = (0..200)
        .map(|i| StreamId {
            rendition: format!("r{i}").parse().unwrap(),
            ..stream.clone()
        })
        .collect();
    for stream in &streams {
        world.open(0, stream);
        world.subscribe(1, stream);
    }
    world.run(100);

    let peer = world.hosts[0].node.peers().next().unwrap();
    assert_eq!(peer.to, 128);
    assert!(world.sent(1, 0, is_sub) >= 200);
}
