//! Receipts, where the ledger pays for work: what a broadcaster signs for the segments it
//! feeds, and how a transcoder gets what it is owed. `proto/SPEC.md` has the exchange.

mod collector;
mod fed;
mod segments;
mod whole;
mod work;

use std::sync::{Arc, OnceLock};

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

/// What a node writes down for a ledger that pays. Empty until it is known which one that
/// is; for a job book, which pays nobody, it stays so.
#[derive(Debug, Clone, Default)]
pub struct Books(Arc<OnceLock<Kept>>);

#[derive(Debug)]
struct Kept {
    fed: Fed,
    work: Work,
}

impl Books {
    /// Begins the books of a node whose account signs receipts in the ledger's domain. The
    /// first time counts.
    pub fn begin(&self, journal: Arc<dyn Journal>, node: SigningKey, account: Key, domain: Domain) {
        self.0.get_or_init(|| Kept {
            fed: Fed::new(journal.clone(), node, account, domain),
            work: Work::new(journal),
        });
    }

    /// What the node fed.
    #[must_use]
    pub fn fed(&self) -> Option<&Fed> {
        self.0.get().map(|kept| &kept.fed)
    }

    /// What the node has done.
    #[must_use]
    pub fn work(&self) -> Option<&Work> {
        self.0.get().map(|kept| &kept.work)
    }
}
