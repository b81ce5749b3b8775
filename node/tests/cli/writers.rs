//! A job book under several real processes, and under kill -9.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    process::Child,
};

use super::{Ran, User, broadcast};

impl User {
    /// Starts a process that creates the job of broadcast `n`.
    fn writer(&self, n: u8) -> Child {
        let (id, book) = (broadcast(n), self.book());
        let arguments = ["job", "create", &id, "--json", "--ledger", &book];
        self.command(&arguments).spawn().unwrap()
    }

    /// Starts writers that all wait for the book, and lets them at it at once.
    fn race(&self, broadcasts: impl IntoIterator<Item = u8>) -> Vec<Child> {
        let book = File::options()
            .append(true)
            .create(true)
            .open(self.path("jobs.book"))
            .unwrap();
        book.lock().unwrap();
        let inode = book.metadata().unwrap().ino();
        let mut writers: Vec<_> = broadcasts.into_iter().map(|n| self.writer(n)).collect();
        let ended = |writer: &mut Child| writer.try_wait().unwrap().is_some();
        while waiting(inode) < writers.len() && !writers.iter_mut().any(ended) {
            std::thread::yield_now();
        }
        book.unlock().unwrap();
        writers
    }

    /// Numbers of all jobs in the book, by stream; each stream once.
    fn jobs(&self) -> BTreeMap<String, u64> {
        let book = self.book();
        let list = self.ask_json(&["job", "list", "--all", "--ledger", &book]);
        let jobs: BTreeMap<_, _> = list.as_array().unwrap().iter().map(job).collect();
        assert_eq!(jobs.len(), list.as_array().unwrap().len(), "{list}");
        let numbers: BTreeSet<_> = jobs.values().copied().collect();
        assert!(numbers.into_iter().eq(1..=jobs.len() as u64), "{jobs:?}");
        jobs
    }
}

/// How many processes wait for a lock on a file.
fn waiting(inode: u64) -> usize {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let inode = format!(":{inode} ");
    locks
        .lines()
        .filter(|lock| lock.contains("->") && lock.contains(&inode))
        .count()
}

fn job(job: &serde_json::Value) -> (String, u64) {
    let stream = job["stream"].as_str().unwrap().to_owned();
    (stream, job["id"].as_u64().unwrap())
}

/// The job that a writer was told it has created.
fn acknowledged(out: &str) -> (String, u64) {
    let list: serde_json::Value = serde_json::from_str(out).unwrap();
    job(&list[0])
}

#[test]
fn jobs_that_many_processes_create_at_once_are_all_there_each_once() {
    let user = User::new();
    let writers = user.race(1..=20);

    let mut told = BTreeMap::new();
    for writer in writers {
        let ran = Ran::from(writer.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        told.extend([acknowledged(&ran.out)]);
    }

    assert_eq!(told.len(), 20);
    assert_eq!(user.jobs(), told);
}

#[test]
fn a_broadcast_that_many_processes_create_a_job_for_has_one() {
    let user = User::new();
    let writers = user.race([1; 10]);

    for writer in writers {
        let ran = Ran::from(writer.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        assert_eq!(acknowledged(&ran.out).1, 1);
    }

    assert_eq!(user.jobs().len(), 1);
}

/// In each round one of three writers that write at once is killed: before anything else
/// happens, or as soon as the book has grown, when some writer is between its write and
/// its end.
#[test]
fn killed_writers_leave_a_book_that_opens_with_everything_they_acknowledged() {
    const ROUNDS: u8 = 16;
    let user = User::new();
    let size = || std::fs::metadata(user.path("jobs.book")).map_or(0, |about| about.len());
    let mut told = BTreeMap::new();
    let mut killed = 0;
    for round in 0..ROUNDS {
        let mut writers = user.race((1..=3).map(|n| round * 3 + n));
        let victim = usize::from(round % 3);
        let before = size();
        let waits = round % 2 == 0;
        while waits && size() == before && writers[victim].try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        writers[victim].kill().unwrap();
        for writer in writers {
            let output = writer.wait_with_output().unwrap();
            killed += u32::from(output.status.signal() == Some(9));
            let ran = Ran::from(output);
            // Whoever had the answer printed was told, even when killed after that.
            if ran.code == Some(0) || ran.out.ends_with("]\n") {
                told.extend([acknowledged(&ran.out)]);
            }
            assert!(!ran.err.contains("error"), "{}", ran.err);
        }
        let jobs = user.jobs();
        for (stream, number) in &told {
            assert_eq!(jobs.get(stream), Some(number), "round {round}");
        }
    }

    assert!(killed > 0, "no writer was killed in its work");
    assert!(told.len() >= usize::from(ROUNDS) * 2);
    let last = user.writer(255).wait_with_output().unwrap();
    assert!(last.status.success(), "the book can still be written");
}
