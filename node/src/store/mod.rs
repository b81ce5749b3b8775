//! What a node remembers, in its data directory. The only place that uses sled.
//!
//! Identity is a file of its own, `node.key`; everything else is in a sled database.
//! Each change is flushed before the call returns, so it survives kill -9.

mod error;
mod identity;
mod jobs;
mod journal;
mod lock;

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
};

use headwater_proto::{AddressText, NodeId, SigningKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::error::StoreError;
use self::{error::io, lock::lock};
use crate::{clock, secret::Secret};

/// The file of the node's identity.
const NODE_KEY: &str = "node.key";
/// Relayers remembered at most.
const MAX_PEERS: usize = 256;
/// Sources of whose renditions the place is remembered.
const MAX_PLACES: usize = 256;
/// Layout of the database; a newer one is not touched.
const VERSION: u64 = 1;

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

/// How far the renditions of one source have come, of all those that this transcoder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenditionsPlace {
    /// Number of the first segment that nothing was published of.
    pub segment: u64,
    /// Index of the first init that was not.
    pub init: u32,
    /// Discontinuities so far.
    pub discontinuity: u32,
    /// When it was written, ms since 1970.
    pub at_ms: u64,
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
        let directory = path.join("db");
        let known = path.join(NODE_KEY).exists();
        // A key alone is an identity that was restored, and begins with an empty database.
        let used = known && std::fs::read_dir(&directory).is_ok_and(|mut d| d.next().is_some());
        identity::create_private_dir(&directory)?;
        let db = sled::Config::default()
            .path(&directory)
            .cache_capacity(16 * 1024 * 1024)
            .open()
            .map_err(|reason| match reason {
                // What cannot be read as a database of this or any version is one that was
                // damaged: nothing else has ever been written there.
                sled::Error::Corruption { .. }
                | sled::Error::CollectionNotFound(_)
                | sled::Error::Unsupported(_)
                | sled::Error::ReportableBug(_) => lost(&directory, &reason),
                sled::Error::Io(_) => io(&directory, &reason),
            })?;
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
            // The version is written before the key, so it was there.
            None if used => return Err(lost(&directory, &"its entries cannot be found")),
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

    /// The number of the chain that a contract was on when it was last used.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn chain(&self, contract: &str) -> Result<Option<u64>, StoreError> {
        self.get(&format!("ledger/chain/{contract}"))
    }

    /// Remembers the number of the chain that a contract is on.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_chain(&self, contract: &str, chain: u64) -> Result<(), StoreError> {
        self.put(&format!("ledger/chain/{contract}"), &chain)
    }

    /// How far the renditions of a source have come.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn renditions_place(&self, source: &str) -> Result<Option<RenditionsPlace>, StoreError> {
        self.get(&place_key(source))
    }

    /// Remembers how far the renditions of a source have come. The place of 256 sources is
    /// remembered; that which was written longest ago is forgotten for one more.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_renditions_place(
        &self,
        source: &str,
        place: &RenditionsPlace,
    ) -> Result<(), StoreError> {
        let key = place_key(source);
        if self.get::<RenditionsPlace>(&key)?.is_none() {
            self.forget_places()?;
        }
        self.put(&key, place)
    }

    /// Makes room for one more place.
    fn forget_places(&self) -> Result<(), StoreError> {
        let mut places = Vec::new();
        for entry in self.db.scan_prefix(place_key("")) {
            let (key, _) = entry.map_err(|reason| io(&self.path, &reason))?;
            let key = String::from_utf8_lossy(&key).into_owned();
            let at = self.get::<RenditionsPlace>(&key)?.map(|place| place.at_ms);
            places.push((at, key));
        }
        places.sort_unstable();
        let over = (places.len() + 1).saturating_sub(MAX_PLACES);
        places[..over]
            .iter()
            .try_for_each(|(_, key)| self.remove(key))
    }

    /// A number larger than any that was returned before, whatever happens to the node:
    /// while the clock is right, even when the database was lost.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn next_sequence(&self) -> Result<u64, StoreError> {
        let last = self.get::<u64>("sequence")?.unwrap_or(0);
        let next = last.saturating_add(1).max(clock::unix_ms());
        self.put("sequence", &next)?;
        Ok(next)
    }

    /// Relayers known from earlier runs, the most useful first.
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

    /// Remembers relayers, the most useful first; those beyond 256 are forgotten.
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

fn place_key(source: &str) -> String {
    format!("renditions/{source}")
}

fn lost(path: &Path, reason: &dyn fmt::Display) -> StoreError {
    StoreError::Lost {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobStore as _;

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
        let first = store.next_sequence().unwrap();
        drop(store);

        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.node_key().unwrap().node_id(), node);
        assert_eq!(store.jobs().unwrap(), [(7, job)]);
        assert_eq!(store.cursor().unwrap().as_deref(), Some("12"));
        assert!(store.next_sequence().unwrap() > first);
        store.remove_job(7).unwrap();
        assert_eq!(store.jobs().unwrap(), []);
    }

    #[test]
    fn places_of_a_few_hundred_sources_are_kept_the_newest_for_longest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let place = |at_ms| RenditionsPlace {
            segment: at_ms,
            init: 1,
            discontinuity: 0,
            at_ms,
        };
        let name = |number: u64| format!("source{}", number % 256);
        // The first is written again when all are there.
        for number in 0..=256 {
            store
                .put_renditions_place(&name(number), &place(number))
                .unwrap();
        }

        store.put_renditions_place("another", &place(257)).unwrap();

        let segment = |source: &str| {
            let place = store.renditions_place(source).unwrap();
            place.map(|place| place.segment)
        };
        assert_eq!(segment("source0"), Some(256));
        assert_eq!(segment("source1"), None);
        assert_eq!(segment("source2"), Some(2));
        assert_eq!(segment("another"), Some(257));
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

    #[test]
    fn a_damaged_database_is_never_taken_for_an_empty_one() {
        let damages: [fn(&Path); 5] = [
            |db| std::fs::write(db.with_file_name("conf"), [7; 62]).unwrap(),
            |db| std::fs::write(db, [7; 600_000]).unwrap(),
            |db| std::fs::write(db, [0; 600_000]).unwrap(),
            |db| std::fs::write(db, []).unwrap(),
            |db| std::fs::remove_file(db).unwrap(),
        ];
        for damage in damages {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            let node = store.node_key().unwrap().node_id();
            store.put_publish_key("live", &"secret77".into()).unwrap();
            let sequence = store.next_sequence().unwrap();
            drop(store);
            damage(&dir.path().join("db/db"));

            for _ in 0..2 {
                let error = Store::open(dir.path()).unwrap_err();
                assert!(matches!(error, StoreError::Lost { .. }), "{error}");
                assert!(error.to_string().contains("move it away"), "{error}");
            }

            std::fs::rename(dir.path().join("db"), dir.path().join("db.old")).unwrap();
            let store = Store::open(dir.path()).unwrap();
            assert_eq!(store.node_key().unwrap().node_id(), node);
            assert!(store.next_sequence().unwrap() > sequence);
        }
    }

    #[test]
    fn an_identity_can_be_restored_from_its_key_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let node = Store::open(&old).unwrap().node_key().unwrap().node_id();
        std::fs::create_dir(&new).unwrap();
        std::fs::copy(old.join("node.key"), new.join("node.key")).unwrap();

        let store = Store::open(&new).unwrap();

        assert_eq!(store.node_key().unwrap().node_id(), node);
    }

    #[test]
    fn the_id_of_a_node_can_be_asked_while_it_runs_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");

        let error = node_id(&path).unwrap_err();
        assert!(matches!(error, StoreError::NoKey { .. }), "{error}");
        assert!(!path.exists());

        let store = Store::open(&path).unwrap();
        let node = store.node_key().unwrap().node_id();
        assert_eq!(node_id(&path).unwrap(), node);
    }

    #[test]
    fn relayers_are_kept_in_the_order_they_are_given() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let address = AddressText::new("/ip4/192.0.2.1/tcp/4935").unwrap();
        let node = |n: u16| {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&n.to_be_bytes());
            NodeId::from_public_key(key)
        };
        let peer = |n| (node(n), vec![address.clone()]);

        store.put_peers((0..300).rev().map(peer)).unwrap();

        let kept: Vec<_> = store.peers().unwrap();
        let expected: Vec<_> = (44..300).rev().map(peer).collect();
        assert_eq!(kept, expected);
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
