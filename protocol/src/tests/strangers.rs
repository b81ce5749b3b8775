//! What a stranger can make a node send, before anything it asked for has turned out to
//! exist.

use headwater_proto::{
    BroadcastId, GetMasterPlaylist, Message, NodeStatusReq, RequestId, StreamId, Sub,
};

use super::world::{World, key};
use crate::links::GRACE;

/// A stranger (7) at relay 6, which has five relays that are closer to most targets.
pub(super) fn neighbourhood() -> World {
    let mut world = World::new(6, 1);
    for relay in 1..=5 {
        world.connect(relay, 6);
    }
    world.connect(6, 7);
    // It only listens: answers to what a test sends in its name are nothing to it.
    world.freeze(7);
    world
}

/// Bytes of a message, as it is encoded.
pub(super) fn on_the_wire(message: &Message) -> usize {
    headwater_proto::encode(message).unwrap().len()
}

fn bytes_sent(world: &World, host: usize) -> usize {
    let sent = world.hosts[host].sent.iter();
    sent.map(|(_, message)| on_the_wire(message)).sum()
}

pub(super) fn stream(number: u64) -> StreamId {
    let mut broadcast = [0; 16];
    broadcast[..8].copy_from_slice(&number.to_be_bytes());
    let mut stream = headwater_proto::ManifestId {
        node: key(0).node_id(),
        broadcast: BroadcastId::from_bytes(broadcast),
    }
    .source();
    stream.node = key((number % 200) as u8 + 40).node_id();
    stream
}

#[test]
fn a_stranger_makes_a_relay_send_no_more_than_it_sends_itself() {
    let mut world = neighbourhood();
    let mut received = 0;
    for number in 0..400 {
        let request = RequestId(number);
        let stream = stream(number);
        let manifest = headwater_proto::ManifestId {
            node: stream.node,
            broadcast: stream.broadcast,
        };
        let node = stream.node;
        let hops_left = 15;
        let message = match number % 3 {
            0 => Message::from(Sub {
                request,
                stream,
                from: None,
                hops_left,
            }),
            1 => Message::GetMasterPlaylist(GetMasterPlaylist {
                request,
                manifest,
                hops_left,
            }),
            _ => Message::NodeStatusReq(NodeStatusReq {
                request,
                node,
                hops_left,
            }),
        };
        received += on_the_wire(&message);
        world.arrive(7, 6, &message);
        world.run(20);
    }
    world.run(5000);

    let sent = bytes_sent(&world, 6);
    assert!(sent <= received + GRACE, "{sent} for {received}");
    let answered = |m: &Message| {
        matches!(
            m,
            Message::NoRoute(_) | Message::NotFound(_) | Message::NodeStatusData(_)
        )
    };
    assert_eq!(world.sent(6, 7, answered), 400, "each is answered");
}

#[test]
fn answers_to_one_who_has_left_are_nobodys_fault() {
    let mut world = World::new(2, 1);
    world.connect(1, 2);
    world.connect(2, 3);
    world.freeze(3);
    for number in 0..40 {
        let message = NodeStatusReq {
            request: RequestId(number),
            node: world.id(0),
            hops_left: 9,
        };
        world.arrive(3, 2, &Message::NodeStatusReq(message));
    }
    assert!(world.sent(2, 1, |m| matches!(m, Message::NodeStatusReq(_))) > 16);

    // It is gone before the answers come.
    world.cut(2, 3);
    world.run(5000);

    assert_eq!(world.hosts[2].node.stats().violations_total(), 0);
    assert!(world.linked(1, 2));
}

#[test]
fn a_flood_of_requests_ends_the_link() {
    let mut world = neighbourhood();
    let ask = |world: &mut World, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let message = NodeStatusReq {
                request: RequestId(number),
                node: key(240).node_id(),
                hops_left: 9,
            };
            world.arrive(7, 6, &Message::NodeStatusReq(message));
        }
    };
    ask(&mut world, 0..700);
    world.run(10);
    assert!(world.linked(6, 7), "a busy relay may ask as much");
    let passed =
        (1..=5).map(|relay| world.sent(6, relay, |m| matches!(m, Message::NodeStatusReq(_))));
    assert!(passed.sum::<usize>() <= 200);

    ask(&mut world, 700..1200);
    world.run(10);

    assert!(!world.linked(6, 7));
    let reason = crate::DisconnectReason::Violations;
    assert_eq!(world.hosts[6].disconnects, [(world.id(7), reason)]);
}

#[test]
fn one_neighbour_causes_a_search_by_the_driver_every_other_second_at_most() {
    let mut world = World::new(1, 1);
    world.connect(1, 2);
    world.freeze(2);
    for number in 0..200 {
        let message = NodeStatusReq {
            request: RequestId(number),
            node: stream(number).node,
            hops_left: 9,
        };
        world.arrive(2, 1, &Message::NodeStatusReq(message));
        world.run(50);
    }

    let lookups = world.hosts[1].node.stats().lookups;
    assert!((1..=5).contains(&lookups), "{lookups} in ten seconds");
}

#[test]
fn who_is_sent_a_stream_may_go_on_asking() {
    let mut world = World::line(1);
    let stream = world.publish();
    for round in 0..60 {
        world.subscribe(2, &stream);
        world.run(100);
        world.stream(&stream, round..round + 1);
        world.unsubscribe(2, &stream);
        world.run(4000);
    }

    assert_eq!(world.waits(2), []);
    assert_eq!(world.hosts[1].node.stats().overloaded, 0);
}

#[test]
fn a_subscription_far_ahead_keeps_nobody_from_what_there_is() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.stream(&stream, 0..3);
    let stranger = world.add(key(222), headwater_proto::Roles::default());
    world.connect(1, stranger);
    let sub = Sub {
        request: RequestId(5),
        stream: stream.clone(),
        from: Some(super::world::at(1 << 40, 0)),
        hops_left: 9,
    };
    world.arrive(stranger, 1, &Message::from(sub));
    world.run(1000);

    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 3..5);

    let got = world.delivered(2, &stream);
    assert_eq!(got.first(), Some(&super::world::at(2, 0)));
    assert_eq!(got.last(), Some(&super::world::at(4, 3)));
}
