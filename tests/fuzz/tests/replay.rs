//! Every target with its corpus, its seeds and seeded mutations of both: what a fuzzer
//! found once stays found.

use std::{collections::BTreeSet, fs, path::PathBuf};

use headwater_fuzz::{TARGETS, Target, memory, mutate::Mutator, recorded, seeds};
use headwater_protocol::record::replay;

/// Mutated inputs of each target; `FUZZ_MUTATIONS` makes it more.
fn mutations(usual: usize) -> usize {
    let wanted = std::env::var("FUZZ_MUTATIONS").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    *found.expect("a target of this name")
}

/// Seeds and corpus of a target, by name.
fn inputs(name: &str) -> Vec<(String, Vec<u8>)> {
    let seeds = seeds::all().into_iter().filter(|seed| seed.target == name);
    let mut inputs: Vec<_> = seeds.map(|seed| (seed.name, seed.data)).collect();
    let mut files: Vec<_> = fs::read_dir(corpus().join(name))
        .expect("every target has a folder")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    for file in files {
        let name = file.display().to_string();
        inputs.push((name, fs::read(&file).expect("it can be read")));
    }
    inputs
}

/// Runs one input; when something does not hold, it is kept in a file.
fn check(target: &Target, name: &str, data: &[u8]) {
    let (most, result) = memory::peak(|| std::panic::catch_unwind(|| (target.run)(data)));
    if result.is_ok() && most <= target.memory {
        return;
    }
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-broken", target.name));
    fs::write(&file, data).expect("a file can be written");
    panic!(
        "{name} breaks a rule or holds too much ({most} bytes); again:\n  \
         cargo run -p headwater-fuzz --example replay -- {} {}",
        target.name,
        file.display()
    );
}

/// Runs a target with all inputs, and with as many mutations of them.
fn replay_all(name: &str, count: usize) {
    let target = target(name);
    let inputs = inputs(name);
    for (name, data) in &inputs {
        check(&target, name, data);
    }
    let mut mutator = Mutator::new(1);
    for number in 0..mutations(count) {
        let [(name, one), (_, other)] = [(); 2].map(|()| &inputs[mutator.index(inputs.len())]);
        let changed = mutator.change(one, other, target.longest);
        check(&target, &format!("{name}, mutation {number}"), &changed);
    }
}

#[test]
fn frames_from_anywhere_are_read_or_refused() {
    replay_all("decode", 20_000);
}

#[test]
fn nothing_unsigned_passes_a_link() {
    replay_all("link", 300);
}

#[test]
fn a_node_keeps_its_contract_whatever_happens_to_it() {
    replay_all("core", 250);
}

#[test]
fn a_damaged_recording_is_an_error() {
    replay_all("trace", 1_000);
}

#[test]
fn every_id_has_one_text() {
    replay_all("text", 20_000);
}

#[test]
fn what_happens_to_a_node_is_recorded_and_replayed_without_a_difference() {
    // Each of them runs three times: some are enough.
    for (name, data) in inputs("core").into_iter().step_by(5) {
        let recording = recorded(&data);
        let replayed = replay(&recording[..]).unwrap();
        assert_eq!(replayed.difference, None, "{name}");
        assert_eq!(recording, recorded(&data), "{name}: the same again");
    }
}

#[test]
fn the_corpus_is_small_and_has_a_folder_for_each_target() {
    let folders: BTreeSet<_> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let targets: BTreeSet<_> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    assert_eq!(folders, targets);

    let inputs = TARGETS.iter().flat_map(|target| {
        let seeds = seeds::all().into_iter();
        let seeds = seeds.filter(|seed| seed.target == target.name).count();
        inputs(target.name).split_off(seeds)
    });
    let bytes: usize = inputs.map(|(_, data)| data.len()).sum();
    assert!(bytes <= 1 << 20, "{bytes} bytes");
}
