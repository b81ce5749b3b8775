//! Claims that came before the ledger was open wait for it: they may be as good as any.

use std::time::Duration;

use tokio::{sync::Semaphore, time::timeout};

use crate::ledger::Later;

/// Claims that are checked at a time: others have questions too.
const AT_ONCE: usize = 64;
/// How long a check may take with all that it waits for. The core gives up after twice that.
const LIMIT: Duration = Duration::from_secs(30);

/// Checks claims by what is there once the ledger is open.
#[derive(Debug)]
pub(super) struct Checks<T> {
    by: Later<T>,
    free: Semaphore,
    limit: Duration,
}

impl<T> Checks<T> {
    pub(super) fn new(by: Later<T>) -> Self {
        Self {
            by,
            free: Semaphore::new(AT_ONCE),
            limit: LIMIT,
        }
    }

    /// What a check says; `None` when too many are made, or it takes too long.
    pub(super) async fn check<A>(&self, how: impl AsyncFnOnce(&T) -> A) -> Option<A> {
        let _place = self.free.try_acquire().ok()?;
        let check = async { how(self.by.wait().await).await };
        timeout(self.limit, check).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc};

    use futures::poll;

    use super::*;

    fn checks(limit: Duration) -> Checks<u8> {
        Checks {
            limit,
            ..Checks::new(Later::default())
        }
    }

    #[tokio::test]
    async fn a_claim_waits_for_the_ledger_to_open() {
        let checks = checks(Duration::MAX);
        let mut check = pin!(checks.check(async |by: &u8| *by + 1));
        assert!(poll!(&mut check).is_pending());

        checks.by.set(1).unwrap();

        assert_eq!(check.await, Some(2));
    }

    #[tokio::test]
    async fn a_claim_waits_no_longer_than_a_while() {
        let checks = checks(Duration::from_millis(1));
        assert_eq!(checks.check(async |by: &u8| *by).await, None);

        // Nor does one whose ledger is open and says nothing.
        checks.by.set(1).unwrap();
        let never = checks.check(async |_: &u8| std::future::pending::<()>().await);
        assert_eq!(never.await, None);
        assert_eq!(checks.check(async |by: &u8| *by).await, Some(1));
    }

    #[tokio::test]
    async fn some_claims_wait_and_the_others_are_refused() {
        let checks = Arc::new(checks(Duration::MAX));
        let mut waiting: Vec<_> = (0..AT_ONCE)
            .map(|_| Box::pin(checks.check(async |by: &u8| *by)))
            .collect();
        for check in &mut waiting {
            assert!(poll!(check).is_pending());
        }

        assert_eq!(checks.check(async |by: &u8| *by).await, None);

        drop(waiting.pop());
        let mut next = pin!(checks.check(async |by: &u8| *by));
        assert!(poll!(&mut next).is_pending(), "there is a place again");
    }
}
