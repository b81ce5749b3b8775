//! Claims are made and defended whatever becomes of the chain that is followed: no endpoint
//! of those that are answers, or it took back more than can be followed.

use std::{sync::Arc, time::Duration};

use headwater::ledger::{Chain, Keeper};
use headwater_anvil::Anvil;
use headwater_chain::{
    JobId, LedgerError, Wei,
    ethereum::{
        Account, Action, ChainSettings, ClaimConfig, ClaimState, Claims, Endpoints, EthereumLedger,
        Receipts, Spending, Writer,
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    scene::{BOND, PRICE, SEGMENTS, Scene, Who, endpoints, key},
    transcoder::work,
};

const A_WHILE: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);
const JOB: JobId = JobId(2);

/// Passes on what comes, until it is aborted.
async fn pass_on(listener: TcpListener, chain: String) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let chain = chain.clone();
        connections.spawn(async move {
            let mut far = TcpStream::connect(chain).await.unwrap();
            // Either side may be gone by then.
            drop(copy_bidirectional(&mut near, &mut far).await);
        });
    }
}

/// Waits for a condition. The limit is there for what never comes.
async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let checking = async {
        while !check().await {
            sleep(A_WHILE).await;
        }
    };
    let found = timeout(LONG, checking).await;
    found.unwrap_or_else(|_| panic!("{what}: never"));
}

/// A transcoder with receipts for a job that it has acknowledged.
struct Worker {
    account: Account,
    writer: Writer,
    receipts: Receipts,
    stop: CancellationToken,
}

impl Worker {
    async fn of(scene: &Scene) -> Self {
        let account = scene.account(Who::Transcoder).await;
        let writer = Writer::new(account.clone(), Spending::default());
        let own = key(Who::Transcoder).address();
        writer.acknowledge(JOB, own).await.unwrap();
        Self {
            receipts: work(scene, account.journal(), JOB),
            account,
            writer,
            stop: CancellationToken::new(),
        }
    }

    fn claims(&self) -> Claims {
        let config = ClaimConfig {
            receipts: 1,
            ..ClaimConfig::default()
        };
        Claims::new(self.account.clone(), self.receipts.clone(), config)
    }

    /// Looks after its claims, next to a ledger.
    fn keep(&self, ledger: EthereumLedger) -> JoinHandle<()> {
        let chain = Chain {
            ledger: Arc::new(ledger),
            writer: Some(self.writer.clone()),
        };
        let keeper = Keeper::new(chain, self.writer.clone(), Some(self.claims()));
        tokio::spawn(keeper.run(self.stop.clone()))
    }
}

async fn follow(scene: &Scene, endpoints: Endpoints) -> EthereumLedger {
    let settings = ChainSettings {
        poll: A_WHILE,
        ..ChainSettings::new(endpoints, scene.contract())
    };
    EthereumLedger::open(settings).await.unwrap()
}

#[tokio::test]
async fn work_is_claimed_while_the_chain_cannot_be_followed() {
    let anvil = Anvil::start();
    let scene = Scene::open(&anvil).await;
    let worker = Worker::of(&scene).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let followed = endpoints(&format!("http://{}", listener.local_addr().unwrap()));
    let chain = scene.url().trim_start_matches("http://").to_owned();
    let way = tokio::spawn(pass_on(listener, chain));
    let ledger = follow(&scene, followed).await;
    way.abort();
    until("the endpoint fails", async || {
        ledger.status().endpoints[0].failures > 0
    })
    .await;

    let keeping = worker.keep(ledger);

    until("it claims", async || {
        !worker.claims().list(JOB).unwrap().is_empty()
    })
    .await;
    worker.stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test]
async fn a_claim_is_defended_and_paid_after_the_chain_took_back_more_than_can_be_followed() {
    let anvil = Anvil::start();
    let scene = Scene::open(&anvil).await;
    let worker = Worker::of(&scene).await;
    scene.mine(200).await;
    let ledger = follow(&scene, endpoints(scene.url())).await;
    ledger.reached(scene.head().await).await.unwrap();
    anvil.reorganise(90).await;
    scene.mine(1).await;
    until("the ledger ends", async || {
        matches!(ledger.status().failed, Some(LedgerError::TooDeep { .. }))
    })
    .await;
    let made = async |count| scene.transactions(Who::Transcoder).await == count;
    // Registration and acknowledgement.
    assert!(made(2).await);

    let keeping = worker.keep(ledger);

    until("it claims", async || made(3).await).await;
    let challenge = Action::Challenge {
        claim: 1,
        index: 1,
        bond: Wei(BOND),
    };
    let watcher = scene.account(Who::Watcher).await;
    watcher.make("challenge", &challenge).await.unwrap();
    until("it answers", async || made(4).await).await;
    scene.mine(20).await;
    until("it settles", async || {
        let claims = worker.claims().list(JOB).unwrap();
        claims
            .iter()
            .all(|claim| claim.state == ClaimState::Settled)
    })
    .await;
    let balance = worker.account.standing().await.unwrap().balance;
    assert_eq!(balance, Wei(u128::from(SEGMENTS) * PRICE + BOND));
    worker.stop.cancel();
    keeping.await.unwrap();
}
