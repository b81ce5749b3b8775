//! Jobs, their assignment and the keys that sign for them. Knows no peers and no video:
//! a node is 32 opaque bytes here, a stream a text.
//!
//! A [`Ledger`] says which transcoder holds which job. The embedded one is a file, the
//! [`JobBook`]; a contract on Ethereum is another.

#![forbid(unsafe_code)]

mod assignment;
pub mod ethereum;
mod job_book;
mod journal;
mod lasting;
mod ledger;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod types;

pub use assignment::{Assignment, ClaimRefused, verify_assignment};
pub use job_book::JobBook;
pub use journal::{Change, Journal, JournalError, LedgerJournal, MemoryJournal};
pub use ledger::{Batch, Cursor, Event, Future, JobFilter, Ledger, LedgerError, NewJob, Watch};
pub use types::{
    Address, AddressError, Broadcaster, Job, JobId, JobState, NodeKey, Transcoder, Wei,
};
