//! A contract on a chain, the broadcaster that uses it, and what it owes.

use std::{sync::Arc, time::Duration};

use headwater_anvil::{Anvil, rpc};
use headwater_chain::{
    Address, JobId, Journal, MemoryJournal, NewJob, NodeKey, Transcoder, Wei,
    ethereum::{
        Account, Action, Domain, Endpoints, Key, Rules, Segment, SenderConfig, Spending, Writer,
    },
};
use headwater_proto::SegmentReceipt;
use serde_json::json;

/// Of which job the work is paid; the other one ends before anybody works on it.
pub(crate) const PAID: &str = "paid";
const ENDED: &str = "ended";
pub(crate) const PRICE: u128 = 3;
pub(crate) const BOND: u128 = 7;
pub(crate) const SEGMENTS: u64 = 3;
const CHAIN_ID: u64 = 31337;
/// The transcoder's node.
pub(crate) const NODE: NodeKey = NodeKey([7; 32]);
const RULES: Rules = Rules {
    min_stake: Wei(1000),
    challenge_bond: Wei(BOND),
    reserve_segments: 60,
    ack_blocks: 5,
    job_blocks: 4000,
    claim_blocks: 30,
    challenge_blocks: 15,
    answer_blocks: 10,
    unbond_blocks: 300,
};

/// Where all of it is.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    url: String,
    contract: Address,
    endpoints: Endpoints,
}

/// Keys of those who take part.
pub(crate) fn key(of: Who) -> Key {
    Key::from_hex(&format!("{:02x}", of as u8).repeat(32)).unwrap()
}

/// Those who take part.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Broadcaster = 1,
    Transcoder = 2,
    Watcher = 3,
}

impl Scene {
    pub(crate) fn at(url: &str, contract: Address) -> Self {
        Self {
            url: url.to_owned(),
            contract,
            endpoints: endpoints(url),
        }
    }

    /// Deploys the contract; the transcoder registers and is given two jobs, one of which
    /// ends.
    pub(crate) async fn open(anvil: &Anvil) -> Self {
        for who in [Who::Broadcaster, Who::Transcoder, Who::Watcher] {
            let params = json!([key(who).address().to_string(), "0xde0b6b3a7640000"]);
            anvil.rpc("anvil_setBalance", params).await;
        }
        let nowhere = Self::at(&anvil.http_url(), Address([0; 20]));
        let deployer = nowhere.account(Who::Broadcaster).await;
        let deployed = deployer.make("deploy", &Action::Deploy(RULES)).await;
        let contract = deployed.unwrap().contract.unwrap();
        let scene = Self {
            contract,
            ..nowhere
        };
        let terms = Transcoder {
            address: key(Who::Transcoder).address(),
            node: NODE,
            price_per_segment: Wei(PRICE),
            stake: RULES.min_stake,
        };
        let transcoder = scene.account(Who::Transcoder).await;
        let transcoder = Writer::new(transcoder, Spending::default());
        transcoder.register(&terms).await.unwrap();
        let broadcaster = scene.account(Who::Broadcaster).await;
        let deposit = Action::Deposit(Wei(1000));
        broadcaster.make("deposit", &deposit).await.unwrap();
        let broadcaster = Writer::new(broadcaster, Spending::default());
        let mut jobs = Vec::new();
        for stream in [ENDED, PAID] {
            let job = NewJob {
                stream: stream.into(),
                broadcaster: NodeKey([1; 32]),
                profiles: vec!["720p".into()],
                max_price_per_segment: Wei(5),
            };
            let created = broadcaster.create_job(&job);
            jobs.push(scene.mining(created).await.unwrap().0);
        }
        broadcaster.end_job(jobs[0]).await.unwrap();
        scene
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) const fn contract(&self) -> Address {
        self.contract
    }

    pub(crate) const fn domain(&self) -> Domain {
        Domain {
            chain_id: CHAIN_ID,
            contract: self.contract,
        }
    }

    /// An account whose disk is of no interest.
    pub(crate) async fn account(&self, who: Who) -> Account {
        let journal = Arc::new(MemoryJournal::default());
        self.account_on(&self.endpoints, who, journal).await
    }

    pub(crate) async fn account_on(
        &self,
        endpoints: &Endpoints,
        who: Who,
        journal: Arc<dyn Journal>,
    ) -> Account {
        let config = SenderConfig {
            confirmations: 2,
            poll: Duration::from_millis(5),
            ..SenderConfig::default()
        };
        let opened = Account::open(endpoints, self.contract, key(who), journal, config);
        opened.await.unwrap()
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        rpc(&self.url, "anvil_mine", &json!([blocks])).await;
    }

    /// Something that waits for blocks, while blocks are made.
    async fn mining<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let a_while = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                done = &mut work => return done,
                () = a_while => self.mine(1).await,
            }
        }
    }

    /// The newest block.
    pub(crate) async fn head(&self) -> u64 {
        number(&rpc(&self.url, "eth_blockNumber", &json!([])).await)
    }

    /// How many transactions somebody has made.
    pub(crate) async fn transactions(&self, who: Who) -> u64 {
        let params = json!([key(who).address().to_string(), "latest"]);
        number(&rpc(&self.url, "eth_getTransactionCount", &params).await)
    }

    /// What the broadcaster signs for a segment that it fed.
    pub(crate) fn receipt(&self, job: JobId, number: u64) -> SegmentReceipt {
        let segment = Segment {
            job,
            transcoder: key(Who::Transcoder).address(),
            stream: PAID.into(),
            number,
            source: source(number),
        };
        SegmentReceipt {
            segment: number,
            source_hash: segment.source,
            signature: key(Who::Broadcaster).sign_segment(&self.domain(), &segment),
        }
    }
}

/// The hash of a segment that was fed.
pub(crate) fn source(number: u64) -> [u8; 32] {
    [u8::try_from(number).unwrap(); 32]
}

fn number(text: &serde_json::Value) -> u64 {
    let digits = text.as_str().unwrap().trim_start_matches("0x");
    u64::from_str_radix(digits, 16).unwrap()
}

pub(crate) fn endpoints(url: &str) -> Endpoints {
    let urls = [url.parse().unwrap()];
    Endpoints::new(&urls, Some(CHAIN_ID), Duration::from_secs(10)).unwrap()
}
