//! Parents that die, fall silent or refuse; parts that go missing.

use headwater_proto::{Chunk, Gap, Message, NoRouteReason, Position, SubState};

use super::world::{World, at, is_cancel, is_sub};
use crate::{Delivery, Event, Failure};

/// The relay that feeds host 3 of a diamond, and the other one.
fn used_and_spare(world: &World, stream: &headwater_proto::StreamId) -> (usize, usize) {
    let used = world.parent(3, stream).unwrap();
    (used, 3 - used)
}

#[test]
fn a_killed_relay_leaves_no_hole_and_no_repeat() {
    let mut world = World::diamond();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..2);
    let (used, spare) = used_and_spare(&world, &stream);

    world.append(0, &stream, 2, 0);
    world.kill(used);
    world.append(0, &stream, 2, 1);
    world.append(0, &stream, 2, 2);
    world.append(0, &stream, 2, 3);
    world.stream(&stream, 3..6);
    world.run(200);

    world.assert_whole(3, &stream, 0..6);
    assert_eq!(world.parent(3, &stream), Some(spare));
    assert_eq!(world.waits(3), []);
}

#[test]
fn a_relay_that_dies_within_a_part_leaves_no_hole_and_no_repeat() {
    let mut world = World::diamond();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..2);
    let (used, _) = used_and_spare(&world, &stream);
    world.throttle(used, 3, 100_000);

    world.append(0, &stream, 2, 0);
    world.run(250);
    let view = world.hosts[3].node.streams().next().unwrap();
    assert_eq!(view.edge, Some(at(2, 0)), "it has begun");
    assert_eq!(
        world.delivered(3, &stream).last(),
        Some(&at(1, 3)),
        "it is not whole"
    );
    world.kill(used);
    world.append(0, &stream, 2, 1);
    world.append(0, &stream, 2, 2);
    world.append(0, &stream, 2, 3);
    world.run(500);

    world.assert_whole(3, &stream, 0..3);
}

#[test]
fn a_silent_relay_is_left_within_a_second() {
    let mut world = World::diamond();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..2);
    let (used, spare) = used_and_spare(&world, &stream);

    world.freeze(used);
    world.stream(&stream, 2..7);
    world.run(100);

    assert_eq!(world.parent(3, &stream), Some(spare));
    assert_eq!(world.sent(3, used, is_cancel), 1);
    world.assert_whole(3, &stream, 0..7);
}

#[test]
fn a_node_does_not_go_back_and_forth_between_two_silent_parents() {
    // Three relays; the two nearest say they are live and then nothing.
    let mut world = World::new(3, 1);
    for relay in 1..=3 {
        world.connect(0, relay);
        world.connect(relay, 4);
    }
    let stream = world.publish();
    let mut mutes = [1, 2];
    for relay in mutes {
        world.subscribe(relay, &stream);
    }
    world.run(200);
    world.stream(&stream, 0..1);
    for relay in &mut mutes {
        // It takes a subscription on, and that is all it does.
        world.hosts[*relay].swallows = Some(|m| {
            matches!(m, Message::Part(_) | Message::Chunk(_))
                || matches!(m, Message::SubAck(ack) if matches!(ack.state, SubState::Live(Some(p)) if p.segment > 0))
        });
    }
    world.subscribe(4, &stream);
    world.run(50);
    world.stream(&stream, 1..20);

    assert_eq!(world.parent(4, &stream), Some(3));
    assert_eq!(world.delivered(4, &stream).last(), Some(&at(19, 3)));
}

#[test]
fn children_of_a_relay_wait_while_it_finds_another_parent() {
    // 0 - 1 - 3 - 4 and 0 - 2 - 3: relay 3 loses relay 1 and takes relay 2.
    let mut world = World::new(3, 1);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)] {
        world.connect(a, b);
    }
    let stream = world.publish();
    world.subscribe(4, &stream);
    world.run(200);
    world.stream(&stream, 0..2);
    let used = world.parent(3, &stream).unwrap();

    world.kill(used);
    world.stream(&stream, 2..5);
    world.run(200);

    world.assert_whole(4, &stream, 0..5);
    assert_eq!(
        world.sent(4, 3, is_sub),
        1,
        "the viewer stayed where it was"
    );
    assert_eq!(world.sent(3, 4, is_pending), 1);
}

#[test]
fn a_subtree_whose_relay_finds_no_parent_goes_on_when_one_appears() {
    let mut world = World::line(2);
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(200);
    world.stream(&stream, 0..2);

    world.cut(0, 1);
    world.run(4000);
    assert!(
        world
            .waits(3)
            .contains(&Failure::NoRoute(NoRouteReason::NoCloserPeer))
    );
    world.connect(0, 1);
    world.run(2600);
    world.stream(&stream, 2..4);
    world.run(200);

    world.assert_whole(3, &stream, 0..4);
    assert_eq!(world.finishes(3), 0);
}

#[test]
fn what_was_published_during_an_outage_is_fetched_from_the_ring() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..2);

    world.cut(1, 2);
    world.stream(&stream, 2..5);
    world.connect(1, 2);
    world.run(3000);
    world.stream(&stream, 5..6);
    world.run(100);

    world.assert_whole(2, &stream, 0..6);
}

#[test]
fn a_refusing_relay_is_followed_by_another() {
    let mut world = World::diamond();
    world.cut(0, 1);
    let stream = world.publish();

    world.subscribe(3, &stream);
    world.run(500);
    world.stream(&stream, 0..2);

    world.assert_whole(3, &stream, 0..2);
    assert_eq!(world.parent(3, &stream), Some(2));
    let no_routes = world.sent(1, 3, |m| matches!(m, Message::NoRoute(_)));
    assert_eq!(no_routes, 1);
}

#[test]
fn a_full_broadcaster_turns_children_away_and_they_find_another_way() {
    let mut world = World::new(1, 3);
    world.reconfigure(0, |config| config.max_children = 1);
    for viewer in [2, 3, 4] {
        world.connect(0, viewer);
        world.connect(1, viewer);
    }
    world.connect(0, 1);
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.run(100);

    world.subscribe(2, &stream);
    world.subscribe(3, &stream);
    world.subscribe(4, &stream);
    world.run(500);
    world.stream(&stream, 0..2);
    world.run(100);

    assert_eq!(world.children(0, &stream), [1]);
    for viewer in [2, 3, 4] {
        world.assert_whole(viewer, &stream, 0..2);
        assert_eq!(world.parent(viewer, &stream), Some(1));
    }
}

#[test]
fn a_change_of_parents_is_told() {
    let mut world = World::diamond();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..1);
    let (used, spare) = used_and_spare(&world, &stream);
    world.kill(used);
    world.stream(&stream, 1..2);

    let (used, spare) = (Some(world.id(used)), Some(world.id(spare)));
    let change = |from, to| Event::ParentChanged {
        stream: stream.clone(),
        from,
        to,
    };
    let expected = [change(None, used), change(used, None), change(None, spare)];
    assert_eq!(world.hosts[3].events, expected);
}

#[test]
fn a_relay_that_says_pending_for_too_long_is_left() {
    let mut world = World::diamond();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..1);
    let (used, spare) = used_and_spare(&world, &stream);

    // The relay keeps its links and says Pending, but its own way up hangs.
    let request = last_sub(&world, 3, used);
    world.freeze(used);
    for _ in 0..14 {
        world.arrive(
            used,
            3,
            &Message::SubAck(headwater_proto::SubAck {
                request,
                state: SubState::Pending,
                load: 0,
                path: Vec::new(),
            }),
        );
        world.run(200);
    }

    assert_eq!(world.parent(3, &stream), Some(spare));
}

#[test]
fn a_missing_part_is_asked_for_and_comes() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..1);

    // One chunk and one whole part never reach the viewer.
    world.append(0, &stream, 1, 0);
    world.run(15);
    world.lose(1, 2, |m| {
        matches!(m, Message::Chunk(Chunk { index: 1, .. }))
    });
    world.run(5);
    world.append(0, &stream, 1, 1);
    world.run(15);
    world.lose(1, 2, |m| matches!(m, Message::Chunk(_) | Message::Part(_)));
    world.append(0, &stream, 1, 2);
    world.append(0, &stream, 1, 3);
    world.run(1000);

    world.assert_whole(2, &stream, 0..2);
    assert!(world.hosts[2].node.stats().nacks_out >= 2);
}

#[test]
fn a_part_that_never_comes_becomes_a_gap() {
    let mut world = World::pair();
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.run(100);
    world.stream(&stream, 0..1);

    // The owner has it, but every copy is lost.
    world.append(0, &stream, 1, 0);
    world.lose(0, 1, |m| matches!(m, Message::Chunk(_)));
    for part in 1..4 {
        world.append(0, &stream, 1, part);
    }
    for step in 0..600 {
        world.run(5);
        if step % 60 == 59 {
            let part = step / 60;
            world.append(0, &stream, 2 + u64::from(part / 4), part % 4);
        }
        world.lose(
            0,
            1,
            |m| matches!(m, Message::Chunk(c) if c.slot == headwater_proto::Slot::Part(at(1, 0))),
        );
    }

    assert_eq!(world.gaps(1), [(at(1, 0), at(1, 1))]);
    assert_eq!(world.delivered(1, &stream).last(), Some(&at(4, 0)));
}

#[test]
fn a_gap_without_the_part_after_it_changes_nothing() {
    let mut world = World::pair();
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.run(100);
    world.stream(&stream, 0..1);

    let request = last_sub(&world, 1, 0);
    let to = Position {
        segment: headwater_proto::limits::MAX_SEGMENT,
        part: 0,
    };
    world.arrive(
        0,
        1,
        &Message::Gap(Gap {
            request,
            from: at(1, 0),
            to,
        }),
    );
    world.stream(&stream, 1..3);

    world.assert_whole(1, &stream, 0..3);
}

#[test]
fn a_slow_viewer_delays_no_other_and_is_told_what_it_missed() {
    let mut world = World::star(2);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.subscribe(3, &stream);
    world.run(100);
    // A part of 40 kB each 50 ms needs 800 kB/s.
    world.throttle(1, 2, 150_000);

    let segments = 40;
    for segment in 0..segments {
        let before = world.count_parts(3);
        world.stream(&stream, segment..segment + 1);
        assert!(world.count_parts(3) >= before + 3, "the fast one keeps up");
    }
    world.run(100);

    world.assert_whole(3, &stream, 0..segments);
    let slow = world.delivered(2, &stream);
    assert!(slow.is_sorted_by(|a, b| a < b), "in order, none twice");
    assert!(
        slow.last().unwrap().segment > segments / 2,
        "it was moved ahead"
    );
    assert!(world.hosts[1].node.stats().children_skipped > 0);
    assert_accounted(&world, 2);
}

/// Asserts that every position is delivered or told as a gap, up to the last.
fn assert_accounted(world: &World, host: usize) {
    let mut next = None;
    for (_, delivery) in &world.hosts[host].deliveries {
        match delivery {
            Delivery::Part {
                position, media, ..
            } => {
                assert!(next.is_none_or(|next| next == *position), "{next:?}");
                next = Some(if media.last {
                    at(position.segment + 1, 0)
                } else {
                    at(position.segment, position.part + 1)
                });
            }
            Delivery::Gap { from, to } => {
                assert!(next.is_none_or(|next| next == *from), "{next:?}");
                next = Some(*to);
            }
            Delivery::Init { .. } | Delivery::Finished | Delivery::Waiting(_) => {}
        }
    }
}

fn last_sub(world: &World, from: usize, to: usize) -> headwater_proto::RequestId {
    let to = world.id(to);
    let mut all = world.hosts[from].sent.iter().rev();
    all.find_map(|(target, message)| match message {
        Message::Sub(sub) if *target == to => Some(sub.request),
        _ => None,
    })
    .unwrap()
}

fn is_pending(message: &Message) -> bool {
    matches!(message, Message::SubAck(ack) if ack.state == SubState::Pending)
}
