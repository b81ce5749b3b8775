//! The whole way of the money: deposits, jobs, receipts, claims, challenges, withdrawals,
//! and what a transcoder that dies on the way finds when it comes back.

use std::{sync::Arc, time::Duration};

use headwater_anvil::Anvil;
use headwater_chain::{
    Address, Change, JobId, Journal, MemoryJournal, NewJob, NodeKey, Transcoder, Wei,
    ethereum::{
        Account, Action, ClaimConfig, ClaimState, Claims, Endpoints, Key, Opening, Receipt,
        ReceiptTree, Receipts, Refusal, Rules, Segment, SenderConfig, Spending, TransactionError,
        Writer,
    },
    testing::{Death, Watched},
};
use serde_json::json;

use crate::world::http;

const STREAM: &str = "a stream";
const PRICE: u128 = 3;
const RULES: Rules = Rules {
    min_stake: Wei(1000),
    challenge_bond: Wei(7),
    reserve_segments: 60,
    ack_blocks: 5,
    job_blocks: 4000,
    claim_blocks: 30,
    challenge_blocks: 15,
    answer_blocks: 10,
    unbond_blocks: 300,
};

/// A contract on a chain, with somebody who broadcasts, somebody who transcodes, and
/// somebody who watches them.
struct Market {
    anvil: Anvil,
    contract: Address,
    broadcaster: Writer,
    watcher: Account,
    key: Key,
    /// What the transcoder has on its disk.
    disk: Arc<MemoryJournal>,
}

impl Market {
    async fn open() -> Self {
        let anvil = Anvil::start();
        let keys = [1, 2, 3].map(|n: u8| Key::from_hex(&format!("{n:02x}").repeat(32)).unwrap());
        for key in &keys {
            let params = json!([key.address().to_string(), "0xde0b6b3a7640000"]);
            anvil.rpc("anvil_setBalance", params).await;
        }
        let [broadcaster, transcoder, watcher] = keys;
        let nowhere = Address([0; 20]);
        let deployer = account(&anvil, nowhere, &broadcaster, memory()).await;
        let deployed = deployer.make("deploy", &Action::Deploy(RULES)).await;
        let contract = deployed.unwrap().contract.unwrap();
        let broadcaster = account(&anvil, contract, &broadcaster, memory()).await;
        let watcher = account(&anvil, contract, &watcher, memory()).await;
        Self {
            broadcaster: Writer::new(broadcaster, Spending::default()),
            watcher,
            contract,
            key: transcoder,
            disk: Arc::default(),
            anvil,
        }
    }

    /// The transcoder, on a disk.
    async fn transcoder(&self, disk: Arc<dyn Journal>) -> Account {
        account(&self.anvil, self.contract, &self.key, disk).await
    }

    /// A job that the transcoder has acknowledged.
    async fn job(&self) -> JobId {
        let account = self.transcoder(self.disk.clone()).await;
        let transcoder = Writer::new(account, Spending::default());
        let terms = Transcoder {
            address: self.key.address(),
            node: NodeKey([7; 32]),
            price_per_segment: Wei(PRICE),
            stake: RULES.min_stake,
        };
        transcoder.register(&terms).await.unwrap();
        let deposit = Action::Deposit(Wei(1000));
        let broadcaster = self.broadcaster.account();
        broadcaster.make("deposit", &deposit).await.unwrap();
        let (job, _) = self
            .mining(self.broadcaster.create_job(&new_job()))
            .await
            .unwrap();
        transcoder
            .acknowledge(job, self.key.address())
            .await
            .unwrap();
        job
    }

    /// Something that waits for blocks, while blocks are made.
    async fn mining<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let a_while = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                done = &mut work => return done,
                () = a_while => self.anvil.mine(1).await,
            }
        }
    }

    fn receipt(&self, account: &Account, job: JobId, number: u64) -> Receipt {
        let segment = Segment {
            job,
            transcoder: self.key.address(),
            stream: STREAM.into(),
            number,
            source: [u8::try_from(number).unwrap(); 32],
        };
        let broadcaster = Key::from_hex(&"01".repeat(32)).unwrap();
        Receipt {
            number,
            source: segment.source,
            renditions: [9; 32],
            signature: broadcaster.sign_segment(&account.domain(), &segment),
        }
    }

    fn receipts(&self, account: &Account, job: JobId, count: u64) -> Vec<Receipt> {
        (0..count).map(|n| self.receipt(account, job, n)).collect()
    }

    /// What is in the contract, to the last wei.
    async fn balance_of_contract(&self) -> u128 {
        let params = json!([self.contract.to_string(), "latest"]);
        let balance = self.anvil.rpc("eth_getBalance", params).await;
        let digits = balance
            .as_str()
            .unwrap()
            .trim_start_matches("0x")
            .to_owned();
        u128::from_str_radix(&digits, 16).unwrap()
    }
}

fn memory() -> Arc<dyn Journal> {
    Arc::new(MemoryJournal::default())
}

fn new_job() -> NewJob {
    NewJob {
        stream: STREAM.into(),
        broadcaster: NodeKey([1; 32]),
        profiles: vec!["720p".into()],
        max_price_per_segment: Wei(5),
    }
}

async fn account(
    anvil: &Anvil,
    contract: Address,
    key: &Key,
    journal: Arc<dyn Journal>,
) -> Account {
    let limit = Duration::from_secs(10);
    let endpoints = Endpoints::new(&[http(anvil)], Some(31337), limit).unwrap();
    let config = SenderConfig {
        confirmations: 2,
        poll: Duration::from_millis(5),
        ..SenderConfig::default()
    };
    let opened = Account::open(&endpoints, contract, key.clone(), journal, config);
    opened.await.unwrap()
}

/// Claims when it is told to.
fn claims(account: &Account) -> Claims {
    let receipts = Receipts::new(account.journal());
    Claims::new(account.clone(), receipts, ClaimConfig::default())
}

fn tree(receipts: &[Receipt]) -> ReceiptTree {
    ReceiptTree::new(
        receipts
            .iter()
            .map(|receipt| receipt.leaf(STREAM))
            .collect(),
    )
    .unwrap()
}

fn open(claim: u64, receipts: &[Receipt], index: u32) -> Opening {
    let place = usize::try_from(index).unwrap();
    Opening {
        claim,
        index,
        receipt: receipts[place].clone(),
        proof: tree(receipts).proof(place),
    }
}

/// Claims these receipts, whatever they are, as a transcoder that cheats would.
async fn cheat(account: &Account, job: JobId, receipts: &[Receipt]) -> u64 {
    let action = Action::Claim {
        job,
        root: tree(receipts).root(),
        first: receipts.first().unwrap().number,
        last: receipts.last().unwrap().number,
        count: u32::try_from(receipts.len()).unwrap(),
    };
    let made = account.make("cheat", &action).await.unwrap();
    made.claim.unwrap()
}

#[tokio::test]
async fn fifty_segments_are_claimed_paid_and_withdrawn() {
    let market = Market::open().await;
    let job = market.job().await;
    let account = market.transcoder(market.disk.clone()).await;
    let claims = claims(&account);
    let receipts = market.receipts(&account, job, 50);
    assert_eq!(claims.receipts().add(job, &receipts), Ok(50));

    claims.attend_job(job, false).await.unwrap();
    assert_eq!(claims.list(job).unwrap(), [], "too few, too young");
    claims.attend_job(job, true).await.unwrap();
    let made = claims.list(job).unwrap();
    assert!(matches!(made[0].state, ClaimState::Made { .. }), "{made:?}");
    assert_eq!((made.len(), made[0].count), (1, 50));
    assert_eq!(claims.receipts().add(job, &receipts), Ok(0));

    market.anvil.mine(20).await;
    claims.attend_job(job, true).await.unwrap();
    assert_eq!(claims.list(job).unwrap()[0].state, ClaimState::Settled);
    let earned = account.standing().await.unwrap().balance;
    assert_eq!(earned, Wei(50 * PRICE));
    account
        .make("withdraw", &Action::Withdraw(earned))
        .await
        .unwrap();

    market.broadcaster.end_job(job).await.unwrap();
    market.anvil.mine(40).await;
    assert!(!market.broadcaster.attend(job).await.unwrap());
    assert!(market.broadcaster.attend(job).await.unwrap());
    let left = market.broadcaster.account().standing().await.unwrap();
    assert_eq!(left.balance, Wei(1000 - 50 * PRICE));
    assert_eq!(market.balance_of_contract().await, 1000 + left.balance.0);
    assert_eq!(claims.attend().await, Ok(vec![]));
    assert_eq!(claims.list(job).unwrap(), [], "forgotten once it is over");
    assert_eq!(claims.receipts().jobs().unwrap(), []);
}

#[tokio::test]
async fn a_challenge_is_answered_and_the_claim_paid() {
    let market = Market::open().await;
    let job = market.job().await;
    let account = market.transcoder(market.disk.clone()).await;
    let claims = claims(&account);
    let receipts = market.receipts(&account, job, 5);
    claims.receipts().add(job, &receipts).unwrap();
    claims.attend_job(job, true).await.unwrap();

    for index in [0, 4] {
        let bond = RULES.challenge_bond;
        let challenge = Action::Challenge {
            claim: 1,
            index,
            bond,
        };
        let intent = format!("challenge {index}");
        market.watcher.make(&intent, &challenge).await.unwrap();
    }
    assert_eq!(claims.attend().await, Ok(vec![]));
    market.anvil.mine(20).await;
    assert_eq!(claims.attend().await, Ok(vec![]));

    assert_eq!(claims.list(job).unwrap()[0].state, ClaimState::Settled);
    let earned = account.standing().await.unwrap();
    assert_eq!(earned.balance, Wei(5 * PRICE + 2 * 7), "with both bonds");
    assert_eq!(earned.bonded, RULES.min_stake);
}

#[tokio::test]
async fn a_bad_receipt_costs_half_of_the_stake() {
    let market = Market::open().await;
    let job = market.job().await;
    let account = market.transcoder(market.disk.clone()).await;
    let mut receipts = market.receipts(&account, job, 4);
    receipts[2].source[0] ^= 1;
    let claim = cheat(&account, job, &receipts).await;

    let good = Action::ProveBad(open(claim, &receipts, 1));
    let refused = market.watcher.make("good", &good).await.unwrap_err();
    assert_eq!(refused, TransactionError::Refused(Refusal::ReceiptIsGood));
    let bad = Action::ProveBad(open(claim, &receipts, 2));
    market.watcher.make("bad", &bad).await.unwrap();

    assert_eq!(account.standing().await.unwrap().bonded, Wei(500));
    assert_eq!(market.watcher.standing().await.unwrap().balance, Wei(100));
}

#[tokio::test]
async fn a_segment_that_is_claimed_twice_costs_half_of_the_stake() {
    let market = Market::open().await;
    let job = market.job().await;
    let account = market.transcoder(market.disk.clone()).await;
    let receipts = market.receipts(&account, job, 6);
    let first = cheat(&account, job, &receipts[..4]).await;
    market.anvil.mine(3).await;
    account.attend().await.unwrap();
    let second = cheat(&account, job, &receipts[3..]).await;

    let shown = open(second, &receipts[3..], 0);
    let double = Action::ProveDouble(shown, open(first, &receipts[..4], 3));
    market.watcher.make("double", &double).await.unwrap();

    assert_eq!(account.standing().await.unwrap().bonded, Wei(500));
    assert_eq!(market.watcher.standing().await.unwrap().balance, Wei(100));
}

#[tokio::test]
async fn what_cannot_be_paid_is_refused_in_words_before_anything_is_sent() {
    let market = Market::open().await;
    let broadcaster = market.broadcaster.account();

    let error = market.broadcaster.create_job(&new_job()).await.unwrap_err();
    let words = "the balance in the contract is too low: needed 300 wei, there are 0; \
                 see `headwater ledger deposit`";
    assert_eq!(error.to_string(), words);
    let deposit = Action::Deposit(Wei(1000));
    let estimate = broadcaster.estimate(&deposit).await.unwrap();
    assert!(estimate.gas > 21_000 && estimate.cost().0 > 0);
    assert_eq!(
        broadcaster.standing().await.unwrap().balance,
        Wei(0),
        "only asked"
    );
    broadcaster.make("deposit", &deposit).await.unwrap();

    let limited = Writer::new(
        broadcaster.clone(),
        Spending {
            limit: Some(Wei(500)),
        },
    );
    let (job, _) = market.mining(limited.create_job(&new_job())).await.unwrap();
    assert_eq!(
        limited.create_job(&new_job()).await.unwrap().0,
        job,
        "the same"
    );
    let other = NewJob {
        stream: "another".into(),
        ..new_job()
    };
    let error = limited.create_job(&other).await.unwrap_err().to_string();
    assert!(error.contains("(--spend-limit) 300 are"), "{error}");
    limited.end_job(job).await.unwrap();
    assert_eq!(broadcaster.standing().await.unwrap().balance, Wei(1000));
}

#[tokio::test]
async fn whoever_elects_second_finds_it_done() {
    let market = Market::open().await;
    let transcoder = market.transcoder(market.disk.clone()).await;
    let terms = Transcoder {
        address: market.key.address(),
        node: NodeKey([7; 32]),
        price_per_segment: Wei(PRICE),
        stake: RULES.min_stake,
    };
    let transcoder = Writer::new(transcoder, Spending::default());
    transcoder.register(&terms).await.unwrap();
    let broadcaster = market.broadcaster.account();
    let deposit = Action::Deposit(Wei(1000));
    broadcaster.make("deposit", &deposit).await.unwrap();
    let watcher = Writer::new(market.watcher.clone(), Spending::default());
    for round in 0..5 {
        let create = Action::CreateJob {
            stream: format!("stream {round}"),
            profiles: vec![],
            max_price: Wei(PRICE),
        };
        let made = broadcaster.make(&format!("create/{round}"), &create).await;
        let job = made.unwrap().job.unwrap();

        let all = async {
            tokio::join!(
                market.broadcaster.elect(job),
                market.broadcaster.elect(job),
                transcoder.elect(job),
                watcher.elect(job),
            )
        };
        // A transaction waits for its block, as on a real chain.
        market.anvil.rpc("evm_setAutomine", json!([false])).await;
        let (first, again, holder, stranger) = market.mining(Box::pin(all)).await;
        market.anvil.rpc("evm_setAutomine", json!([true])).await;

        for elected in [first, again, holder, stranger] {
            elected.unwrap();
        }
        transcoder.acknowledge(job, terms.address).await.unwrap();
    }
}

#[tokio::test]
async fn two_programs_with_one_key_make_each_transaction_once() {
    let market = Market::open().await;
    let key = Key::from_hex(&"01".repeat(32)).unwrap();
    let programs = [(); 2].map(|()| account(&market.anvil, market.contract, &key, memory()));
    let programs = futures::future::join_all(programs).await;
    // A transaction waits for its block, as on a real chain.
    market.anvil.rpc("evm_setAutomine", json!([false])).await;
    let deposits = programs
        .iter()
        .zip([100, 1])
        .map(|(program, amount)| async move {
            let mut made = 0;
            for round in 0..4 {
                let deposit = Action::Deposit(Wei(amount));
                match program.make(&format!("deposit {round}"), &deposit).await {
                    Ok(_) => made += amount,
                    Err(TransactionError::Replaced) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            made
        });
    let made = Box::pin(futures::future::join_all(deposits));
    let made: u128 = market.mining(made).await.into_iter().sum();
    market.anvil.rpc("evm_setAutomine", json!([true])).await;

    let standing = programs[0].standing().await.unwrap();
    assert_eq!(
        standing.balance,
        Wei(made),
        "what was said and what is there"
    );
    assert!(made > 0);
}

/// One run of a transcoder: takes receipts, claims, answers, settles. Ends early with its
/// disk.
async fn run(market: &Market, job: JobId, disk: Arc<dyn Journal>) {
    let own = market.transcoder(disk).await;
    let claims = claims(&own);
    let receipts = market.receipts(&own, job, 3);
    for round in 0..3 {
        if claims.receipts().add(job, &receipts).is_err() {
            return;
        }
        if claims.attend_job(job, true).await.is_err() {
            return;
        }
        if round == 0 {
            let challenge = Action::Challenge {
                claim: 1,
                index: 1,
                bond: RULES.challenge_bond,
            };
            // A second run finds it there already, or the claim not there yet.
            let key = Key::from_hex(&"03".repeat(32)).unwrap();
            let watcher = account(&market.anvil, market.contract, &key, memory()).await;
            drop(watcher.make("challenge", &challenge).await);
        } else {
            market.anvil.mine(12).await;
        }
        if own.attend().await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_transcoder_that_dies_anywhere_is_paid_the_same() {
    let market = Market::open().await;
    let job = market.job().await;
    let start = market.disk.clone();
    let mut snapshot = market.anvil.rpc("evm_snapshot", json!([])).await;
    let mut died = 0;
    for dies_at in 0.. {
        for written in [false, true] {
            let disk = Arc::new(MemoryJournal::default());
            let all = start.scan("", "", usize::MAX).unwrap().into_iter();
            let put = |(key, value)| Change::Put { key, value };
            disk.apply(all.map(put).collect()).unwrap();
            let death = Death {
                at: dies_at,
                written,
            };
            let dying = Arc::new(Watched::dying(disk.clone(), death));
            run(&market, job, dying.clone()).await;
            if dying.writes() <= dies_at {
                assert!(died > 10, "a run has {died} writes to die at");
                return;
            }
            died += 1;
            run(&market, job, disk.clone()).await;

            let account = market.transcoder(disk).await;
            let standing = account.standing().await.unwrap();
            let what = format!("died at write {dies_at}, written {written}");
            assert_eq!(standing.balance, Wei(3 * PRICE + 7), "{what}");
            assert_eq!(standing.bonded, RULES.min_stake, "{what}");
            let made = claims(&account).list(job).unwrap();
            assert_eq!(made.len(), 1, "{what}");
            assert_eq!(made[0].state, ClaimState::Settled, "{what}");
            market.anvil.rpc("evm_revert", json!([snapshot])).await;
            snapshot = market.anvil.rpc("evm_snapshot", json!([])).await;
        }
    }
}
