//! What a stranger can make a node send, before anything it asked for has turned out to
//! exist.

use headwater_proto::{
    BroadcastId, GetMasterPlaylist, Message, NodeStatusReq, RequestId, StreamId, Sub,
};

use super::world::{World, key};
use crate::{links::GRACE, output::message_bytes};

/// A stranger (7) at relay 6, which has five relays that are closer to most targets.
fn neighbourhood() -> World {
    let mut world = World::new(6, 1);
    for relay in 1..=5 {
        world.connect(relay, 6);
    }
    world.connect(6, 7);
    // It only listens: answers to what a test sends in its name are nothing to it.
    world.freeze(7);
    world
}

fn bytes_sent(world: &World, host: usize) -> usize {
    let sent = world.hosts[host].sent.iter();
    sent.map(|(_, message)| message_bytes(message)).sum()
}

fn stream(number: u64) -> StreamId {
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
            0 => Message::Sub(Sub {
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
        received += message_bytes(&message);
        world.arrive(7, 6, &message);
        world.run(20);
    }
    world.run(5000);

    let sent = bytes_sent(&world, 6);
    // Short answers come on top: they are a quarter of what they answer.
    assert!(
        sent <= received + GRACE + received / 4,
        "{sent} for {received}"
    );
    let answered = |m: &Message| {
        matches!(
            m,
            Message::NoRoute(_) | Message::NotFound(_) | Message::NodeStatusData(_)
        )
    };
    assert_eq!(world.sent(6, 7, answered), 400, "each is answered");
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
    world.arrive(stranger, 1, &Message::Sub(sub));
    world.run(1000);

    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 3..5);

    let got = world.delivered(2, &stream);
    assert_eq!(got.first(), Some(&super::world::at(2, 0)));
    assert_eq!(got.last(), Some(&super::world::at(4, 3)));
}
