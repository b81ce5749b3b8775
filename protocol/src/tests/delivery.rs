//! Streams over small networks: order, completeness, waiting, ends.

use headwater_proto::Message;

use super::world::{World, at, is_cancel, is_sub};
use crate::Failure;

#[test]
fn a_pair_delivers_everything_in_order_and_once() {
    let mut world = World::pair();
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.run(100);

    world.stream(&stream, 10..15);

    world.assert_whole(1, &stream, 10..15);
}

#[test]
fn a_line_of_four_delivers_everything_in_order_and_once() {
    let mut world = World::line(2);
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(200);

    world.stream(&stream, 0..5);
    world.run(100);

    world.assert_whole(3, &stream, 0..5);
    assert_eq!(world.parent(3, &stream), Some(2));
    assert_eq!(world.parent(2, &stream), Some(1));
}

#[test]
fn the_broadcaster_sees_one_subscription_of_two_viewers_behind_a_relay() {
    let mut world = World::star(2);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.subscribe(3, &stream);
    world.run(100);

    world.stream(&stream, 0..4);
    world.run(100);

    world.assert_whole(2, &stream, 0..4);
    world.assert_whole(3, &stream, 0..4);
    assert_eq!(world.hosts[0].node.stats().subs_in, 1);
    assert_eq!(world.children(0, &stream), [1]);
}

#[test]
fn a_relay_forwards_a_chunk_before_its_part_is_complete() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    // 16 KiB take 164 ms to the relay, the whole part 400 ms.
    world.throttle(0, 1, 100_000);

    world.append(0, &stream, 0, 0);
    world.run(250);

    let chunks = world.sent(
        1,
        2,
        |m| matches!(m, Message::Chunk(c) if c.slot == headwater_proto::Slot::Part(at(0, 0))),
    );
    assert_eq!(chunks, 1);
    assert_eq!(world.delivered(2, &stream), []);
    world.run(400);
    assert_eq!(world.delivered(2, &stream), [at(0, 0)]);
}

#[test]
fn a_subscriber_waits_for_its_broadcaster() {
    let mut world = World::line(1);
    let stream = world.manifest(0).source();
    world.subscribe(2, &stream);
    world.run(5000);
    assert_eq!(world.waits(2), [Failure::NotFound]);
    assert_eq!(world.finishes(2), 0);

    world.publish();
    world.run(2600);
    world.stream(&stream, 0..3);

    world.assert_whole(2, &stream, 0..3);
}

#[test]
fn a_subscriber_without_neighbours_begins_when_it_has_one() {
    let mut world = World::new(0, 1);
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.run(10_000);
    assert_eq!(world.waits(1), [Failure::NoPeers]);

    world.connect(0, 1);
    world.run(50);
    world.stream(&stream, 0..2);

    world.assert_whole(1, &stream, 0..2);
}

#[test]
fn the_last_unsubscriber_ends_the_stream_at_every_relay() {
    let mut world = World::line(2);
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..2);

    world.unsubscribe(3, &stream);
    world.run(12_000);

    assert_eq!(world.children(0, &stream), []);
    assert_eq!(world.sent(1, 0, is_cancel), 1);
    for host in 1..=3 {
        assert_eq!(world.hosts[host].node.streams().count(), 0, "host {host}");
    }
}

#[test]
fn a_viewer_that_comes_back_soon_finds_the_stream_still_there() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..2);

    world.unsubscribe(2, &stream);
    world.run(1000);
    world.subscribe(2, &stream);
    world.run(1000);

    assert_eq!(world.sent(2, 1, is_sub), 1);
    assert_eq!(world.sent(2, 1, is_cancel), 0);
}

#[test]
fn a_late_viewer_is_served_from_the_relays_ring_at_once() {
    let mut world = World::star(2);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..4);
    world.append(0, &stream, 4, 0);
    world.run(100);

    world.subscribe(3, &stream);
    world.run(30);

    let expected: Vec<_> = (0..4).map(|part| at(3, part)).chain([at(4, 0)]).collect();
    assert_eq!(world.delivered(3, &stream), expected);
    assert_eq!(world.hosts[0].node.stats().subs_in, 1);
}

#[test]
fn a_position_older_than_the_ring_is_answered_with_a_gap() {
    let mut world = World::pair();
    let stream = world.publish();
    world.stream(&stream, 0..12);

    world.subscribe_from(1, &stream, Some(at(1, 2)));
    world.run(500);

    assert_eq!(world.gaps(1), [(at(1, 2), at(4, 0))]);
    assert_eq!(world.delivered(1, &stream).first(), Some(&at(4, 0)));
}

#[test]
fn a_position_that_is_yet_to_come_is_waited_for() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.stream(&stream, 0..2);
    world.subscribe_from(2, &stream, Some(at(4, 0)));
    world.run(100);

    world.stream(&stream, 2..6);
    world.run(100);

    world.assert_whole(2, &stream, 4..6);
}

#[test]
fn the_end_comes_after_the_last_part_though_it_overtakes_it() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.throttle(1, 2, 200_000);
    world.stream(&stream, 0..1);
    world.finish(&stream, Some(0));

    world.run(100);
    assert_eq!(world.sent(1, 2, |m| matches!(m, Message::Finish(_))), 1);
    assert_eq!(world.finishes(2), 0);
    world.run(2000);

    world.assert_whole(2, &stream, 0..1);
    assert_eq!(world.finishes(2), 1);
}

#[test]
fn a_late_viewer_of_an_ended_stream_gets_what_is_left_and_the_end() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.stream(&stream, 0..3);
    world.finish(&stream, Some(2));
    world.run(5000);

    world.subscribe_from(2, &stream, Some(at(0, 0)));
    world.run(500);

    world.assert_whole(2, &stream, 0..3);
    assert_eq!(world.finishes(2), 1);
}

#[test]
fn an_ended_stream_is_forgotten_everywhere() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..2);
    world.finish(&stream, Some(1));
    world.run(40_000);

    for host in 0..3 {
        assert_eq!(world.hosts[host].node.streams().count(), 0, "host {host}");
    }
    world.subscribe(2, &stream);
    world.run(300);
    assert_eq!(world.waits(2), [Failure::NotFound]);
}

#[test]
fn who_keeps_an_ended_stream_that_nobody_wants_sleeps_until_it_is_forgotten() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.stream(&stream, 0..2);
    world.finish(&stream, Some(1));
    world.run(5_000);

    let woken = |world: &World| {
        world
            .hosts
            .iter()
            .map(|h| h.node.stats().inputs)
            .sum::<u64>()
    };
    let before = woken(&world);
    world.run(20_000);
    let times = woken(&world) - before;
    assert!(times < 50, "{times} inputs, besides some pings");
}

#[test]
fn a_stream_that_ends_without_a_part_ends() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);

    world.finish(&stream, None);
    world.run(100);

    assert_eq!(world.finishes(2), 1);
}

#[test]
fn a_jump_of_the_owner_is_a_gap_for_every_subscriber() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..2);

    let (header, chunks) = world.part(0, &stream, at(9, 0), 1);
    world.must(0, crate::Command::Append { header, chunks });
    world.run(100);

    assert_eq!(world.gaps(2), [(at(2, 0), at(9, 0))]);
    assert_eq!(world.delivered(2, &stream).last(), Some(&at(9, 0)));
}

#[test]
fn the_node_that_owns_a_stream_can_watch_it_itself() {
    let mut world = World::pair();
    let stream = world.publish();
    world.subscribe(0, &stream);
    world.stream(&stream, 0..2);
    world.finish(&stream, Some(1));

    world.assert_whole(0, &stream, 0..2);
    assert_eq!(world.finishes(0), 1);
}

#[test]
fn a_quiet_stream_keeps_its_subscribers() {
    let mut world = World::line(2);
    world.hosts.iter_mut().for_each(|h| h.dialable = false);
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(60_000);

    world.stream(&stream, 0..1);

    world.assert_whole(3, &stream, 0..1);
    assert_eq!(world.sent(3, 2, is_sub), 1);
    let view = world.hosts[1].node.streams().next().unwrap();
    assert!(!view.owned && !view.delivered && view.live);
}

#[test]
fn chunks_go_in_the_class_of_their_header() {
    let mut world = World::new(1, 1);
    world.credit = 60_000;
    world.connect(0, 1);
    world.connect(1, 2);
    let stream = world.publish();
    world.stream(&stream, 0..6);
    world.throttle(1, 2, 200_000);

    // What is backfill when it begins to be sent is near the edge when the link has room.
    world.subscribe_from(2, &stream, Some(at(0, 0)));
    world.run(3000);
    world.finish(&stream, Some(5));
    world.run(6000);

    let mut classes = std::collections::BTreeMap::new();
    for (sent, class) in &world.hosts[1].classes {
        let slot = match sent {
            Message::Part(part) => part.header.value().slot,
            Message::Chunk(chunk) => chunk.slot,
            _ => continue,
        };
        let first = *classes.entry(slot).or_insert(*class);
        assert_eq!(*class, first, "{slot:?}");
    }
    let distinct: std::collections::BTreeSet<_> = classes.values().collect();
    assert_eq!(distinct.len(), 2, "backfill, then live");
    world.assert_whole(2, &stream, 0..6);
}
