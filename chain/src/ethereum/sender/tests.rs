//! A sender on a chain that forgets, is cut off, takes blocks back, and crashes anywhere.

use std::{
    collections::BTreeMap,
    sync::{Mutex as StdMutex, MutexGuard},
};

use ethers_core::{types::U256, utils::rlp::Rlp};

use super::{wire::Answer, *};
use crate::{
    journal::MemoryJournal,
    testing::{Death, Watched},
};

/// One form of a transaction, as the chain sees it.
#[derive(Debug, Clone)]
struct Sent {
    hash: String,
    nonce: u64,
    max_fee: u128,
    data: Vec<u8>,
}

#[derive(Debug, Default)]
struct Chain {
    pool: Vec<Sent>,
    /// By block, of which there is one more with each question for the newest.
    mined: BTreeMap<u64, Sent>,
    head: u64,
    base: u128,
    /// Methods that were asked for.
    asked: Vec<&'static str>,
    /// Loses the answer to this question; to the ones from there on it does not get.
    dies_at: Option<usize>,
    poor: bool,
    refuses: bool,
    reverts: bool,
}

/// One account's chain: takes the dearest form of the next transaction into each block.
#[derive(Debug, Default)]
struct World(StdMutex<Chain>);

impl World {
    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.0.lock().unwrap()
    }

    fn done(&self) -> Vec<Vec<u8>> {
        let chain = self.chain();
        chain.mined.values().map(|sent| sent.data.clone()).collect()
    }
}

impl Chain {
    fn count(&self) -> u64 {
        u64::try_from(self.mined.len()).unwrap()
    }

    fn mine(&mut self) {
        self.head += 1;
        let next = self.count();
        let ready = self
            .pool
            .iter()
            .filter(|sent| sent.nonce == next && sent.max_fee >= self.base);
        if let Some(sent) = ready.max_by_key(|sent| sent.max_fee).cloned() {
            self.pool.retain(|other| other.nonce != next);
            self.mined.insert(self.head, sent);
        }
    }

    fn take(&mut self, raw: &[u8]) -> Result<Value, Failure> {
        let refused = |message: &str| {
            Err(Failure::Refused {
                code: -32000,
                message: message.to_owned(),
                data: None,
            })
        };
        let (tx, signature) = TypedTransaction::decode_signed(&Rlp::new(raw)).unwrap();
        let fee = |fee: Option<U256>| fee.unwrap().as_u128();
        let sent = Sent {
            hash: bytes(&tx.hash(&signature).0),
            nonce: tx.nonce().unwrap().as_u64(),
            max_fee: fee(tx.as_eip1559_ref().unwrap().max_fee_per_gas),
            data: tx.data().unwrap().to_vec(),
        };
        if self.poor {
            return refused("insufficient funds for gas * price + value");
        }
        if self.pool.iter().any(|known| known.hash == sent.hash) {
            return refused("already known");
        }
        if sent.nonce < self.count() {
            return refused("nonce too low");
        }
        let rival = self.pool.iter().find(|known| known.nonce == sent.nonce);
        if rival.is_some_and(|rival| sent.max_fee * 10 < rival.max_fee * 11) {
            return refused("replacement transaction underpriced");
        }
        let hash = json!(sent.hash);
        self.pool.retain(|known| known.nonce != sent.nonce);
        self.pool.push(sent);
        Ok(hash)
    }

    fn answer(&mut self, method: &str, params: &Value) -> Result<Value, Failure> {
        let text = |n: usize| params[n].as_str().unwrap_or_default().to_owned();
        Ok(match method {
            "eth_blockNumber" => {
                self.mine();
                json!(quantity(self.head))
            }
            "eth_getBlockByNumber" => json!({"baseFeePerGas": quantity(self.base)}),
            "eth_maxPriorityFeePerGas" => json!("0x2"),
            "eth_estimateGas" if self.refuses => {
                let data = json!(bytes(&ethers_core::utils::keccak256("NotHolder()")[..4]));
                return Err(Failure::Refused {
                    code: 3,
                    message: "execution reverted".to_owned(),
                    data: Some(data),
                });
            }
            "eth_estimateGas" => json!("0x186a0"),
            "eth_getTransactionCount" => match text(1).as_str() {
                "pending" => {
                    let waiting = self.pool.iter().map(|sent| sent.nonce + 1).max();
                    json!(quantity(waiting.unwrap_or(0).max(self.count())))
                }
                "latest" => json!(quantity(self.count())),
                block => {
                    let block = u64::from_str_radix(&block[2..], 16).unwrap();
                    let until = self.mined.range(..=block).count();
                    json!(quantity(u64::try_from(until).unwrap()))
                }
            },
            "eth_getTransactionReceipt" => {
                let mut mined = self.mined.iter();
                let found = mined.find(|(_, sent)| sent.hash == text(0));
                match found {
                    Some((block, _)) => json!({
                        "status": if self.reverts { "0x0" } else { "0x1" },
                        "blockNumber": quantity(*block),
                        "contractAddress": null, "logs": [],
                    }),
                    None => Value::Null,
                }
            }
            "eth_getTransactionByHash" => {
                let known = self.pool.iter().any(|sent| sent.hash == text(0));
                if known { json!({}) } else { Value::Null }
            }
            "eth_call" => json!("0x"),
            "eth_sendRawTransaction" => {
                let raw = data_encoding::HEXLOWER
                    .decode(&text(0).as_bytes()[2..])
                    .unwrap();
                return self.take(&raw);
            }
            other => panic!("asked for {other}"),
        })
    }
}

impl Wire for World {
    fn ask(&self, method: &'static str, params: Value) -> Answer<'_> {
        let mut chain = self.chain();
        let number = chain.asked.len();
        chain.asked.push(method);
        let lost = Err(Failure::Lost("gone".to_owned()));
        let answer = match chain.dies_at {
            Some(end) if number > end => lost,
            Some(end) if number == end => {
                drop(chain.answer(method, &params));
                lost
            }
            Some(_) | None => chain.answer(method, &params),
        };
        Box::pin(std::future::ready(answer))
    }
}

fn sender(world: &Arc<World>, journal: Arc<dyn Journal>) -> Sender {
    let config = SenderConfig {
        max_fee: Wei(1000),
        stuck_blocks: 5,
        confirmations: 3,
        poll: Duration::ZERO,
    };
    let key = Key::from_hex(&"4f".repeat(32)).unwrap();
    Sender::new(world.clone(), key, 31337, journal, config)
}

fn call(data: u8) -> Call {
    Call {
        to: Some(Address([7; 20])),
        value: 0,
        data: vec![data],
    }
}

async fn settle(sender: &Sender) {
    while sender.pending().unwrap() > 0 {
        sender.attend().await.unwrap();
    }
}

/// The work of a run: two intents, the second after the first.
async fn work(sender: &Sender) -> Result<(), TransactionError> {
    sender.submit("first", &call(1)).await?;
    sender.submit("second", &call(2)).await?;
    Ok(())
}

/// What a program does that has kept what it wants done, and does it until it is.
async fn resume(world: &Arc<World>, journal: &Arc<MemoryJournal>) {
    let sender = sender(world, journal.clone());
    for (intent, data) in [("first", 1), ("second", 2)] {
        // It learns from the chain whether it was done, as from a claim's state.
        if !world.done().contains(&vec![data]) {
            sender.submit(intent, &call(data)).await.unwrap();
        }
    }
    settle(&sender).await;
    assert_eq!(world.done(), [[1], [2]], "each once, in order");
}

#[tokio::test]
async fn a_crash_at_any_question_leads_to_the_same_end() {
    let world = Arc::new(World::default());
    let disk = Arc::new(MemoryJournal::default());
    work(&sender(&world, disk.clone())).await.unwrap();
    let questions = world.chain().asked.len();
    assert!(questions > 10);

    for end in 0..questions {
        let world = Arc::new(World::default());
        let disk = Arc::new(MemoryJournal::default());
        world.chain().dies_at = Some(end);
        work(&sender(&world, disk.clone())).await.unwrap_err();
        world.chain().dies_at = None;
        resume(&world, &disk).await;
    }
}

#[tokio::test]
async fn a_crash_at_any_write_leads_to_the_same_end() {
    for dies_at in 0..2 {
        for written in [false, true] {
            let world = Arc::new(World::default());
            let disk = Arc::new(MemoryJournal::default());
            let death = Death {
                at: dies_at,
                written,
            };
            let dying = Watched::dying(disk.clone(), death);
            work(&sender(&world, Arc::new(dying))).await.unwrap_err();
            resume(&world, &disk).await;
        }
    }
}

#[tokio::test]
async fn a_transaction_that_waits_is_offered_for_more_in_its_place() {
    let world = Arc::new(World::default());
    world.chain().base = 100;
    let sender = sender(&world, Arc::new(MemoryJournal::default()));
    let mut record = sender.begin("it", &call(1)).await.unwrap();
    assert_eq!(record.fees.max, 202);
    world.chain().base = 300;

    while world.chain().mined.is_empty() {
        sender.look(&mut record).await.unwrap();
    }

    assert_eq!(record.nonce, 0);
    assert_eq!(record.fees.max, 602);
    assert_eq!(record.hashes.len(), 2);
    assert_eq!(world.done(), [[1]]);
}

#[tokio::test]
async fn no_more_is_offered_than_may_be_paid() {
    let world = Arc::new(World::default());
    world.chain().base = 600;
    let sender = sender(&world, Arc::new(MemoryJournal::default()));
    let mut record = sender.begin("it", &call(1)).await.unwrap();
    assert_eq!(record.fees.max, 1000);
    world.chain().base = 2000;

    for _ in 0..20 {
        sender.look(&mut record).await.unwrap();
    }
    assert_eq!(record.hashes.len(), 1);
    let error = sender.submit("other", &call(2)).await.unwrap_err();
    let (needed, limit) = (2000, 1000);
    assert_eq!(error, TransactionError::TooDear { needed, limit });

    world.chain().base = 600;
    sender.submit("it", &call(1)).await.unwrap();
    assert_eq!(world.done(), [[1]]);
}

#[tokio::test]
async fn a_block_that_is_taken_back_takes_nothing_away() {
    let world = Arc::new(World::default());
    let sender = sender(&world, Arc::new(MemoryJournal::default()));
    work(&sender).await.unwrap();
    assert_eq!(sender.pending(), Ok(2));

    // Another history, in which neither has happened and nobody has heard of them.
    world.chain().mined.clear();
    settle(&sender).await;

    assert_eq!(world.done(), [[1], [2]]);
}

#[tokio::test]
async fn a_place_that_another_program_took_is_given_up_for_the_next() {
    let world = Arc::new(World::default());
    let disk = Arc::new(MemoryJournal::default());
    let ours = sender(&world, disk.clone());
    // It was written down, and lost before it was sent.
    world.chain().dies_at = Some(usize::MAX);
    let record = ours.begin("it", &call(1)).await.unwrap();
    world.chain().pool.clear();
    sender(&world, Arc::new(MemoryJournal::default()))
        .submit("another's", &call(9))
        .await
        .unwrap();

    let mined = ours.submit("it", &call(1)).await.unwrap();

    assert!(!record.hashes.contains(&mined.hash));
    assert_eq!(world.done(), [[9], [1]]);
}

#[tokio::test]
async fn what_the_contract_refuses_is_not_sent() {
    let world = Arc::new(World::default());
    world.chain().refuses = true;
    let sender = sender(&world, Arc::new(MemoryJournal::default()));

    let error = sender.submit("it", &call(1)).await.unwrap_err();

    assert_eq!(error, TransactionError::Refused(Refusal::NotHolder));
    assert_eq!(sender.pending(), Ok(0));
    assert!(!world.chain().asked.contains(&"eth_sendRawTransaction"));
}

#[tokio::test]
async fn what_was_refused_in_its_block_can_be_tried_again() {
    let world = Arc::new(World::default());
    world.chain().reverts = true;
    let sender = sender(&world, Arc::new(MemoryJournal::default()));

    for _ in 0..2 {
        let error = sender.submit("it", &call(1)).await.unwrap_err();
        assert!(matches!(error, TransactionError::Refused(_)), "{error}");
    }
    settle(&sender).await;
    assert_eq!(world.done(), [[1], [1]]);
}

#[tokio::test]
async fn an_account_without_money_is_told_so_and_nothing_waits() {
    let world = Arc::new(World::default());
    world.chain().poor = true;
    let sender = sender(&world, Arc::new(MemoryJournal::default()));

    let error = sender.submit("it", &call(1)).await.unwrap_err();

    assert_eq!(error, TransactionError::Funds(sender.account()));
    assert_eq!(sender.pending(), Ok(0));
}
