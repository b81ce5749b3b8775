//! Parents that have not got a part, or send nothing though they say they are live.

use headwater_proto::{Chunk, Message, Part, Position, RequestId, Slot, StreamId};

use super::world::{World, at, is_cancel};

const LOST: Position = at(13, 1);

fn is_lost(slot: Slot) -> bool {
    slot == Slot::Part(LOST)
}

fn lost_part(message: &Message) -> bool {
    match message {
        Message::Part(Part { header, .. }) => is_lost(header.value().slot),
        Message::Chunk(Chunk { slot, .. }) => is_lost(*slot),
        _ => false,
    }
}

fn data(message: &Message) -> bool {
    matches!(message, Message::Part(_) | Message::Chunk(_))
}

/// Host 3 watches through one of two relays that both carry the stream; returns that
/// relay and the other one, its standby.
fn with_standby() -> (World, StreamId, usize, usize) {
    let mut world = World::new(2, 1);
    for relay in [1, 2] {
        world.connect(0, relay);
        world.connect(relay, 3);
    }
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.subscribe(2, &stream);
    world.subscribe(3, &stream);
    world.run(200);
    world.stream(&stream, 0..12);
    let used = world.parent(3, &stream).unwrap();
    let view = world.hosts[3].node.streams().next().unwrap();
    assert_eq!(view.standby, Some(world.id(3 - used)));
    (world, stream, used, 3 - used)
}

#[test]
fn a_part_that_the_parent_never_sends_comes_from_the_standby() {
    let (mut world, stream, used, _) = with_standby();
    world.hosts[used].swallows = Some(lost_part);

    world.stream(&stream, 12..20);
    world.run(600);

    world.assert_whole(3, &stream, 0..20);
    assert_eq!(
        world.parent(3, &stream),
        Some(used),
        "for one part none is left"
    );
}

#[test]
fn a_part_that_the_parent_never_sends_comes_from_another_neighbour() {
    let mut world = World::diamond();
    world.hosts.iter_mut().for_each(|h| h.dialable = false);
    world.reconfigure(3, |config| config.standby = false);
    for relay in [1, 2] {
        world.cut(relay, 3);
        world.connect(relay, 3);
    }
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..12);
    let used = world.parent(3, &stream).unwrap();
    world.hosts[used].swallows = Some(lost_part);

    world.stream(&stream, 12..14);
    world.run(1500);
    world.stream(&stream, 14..16);

    world.assert_whole(3, &stream, 0..16);
    assert_eq!(world.parent(3, &stream), Some(3 - used));
}

#[test]
fn a_part_that_the_parent_never_sends_comes_from_whom_a_full_neighbour_names() {
    let mut world = World::new(3, 1);
    world.reconfigure(4, |config| config.standby = false);
    // The nearer relay is asked first; the other one has a single place.
    world.reconfigure(2, |config| config.max_children = 1);
    for (a, b) in [(0, 1), (0, 2), (2, 3), (1, 4), (2, 4)] {
        world.connect(a, b);
    }
    world.tell_addresses(2);
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.subscribe(4, &stream);
    world.run(200);
    world.stream(&stream, 0..12);
    assert_eq!(world.parent(4, &stream), Some(1));
    assert_eq!(world.children(2, &stream), [3]);
    world.hosts[1].swallows = Some(lost_part);

    world.stream(&stream, 12..30);

    world.assert_whole(4, &stream, 0..30);
    assert_eq!(world.parent(4, &stream), Some(3));
}

#[test]
fn a_part_that_the_parent_never_sends_comes_though_two_others_are_dead() {
    // Whichever of the other three is asked last.
    for alive in 0..3 {
        let mut world = World::new(4, 1);
        world.hosts.iter_mut().for_each(|h| h.dialable = false);
        world.reconfigure(5, |config| {
            config.standby = false;
            config.gap_after = std::time::Duration::from_millis(1500);
        });
        for relay in 1..=4 {
            world.connect(0, relay);
            world.connect(relay, 5);
        }
        let stream = world.publish();
        world.subscribe(5, &stream);
        world.run(100);
        world.stream(&stream, 0..12);
        let used = world.parent(5, &stream).unwrap();
        world.hosts[used].swallows = Some(lost_part);
        let others: Vec<_> = (1..=4).filter(|relay| *relay != used).collect();
        for (number, other) in others.into_iter().enumerate() {
            if number != alive {
                world.freeze(other);
            }
        }

        world.stream(&stream, 12..20);
        world.run(2500);

        world.assert_whole(5, &stream, 0..20);
    }
}

#[test]
fn a_gap_of_the_parent_is_filled_by_the_standby() {
    let (mut world, stream, used, _) = with_standby();
    // The parent has lost the part for good, and says so.
    let request = sub_request(&world, 3, used);
    world.hosts[used].swallows = Some(lost_part);
    world.stream(&stream, 12..14);
    world.arrive(
        used,
        3,
        &Message::Gap(headwater_proto::Gap {
            request,
            from: LOST,
            to: at(13, 2),
        }),
    );
    world.stream(&stream, 14..18);
    world.run(600);

    world.assert_whole(3, &stream, 0..18);
}

#[test]
fn a_parent_that_says_it_is_live_and_sends_nothing_is_replaced_by_the_standby() {
    let (mut world, stream, used, spare) = with_standby();
    world.hosts[used].swallows = Some(data);

    world.stream(&stream, 12..30);
    world.run(300);

    assert_eq!(world.parent(3, &stream), Some(spare));
    world.assert_whole(3, &stream, 0..30);
    assert_eq!(world.sent(3, used, is_cancel), 1);
}

#[test]
fn a_parent_that_sends_nothing_is_doubted_without_a_standby_too() {
    let mut world = World::diamond();
    world.reconfigure(3, |config| config.standby = false);
    for relay in [1, 2] {
        world.cut(relay, 3);
        world.connect(relay, 3);
    }
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..4);
    let used = world.parent(3, &stream).unwrap();
    world.hosts[used].swallows = Some(data);

    world.stream(&stream, 4..24);
    world.run(300);

    assert_eq!(world.parent(3, &stream), Some(3 - used));
    world.assert_whole(3, &stream, 0..24);
}

#[test]
fn a_parent_that_lags_is_replaced_by_the_standby() {
    let (mut world, stream, used, spare) = with_standby();
    // A part takes 50 ms to make and 66 ms to send: it falls behind and further behind.
    world.throttle(used, 3, 600_000);

    world.stream(&stream, 12..60);
    world.run(1000);

    assert_eq!(world.parent(3, &stream), Some(spare));
    world.assert_whole(3, &stream, 0..60);
}

#[test]
fn a_quiet_stream_does_not_move() {
    let (mut world, stream, used, _) = with_standby();
    world.run(40_000);
    world.stream(&stream, 12..14);

    assert_eq!(world.parent(3, &stream), Some(used));
    world.assert_whole(3, &stream, 0..14);
}

#[test]
fn children_of_a_new_parent_that_are_behind_each_other_lose_nothing() {
    let mut world = World::new(2, 2);
    world.connect(0, 1);
    world.connect(0, 2);
    for viewer in [3, 4] {
        world.connect(2, viewer);
    }
    let stream = world.publish();
    world.stream(&stream, 0..4);

    // Two orphans come to a relay that has nothing yet, the one that is ahead first.
    world.subscribe_from(3, &stream, Some(at(3, 2)));
    world.run(100);
    world.subscribe_from(4, &stream, Some(at(1, 1)));
    world.run(300);
    world.stream(&stream, 4..5);

    let got = world.delivered(4, &stream);
    assert_eq!(got.first(), Some(&at(1, 1)));
    assert_eq!(got.len(), 3 + 3 * 4);
    assert_eq!(world.gaps(4), []);
    assert_eq!(world.delivered(3, &stream).first(), Some(&at(3, 2)));
    assert_eq!(world.gaps(3), []);
}

fn sub_request(world: &World, from: usize, to: usize) -> RequestId {
    let to = world.id(to);
    let mut all = world.hosts[from].sent.iter();
    all.find_map(|(target, message)| match message {
        Message::Sub(sub) if *target == to => Some(sub.request),
        _ => None,
    })
    .unwrap()
}
