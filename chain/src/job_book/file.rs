//! The file of a job book: `HEADER\n`, then one entry per line, `CHECKSUM JSON\n`.
//!
//! A checksum is the keccak-256 of the checksum before it and the JSON, so that an entry
//! cannot be changed, moved or left out without notice; it is also the seed of the
//! election that the entry causes.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::state::{Change, State};
use crate::{
    ethereum::{keccak256, random},
    lasting::sync_folder,
    ledger::{Event, LedgerError},
    types::{Address, hex, to_hex},
};

/// First line, before the book's id.
const MAGIC: &str = "headwater-job-book 1 ";
/// Bytes of one entry at most.
const MAX_ENTRY: usize = 16 * 1024;

/// An entry, with what it made happen.
#[derive(Debug)]
pub(super) struct Entry {
    /// Counts from 1.
    pub(super) number: u64,
    /// Also says what came before it.
    pub(super) checksum: [u8; 32],
    pub(super) events: Vec<Event>,
}

#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    file: fs::File,
    id: [u8; 32],
    /// Everything before is in `state`.
    offset: u64,
    entries: u64,
    checksum: [u8; 32],
    state: State,
}

impl File {
    /// Opens the file, which is created when it does not exist.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        let error = |reason: std::io::Error| io_error(path, &reason);
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder).map_err(error)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(error)?;
        file.lock().map_err(error)?;
        let started = start(path, &file);
        file.unlock().map_err(error)?;
        started?;
        Self::caught_up(path, file)
    }

    /// Opens the file, which has to exist.
    pub(super) fn open_existing(path: &Path) -> Result<Self, LedgerError> {
        let file = OpenOptions::new().read(true).append(true).open(path);
        let file = file.map_err(|reason| {
            if reason.kind() == ErrorKind::NotFound {
                LedgerError::Missing(path.to_owned())
            } else {
                io_error(path, &reason)
            }
        })?;
        Self::caught_up(path, file)
    }

    fn caught_up(path: &Path, file: fs::File) -> Result<Self, LedgerError> {
        let mut book = Self::over(path, file)?;
        book.refresh()?;
        Ok(book)
    }

    /// Opens the file at its first entry, to go through its history.
    pub(super) fn open_for_reading(path: &Path) -> Result<Self, LedgerError> {
        let file = fs::File::open(path).map_err(|reason| io_error(path, &reason))?;
        Self::over(path, file)
    }

    fn over(path: &Path, mut file: fs::File) -> Result<Self, LedgerError> {
        let format = |reason: &str| LedgerError::Format {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let mut header = vec![0; MAGIC.len() + 65];
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.read_exact(&mut header))
            .map_err(|_| format("it has no header"))?;
        let header = String::from_utf8(header).map_err(|_| format("it has no header"))?;
        let id = header
            .strip_prefix(MAGIC)
            .and_then(|id| id.strip_suffix('\n'))
            .and_then(hex)
            .ok_or_else(|| format("its header is of another kind or version"))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            id,
            offset: header.len() as u64,
            entries: 0,
            checksum: id,
            state: State::default(),
        })
    }

    /// The book's own address, for signatures.
    pub(super) fn id(&self) -> Address {
        let mut address = [0; 20];
        address.copy_from_slice(&self.id[12..]);
        Address(address)
    }

    pub(super) const fn state(&self) -> &State {
        &self.state
    }

    /// Takes in what other processes wrote.
    pub(super) fn refresh(&mut self) -> Result<(), LedgerError> {
        self.read_new().map(drop)
    }

    /// Takes in what other processes wrote, and returns it.
    ///
    /// Nobody waits for readers, so an entry that a killed process left half written may
    /// be replaced while it is read. What looks damaged is therefore read again while
    /// nobody writes.
    pub(super) fn read_new(&mut self) -> Result<Vec<Entry>, LedgerError> {
        self.still_there()?;
        let mut entries = Vec::new();
        let read = self.read_into(&mut entries);
        if matches!(read, Err(LedgerError::Damaged { .. })) {
            let error = |path: &Path, reason| io_error(path, &reason);
            self.file.lock_shared().map_err(|e| error(&self.path, e))?;
            let again = self.read_into(&mut entries);
            self.file.unlock().map_err(|e| error(&self.path, e))?;
            again?;
        } else {
            read?;
        }
        Ok(entries)
    }

    /// Fails when the path leads to another file by now, or what was read has been cut off:
    /// this book would never again hear of the others that use it.
    fn still_there(&self) -> Result<(), LedgerError> {
        let there = match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            there => Some(there.map_err(|reason| io_error(&self.path, &reason))?),
        };
        let own = self.file.metadata();
        let own = own.map_err(|reason| io_error(&self.path, &reason))?;
        let same = |there: &fs::Metadata| {
            (there.dev(), there.ino()) == (own.dev(), own.ino()) && there.len() >= self.offset
        };
        if there.as_ref().is_some_and(same) {
            Ok(())
        } else {
            Err(LedgerError::Replaced(self.path.clone()))
        }
    }

    fn read_into(&mut self, read: &mut Vec<Entry>) -> Result<(), LedgerError> {
        let mut text = Vec::new();
        self.file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| self.file.read_to_end(&mut text))
            .map_err(|reason| io_error(&self.path, &reason))?;
        // What comes after the last line's end is an entry that is being written, or that
        // a killed process left behind.
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some((b'\n', entry)) = line.split_last() else {
                break;
            };
            let parsed = self.parse(entry);
            let (change, checksum) = parsed.ok_or_else(|| self.damaged(self.offset))?;
            self.offset += line.len() as u64;
            self.entries += 1;
            self.checksum = checksum;
            let events = self.state.apply(&change, checksum);
            read.push(Entry {
                number: self.entries,
                checksum,
                events,
            });
        }
        Ok(())
    }

    fn parse(&self, line: &[u8]) -> Option<(Change, [u8; 32])> {
        let line = std::str::from_utf8(line).ok()?;
        let (checksum, json) = line.split_once(' ')?;
        let checksum: [u8; 32] = hex(checksum)?;
        if checksum != chained(&self.checksum, json) {
            return None;
        }
        Some((serde_json::from_str(json).ok()?, checksum))
    }

    /// Adds an entry that is right for the newest state.
    pub(super) fn append(
        &mut self,
        change: impl FnOnce(&State) -> Result<Change, LedgerError>,
    ) -> Result<(), LedgerError> {
        self.append_if(|state| change(state).map(Some))
    }

    /// Adds an entry if the newest state asks for it.
    pub(super) fn append_if(
        &mut self,
        change: impl FnOnce(&State) -> Result<Option<Change>, LedgerError>,
    ) -> Result<(), LedgerError> {
        self.file
            .lock()
            .map_err(|reason| io_error(&self.path, &reason))?;
        let result = self.append_locked(change);
        self.file
            .unlock()
            .map_err(|reason| io_error(&self.path, &reason))?;
        result
    }

    fn append_locked(
        &mut self,
        change: impl FnOnce(&State) -> Result<Option<Change>, LedgerError>,
    ) -> Result<(), LedgerError> {
        self.still_there()?;
        self.read_into(&mut Vec::new())?;
        let Some(change) = change(&self.state)? else {
            return Ok(());
        };
        let json = serde_json::to_string(&change).map_err(|error| LedgerError::Io {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        if json.len() > MAX_ENTRY {
            return Err(LedgerError::TooLong("the entry is too long"));
        }
        let line = format!("{} {json}\n", to_hex(&chained(&self.checksum, &json)));
        // Cuts off what a killed process left behind; nobody else writes now.
        self.file
            .set_len(self.offset)
            .and_then(|()| self.file.write_all(line.as_bytes()))
            .and_then(|()| self.file.sync_data())
            .map_err(|reason| io_error(&self.path, &reason))?;
        let before = self.entries;
        self.read_into(&mut Vec::new())?;
        if self.entries == before {
            return Err(self.damaged(self.offset));
        }
        Ok(())
    }

    fn damaged(&self, at: u64) -> LedgerError {
        LedgerError::Damaged {
            path: self.path.clone(),
            at,
        }
    }
}

/// Writes the header into a new file.
fn start(path: &Path, mut file: &fs::File) -> Result<(), LedgerError> {
    let error = |reason: std::io::Error| io_error(path, &reason);
    let len = file.metadata().map_err(error)?.len();
    // A header that a killed process left half written is none.
    if len >= (MAGIC.len() + 65) as u64 {
        return Ok(());
    }
    let mut begun = String::new();
    if file.read_to_string(&mut begun).is_err()
        || !MAGIC.starts_with(&begun[..begun.len().min(MAGIC.len())])
    {
        return Err(LedgerError::Format {
            path: path.to_owned(),
            reason: "it has no header".to_owned(),
        });
    }
    let id = random();
    file.set_len(0).map_err(error)?;
    file.write_all(format!("{MAGIC}{}\n", to_hex(&id)).as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path))
        .map_err(error)
}

fn chained(before: &[u8; 32], json: &str) -> [u8; 32] {
    let mut bytes = before.to_vec();
    bytes.extend_from_slice(json.as_bytes());
    keccak256(&bytes)
}

fn io_error(path: &Path, reason: &std::io::Error) -> LedgerError {
    LedgerError::Io {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
