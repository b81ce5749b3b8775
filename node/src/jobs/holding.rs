//! The jobs that a transcoder holds, as its ledger tells: taken up, written down, dropped.
//!
//! What came of a batch is written down before its place in the ledger is. A process that
//! ends at any point, or cannot write, is told of the batch again, and handling it twice
//! changes nothing.

use std::sync::Arc;

use headwater_chain::{
    Address, Batch, Cursor, Event, Job, JobFilter, JobState, JournalError, Ledger, LedgerError,
    NodeKey, Transcoder, Watch,
};
use headwater_proto::{JobId, NodeId};
use tracing::{debug, error, info};

use crate::store::{HeldJob, StoreError};

/// Where the jobs that are held are written down, and how far the ledger was followed.
pub trait JobStore: Send + Sync {
    /// How far the ledger has been followed.
    ///
    /// # Errors
    /// When it cannot be read.
    fn cursor(&self) -> Result<Option<String>, StoreError>;

    /// Remembers how far the ledger has been followed.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put_cursor(&self, cursor: &str) -> Result<(), StoreError>;

    /// The jobs that are held, by number.
    ///
    /// # Errors
    /// When they cannot be read.
    fn jobs(&self) -> Result<Vec<(u64, HeldJob)>, StoreError>;

    /// Remembers a job.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put_job(&self, job: u64, held: &HeldJob) -> Result<(), StoreError>;

    /// Forgets a job.
    ///
    /// # Errors
    /// When it cannot be written.
    fn remove_job(&self, job: u64) -> Result<(), StoreError>;
}

/// What works on the jobs that are held.
pub trait Worker: Send + Sync {
    /// What it reads out of a job to work on it.
    type Task;

    /// What there is to do for a job, if the job is one that it works on.
    fn takes(&self, job: &Job) -> Option<Self::Task>;

    /// Begins to work on a job, unless it does, and to acknowledge it. Waits for neither.
    fn begin(&self, job: &Job, task: Self::Task);

    /// Stops to work on a job.
    fn end(&self, job: JobId);

    /// The jobs that it works on.
    fn working_on(&self) -> Vec<JobId>;
}

/// Follows a ledger for one node, and what works on its jobs if it is a transcoder.
#[derive(Debug)]
pub struct Holding<S, W> {
    ledger: Arc<dyn Ledger>,
    store: Arc<S>,
    node: NodeId,
    /// The transcoder's account, and its worker.
    transcoder: Option<(Address, W)>,
}

impl<S: JobStore, W: Worker> Holding<S, W> {
    /// Holds what the store says, once that is taken up.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        store: Arc<S>,
        node: NodeId,
        transcoder: Option<(Address, W)>,
    ) -> Self {
        Self {
            ledger,
            store,
            node,
            transcoder,
        }
    }

    /// Takes up the jobs of the last run, as far as they are still held.
    ///
    /// # Errors
    /// When the ledger cannot be asked, or the store not written.
    pub async fn take_up(&self) -> Result<(), LedgerError> {
        let Some((own, worker)) = &self.transcoder else {
            return Ok(());
        };
        let held = match self.store.jobs() {
            Ok(held) => held,
            Err(error) => {
                error!(%error, "jobs of the last run are lost");
                return Ok(());
            }
        };
        for (job, _) in held {
            match self.ledger.job(headwater_chain::JobId(job)).await? {
                Some(job) if is_held(&job, *own, self.node) => {
                    info!(job = %job.id, "resuming a job of the last run");
                    self.begin(&job, worker)?;
                }
                Some(_) | None => self.store.remove_job(job).map_err(|error| failed(&error))?,
            }
        }
        Ok(())
    }

    /// Watches the ledger from the place that is kept on.
    #[must_use]
    pub fn watch(&self) -> Told {
        let cursor = self.store.cursor().unwrap_or_else(|error| {
            error!(%error, "following the ledger from its beginning");
            None
        });
        Told {
            watch: self.ledger.watch(cursor.map(Cursor)),
            ledger: self.ledger.clone(),
        }
    }

    /// Takes up and drops jobs as a batch of [`Told`] says, then keeps its place.
    ///
    /// # Errors
    /// When the ledger cannot be asked, or the store not written. The place is as it was: a
    /// new watch tells the batch again.
    pub async fn handle(&self, batch: Batch) -> Result<(), LedgerError> {
        if let Some((own, worker)) = &self.transcoder {
            for event in batch.events {
                match event {
                    Event::JobAssigned(job) | Event::JobUnassigned(job) | Event::JobEnded(job) => {
                        self.told(&job, *own, worker)?;
                    }
                    Event::RolledBack(_) => self.rolled_back(*own, worker).await?,
                    Event::JobCreated(_)
                    | Event::JobAcknowledged(_)
                    | Event::Registered(_)
                    | Event::Unregistered(_) => {}
                }
            }
        }
        let kept = self.store.put_cursor(&batch.cursor.0);
        kept.map_err(|error| failed(&error))
    }

    /// Takes a job up, or drops it: it went to somebody else, or is over.
    fn told(&self, job: &Job, own: Address, worker: &W) -> Result<(), LedgerError> {
        if is_held(job, own, self.node) {
            self.begin(job, worker)
        } else {
            self.end(JobId(job.id.0), worker)
        }
    }

    fn begin(&self, job: &Job, worker: &W) -> Result<(), LedgerError> {
        let Some(task) = worker.takes(job) else {
            return Ok(());
        };
        let held = HeldJob {
            stream: job.stream.clone(),
            profiles: job.profiles.clone(),
        };
        let written = self.store.put_job(job.id.0, &held);
        written.map_err(|error| failed(&error))?;
        worker.begin(job, task);
        Ok(())
    }

    fn end(&self, job: JobId, worker: &W) -> Result<(), LedgerError> {
        worker.end(job);
        let written = self.store.remove_job(job.0);
        written.map_err(|error| failed(&error))
    }

    /// Works on nothing that is not in a ledger that took entries back.
    async fn rolled_back(&self, own: Address, worker: &W) -> Result<(), LedgerError> {
        let left = self.ledger.jobs(JobFilter::default()).await?;
        for id in worker.working_on() {
            let job = left.iter().find(|job| job.id.0 == id.0);
            if !job.is_some_and(|job| is_held(job, own, self.node)) {
                info!(job = %id, "the job is not ours any more");
                self.end(id, worker)?;
            }
        }
        Ok(())
    }
}

/// What a ledger tells from a place on, with the jobs that are assigned, unassigned and
/// ended as they are by now: whoever follows it from its beginning is told of much that is
/// long over.
#[derive(Debug)]
pub struct Told {
    watch: Watch,
    ledger: Arc<dyn Ledger>,
}

impl Told {
    /// The next batch. `None` after an error that ends the watch.
    ///
    /// # Errors
    /// When the ledger cannot be followed.
    pub async fn next(&mut self) -> Option<Result<Batch, LedgerError>> {
        let mut next = self.watch.next().await;
        if let Some(Ok(batch)) = &mut next {
            for event in &mut batch.events {
                if let Event::JobAssigned(job) | Event::JobUnassigned(job) | Event::JobEnded(job) =
                    event
                {
                    bring_up_to_date(&*self.ledger, job).await;
                }
            }
        }
        next
    }
}

async fn bring_up_to_date(ledger: &dyn Ledger, told: &mut Job) {
    match ledger.job(told.id).await {
        Ok(Some(job)) => *told = job,
        Ok(None) => told.state = JobState::Ended,
        Err(error) => debug!(job = %told.id, %error, "acting on what was told of the job"),
    }
}

/// Whether a job is held by an account and this node of it: another node with the same keys
/// is none of what was registered.
fn is_held(job: &Job, own: Address, node: NodeId) -> bool {
    let held =
        |holder: &Transcoder| holder.address == own && holder.node == NodeKey(*node.public_key());
    job.state != JobState::Ended && job.transcoder.as_ref().is_some_and(held)
}

fn failed(error: &StoreError) -> LedgerError {
    JournalError(error.to_string()).into()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use headwater_chain::JobId;

    use super::*;
    use crate::{
        jobs::tests::{OWN, Troubled, assigned},
        mutex::lock,
        store::Store,
    };

    /// A store whose disk can be full.
    struct Disk {
        store: Store,
        full: AtomicBool,
    }

    impl Disk {
        fn write(
            &self,
            write: impl FnOnce(&Store) -> Result<(), StoreError>,
        ) -> Result<(), StoreError> {
            if self.full.load(Ordering::Relaxed) {
                let (path, reason) = ("disk".to_owned(), "no space left".to_owned());
                return Err(StoreError::Io { path, reason });
            }
            write(&self.store)
        }
    }

    impl JobStore for Disk {
        fn cursor(&self) -> Result<Option<String>, StoreError> {
            self.store.cursor()
        }
        fn put_cursor(&self, cursor: &str) -> Result<(), StoreError> {
            self.write(|store| store.put_cursor(cursor))
        }
        fn jobs(&self) -> Result<Vec<(u64, HeldJob)>, StoreError> {
            self.store.jobs()
        }
        fn put_job(&self, job: u64, held: &HeldJob) -> Result<(), StoreError> {
            self.write(|store| store.put_job(job, held))
        }
        fn remove_job(&self, job: u64) -> Result<(), StoreError> {
            self.write(|store| store.remove_job(job))
        }
    }

    #[derive(Default)]
    struct Bench(Mutex<Vec<headwater_proto::JobId>>);

    impl Worker for Bench {
        type Task = ();
        fn takes(&self, _: &Job) -> Option<()> {
            Some(())
        }
        fn begin(&self, job: &Job, (): ()) {
            lock(&self.0).push(headwater_proto::JobId(job.id.0));
        }
        fn end(&self, job: headwater_proto::JobId) {
            lock(&self.0).retain(|other| *other != job);
        }
        fn working_on(&self) -> Vec<headwater_proto::JobId> {
            lock(&self.0).clone()
        }
    }

    /// Handles what is told from the place that is kept on, up to the first error.
    async fn follow(holding: &Holding<Disk, Bench>, batches: usize) -> Result<(), LedgerError> {
        let mut watch = holding.watch();
        for _ in 0..batches {
            let batch = watch.next().await.unwrap()?;
            holding.handle(batch).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_cannot_be_written_down_is_not_done_and_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(Troubled::with(&dir, vec![]).await);
        let disk = Arc::new(Disk {
            store: Store::open(dir.path()).unwrap(),
            full: AtomicBool::new(false),
        });
        let node = NodeId::from_public_key([OWN.0[0]; 32]);
        let worker = Some((OWN, Bench::default()));
        let holding = Holding::new(ledger.clone(), disk.clone(), node, worker);
        let (_, bench) = holding.transcoder.as_ref().unwrap();
        // First a transcoder is registered, then a job is created and assigned at once.
        follow(&holding, 1).await.unwrap();
        let before = disk.cursor().unwrap();

        disk.full.store(true, Ordering::Relaxed);
        follow(&holding, 1).await.unwrap_err();
        assert_eq!(
            (bench.working_on(), disk.cursor().unwrap()),
            (vec![], before)
        );

        disk.full.store(false, Ordering::Relaxed);
        follow(&holding, 1).await.unwrap();
        assert_eq!(bench.working_on(), [headwater_proto::JobId(1)]);
        assert_eq!(disk.jobs().unwrap().len(), 1);

        ledger.end_job(JobId(1)).await.unwrap();
        disk.full.store(true, Ordering::Relaxed);
        follow(&holding, 1).await.unwrap_err();
        assert_eq!(bench.working_on(), [], "that needs no disk");
        disk.full.store(false, Ordering::Relaxed);
        follow(&holding, 1).await.unwrap();
        assert_eq!(disk.jobs().unwrap(), []);
    }

    #[test]
    fn a_job_is_held_by_one_node_of_an_account() {
        let (own, node) = (Address([1; 20]), NodeId::from_public_key([1; 32]));
        let job = assigned(Some(NodeKey([1; 32])), 1);
        let other = NodeId::from_public_key([2; 32]);
        assert!(is_held(&job, own, node));
        assert!(!is_held(&job, own, other), "the keystore was copied");
        assert!(!is_held(&job, Address([2; 20]), node));
        let state = JobState::Ended;
        assert!(!is_held(&Job { state, ..job }, own, node));
    }
}
