//! Receipts, claims and transactions of the ledger, beside everything else in the database.

use headwater_chain::{Change, Journal, JournalError};

use super::Store;

/// Before the name of each entry.
const PREFIX: &str = "ledger/journal/";

impl Journal for Store {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, JournalError> {
        let entry = self.db.get(named(key)).map_err(|reason| failed(&reason))?;
        Ok(entry.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        let mut entries = Vec::new();
        for entry in self.db.range(named(from.max(prefix))..).take(limit) {
            let (key, value) = entry.map_err(|reason| failed(&reason))?;
            let name = key
                .strip_prefix(PREFIX.as_bytes())
                .and_then(|name| std::str::from_utf8(name).ok())
                .filter(|name| name.starts_with(prefix));
            match name {
                Some(name) => entries.push((name.to_owned(), value.to_vec())),
                None => break,
            }
        }
        Ok(entries)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                Change::Put { key, value } => batch.insert(named(&key).as_bytes(), value),
                Change::Remove { key } => batch.remove(named(&key).as_bytes()),
            }
        }
        self.db
            .apply_batch(batch)
            .map_err(|reason| failed(&reason))?;
        self.db.flush().map(drop).map_err(|reason| failed(&reason))
    }
}

fn named(key: &str) -> String {
    format!("{PREFIX}{key}")
}

fn failed(reason: &sled::Error) -> JournalError {
    JournalError(reason.to_string())
}

#[cfg(test)]
mod tests {
    use headwater_chain::MemoryJournal;

    use super::*;
    use crate::jobs::JobStore as _;

    fn put(key: &str, value: u8) -> Change {
        Change::Put {
            key: key.to_owned(),
            value: vec![value],
        }
    }

    #[test]
    fn entries_are_there_after_reopening_as_they_would_be_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryJournal::default();
        let fill = |journal: &dyn Journal| {
            let puts = ["a/1", "a/2", "a/3", "b/1"].map(|key| put(key, 1));
            journal.apply(puts.to_vec()).unwrap();
            let key = "a/2".to_owned();
            let changes = vec![Change::Remove { key }, put("a/3", 2), put("a/4", 4)];
            journal.apply(changes).unwrap();
        };
        fill(&memory);
        let store = Store::open(dir.path()).unwrap();
        store.put_cursor("12").unwrap();
        fill(&store);
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        for (prefix, from, limit) in [
            ("a/", "", 9),
            ("a/", "a/2", 9),
            ("a/", "a/1", 2),
            ("", "", 9),
            ("c", "", 9),
        ] {
            let expected = memory.scan(prefix, from, limit).unwrap();
            assert_eq!(store.scan(prefix, from, limit).unwrap(), expected);
        }
        assert_eq!(Journal::get(&store, "a/3").unwrap(), Some(vec![2]));
        assert_eq!(Journal::get(&store, "a/2").unwrap(), None);
    }
}
