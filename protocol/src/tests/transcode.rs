//! TranscodeSub: claims, feeds over relays and over a link of their own, results.

use headwater_proto::{JobId, Message, NodeId, Signed, StreamId, TranscodeResult, TranscodeSub};

use super::world::{ClaimPolicy, World, is_cancel};
use crate::{Command, CommandError, Event, Question};

fn is_claim(message: &Message) -> bool {
    matches!(message, Message::TranscodeSub(_))
}

fn feeds(world: &World) -> Vec<(bool, bool)> {
    let feed = |event: &Event| match event {
        Event::FeedStarted { direct, .. } => Some((true, *direct)),
        Event::FeedEnded { direct, .. } => Some((false, *direct)),
        _ => None,
    };
    world.hosts[0].events.iter().filter_map(feed).collect()
}

fn claim_of(world: &World, host: usize) -> TranscodeSub {
    let mut all = world.hosts[host].sent.iter();
    all.find_map(|(_, message)| match message {
        Message::TranscodeSub(sub) => Some((**sub).clone()),
        _ => None,
    })
    .unwrap()
}

fn result(world: &World, stream: &StreamId, sequence: u64) -> Signed<TranscodeResult> {
    let result = TranscodeResult {
        stream: stream.clone(),
        job: JobId(1),
        transcoder: world.id(2),
        sequence,
        renditions: Vec::new(),
    };
    Signed::sign(result, &world.hosts[2].key)
}

fn is_response(message: &Message) -> bool {
    matches!(message, Message::TranscodeResponse(_))
}

fn started(job: u64, transcoder: NodeId, direct: bool) -> Event {
    Event::FeedStarted {
        job: JobId(job),
        transcoder,
        direct,
    }
}

#[test]
fn the_transcoder_is_dialled_and_fed_directly() {
    let mut world = World::with_transcoder();
    let stream = world.publish();

    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..4);
    world.run(100);

    assert_eq!(world.hosts[0].dials, 1);
    assert_eq!(world.parent(2, &stream), Some(0));
    world.assert_whole(2, &stream, 0..4);
    assert!(feeds(&world).contains(&(true, true)));
    assert!(world.sent(2, 1, is_cancel) > 0, "the relay is left");
    assert_eq!(world.children(1, &stream), []);
}

#[test]
fn the_transcoder_is_fed_by_relays_when_it_cannot_be_dialled() {
    let mut world = World::with_transcoder();
    world.hosts[2].dialable = false;
    let stream = world.publish();

    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..4);
    world.run(100);

    assert_eq!(world.hosts[0].dials, 1);
    assert!(!world.linked(0, 2));
    assert_eq!(world.parent(2, &stream), Some(1));
    world.assert_whole(2, &stream, 0..4);
    assert_eq!(feeds(&world), [(true, false)]);
    assert!(
        world.hosts[0]
            .events
            .contains(&started(1, world.id(2), false))
    );
}

#[test]
fn a_direct_link_in_mid_stream_leaves_no_hole_and_no_repeat() {
    let mut world = World::with_transcoder();
    world.hosts[2].dialable = false;
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..2);
    world.append(0, &stream, 2, 0);

    world.connect(0, 2);
    for part in 1..4 {
        world.append(0, &stream, 2, part);
    }
    world.stream(&stream, 3..8);
    world.run(100);

    assert_eq!(world.parent(2, &stream), Some(0));
    world.assert_whole(2, &stream, 0..8);
}

#[test]
fn a_lost_direct_link_falls_back_to_relays_with_a_fresh_claim() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..4);
    assert_eq!(world.parent(2, &stream), Some(0));
    let claims = world.sent(2, 1, is_claim);
    let sequence = world.hosts[2].sequence;

    world.hosts[2].dialable = false;
    world.cut(0, 2);
    world.append(0, &stream, 4, 0);
    world.run(900);
    assert_eq!(world.parent(2, &stream), Some(1), "within a second");
    for part in 1..4 {
        world.append(0, &stream, 4, part);
    }
    world.stream(&stream, 5..7);
    world.run(100);

    world.assert_whole(2, &stream, 0..7);
    assert_eq!(world.sent(2, 1, is_claim), claims + 1);
    assert_eq!(
        world.hosts[2].sequence,
        sequence + 1,
        "each claim is a new one"
    );
    assert!(feeds(&world).contains(&(false, true)));
}

#[test]
fn a_refused_claim_feeds_nothing_and_dials_nothing() {
    let mut world = World::with_transcoder();
    world.hosts[0].claims = ClaimPolicy::Refuse;
    let stream = world.publish();

    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..2);
    world.run(100);

    assert_eq!(world.hosts[0].dials, 0);
    assert_eq!(world.delivered(2, &stream), []);
    assert_eq!(world.children(0, &stream), []);
    assert!(world.hosts[0].node.stats().refused_claims > 0);
    assert_eq!(feeds(&world), []);
}

#[test]
fn a_claim_that_was_refused_is_made_again_and_may_hold_later() {
    let mut world = World::with_transcoder();
    world.hosts[0].claims = ClaimPolicy::Refuse;
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(5000);
    let claims = world.hosts[2].sequence;
    assert!((3..8).contains(&claims), "{claims} claims in five seconds");

    world.hosts[0].claims = ClaimPolicy::Grant;
    world.run(11_000);
    world.stream(&stream, 0..2);

    world.assert_whole(2, &stream, 0..2);
}

#[test]
fn a_claim_under_examination_holds_the_data_back() {
    let mut world = World::with_transcoder();
    world.hosts[0].claims = ClaimPolicy::Ignore;
    let stream = world.publish();

    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..3);

    assert_eq!(world.delivered(2, &stream), []);
    assert_eq!(world.hosts[0].node.stats().bytes_out, 0);
}

#[test]
fn a_job_waits_for_its_broadcast() {
    let mut world = World::with_transcoder();
    let stream = world.manifest(0).source();
    world.start_job(2, 1, &stream);
    world.run(3000);

    world.publish();
    world.run(11_000);
    world.stream(&stream, 0..2);

    world.assert_whole(2, &stream, 0..2);
}

#[test]
fn a_relay_that_has_the_stream_still_passes_the_claim_on() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.subscribe(3, &stream);
    world.run(200);
    world.stream(&stream, 0..1);

    world.start_job(2, 1, &stream);
    world.run(3000);

    assert_eq!(world.hosts[0].dials, 1);
    assert_eq!(world.parent(2, &stream), Some(0));
    let branches = world.sent(1, 0, |m| matches!(m, Message::TranscodeSub(s) if s.branch));
    assert_eq!(branches, 0, "one branch is enough");
}

#[test]
fn a_repeated_claim_is_no_attack_and_an_older_one_is_dropped() {
    let mut world = World::with_transcoder();
    world.hosts[2].dialable = false;
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    let first = claim_of(&world, 2);
    world.cut(1, 2);
    world.connect(1, 2);
    world.run(500);
    assert_eq!(world.hosts[2].sequence, 2);

    let asked = world.hosts[0].asked.len();
    world.arrive(1, 0, &Message::from(first));
    world.run(100);

    assert_eq!(world.hosts[0].node.stats().stale_claims, 1);
    assert_eq!(world.hosts[0].asked.len(), asked);
    assert_eq!(world.hosts[0].node.stats().violations_total(), 0);
}

#[test]
fn dials_for_one_job_are_few() {
    let mut world = World::with_transcoder();
    world.hosts[2].dialable = false;
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    for _ in 0..12 {
        world.run(1000);
        world.cut(1, 2);
        world.connect(1, 2);
    }

    assert!(world.hosts[2].sequence > 4);
    assert_eq!(world.hosts[0].dials, 3);
}

#[test]
fn several_jobs_run_at_once() {
    let mut world = World::with_transcoder();
    let first = world.publish();
    let second = StreamId {
        rendition: "second".parse().unwrap(),
        ..first.clone()
    };
    world.open(0, &second);
    world.start_job(2, 1, &first);
    world.start_job(2, 2, &second);
    world.run(300);

    for segment in 0..3 {
        world.stream(&first, segment..segment + 1);
        world.stream(&second, segment..segment + 1);
    }

    world.assert_whole(2, &first, 0..3);
    world.assert_whole(2, &second, 0..3);
    assert_eq!(world.hosts[0].dials, 1, "one link serves both");
}

#[test]
fn a_stopped_job_is_no_longer_fed() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);
    world.stream(&stream, 0..1);

    world.must(2, Command::StopJob { job: JobId(1) });
    world.run(4000);

    assert_eq!(world.children(0, &stream), []);
    assert!(feeds(&world).contains(&(false, true)));
    let refused = world.refused(2, Command::StopJob { job: JobId(1) });
    assert_eq!(refused, CommandError::UnknownJob(JobId(1)));
}

#[test]
fn a_result_is_repeated_until_it_is_acknowledged_and_then_now_and_then() {
    let mut world = World::with_transcoder();
    world.hosts[0].dialable = false;
    world.hosts[2].dialable = false;
    let stream = world.publish();
    world.start_job(2, 1, &stream);
    world.run(300);

    // Without a master playlist there is nothing to acknowledge with.
    let body = result(&world, &stream, 1);
    world.must(2, Command::Respond { body: body.clone() });
    world.run(3000);
    let early = world.sent(2, 1, is_response);
    assert!((2..6).contains(&early), "{early} in three seconds");

    world.set_master(1);
    world.run(15_000);
    let before = world.sent(2, 1, is_response);
    world.run(12_000);
    let heartbeats = world.sent(2, 1, is_response) - before;
    assert!(
        (3..6).contains(&heartbeats),
        "{heartbeats} in twelve seconds"
    );

    world.must(2, Command::StopJob { job: JobId(1) });
    let before = world.sent(2, 1, is_response);
    world.run(20_000);
    assert_eq!(world.sent(2, 1, is_response), before);
}

#[test]
fn a_replayed_result_is_not_taken() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    world.set_master(1);
    world.start_job(2, 1, &stream);
    world.run(300);
    for sequence in [1, 2] {
        let body = result(&world, &stream, sequence);
        world.must(2, Command::Respond { body });
        world.run(100);
    }

    let old = result(&world, &stream, 1);
    world.arrive(
        1,
        0,
        &Message::TranscodeResponse(headwater_proto::TranscodeResponse {
            request: headwater_proto::RequestId(1 << 40),
            hops_left: 3,
            body: old,
        }),
    );
    world.run(10);

    let is_check = |q: &&Question| matches!(q, Question::CheckResult { .. });
    assert_eq!(world.hosts[0].asked.iter().filter(is_check).count(), 2);
    assert_eq!(world.hosts[0].node.stats().stale_claims, 1);
}

#[test]
fn results_of_others_are_refused() {
    let mut world = World::with_transcoder();
    let stream = world.publish();
    let body = result(&world, &stream, 1);
    let refused = world.refused(2, Command::Respond { body: body.clone() });
    assert_eq!(refused, CommandError::UnknownJob(JobId(1)));

    world.start_job(3, 1, &stream);
    let refused = world.refused(3, Command::Respond { body });
    assert_eq!(refused, CommandError::UnknownStream(stream));
}

#[test]
fn a_result_is_told_again_as_soon_as_its_job_is_fed_again() {
    let mut world = World::with_transcoder();
    world.hosts[2].dialable = false;
    let stream = world.publish();
    world.set_master(1);
    world.start_job(2, 1, &stream);
    world.run(300);
    let body = result(&world, &stream, 1);
    world.must(2, Command::Respond { body });
    world.stream(&stream, 0..2);
    world.cut(1, 2);
    world.run(6000);
    let before = world.sent(2, 1, is_response);

    world.connect(1, 2);
    world.run(100);

    assert_eq!(world.parent(2, &stream), Some(1));
    assert_eq!(world.sent(2, 1, is_response), before + 1);
}

#[test]
fn a_broadcaster_that_has_forgotten_a_claim_has_it_again_when_it_refuses_the_result() {
    let mut world = World::with_transcoder();
    world.hosts[2].dialable = false;
    let stream = world.publish();
    world.set_master(1);
    world.subscribe(3, &stream);
    world.run(200);
    world.start_job(2, 1, &stream);
    world.run(300);
    let body = result(&world, &stream, 1);
    world.must(2, Command::Respond { body });
    // By now the claim is refreshed once in a minute.
    world.run(120_000);
    let name = (world.id(2), JobId(1));
    assert!(world.hosts[0].granted.contains(&name));

    world.revoke(0, name.0, name.1);
    world.run(4500);

    assert!(world.hosts[0].granted.contains(&name));
}
