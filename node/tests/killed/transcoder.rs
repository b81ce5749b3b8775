//! What the process does that is killed: it follows the chain to the jobs it was given,
//! writes down what it has done, keeps the receipts, claims, answers and is paid.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use headwater::{
    jobs::{Holding, JobStore as _, Worker},
    receipts::{Done, Terms, Work},
    store::Store,
};
use headwater_chain::{
    Cursor, Job, JobId, Journal, Ledger as _, LedgerJournal,
    ethereum::{
        Account, Action, ChainSettings, ClaimConfig, ClaimState, Claims, EthereumLedger, Receipts,
        Spending, Writer,
    },
};
use headwater_proto::NodeId;
use serde::{Deserialize, Serialize};

use crate::{
    points::{Disk, Points, way_to},
    scene::{BOND, NODE, PAID, PRICE, SEGMENTS, Scene, Who, endpoints, key, source},
};

/// Rounds of claims until all is settled; fewer do.
const ROUNDS: usize = 12;

/// What it came to, on the chain and in the store.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Jobs that it holds.
    held: Vec<u64>,
    /// Everything that it keeps about the contract.
    kept: Vec<(String, Vec<u8>)>,
    /// Claims of its jobs, and how they ended.
    claims: Vec<String>,
    balance: u128,
    stake: u128,
    transactions: u64,
}

impl Outcome {
    /// What it has to be.
    pub(crate) fn check(&self) {
        assert_eq!(self.held.len(), 1);
        assert_eq!(self.claims.len(), 1, "{:?}", self.claims);
        let paid = u128::from(SEGMENTS) * PRICE + BOND;
        assert_eq!((self.balance, self.stake), (paid, 1000));
        // Registration, acknowledgement, claim, answer, settlement.
        assert_eq!(self.transactions, 5);
        let left = |name: &str| {
            self.kept
                .iter()
                .filter(|(key, _)| key.starts_with(name))
                .count()
        };
        assert_eq!(left("receipt/"), usize::try_from(SEGMENTS).unwrap());
        assert_eq!(left("transaction/"), 0);
    }
}

/// Runs until everything is settled.
pub(crate) async fn run(scene: &Scene, dir: &Path, points: Arc<Points>) -> Outcome {
    let store = Arc::new(Store::open(dir).unwrap());
    let endpoints = endpoints(&way_to(scene.url().to_owned(), points.clone()).await);
    let disk = Arc::new(Disk {
        store: store.clone(),
        points,
    });
    let account = scene
        .account_on(&endpoints, Who::Transcoder, disk.clone())
        .await;
    let settings = ChainSettings {
        poll: Duration::from_millis(10),
        ..ChainSettings::new(endpoints, scene.contract())
    };
    let ledger = EthereumLedger::open(settings).await.unwrap();
    let ledger = ledger.writing(Writer::new(account.clone(), Spending::default()));

    follow(scene, disk, Arc::new(ledger)).await;
    for (job, held) in store.jobs().unwrap() {
        assert_eq!(held.stream, PAID);
        let receipts = work(scene, account.journal(), JobId(job));
        be_paid(scene, &account, receipts, JobId(job)).await;
    }
    outcome(scene, &store, &account).await
}

/// Jobs that are worked on, and those of them that are still to be acknowledged.
#[derive(Debug, Default, Clone)]
struct Bench(Arc<Mutex<(BTreeSet<u64>, Vec<JobId>)>>);

impl Worker for Bench {
    type Task = ();

    fn takes(&self, _: &Job) -> Option<()> {
        Some(())
    }

    fn begin(&self, job: &Job, (): ()) {
        let (working_on, begun) = &mut *self.0.lock().unwrap();
        if working_on.insert(job.id.0) {
            begun.push(job.id);
        }
    }

    fn end(&self, job: headwater_proto::JobId) {
        self.0.lock().unwrap().0.remove(&job.0);
    }

    fn working_on(&self) -> Vec<headwater_proto::JobId> {
        let (working_on, _) = &*self.0.lock().unwrap();
        working_on
            .iter()
            .copied()
            .map(headwater_proto::JobId)
            .collect()
    }
}

/// Takes up what was held, and handles what was settled after the place that was kept. A
/// node acknowledges in its own time; here that is when the place has been kept.
async fn follow(scene: &Scene, disk: Arc<Disk>, ledger: Arc<EthereumLedger>) {
    let head = scene.head().await;
    let number = |cursor: &Cursor| -> u64 { cursor.0.split(':').next().unwrap().parse().unwrap() };
    let mut place = disk.cursor().unwrap().map(Cursor);
    let (own, bench) = (key(Who::Transcoder).address(), Bench::default());
    let worker = Some((own, bench.clone()));
    let holding = Holding::new(
        ledger.clone(),
        disk,
        NodeId::from_public_key(NODE.0),
        worker,
    );
    holding.take_up().await.unwrap();
    let mut watch = holding.watch();
    loop {
        let begun = std::mem::take(&mut bench.0.lock().unwrap().1);
        for job in begun {
            ledger.acknowledge(job, own).await.unwrap();
        }
        if place.as_ref().is_some_and(|place| number(place) >= head) {
            return;
        }
        let batch = watch.next().await.unwrap().unwrap();
        place = Some(batch.cursor.clone());
        holding.handle(batch).await.unwrap();
    }
}

/// Does its segments, and gets receipts for them.
pub(crate) fn work(scene: &Scene, journal: Arc<dyn Journal>, job: JobId) -> Receipts {
    let work = Work::new(journal);
    for number in 0..SEGMENTS {
        let done = Done {
            number,
            source: source(number),
            renditions: [9; 32],
        };
        work.done(job, done).unwrap();
    }
    let terms = Terms {
        domain: scene.domain(),
        stream: PAID.into(),
        broadcaster: key(Who::Broadcaster).address(),
        transcoder: key(Who::Transcoder).address(),
    };
    let receipts: Vec<_> = (0..SEGMENTS).map(|n| scene.receipt(job, n)).collect();
    let settled = work.settle(job, &terms, &receipts).unwrap();
    assert_eq!((settled.bad, settled.lost), (0, 0));
    work.receipts().clone()
}

fn claims(account: &Account, receipts: Receipts) -> Claims {
    Claims::new(account.clone(), receipts, ClaimConfig::default())
}

/// Claims, answers the challenge that somebody makes, settles.
async fn be_paid(scene: &Scene, account: &Account, receipts: Receipts, job: JobId) {
    let claims = claims(account, receipts);
    let watcher = scene.account(Who::Watcher).await;
    for _ in 0..ROUNDS {
        claims.attend_job(job, true).await.unwrap();
        account.attend().await.unwrap();
        let made = claims.list(job).unwrap();
        let over = made.iter().all(|claim| claim.state == ClaimState::Settled);
        if over && account.pending().unwrap() == 0 {
            return;
        }
        let challenge = Action::Challenge {
            claim: 1,
            index: 1,
            bond: headwater_chain::Wei(BOND),
        };
        // It may be there already, or too late.
        drop(watcher.make("challenge", &challenge).await);
        claims.attend_job(job, true).await.unwrap();
        scene.mine(20).await;
    }
    panic!("it is never settled");
}

async fn outcome(scene: &Scene, store: &Arc<Store>, account: &Account) -> Outcome {
    let held: Vec<_> = store
        .jobs()
        .unwrap()
        .into_iter()
        .map(|(job, _)| job)
        .collect();
    let kept = LedgerJournal::new(store.clone(), &scene.domain());
    let claims = claims(account, Receipts::new(account.journal()));
    let of = |job: &u64| claims.list(JobId(*job)).unwrap();
    let standing = account.standing().await.unwrap();
    Outcome {
        kept: kept.scan("", "", usize::MAX).unwrap(),
        claims: held
            .iter()
            .flat_map(of)
            .map(|claim| format!("{claim:?}"))
            .collect(),
        held,
        balance: standing.balance.0,
        stake: standing.bonded.0,
        transactions: scene.transactions(Who::Transcoder).await,
    }
}
