//! What this transcoder has done and is owed receipts for.
//!
//! A segment that is done stands in the journal until its receipt does. Every step can be
//! taken again after a crash, and leads to the same end.

use std::sync::Arc;

use headwater_chain::{
    Address, Change, JobId, Journal, JournalError,
    ethereum::{Domain, Receipt, Receipts, Segment},
};
use headwater_proto::{SegmentReceipt, limits::MAX_RECEIPTS};

/// Segments that wait for receipts, read at a time.
const PAGE: usize = 1024;
/// A segment this far behind the newest receipt gets none any more.
const LOST: u64 = 4 * MAX_RECEIPTS as u64;

/// See the module.
#[derive(Debug, Clone)]
pub struct Work {
    journal: Arc<dyn Journal>,
    receipts: Receipts,
}

/// A segment that waits for its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Its number.
    pub number: u64,
    /// Hash of what came in.
    pub source: [u8; 32],
    /// Hash of what went out.
    pub renditions: [u8; 32],
}

/// By what a job's receipts are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What they are signed for.
    pub domain: Domain,
    /// The source stream.
    pub stream: String,
    /// The account that created the job.
    pub broadcaster: Address,
    /// The account of this transcoder.
    pub transcoder: Address,
}

/// What came of a list of receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Receipts that were kept.
    pub new: usize,
    /// Those that are not what this node did, or not signed by the broadcaster's account.
    pub bad: usize,
    /// Segments that are given up: later ones have receipts.
    pub lost: usize,
}

impl Work {
    /// What is in the journal already goes on.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            receipts: Receipts::new(journal.clone()),
            journal,
        }
    }

    /// The receipts that were kept.
    #[must_use]
    pub const fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// A segment of a job is done. The first time counts.
    ///
    /// # Errors
    /// When the journal fails: there will be no receipt for the segment.
    pub fn done(&self, job: JobId, done: Done) -> Result<(), JournalError> {
        let key = work_key(job, done.number);
        if self.receipts.has(job, done.number)? || self.journal.get(&key)?.is_some() {
            return Ok(());
        }
        let value = [done.source, done.renditions].concat();
        self.journal.apply(vec![Change::Put { key, value }])
    }

    /// Jobs with segments that wait for receipts.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn jobs(&self) -> Result<Vec<JobId>, JournalError> {
        let mut jobs = Vec::new();
        let mut from = WORK.to_owned();
        while let Some((key, _)) = self.journal.scan(WORK, &from, 1)?.into_iter().next() {
            let number = key
                .strip_prefix(WORK)
                .and_then(|rest| rest.split_once('/')?.0.parse().ok());
            let job = JobId(number.ok_or_else(|| damaged(&key))?);
            jobs.push(job);
            let Some(next) = job.0.checked_add(1) else {
                break;
            };
            from = work_prefix(JobId(next));
        }
        Ok(jobs)
    }

    /// Segments of a job that wait for receipts, the first 1024 in order.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn waiting(&self, job: JobId) -> Result<Vec<Done>, JournalError> {
        let prefix = work_prefix(job);
        let entries = self.journal.scan(&prefix, &prefix, PAGE)?;
        let read = |(key, value): (String, Vec<u8>)| {
            let number = key.strip_prefix(&prefix).and_then(|n| n.parse().ok());
            let hashes = value.split_first_chunk::<32>();
            let hashes = hashes.and_then(|(source, rest)| Some((*source, rest.try_into().ok()?)));
            match (number, hashes) {
                (Some(number), Some((source, renditions))) => Ok(Done {
                    number,
                    source,
                    renditions,
                }),
                _ => Err(damaged(&key)),
            }
        };
        entries.into_iter().map(read).collect()
    }

    /// How many segments of a job were done since its newest receipt.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn behind(&self, job: JobId) -> Result<usize, JournalError> {
        let newest = self.newest(job)?;
        let waiting = self.waiting(job)?;
        let later = |done: &&Done| newest.is_none_or(|newest| done.number > newest);
        Ok(waiting.iter().filter(later).count())
    }

    /// Keeps the receipts of a list that are what this node is owed.
    ///
    /// # Errors
    /// When the journal fails; the same list can be settled again.
    pub fn settle(
        &self,
        job: JobId,
        terms: &Terms,
        list: &[SegmentReceipt],
    ) -> Result<Settled, JournalError> {
        let mut settled = Settled::default();
        let mut good = Vec::new();
        let waiting = self.waiting(job)?;
        for receipt in list {
            let done = waiting.iter().find(|done| done.number == receipt.segment);
            // It has one, or another run of this node did not finish it.
            let Some(done) = done else {
                continue;
            };
            let segment = Segment {
                job,
                transcoder: terms.transcoder,
                stream: terms.stream.clone(),
                number: done.number,
                source: done.source,
            };
            if segment.signer(&terms.domain, &receipt.signature) == Some(terms.broadcaster) {
                good.push(Receipt {
                    number: done.number,
                    source: done.source,
                    renditions: done.renditions,
                    signature: receipt.signature,
                });
            } else {
                settled.bad += 1;
            }
        }
        let Some(last) = good.iter().map(|receipt| receipt.number).max() else {
            return Ok(settled);
        };
        settled.new = self.receipts.add(job, &good)?;
        let newest = self.newest(job)?.map_or(last, |newest| newest.max(last));
        let received = |number: u64| good.iter().any(|receipt| receipt.number == number);
        let mut changes = vec![Change::Put {
            key: newest_key(job),
            value: newest.to_be_bytes().to_vec(),
        }];
        for done in &waiting {
            let lost = done.number.saturating_add(LOST) < newest;
            if received(done.number) || lost {
                let key = work_key(job, done.number);
                changes.push(Change::Remove { key });
                settled.lost += usize::from(!received(done.number));
            }
        }
        self.journal.apply(changes)?;
        Ok(settled)
    }

    /// Gives up what still waits for receipts; returns how many segments.
    ///
    /// # Errors
    /// When the journal fails.
    pub fn abandon(&self, job: JobId) -> Result<usize, JournalError> {
        let waiting = self.waiting(job)?;
        let remove = |done: &Done| Change::Remove {
            key: work_key(job, done.number),
        };
        self.journal.apply(waiting.iter().map(remove).collect())?;
        Ok(waiting.len())
    }

    /// Works no more on a job whose broadcaster does not sign.
    ///
    /// # Errors
    /// When the journal fails.
    pub fn refuse(&self, job: JobId) -> Result<(), JournalError> {
        let (key, value) = (refused_key(job), Vec::new());
        self.journal.apply(vec![Change::Put { key, value }])
    }

    /// Whether [`Self::refuse`] was said of a job.
    ///
    /// # Errors
    /// When the journal fails.
    pub fn is_refused(&self, job: JobId) -> Result<bool, JournalError> {
        Ok(self.journal.get(&refused_key(job))?.is_some())
    }

    fn newest(&self, job: JobId) -> Result<Option<u64>, JournalError> {
        let key = newest_key(job);
        let Some(bytes) = self.journal.get(&key)? else {
            return Ok(None);
        };
        let bytes = bytes.try_into().map_err(|_| damaged(&key))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }
}

const WORK: &str = "work/";

fn work_prefix(job: JobId) -> String {
    format!("{WORK}{:020}/", job.0)
}

fn work_key(job: JobId, number: u64) -> String {
    format!("{}{number:020}", work_prefix(job))
}

/// The number of a job's newest receipt.
fn newest_key(job: JobId) -> String {
    format!("work-newest/{:020}", job.0)
}

fn refused_key(job: JobId) -> String {
    format!("work-refused/{:020}", job.0)
}

fn damaged(key: &str) -> JournalError {
    JournalError(format!("the entry {key} is damaged"))
}

#[cfg(test)]
mod tests {
    use headwater_chain::{
        MemoryJournal,
        ethereum::Key,
        testing::{Death, Watched},
    };

    use super::*;

    const JOB: JobId = JobId(3);
    const OWN: Address = Address([7; 20]);
    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        contract: Address([0xcc; 20]),
    };

    struct Broadcaster(Key);

    impl Broadcaster {
        fn terms(&self) -> Terms {
            Terms {
                domain: DOMAIN,
                stream: "stream".into(),
                broadcaster: self.0.address(),
                transcoder: OWN,
            }
        }

        fn receipts(&self, numbers: impl IntoIterator<Item = u64>) -> Vec<SegmentReceipt> {
            let sign = |number| {
                let segment = Segment {
                    job: JOB,
                    transcoder: OWN,
                    stream: "stream".into(),
                    number,
                    source: done(number).source,
                };
                SegmentReceipt {
                    segment: number,
                    source_hash: segment.source,
                    signature: self.0.sign_segment(&DOMAIN, &segment),
                }
            };
            numbers.into_iter().map(sign).collect()
        }
    }

    fn done(number: u64) -> Done {
        let byte = u8::try_from(number % 251).unwrap();
        Done {
            number,
            source: [byte; 32],
            renditions: [byte ^ 0xff; 32],
        }
    }

    fn numbers(waiting: &[Done]) -> Vec<u64> {
        waiting.iter().map(|done| done.number).collect()
    }

    #[test]
    fn a_receipt_that_is_what_was_done_is_kept_and_no_longer_waited_for() {
        let broadcaster = Broadcaster(Key::random());
        let journal = Arc::new(MemoryJournal::default());
        let work = Work::new(journal.clone());
        for number in [5, 6, 7, 9] {
            work.done(JOB, done(number)).unwrap();
        }

        let list = broadcaster.receipts([4, 5, 7, 8]);
        let settled = work.settle(JOB, &broadcaster.terms(), &list).unwrap();

        assert_eq!((settled.new, settled.bad, settled.lost), (2, 0, 0));
        assert_eq!(numbers(&work.waiting(JOB).unwrap()), [6, 9]);
        assert_eq!(work.behind(JOB), Ok(1), "a later one has a receipt");
        let kept = Receipts::new(journal).list(JOB, 0, 10).unwrap();
        let kept: Vec<_> = kept.iter().map(|r| (r.number, r.renditions)).collect();
        assert_eq!(kept, [5, 7].map(|n| (n, done(n).renditions)));

        work.done(JOB, done(5)).unwrap();
        assert_eq!(numbers(&work.waiting(JOB).unwrap()), [6, 9], "once");
    }

    #[test]
    fn what_the_broadcaster_did_not_sign_or_was_not_done_is_no_receipt() {
        let broadcaster = Broadcaster(Key::random());
        let work = Work::new(Arc::new(MemoryJournal::default()));
        for number in 0..5 {
            work.done(JOB, done(number)).unwrap();
        }
        let stranger = Broadcaster(Key::random());
        let mut list = stranger.receipts([0]);
        let mut other = broadcaster.receipts([1, 2]);
        other[0].signature = other[1].signature;
        list.extend(&other[..1]);
        let mut changed = done(3);
        changed.source[0] ^= 1;
        work.abandon(JOB).unwrap();
        for number in [0, 1] {
            work.done(JOB, done(number)).unwrap();
        }
        work.done(JOB, changed).unwrap();
        list.extend(broadcaster.receipts([3]));

        let settled = work.settle(JOB, &broadcaster.terms(), &list).unwrap();

        assert_eq!((settled.new, settled.bad), (0, 3));
        assert_eq!(numbers(&work.waiting(JOB).unwrap()), [0, 1, 3]);
        assert_eq!(work.behind(JOB), Ok(3));
    }

    #[test]
    fn a_segment_that_was_left_out_for_long_is_given_up() {
        let broadcaster = Broadcaster(Key::random());
        let work = Work::new(Arc::new(MemoryJournal::default()));
        for number in [1, 2, LOST + 2] {
            work.done(JOB, done(number)).unwrap();
        }
        let list = broadcaster.receipts([LOST + 2]);

        let settled = work.settle(JOB, &broadcaster.terms(), &list).unwrap();

        assert_eq!((settled.new, settled.lost), (1, 1));
        assert_eq!(numbers(&work.waiting(JOB).unwrap()), [2]);
    }

    #[test]
    fn jobs_are_told_apart_by_their_numbers() {
        let work = Work::new(Arc::new(MemoryJournal::default()));
        for job in [7, 70, 1 << 40, u64::MAX] {
            work.done(JobId(job), done(1)).unwrap();
            work.done(JobId(job), done(2)).unwrap();
        }
        assert_eq!(work.jobs().unwrap(), [7, 70, 1 << 40, u64::MAX].map(JobId));
        assert_eq!(work.abandon(JobId(70)), Ok(2));
        assert_eq!(work.jobs().unwrap().len(), 3);
        assert_eq!(work.is_refused(JobId(7)), Ok(false));
        work.refuse(JobId(7)).unwrap();
        assert_eq!(work.is_refused(JobId(7)), Ok(true));
    }

    /// Three segments done, two lists taken.
    fn run(broadcaster: &Broadcaster, journal: Arc<dyn Journal>) -> Result<(), JournalError> {
        let work = Work::new(journal);
        for number in 0..3 {
            work.done(JOB, done(number))?;
        }
        for list in [0..2, 0..3] {
            let list = broadcaster.receipts(list);
            work.settle(JOB, &broadcaster.terms(), &list)?;
        }
        Ok(())
    }

    #[test]
    fn killed_at_any_write_and_started_again_it_ends_the_same() {
        let broadcaster = Broadcaster(Key::random());
        let all = |journal: &MemoryJournal| journal.scan("", "", 1000).unwrap();
        let straight = Arc::new(MemoryJournal::default());
        run(&broadcaster, straight.clone()).unwrap();
        let mut kills = 0;
        for (at, written) in (0..7).flat_map(|at| [(at, false), (at, true)]) {
            let journal = Arc::new(MemoryJournal::default());
            let death = Death { at, written };
            let dying = Watched::dying(journal.clone(), death);
            kills += usize::from(run(&broadcaster, Arc::new(dying)).is_err());

            run(&broadcaster, journal.clone()).unwrap();

            assert_eq!(all(&journal), all(&straight), "{death:?}");
        }
        assert_eq!(kills, 14, "each of the writes was one to be killed at");
    }
}
