//! Commands that are refused, and why.

use headwater_proto::{JobId, Signed, StreamId};

use super::world::{World, at, key};
use crate::{Command, CommandError, Config};

#[test]
fn a_stream_of_another_node_cannot_be_published() {
    let mut world = World::pair();
    let stream = world.manifest(1).source();
    let refused = world.refused(
        0,
        Command::Publish {
            stream: stream.clone(),
        },
    );
    assert_eq!(refused, CommandError::NotOurs(stream));
}

#[test]
fn a_stream_cannot_be_published_twice_at_once() {
    let mut world = World::pair();
    let stream = world.publish();
    let again = Command::Publish {
        stream: stream.clone(),
    };
    let refused = world.refused(0, again);
    assert_eq!(refused, CommandError::AlreadyPublished(stream));
}

#[test]
fn a_stream_that_has_ended_can_be_opened_again_where_it_ended() {
    let mut world = World::pair();
    let stream = world.publish();
    world.stream(&stream, 0..2);
    world.finish(&stream, Some(1));
    world.must(
        0,
        Command::Publish {
            stream: stream.clone(),
        },
    );
    world.subscribe(1, &stream);
    world.run(100);

    world.stream(&stream, 2..4);

    world.assert_whole(1, &stream, 1..4);
}

#[test]
fn a_part_must_follow_the_one_before_it() {
    let mut world = World::pair();
    let stream = world.publish();
    world.append(0, &stream, 5, 0);

    for position in [at(5, 0), at(5, 2), at(6, 0), at(4, 0)] {
        let (header, chunks) = world.part(0, &stream, position, 0);
        let refused = world.refused(0, Command::Append { header, chunks });
        let expected = CommandError::OutOfOrder {
            last: Some(at(5, 0)),
            got: position,
        };
        assert_eq!(refused, expected);
    }
}

#[test]
fn a_stream_begins_at_the_start_of_a_segment() {
    let mut world = World::pair();
    let stream = world.publish();
    let (header, chunks) = world.part(0, &stream, at(5, 1), 0);
    let refused = world.refused(0, Command::Append { header, chunks });
    let expected = CommandError::OutOfOrder {
        last: None,
        got: at(5, 1),
    };
    assert_eq!(refused, expected);
}

#[test]
fn chunks_must_be_those_of_the_header() {
    let mut world = World::pair();
    let stream = world.publish();
    let (header, chunks) = world.part(0, &stream, at(0, 0), 0);
    let fewer = chunks[1..].to_vec();
    let refused = world.refused(
        0,
        Command::Append {
            header,
            chunks: fewer,
        },
    );
    assert_eq!(refused, CommandError::PayloadMismatch);
}

#[test]
fn a_header_that_nobody_could_read_is_refused() {
    let mut world = World::pair();
    let stream = world.publish();
    let (header, chunks) = world.part(0, &stream, at(0, 0), 0);
    let mut header = header.value().clone();
    header.media.as_mut().unwrap().start = u64::MAX;
    let header = Signed::sign(header, &key(0));

    let refused = world.refused(0, Command::Append { header, chunks });

    assert!(matches!(refused, CommandError::Unsendable(_)), "{refused}");
}

#[test]
fn a_payload_that_is_not_what_was_signed_is_refused() {
    let mut world = World::pair();
    let stream = world.publish();
    let (header, mut chunks) = world.part(0, &stream, at(0, 0), 0);
    let mut bytes = chunks[1].to_vec();
    bytes[100] ^= 1;
    chunks[1] = bytes.into();

    let refused = world.refused(0, Command::Append { header, chunks });

    assert_eq!(refused, CommandError::PayloadMismatch);
    assert_eq!(
        world.sent(0, 1, |m| matches!(m, headwater_proto::Message::Part(_))),
        0
    );
}

#[test]
fn nothing_can_be_done_with_a_stream_that_is_not_open() {
    let mut world = World::pair();
    let stream = world.manifest(0).source();
    let unknown = CommandError::UnknownStream(stream.clone());

    let (header, chunks) = world.part(0, &stream, at(0, 0), 0);
    assert_eq!(
        world.refused(0, Command::Append { header, chunks }),
        unknown
    );
    let body = world.end(&stream, None);
    assert_eq!(world.refused(0, Command::Finish { body }), unknown);
    let from = None;
    let subscribe = Command::Subscribe {
        stream: stream.clone(),
        from,
    };
    assert_eq!(world.refused(0, subscribe), unknown);
    let unsubscribe = Command::Unsubscribe { stream };
    assert_eq!(world.refused(1, unsubscribe), unknown);
}

#[test]
fn the_end_names_the_last_part() {
    let mut world = World::pair();
    let stream = world.publish();
    world.stream(&stream, 0..2);
    let body = world.end(&stream, Some(0));
    let refused = world.refused(0, Command::Finish { body });
    let expected = CommandError::OutOfOrder {
        last: Some(at(1, 3)),
        got: at(0, 3),
    };
    assert_eq!(refused, expected);
}

#[test]
fn a_master_of_another_node_is_refused() {
    let mut world = World::pair();
    let foreign = world.master(1).value().clone();
    let body = Signed::sign(foreign, &world.hosts[1].key);
    let refused = world.refused(1, Command::SetMaster { body });
    assert_eq!(refused, CommandError::StaleMaster);
}

#[test]
fn streams_and_jobs_have_a_limit() {
    let mut world = World::new(0, 1);
    let small = |config: &mut Config| {
        config.max_streams = 2;
        config.max_jobs = 1;
    };
    world.reconfigure(1, small);
    let stream = |name: &str| StreamId {
        rendition: name.parse().unwrap(),
        ..World::new(0, 0).manifest(0).source()
    };
    world.subscribe(1, &stream("a"));
    world.start_job(1, 1, &stream("b"));

    let (stream, from) = (stream("c"), None);
    let subscribe = Command::Subscribe {
        stream: stream.clone(),
        from,
    };
    assert_eq!(
        world.refused(1, subscribe),
        CommandError::TooMany("streams")
    );
    let job = JobId(2);
    let start = Command::StartJob { job, stream, from };
    assert_eq!(world.refused(1, start), CommandError::TooMany("jobs"));
}
