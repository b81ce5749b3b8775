//! What a node remembers, in its data directory. The only place that uses sled.
//!
//! Identity is a file of its own, `node.key`; everything else is in a sled database.
//! Each change is flushed before the call returns, so it survives kill -9.

mod identity;

use std::{
    fmt,
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use headwater_proto::{AddressText, NodeId, SigningKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::secret::Secret;

/// The file of the node's identity.
const NODE_KEY: &str = "node.key";
/// Relayers remembered at most.
const MAX_PEERS: usize = 256;
/// Layout of the database; a newer one is not touched.
const VERSION: u64 = 1;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another node runs on it.
    #[error(
        "data directory {path} is in use by another node (process {pid}); give this one its own with --data-dir"
    )]
    InUse {
        /// The directory.
        path: String,
        /// Who uses it.
        pid: String,
    },
    /// The system refused.
    #[error("data directory {path}: {reason}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// `node.key` is damaged.
    #[error("{path} is no node key; restore it from a copy, or remove it to get a new identity")]
    Key {
        /// The file.
        path: String,
    },
    /// There is no `node.key`.
    #[error("there is no node key at {path}; `headwater node` makes one when it first starts")]
    NoKey {
        /// The file.
        path: String,
    },
    /// The database is not the one that was written.
    #[error(
        "the database {path} is damaged ({reason}); restore it from a copy, or move it away \
         to begin with an empty one: node.key and with it the node's id stay as they are, \
         publish keys and held jobs are lost"
    )]
    Lost {
        /// Its directory.
        path: String,
        /// What was found.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("data directory {path} was written by a newer version of headwater")]
    Newer {
        /// The directory.
        path: String,
    },
    /// An entry cannot be read.
    #[error("the entry {key} of the database is damaged: {reason}")]
    Damaged {
        /// Which.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// One broadcast, by the name it is published under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broadcast {
    /// Its id, as text.
    pub broadcast: String,
    /// Number of the next segment.
    pub segment: u64,
    /// Index of the next init.
    pub init: u32,
    /// Discontinuities so far.
    pub discontinuity: u32,
    /// Where the next part may begin, in ticks.
    pub start: u64,
    /// When it last had an encoder, ms since 1970.
    pub seen_ms: u64,
}

/// One job that this transcoder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldJob {
    /// The source stream, as text.
    pub stream: String,
    /// Names of the renditions that are wanted; empty for the node's own ladder.
    pub profiles: Vec<String>,
}

/// The id of the node whose data directory this is. Changes nothing, and can be asked
/// while the node runs.
///
/// # Errors
/// When there is no key, or it is damaged.
pub fn node_id(path: &Path) -> Result<NodeId, StoreError> {
    let file = path.join(NODE_KEY);
    match identity::load(&file)? {
        Some(key) => Ok(key.node_id()),
        None => Err(StoreError::NoKey {
            path: file.display().to_string(),
        }),
    }
}

/// The data directory of a running node.
pub struct Store {
    path: PathBuf,
    db: sled::Db,
    /// Held for as long as the node runs.
    _lock: File,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a data directory, which is created when it does not exist.
    ///
    /// # Errors
    /// When another node uses it, or it cannot be read and written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        identity::create_private_dir(path)?;
        let lock = lock(path)?;
        identity::create_private_dir(&path.join("db"))?;
        let db = sled::Config::default()
            .path(path.join("db"))
            .cache_capacity(16 * 1024 * 1024)
            .open()
            .map_err(|reason| io(path, &reason))?;
        let store = Self {
            path: path.to_owned(),
            db,
            _lock: lock,
        };
        match store.get::<u64>("version")? {
            Some(version) if version > VERSION => {
                return Err(StoreError::Newer {
                    path: path.display().to_string(),
                });
            }
            Some(_) => {}
            None => store.put("version", &VERSION)?,
        }
        Ok(store)
    }

    /// The node's key, which is made when there is none.
    ///
    /// # Errors
    /// When the key's file is damaged or cannot be read or written.
    pub fn node_key(&self) -> Result<SigningKey, StoreError> {
        identity::load_or_create(&self.path.join(NODE_KEY))
    }

    /// The broadcast that a name was last published as.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn broadcast(&self, name: &str) -> Result<Option<Broadcast>, StoreError> {
        self.get(&format!("broadcast/{name}"))
    }

    /// Remembers what a name is published as.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_broadcast(&self, name: &str, broadcast: &Broadcast) -> Result<(), StoreError> {
        self.put(&format!("broadcast/{name}"), broadcast)
    }

    /// Forgets a broadcast that has ended.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn end_broadcast(&self, name: &str) -> Result<(), StoreError> {
        self.remove(&format!("broadcast/{name}"))
    }

    /// The publish key of a name. It has to be shown again at each start, so it is kept
    /// as it is, in a directory that only its owner can read.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn publish_key(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        let key: Option<String> = self.get(&format!("publish-key/{name}"))?;
        Ok(key.map(Secret::from))
    }

    /// Remembers a publish key that was made for a name.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_publish_key(&self, name: &str, key: &Secret) -> Result<(), StoreError> {
        self.put(&format!("publish-key/{name}"), &key.expose())
    }

    /// How far the ledger has been followed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn cursor(&self) -> Result<Option<String>, StoreError> {
        self.get("ledger/cursor")
    }

    /// Remembers how far the ledger has been followed.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_cursor(&self, cursor: &str) -> Result<(), StoreError> {
        self.put("ledger/cursor", &cursor)
    }

    /// The jobs this transcoder holds, by number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn jobs(&self) -> Result<Vec<(u64, HeldJob)>, StoreError> {
        let mut jobs = Vec::new();
        for entry in self.db.scan_prefix("job/") {
            let (key, _) = entry.map_err(|reason| io(&self.path, &reason))?;
            let key = String::from_utf8_lossy(&key).into_owned();
            let number = key.strip_prefix("job/").and_then(|n| n.parse().ok());
            if let (Some(number), Some(job)) = (number, self.get(&key)?) {
                jobs.push((number, job));
            }
        }
        Ok(jobs)
    }

    /// Remembers a job.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_job(&self, job: u64, held: &HeldJob) -> Result<(), StoreError> {
        self.put(&format!("job/{job:020}"), held)
    }

    /// Forgets a job.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remove_job(&self, job: u64) -> Result<(), StoreError> {
        self.remove(&format!("job/{job:020}"))
    }

    /// A number larger than any that was returned before, whatever happens to the node.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn next_sequence(&self) -> Result<u64, StoreError> {
        let next = self.get::<u64>("sequence")?.unwrap_or(0) + 1;
        self.put("sequence", &next)?;
        Ok(next)
    }

    /// Relayers known from earlier runs.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn peers(&self) -> Result<Vec<(NodeId, Vec<AddressText>)>, StoreError> {
        let peers: Vec<(String, Vec<String>)> = self.get("peers")?.unwrap_or_default();
        let read = |(node, addresses): (String, Vec<String>)| {
            let addresses = addresses.iter().filter_map(|a| AddressText::new(a).ok());
            Some((node.parse().ok()?, addresses.collect()))
        };
        Ok(peers.into_iter().filter_map(read).collect())
    }

    /// Remembers relayers.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_peers(
        &self,
        peers: impl IntoIterator<Item = (NodeId, Vec<AddressText>)>,
    ) -> Result<(), StoreError> {
        let text = |addresses: Vec<AddressText>| {
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let peers: Vec<_> = peers
            .into_iter()
            .take(MAX_PEERS)
            .map(|(node, addresses)| (node.to_string(), text(addresses)))
            .collect();
        self.put("peers", &peers)
    }

    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let bytes = self.db.get(key).map_err(|reason| io(&self.path, &reason))?;
        let read = |bytes: sled::IVec| {
            serde_json::from_slice(&bytes).map_err(|reason| StoreError::Damaged {
                key: key.to_owned(),
                reason: reason.to_string(),
            })
        };
        bytes.map(read).transpose()
    }

    fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value).map_err(|reason| StoreError::Damaged {
            key: key.to_owned(),
            reason: reason.to_string(),
        })?;
        self.db
            .insert(key, bytes)
            .and_then(|_| self.db.flush())
            .map(drop)
            .map_err(|reason| io(&self.path, &reason))
    }

    fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.db
            .remove(key)
            .and_then(|_| self.db.flush())
            .map(drop)
            .map_err(|reason| io(&self.path, &reason))
    }
}

fn io(path: &Path, reason: &dyn fmt::Display) -> StoreError {
    StoreError::Io {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// Takes the directory for this process, and says so in the lock's file.
fn lock(path: &Path) -> Result<File, StoreError> {
    let file = path.join("headwater.lock");
    let error = |reason: std::io::Error| io(&file, &reason);
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&file)
        .map_err(error)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only to be helpful: the other process may be about to write it.
            lock.read_to_string(&mut pid).map_err(error)?;
            return Err(StoreError::InUse {
                path: path.display().to_string(),
                pid: pid.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(reason)) => return Err(error(reason)),
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()))
        .map_err(error)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let node = store.node_key().unwrap().node_id();
        let job = HeldJob {
            stream: "s".into(),
            profiles: vec![],
        };
        store.put_job(7, &job).unwrap();
        store.put_cursor("12").unwrap();
        assert_eq!(store.next_sequence().unwrap(), 1);
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.node_key().unwrap().node_id(), node);
        assert_eq!(store.jobs().unwrap(), [(7, job)]);
        assert_eq!(store.cursor().unwrap().as_deref(), Some("12"));
        assert_eq!(store.next_sequence().unwrap(), 2);
        store.remove_job(7).unwrap();
        assert_eq!(store.jobs().unwrap(), []);
    }

    #[test]
    fn a_directory_belongs_to_one_node_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();

        let error = Store::open(dir.path()).unwrap_err().to_string();

        assert!(error.contains("in use by another node"), "{error}");
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(store);
        Store::open(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_key_is_never_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("node.key"), "garbage").unwrap();

        let error = store.node_key().unwrap_err();

        assert!(matches!(error, StoreError::Key { .. }), "{error}");
        assert!(!error.to_string().contains("garbage"));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        let store = Store::open(&path).unwrap();
        store.node_key().unwrap();

        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path.join("node.key")), 0o600);
        assert_eq!(mode(&path), 0o700);
    }
}
