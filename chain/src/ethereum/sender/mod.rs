//! The transactions of one account: each in the journal before it is sent, sent again until
//! it is settled, and never a second one for the same intent.
//!
//! A transaction that does not get into a block is offered for more under the same nonce, so
//! that at most one of its forms ever counts. A crash leaves it in the journal, and the next
//! run sends what is there. Nothing is forgotten before its block is buried.

mod error;
mod fees;
mod record;
mod wire;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use ethers_core::types::{Eip1559TransactionRequest, H256, transaction::eip2718::TypedTransaction};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::{info, warn};

pub use self::error::TransactionError;
use self::{fees::Fees, record::Record};
pub(super) use self::{
    record::Call,
    wire::{Failure, Wire, ask, bytes, quantity},
};
use super::{key::Key, refusal::Refusal};
use crate::{
    journal::Journal,
    types::{Address, Wei},
};

/// How transactions are made.
#[derive(Debug, Clone, Copy)]
pub struct SenderConfig {
    /// Wei paid for a unit of gas at most.
    pub max_fee: Wei,
    /// After so many blocks a transaction that is in none is offered for more.
    pub stuck_blocks: u64,
    /// So many blocks on top of its own settle a transaction.
    pub confirmations: u64,
    /// How often the chain is asked what has become of a transaction.
    pub poll: Duration,
}

impl Default for SenderConfig {
    /// 200 gwei, 6 blocks, 12 confirmations, half a second.
    fn default() -> Self {
        Self {
            max_fee: Wei(200_000_000_000),
            stuck_blocks: 6,
            confirmations: 12,
            poll: Duration::from_millis(500),
        }
    }
}

/// Gas of one call at most; an election with all seats taken needs below a million.
const MAX_GAS: u64 = 3_000_000;
/// Gas of a deployment at most.
const MAX_DEPLOY_GAS: u64 = 15_000_000;
/// Offered to who makes the block, when the chain's nodes do not say what is usual.
const USUAL_PRIORITY: u128 = 1_000_000_000;
/// Places that are tried, when other programs use the account at the same time.
const ATTEMPTS: usize = 5;

/// What a transaction will need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Units of gas at most, with a margin.
    pub gas: u64,
    /// Wei for a unit at most.
    pub max_fee: Wei,
}

impl Estimate {
    /// What its gas costs at most.
    #[must_use]
    pub const fn cost(&self) -> Wei {
        Wei(self.max_fee.0.saturating_mul(self.gas as u128))
    }
}

/// Intent of those that were refused in their block.
const REFUSED: &str = "refused";

/// A transaction that is in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mined {
    pub(super) block: u64,
    pub(super) hash: [u8; 32],
    /// The contract that it deployed.
    pub(super) contract: Option<Address>,
    pub(super) logs: Vec<ethers_core::types::Log>,
}

/// Makes the transactions of one account on one chain.
#[derive(Debug)]
pub(super) struct Sender {
    wire: Arc<dyn Wire>,
    key: Key,
    chain_id: u64,
    journal: Arc<dyn Journal>,
    config: SenderConfig,
    /// Held while the journal's transactions are looked at or changed.
    turn: Mutex<()>,
}

/// What has become of a transaction.
enum Look {
    Waiting,
    Mined(Mined),
    /// It is in this block, and the contract refused it there.
    Refused(u64, Refusal),
    /// It never will be in a block.
    Replaced,
}

impl Sender {
    pub(super) fn new(
        wire: Arc<dyn Wire>,
        key: Key,
        chain_id: u64,
        journal: Arc<dyn Journal>,
        config: SenderConfig,
    ) -> Self {
        Self {
            wire,
            key,
            chain_id,
            journal,
            config,
            turn: Mutex::default(),
        }
    }

    pub(super) fn account(&self) -> Address {
        self.key.address()
    }

    pub(super) fn wire(&self) -> &dyn Wire {
        &*self.wire
    }

    /// Waits until it makes sense to look at the chain again.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(self.config.poll).await;
    }

    /// What a call will need; refused when it would be refused now.
    pub(super) async fn estimate(&self, call: &Call) -> Result<Estimate, TransactionError> {
        let gas = self.gas(call).await?;
        let fees = self.fees().await?;
        let max_fee = Wei(fees.max);
        Ok(Estimate { gas, max_fee })
    }

    /// Makes a transaction and waits until it is in a block; one with the same intent that
    /// is under way is waited for instead. Dropping the future changes nothing about the
    /// transaction once it has begun: [`Self::attend`] or the next call goes on with it.
    pub(super) async fn submit(
        &self,
        intent: &str,
        call: &Call,
    ) -> Result<Mined, TransactionError> {
        for _ in 0..ATTEMPTS {
            let mut record = match self.begin(intent, call).await {
                Err(TransactionError::Replaced) => continue,
                begun => begun?,
            };
            loop {
                match self.look(&mut record).await? {
                    Look::Waiting => self.pause().await,
                    Look::Mined(mined) => return Ok(mined),
                    Look::Replaced => break,
                    Look::Refused(_, refusal) => {
                        self.give_up(record).await?;
                        return Err(refusal.into());
                    }
                }
            }
        }
        Err(TransactionError::Replaced)
    }

    /// Looks once at everything that is under way, and forgets what is settled.
    pub(super) async fn attend(&self) -> Result<(), TransactionError> {
        for mut record in Record::all(&*self.journal)? {
            let block = match self.look(&mut record).await? {
                Look::Waiting | Look::Replaced => continue,
                Look::Refused(block, _) => block,
                Look::Mined(mined) => mined.block,
            };
            if self.head().await? >= block.saturating_add(self.config.confirmations) {
                let _turn = self.turn.lock().await;
                self.journal.apply(vec![record.remove()])?;
            }
        }
        Ok(())
    }

    /// A refused transaction holds its place, in case its block goes, but not its intent.
    async fn give_up(&self, mut record: Record) -> Result<(), TransactionError> {
        let _turn = self.turn.lock().await;
        record.intent = REFUSED.to_owned();
        Ok(self.journal.apply(vec![record.put()?])?)
    }

    /// How many transactions are under way.
    pub(super) fn pending(&self) -> Result<usize, TransactionError> {
        Ok(Record::all(&*self.journal)?.len())
    }

    /// Puts a transaction into the journal and sends it; or finds that of the same intent.
    async fn begin(&self, intent: &str, call: &Call) -> Result<Record, TransactionError> {
        let _turn = self.turn.lock().await;
        let under_way = Record::all(&*self.journal)?;
        if let Some(known) = under_way.iter().find(|record| record.intent == intent) {
            return Ok(known.clone());
        }
        let gas = self.gas(call).await?;
        let fees = self.fees().await?;
        let free = under_way.last().map_or(0, |last| last.nonce + 1);
        let mut record = Record {
            nonce: free.max(self.count("pending").await?),
            intent: intent.to_owned(),
            call: call.clone(),
            gas,
            fees,
            hashes: Vec::new(),
            sent_at: self.head().await?,
        };
        let raw = self.sign(&mut record);
        self.journal.apply(vec![record.put()?])?;
        info!(intent, nonce = record.nonce, gas, "transaction begins");
        let Err(failure) = self.send(&raw).await else {
            return Ok(record);
        };
        match failure {
            // It may have arrived; looking at it will tell.
            Failure::Lost(_) => Ok(record),
            refused @ Failure::Refused { .. } => {
                self.journal.apply(vec![record.remove()])?;
                if refused.says(&["nonce too low", "underpriced", "nonce is too low"]) {
                    return Err(TransactionError::Replaced);
                }
                Err(self.unsent(refused))
            }
        }
    }

    fn unsent(&self, failure: Failure) -> TransactionError {
        match failure {
            poor if poor.says(&["insufficient funds"]) => TransactionError::Funds(self.account()),
            other => other.into(),
        }
    }

    /// Looks at a transaction; sends it again where it got lost, offers more where it waits.
    async fn look(&self, record: &mut Record) -> Result<Look, TransactionError> {
        let _turn = self.turn.lock().await;
        for hash in record.hashes.iter().rev() {
            let found: Option<Receipt> = self
                .ask("eth_getTransactionReceipt", json!([bytes(hash)]))
                .await?;
            if let Some(receipt) = found {
                return Ok(self.included(record, *hash, receipt).await);
            }
        }
        let head = self.head().await?;
        let buried = head.saturating_sub(self.config.confirmations);
        if self.count(&quantity(buried)).await? > record.nonce {
            warn!(intent = record.intent, nonce = record.nonce, "replaced");
            self.journal.apply(vec![record.remove()])?;
            return Ok(Look::Replaced);
        }
        if self.count("latest").await? > record.nonce {
            // Another took its place, but its block may still go.
            return Ok(Look::Waiting);
        }
        if head >= record.sent_at.saturating_add(self.config.stuck_blocks) {
            self.raise(record, head).await?;
        } else if !self.is_known(record).await? {
            let raw = self.sign(record);
            self.resend(record, &raw).await;
        }
        Ok(Look::Waiting)
    }

    async fn is_known(&self, record: &Record) -> Result<bool, TransactionError> {
        let Some(hash) = record.hashes.last() else {
            return Ok(false);
        };
        let known: Option<Value> = self
            .ask("eth_getTransactionByHash", json!([bytes(hash)]))
            .await?;
        Ok(known.is_some())
    }

    /// Offers more for a transaction that waits, unless that is more than may be paid.
    async fn raise(&self, record: &mut Record, head: u64) -> Result<(), TransactionError> {
        let now = match self.fees().await {
            Ok(fees) => Some(fees),
            Err(TransactionError::TooDear { .. }) => None,
            Err(error) => return Err(error),
        };
        let mut raised = record.clone();
        raised.sent_at = head;
        match record.fees.raised(now, self.config.max_fee.0) {
            Some(fees) => {
                raised.fees = fees;
                info!(
                    intent = record.intent,
                    nonce = record.nonce,
                    max_fee = fees.max,
                    "transaction waits; offering more"
                );
            }
            None => warn!(
                intent = record.intent,
                nonce = record.nonce,
                "transaction waits and may not cost more"
            ),
        }
        let raw = self.sign(&mut raised);
        self.journal.apply(vec![raised.put()?])?;
        *record = raised;
        self.resend(record, &raw).await;
        Ok(())
    }

    /// What comes of it is seen by looking.
    async fn resend(&self, record: &Record, raw: &[u8]) {
        if let Err(failure) = self.send(raw).await {
            let (intent, nonce) = (&record.intent, record.nonce);
            warn!(
                intent,
                nonce,
                ?failure,
                "transaction not taken; trying again"
            );
        }
    }

    async fn included(&self, record: &Record, hash: [u8; 32], receipt: Receipt) -> Look {
        if receipt.status != Some(1_u64.into()) {
            let refusal = self.why(record, &receipt).await;
            return Look::Refused(receipt.block_number.as_u64(), refusal);
        }
        Look::Mined(Mined {
            block: receipt.block_number.as_u64(),
            hash,
            contract: receipt.contract_address.map(|address| Address(address.0)),
            logs: receipt.logs,
        })
    }

    /// Why a transaction failed in its block: as it would have at the end of the block
    /// before, which is all that nodes without an archive of traces can say.
    async fn why(&self, record: &Record, receipt: &Receipt) -> Refusal {
        let before = receipt.block_number.as_u64().saturating_sub(1);
        let request = json!([self.request(&record.call), quantity(before)]);
        let again = self.wire.ask("eth_call", request).await;
        let known = again.err().and_then(|failure| failure.refusal());
        known.unwrap_or_else(|| {
            Refusal::Other("it was in order when sent, and not any more in its block".to_owned())
        })
    }

    /// Gas with a margin, by doing it on top of what is pending.
    async fn gas(&self, call: &Call) -> Result<u64, TransactionError> {
        let request = self.request(call);
        let pending = json!([request, "pending"]);
        let mut answer = ask(&*self.wire, "eth_estimateGas", pending).await;
        // Some nodes know no pending block.
        if let Err(Failure::Refused { code: -32602, .. }) = answer {
            answer = ask(&*self.wire, "eth_estimateGas", json!([request])).await;
        }
        let needed: ethers_core::types::U256 = answer.map_err(|failure| self.unsent(failure))?;
        let needed = u64::try_from(needed).unwrap_or(u64::MAX);
        let limit = match call.to {
            Some(_) => MAX_GAS,
            None => MAX_DEPLOY_GAS,
        };
        let gas = needed.saturating_add(needed / 4);
        if gas > limit {
            return Err(TransactionError::TooMuchGas { needed, limit });
        }
        Ok(gas)
    }

    async fn fees(&self) -> Result<Fees, TransactionError> {
        let block: Option<Header> = self
            .ask("eth_getBlockByNumber", json!(["latest", false]))
            .await?;
        let base = block.and_then(|block| block.base_fee_per_gas);
        let base = base.unwrap_or_default();
        let usual: Result<ethers_core::types::U256, _> =
            ask(&*self.wire, "eth_maxPriorityFeePerGas", json!([])).await;
        let priority = match usual {
            Ok(usual) => u128::try_from(usual).unwrap_or(u128::MAX),
            Err(_) => USUAL_PRIORITY,
        };
        let needed = u128::try_from(base).unwrap_or(u128::MAX);
        let limit = self.config.max_fee.0;
        Fees::new(needed, priority, limit).ok_or(TransactionError::TooDear { needed, limit })
    }

    pub(super) async fn head(&self) -> Result<u64, TransactionError> {
        let head: ethers_core::types::U64 = self.ask("eth_blockNumber", json!([])).await?;
        Ok(head.as_u64())
    }

    /// How many transactions the account has made, as of a block.
    async fn count(&self, block: &str) -> Result<u64, TransactionError> {
        let params = json!([self.account().to_string(), block]);
        let count: ethers_core::types::U64 = self.ask("eth_getTransactionCount", params).await?;
        Ok(count.as_u64())
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, TransactionError> {
        Ok(ask(&*self.wire, method, params).await?)
    }

    /// A call as JSON-RPC has it.
    fn request(&self, call: &Call) -> Value {
        let mut request = json!({
            "from": self.account().to_string(),
            "value": quantity(call.value),
            "data": bytes(&call.data),
        });
        if let Some(to) = call.to {
            request["to"] = json!(to.to_string());
        }
        request
    }

    /// What a call returns now, on top of what is pending.
    pub(super) async fn call(&self, call: &Call) -> Result<Vec<u8>, TransactionError> {
        let params = json!([self.request(call), "pending"]);
        let returned: ethers_core::types::Bytes = self.ask("eth_call", params).await?;
        Ok(returned.to_vec())
    }

    /// The signed transaction; its hash is added to the record's. Signing the same gives
    /// the same.
    fn sign(&self, record: &mut Record) -> Vec<u8> {
        let mut request = Eip1559TransactionRequest::new()
            .chain_id(self.chain_id)
            .nonce(record.nonce)
            .gas(record.gas)
            .max_fee_per_gas(record.fees.max)
            .max_priority_fee_per_gas(record.fees.priority)
            .value(record.call.value)
            .data(record.call.data.clone());
        if let Some(to) = record.call.to {
            request = request.to(ethers_core::types::Address::from(to.0));
        }
        let request = TypedTransaction::Eip1559(request);
        let signature = self.key.sign_transaction(&request);
        let H256(hash) = request.hash(&signature);
        if !record.hashes.contains(&hash) {
            record.hashes.push(hash);
        }
        request.rlp_signed(&signature).to_vec()
    }

    async fn send(&self, raw: &[u8]) -> Result<(), Failure> {
        let sent = self
            .wire
            .ask("eth_sendRawTransaction", json!([bytes(raw)]))
            .await;
        match sent {
            // Sent before, and there.
            Err(known)
                if known.says(&["already known", "already imported", "known transaction"]) =>
            {
                Ok(())
            }
            sent => sent.map(drop),
        }
    }
}

/// What a block's header says that matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    base_fee_per_gas: Option<ethers_core::types::U256>,
}

/// What has come of a transaction, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    status: Option<ethers_core::types::U64>,
    block_number: ethers_core::types::U64,
    contract_address: Option<ethers_core::types::Address>,
    logs: Vec<ethers_core::types::Log>,
}
