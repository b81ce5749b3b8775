//! The ledger of a node, from the first try to open it: the endpoints of a chain may be
//! away when a node starts, and that is no reason for it not to carry streams.

use std::{path::PathBuf, sync::Mutex, time::Duration};

use headwater_chain::{
    LedgerError,
    ethereum::{EndpointStatus, Endpoints},
};
use headwater_protocol::Time;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::{Chain, Make, Means, Opened, endpoints, open_book, open_chain};
use crate::{
    clock,
    config::{ChainConfig, LedgerConfig},
    mutex::lock,
};

/// How long the start of a node waits for a chain.
const AT_ONCE: Duration = Duration::from_secs(2);
/// The first pause between two tries, and the longest: whoever waits for a job should not
/// wait long for a chain that is back.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);
/// That a ledger cannot be reached is said this often.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// A ledger that is opened as soon as it can be.
#[derive(Debug)]
pub struct Opening {
    place: Place,
    /// The contract was used before.
    known: bool,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
enum Place {
    Book(PathBuf),
    Chain(ChainConfig, Endpoints),
}

#[derive(Debug)]
enum Progress {
    /// Why it is not open yet.
    Trying(String),
    Open(Option<Chain>),
    /// Why it never will be.
    Failed(String),
}

/// Whether a ledger can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerState {
    /// It answers.
    Open,
    /// It does as soon as its chain has been read.
    Reading,
    /// Nobody answers for it at present, and why.
    Unreachable(String),
    /// It can never be used as it is set, or not any more, and why.
    Failed(String),
}

/// How a ledger does, for monitors.
#[derive(Debug, Clone)]
pub struct LedgerReport {
    /// Whether it can be used.
    pub state: LedgerState,
    /// The newest block that counts, when it is on a chain that has been reached.
    pub settled: Option<u64>,
    /// The ways to the chain, in order of preference; none to a job book.
    pub endpoints: Vec<EndpointStatus>,
    /// Transactions of the node that are under way; `None` without an account.
    pub pending: Option<u64>,
}

impl LedgerState {
    /// Its name and, when something is wrong, what.
    #[must_use]
    pub fn told(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Open => ("open", None),
            Self::Reading => ("reading", None),
            Self::Unreachable(reason) => ("unreachable", Some(reason)),
            Self::Failed(reason) => ("failed", Some(reason)),
        }
    }
}

impl Opening {
    /// Connects to nothing yet. With `chain`, the contract is known on that one, and no
    /// other is used.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub fn new(config: LedgerConfig, chain: Option<u64>) -> Result<Self, LedgerError> {
        let place = match config {
            LedgerConfig::Book(path) => Place::Book(path),
            LedgerConfig::Chain(config) => {
                let endpoints = endpoints(&config, chain)?;
                Place::Chain(config, endpoints)
            }
        };
        Ok(Self {
            place,
            known: chain.is_some(),
            progress: Mutex::new(Progress::Trying("nobody has answered yet".to_owned())),
        })
    }

    /// Opens it if that can be done at once; `None` when nobody answers yet.
    ///
    /// # Errors
    /// What waiting does not change, or is most likely set wrong.
    pub async fn at_once(&self, means: &Means) -> Result<Option<Opened>, LedgerError> {
        match timeout(AT_ONCE, self.attempt(means)).await {
            Ok(Ok(opened)) => Ok(Some(opened)),
            Ok(Err(error)) if self.is_a_mistake(&error) => Err(error),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    /// Whether a person had better look at it before the node starts.
    fn is_a_mistake(&self, error: &LedgerError) -> bool {
        match &self.place {
            // A file is there or is not.
            Place::Book(_) => true,
            Place::Chain(..) => error.is_for_good() || self.is_nowhere(error),
        }
    }

    /// Whether there is no contract where none has ever been seen.
    fn is_nowhere(&self, error: &LedgerError) -> bool {
        !self.known && matches!(error, LedgerError::NoContract { .. })
    }

    /// Opens it, however long that takes. `None` when waiting changes nothing, which is
    /// said.
    pub async fn wait(&self, means: &Means) -> Option<Opened> {
        let mut pause = FIRST;
        let mut said: Option<Time> = None;
        loop {
            match self.attempt(means).await {
                Ok(opened) => {
                    info!("the ledger is reached");
                    return Some(opened);
                }
                Err(error) if error.is_for_good() => {
                    error!(%error, "the ledger cannot be used; there are no jobs");
                    self.fail(&error);
                    return None;
                }
                Err(error) => {
                    let now = clock::now();
                    if said.is_none_or(|at| now.since(at) >= SAY_AGAIN) {
                        warn!(%error, "the ledger is unreachable; no jobs until it answers");
                        said = Some(now);
                    }
                    *lock(&self.progress) = Progress::Trying(error.to_string());
                    if self.is_nowhere(&error) {
                        pause = LONGEST;
                    }
                }
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    async fn attempt(&self, means: &Means) -> Result<Opened, LedgerError> {
        let opened = match &self.place {
            Place::Book(path) => open_book(path, Make::IfMissing)?,
            Place::Chain(config, endpoints) => open_chain(config, endpoints, means.clone()).await?,
        };
        *lock(&self.progress) = Progress::Open(opened.chain.clone());
        Ok(opened)
    }

    /// It can never be used again in this run.
    pub fn fail(&self, error: &LedgerError) {
        *lock(&self.progress) = Progress::Failed(error.to_string());
    }

    /// Whether it can be used. Reads nothing from the disk.
    #[must_use]
    pub fn state(&self) -> LedgerState {
        match &*lock(&self.progress) {
            Progress::Trying(reason) => LedgerState::Unreachable(reason.clone()),
            Progress::Failed(reason) => LedgerState::Failed(reason.clone()),
            Progress::Open(None) => LedgerState::Open,
            Progress::Open(Some(chain)) => chain.state(),
        }
    }

    /// How it does, for those who run the node.
    #[must_use]
    pub fn report(&self) -> LedgerReport {
        let chain = match &*lock(&self.progress) {
            Progress::Open(chain) => chain.clone(),
            Progress::Trying(_) | Progress::Failed(_) => None,
        };
        LedgerReport {
            state: self.state(),
            settled: chain.as_ref().map(|chain| chain.ledger.status().settled),
            endpoints: match &self.place {
                Place::Book(_) => Vec::new(),
                Place::Chain(_, endpoints) => endpoints.status(),
            },
            pending: chain.as_ref().and_then(Chain::pending),
        }
    }
}

impl Chain {
    fn state(&self) -> LedgerState {
        let status = self.ledger.status();
        if let Some(error) = status.failed {
            return LedgerState::Failed(error.to_string());
        }
        let endpoints = status.endpoints.into_iter();
        let failing = |status: EndpointStatus| status.last_error.filter(|_| status.failures > 0);
        let reasons: Option<Vec<_>> = endpoints.map(failing).collect();
        match reasons {
            Some(reasons) => LedgerState::Unreachable(reasons.join("; ")),
            None if status.synced => LedgerState::Open,
            None => LedgerState::Reading,
        }
    }

    /// Transactions that are under way, where there is an account.
    fn pending(&self) -> Option<u64> {
        let pending = self.writer.as_ref()?.account().pending();
        u64::try_from(pending.ok()?).ok()
    }
}

/// Three quarters to five quarters of a time, so that nodes that lost a chain together do
/// not come back together.
fn jittered(time: Duration) -> Duration {
    let mut random = [0];
    // Without random bytes the middle does.
    let jitter = getrandom::fill(&mut random).map_or(128, |()| u32::from(random[0]));
    time * (384 + jitter) / 512
}
