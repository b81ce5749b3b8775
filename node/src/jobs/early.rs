//! Claims to jobs that this node has not heard of yet.

use std::time::Duration;

use headwater_chain::{
    Assignment, ClaimRefused, Ledger, NodeKey, ethereum::Claim, verify_assignment,
};

use crate::clock;

/// A claim may be so much earlier than what this node knows of its job.
const EARLY: Duration = Duration::from_secs(3);
/// How often the ledger is looked at for it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whether a claim holds. A chain may tell a transcoder of its job a moment before it tells
/// this node, so the claim of one who is registered waits for that.
pub(super) async fn verify(
    ledger: &dyn Ledger,
    claim: &Claim,
    signature: &[u8; 65],
) -> Result<Assignment, ClaimRefused> {
    let deadline = clock::now() + EARLY;
    loop {
        let verdict = verify_assignment(ledger, claim, signature, clock::unix_ms()).await;
        let early = matches!(
            verdict,
            Err(ClaimRefused::UnknownJob(_) | ClaimRefused::WrongSigner(_))
        );
        if !early || clock::now() >= deadline || !is_registered(ledger, claim.node).await {
            return verdict;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn is_registered(ledger: &dyn Ledger, node: NodeKey) -> bool {
    let registered = ledger.transcoders().await.unwrap_or_default();
    registered.iter().any(|transcoder| transcoder.node == node)
}

#[cfg(test)]
mod tests {
    use headwater_chain::{JobBook, JobId, NewJob, Transcoder, Wei, ethereum::Key};

    use super::*;

    const NODE: NodeKey = NodeKey([7; 32]);

    fn book() -> (tempfile::TempDir, JobBook) {
        let dir = tempfile::tempdir().unwrap();
        let book = JobBook::open(&dir.path().join("jobs.book")).unwrap();
        (dir, book)
    }

    fn claim(key: &Key, book: &JobBook, node: NodeKey) -> (Claim, [u8; 65]) {
        let claim = Claim {
            stream: "stream".into(),
            job: JobId(1),
            node,
            addresses: vec![],
            sequence: 1,
            expires_ms: clock::unix_ms() + 60_000,
        };
        let signature = key.sign(&book.domain(), &claim);
        (claim, signature)
    }

    async fn register(book: &JobBook, key: &Key) {
        let terms = Transcoder {
            address: key.address(),
            node: NODE,
            price_per_segment: Wei(0),
            stake: Wei(1),
        };
        book.register(terms).await.unwrap();
    }

    #[tokio::test]
    async fn a_claim_that_is_a_moment_too_early_waits_for_its_job() {
        let (_dir, book) = book();
        let key = Key::random();
        register(&book, &key).await;
        let (claim, signature) = claim(&key, &book, NODE);
        let job = NewJob {
            stream: "stream".into(),
            broadcaster: NodeKey([1; 32]),
            profiles: vec![],
            max_price_per_segment: Wei(0),
        };
        let assign = async {
            // Only now, after the claim has been looked at once.
            tokio::task::yield_now().await;
            book.create_job(job).await.unwrap()
        };

        let (verdict, _) = tokio::join!(verify(&book, &claim, &signature), assign);

        assert_eq!(verdict.unwrap().transcoder, key.address());
    }

    #[tokio::test]
    async fn nobody_waits_for_one_who_is_not_registered() {
        let (_dir, book) = book();
        register(&book, &Key::random()).await;
        let key = Key::random();
        let (claim, signature) = claim(&key, &book, NodeKey([8; 32]));

        let verdict = verify(&book, &claim, &signature).await;

        assert_eq!(verdict, Err(ClaimRefused::UnknownJob(JobId(1))));
    }
}
