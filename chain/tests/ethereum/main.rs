//! The contract's ledger against real nodes, and what may go wrong between the two.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod faults;
mod follow;
mod ganache;
mod money;
mod proxy;
mod reorg;
mod store;
mod world;

use std::time::Duration;

/// Waits for a condition. The limit is there for what never comes.
async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = check().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: never")
}
