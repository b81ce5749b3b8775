//! What any ledger can do.

use std::{path::PathBuf, pin::Pin};

use serde::{Deserialize, Serialize};

use crate::{
    ethereum::{Domain, TransactionError},
    journal::JournalError,
    types::{Address, Broadcaster, Job, JobId, NodeKey, Transcoder, Wei},
};

/// What a ledger returns, to be awaited.
pub type Future<'a, T> =
    Pin<Box<dyn std::future::Future<Output = Result<T, LedgerError>> + Send + 'a>>;

/// Says which transcoder holds which job.
///
/// All its answers are about what is settled: the job book settles at once; a chain's
/// ledger answers as of the newest block with enough confirmations.
pub trait Ledger: Send + Sync + std::fmt::Debug {
    /// What claims to jobs of this ledger are signed for.
    fn domain(&self) -> Domain;

    /// Registers a transcoder, or changes its terms; open jobs may then be assigned.
    fn register(&self, transcoder: Transcoder) -> Future<'_, ()>;

    /// Takes a transcoder out of elections; jobs it holds stay with it.
    fn unregister(&self, address: Address) -> Future<'_, ()>;

    /// The registered transcoders, by address.
    fn transcoders(&self) -> Future<'_, Vec<Transcoder>>;

    /// Creates a job and elects its transcoder. A stream that has a job that has not
    /// ended gets that one, so that an encoder that comes back costs nothing.
    fn create_job(&self, job: NewJob) -> Future<'_, Job>;

    /// One job.
    fn job(&self, id: JobId) -> Future<'_, Option<Job>>;

    /// Jobs, by number.
    fn jobs(&self, filter: JobFilter) -> Future<'_, Vec<Job>>;

    /// Says that the elected transcoder works on the job. Repeating it changes nothing.
    fn acknowledge(&self, id: JobId, transcoder: Address) -> Future<'_, Job>;

    /// Elects another transcoder; the present one is not elected again.
    fn reassign(&self, id: JobId) -> Future<'_, Job>;

    /// Ends a job. Ending it again changes nothing.
    fn end_job(&self, id: JobId) -> Future<'_, Job>;

    /// Watches everything that was settled after a cursor, from the first entry when
    /// there is none.
    fn watch(&self, from: Option<Cursor>) -> Watch;
}

/// A job to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewJob {
    /// The source stream, at most 200 bytes.
    pub stream: String,
    /// The broadcaster's node.
    pub broadcaster: NodeKey,
    /// Names of the renditions that are wanted, at most 16 of 32 bytes.
    pub profiles: Vec<String>,
    /// The highest price at which a transcoder may be elected.
    pub max_price_per_segment: Wei,
}

/// Which jobs are meant; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only those held by this transcoder.
    pub transcoder: Option<Address>,
    /// Only those of this broadcaster.
    pub broadcaster: Option<Broadcaster>,
    /// Only those of this stream.
    pub stream: Option<String>,
    /// Also those that have ended.
    pub ended: bool,
}

impl JobFilter {
    /// Whether a job is meant.
    #[must_use]
    pub fn matches(&self, job: &Job) -> bool {
        let holder = job.transcoder.as_ref().map(|transcoder| transcoder.address);
        (self.ended || job.state != crate::JobState::Ended)
            && (self.transcoder.is_none() || self.transcoder == holder)
            && self.broadcaster.is_none_or(|one| one == job.broadcaster)
            && self
                .stream
                .as_ref()
                .is_none_or(|stream| *stream == job.stream)
    }
}

/// A place in a ledger's history.
///
/// Text form: what the ledger makes of it. The job book has an entry's number and
/// checksum, a chain a block's number and hash, which tell another history from the one that
/// was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// What was settled at once: an entry of the job book, or a block.
///
/// Whoever keeps the cursor after the batch has been handled sees every batch at least
/// once, after a crash too; handling one twice must change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The place after it.
    pub cursor: Cursor,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// What happens in a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A transcoder registered or changed its terms.
    Registered(Transcoder),
    /// A transcoder left.
    Unregistered(Address),
    /// A job was created.
    JobCreated(Job),
    /// A transcoder was elected; the job names it.
    JobAssigned(Job),
    /// The job was taken from its holder; another may be elected.
    JobUnassigned(Job),
    /// The transcoder works on the job.
    JobAcknowledged(Job),
    /// The job is over.
    JobEnded(Job),
    /// Everything after this place did not happen after all; what happened instead
    /// follows. A chain takes blocks back; a job book took back what was in it before it was
    /// replaced by another or an older copy.
    RolledBack(Cursor),
}

/// A watch on a ledger; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    pub(crate) batches: tokio::sync::mpsc::Receiver<Result<Batch, LedgerError>>,
}

impl Watch {
    /// The next batch. `None` after an error that ends the watch. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Batch, LedgerError>> {
        self.batches.recv().await
    }
}

/// Why a ledger did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be read or written.
    #[error("job book {}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// There is no such file.
    #[error("there is no job book at {}; check the path", .0.display())]
    Missing(PathBuf),
    /// The file is no job book, or of another version.
    #[error("{} is not a job book: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An entry was changed or damaged.
    #[error("job book {} is damaged at byte {at}; restore it from a copy", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first bad entry begins.
        at: u64,
    },
    /// The file is not the one any more that was opened, or not all of it.
    #[error(
        "job book {} was removed, replaced or cut off while it was in use; put the right one \
         there, and start all that use it again",
        .0.display()
    )]
    Replaced(PathBuf),
    /// No such job.
    #[error("there is no job {0}")]
    UnknownJob(JobId),
    /// The job is over.
    #[error("job {0} has ended")]
    Ended(JobId),
    /// Somebody else holds the job.
    #[error("job {0} is not assigned to {1}")]
    NotHolder(JobId, Address),
    /// Not registered.
    #[error("{0} is not a registered transcoder")]
    UnknownTranscoder(Address),
    /// A field is too long.
    #[error("{0}")]
    TooLong(&'static str),
    /// The endpoints of a chain cannot be used.
    #[error("the chain's endpoints cannot be used: {0}; check --ledger")]
    Endpoints(String),
    /// No endpoint of the chain answers.
    #[error("the chain cannot be asked: {0}")]
    Unreachable(String),
    /// It answers, and there is more of it than could be read in time.
    #[error("the chain is still being read")]
    Reading,
    /// All endpoints are of another chain than the one that is known.
    #[error(
        "{endpoint} is of chain {found}, and the contract is known on chain {expected}; \
         check --ledger, or use another data directory"
    )]
    WrongChain {
        /// The first of them, as it may be shown.
        endpoint: String,
        /// Where the contract is.
        expected: u64,
        /// What the endpoint says.
        found: u64,
    },
    /// There is no such contract, as far as the endpoints have read the chain.
    #[error("there is no contract {contract} on chain {chain}; check --contract and --ledger")]
    NoContract {
        /// What was asked for.
        contract: Address,
        /// The chain's number.
        chain: u64,
    },
    /// The chain took back more than anything here can follow.
    #[error(
        "the chain took back block {seen} and more than {limit} blocks before it, which were \
         taken for settled; if the chain was started anew, use a new data folder, otherwise \
         find out which endpoint is right"
    )]
    TooDeep {
        /// The newest block that was seen.
        seen: u64,
        /// How many blocks can be taken back.
        limit: u64,
    },
    /// Nothing can be changed on a chain without an account.
    #[error("this needs an account; say whose with --keystore")]
    NoAccount,
    /// On a chain everybody acts for themselves.
    #[error("only {0} can do that for itself; the keystore is that of {1}")]
    NotOwn(Address, Address),
    /// More would be reserved within a day than may be.
    #[error(
        "{needed} wei for jobs are more than may be reserved within a day: of {limit} \
         (--spend-limit) {spent} are"
    )]
    SpendLimit {
        /// What was to be reserved.
        needed: Wei,
        /// What was reserved within the last day.
        spent: Wei,
        /// The limit.
        limit: Wei,
    },
    /// A transaction was not made.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A cursor of another ledger.
    #[error("the cursor {0:?} is not of this ledger")]
    Cursor(String),
}

impl LedgerError {
    /// Whether waiting changes nothing: the program has to be started with something else.
    /// After any other error the same may go well later.
    #[must_use]
    pub const fn is_for_good(&self) -> bool {
        match self {
            Self::Endpoints(_)
            | Self::WrongChain { .. }
            | Self::TooDeep { .. }
            | Self::Replaced(_)
            | Self::Cursor(_) => true,
            Self::Io { .. }
            | Self::Missing(_)
            | Self::Format { .. }
            | Self::Damaged { .. }
            | Self::UnknownJob(_)
            | Self::Ended(_)
            | Self::NotHolder(..)
            | Self::UnknownTranscoder(_)
            | Self::TooLong(_)
            | Self::Unreachable(_)
            | Self::Reading
            | Self::NoContract { .. }
            | Self::NoAccount
            | Self::NotOwn(..)
            | Self::SpendLimit { .. }
            | Self::Transaction(_) => false,
        }
    }
}

impl From<JournalError> for LedgerError {
    fn from(error: JournalError) -> Self {
        Self::Transaction(error.into())
    }
}
