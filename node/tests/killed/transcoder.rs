//! What the process does that is killed: it follows the chain to the jobs it was given,
//! writes down what it has done, keeps the receipts, claims, answers and is paid.

use std::{path::Path, sync::Arc, time::Duration};

use headwater::{
    receipts::{Done, Terms, Work},
    store::{HeldJob, Store},
};
use headwater_chain::{
    Cursor, Event, JobId, JobState, Journal, Ledger as _, LedgerJournal,
    ethereum::{
        Account, Action, ChainSettings, ClaimConfig, ClaimState, Claims, EthereumLedger, Receipts,
        Spending, Writer,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    points::{Disk, Points, way_to},
    scene::{BOND, PAID, PRICE, SEGMENTS, Scene, Who, endpoints, key, source},
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
        journal: store.clone(),
        points: points.clone(),
    });
    let account = scene.account_on(&endpoints, Who::Transcoder, disk).await;
    let settings = ChainSettings {
        poll: Duration::from_millis(10),
        ..ChainSettings::new(endpoints, scene.contract())
    };
    let ledger = EthereumLedger::open(settings).await.unwrap();
    let ledger = ledger.writing(Writer::new(account.clone(), Spending::default()));

    follow(scene, &store, &ledger, &points).await;
    for (job, held) in store.jobs().unwrap() {
        assert_eq!(held.stream, PAID);
        let receipts = work(scene, account.journal(), JobId(job));
        be_paid(scene, &account, receipts, JobId(job)).await;
    }
    outcome(scene, &store, &account).await
}

/// Handles what was settled after the place that was kept, as a node does.
async fn follow(scene: &Scene, store: &Store, ledger: &EthereumLedger, points: &Points) {
    let head = scene.head().await;
    let number = |cursor: &Cursor| -> u64 { cursor.0.split(':').next().unwrap().parse().unwrap() };
    let mut place = store.cursor().unwrap().map(Cursor);
    // A job that was taken up may have been left without an acknowledgement.
    for (job, _) in store.jobs().unwrap() {
        handle(store, ledger, JobId(job), points).await;
    }
    let mut watch = ledger.watch(place.clone());
    while place.as_ref().is_none_or(|place| number(place) < head) {
        let batch = watch.next().await.unwrap().unwrap();
        for event in &batch.events {
            if let Event::JobAssigned(job) | Event::JobEnded(job) = event {
                handle(store, ledger, job.id, points).await;
            }
        }
        points.around(|| store.put_cursor(&batch.cursor.0)).unwrap();
        place = Some(batch.cursor);
    }
}

/// Takes a job up as it is now, or drops it.
async fn handle(store: &Store, ledger: &EthereumLedger, id: JobId, points: &Points) {
    let own = key(Who::Transcoder).address();
    let job = ledger.job(id).await.unwrap().unwrap();
    let holder = job.transcoder.as_ref().map(|holder| holder.address);
    if job.state == JobState::Ended || holder != Some(own) {
        points.around(|| store.remove_job(id.0)).unwrap();
        return;
    }
    let held = HeldJob {
        stream: job.stream.clone(),
        profiles: job.profiles.clone(),
    };
    points.around(|| store.put_job(id.0, &held)).unwrap();
    ledger.acknowledge(id, own).await.unwrap();
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
