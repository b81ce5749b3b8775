//! Local minima: nobody with a link is closer, so the driver looks for somebody who is.

use headwater_proto::{ManifestId, Message, NoRouteReason};

use super::world::{World, is_sub, key};
use crate::{Command, CommandError, Failure, Question, Reply};

fn lookups(world: &World, host: usize) -> usize {
    let asked = world.hosts[host].asked.iter();
    asked
        .filter(|q| matches!(q, Question::Lookup { .. }))
        .count()
}

/// A viewer (2) at a relay (1) that has no link to the owner.
fn stranded() -> World {
    let mut world = World::new(1, 1);
    world.connect(1, 2);
    world
}

#[test]
fn a_relay_at_a_local_minimum_has_its_driver_find_the_owner() {
    let mut world = stranded();
    world.hosts[1].finds = vec![0];
    let stream = world.publish();

    world.subscribe(2, &stream);
    world.run(300);
    world.stream(&stream, 0..2);

    world.assert_whole(2, &stream, 0..2);
    assert_eq!(lookups(&world, 1), 1);
    assert_eq!(world.waits(2), []);
}

#[test]
fn two_that_wait_for_one_target_share_a_lookup() {
    let mut world = stranded();
    let other = world.add(key(200), headwater_proto::Roles::default());
    world.connect(1, other);
    let stream = world.publish();

    world.subscribe(2, &stream);
    world.subscribe(other, &stream);
    world.run(40);

    assert_eq!(lookups(&world, 1), 1);
}

#[test]
fn a_target_that_was_not_found_is_not_looked_up_again_at_once() {
    let mut world = stranded();
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(4000);

    assert_eq!(lookups(&world, 1), 1);
    assert!(world.sent(2, 1, is_sub) > 3, "the viewer goes on trying");
    let no_route = Failure::NoRoute(NoRouteReason::NoCloserPeer);
    assert_eq!(world.waits(2), [no_route]);
    world.run(8000);
    assert!(lookups(&world, 1) <= 3);
}

#[test]
fn a_status_and_a_master_playlist_are_found_behind_a_local_minimum() {
    let mut world = stranded();
    world.hosts[1].finds = vec![0];
    world.set_master(1);
    let node = world.id(0);

    let id = world.command(2, Command::RequestStatus { node });
    world.run(300);
    assert!(matches!(
        world.hosts[2].replies.get(&id),
        Some(Ok(Reply::Status(_)))
    ));

    let mut world = stranded();
    world.hosts[1].finds = vec![0];
    world.set_master(1);
    let manifest = world.manifest(0);
    world.must(2, Command::FollowMaster { manifest });
    world.run(300);
    assert_eq!(world.hosts[2].masters.len(), 1);
}

#[test]
fn a_request_for_nobody_is_answered_after_the_lookup() {
    let mut world = stranded();
    let node = key(251).node_id();
    let id = world.command(2, Command::RequestStatus { node });
    world.run(500);

    let failed = CommandError::Failed(Failure::NoRoute(NoRouteReason::NoCloserPeer));
    assert_eq!(world.hosts[2].replies.get(&id), Some(&Err(failed)));
    let manifest = ManifestId {
        node,
        ..world.manifest(0)
    };
    world.must(2, Command::FollowMaster { manifest });
    world.run(500);
    assert_eq!(world.hosts[2].missing.len(), 1);
}

#[test]
fn a_stream_that_could_not_be_had_is_refused_at_once_for_a_short_while() {
    let mut world = World::new(2, 2);
    world.connect(1, 2);
    world.connect(2, 3);
    world.connect(2, 4);
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(100);
    let passed_on = world.sent(2, 1, is_sub);

    world.subscribe(4, &stream);
    world.run(60);

    assert_eq!(world.sent(2, 1, is_sub), passed_on);
    assert_eq!(world.sent(2, 4, |m| matches!(m, Message::NoRoute(_))), 1);
}

#[test]
fn a_full_node_keeps_the_link_to_the_owner_that_it_looks_for() {
    let mut world = World::new(1, 1);
    world.reconfigure(1, |config| config.max_peers = 2);
    world.connect(1, 2);
    world.hosts[1].finds = vec![0];
    let other = world.add(key(200), headwater_proto::Roles::default());
    world.connect(1, other);
    let stream = world.publish();

    world.subscribe(2, &stream);
    world.run(300);
    world.stream(&stream, 0..2);

    world.assert_whole(2, &stream, 0..2);
    assert!(!world.linked(1, other), "the idle one had to go");
}
