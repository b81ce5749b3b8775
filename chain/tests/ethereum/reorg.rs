//! Chains that change their mind.

use headwater_anvil::Anvil;
use headwater_chain::{JobId, Ledger as _, LedgerError};

use crate::{
    store::{Store, all, next},
    world::{World, http, ws},
};

/// A job in the last `depth` blocks, seen, then taken back with them.
async fn taken_back(depth: u64) -> (Anvil, World, Store, u64) {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    anvil.mine(80).await;
    let ledger = world.ledger(&[ws(&anvil)]).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    let job = if depth < 3 {
        let job = world.create("s").await;
        anvil.mine(1).await;
        world.assign(job).await;
        job
    } else {
        let job = world.job(&anvil, "s").await;
        anvil.mine(depth - 3).await;
        job
    };
    store
        .follow_until(&mut watch, |store| store.holder(job).is_some())
        .await;
    store.follow(&mut watch, world.head().await).await;

    anvil.reorganise(depth).await;
    anvil.mine(1).await;
    store
        .follow_until(&mut watch, |store| store.holder(job).is_none())
        .await;

    assert!(store.rollbacks > 0);
    let settled = ledger.job(JobId(job)).await.unwrap();
    assert!(settled.is_none_or(|job| job.transcoder.is_none()));
    (anvil, world, store, job)
}

#[tokio::test]
async fn a_job_that_a_reorganisation_takes_back_for_good_is_gone() {
    for depth in [1, 5, 64] {
        let (anvil, world, mut store, job) = taken_back(depth).await;

        anvil.mine(3).await;
        let head = world.head().await;
        let ledger = world.ledger(&[http(&anvil)]).await;
        store
            .follow(&mut ledger.watch(store.cursor.clone()), head)
            .await;

        assert_eq!(store.holder(job), None, "{depth} blocks");
        assert_eq!(
            store.knows(job),
            depth == 1,
            "only the assignment was in the last block"
        );
        assert_eq!(
            store.events(),
            all(&ledger, head).await.events(),
            "{depth} blocks"
        );
    }
}

#[tokio::test]
async fn a_job_that_comes_again_elsewhere_is_seen_there() {
    for depth in [1, 5, 64] {
        let (anvil, world, mut store, job) = taken_back(depth).await;
        let ledger = world.ledger(&[ws(&anvil)]).await;
        let mut watch = ledger.watch(store.cursor.clone());

        if depth > 1 {
            anvil.mine(2).await;
            assert_eq!(world.create("s").await, job, "the same number once more");
            anvil.mine(1).await;
        }
        world.assign(job).await;
        store
            .follow_until(&mut watch, |store| store.holder(job).is_some())
            .await;

        let settled = ledger.job(JobId(job)).await.unwrap().unwrap();
        let holder = settled.transcoder.map(|holder| holder.address);
        assert_eq!(store.holder(job), holder, "{depth} blocks");
        let head = world.head().await;
        store.follow(&mut watch, head).await;
        assert_eq!(
            store.events(),
            all(&ledger, head).await.events(),
            "{depth} blocks"
        );
    }
}

#[tokio::test]
async fn what_was_taken_back_while_nobody_watched_is_taken_back_by_the_cursor() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    anvil.mine(80).await;
    let ledger = world.ledger(&[http(&anvil)]).await;
    let job = world.job(&anvil, "s").await;
    let mut store = all(&ledger, world.head().await).await;
    assert!(store.holder(job).is_some());
    drop(ledger);

    anvil.reorganise(10).await;
    anvil.mine(500).await;
    let again = world.ledger(&[http(&anvil)]).await;
    store
        .follow(&mut again.watch(store.cursor.clone()), world.head().await)
        .await;

    assert!(!store.knows(job));
    assert_eq!(store.rollbacks, 1);
    assert_eq!(
        store.events(),
        all(&again, world.head().await).await.events()
    );
}

#[tokio::test]
async fn more_than_the_limit_ends_the_watch_with_an_error_that_says_so() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    anvil.mine(200).await;
    let ledger = world.ledger(&[ws(&anvil)]).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    store.follow(&mut watch, world.head().await).await;

    anvil.reorganise(90).await;
    anvil.mine(1).await;
    let error = loop {
        match next(&mut watch).await.unwrap() {
            Ok(batch) => store.take(&batch),
            Err(error) => break error,
        }
    };

    assert!(
        matches!(error, LedgerError::TooDeep { limit: 64, .. }),
        "{error}"
    );
    assert_eq!(next(&mut watch).await, None);
    assert_eq!(
        ledger.job(JobId(1)).await,
        Err(error.clone()),
        "answers nothing any more"
    );
    // Nor does a new process take up where the old one was.
    let again = world.ledger(&[ws(&anvil)]).await;
    let mut watch = again.watch(store.cursor.clone());
    assert!(matches!(
        next(&mut watch).await,
        Some(Err(LedgerError::TooDeep { .. }))
    ));
}

#[tokio::test]
async fn a_chain_that_was_started_anew_is_not_taken_for_the_old_one() {
    let mut anvil = Anvil::start();
    let world = World::on(&anvil).await;
    anvil.mine(300).await;
    let ledger = world.ledger(&[http(&anvil)]).await;
    let mut watch = ledger.watch(None);
    Store::default()
        .follow(&mut watch, world.head().await)
        .await;

    anvil.start_anew();
    anvil.mine(10).await;

    let error = loop {
        if let Err(error) = next(&mut watch).await.unwrap() {
            break error;
        }
    };
    assert!(matches!(error, LedgerError::TooDeep { .. }), "{error}");
}
