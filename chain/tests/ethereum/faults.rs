//! Endpoints that lie, limit, dawdle, babble and break.

use std::time::Duration;

use headwater_anvil::Anvil;
use headwater_chain::{
    JobId, Ledger as _, LedgerError,
    ethereum::{EndpointStatus, Endpoints, EthereumLedger},
};

use crate::{
    proxy::{Mode, Proxy, Wire},
    store::{Store, all},
    until,
    world::{World, http},
};

async fn anvil_with_contract() -> (Anvil, World) {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    (anvil, world)
}

fn first(ledger: &EthereumLedger) -> EndpointStatus {
    ledger.status().endpoints.remove(0)
}

/// With an endpoint that begins to misbehave and a sound one, nothing is missed.
async fn next_to_a_sound_one(bad: impl FnOnce(u64) -> Mode) -> EndpointStatus {
    let (anvil, world) = anvil_with_contract().await;
    let proxy = Proxy::start(anvil.port, Mode::Honest).await;
    let ledger = world.ledger(&[proxy.url.clone(), http(&anvil)]).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    let before = world.job(&anvil, "before").await;
    store
        .follow_until(&mut watch, |store| store.holder(before).is_some())
        .await;
    assert_eq!(first(&ledger).errors, 0);

    proxy.set(bad(world.head().await));
    anvil.mine(5).await;
    let after = world.job(&anvil, "after").await;
    store
        .follow_until(&mut watch, |store| store.holder(after).is_some())
        .await;

    let head = world.head().await;
    store.follow(&mut watch, head).await;
    assert_eq!(store.rollbacks, 0);
    assert_eq!(store.events(), all(&ledger, head).await.events());
    let status = until("the fault is counted", async || {
        let status = first(&ledger);
        (status.errors > 0).then_some(status)
    });
    status.await
}

#[tokio::test]
async fn an_endpoint_that_stays_behind_is_found_out_by_another() {
    let status = next_to_a_sound_one(Mode::Stale).await;
    assert!(status.last_error.unwrap().contains("newest block"));
}

#[tokio::test]
async fn an_endpoint_whose_head_goes_back_is_not_believed() {
    let status = next_to_a_sound_one(|head| Mode::Stale(head - 2)).await;
    assert!(status.last_error.unwrap().contains("newest block"));
}

#[tokio::test]
async fn an_endpoint_that_answers_late_is_left_for_another() {
    let status = next_to_a_sound_one(|_| Mode::Slow(Duration::from_mins(1))).await;
    assert!(status.last_error.unwrap().contains("did not answer"));
}

#[tokio::test]
async fn an_endpoint_that_answers_nonsense_is_left_for_another() {
    let status = next_to_a_sound_one(|_| Mode::Garbage).await;
    assert!(status.last_error.unwrap().contains("nonsense"));
}

#[tokio::test]
async fn an_endpoint_that_answers_without_end_is_left_for_another() {
    let status = next_to_a_sound_one(|_| Mode::Huge).await;
    assert!(
        status
            .last_error
            .unwrap()
            .contains("more than 16777216 bytes")
    );
}

#[tokio::test]
async fn an_endpoint_that_leaves_events_out_is_found_out_by_another() {
    let status = next_to_a_sound_one(|_| Mode::Mute).await;
    let said = status.last_error.unwrap();
    assert!(said.contains("leaves out events of block"), "{said}");
}

#[tokio::test]
async fn a_single_endpoint_that_leaves_events_out_is_found_out_by_its_own_receipts() {
    let (anvil, world) = anvil_with_contract().await;
    let proxy = Proxy::start(anvil.port, Mode::Honest).await;
    let ledger = world.ledger(std::slice::from_ref(&proxy.url)).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    store.follow(&mut watch, world.head().await).await;

    proxy.set(Mode::Mute);
    let job = world.job(&anvil, "s").await;
    until("the fault is seen", async || {
        let said = first(&ledger).last_error?;
        said.contains("leaves out events of block").then_some(())
    })
    .await;
    assert!(!store.knows(job));
    proxy.set(Mode::Honest);

    let head = world.head().await;
    store.follow(&mut watch, head).await;
    assert!(store.holder(job).is_some());
    assert_eq!(store.events(), all(&ledger, head).await.events());
}

#[tokio::test]
async fn an_endpoint_that_leaves_old_jobs_out_is_left_for_another() {
    let (anvil, world) = anvil_with_contract().await;
    let old = world.job(&anvil, "old").await;
    let until = world.head().await;
    let new = world.job(&anvil, "new").await;
    anvil.mine(100).await;
    let proxy = Proxy::start(anvil.port, Mode::Forgetful(until)).await;

    let ledger = world.ledger(&[proxy.url.clone(), http(&anvil)]).await;
    let head = world.head().await;
    let store = all(&ledger, head).await;

    assert!(store.holder(old).is_some() && store.holder(new).is_some());
    let said = first(&ledger).last_error.unwrap();
    assert!(said.contains("leaves out that job 1 was created"), "{said}");
}

#[tokio::test]
async fn an_endpoint_that_was_found_out_is_not_believed_when_audits_are_used_up() {
    let (anvil, world) = anvil_with_contract().await;
    let proxy = Proxy::start(anvil.port, Mode::Honest).await;
    let ledger = world.ledger(std::slice::from_ref(&proxy.url)).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    store.follow(&mut watch, world.head().await).await;

    proxy.set(Mode::Mute);
    let job = world.job(&anvil, "s").await;
    // More often than audits can be paid for.
    until("it is found out again and again", async || {
        (first(&ledger).errors > 50).then_some(())
    })
    .await;
    // One for each of the blocks whose events are asked for together.
    let audits = proxy.requests("eth_getBlockReceipts");
    assert!((1..=8).contains(&audits), "{audits}");
    proxy.set(Mode::Honest);

    let head = world.head().await;
    store.follow(&mut watch, head).await;
    assert!(store.holder(job).is_some());
    assert_eq!(store.events(), all(&ledger, head).await.events());
}

#[tokio::test]
async fn events_of_other_blocks_find_nobody_out() {
    let (anvil, world) = anvil_with_contract().await;
    let sound = Proxy::start(anvil.port, Mode::Loud).await;
    let careless = Proxy::start(anvil.port, Mode::Careless).await;
    let urls = [sound.url.clone(), careless.url.clone()];
    let ledger = world.ledger(&urls).await;
    ledger.reached(world.head().await).await.unwrap();
    let job = world.job(&anvil, "s").await;

    anvil.mine(5).await;
    ledger.reached(world.head().await).await.unwrap();

    assert!(ledger.job(JobId(job)).await.unwrap().is_some());
    let [sound, careless] = <[_; 2]>::try_from(ledger.status().endpoints).unwrap();
    assert_eq!(sound.errors, 0, "{sound:?}");
    let said = careless.last_error.unwrap();
    assert!(said.contains("an event that was not asked for"), "{said}");
}

#[tokio::test]
async fn a_contract_is_missing_only_when_nobody_has_it() {
    let (anvil, world) = anvil_with_contract().await;
    let syncing = Proxy::start(anvil.port, Mode::Syncing).await;
    let broken = Proxy::start(anvil.port, Mode::Garbage).await;
    let open = async |urls: &[_]| EthereumLedger::open(world.settings(urls)).await.map(drop);

    let alone = open(std::slice::from_ref(&syncing.url)).await;
    let next_to_none = open(&[syncing.url.clone(), broken.url.clone()]).await;
    let next_to_one = open(&[syncing.url.clone(), http(&anvil)]).await;

    let missing = alone.unwrap_err();
    assert!(matches!(missing, LedgerError::NoContract { .. }));
    assert!(!missing.is_for_good(), "it may get there");
    let unknown = next_to_none.unwrap_err();
    assert!(matches!(unknown, LedgerError::Unreachable(_)), "{unknown}");
    assert_eq!(next_to_one, Ok(()));
}

#[tokio::test]
async fn blooms_that_are_wrong_stop_nothing_and_cost_little() {
    const BLOCKS: u64 = 400;
    let (anvil, world) = anvil_with_contract().await;
    let proxy = Proxy::start(anvil.port, Mode::Loud).await;
    let ledger = world.ledger(std::slice::from_ref(&proxy.url)).await;
    for _ in 0..BLOCKS / 40 {
        anvil.mine(40).await;
        ledger.reached(world.head().await).await.unwrap();
    }
    let job = world.job(&anvil, "s").await;
    let head = world.head().await;
    ledger.reached(head).await.unwrap();

    assert!(ledger.job(JobId(job)).await.unwrap().is_some());
    assert_eq!(first(&ledger).errors, 0);
    let audits = u64::try_from(proxy.requests("eth_getBlockReceipts")).unwrap();
    // 32 at once and one for eight blocks.
    assert!(audits >= 32 && audits <= 32 + head / 8, "{audits}");
}

#[tokio::test]
async fn a_single_endpoint_that_recovers_is_used_again() {
    let (anvil, world) = anvil_with_contract().await;
    let proxy = Proxy::start(anvil.port, Mode::Honest).await;
    let ledger = world.ledger(std::slice::from_ref(&proxy.url)).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    store.follow(&mut watch, world.head().await).await;

    proxy.set(Mode::Garbage);
    let job = world.job(&anvil, "s").await;
    until("the fault is seen", async || {
        (first(&ledger).errors > 1).then_some(())
    })
    .await;
    proxy.set(Mode::Honest);

    store
        .follow_until(&mut watch, |store| store.holder(job).is_some())
        .await;
    assert_eq!(
        store.events(),
        all(&ledger, world.head().await).await.events()
    );
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_refused_and_said_so() {
    let (anvil, world) = anvil_with_contract().await;
    let proxy = Proxy::start(anvil.port, Mode::Chain(5)).await;
    let mut settings = world.settings(&[proxy.url.clone(), http(&anvil)]);
    let urls = [proxy.url.clone(), http(&anvil)];
    settings.endpoints = Endpoints::new(&urls, Some(31337), Duration::from_secs(2)).unwrap();

    let ledger = EthereumLedger::open(settings.clone()).await.unwrap();
    ledger.reached(world.head().await).await.unwrap();

    let said = first(&ledger).last_error.unwrap();
    assert!(said.contains("chain 5, not of 31337"), "{said}");
    let alone = Endpoints::new(&urls[..1], Some(31337), Duration::from_secs(2)).unwrap();
    settings.endpoints = alone;
    let refused = EthereumLedger::open(settings).await.unwrap_err();
    let wrong = LedgerError::WrongChain {
        endpoint: proxy.url.to_string(),
        expected: 31337,
        found: 5,
    };
    assert_eq!(refused, wrong);
}

#[tokio::test]
async fn an_endpoint_is_checked_again_after_it_failed() {
    let (anvil, world) = anvil_with_contract().await;
    let proxy = Proxy::start(anvil.port, Mode::Honest).await;
    let ledger = world.ledger(std::slice::from_ref(&proxy.url)).await;
    ledger.reached(world.head().await).await.unwrap();

    proxy.set(Mode::Garbage);
    until("it fails", async || {
        (first(&ledger).errors > 0).then_some(())
    })
    .await;
    // Another server has taken its address meanwhile.
    proxy.set(Mode::Chain(5));

    until("it is refused", async || {
        first(&ledger)
            .last_error
            .unwrap()
            .contains("chain 5")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_web_socket_that_is_cut_is_made_again() {
    let (anvil, world) = anvil_with_contract().await;
    let wire = Wire::start(anvil.port()).await;
    let ledger = world.ledger(std::slice::from_ref(&wire.url)).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    let before = world.job(&anvil, "before").await;
    store
        .follow_until(&mut watch, |store| store.holder(before).is_some())
        .await;

    wire.cut(true);
    let during = world.job(&anvil, "during").await;
    until("it is missed", async || {
        (first(&ledger).errors > 0).then_some(())
    })
    .await;
    wire.cut(false);
    store
        .follow_until(&mut watch, |store| store.holder(during).is_some())
        .await;
    let after = world.job(&anvil, "after").await;
    store
        .follow_until(&mut watch, |store| store.holder(after).is_some())
        .await;

    assert_eq!(
        store.events(),
        all(&ledger, world.head().await).await.events()
    );
}

#[tokio::test]
async fn while_a_web_socket_is_cut_blocks_are_asked_for_elsewhere() {
    let (anvil, world) = anvil_with_contract().await;
    let wire = Wire::start(anvil.port()).await;
    let ledger = world.ledger(&[wire.url.clone(), http(&anvil)]).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    store.follow(&mut watch, world.head().await).await;

    wire.cut(true);
    let job = world.job(&anvil, "s").await;
    store
        .follow_until(&mut watch, |store| store.holder(job).is_some())
        .await;

    assert!(ledger.job(JobId(job)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_web_socket_that_falls_silent_is_not_waited_for() {
    let (anvil, world) = anvil_with_contract().await;
    let wire = Wire::start(anvil.port()).await;
    let ledger = world.ledger(std::slice::from_ref(&wire.url)).await;
    let mut watch = ledger.watch(None);
    let mut store = Store::default();
    store.follow(&mut watch, world.head().await).await;

    wire.stall();
    let job = world.job(&anvil, "s").await;
    store
        .follow_until(&mut watch, |store| store.holder(job).is_some())
        .await;

    let said = first(&ledger).last_error.unwrap();
    assert!(said.contains("did not answer"), "{said}");
}
