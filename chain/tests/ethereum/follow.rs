//! What is seen when nothing goes wrong with the chain, and nothing is lost or doubled
//! when those who watch are killed.

use headwater_anvil::{Anvil, Manner};
use headwater_chain::{
    Cursor, Event, JobFilter, JobId, JobState, Ledger as _, LedgerError,
    ethereum::{ChainSettings, EthereumLedger},
};

use crate::{
    proxy::{Mode, Proxy},
    store::{Store, all, next},
    until,
    world::{BROADCASTER, World, http, transcoder, ws},
};

#[tokio::test]
async fn a_job_is_seen_from_its_creation_to_its_end() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    let ledger = world.ledger(&[ws(&anvil)]).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();

    let job = world.job(&anvil, "a.stream").await;
    store
        .follow_until(&mut watch, |store| store.holder(job).is_some())
        .await;

    let holder = store.holder(job).unwrap();
    let seen = ledger.job(JobId(job)).await.unwrap().unwrap();
    assert_eq!(seen.stream, "a.stream");
    assert_eq!(seen.profiles, ["360p", "240p"]);
    assert_eq!(seen.broadcaster.account(), Some(BROADCASTER));
    assert_eq!((seen.state, seen.round), (JobState::Assigned, 1));
    assert_eq!(seen.transcoder.unwrap().node.0, [holder.0[0]; 32]);
    world.acknowledge(job, holder).await;
    world.reassign(job).await;
    store
        .follow_until(&mut watch, |store| store.holder(job).is_none())
        .await;
    let taken = ledger.job(JobId(job)).await.unwrap().unwrap();
    assert_eq!(
        (taken.state, &taken.excluded[..]),
        (JobState::Open, &[holder][..])
    );
    anvil.mine(1).await;
    world.assign(job).await;
    store
        .follow_until(&mut watch, |store| store.holder(job).is_some())
        .await;
    assert_ne!(store.holder(job), Some(holder), "not elected again");
    world.end(job).await;
    store
        .follow_until(&mut watch, |store| store.holder(job).is_none())
        .await;
    assert!(ledger.jobs(JobFilter::default()).await.unwrap().is_empty());
    let registered = ledger.transcoders().await.unwrap();
    let registered: Vec<_> = registered.iter().map(|one| one.address).collect();
    assert_eq!(registered, [transcoder(1), transcoder(2)]);
    assert_eq!(ledger.domain().chain_id, 31337);
    assert_eq!(ledger.domain().contract, world.contract);
}

#[tokio::test]
async fn a_block_counts_when_enough_others_follow_it() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    let settings = ChainSettings {
        confirmations: 3,
        ..world.settings(&[http(&anvil)])
    };
    let ledger = EthereumLedger::open(settings).await.unwrap();
    let job = world.job(&anvil, "s").await;
    anvil.mine(2).await;
    let head = world.head().await;

    ledger.reached(head - 3).await.unwrap();
    let before = ledger.job(JobId(job)).await.unwrap().unwrap();
    anvil.mine(1).await;
    ledger.reached(head - 2).await.unwrap();
    let after = ledger.job(JobId(job)).await.unwrap().unwrap();

    assert_eq!(
        (before.state, after.state),
        (JobState::Open, JobState::Assigned)
    );
}

#[tokio::test]
async fn old_blocks_are_read_in_as_large_pieces_as_the_provider_gives() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    let mut jobs = Vec::new();
    for n in 0..4 {
        jobs.push(world.job(&anvil, &format!("s{n}")).await);
        anvil.mine(300).await;
    }
    let proxy = Proxy::start(anvil.port(), Mode::Range(50)).await;

    let ledger = world.ledger(std::slice::from_ref(&proxy.url)).await;
    let head = world.head().await;
    let store = all(&ledger, head).await;

    for job in jobs {
        assert!(store.holder(job).is_some());
        assert!(ledger.job(JobId(job)).await.unwrap().is_some());
    }
    let requests = proxy.requests("eth_getLogs");
    assert!(requests < 250, "{requests} requests for {head} blocks");
}

#[tokio::test]
async fn a_watch_that_begins_before_what_is_kept_reads_the_chain_again() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    for n in 0..5 {
        world.job(&anvil, &format!("s{n}")).await;
    }
    anvil.mine(100).await;
    let job = world.job(&anvil, "last").await;
    let head = world.head().await;
    let whole = world.ledger(&[http(&anvil)]).await;
    let expected = all(&whole, head).await;
    let settings = ChainSettings {
        kept: 2,
        ..world.settings(&[http(&anvil)])
    };
    let ledger = EthereumLedger::open(settings).await.unwrap();
    ledger.reached(head).await.unwrap();

    let new = all(&ledger, head).await;
    let mut old = Store::default();
    let mut watch = whole.watch(None);
    for _ in 0..4 {
        let batch = next(&mut watch).await.unwrap().unwrap();
        old.take(&batch);
    }
    old.follow(&mut ledger.watch(old.cursor.clone()), head)
        .await;

    assert!(expected.holder(job).is_some());
    assert_eq!(new.events(), expected.events());
    assert_eq!(old.events(), expected.events());
}

#[tokio::test]
async fn whoever_is_killed_between_batch_and_cursor_ends_up_with_the_same() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    let first = world.job(&anvil, "first").await;
    anvil.mine(100).await;
    world.job(&anvil, "second").await;
    world.end(first).await;
    let head = world.head().await;
    let ledger = world.ledger(&[http(&anvil)]).await;
    let expected = all(&ledger, head).await.events();
    let mut point = 0;
    loop {
        let mut watch = ledger.watch(None);
        let mut before = Store::default();
        for _ in 0..point {
            let batch = next(&mut watch).await.unwrap().unwrap();
            before.take(&batch);
        }
        if before
            .cursor
            .as_ref()
            .is_some_and(|Cursor(text)| text.starts_with(&format!("{head}:")))
        {
            break;
        }
        let batch = next(&mut watch).await.unwrap().unwrap();
        let mut handled = before.clone();
        handled.handle(&batch);
        handled.killed = true;
        drop(watch);
        // After the restart there is another process with nothing in its memory.
        let again = world.ledger(&[http(&anvil)]).await;
        for mut store in [before, handled] {
            let mut watch = again.watch(store.cursor.clone());
            store.follow(&mut watch, head).await;
            assert_eq!(store.events(), expected, "killed after {point} batches");
        }
        point += 1;
    }
    assert!(point > 5);
}

#[tokio::test]
async fn a_chain_that_is_stopped_and_started_with_its_state_is_followed_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut anvil = Anvil::in_manner(Manner {
        state: Some(dir.path().join("state.json")),
        ..Manner::default()
    });
    let world = World::on(&anvil).await;
    let ledger = world.ledger(&[ws(&anvil), http(&anvil)]).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    let before = world.job(&anvil, "before").await;
    store
        .follow_until(&mut watch, |store| store.holder(before).is_some())
        .await;

    anvil.start_again();
    let after = world.job(&anvil, "after").await;
    store
        .follow_until(&mut watch, |store| store.holder(after).is_some())
        .await;

    assert!(store.holder(before).is_some());
    assert_eq!(store.rollbacks, 0);
}

#[tokio::test]
async fn a_cursor_of_something_else_is_refused() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    let ledger = world.ledger(&[http(&anvil)]).await;

    let mut watch = ledger.watch(Some(Cursor("7".into())));

    assert_eq!(
        next(&mut watch).await,
        Some(Err(LedgerError::Cursor("7".into())))
    );
    assert_eq!(next(&mut watch).await, None);
}

#[tokio::test]
async fn a_contract_that_is_not_there_is_an_error_that_says_so() {
    let anvil = Anvil::start();
    let mut world = World::at(&http(&anvil).to_string());
    world.contract = transcoder(9);

    let opened = EthereumLedger::open(world.settings(&[http(&anvil)])).await;

    let error = opened.unwrap_err().to_string();
    assert!(
        error.contains("--contract") && error.contains("31337"),
        "{error}"
    );
}

#[tokio::test]
async fn a_transcoder_that_leaves_is_elected_no_more() {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    anvil.mine(300).await;
    let ledger = world.ledger(&[ws(&anvil)]).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();

    world.unregister(transcoder(1)).await;
    let gone = Event::Unregistered(transcoder(1));
    store
        .follow_until(&mut watch, |store| store.events().contains(&gone))
        .await;

    let left = until("it is out", async || {
        let left = ledger.transcoders().await.unwrap();
        (left.len() == 1).then_some(left)
    });
    assert_eq!(left.await[0].address, transcoder(2));
}
