//! A transcoder's process that is killed (kill -9) at every point at which it has just
//! written something down or not yet, and at which a transaction has just been sent or not
//! yet, or whose disk is full: the next process ends up with the same jobs, receipts, claims
//! and money.
//!
//! The process is this test's own program with the real store, watcher, books of work,
//! receipts, claims and sender, on a real chain.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod keeper;
mod points;
mod scene;
mod transcoder;

use std::{os::unix::process::ExitStatusExt as _, path::Path, process::Stdio};

use headwater_anvil::Anvil;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;

use crate::{points::Points, scene::Scene, transcoder::Outcome};

/// Where the child finds its chain, its contract and its data directory, and at which point
/// it is killed.
const CHAIN: &str = "KILLED_CHAIN";
const CONTRACT: &str = "KILLED_CONTRACT";
const DIR: &str = "KILLED_DIR";
const AT: &str = "KILLED_AT";
/// Where the child writes what it came to.
const OUTCOME: &str = "outcome.json";
/// Chains on which points are tried at the same time.
const CHAINS: usize = 2;
/// Points of a run, at the least: otherwise it does not do what is tested here.
const POINTS: usize = 60;

/// One run of the transcoder. In a child it does as it is told there.
#[tokio::test]
async fn a_run_that_nobody_kills_is_paid() {
    let told = [CHAIN, CONTRACT, DIR].map(|name| std::env::var(name).ok());
    if let [Some(chain), Some(contract), Some(dir)] = told {
        let at = std::env::var(AT).ok().map(|at| at.parse().unwrap());
        let scene = Scene::at(&chain, contract.parse().unwrap());
        let dir = Path::new(&dir);
        let outcome = transcoder::run(&scene, dir, Points::killing(at)).await;
        let text = serde_json::to_string(&outcome).unwrap();
        std::fs::write(dir.join(OUTCOME), text).unwrap();
        return;
    }
    let anvil = Anvil::start();
    let scene = Scene::open(&anvil).await;
    let dir = tempfile::tempdir().unwrap();
    let outcome = transcoder::run(&scene, dir.path(), Points::killing(None)).await;
    outcome.check();
}

/// What happens to a child.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lives,
    /// It is killed at this point.
    KilledAt(usize),
    /// Its disk has room for files of so many blocks.
    DiskOf(usize),
}

/// Runs a child; `None` when it did not come to its end for what was done to it.
async fn child(scene: &Scene, dir: &Path, fate: Fate) -> Option<Outcome> {
    let program = std::env::current_exe().unwrap();
    let mut command = match fate {
        Fate::Lives | Fate::KilledAt(_) => Command::new(program),
        Fate::DiskOf(blocks) => {
            let mut shell = Command::new("sh");
            let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
            shell.arg("-c").arg(limited).arg(program);
            shell
        }
    };
    if let Fate::KilledAt(point) = fate {
        command.env(AT, point.to_string());
    }
    command
        .args(["--exact", "a_run_that_nobody_kills_is_paid", "--nocapture"])
        .env(CHAIN, scene.url())
        .env(CONTRACT, scene.contract().to_string())
        .env(DIR, dir)
        .stdin(Stdio::null());
    let ran = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    match fate {
        Fate::KilledAt(_) if ran.status.signal() == Some(Signal::SIGKILL as i32) => return None,
        Fate::DiskOf(_) if !ran.status.success() => {
            assert!(said.contains("File too large"), "{said}");
            return None;
        }
        Fate::Lives | Fate::KilledAt(_) | Fate::DiskOf(_) => {}
    }
    assert!(ran.status.success(), "{fate:?}: {said}");
    let text = std::fs::read_to_string(dir.join(OUTCOME)).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// A chain that can be put back to where the transcoder begins.
struct Stage {
    anvil: Anvil,
    scene: Scene,
    snapshot: serde_json::Value,
    expected: Outcome,
}

impl Stage {
    async fn set() -> Self {
        let anvil = Anvil::start();
        let scene = Scene::open(&anvil).await;
        let snapshot = anvil.rpc("evm_snapshot", json!([])).await;
        let dir = tempfile::tempdir().unwrap();
        let expected = child(&scene, dir.path(), Fate::Lives).await.unwrap();
        expected.check();
        Self {
            anvil,
            scene,
            snapshot,
            expected,
        }
    }

    /// Runs a child for each fate, and then one that lives and has to end as one whom
    /// nothing ever happened to; false when the first one already did.
    async fn play(&mut self, fates: &[Fate]) -> bool {
        self.anvil.rpc("evm_revert", json!([self.snapshot])).await;
        self.snapshot = self.anvil.rpc("evm_snapshot", json!([])).await;
        let dir = tempfile::tempdir().unwrap();
        let first = child(&self.scene, dir.path(), fates[0]).await;
        if let Some(outcome) = first {
            assert_eq!(outcome, self.expected);
            return false;
        }
        for fate in &fates[1..] {
            child(&self.scene, dir.path(), *fate).await;
        }
        let ended = child(&self.scene, dir.path(), Fate::Lives).await.unwrap();
        assert_eq!(ended, self.expected, "{fates:?}");
        true
    }
}

/// Kills a child at every so manyth point from one on; gives how many there were.
async fn kill_from(first: usize) -> usize {
    let mut stage = Stage::set().await;
    for at in (first..).step_by(CHAINS) {
        let fate = Fate::KilledAt(at);
        // Now and then the next process has no luck either.
        let next = [Fate::KilledAt(at / 2)];
        let next = if at % 7 < 2 { &next[..] } else { &[] };
        if !stage.play(&[&[fate], next].concat()).await {
            return at;
        }
    }
    unreachable!("a run has an end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_at_any_point_ends_the_same() {
    let chains = (0..CHAINS).map(|first| tokio::spawn(kill_from(first)));
    for points in futures::future::join_all(chains).await {
        let points = points.unwrap();
        assert!(points >= POINTS, "{points} points only");
    }
}

#[tokio::test]
async fn whoever_finds_the_disk_full_ends_the_same_when_it_is_not() {
    let mut stage = Stage::set().await;
    let mut failed = 0;
    for blocks in (12..).step_by(2) {
        let fate = Fate::DiskOf(blocks);
        if !stage.play(&[fate]).await {
            break;
        }
        failed += 1;
    }
    assert!(failed > 3, "there was room in all but {failed} disks");
}
