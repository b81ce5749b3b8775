//! Trees: capped children, newcomers sent down, links of the chain that leave, cycles.

use std::collections::BTreeSet;

use headwater_proto::{Message, NoRouteReason, StreamId, limits::MAX_PATH};

use super::world::{World, at, is_cancel, is_redirect, is_sub};

/// A broadcaster that takes `room` children, with `viewers` linked to it only.
fn crowd(room: usize, viewers: usize) -> World {
    let mut world = World::new(0, viewers);
    for host in 0..=viewers {
        world.reconfigure(host, |config| config.max_children = room);
    }
    for viewer in 1..=viewers {
        world.connect(0, viewer);
    }
    world
}

fn depth(world: &World, host: usize, stream: &StreamId) -> usize {
    let mut views = world.hosts[host].node.streams();
    views.find(|view| view.stream == *stream).unwrap().depth - 1
}

/// Asserts that following the parents leads every host that has one to the owner.
fn assert_a_tree(world: &World, stream: &StreamId) {
    for host in 1..world.hosts.len() {
        let mut seen = BTreeSet::new();
        let mut here = host;
        while let Some(parent) = world.parent(here, stream) {
            assert!(seen.insert(here), "host {host} is on a cycle: {seen:?}");
            here = parent;
        }
    }
}

#[test]
fn children_of_a_crowded_relay_spread_and_then_stay_where_they_are() {
    let mut world = World::new(2, 7);
    for relay in [1, 2] {
        world.reconfigure(relay, |config| config.max_children = 8);
        world.connect(0, relay);
    }
    let viewers: Vec<_> = (3..10).collect();
    for viewer in &viewers {
        world.connect(1, *viewer);
        world.connect(2, *viewer);
    }
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.subscribe(2, &stream);
    world.run(200);
    viewers.iter().for_each(|v| world.subscribe(*v, &stream));
    world.stream(&stream, 0..5);
    let of_one = |world: &World| {
        let at_one = |v: &&usize| world.parent(**v, &stream) == Some(1);
        viewers.iter().filter(at_one).count()
    };
    assert_eq!(of_one(&world), 7, "the nearer relay has them all");

    world.stream(&stream, 5..155);
    let spread = of_one(&world);
    assert!((3..=4).contains(&spread), "{spread} are left");
    for viewer in &viewers {
        world.hosts[*viewer].events.clear();
    }

    world.stream(&stream, 155..235);
    let moves = viewers.iter().map(|v| world.hosts[*v].events.len());
    assert_eq!(moves.sum::<usize>(), 0, "nobody goes to and fro");
    for viewer in viewers {
        world.assert_whole(viewer, &stream, 0..235);
    }
}

#[test]
fn newcomers_are_sent_to_the_children_of_a_full_broadcaster() {
    let mut world = crowd(2, 6);
    let stream = world.publish();
    for viewer in 1..=6 {
        world.subscribe(viewer, &stream);
        world.run(300);
    }
    world.stream(&stream, 0..3);
    world.run(100);

    assert_eq!(world.children(0, &stream).len(), 2);
    for viewer in 1..=6 {
        world.assert_whole(viewer, &stream, 0..3);
        assert!(depth(&world, viewer, &stream) <= 2, "host {viewer}");
    }
    assert_a_tree(&world, &stream);
}

#[test]
fn a_tree_fills_level_by_level() {
    let mut world = crowd(3, 30);
    let stream = world.publish();
    for viewer in 1..=30 {
        world.subscribe(viewer, &stream);
        world.run(100);
    }
    world.stream(&stream, 0..2);
    world.run(200);

    // 3 + 9 + 27 places.
    let depths: Vec<_> = (1..=30).map(|v| depth(&world, v, &stream)).collect();
    assert!(depths.iter().all(|d| *d <= 4), "{depths:?}");
    for viewer in 1..=30 {
        world.assert_whole(viewer, &stream, 0..2);
        assert!(world.children(viewer, &stream).len() <= 3);
    }
    assert_a_tree(&world, &stream);
}

#[test]
fn a_newcomer_that_cannot_dial_the_children_is_taken_when_it_comes_back() {
    let mut world = crowd(8, 9);
    let stream = world.publish();
    for viewer in 1..=8 {
        world.hosts[viewer].dialable = false;
        world.subscribe(viewer, &stream);
        world.run(500);
    }
    // An eighth is kept: the eighth viewer was sent away, and came back.
    assert_eq!(world.children(0, &stream).len(), 8);
    assert_eq!(world.sent(0, 8, is_redirect), 1);
    world.stream(&stream, 0..2);

    world.assert_whole(8, &stream, 0..2);
}

#[test]
fn a_newcomer_does_not_wait_long_for_nodes_that_do_not_answer() {
    let mut world = crowd(8, 9);
    let stream = world.publish();
    for viewer in 1..=7 {
        world.subscribe(viewer, &stream);
        world.run(500);
        // The broadcaster does not know yet.
        world.freeze(viewer);
    }
    world.stream(&stream, 0..2);

    world.subscribe(8, &stream);
    world.run(100);
    assert!(world.hosts[8].dials > 0, "it is sent to the others");
    world.run(6000);

    world.stream(&stream, 2..4);
    let last = at(3, 3);
    assert_eq!(world.delivered(8, &stream).last(), Some(&last));
}

#[test]
fn places_are_kept_for_those_who_lost_their_parent() {
    let mut world = crowd(8, 8);
    let stream = world.publish();
    for viewer in 1..=7 {
        world.subscribe(viewer, &stream);
    }
    world.run(100);
    world.stream(&stream, 0..2);
    world.subscribe_from(8, &stream, Some(at(1, 0)));
    world.run(100);

    assert_eq!(world.parent(8, &stream), Some(0));
    assert_eq!(world.sent(0, 8, is_redirect), 0);
}

#[test]
fn a_relayer_is_given_a_kept_place_and_another_child_moves_below_it() {
    let mut world = World::new(1, 7);
    for viewer in 2..9 {
        world.connect(0, viewer);
    }
    world.connect(0, 1);
    let stream = world.publish();
    for viewer in 2..9 {
        world.subscribe(viewer, &stream);
    }
    world.run(100);
    assert_eq!(world.children(0, &stream).len(), 7);

    world.subscribe(1, &stream);
    world.stream(&stream, 0..10);

    assert_eq!(world.parent(1, &stream), Some(0));
    assert_eq!(world.children(0, &stream).len(), 7, "one has left");
    assert_eq!(world.children(1, &stream).len(), 1);
    for viewer in 1..9 {
        world.assert_whole(viewer, &stream, 0..10);
    }
}

#[test]
fn children_with_known_addresses_are_named_first_and_with_them() {
    let mut world = crowd(1, 2);
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.run(100);
    world.tell_addresses(0);

    world.subscribe(2, &stream);
    world.run(100);

    let named = world.hosts[0].sent.iter().find_map(|(_, m)| match m {
        Message::Redirect(redirect) => Some(redirect.nodes.clone()),
        _ => None,
    });
    let named = named.unwrap();
    assert_eq!(named[0].node, world.id(1));
    assert_eq!(named[0].addresses.len(), 1);
}

#[test]
fn a_relay_with_an_only_child_introduces_it_to_its_parent_and_leaves() {
    let mut world = World::line(2);
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..80);
    world.run(1500);

    assert_eq!(world.parent(3, &stream), Some(0));
    for relay in [1, 2] {
        assert_eq!(world.hosts[relay].node.streams().count(), 0, "host {relay}");
    }
    world.assert_whole(3, &stream, 0..80);
    assert_eq!(world.waits(3), []);
}

#[test]
fn a_child_that_has_spent_its_allowance_is_introduced_and_not_refused() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    let viewer = world.id(2);
    let links = &mut world.hosts[1].node.cx.links;
    links.get_mut(&viewer).unwrap().allowance = 0;

    world.stream(&stream, 0..40);
    world.run(1500);

    let refused = |m: &Message| matches!(m, Message::NoRoute(answer) if answer.reason == NoRouteReason::Overloaded);
    assert_eq!(world.sent(1, 2, refused), 0);
    assert_eq!(world.parent(2, &stream), Some(0));
    world.assert_whole(2, &stream, 0..40);
}

#[test]
fn a_child_that_waits_is_not_introduced() {
    let mut world = World::line(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..1);

    // The relay loses the owner, finds it again, and has an only child all the while.
    world.cut(0, 1);
    world.run(1500);
    world.connect(0, 1);
    for segment in 1..60 {
        world.stream(&stream, segment..segment + 1);
        let child = world.children(1, &stream).contains(&2);
        let parent = world.parent(2, &stream) == Some(1);
        assert!(!child || parent, "no child without its knowing");
    }
}

#[test]
fn a_relay_stays_when_its_only_child_cannot_reach_its_parent() {
    let mut world = World::line(1);
    world.hosts[0].dialable = false;
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..80);
    world.run(100);

    assert_eq!(world.parent(2, &stream), Some(1));
    world.assert_whole(2, &stream, 0..80);
    let introductions = world.sent(1, 2, is_redirect);
    assert!((1..=2).contains(&introductions), "{introductions}");
}

#[test]
fn a_relay_that_is_turned_away_sends_its_only_child_there_itself() {
    // The viewer asks through a relay, and the broadcaster is full.
    let mut world = World::new(1, 3);
    world.reconfigure(0, |config| config.max_children = 2);
    for viewer in [2, 3] {
        world.connect(0, viewer);
    }
    world.connect(0, 1);
    world.connect(1, 4);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.subscribe(3, &stream);
    world.run(100);

    world.subscribe(4, &stream);
    world.run(500);
    world.stream(&stream, 0..2);
    world.run(100);

    world.assert_whole(4, &stream, 0..2);
    assert!([Some(2), Some(3)].contains(&world.parent(4, &stream)));
    assert_eq!(world.hosts[1].node.streams().count(), 0);
}

#[test]
fn a_node_that_none_of_the_named_can_serve_is_carried_by_its_relay() {
    let mut world = World::new(1, 3);
    world.reconfigure(0, |config| config.max_children = 2);
    for viewer in [2, 3] {
        world.connect(0, viewer);
        world.hosts[viewer].dialable = false;
    }
    world.connect(0, 1);
    world.connect(1, 4);
    world.connect(1, 2);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.subscribe(3, &stream);
    world.run(100);

    // The relay has a link to one of them; the viewer has none.
    world.subscribe(4, &stream);
    world.run(3000);
    world.stream(&stream, 0..2);
    world.run(100);

    world.assert_whole(4, &stream, 0..2);
    assert_eq!(world.parent(4, &stream), Some(1));
    assert_eq!(world.parent(1, &stream), Some(2));
}

#[test]
fn a_node_takes_no_child_from_its_own_path() {
    let mut world = World::new(3, 1);
    world.hosts.iter_mut().for_each(|h| h.dialable = false);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 4)] {
        world.connect(a, b);
    }
    let stream = world.publish();
    world.subscribe(4, &stream);
    world.run(200);
    world.stream(&stream, 0..1);

    // Host 1 asks host 3, which is fed through it.
    world.connect(1, 3);
    let sub = headwater_proto::Sub {
        request: headwater_proto::RequestId(1 << 40),
        stream: stream.clone(),
        from: None,
        hops_left: 9,
    };
    world.arrive(1, 3, &Message::from(sub));
    world.run(50);

    assert_eq!(world.sent(3, 1, |m| matches!(m, Message::NoRoute(_))), 1);
    assert_eq!(world.children(3, &stream), [4]);
}

#[test]
fn a_new_path_is_told_to_all_below() {
    let mut world = World::new(4, 1);
    world.hosts.iter_mut().for_each(|h| h.dialable = false);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (4, 5)] {
        world.connect(a, b);
    }
    let stream = world.publish();
    world.subscribe(5, &stream);
    world.run(200);
    world.stream(&stream, 0..1);
    let used = world.parent(3, &stream).unwrap();

    world.kill(used);
    world.append(0, &stream, 1, 0);
    world.run(120);

    let last = world.hosts[4].sent.iter().rev().find_map(|(_, m)| match m {
        Message::SubAck(ack) => Some(ack.path.clone()),
        _ => None,
    });
    let path: Vec<_> = [0, 3 - used, 3, 4]
        .iter()
        .map(|host| world.id(*host).routing_key().prefix())
        .collect();
    assert_eq!(last, Some(path));
}

#[test]
fn a_path_of_the_greatest_length_takes_no_more_children() {
    let mut world = World::pair();
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.run(50);
    let request = world.hosts[1].sent.iter().find_map(|(_, m)| match m {
        Message::Sub(sub) => Some(sub.request),
        _ => None,
    });

    world.arrive(
        0,
        1,
        &Message::SubAck(headwater_proto::SubAck {
            request: request.unwrap(),
            state: headwater_proto::SubState::Live(None),
            load: 0,
            path: (0..MAX_PATH as u64).collect(),
        }),
    );
    world.run(10);

    assert_eq!(world.sent(1, 0, is_cancel), 1, "nobody could find a cycle");
}

#[test]
fn a_standby_is_found_and_takes_over_without_a_search() {
    // Both relays carry the stream; hosts 3 and 4 are linked to both.
    let mut world = World::new(2, 3);
    for relay in [1, 2] {
        world.connect(0, relay);
        world.connect(relay, 3);
        world.connect(relay, 4);
        world.connect(relay, 5);
    }
    let stream = world.publish();
    // The owner's nearest relay feeds 3 and 4; 5 keeps the other one in the tree.
    world.subscribe(3, &stream);
    world.subscribe(4, &stream);
    world.subscribe(2, &stream);
    world.run(200);
    world.stream(&stream, 0..12);
    let used = world.parent(3, &stream).unwrap();
    let view = world.hosts[3].node.streams().next().unwrap();
    assert_eq!(view.standby, Some(world.id(3 - used)));
    assert_eq!(
        world.children(3 - used, &stream).len(),
        0,
        "a standby is no child"
    );
    let subs = world.sent(3, used, is_sub) + world.sent(3, 3 - used, is_sub);

    world.kill(used);
    world.append(0, &stream, 12, 0);
    world.run(60);

    assert_eq!(world.delivered(3, &stream).last(), Some(&at(12, 0)));
    assert_eq!(world.parent(3, &stream), Some(3 - used));
    let after = world.sent(3, used, is_sub) + world.sent(3, 3 - used, is_sub);
    assert_eq!(after, subs + 1);
}

#[test]
fn a_standby_costs_one_acknowledgement_a_second() {
    let mut world = World::new(2, 2);
    world.hosts.iter_mut().for_each(|h| h.dialable = false);
    for relay in [1, 2] {
        world.connect(0, relay);
        world.connect(relay, 3);
        world.connect(relay, 4);
    }
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.subscribe(2, &stream);
    world.run(200);
    world.stream(&stream, 0..20);
    let used = world.parent(3, &stream).unwrap();
    let spare = 3 - used;
    let acks = |world: &World| world.sent(spare, 3, |m| matches!(m, Message::SubAck(_)));
    let before = acks(&world);

    world.stream(&stream, 20..70);

    let sent = acks(&world) - before;
    assert!((8..=11).contains(&sent), "{sent} in ten seconds");
    assert_eq!(world.sent(spare, 3, |m| matches!(m, Message::Chunk(_))), 0);
}

#[test]
fn whatever_fails_the_tree_heals_and_nothing_is_lost() {
    for seed in 0..6_u64 {
        let mut world = World::new(6, 8);
        for host in 0..world.hosts.len() {
            world.reconfigure(host, |config| config.max_children = 3);
        }
        let hosts = world.hosts.len();
        for a in 0..hosts {
            for b in a + 1..hosts {
                if (a + 2 * b + seed as usize).is_multiple_of(3) || (b <= 6 && a > 0) {
                    world.connect(a, b);
                }
            }
        }
        for viewer in (7..hosts).chain([0]) {
            if !world.linked(viewer, 1) {
                world.connect(viewer, 1);
            }
        }
        let stream = world.publish();
        for viewer in 7..hosts {
            world.subscribe(viewer, &stream);
            world.run(40);
        }
        world.run(2000);
        let mut dead = BTreeSet::new();
        let mut segment = 0;
        for round in 0..3 {
            world.stream(&stream, segment..segment + 5);
            segment += 5;
            let victim = 2 + ((seed + 2 * round) % 5) as usize;
            if dead.insert(victim) {
                world.kill(victim);
            }
            world.stream(&stream, segment..segment + 5);
            segment += 5;
        }
        world.stream(&stream, segment..segment + 10);
        segment += 10;
        world.run(500);

        assert_a_tree(&world, &stream);
        for viewer in 7..hosts {
            let got = world.delivered(viewer, &stream);
            assert_eq!(
                got.last(),
                Some(&at(segment - 1, 3)),
                "seed {seed}, host {viewer}"
            );
            assert!(got.is_sorted_by(|a, b| a < b), "seed {seed}, host {viewer}");
            assert_eq!(world.gaps(viewer), [], "seed {seed}, host {viewer}");
        }
    }
}
