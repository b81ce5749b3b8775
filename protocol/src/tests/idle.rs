//! Links that nothing uses, and all that counts as use.

use std::time::Duration;

use headwater_proto::{JobId, Message};

use super::world::World;
use crate::{Command, Time};

/// Since when the link of one host to another is idle, as the first sees it.
fn idle(world: &World, host: usize, to: usize) -> Option<Time> {
    world.hosts[host].node.idle_since(&world.id(to))
}

#[test]
fn a_new_link_is_idle_until_it_is_gone() {
    let mut world = World::pair();
    let linked = world.now;
    world.run(30_000);
    assert_eq!(idle(&world, 0, 1), Some(linked), "pings are no use");

    world.cut(0, 1);

    assert_eq!(idle(&world, 0, 1), None);
}

#[test]
fn a_subscription_uses_the_link_on_both_sides_until_it_ends() {
    let mut world = World::pair();
    let stream = world.publish();
    world.subscribe(1, &stream);
    world.run(200);
    world.stream(&stream, 0..2);
    assert_eq!((idle(&world, 0, 1), idle(&world, 1, 0)), (None, None));

    world.unsubscribe(1, &stream);
    let left = world.now;
    world.run(60_000);

    for (host, to) in [(0, 1), (1, 0)] {
        assert!(idle(&world, host, to) > Some(left), "host {host}");
    }
}

#[test]
fn a_stream_that_does_not_come_uses_the_link_to_its_owner() {
    let mut world = World::pair();
    let stream = world.manifest(0).source();
    world.subscribe(1, &stream);
    world.run(200);
    assert!(
        world.sent(0, 1, |m| matches!(m, Message::NotFound(_))) > 0,
        "nothing is asked at the moment"
    );

    assert_eq!(idle(&world, 1, 0), None);
    assert!(idle(&world, 0, 1).is_some());
}

#[test]
fn a_routed_request_uses_the_links_it_came_and_went_over_until_it_is_answered() {
    let mut world = World::star(1);
    world.freeze(0);
    let node = world.id(0);
    world.command(2, Command::RequestStatus { node });
    world.run(100);
    let used = [(2, 1), (1, 2), (1, 0)];
    for (host, to) in used {
        assert_eq!(idle(&world, host, to), None, "host {host}");
    }

    let asked = world.now;
    world.run(10_000);

    // The one that does not answer is gone by then.
    for (host, to) in &used[..2] {
        assert!(idle(&world, *host, *to) > Some(asked), "host {host}");
    }
}

#[test]
fn a_request_that_was_answered_at_once_has_used_the_link() {
    let mut world = World::pair();
    world.run(5_000);
    let asked = world.now;
    let node = world.id(0);
    world.command(1, Command::RequestStatus { node });
    world.run(100);

    for (host, to) in [(0, 1), (1, 0)] {
        assert!(idle(&world, host, to) > Some(asked), "host {host}");
    }
}

#[test]
fn a_followed_master_playlist_uses_the_links_it_comes_over() {
    let mut world = World::star(1);
    world.set_master(1);
    let manifest = world.manifest(0);
    world.must(2, Command::FollowMaster { manifest });
    world.run(200);
    let used = [(2, 1), (1, 2), (1, 0), (0, 1)];
    for (host, to) in used {
        assert_eq!(idle(&world, host, to), None, "host {host}");
    }

    world.must(2, Command::UnfollowMaster { manifest });
    world.run(60_000);

    for (host, to) in used {
        assert!(idle(&world, host, to).is_some(), "host {host}");
    }
}

#[test]
fn a_job_uses_the_direct_link_though_its_source_comes_by_another() {
    let mut world = World::with_transcoder();
    world.hosts[0].dialable = false;
    world.reconfigure(2, |config| config.standby = false);
    world.cut(1, 2);
    world.connect(1, 2);
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    // What is dialled from now on is far away.
    world.latency = Duration::from_millis(200);
    world.run(500);
    world.stream(&stream, 0..15);
    assert_eq!(world.children(0, &stream), [1]);
    assert_eq!(world.parent(2, &stream), Some(1));
    assert_eq!((idle(&world, 0, 2), idle(&world, 2, 0)), (None, None));

    world.must(2, Command::StopJob { job: JobId(1) });
    let transcoder = world.id(2);
    world.revoke(0, transcoder, JobId(1));
    world.run(10_000);

    assert!(idle(&world, 0, 2).is_some());
    assert!(idle(&world, 2, 0).is_some());
}

#[test]
fn a_claim_that_is_passed_on_uses_the_link_it_came_over() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(1_000);
    let mut sent = world.hosts[2].sent.iter();
    let claim = sent.find_map(|(_, message)| match message {
        Message::TranscodeSub(sub) => Some(sub.clone()),
        _ => None,
    });
    let mut claim = claim.unwrap();
    claim.branch = false;
    claim.request = headwater_proto::RequestId(1_000);
    world.run(10_000);

    // Who passes it on here is no subscriber.
    world.arrive(3, 1, &Message::TranscodeSub(claim));

    assert_eq!(idle(&world, 1, 3), Some(world.now));
}
