//! Claims of several jobs, lost claims, the measured choice of path, revoked jobs, and
//! broadcasters that begin again.

use headwater_proto::{JobId, Message, Roles};

use super::world::{World, at};
use crate::{Command, Event, Failure, Question};

/// Broadcaster (0), relay (1), transcoder (2), viewer (3), all linked to the relay only.
fn network() -> World {
    let mut world = World::star(2);
    world.hosts[2].roles = Roles {
        transcoder: true,
        ..Roles::default()
    };
    world.hosts[0].dialable = false;
    world
}

fn claims_of(world: &World, host: usize, job: u64) -> usize {
    let sent = world.hosts[host].sent.iter();
    sent.filter(|(_, m)| matches!(m, Message::TranscodeSub(sub) if sub.claim.job == JobId(job)))
        .count()
}

fn checked(world: &World, job: u64) -> usize {
    let asked = world.hosts[0].asked.iter();
    asked
        .filter(|q| matches!(q, Question::CheckClaim { claim, .. } if claim.job == JobId(job)))
        .count()
}

fn is_claim(message: &Message) -> bool {
    matches!(message, Message::TranscodeSub(_))
}

#[test]
fn a_second_job_on_one_source_makes_its_own_claim() {
    let mut world = network();
    world.hosts[2].dialable = false;
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..1);

    world.start_job(2, 2, &stream);
    world.run(300);
    world.stream(&stream, 1..3);

    assert!(claims_of(&world, 2, 2) > 0);
    assert_eq!(checked(&world, 2), 1);
    world.assert_whole(2, &stream, 0..3);
}

#[test]
fn when_one_of_two_jobs_on_a_source_stops_the_other_is_still_fed() {
    let mut world = network();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.start_job(2, 2, &stream);
    world.run(300);
    world.stream(&stream, 0..4);
    assert_eq!(world.parent(2, &stream), Some(0));

    world.must(2, Command::StopJob { job: JobId(1) });
    world.stream(&stream, 4..6);
    world.run(5000);
    world.stream(&stream, 6..7);

    world.assert_whole(2, &stream, 0..7);
}

#[test]
fn a_viewer_goes_on_when_a_job_stops_before_its_claim_is_made() {
    let mut world = network();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.subscribe(2, &stream);
    world.must(2, Command::StopJob { job: JobId(1) });
    world.run(300);
    world.stream(&stream, 0..2);

    world.assert_whole(2, &stream, 0..2);
}

#[test]
fn a_claim_that_is_lost_behind_a_feeding_relay_is_made_again() {
    let mut world = network();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(200);
    world.stream(&stream, 0..1);
    world.hosts[1].swallows = Some(is_claim);
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 1..2);
    assert_eq!(checked(&world, 1), 0, "the relay feeds, the claim is lost");

    world.hosts[1].swallows = None;
    world.run(5000);
    world.stream(&stream, 2..8);

    assert!(checked(&world, 1) > 0);
    assert_eq!(world.parent(2, &stream), Some(0), "and it is fed directly");
    world.assert_whole(2, &stream, 0..8);
}

/// A relay knows for a while that a broadcaster does not have a stream, from others who
/// asked. A claim is passed on all the same: nobody makes many, and the broadcaster may be
/// back since.
#[test]
fn a_claim_is_not_turned_away_for_what_others_were_told() {
    let mut world = network();
    let stream = world.manifest(0).source();
    world.subscribe(3, &stream);
    world.run(100);
    let told = world.sent(1, 3, |m| matches!(m, Message::NotFound(_)));
    assert!(told > 0, "the relay knows that it is not there");

    world.publish();
    world.start_job(2, 1, &stream);
    world.run(100);

    assert!(checked(&world, 1) > 0);
}

#[test]
fn a_direct_link_that_is_slower_than_the_relays_is_not_taken() {
    let mut world = network();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    // What is dialled from now on is far away.
    world.latency = std::time::Duration::from_millis(200);
    world.run(500);
    world.stream(&stream, 0..15);

    assert!(world.linked(0, 2));
    assert_eq!(world.parent(2, &stream), Some(1));
    assert_eq!(world.children(0, &stream), [1], "and costs nothing more");
    world.assert_whole(2, &stream, 0..15);
}

#[test]
fn a_slow_direct_link_is_measured_again_and_taken_when_it_is_better() {
    let mut world = network();
    world.reconfigure(2, |config| {
        config.direct_again = std::time::Duration::from_secs(3);
    });
    world.cut(1, 2);
    world.connect(1, 2);
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.latency = std::time::Duration::from_millis(200);
    world.run(500);
    world.stream(&stream, 0..12);
    assert_eq!(world.parent(2, &stream), Some(1));

    world.throttle(1, 2, 400_000);
    world.stream(&stream, 12..50);

    assert_eq!(world.parent(2, &stream), Some(0));
    let got = world.delivered(2, &stream);
    assert!(got.is_sorted_by(|a, b| a < b));
    assert_eq!(world.gaps(2), []);
}

#[test]
fn two_feeds_last_no_longer_than_the_window() {
    let mut world = network();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.start_job(2, 1, &stream);
    world.run(500);
    world.stream(&stream, 0..12);

    let direct = world.children(0, &stream).contains(&2);
    let relayed = world.children(1, &stream).contains(&2);
    assert!(direct && !relayed);
    world.assert_whole(2, &stream, 0..12);
}

#[test]
fn a_revoked_job_is_fed_no_more_and_another_takes_over() {
    let mut world = network();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..4);
    let transcoder = world.id(2);

    let job = JobId(1);
    world.hosts[0].claims = super::world::ClaimPolicy::Refuse;
    world.revoke(0, transcoder, job);
    world.run(50);
    assert!(world.children(0, &stream).is_empty());
    let ended = Event::FeedEnded {
        job,
        transcoder,
        direct: true,
    };
    assert!(world.hosts[0].events.contains(&ended));

    world.hosts[0].claims = super::world::ClaimPolicy::Grant;
    world.start_job(3, 1, &stream);
    world.run(300);
    world.stream(&stream, 4..9);
    assert_eq!(world.delivered(3, &stream).last(), Some(&at(8, 3)));
}

#[test]
fn a_broadcaster_that_comes_back_and_goes_on_is_followed_by_all() {
    let mut world = World::star(2);
    world.hosts.iter_mut().for_each(|h| h.dialable = false);
    let stream = world.publish();
    world.subscribe(2, &stream);
    world.subscribe(3, &stream);
    world.run(100);
    world.stream(&stream, 0..3);

    world.cut(0, 1);
    world.reconfigure(0, |_| ());
    world.run(1500);
    world.connect(0, 1);
    world.run(3000);
    assert!(world.waits(2).contains(&Failure::NotFound));
    world.open(0, &stream);
    world.run(2600);
    world.stream(&stream, 5..8);
    world.run(200);

    for viewer in [2, 3] {
        assert_eq!(world.gaps(viewer), [(at(3, 0), at(5, 0))]);
        assert_eq!(world.delivered(viewer, &stream).last(), Some(&at(7, 3)));
        assert_eq!(world.finishes(viewer), 0);
    }
}

#[test]
fn a_transcoder_that_is_linked_to_the_broadcaster_already_claims_its_job() {
    for delay in [0, 1, 5, 12, 30] {
        let mut world = World::pair();
        world.latency = std::time::Duration::from_millis(delay);
        world.hosts[1].roles = Roles {
            transcoder: true,
            ..Roles::default()
        };
        let stream = world.publish();
        world.stream(&stream, 0..2);

        world.start_job(1, 1, &stream);
        world.run(3000);
        world.stream(&stream, 2..4);

        assert_eq!(checked(&world, 1), 1, "latency {delay} ms");
    }
}
