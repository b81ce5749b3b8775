//! The receipts a transcoder has, and which of them are in a claim. Each counts once,
//! however often it comes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{receipt::Receipt, tree::ReceiptTree};
use crate::{
    journal::{Change, Journal, JournalError},
    types::JobId,
};

/// Receipts of all jobs, in a journal. Cheap to clone; whoever changes the receipts of a
/// journal has a clone of the same, which counts them.
///
/// An entry is the claim that the receipt is in, 0 for none, and the receipt.
#[derive(Debug, Clone)]
pub struct Receipts {
    journal: Arc<dyn Journal>,
    /// Of each job that has receipts; read from the journal once, and again after a write
    /// that may have failed.
    unclaimed: Arc<Mutex<Option<Unclaimed>>>,
}

type Unclaimed = BTreeMap<JobId, Waiting>;

/// What a job has in no claim.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    count: usize,
    /// None of them is below.
    first: u64,
}

impl Waiting {
    fn add(&mut self, number: u64) {
        self.first = match self.count {
            0 => number,
            _ => self.first.min(number),
        };
        self.count += 1;
    }
}

impl Receipts {
    /// Receipts in a journal.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            unclaimed: Arc::default(),
        }
    }

    /// Keeps receipts, which must have been checked; returns how many are new. A segment
    /// that has a receipt already, claimed or not, keeps that one.
    ///
    /// # Errors
    /// When the journal fails; then none was kept, or all.
    pub fn add(&self, job: JobId, receipts: &[Receipt]) -> Result<usize, JournalError> {
        self.change(|unclaimed| {
            let mut new = BTreeMap::new();
            for receipt in receipts {
                let known = new.contains_key(&receipt.number) || self.has(job, receipt.number)?;
                if !known {
                    new.insert(receipt.number, receipt);
                }
            }
            let puts = new.iter().map(|(number, receipt)| Change::Put {
                key: key(job, *number),
                value: entry(0, receipt),
            });
            self.journal.apply(puts.collect())?;
            if !new.is_empty() {
                let waiting = unclaimed.entry(job).or_default();
                new.keys().for_each(|number| waiting.add(*number));
            }
            Ok(new.len())
        })
    }

    /// How many receipts of a job are in no claim. Reads nothing that it has read before.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn waiting(&self, job: JobId) -> Result<usize, JournalError> {
        self.change(|unclaimed| Ok(unclaimed.get(&job).map_or(0, |waiting| waiting.count)))
    }

    /// Whether a segment has a receipt.
    ///
    /// # Errors
    /// When the journal fails.
    pub fn has(&self, job: JobId, number: u64) -> Result<bool, JournalError> {
        Ok(self.journal.get(&key(job, number))?.is_some())
    }

    /// The first `limit` receipts from a number on, claimed or not, in order.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn list(&self, job: JobId, from: u64, limit: usize) -> Result<Vec<Receipt>, JournalError> {
        let entries = self.journal.scan(&prefix(job), &key(job, from), limit)?;
        let receipts = entries.iter().map(|(key, value)| read(key, value));
        receipts.map(|read| Ok(read?.1)).collect()
    }

    /// The first receipts that are in no claim, in order; at most as many as a claim takes.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn unclaimed(&self, job: JobId) -> Result<Vec<Receipt>, JournalError> {
        self.change(|unclaimed| self.first(unclaimed, job))
    }

    /// The receipts of a claim, all of which are in `first..=last`, in the order of its
    /// leaves.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn of_claim(
        &self,
        job: JobId,
        claim: u64,
        first: u64,
        last: u64,
    ) -> Result<Vec<Receipt>, JournalError> {
        self.select(job, claim, first, last)
    }

    /// The jobs that have receipts, in order.
    ///
    /// # Errors
    /// When the journal fails or is damaged.
    pub fn jobs(&self) -> Result<Vec<JobId>, JournalError> {
        self.change(|unclaimed| Ok(unclaimed.keys().copied().collect()))
    }

    /// Puts the first receipts that are in no claim into one: at most `most` of them, and as
    /// many as a claim takes. `record` gives what becomes of them, and which other changes of
    /// the journal go with it. `None` without any receipt. Receipts that come meanwhile wait.
    ///
    /// # Errors
    /// When the journal fails; then nothing was changed, or all.
    pub fn claim<T>(
        &self,
        job: JobId,
        claim: u64,
        most: usize,
        record: impl FnOnce(&[Receipt]) -> Result<(T, Vec<Change>), JournalError>,
    ) -> Result<Option<T>, JournalError> {
        self.change(|unclaimed| {
            let mut chosen = self.first(unclaimed, job)?;
            chosen.truncate(most);
            let Some(last) = chosen.last().map(|last| last.number) else {
                return Ok(None);
            };
            let (recorded, more) = record(&chosen)?;
            self.put(job, claim, &chosen, more)?;
            let waiting = unclaimed.entry(job).or_default();
            waiting.count = waiting.count.saturating_sub(chosen.len());
            waiting.first = last.saturating_add(1);
            Ok(Some(recorded))
        })
    }

    /// Takes receipts out of a claim again, together with other changes of the journal.
    ///
    /// # Errors
    /// When the journal fails; then nothing was changed, or all.
    pub fn release(
        &self,
        job: JobId,
        receipts: &[Receipt],
        more: Vec<Change>,
    ) -> Result<(), JournalError> {
        self.change(|unclaimed| {
            self.put(job, 0, receipts, more)?;
            let waiting = unclaimed.entry(job).or_default();
            receipts
                .iter()
                .for_each(|receipt| waiting.add(receipt.number));
            Ok(())
        })
    }

    /// Removes all receipts of a job, together with other changes of the journal.
    ///
    /// # Errors
    /// When the journal fails; then nothing was changed, or all.
    pub fn remove(&self, job: JobId, mut more: Vec<Change>) -> Result<(), JournalError> {
        self.change(|unclaimed| {
            let prefix = prefix(job);
            let entries = self.journal.scan(&prefix, &prefix, usize::MAX)?;
            more.extend(entries.into_iter().map(|(key, _)| Change::Remove { key }));
            self.journal.apply(more)?;
            unclaimed.remove(&job);
            Ok(())
        })
    }

    /// The first receipts of a job that are in no claim.
    fn first(&self, unclaimed: &Unclaimed, job: JobId) -> Result<Vec<Receipt>, JournalError> {
        let waiting = unclaimed.get(&job).filter(|waiting| waiting.count > 0);
        match waiting {
            Some(waiting) => self.select(job, 0, waiting.first, u64::MAX),
            None => Ok(Vec::new()),
        }
    }

    fn put(
        &self,
        job: JobId,
        claim: u64,
        receipts: &[Receipt],
        mut changes: Vec<Change>,
    ) -> Result<(), JournalError> {
        let put = |receipt: &Receipt| Change::Put {
            key: key(job, receipt.number),
            value: entry(claim, receipt),
        };
        changes.extend(receipts.iter().map(put));
        self.journal.apply(changes)
    }

    /// Looks at what is in no claim, or changes it, while nobody else does.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Unclaimed) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let mut known = self
            .unclaimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut unclaimed = match known.take() {
            Some(unclaimed) => unclaimed,
            None => self.read()?,
        };
        let changed = change(&mut unclaimed)?;
        *known = Some(unclaimed);
        Ok(changed)
    }

    /// Reads what is in no claim.
    fn read(&self) -> Result<Unclaimed, JournalError> {
        let mut unclaimed = Unclaimed::new();
        let mut from = PREFIX.to_owned();
        loop {
            let page = self.journal.scan(PREFIX, &from, PAGE)?;
            for (name, value) in &page {
                let job = name.get(PREFIX.len()..PREFIX.len() + 20);
                let job = job.and_then(|number| number.parse().ok());
                let job = JobId(job.ok_or_else(|| damaged(name))?);
                let (claim, receipt) = read(name, value)?;
                let waiting = unclaimed.entry(job).or_default();
                if claim == 0 {
                    waiting.add(receipt.number);
                }
            }
            match page.last() {
                // Names that come after it in the order of bytes.
                Some((last, _)) if page.len() == PAGE => from = format!("{last}\0"),
                Some(_) | None => return Ok(unclaimed),
            }
        }
    }

    fn select(
        &self,
        job: JobId,
        claim: u64,
        first: u64,
        last: u64,
    ) -> Result<Vec<Receipt>, JournalError> {
        let mut found = Vec::new();
        let mut from = first;
        loop {
            let page = self.journal.scan(&prefix(job), &key(job, from), PAGE)?;
            for (name, value) in &page {
                let (of, receipt) = read(name, value)?;
                if receipt.number > last || found.len() == ReceiptTree::MAX {
                    return Ok(found);
                }
                let next = receipt.number.checked_add(1);
                if of == claim {
                    found.push(receipt);
                }
                match next {
                    Some(next) => from = next,
                    None => return Ok(found),
                }
            }
            if page.len() < PAGE {
                return Ok(found);
            }
        }
    }
}

/// Entries read at a time.
const PAGE: usize = 1024;

/// Where receipts stand in the journal.
const PREFIX: &str = "receipt/";

fn prefix(job: JobId) -> String {
    format!("{PREFIX}{:020}/", job.0)
}

fn key(job: JobId, number: u64) -> String {
    format!("{}{number:020}", prefix(job))
}

fn entry(claim: u64, receipt: &Receipt) -> Vec<u8> {
    [&claim.to_be_bytes()[..], &receipt.to_bytes()].concat()
}

fn read(key: &str, value: &[u8]) -> Result<(u64, Receipt), JournalError> {
    let read = value
        .split_first_chunk()
        .and_then(|(claim, rest)| Some((u64::from_be_bytes(*claim), Receipt::from_bytes(rest)?)));
    read.ok_or_else(|| damaged(key))
}

fn damaged(key: &str) -> JournalError {
    JournalError(format!("the entry {key} is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::MemoryJournal, testing::Watched};

    fn receipt(number: u64) -> Receipt {
        Receipt {
            number,
            source: [1; 32],
            renditions: [2; 32],
            signature: [3; 65],
        }
    }

    /// Claims some, which are given.
    fn claim(receipts: &Receipts, job: JobId, sequence: u64, most: usize) -> Vec<Receipt> {
        let claimed = receipts.claim(job, sequence, most, |chosen| Ok((chosen.to_vec(), vec![])));
        claimed.unwrap().unwrap_or_default()
    }

    #[test]
    fn what_comes_while_others_are_claimed_is_not_passed_over() {
        const ALL: u64 = 2000;
        let receipts = Receipts::new(Arc::new(MemoryJournal::default()));
        let job = JobId(1);
        let claimed = std::thread::scope(|scope| {
            // Each is below all that are claimed meanwhile.
            let adding = scope.spawn(|| {
                for number in (0..ALL).rev() {
                    assert_eq!(receipts.add(job, &[receipt(number)]), Ok(1));
                }
            });
            let mut claimed = 0;
            for sequence in 1.. {
                let over = adding.is_finished();
                let taken = claim(&receipts, job, sequence, 8).len();
                claimed += taken;
                if over && taken == 0 {
                    break;
                }
            }
            claimed
        });
        assert_eq!(claimed as u64, ALL);
        assert_eq!(receipts.waiting(job), Ok(0));
    }

    #[test]
    fn a_segment_has_one_receipt_even_after_it_was_claimed() {
        let journal = Arc::new(MemoryJournal::default());
        let receipts = Receipts::new(journal.clone());
        let job = JobId(7);
        assert_eq!(receipts.add(job, &[9, 10, 9, 2, 100].map(receipt)), Ok(4));
        let other = Receipt {
            source: [8; 32],
            ..receipt(9)
        };
        assert_eq!(receipts.add(job, &[other]), Ok(0));
        assert_eq!(receipts.add(JobId(70), &[receipt(9)]), Ok(1));

        let first = claim(&receipts, job, 1, 3);
        assert_eq!(first, [2, 9, 10].map(receipt));
        assert_eq!(receipts.waiting(job), Ok(1));

        assert_eq!(receipts.add(job, &[9, 5].map(receipt)), Ok(1));
        assert_eq!(receipts.unclaimed(job).unwrap(), [5, 100].map(receipt));
        assert_eq!(receipts.of_claim(job, 1, 2, 10).unwrap(), first);
        assert_eq!(receipts.list(job, 5, 2).unwrap(), [5, 9].map(receipt));
        assert!(receipts.has(job, 100).unwrap());
        assert!(!receipts.has(job, 101).unwrap());

        assert_eq!(receipts.jobs().unwrap(), [job, JobId(70)]);
        let again = Receipts::new(journal);
        for known in [&receipts, &again] {
            assert_eq!(known.waiting(job), Ok(2));
            assert_eq!(known.unclaimed(job).unwrap(), [5, 100].map(receipt));
        }
        receipts.release(job, &first, vec![]).unwrap();
        assert_eq!(
            receipts.unclaimed(job).unwrap(),
            [2, 5, 9, 10, 100].map(receipt)
        );
        receipts.remove(job, vec![]).unwrap();
        assert_eq!(receipts.jobs().unwrap(), [JobId(70)]);
        assert_eq!(receipts.waiting(job), Ok(0));
    }

    #[test]
    fn only_what_changes_is_read_again() {
        let journal = Arc::new(Watched::default());
        let job = JobId(1);
        let all: Vec<_> = (0..5000).map(receipt).collect();
        Receipts::new(journal.clone()).add(job, &all).unwrap();
        let receipts = Receipts::new(journal.clone());
        assert_eq!(receipts.waiting(job), Ok(5000));
        assert_eq!(claim(&receipts, job, 1, 4000), all[..4000]);
        let before = journal.read();

        receipts.add(job, &[receipt(5000)]).unwrap();
        assert_eq!(
            (receipts.waiting(job), receipts.jobs()),
            (Ok(1001), Ok(vec![job]))
        );
        assert_eq!(journal.read() - before, 1);
        assert_eq!(receipts.unclaimed(job).unwrap().len(), 1001);
        assert_eq!(journal.read() - before, 1 + 1001);
    }

    #[test]
    fn more_receipts_than_a_claim_takes_wait_for_the_next() {
        let receipts = Receipts::new(Arc::new(MemoryJournal::default()));
        let job = JobId(1);
        let end = u64::MAX;
        let all: Vec<_> = (0..=4096).map(|number| receipt(end - number)).collect();
        receipts.add(job, &all).unwrap();

        let taken = receipts.unclaimed(job).unwrap();

        assert_eq!(taken.len(), ReceiptTree::MAX);
        assert_eq!(taken.last(), Some(&receipt(end - 1)));
    }

    #[test]
    fn a_damaged_entry_is_an_error_that_names_it() {
        let journal = Arc::new(MemoryJournal::default());
        let change = Change::Put {
            key: key(JobId(1), 2),
            value: vec![1, 2, 3],
        };
        journal.apply(vec![change]).unwrap();

        let error = Receipts::new(journal).unclaimed(JobId(1)).unwrap_err();

        assert!(error.to_string().contains("/00000000000000000002"));
    }
}
