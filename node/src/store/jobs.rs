//! The jobs that are held, and how far the ledger was followed.

use super::{HeldJob, Store, StoreError, error::io};
use crate::jobs::JobStore;

/// Before the number of each job.
const PREFIX: &str = "job/";
const CURSOR: &str = "ledger/cursor";

impl JobStore for Store {
    fn cursor(&self) -> Result<Option<String>, StoreError> {
        self.get(CURSOR)
    }

    fn put_cursor(&self, cursor: &str) -> Result<(), StoreError> {
        self.put(CURSOR, &cursor)
    }

    fn jobs(&self) -> Result<Vec<(u64, HeldJob)>, StoreError> {
        let mut jobs = Vec::new();
        for entry in self.db.scan_prefix(PREFIX) {
            let (key, _) = entry.map_err(|reason| io(&self.path, &reason))?;
            let key = String::from_utf8_lossy(&key).into_owned();
            let number = key.strip_prefix(PREFIX).and_then(|n| n.parse().ok());
            if let (Some(number), Some(job)) = (number, self.get(&key)?) {
                jobs.push((number, job));
            }
        }
        Ok(jobs)
    }

    fn put_job(&self, job: u64, held: &HeldJob) -> Result<(), StoreError> {
        self.put(&named(job), held)
    }

    fn remove_job(&self, job: u64) -> Result<(), StoreError> {
        self.remove(&named(job))
    }
}

fn named(job: u64) -> String {
    format!("{PREFIX}{job:020}")
}
