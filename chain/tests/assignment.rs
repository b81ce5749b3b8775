//! Claims against a ledger: the one that holds, and each way in which one does not.

use headwater_chain::{
    ClaimRefused, JobBook, JobId, Ledger, NewJob, NodeKey, Transcoder, Wei,
    ethereum::{Claim, Key},
    verify_assignment,
};

const NOW: u64 = 1_800_000_000_000;

#[tokio::test]
async fn only_the_elected_transcoder_s_own_fresh_claim_holds() {
    let dir = tempfile::tempdir().unwrap();
    let book = JobBook::open(&dir.path().join("a.book")).unwrap();
    let other_book = JobBook::open(&dir.path().join("b.book")).unwrap();
    let key = Key::random();
    let node = NodeKey([1; 32]);
    let transcoder = Transcoder {
        address: key.address(),
        node,
        price_per_segment: Wei(1),
        stake: Wei(1),
    };
    book.register(transcoder).await.unwrap();
    let new = NewJob {
        stream: "s".into(),
        broadcaster: NodeKey([2; 32]),
        profiles: vec![],
        max_price_per_segment: Wei(1),
    };
    let job = book.create_job(new).await.unwrap();
    let claim = Claim {
        stream: "s".into(),
        job: job.id,
        node,
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        sequence: 1,
        expires_ms: NOW + 60_000,
    };
    let signed = |claim: &Claim| key.sign(&book.domain(), claim);
    let verdict = async |claim: &Claim, signature: [u8; 65]| {
        verify_assignment(&book, claim, &signature, NOW).await
    };

    let holds = verdict(&claim, signed(&claim)).await.unwrap();
    assert_eq!(holds.transcoder, key.address());

    let expired = Claim {
        expires_ms: NOW - 2000,
        ..claim.clone()
    };
    assert_eq!(
        verdict(&expired, signed(&expired)).await,
        Err(ClaimRefused::Expired { ago_ms: 2000 })
    );
    let eternal = Claim {
        expires_ms: u64::MAX,
        ..claim.clone()
    };
    assert_eq!(
        verdict(&eternal, signed(&eternal)).await,
        Err(ClaimRefused::TooLong {
            ahead_ms: u64::MAX - NOW
        })
    );
    let unknown = Claim {
        job: JobId(9),
        ..claim.clone()
    };
    let refused = verdict(&unknown, signed(&unknown)).await;
    assert_eq!(refused, Err(ClaimRefused::UnknownJob(JobId(9))));
    let stream = Claim {
        stream: "t".into(),
        ..claim.clone()
    };
    let refused = verdict(&stream, signed(&stream)).await;
    assert_eq!(refused, Err(ClaimRefused::WrongStream(job.id)));
    let elsewhere = Claim {
        node: NodeKey([3; 32]),
        ..claim.clone()
    };
    let refused = verdict(&elsewhere, signed(&elsewhere)).await;
    assert_eq!(refused, Err(ClaimRefused::WrongNode));
    let stranger = Key::random();
    let refused = verdict(&claim, stranger.sign(&book.domain(), &claim)).await;
    assert_eq!(refused, Err(ClaimRefused::WrongSigner(stranger.address())));
    let replayed = verdict(&claim, key.sign(&other_book.domain(), &claim)).await;
    assert!(
        matches!(replayed, Err(ClaimRefused::WrongSigner(_))),
        "another book"
    );
    assert_eq!(verdict(&claim, [0; 65]).await, Err(ClaimRefused::Malformed));
    book.end_job(job.id).await.unwrap();
    let refused = verdict(&claim, signed(&claim)).await;
    assert_eq!(refused, Err(ClaimRefused::Ended(job.id)));
}
