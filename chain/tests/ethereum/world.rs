//! The contract on a chain, and people who use it.

use std::time::Duration;

use ethers_contract::{EthEvent as _, abigen};
use ethers_core::{
    abi::{AbiDecode as _, AbiEncode, Tokenizable as _},
    types::{H160, H256, U256},
};
use headwater_anvil::{Anvil, rpc};
use headwater_chain::{
    Address,
    ethereum::{ChainSettings, EndpointUrl, Endpoints, EthereumLedger},
};
use serde_json::{Value, json};

abigen!(Contract, "contracts/artifacts/Headwater.json");

pub(crate) const BROADCASTER: Address = Address([0xb0; 20]);
/// Everyone who sends transactions.
pub(crate) const PEOPLE: [Address; 3] = [BROADCASTER, transcoder(1), transcoder(2)];

/// Where the contract is, and how to reach its chain as its users do.
pub(crate) struct World {
    url: String,
    pub(crate) contract: Address,
}

/// Where a chain answers over HTTP.
pub(crate) fn http(anvil: &Anvil) -> EndpointUrl {
    anvil.http_url().parse().unwrap()
}

/// Where a chain answers over WebSockets.
pub(crate) fn ws(anvil: &Anvil) -> EndpointUrl {
    anvil.ws_url().parse().unwrap()
}

/// What one transcoder is called.
pub(crate) const fn transcoder(n: u8) -> Address {
    Address([n; 20])
}

impl World {
    /// Deploys the contract on anvil, with money for the broadcaster and two transcoders
    /// registered.
    pub(crate) async fn on(anvil: &Anvil) -> Self {
        Self::with(&anvil.http_url(), "anvil_setBalance").await
    }

    /// The same on a node where another method gives money.
    pub(crate) async fn with(url: &str, gives_money: &str) -> Self {
        let mut world = Self::at(url);
        for account in PEOPLE {
            let params = json!([H160(account.0), "0xde0b6b3a7640000"]);
            world.rpc(gives_money, params).await;
        }
        world.deploy(BROADCASTER).await;
        world.deposit(BROADCASTER).await;
        world.register(transcoder(1), 5).await;
        world.register(transcoder(2), 5).await;
        world
    }

    pub(crate) fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            contract: Address([0; 20]),
        }
    }

    pub(crate) async fn deploy(&mut self, by: Address) {
        let settings = Settings {
            min_stake: 100,
            challenge_bond: 7,
            reserve_segments: 20,
            ack_blocks: 5,
            job_blocks: 4000,
            claim_blocks: 30,
            challenge_blocks: 15,
            answer_blocks: 10,
            unbond_blocks: 300,
        };
        let mut data = CONTRACT_BYTECODE.to_vec();
        data.extend(ethers_core::abi::encode(&[settings.into_token()]));
        let receipt = self.send(by, None, &data, 0).await;
        let address: H160 = serde_json::from_value(receipt["contractAddress"].clone()).unwrap();
        self.contract = Address(address.0);
    }

    pub(crate) async fn deposit(&self, by: Address) {
        self.call(by, DepositCall {}, 1_000_000).await;
    }

    pub(crate) async fn register(&self, who: Address, price: u128) {
        let call = RegisterCall {
            node: [who.0[0]; 32],
            price,
            profiles: vec!["360p".into()],
        };
        self.call(who, call, 1000).await;
    }

    /// Creates a job; gives its number.
    pub(crate) async fn create(&self, stream: &str) -> u64 {
        let call = CreateJobCall {
            stream_id: stream.into(),
            profiles: vec!["360p".into(), "240p".into()],
            max_price_per_segment: 5,
        };
        let receipt = self.call(BROADCASTER, call, 0).await;
        let created: H256 = JobCreatedFilter::signature();
        let logs = receipt["logs"].as_array().unwrap();
        let of_job = |log: &&Value| log["topics"][0] == json!(created);
        let id = logs.iter().find(of_job).unwrap()["topics"][1]
            .as_str()
            .unwrap();
        U256::decode_hex(id).unwrap().as_u64()
    }

    /// Elects the job's transcoder, after the block that makes it possible.
    pub(crate) async fn assign(&self, job: u64) {
        let call = AssignCall { job_id: job.into() };
        self.call(BROADCASTER, call, 0).await;
    }

    /// Creates a job and has it assigned, in three blocks.
    pub(crate) async fn job(&self, anvil: &Anvil, stream: &str) -> u64 {
        let job = self.create(stream).await;
        anvil.mine(1).await;
        self.assign(job).await;
        job
    }

    pub(crate) async fn acknowledge(&self, job: u64, by: Address) {
        let call = AcknowledgeCall { job_id: job.into() };
        self.call(by, call, 0).await;
    }

    pub(crate) async fn reassign(&self, job: u64) {
        let call = ReassignCall { job_id: job.into() };
        self.call(BROADCASTER, call, 0).await;
    }

    pub(crate) async fn unregister(&self, who: Address) {
        self.call(who, UnregisterCall {}, 0).await;
    }

    pub(crate) async fn end(&self, job: u64) {
        let call = EndJobCall { job_id: job.into() };
        self.call(BROADCASTER, call, 0).await;
    }

    async fn call(&self, by: Address, call: impl AbiEncode, value: u64) -> Value {
        self.send(by, Some(self.contract), &call.encode(), value)
            .await
    }

    /// Sends a transaction and waits for its receipt.
    async fn send(&self, by: Address, to: Option<Address>, data: &[u8], value: u64) -> Value {
        let mut transaction = json!({
            "from": H160(by.0),
            "data": format!("0x{}", data_encoding::HEXLOWER.encode(data)),
            "value": format!("{value:#x}"),
            "gas": "0x989680",
        });
        if let Some(to) = to {
            transaction["to"] = json!(H160(to.0));
        }
        let hash = self.rpc("eth_sendTransaction", json!([transaction])).await;
        let receipt = crate::until("the transaction is mined", async || {
            let receipt = self.rpc("eth_getTransactionReceipt", json!([hash])).await;
            (!receipt.is_null()).then_some(receipt)
        });
        let receipt = receipt.await;
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        receipt
    }

    pub(crate) async fn rpc(&self, method: &str, params: Value) -> Value {
        rpc(&self.url, method, &params).await
    }

    /// The number of the newest block.
    pub(crate) async fn head(&self) -> u64 {
        let number = self.rpc("eth_blockNumber", json!([])).await;
        U256::from_str_radix(number.as_str().unwrap(), 16)
            .unwrap()
            .as_u64()
    }

    pub(crate) fn settings(&self, urls: &[EndpointUrl]) -> ChainSettings {
        let endpoints = Endpoints::new(urls, None, Duration::from_secs(2)).unwrap();
        ChainSettings {
            poll: Duration::from_millis(100),
            silence: Duration::from_millis(700),
            ..ChainSettings::new(endpoints, self.contract)
        }
    }

    pub(crate) async fn ledger(&self, urls: &[EndpointUrl]) -> EthereumLedger {
        EthereumLedger::open(self.settings(urls)).await.unwrap()
    }
}
