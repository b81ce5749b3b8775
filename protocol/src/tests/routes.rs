//! Where requests go, and that they end.

use headwater_proto::{Message, NoRouteReason, RequestId, StreamId, Sub};

use super::world::{World, is_sub, key};
use crate::Failure;

fn elsewhere() -> StreamId {
    let mut world = World::new(0, 0);
    world.hosts[0].id = key(250).node_id();
    world.manifest(0).source()
}

/// All subscriptions that were sent in a world.
fn subs(world: &World) -> usize {
    let hosts = world.hosts.iter();
    hosts
        .map(|h| h.sent.iter().filter(|(_, m)| is_sub(m)).count())
        .sum()
}

#[test]
fn a_request_makes_no_loop_in_a_ring_of_relays() {
    let mut world = World::new(6, 1);
    for relay in 1..=6 {
        world.connect(relay, relay % 6 + 1);
    }
    world.connect(7, 3);
    let stream = elsewhere();

    world.subscribe(7, &stream);
    world.run(200);

    assert!(subs(&world) <= 6, "{} subscriptions", subs(&world));
    assert_eq!(
        world.waits(7),
        [Failure::NoRoute(NoRouteReason::NoCloserPeer)]
    );
    for relay in 1..=6 {
        assert_eq!(
            world.hosts[relay].node.streams().count(),
            0,
            "relay {relay}"
        );
    }
}

#[test]
fn a_ring_of_relays_delivers_both_ways_round() {
    let mut world = World::new(4, 1);
    for (a, b) in [(0, 1), (1, 3), (3, 5), (0, 2), (2, 4), (4, 5)] {
        world.connect(a, b);
    }
    let stream = world.publish();
    world.subscribe(5, &stream);
    world.run(200);
    world.stream(&stream, 0..2);

    let used = world.parent(5, &stream).unwrap();
    world.kill(used);
    world.stream(&stream, 2..5);
    world.run(300);

    world.assert_whole(5, &stream, 0..5);
    assert_eq!(world.parent(5, &stream), Some(7 - used));
}

#[test]
fn a_relayer_does_not_ask_one_that_is_farther_than_itself() {
    let mut world = World::new(2, 0);
    world.connect(1, 2);
    let stream = world.manifest(0).source();

    // Host 1 is nearer to the owner than host 2.
    world.subscribe(1, &stream);
    world.run(1000);

    assert_eq!(subs(&world), 0);
    assert_eq!(
        world.waits(1),
        [Failure::NoRoute(NoRouteReason::NoCloserPeer)]
    );
}

#[test]
fn a_request_without_hops_left_goes_no_further() {
    let mut world = World::line(1);
    let stream = world.publish();
    let request = RequestId(77);
    let sub = Sub {
        request,
        stream,
        from: None,
        hops_left: 0,
    };

    world.arrive(2, 1, &Message::from(sub));
    world.run(100);

    let limit = |m: &Message| matches!(m, Message::NoRoute(n) if n.request == request && n.reason == NoRouteReason::HopLimit);
    assert_eq!(world.sent(1, 2, limit), 1);
    assert_eq!(world.sent(1, 0, is_sub), 0);
}

#[test]
fn a_node_that_is_no_relayer_passes_nothing_on_but_serves_what_it_has() {
    let mut world = World::new(0, 2);
    world.connect(0, 1);
    world.connect(1, 2);
    let stream = world.publish();
    let sub = |request| {
        Message::from(Sub {
            request: RequestId(request),
            stream: stream.clone(),
            from: None,
            hops_left: 9,
        })
    };

    world.arrive(2, 1, &sub(1));
    assert_eq!(world.sent(1, 2, |m| matches!(m, Message::NoRoute(_))), 1);

    world.subscribe(1, &stream);
    world.run(100);
    world.stream(&stream, 0..2);
    world.arrive(2, 1, &sub(2));

    assert_eq!(world.children(1, &stream), [2]);
    assert!(world.sent(1, 2, |m| matches!(m, Message::Chunk(_))) > 0);
}
