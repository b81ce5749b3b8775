//! Receipts, where the ledger pays for work: what a broadcaster signs for the segments it
//! feeds, and how a transcoder gets what it is owed. `proto/SPEC.md` has the exchange.

mod collector;
mod fed;
mod segments;
mod whole;
mod work;

use std::sync::Arc;

use headwater_chain::{
    Journal,
    ethereum::{Domain, Key},
};
use headwater_proto::SigningKey;

pub use collector::{Collector, CollectorConfig, ReceiptCounts};
pub use fed::Fed;
pub use segments::Segments;
pub use whole::WholeSegments;
pub use work::{Done, Settled, Terms, Work};

/// What a node writes down for a ledger that pays; for a job book, which pays nobody,
/// nothing.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// What it fed.
    pub fed: Option<Arc<Fed>>,
    /// What it has done.
    pub work: Option<Work>,
}

impl Books {
    /// The books of a node whose account signs receipts in the ledger's domain.
    #[must_use]
    pub fn of_chain(
        journal: Arc<dyn Journal>,
        node: SigningKey,
        account: Key,
        domain: Domain,
    ) -> Self {
        Self {
            fed: Some(Arc::new(Fed::new(journal.clone(), node, account, domain))),
            work: Some(Work::new(journal)),
        }
    }
}
