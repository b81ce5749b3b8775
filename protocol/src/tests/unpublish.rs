//! Streams that are made no more, have not ended, and may come again.

use headwater_proto::JobId;

use super::world::{ClaimPolicy, PARTS, World, at};
use crate::{Command, CommandError, Delivery, Event, Failure};

fn unpublish(world: &mut World, stream: &headwater_proto::StreamId) {
    let stream = stream.clone();
    world.must(0, Command::Unpublish { stream });
}

/// The stream comes again from a later segment on, with an init of its own.
fn come_again(world: &mut World, stream: &headwater_proto::StreamId) {
    let id = stream.clone();
    world.must(0, Command::Publish { stream: id });
    let (header, chunks) = world.init(0, stream, 0);
    world.must(0, Command::Append { header, chunks });
}

#[test]
fn viewers_wait_for_a_stream_that_is_made_no_more_and_play_on_when_it_comes_again() {
    let mut world = World::star(2);
    world.hosts.iter_mut().for_each(|h| h.dialable = false);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..3);
    world.append(0, &stream, 3, 0);
    world.run(50);

    unpublish(&mut world, &stream);
    world.run(100);
    for host in 0..2 {
        assert_eq!(world.hosts[host].node.streams().count(), 0, "host {host}");
    }
    for viewer in [2, 3] {
        assert_eq!(world.waits(viewer), [Failure::NotFound]);
    }
    world.run(20_000);
    come_again(&mut world, &stream);
    world.run(2600);
    world.stream(&stream, 9..11);
    world.run(100);

    for viewer in [2, 3] {
        assert_eq!(world.gaps(viewer), [(at(3, 1), at(9, 0))]);
        let last = at(10, PARTS - 1);
        assert_eq!(world.delivered(viewer, &stream).last(), Some(&last));
        assert_eq!(world.finishes(viewer), 0, "it never ended");
    }
    for host in &world.hosts {
        assert_eq!(host.node.stats().violations_total(), 0);
        assert_eq!(host.node.stats().contradictions, 0);
    }
}

#[test]
fn one_that_comes_again_at_once_is_played_within_two_seconds() {
    let mut world = World::star(2);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..2);

    unpublish(&mut world, &stream);
    come_again(&mut world, &stream);
    world.stream(&stream, 2..10);
    world.run(400);

    let last = at(9, PARTS - 1);
    assert_eq!(world.delivered(2, &stream).last(), Some(&last));
    assert_eq!(world.finishes(2), 0);
}

#[test]
fn an_end_that_comes_later_is_the_end() {
    let mut world = World::star(1);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.run(100);
    world.stream(&stream, 0..2);
    unpublish(&mut world, &stream);
    world.run(3000);
    come_again(&mut world, &stream);
    world.run(2600);
    world.stream(&stream, 5..7);
    world.finish(&stream, Some(6));
    world.run(500);

    assert_eq!(world.finishes(2), 1);
}

#[test]
fn this_machine_is_not_handed_a_stream_any_more_that_it_makes_no_more() {
    let mut world = World::pair();
    let stream = world.publish();
    world.subscribe(0, &stream);
    world.stream(&stream, 0..1);

    unpublish(&mut world, &stream);

    let delivered = &world.hosts[0].deliveries;
    assert_eq!(delivered.last(), Some(&(stream, Delivery::Finished)));
}

#[test]
fn only_a_stream_that_is_made_here_can_be_withdrawn() {
    let mut world = World::pair();
    let stream = world.manifest(0).source();
    let unknown = CommandError::UnknownStream(stream.clone());
    let wish = Command::Unpublish {
        stream: stream.clone(),
    };
    assert_eq!(world.refused(0, wish.clone()), unknown);
    world.publish();
    world.subscribe(1, &stream);
    world.run(100);
    assert_eq!(world.refused(1, wish.clone()), unknown, "it is another's");
    world.stream(&stream, 0..1);
    world.finish(&stream, Some(0));
    assert_eq!(world.refused(0, wish), unknown, "it has ended");
}

#[test]
fn a_job_is_fed_again_when_its_source_comes_again() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..4);
    assert_eq!(world.parent(2, &stream), Some(0));

    unpublish(&mut world, &stream);
    world.run(5000);
    let ended = Event::FeedEnded {
        job: JobId(1),
        transcoder: world.id(2),
        direct: true,
    };
    assert!(world.hosts[0].events.contains(&ended));
    come_again(&mut world, &stream);
    world.run(2000);
    world.stream(&stream, 6..8);

    let last = at(7, PARTS - 1);
    assert_eq!(world.delivered(2, &stream).last(), Some(&last));
    assert_eq!(world.gaps(2), [(at(4, 0), at(6, 0))]);
}

#[test]
fn a_subscription_whose_claim_is_being_checked_is_told_too() {
    let mut world = World::with_transcoder();
    world.hosts[0].claims = ClaimPolicy::Ignore;
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    assert_eq!(world.children(0, &stream), [1]);

    unpublish(&mut world, &stream);
    world.run(50);

    assert_eq!(world.waits(2), [Failure::NotFound]);
}
