//! The embedded ledger: an append-only file that several processes of one machine share.

mod file;
mod state;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc;

use self::{
    file::{Entry, File},
    state::{Change, State},
};
use crate::{
    ethereum::Domain,
    ledger::{Batch, Cursor, Event, Future, JobFilter, Ledger, LedgerError, NewJob, Watch},
    types::{Address, Job, JobId, Transcoder, hex, to_hex},
};

/// How often the file is looked at for what other processes wrote.
const POLL: Duration = Duration::from_millis(50);
/// Batches a watch may lag behind.
const WATCH: usize = 256;

/// A ledger in a file. Cheap to clone; every process opens its own.
///
/// An entry is written under an exclusive lock, in one write, and synced before the call
/// returns. An entry that a killed process left half written is cut off by the next
/// writer; readers do not see it.
#[derive(Debug, Clone)]
pub struct JobBook {
    path: PathBuf,
    domain: Domain,
    file: Arc<Mutex<File>>,
}

impl JobBook {
    /// Opens a job book, which is created when it does not exist.
    ///
    /// # Errors
    /// When the file cannot be read or is no job book.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        File::open(path).map(|file| Self::over(path, file))
    }

    /// Opens a job book that is there; one that is not was probably mistyped.
    ///
    /// # Errors
    /// When there is no such file, it cannot be read and written, or is no job book.
    pub fn open_existing(path: &Path) -> Result<Self, LedgerError> {
        File::open_existing(path).map(|file| Self::over(path, file))
    }

    fn over(path: &Path, file: File) -> Self {
        let domain = Domain {
            chain_id: 0,
            contract: file.id(),
        };
        Self {
            path: path.to_owned(),
            domain,
            file: Arc::new(Mutex::new(file)),
        }
    }

    /// Runs file work where blocking is allowed.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut File) -> Result<T, LedgerError> + Send + 'static,
    ) -> Future<'_, T> {
        let file = self.file.clone();
        let path = self.path.clone();
        Box::pin(async move {
            let run = move || work(&mut file.lock().unwrap_or_else(PoisonError::into_inner));
            let done = tokio::task::spawn_blocking(run).await;
            done.unwrap_or_else(|error| {
                let reason = error.to_string();
                Err(LedgerError::Io { path, reason })
            })
        })
    }

    fn change(
        &self,
        change: impl FnOnce(&State) -> Result<Change, LedgerError> + Send + 'static,
    ) -> Future<'_, ()> {
        self.with(move |file| file.append(change))
    }

    fn change_job(
        &self,
        id: JobId,
        change: impl FnOnce(&Job) -> Result<Option<Change>, LedgerError> + Send + 'static,
    ) -> Future<'_, Job> {
        self.with(move |file| {
            let known = |state: &State| state.job(id).cloned().ok_or(LedgerError::UnknownJob(id));
            file.append_if(|state| change(&known(state)?))?;
            known(file.state())
        })
    }
}

impl Ledger for JobBook {
    fn domain(&self) -> Domain {
        self.domain
    }

    fn register(&self, transcoder: Transcoder) -> Future<'_, ()> {
        self.change(move |_| Ok(Change::Register(transcoder)))
    }

    fn unregister(&self, address: Address) -> Future<'_, ()> {
        self.change(move |state| match state.transcoder(address) {
            Some(_) => Ok(Change::Unregister(address)),
            None => Err(LedgerError::UnknownTranscoder(address)),
        })
    }

    fn transcoders(&self) -> Future<'_, Vec<Transcoder>> {
        self.with(|file| {
            file.refresh()?;
            Ok(file.state().transcoders().cloned().collect())
        })
    }

    fn create_job(&self, job: NewJob) -> Future<'_, Job> {
        let long = job.stream.len() > 200
            || job.profiles.len() > 16
            || job.profiles.iter().any(|profile| profile.len() > 32);
        self.with(move |file| {
            if long {
                return Err(LedgerError::TooLong(
                    "a stream or rendition name is too long",
                ));
            }
            let stream = job.stream.clone();
            file.append_if(|state| {
                let known = state.open_job_of(&job.stream).is_some();
                Ok((!known).then_some(Change::Create(job)))
            })?;
            let created = file.state().open_job_of(&stream);
            Ok(created
                .cloned()
                .expect("the job was there or has just been created"))
        })
    }

    fn job(&self, id: JobId) -> Future<'_, Option<Job>> {
        self.with(move |file| {
            file.refresh()?;
            Ok(file.state().job(id).cloned())
        })
    }

    fn jobs(&self, filter: JobFilter) -> Future<'_, Vec<Job>> {
        self.with(move |file| {
            file.refresh()?;
            let jobs = file.state().jobs().filter(|job| filter.matches(job));
            Ok(jobs.cloned().collect())
        })
    }

    fn acknowledge(&self, id: JobId, transcoder: Address) -> Future<'_, Job> {
        self.change_job(id, move |job| {
            use crate::JobState::{Acknowledged, Assigned, Ended, Open};
            let holds = job
                .transcoder
                .as_ref()
                .is_some_and(|t| t.address == transcoder);
            match job.state {
                Ended => Err(LedgerError::Ended(id)),
                Open | Assigned | Acknowledged if !holds => {
                    Err(LedgerError::NotHolder(id, transcoder))
                }
                Acknowledged => Ok(None),
                Open | Assigned => Ok(Some(Change::Acknowledge(id))),
            }
        })
    }

    fn reassign(&self, id: JobId) -> Future<'_, Job> {
        self.change_job(id, move |job| match job.state {
            crate::JobState::Ended => Err(LedgerError::Ended(id)),
            crate::JobState::Open | crate::JobState::Assigned | crate::JobState::Acknowledged => {
                Ok(Some(Change::Reassign(id)))
            }
        })
    }

    fn end_job(&self, id: JobId) -> Future<'_, Job> {
        self.change_job(id, move |job| {
            let over = job.state == crate::JobState::Ended;
            Ok((!over).then_some(Change::End(id)))
        })
    }

    fn watch(&self, from: Option<Cursor>) -> Watch {
        let (tx, rx) = mpsc::channel(WATCH);
        let path = self.path.clone();
        tokio::spawn(async move {
            if let Err(error) = follow(&path, from, &tx).await {
                // Nobody watches any more when this fails.
                drop(tx.send(Err(error)).await);
            }
        });
        Watch { batches: rx }
    }
}

/// Sends every batch after `from`, then those that come.
async fn follow(
    path: &Path,
    from: Option<Cursor>,
    to: &mpsc::Sender<Result<Batch, LedgerError>>,
) -> Result<(), LedgerError> {
    let mut seen = match from {
        None => Place::START,
        Some(cursor) => Place::read(cursor)?,
    };
    let mut looked_up = false;
    // A reader of its own: it goes through the history at its own pace.
    let mut file = File::open_for_reading(path)?;
    let mut tick = tokio::time::interval(POLL);
    loop {
        tick.tick().await;
        let (read, entries) = tokio::task::spawn_blocking(move || {
            let entries = file.read_new();
            (file, entries)
        })
        .await
        .map_err(|error| LedgerError::Io {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        file = read;
        let entries = entries?;
        // The first time, these are all that there are.
        if !looked_up && !seen.is_in(&entries) {
            seen = Place::START;
            let batch = Batch {
                cursor: seen.cursor(),
                events: vec![Event::RolledBack(seen.cursor())],
            };
            if to.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
        looked_up = true;
        for entry in entries {
            let batch = Batch {
                cursor: Place::of(&entry).cursor(),
                events: entry.events,
            };
            if entry.number > seen.number && to.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
        if to.is_closed() {
            return Ok(());
        }
    }
}

/// A place in a book, and in no other.
struct Place {
    /// Entries up to it.
    number: u64,
    /// Of the last of them; unknown when an earlier version wrote the place down.
    checksum: Option<[u8; 32]>,
}

impl Place {
    /// Before the first entry of any book.
    const START: Self = Self {
        number: 0,
        checksum: None,
    };

    fn read(Cursor(text): Cursor) -> Result<Self, LedgerError> {
        let (number, checksum) = match text.split_once(' ') {
            None => (text.parse().ok(), Some(None)),
            Some((number, checksum)) => (number.parse().ok(), hex(checksum).map(Some)),
        };
        match (number, checksum) {
            (Some(number), Some(checksum)) => Ok(Self { number, checksum }),
            _ => Err(LedgerError::Cursor(text)),
        }
    }

    const fn of(entry: &Entry) -> Self {
        Self {
            number: entry.number,
            checksum: Some(entry.checksum),
        }
    }

    fn cursor(&self) -> Cursor {
        let checksum = self
            .checksum
            .map(|checksum| format!(" {}", to_hex(&checksum)));
        Cursor(format!("{}{}", self.number, checksum.unwrap_or_default()))
    }

    /// Whether the book with these entries came by here.
    fn is_in(&self, entries: &[Entry]) -> bool {
        let is_it = |entry: &Entry| {
            entry.number == self.number && self.checksum.is_none_or(|known| known == entry.checksum)
        };
        self.number == 0 || entries.iter().any(is_it)
    }
}
