//! What must survive a crash: receipts, claims, transactions. Where it is kept is for the
//! program to say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::ethereum::Domain;

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

/// The part of a journal that is about one ledger, so that a node that goes to another
/// takes nothing for its own.
#[derive(Debug, Clone)]
pub struct LedgerJournal {
    journal: Arc<dyn Journal>,
    /// Before each name.
    prefix: String,
}

impl LedgerJournal {
    /// The part about the ledger of a domain.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, domain: &Domain) -> Self {
        let prefix = format!("{}/{}/", domain.chain_id, domain.contract);
        Self { journal, prefix }
    }

    fn named(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

impl Journal for LedgerJournal {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, JournalError> {
        self.journal.get(&self.named(key))
    }

    fn scan(
        &self,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        let (prefix, from) = (self.named(prefix), self.named(from));
        let entries = self.journal.scan(&prefix, &from, limit)?;
        let shorten = |(key, value): (String, Vec<u8>)| (key[self.prefix.len()..].into(), value);
        Ok(entries.into_iter().map(shorten).collect())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        let named = |change| match change {
            Change::Put { key, value } => Change::Put {
                key: self.named(&key),
                value,
            },
            Change::Remove { key } => Change::Remove {
                key: self.named(&key),
            },
        };
        self.journal.apply(changes.into_iter().map(named).collect())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Address;

    #[test]
    fn ledgers_do_not_see_each_others_entries() {
        let shared: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let [one, other] = [1, 2].map(|n| {
            let contract = Address([n; 20]);
            let chain_id = 1;
            LedgerJournal::new(shared.clone(), &Domain { chain_id, contract })
        });
        let put = |key: &str| Change::Put {
            key: key.to_owned(),
            value: vec![1],
        };
        one.apply(vec![put("a/1"), put("a/2"), put("b")]).unwrap();
        other.apply(vec![put("a/3")]).unwrap();

        let found = one.scan("a/", "a/2", 9).unwrap();
        assert_eq!(found, [("a/2".to_owned(), vec![1])]);
        assert_eq!(one.scan("", "", 9).unwrap().len(), 3);
        assert_eq!(other.get("b"), Ok(None));
        let key = "a/3".to_owned();
        one.apply(vec![Change::Remove { key }]).unwrap();
        assert_eq!(other.get("a/3"), Ok(Some(vec![1])));
    }
}
