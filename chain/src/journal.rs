//! What must survive a crash: receipts, claims, transactions. Where it is kept is for the
//! program to say.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// A change of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets an entry.
    Put {
        /// Its name.
        key: String,
        /// What it is set to.
        value: Vec<u8>,
    },
    /// Removes an entry, if it is there.
    Remove {
        /// Its name.
        key: String,
    },
}

/// The journal cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal of the ledger cannot be used: {0}")]
pub struct JournalError(pub String);

/// Entries by name, in the order of their names' bytes.
pub trait Journal: Send + Sync + std::fmt::Debug {
    /// One entry.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, JournalError>;

    /// The first `limit` entries whose name begins with `prefix` and is not below `from`,
    /// in order.
    ///
    /// # Errors
    /// When they cannot be read.
    fn scan(
        &self,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, JournalError>;

    /// Makes all changes or none. They are on disk when it returns.
    ///
    /// # Errors
    /// When they cannot be written; then none was made, or all were.
    fn apply(&self, changes: Vec<Change>) -> Result<(), JournalError>;
}

/// A journal that ends with the process; for programs that make one transaction, and tests.
#[derive(Debug, Default)]
pub struct MemoryJournal(Mutex<BTreeMap<String, Vec<u8>>>);

impl MemoryJournal {
    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for MemoryJournal {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, JournalError> {
        Ok(self.entries().get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        let from = from.max(prefix).to_owned();
        let entries = self.entries();
        let found = entries
            .range(from..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit);
        Ok(found
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        let mut entries = self.entries();
        for change in changes {
            match change {
                Change::Put { key, value } => drop(entries.insert(key, value)),
                Change::Remove { key } => drop(entries.remove(&key)),
            }
        }
        Ok(())
    }
}
