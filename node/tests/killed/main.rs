//! A transcoder's process that is killed (kill -9) at every point at which it has just
//! written something down or not yet, and at which a transaction has just been sent or not
//! yet: the next process ends up with the same jobs, receipts, claims and money.
//!
//! The process is this test's own program with the real store, watcher, books of work,
//! receipts, claims and sender, on a real chain.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod anvil;
mod points;
mod scene;
mod transcoder;

use std::{os::unix::process::ExitStatusExt as _, path::Path, process::Stdio};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;

use crate::{anvil::Anvil, points::Points, scene::Scene, transcoder::Outcome};

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

/// Runs a child to its end; `None` when it was killed.
async fn child(scene: &Scene, dir: &Path, at: Option<usize>) -> Option<Outcome> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "a_run_that_nobody_kills_is_paid", "--nocapture"])
        .env(CHAIN, scene.url())
        .env(CONTRACT, scene.contract().to_string())
        .env(DIR, dir)
        .envs(at.map(|at| (AT, at.to_string())))
        .stdin(Stdio::null());
    let ran = command.output().await.unwrap();
    if ran.status.signal() == Some(Signal::SIGKILL as i32) {
        return None;
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "killed at {at:?}: {said}");
    let text = std::fs::read_to_string(dir.join(OUTCOME)).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

/// Kills a child at every so manyth point from one on; gives how many there were.
async fn kill_at(from: usize) -> usize {
    let anvil = Anvil::start();
    let scene = Scene::open(&anvil).await;
    let mut snapshot = anvil.rpc("evm_snapshot", json!([])).await;
    let whole = tempfile::tempdir().unwrap();
    let expected = child(&scene, whole.path(), None).await.unwrap();
    expected.check();
    let mut at = from;
    loop {
        anvil.rpc("evm_revert", json!([snapshot])).await;
        snapshot = anvil.rpc("evm_snapshot", json!([])).await;
        let dir = tempfile::tempdir().unwrap();
        if child(&scene, dir.path(), Some(at)).await.is_some() {
            return at;
        }
        // Now and then the next process has no luck either.
        if at % 7 < 2 {
            child(&scene, dir.path(), Some(at / 2)).await;
        }
        let ended = child(&scene, dir.path(), None).await.unwrap();
        assert_eq!(ended, expected, "killed at point {at}");
        at += CHAINS;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_at_any_point_ends_the_same() {
    let chains = (0..CHAINS).map(|from| tokio::spawn(kill_at(from)));
    for points in futures::future::join_all(chains).await {
        let points = points.unwrap();
        assert!(points >= POINTS, "{points} points only");
    }
}
