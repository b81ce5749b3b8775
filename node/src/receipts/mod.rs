//! Receipts, where the ledger pays for work: what a broadcaster signs for the segments it
//! feeds, and how a transcoder gets what it is owed. `proto/SPEC.md` has the exchange.

mod collector;
mod fed;
mod segments;
mod whole;
mod work;

pub use collector::{Collector, CollectorConfig};
pub use fed::Fed;
pub use segments::Segments;
pub use whole::WholeSegments;
pub use work::{Done, Settled, Terms, Work};
