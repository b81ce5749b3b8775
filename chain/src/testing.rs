//! For tests of this crate and of those that use it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::journal::{Change, Journal, JournalError, MemoryJournal};

/// A journal that counts what is done with it, and whose process dies with one of its writes
/// if it is to.
#[derive(Debug, Default)]
pub struct Watched {
    disk: Arc<MemoryJournal>,
    death: Option<Death>,
    read: AtomicUsize,
    writes: AtomicUsize,
}

/// When a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// With this of its writes, from 0 on.
    pub at: usize,
    /// Only when that is on the disk.
    pub written: bool,
}

impl Watched {
    /// The journal of a process that writes to a disk, which outlives it.
    #[must_use]
    pub fn dying(disk: Arc<MemoryJournal>, death: Death) -> Self {
        Self {
            disk,
            death: Some(death),
            ..Self::default()
        }
    }

    /// How many entries were read.
    #[must_use]
    pub fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    /// How many writes were begun.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::Relaxed)
    }
}

impl Journal for Watched {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, JournalError> {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.disk.get(key)
    }

    fn scan(
        &self,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        let entries = self.disk.scan(prefix, from, limit)?;
        self.read.fetch_add(entries.len(), Ordering::Relaxed);
        Ok(entries)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        let Some(death) = self.death.filter(|death| number >= death.at) else {
            return self.disk.apply(changes);
        };
        if number == death.at && death.written {
            self.disk.apply(changes)?;
        }
        Err(JournalError("the process is dead".to_owned()))
    }
}
