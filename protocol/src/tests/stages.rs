//! The stages of a job's feed, one after the other, as the table in `stage` has them.

use headwater_proto::{JobId, Message};

use super::world::{ClaimPolicy, World, at};
use crate::{Event, Question, Stage};

/// The stages that the transcoder came to since this was asked last.
fn stages(world: &mut World) -> Vec<Stage> {
    let events = std::mem::take(&mut world.hosts[2].events);
    let mut stages = Vec::new();
    for event in events {
        if let Event::StageChanged { from, to, .. } = event {
            assert!(from.leads_to(to), "{from:?} does not lead to {to:?}");
            stages.push(to);
        }
    }
    stages
}

fn is_claim(message: &Message) -> bool {
    matches!(message, Message::TranscodeSub(_))
}

fn claims_of(world: &World, host: usize, job: u64) -> usize {
    let of_job =
        |m: &Message| matches!(m, Message::TranscodeSub(sub) if sub.claim.job == JobId(job));
    world.hosts[host]
        .sent
        .iter()
        .filter(|(_, m)| of_job(m))
        .count()
}

#[test]
fn a_feed_begins_at_the_relays_and_goes_over_to_the_broadcaster() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..6);

    let all = [
        Stage::Searching,
        Stage::Asked,
        Stage::Relayed,
        Stage::Offered,
        Stage::Both,
        Stage::Direct,
    ];
    assert_eq!(stages(&mut world), all);
}

#[test]
fn a_feed_comes_back_from_relays_when_the_direct_link_is_lost() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..6);
    stages(&mut world);

    world.hosts[2].dialable = false;
    world.cut(0, 2);
    world.run(500);
    world.stream(&stream, 6..8);

    let back = [Stage::Searching, Stage::Asked, Stage::Relayed];
    assert_eq!(stages(&mut world), back);
    world.assert_whole(2, &stream, 0..8);
}

#[test]
fn a_direct_link_lost_while_it_is_measured_is_told_to_the_broadcaster_at_once() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.append(0, &stream, 0, 0);
    world.run(50);
    assert_eq!(stages(&mut world).last(), Some(&Stage::Both));
    let claims = world.sent(2, 1, is_claim);

    world.cut(0, 2);
    world.run(20);
    assert_eq!(world.sent(2, 1, is_claim), claims + 1);
    world.run(100);

    assert_eq!(
        stages(&mut world),
        [Stage::Relayed, Stage::Offered, Stage::Both]
    );
    assert_eq!(world.hosts[0].dials, 2, "it is dialled again");
}

#[test]
fn relays_that_lose_the_stream_while_the_broadcaster_is_measured_are_left_at_once() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.append(0, &stream, 0, 0);
    world.run(50);
    assert_eq!(stages(&mut world).last(), Some(&Stage::Both));

    world.cut(0, 1);
    world.run(30);

    assert_eq!(stages(&mut world).last(), Some(&Stage::Direct));
    assert_eq!(world.parent(2, &stream), Some(0));
}

#[test]
fn a_direct_link_that_stalls_is_left_for_relays_and_rests() {
    let mut world = World::with_transcoder();
    // Little is on its way when nothing gets through any more, so it is told of soon.
    world.credit = super::world::PART_BYTES + 5_000;
    for host in [0, 2, 3] {
        world.cut(1, host);
        world.connect(1, host);
    }
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..6);
    assert_eq!(stages(&mut world).last(), Some(&Stage::Direct));

    world.throttle(0, 2, 10);
    world.stream(&stream, 6..40);

    assert_eq!(stages(&mut world), [Stage::Passed]);
    assert_eq!(world.delivered(2, &stream).last(), Some(&at(39, 3)));
    assert!(world.gaps(2).len() <= 1, "rings keep less than it took");
}

#[test]
fn a_job_whose_claim_is_refused_keeps_no_other_from_its_stream() {
    let mut world = World::with_transcoder();
    world.hosts[2].dialable = false;
    world.hosts[0].claims = ClaimPolicy::RefuseJob(JobId(1));
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.start_job(2, 2, &stream);
    world.run(2_000);
    world.stream(&stream, 0..2);

    assert!(claims_of(&world, 2, 1) > 0);
    assert_eq!(stages(&mut world).last(), Some(&Stage::Relayed));
    let asked_for_both = |job: u64| {
        let of_job = |q: &&Question| matches!(q, Question::CheckClaim { claim, .. } if claim.job == JobId(job));
        world.hosts[0].asked.iter().any(|q| of_job(&q))
    };
    assert!(asked_for_both(1) && asked_for_both(2));
    world.assert_whole(2, &stream, 0..2);
}

#[test]
fn a_stopped_job_leaves_nothing_to_feed() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..2);
    stages(&mut world);

    world.must(2, crate::Command::StopJob { job: JobId(1) });
    world.run(4_000);

    assert_eq!(stages(&mut world), [Stage::Idle]);
}

#[test]
fn a_job_that_stops_while_two_feed_it_leaves_one_to_the_viewer() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.subscribe(2, &stream);
    world.run(300);
    world.append(0, &stream, 0, 0);
    world.run(50);
    assert_eq!(stages(&mut world).last(), Some(&Stage::Both));

    world.must(2, crate::Command::StopJob { job: JobId(1) });
    (1..4).for_each(|part| world.append(0, &stream, 0, part));
    world.stream(&stream, 1..4);

    assert_eq!(world.parent(2, &stream), Some(1));
    assert_eq!(world.children(0, &stream), [1]);
    world.assert_whole(2, &stream, 0..4);
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 4..8);
    let again = [Stage::Idle, Stage::Relayed, Stage::Offered, Stage::Both];
    assert_eq!(stages(&mut world)[..4], again);
}
