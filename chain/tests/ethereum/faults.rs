//! Endpoints that lie, limit, dawdle, babble and break.

use std::{iter, time::Duration};

use headwater_anvil::Anvil;
use headwater_chain::{
    JobId, Ledger as _, LedgerError, Watch,
    ethereum::{EndpointStatus, EndpointUrl, Endpoints, EthereumLedger},
};
use serde_json::json;

use crate::{
    proxy::{Babbler, Mode, Proxy, Wire},
    store::{Store, all},
    until,
    world::{World, http},
};

/// Somebody who follows a contract on a chain of its own, and has missed nothing so far.
struct Follower {
    anvil: Anvil,
    world: World,
    ledger: EthereumLedger,
    watch: Watch,
    store: Store,
}

async fn anvil_with_contract() -> (Anvil, World) {
    let anvil = Anvil::start();
    let world = World::on(&anvil).await;
    (anvil, world)
}

impl Follower {
    /// Asks these, in order.
    async fn by((anvil, world): (Anvil, World), urls: &[EndpointUrl]) -> Self {
        let ledger = world.ledger(urls).await;
        let mut follower = Self {
            watch: ledger.watch(None),
            store: Store::default(),
            anvil,
            world,
            ledger,
        };
        follower.catches_up().await;
        assert_eq!(follower.first().errors, 0);
        follower
    }

    /// Asks an endpoint that can be told to misbehave, and then its chain itself if
    /// `another` is there.
    async fn by_proxy(another: bool) -> (Self, Proxy) {
        let (anvil, world) = anvil_with_contract().await;
        let proxy = Proxy::start(anvil.port(), Mode::Honest).await;
        let another = another.then(|| http(&anvil));
        let urls: Vec<_> = iter::once(proxy.url.clone()).chain(another).collect();
        (Self::by((anvil, world), &urls).await, proxy)
    }

    /// The endpoint that is preferred.
    fn first(&self) -> EndpointStatus {
        first(&self.ledger)
    }

    /// Waits for more than so many faults of the endpoint that is preferred.
    async fn errors_beyond(&self, count: u64) -> EndpointStatus {
        until("the fault is counted", async || {
            Some(self.first()).filter(|status| status.errors > count)
        })
        .await
    }

    /// A job is created and assigned.
    async fn job(&self, stream: &str) -> u64 {
        self.world.job(&self.anvil, stream).await
    }

    async fn sees(&mut self, job: u64) {
        let assigned = |store: &Store| store.holder(job).is_some();
        self.store.follow_until(&mut self.watch, assigned).await;
    }

    async fn catches_up(&mut self) {
        let head = self.world.head().await;
        self.store.follow(&mut self.watch, head).await;
    }

    /// Has seen all that happened, each once and none in vain.
    async fn has_missed_nothing(&mut self) {
        self.catches_up().await;
        assert_eq!(self.store.rollbacks, 0);
        let all = all(&self.ledger, self.world.head().await).await;
        assert_eq!(self.store.events(), all.events());
    }
}

fn first(ledger: &EthereumLedger) -> EndpointStatus {
    ledger.status().endpoints.remove(0)
}

/// With an endpoint that begins to misbehave and a sound one, nothing is missed.
async fn next_to_a_sound_one(bad: impl FnOnce(u64) -> Mode) -> EndpointStatus {
    let (mut follower, proxy) = Follower::by_proxy(true).await;
    let before = follower.job("before").await;
    follower.sees(before).await;
    assert_eq!(follower.first().errors, 0);

    proxy.set(bad(follower.world.head().await));
    follower.anvil.mine(5).await;
    let after = follower.job("after").await;
    follower.sees(after).await;

    follower.has_missed_nothing().await;
    follower.errors_beyond(0).await
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
    let (mut follower, proxy) = Follower::by_proxy(false).await;

    proxy.set(Mode::Mute);
    let job = follower.job("s").await;
    let said = follower.errors_beyond(0).await.last_error.unwrap();
    assert!(said.contains("leaves out events of block"), "{said}");
    assert!(!follower.store.knows(job));
    proxy.set(Mode::Honest);

    follower.sees(job).await;
    follower.has_missed_nothing().await;
}

/// Two jobs are assigned in one block, of which an endpoint tells the first event only.
async fn half_a_block(another: bool) {
    let (mut follower, proxy) = Follower::by_proxy(another).await;
    let (anvil, world) = (&follower.anvil, &follower.world);
    let jobs = [world.create("one").await, world.create("two").await];
    anvil.mine(1).await;
    follower.catches_up().await;

    proxy.set(Mode::First);
    let (anvil, world) = (&follower.anvil, &follower.world);
    anvil.rpc("evm_setAutomine", json!([false])).await;
    let mined = async {
        until("both wait for a block", async || {
            let waiting = anvil.rpc("txpool_status", json!([])).await;
            (waiting["pending"] == "0x2").then_some(())
        })
        .await;
        anvil.mine(1).await;
        anvil.rpc("evm_setAutomine", json!([true])).await;
    };
    tokio::join!(world.assign(jobs[0]), world.assign(jobs[1]), mined);
    let said = follower.errors_beyond(0).await.last_error.unwrap();
    assert!(said.contains("leaves out events of block"), "{said}");
    proxy.set(Mode::Honest);

    for job in jobs {
        follower.sees(job).await;
    }
    follower.has_missed_nothing().await;
}

#[tokio::test]
async fn an_endpoint_that_leaves_some_events_of_a_block_out_is_found_out_by_another() {
    half_a_block(true).await;
}

#[tokio::test]
async fn a_single_endpoint_that_leaves_some_events_out_is_found_out_by_its_own_receipts() {
    half_a_block(false).await;
}

#[tokio::test]
async fn an_endpoint_that_leaves_old_jobs_out_is_left_for_another() {
    let (anvil, world) = anvil_with_contract().await;
    let old = world.job(&anvil, "old").await;
    let until = world.head().await;
    let new = world.job(&anvil, "new").await;
    anvil.mine(100).await;
    let proxy = Proxy::start(anvil.port(), Mode::Forgetful(until)).await;

    let ledger = world.ledger(&[proxy.url.clone(), http(&anvil)]).await;
    let head = world.head().await;
    let store = all(&ledger, head).await;

    assert!(store.holder(old).is_some() && store.holder(new).is_some());
    let said = first(&ledger).last_error.unwrap();
    assert!(said.contains("leaves out that job 1 was created"), "{said}");
}

#[tokio::test]
async fn an_endpoint_that_was_found_out_is_not_believed_when_audits_are_used_up() {
    let (mut follower, proxy) = Follower::by_proxy(false).await;
    let before = proxy.requests("eth_getBlockReceipts");

    proxy.set(Mode::Mute);
    let job = follower.job("s").await;
    // More often than audits can be paid for.
    follower.errors_beyond(50).await;
    // One for each of the blocks whose events are asked for together.
    let audits = proxy.requests("eth_getBlockReceipts") - before;
    assert!((1..=8).contains(&audits), "{audits}");
    proxy.set(Mode::Honest);

    follower.sees(job).await;
    follower.has_missed_nothing().await;
}

#[tokio::test]
async fn events_of_other_blocks_find_nobody_out() {
    let (anvil, world) = anvil_with_contract().await;
    let sound = Proxy::start(anvil.port(), Mode::Loud).await;
    let careless = Proxy::start(anvil.port(), Mode::Careless).await;
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
    let syncing = Proxy::start(anvil.port(), Mode::Syncing).await;
    let broken = Proxy::start(anvil.port(), Mode::Garbage).await;
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
    let proxy = Proxy::start(anvil.port(), Mode::Loud).await;
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
    let (mut follower, proxy) = Follower::by_proxy(false).await;

    proxy.set(Mode::Garbage);
    let job = follower.job("s").await;
    follower.errors_beyond(1).await;
    proxy.set(Mode::Honest);

    follower.sees(job).await;
    follower.has_missed_nothing().await;
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_refused_and_said_so() {
    let (anvil, world) = anvil_with_contract().await;
    let proxy = Proxy::start(anvil.port(), Mode::Chain(5)).await;
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
    let (follower, proxy) = Follower::by_proxy(false).await;

    proxy.set(Mode::Garbage);
    follower.errors_beyond(0).await;
    // Another server has taken its address meanwhile.
    proxy.set(Mode::Chain(5));

    until("it is refused", async || {
        let said = follower.first().last_error?;
        said.contains("chain 5").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_web_socket_that_is_cut_is_made_again() {
    let (anvil, world) = anvil_with_contract().await;
    let wire = Wire::start(anvil.port()).await;
    let urls = [wire.url.clone()];
    let mut follower = Follower::by((anvil, world), &urls).await;
    let before = follower.job("before").await;
    follower.sees(before).await;

    wire.cut(true);
    let during = follower.job("during").await;
    follower.errors_beyond(0).await;
    wire.cut(false);
    follower.sees(during).await;
    let after = follower.job("after").await;
    follower.sees(after).await;

    follower.has_missed_nothing().await;
}

#[tokio::test]
async fn while_a_web_socket_is_cut_blocks_are_asked_for_elsewhere() {
    let (anvil, world) = anvil_with_contract().await;
    let wire = Wire::start(anvil.port()).await;
    let urls = [wire.url.clone(), http(&anvil)];
    let mut follower = Follower::by((anvil, world), &urls).await;

    wire.cut(true);
    let job = follower.job("s").await;
    follower.sees(job).await;

    let job = follower.ledger.job(JobId(job)).await.unwrap();
    assert!(job.is_some());
}

#[tokio::test]
async fn a_web_socket_that_falls_silent_is_not_waited_for() {
    let (anvil, world) = anvil_with_contract().await;
    let wire = Wire::start(anvil.port()).await;
    let urls = [wire.url.clone()];
    let mut follower = Follower::by((anvil, world), &urls).await;

    wire.stall();
    let job = follower.job("s").await;
    follower.sees(job).await;

    let said = follower.first().last_error.unwrap();
    assert!(said.contains("did not answer"), "{said}");
}

/// A WebSocket begins to send more than anybody should read, and stops again.
async fn babble(another: bool) {
    let (anvil, world) = anvil_with_contract().await;
    let babbler = Babbler::start(anvil.port()).await;
    let another = another.then(|| http(&anvil));
    let urls: Vec<_> = iter::once(babbler.url.clone())
        .chain(another.clone())
        .collect();
    let mut follower = Follower::by((anvil, world), &urls).await;
    let connections = babbler.connections();

    babbler.set_huge(true);
    let during = follower.job("during").await;
    let said = follower.errors_beyond(0).await.last_error.unwrap();
    assert!(said.contains("more than 16777216 bytes"), "{said}");
    if another.is_some() {
        follower.sees(during).await;
    }
    until("it is tried again", async || {
        (babbler.connections() > connections).then_some(())
    })
    .await;
    babbler.set_huge(false);

    follower.sees(during).await;
    let after = follower.job("after").await;
    follower.sees(after).await;
    follower.has_missed_nothing().await;
}

#[tokio::test]
async fn a_web_socket_that_babbles_without_end_is_left_for_another() {
    babble(true).await;
}

#[tokio::test]
async fn a_single_web_socket_that_babbles_without_end_is_used_again_when_it_stops() {
    babble(false).await;
}
