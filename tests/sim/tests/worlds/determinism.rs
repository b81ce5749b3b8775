//! The same scenario is the same run.

use std::io::Write as _;

use crate::common::{run, small};
use headwater_protocol::record::{Recorder, replay};
use headwater_sim::{
    scenario::{Hostility, Scenario},
    world::{Recording, World},
};

/// A scenario with some of everything.
fn eventful() -> Scenario {
    Scenario {
        hostile: 10,
        hostility: vec![Hostility::Drop, Hostility::Forge, Hostility::Replay],
        nat: 30,
        faults: ["crash:10%@8s+4s", "freeze:2@6s+2s", "cut:10%@10s"]
            .map(|fault| fault.parse().expect("a fault"))
            .into(),
        ..small()
    }
}

#[test]
fn a_scenario_gives_the_same_trace_each_time() {
    let (first, second) = (run(eventful()), run(eventful()));

    assert_eq!(first.trace_hash(), second.trace_hash());
    assert_eq!(first.measure.events, second.measure.events);
}

#[test]
fn another_seed_gives_another_trace() {
    let other = Scenario {
        seed: 2,
        ..eventful()
    };

    assert_ne!(run(eventful()).trace_hash(), run(other).trace_hash());
}

#[test]
fn running_in_steps_changes_nothing() {
    let whole = run(eventful());
    let mut stepped = World::new(eventful());
    for step in 1..=200 {
        stepped.run(headwater_protocol::Time::from_millis(step * 100), true);
    }

    assert_eq!(whole.trace_hash(), stepped.trace_hash());
}

#[test]
fn a_recording_changes_nothing_and_replays_without_a_difference() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut world = World::new(eventful());
    let out = std::io::BufWriter::new(file.reopen().unwrap());
    world.record(Recording::new(Recorder::new(out).unwrap(), None));
    let end = world.end();
    world.run(end, true);
    world.recorder.take().unwrap().finish().unwrap();

    assert_eq!(world.trace_hash(), run(eventful()).trace_hash());
    let replayed = replay(std::io::BufReader::new(file.reopen().unwrap())).unwrap();
    assert_eq!(replayed.difference, None);
    assert_eq!(replayed.nodes, 60);
    assert!(replayed.inputs > 10_000, "{replayed}");
}

#[test]
fn a_recording_of_another_run_is_noticed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut world = World::new(small());
    let out = std::io::BufWriter::new(file.reopen().unwrap());
    let recorder = Recorder::new(out).unwrap();
    world.record(Recording::new(recorder, Some("3".parse().unwrap())));
    let end = world.end();
    world.run(end, true);
    world.recorder.take().unwrap().finish().unwrap();

    let mut bytes = std::fs::read(file.path()).unwrap();
    // The node's seed decides its pauses; its configuration follows.
    let seed = bytes.iter().position(|b| *b == b'\n').unwrap() + 1 + 1 + 4 + 32;
    for byte in &mut bytes[seed + 32 + 8 + 3..][..8] {
        *byte = 0;
    }
    let mut changed = std::fs::File::create(file.path()).unwrap();
    changed.write_all(&bytes).unwrap();
    let replayed = replay(std::fs::File::open(file.path()).unwrap()).unwrap();

    // Without room for any neighbour it closes the first link.
    let difference = replayed.difference.unwrap();
    assert!(
        difference.happened.contains("TooManyLinks"),
        "{difference:?}"
    );
}
