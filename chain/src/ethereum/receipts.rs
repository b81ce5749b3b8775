//! The receipts a transcoder has, and which of them are in a claim. Each counts once,
//! however often it comes.

use std::{collections::BTreeMap, sync::Arc};

use super::{receipt::Receipt, tree::ReceiptTree};
use crate::{
    journal::{Change, Journal, JournalError},
    types::JobId,
};

/// Receipts of all jobs, in a journal. Cheap to clone.
///
/// An entry is the claim that the receipt is in, 0 for none, and the receipt.
#[derive(Debug, Clone)]
pub struct Receipts {
    journal: Arc<dyn Journal>,
}

impl Receipts {
    /// Receipts in a journal.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self { journal }
    }

    /// Keeps receipts, which must have been checked; returns how many are new. A segment
    /// that has a receipt already, claimed or not, keeps that one.
    ///
    /// # Errors
    /// When the journal fails; then none was kept, or all.
    pub fn add(&self, job: JobId, receipts: &[Receipt]) -> Result<usize, JournalError> {
        let mut new = BTreeMap::new();
        for receipt in receipts {
            let key = key(job, receipt.number);
            if !new.contains_key(&key) && self.journal.get(&key)?.is_none() {
                new.insert(key, entry(0, receipt));
            }
        }
        let count = new.len();
        let puts = new.into_iter();
        let puts = puts.map(|(key, value)| Change::Put { key, value });
        self.journal.apply(puts.collect())?;
        Ok(count)
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
        self.select(job, 0, 0, u64::MAX)
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
    /// When the journal fails.
    pub fn jobs(&self) -> Result<Vec<JobId>, JournalError> {
        let mut jobs = Vec::new();
        let mut from = prefix(JobId(0));
        while let Some((name, _)) = self.journal.scan(PREFIX, &from, 1)?.into_iter().next() {
            let number = name.get(PREFIX.len()..PREFIX.len() + 20);
            let number = number.and_then(|number| number.parse().ok());
            let job = number.ok_or_else(|| damaged(&name))?;
            jobs.push(JobId(job));
            match job.checked_add(1) {
                Some(next) => from = prefix(JobId(next)),
                None => break,
            }
        }
        Ok(jobs)
    }

    /// The changes of a journal that remove all receipts of a job.
    ///
    /// # Errors
    /// When the journal fails.
    pub fn removed(&self, job: JobId) -> Result<Vec<Change>, JournalError> {
        let prefix = prefix(job);
        let entries = self.journal.scan(&prefix, &prefix, usize::MAX)?;
        let remove = |(key, _)| Change::Remove { key };
        Ok(entries.into_iter().map(remove).collect())
    }

    /// The changes of a journal that say that receipts are in a claim.
    #[must_use]
    pub fn claimed(job: JobId, claim: u64, receipts: &[Receipt]) -> Vec<Change> {
        let put = |receipt: &Receipt| Change::Put {
            key: key(job, receipt.number),
            value: entry(claim, receipt),
        };
        receipts.iter().map(put).collect()
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
    use crate::journal::MemoryJournal;

    fn receipt(number: u64) -> Receipt {
        Receipt {
            number,
            source: [1; 32],
            renditions: [2; 32],
            signature: [3; 65],
        }
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

        let first: Vec<_> = receipts
            .unclaimed(job)
            .unwrap()
            .into_iter()
            .take(3)
            .collect();
        assert_eq!(first, [2, 9, 10].map(receipt));
        journal.apply(Receipts::claimed(job, 1, &first)).unwrap();

        assert_eq!(receipts.add(job, &[9, 5].map(receipt)), Ok(1));
        assert_eq!(receipts.unclaimed(job).unwrap(), [5, 100].map(receipt));
        assert_eq!(receipts.of_claim(job, 1, 2, 10).unwrap(), first);
        assert_eq!(receipts.list(job, 5, 2).unwrap(), [5, 9].map(receipt));
        assert!(receipts.has(job, 100).unwrap());
        assert!(!receipts.has(job, 101).unwrap());

        assert_eq!(receipts.jobs().unwrap(), [job, JobId(70)]);
        journal.apply(receipts.removed(job).unwrap()).unwrap();
        assert_eq!(receipts.jobs().unwrap(), [JobId(70)]);
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
