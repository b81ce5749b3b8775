//! Says that jobs are worked on. Only who has said so is paid.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use headwater_chain::{Address, JobId, Ledger, LedgerError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::mutex::lock;

/// The first pause between two tries, and the longest.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);

/// The jobs that are being acknowledged, each in a task of its own.
#[derive(Debug)]
pub(super) struct Acknowledgements {
    ledger: Arc<dyn Ledger>,
    tasks: TaskTracker,
    stop: CancellationToken,
    under_way: Arc<Mutex<BTreeSet<JobId>>>,
}

impl Acknowledgements {
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            ledger,
            tasks,
            stop,
            under_way: Arc::default(),
        }
    }

    /// Says that a job is worked on, for as long as it is.
    pub(super) fn begin(
        &self,
        job: JobId,
        own: Address,
        works: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        if !lock(&self.under_way).insert(job) {
            return;
        }
        let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
        let under_way = self.under_way.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = acknowledge(&*ledger, job, own, works, FIRST) => {}
            }
            lock(&under_way).remove(&job);
        });
    }
}

/// Tries until it is done, or the job is not worked on any more, or never will be ours.
/// `first` is the first pause between two tries.
async fn acknowledge(
    ledger: &dyn Ledger,
    job: JobId,
    own: Address,
    works: impl Fn() -> bool,
    first: Duration,
) {
    let mut pause = first;
    while works() {
        let Err(error) = ledger.acknowledge(job, own).await else {
            return;
        };
        if is_in_vain(ledger, &error, own).await {
            return warn!(%job, %error, "job not acknowledged");
        }
        if pause == first {
            warn!(%job, %error, "job not acknowledged yet");
        } else {
            debug!(%job, %error, "job still not acknowledged");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

/// Whether trying again changes nothing. An endpoint may be a block behind that of the
/// election: that somebody else holds the job is believed when the ledger says so too.
async fn is_in_vain(ledger: &dyn Ledger, error: &LedgerError, own: Address) -> bool {
    if let LedgerError::NotHolder(job, _) = error {
        let told = ledger.job(*job).await.ok().flatten();
        let holder = told.map(|job| job.transcoder.map(|holder| holder.address));
        return holder.is_some_and(|holder| holder != Some(own));
    }
    error.is_for_good() || matches!(error, LedgerError::Ended(_) | LedgerError::NotOwn(..))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use headwater_chain::{JobState, JournalError, ethereum::TransactionError};

    use super::*;
    use crate::jobs::tests::{OTHER, OWN, Troubled};

    const MOMENT: Duration = Duration::from_millis(1);

    async fn state(ledger: &Troubled) -> JobState {
        ledger.job(JobId(1)).await.unwrap().unwrap().state
    }

    #[tokio::test]
    async fn what_passes_is_waited_for() {
        let job = JobId(1);
        let (needed, limit) = (2, 1);
        let errors: Vec<LedgerError> = vec![
            LedgerError::UnknownJob(job),
            LedgerError::NotHolder(job, OWN),
            TransactionError::TooDear { needed, limit }.into(),
            TransactionError::Funds(OWN).into(),
            TransactionError::Replaced.into(),
            JournalError("no space left".into()).into(),
            LedgerError::Unreachable("gone".into()),
        ];
        let count = errors.len();
        let dir = tempfile::tempdir().unwrap();
        let ledger = Troubled::with(&dir, errors).await;

        acknowledge(&ledger, job, OWN, || true, MOMENT).await;

        assert_eq!(state(&ledger).await, JobState::Acknowledged);
        assert_eq!(ledger.tries.load(Ordering::Relaxed), count + 1);
    }

    #[tokio::test]
    async fn what_does_not_is_given_up() {
        let job = JobId(1);
        let errors = [
            (LedgerError::Ended(job), OWN),
            (LedgerError::NotOwn(OTHER, OWN), OWN),
            // As the ledger says too.
            (LedgerError::NotHolder(job, OTHER), OTHER),
        ];
        for (error, who) in errors {
            let dir = tempfile::tempdir().unwrap();
            let ledger = Troubled::with(&dir, vec![error]).await;
            acknowledge(&ledger, job, who, || true, MOMENT).await;
            assert_eq!(state(&ledger).await, JobState::Assigned);
            assert_eq!(ledger.tries.load(Ordering::Relaxed), 1);
        }
        let dir = tempfile::tempdir().unwrap();
        let ledger = Troubled::with(&dir, vec![]).await;
        acknowledge(&ledger, job, OWN, || false, MOMENT).await;
        assert_eq!(
            ledger.tries.load(Ordering::Relaxed),
            0,
            "nobody works on it"
        );
    }
}
