//! What it costs to look whether a claim is due, for a job with few and with many receipts.
//!
//! `cargo bench -p headwater-chain --bench claims`; prints microseconds and their ratio. The
//! last line is what choosing the receipts costs, which every look did once.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot run has nothing to report, and reports on stdout"
)]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use headwater_chain::{
    JobId, MemoryJournal,
    ethereum::{Receipt, Receipts},
};

const JOB: JobId = JobId(1);
const FEW: u64 = 10;
const MANY: u64 = 10_000;
/// Waiting at the end of a long job: the rest is in claims.
const WAITING: u64 = 1_000;

fn main() {
    let [few, many] = [FEW, MANY].map(|count| {
        let receipts = job_of(count);
        time(|| receipts.waiting(JOB).unwrap())
    });
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    println!("a look: {FEW} receipts {few:?}, {MANY} receipts {many:?}, ratio {ratio:.2}");
    let receipts = job_of(MANY);
    let reading = time(|| receipts.unclaimed(JOB).unwrap().len());
    let claimed = MANY - WAITING;
    let first = receipts.unclaimed(JOB).unwrap();
    assert_eq!(first.len(), 4096, "as many as a claim takes");
    for (sequence, _) in (1..).zip((0..claimed).step_by(1000)) {
        let made = receipts.claim(JOB, sequence, 1000, |_| Ok(((), vec![])));
        assert_eq!(made, Ok(Some(())));
    }
    let late = time(|| receipts.unclaimed(JOB).unwrap().len());
    let ratio = reading.as_secs_f64() / many.as_secs_f64();
    println!("choosing: 4096 of {MANY} {reading:?}, the last {WAITING} {late:?}");
    println!("a look that chooses against one that does not: {ratio:.0} to 1");
}

fn job_of(count: u64) -> Receipts {
    let receipts = Receipts::new(Arc::new(MemoryJournal::default()));
    let all: Vec<_> = (0..count).map(receipt).collect();
    receipts.add(JOB, &all).unwrap();
    receipts
}

fn receipt(number: u64) -> Receipt {
    Receipt {
        number,
        source: [1; 32],
        renditions: [2; 32],
        signature: [3; 65],
    }
}

/// The mean time of something, over a tenth of a second or more.
fn time<T>(mut work: impl FnMut() -> T) -> Duration {
    let (start, mut rounds) = (Instant::now(), 0_u32);
    while start.elapsed() < Duration::from_millis(100) {
        for _ in 0..10 {
            black_box(work());
        }
        rounds += 10;
    }
    start.elapsed() / rounds
}
