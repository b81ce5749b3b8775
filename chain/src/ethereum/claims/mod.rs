//! How a transcoder is paid: its receipts go into claims, each made once, defended while it
//! can be challenged, and settled.
//!
//! Which receipts a claim has is in the journal before anything is sent, so a run that ends
//! anywhere is taken up by the next one. What the chain says counts: a claim that a
//! reorganised chain does not know is made again, with the same root.

mod record;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ethers_contract::EthEvent;
use ethers_core::abi::RawLog;
use serde_json::json;
use tracing::{error, info, warn};

pub use self::record::{ClaimRecord, ClaimState};
use super::{
    account::Account,
    action::{Action, Opening},
    contract,
    receipt::Receipt,
    receipts::Receipts,
    refusal::Refusal,
    sender::{TransactionError, ask, quantity},
    tree::ReceiptTree,
};
use crate::{
    ledger::LedgerError,
    types::{Address, JobId},
};

/// When receipts are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimConfig {
    /// As soon as there are so many; at most 4096.
    pub receipts: usize,
    /// As soon as one has waited for so many blocks.
    pub blocks: u64,
}

impl Default for ClaimConfig {
    /// 1800 receipts, which is an hour of segments of 2 s, or 1800 blocks.
    fn default() -> Self {
        Self {
            receipts: 1800,
            blocks: 1800,
        }
    }
}

/// The claims of an account.
#[derive(Debug)]
pub struct Claims {
    account: Account,
    receipts: Receipts,
    config: ClaimConfig,
    /// Since which block a job has receipts in no claim.
    waiting: Mutex<BTreeMap<JobId, u64>>,
}

/// States in the contract.
const JOB_ENDED: u8 = 4;
const PENDING: u8 = 1;
const SETTLED: u8 = 2;
const SLASHED: u8 = 3;
/// Blocks whose events are asked for at once.
const BLOCKS: u64 = 1000;

impl Claims {
    /// Claims by an account, from receipts in its journal.
    #[must_use]
    pub fn new(account: Account, receipts: Receipts, config: ClaimConfig) -> Self {
        Self {
            account,
            receipts,
            config,
            waiting: Mutex::default(),
        }
    }

    /// The receipts.
    #[must_use]
    pub const fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// All claims for a job.
    ///
    /// # Errors
    /// When the journal fails.
    pub fn list(&self, job: JobId) -> Result<Vec<ClaimRecord>, LedgerError> {
        Ok(ClaimRecord::of_job(&*self.account.journal(), job)?)
    }

    /// Does what is to be done for all jobs: makes claims that are due, answers
    /// challenges, settles. To be called now and then. A job that fails does not hold up
    /// the others; those that did, and why, are returned.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn attend(&self) -> Result<Vec<(JobId, LedgerError)>, LedgerError> {
        let mut failed = Vec::new();
        for job in self.receipts.jobs()? {
            if let Err(error) = self.attend_job(job, false).await {
                failed.push((job, error));
            }
        }
        Ok(failed)
    }

    /// Does what is to be done for one job; with `now` claims all of its receipts, however
    /// few.
    ///
    /// # Errors
    /// When the chain or the journal fails.
    pub async fn attend_job(&self, job: JobId, now: bool) -> Result<(), LedgerError> {
        let mut prepared = false;
        for mut record in self.list(job)? {
            if !record.is_over() {
                self.advance(&mut record).await?;
                prepared |= record.state == ClaimState::Prepared;
            }
        }
        if prepared {
            return Ok(());
        }
        if let Some(mut record) = self.prepare(job, now).await? {
            self.advance(&mut record).await?;
        }
        Ok(())
    }

    /// Chooses the receipts of a claim, when one is due. Only then are they read.
    async fn prepare(&self, id: JobId, now: bool) -> Result<Option<ClaimRecord>, LedgerError> {
        let waiting = self.receipts.waiting(id)?;
        let view = self.account.view();
        let job = view.job(id).await?;
        let head = self.account.sender().head().await?;
        let ended = job.state == JOB_ENDED;
        if ended {
            let rules = self.account.rules().await?;
            if head > job.ended_at + u64::from(rules.claim_blocks) {
                self.forget(id)?;
                return Ok(None);
            }
        }
        let over = ended || Address(job.transcoder.0) != self.account.address();
        let waits = head.saturating_sub(self.waits_since(id, head, waiting == 0));
        let due = now || over || waiting >= self.config.receipts || waits >= self.config.blocks;
        // What is not on the chain (any more) is of no account.
        if waiting == 0 || !due || job.state == 0 {
            return Ok(None);
        }
        let holding = view.holding(id, self.account.address()).await?;
        // Not acknowledged, or done for nothing.
        if holding.acknowledged_at == 0 || holding.price == 0 {
            return Ok(None);
        }
        let paid = usize::try_from(job.reserved / holding.price).unwrap_or(usize::MAX);
        if paid < waiting {
            warn!(job = %id, receipts = waiting, paid, "the job's reserve is not enough for all");
        }
        if paid == 0 {
            return Ok(None);
        }
        self.waits_since(id, head, true);
        let sequence = self.list(id)?.last().map_or(1, |last| last.sequence + 1);
        let record = |chosen: &[Receipt]| {
            let record = ClaimRecord::prepared(id, sequence, job.stream_hash, chosen)?;
            let put = record.put()?;
            Ok((record, vec![put]))
        };
        Ok(self.receipts.claim(id, sequence, paid, record)?)
    }

    /// Since which block a job has had receipts that are in no claim.
    fn waits_since(&self, job: JobId, head: u64, none: bool) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if none {
            waiting.remove(&job);
            return head;
        }
        *waiting.entry(job).or_insert(head)
    }

    /// Nothing can be claimed for a job any more. What was claimed is kept until it is
    /// settled.
    fn forget(&self, job: JobId) -> Result<(), LedgerError> {
        let records = self.list(job)?;
        if records.iter().any(|record| !record.is_over()) {
            return Ok(());
        }
        let records = records.iter().map(ClaimRecord::remove).collect();
        Ok(self.receipts.remove(job, records)?)
    }

    /// Takes a claim as far as it goes now.
    async fn advance(&self, record: &mut ClaimRecord) -> Result<(), LedgerError> {
        if record.state == ClaimState::Prepared {
            self.claim(record).await?;
        }
        if let ClaimState::Made { claim, block } = record.state {
            self.defend(record, claim, block).await?;
        }
        Ok(())
    }

    async fn claim(&self, record: &mut ClaimRecord) -> Result<(), LedgerError> {
        let action = Action::Claim {
            job: record.job,
            root: record.root,
            first: record.first,
            last: record.last,
            count: record.count,
        };
        let intent = format!("claim/{}/{}", record.job, record.sequence);
        let made = self.account.make(&intent, &action).await;
        let state = match made {
            Ok(made) => made.claim.map(|claim| ClaimState::Made {
                claim,
                block: made.block,
            }),
            // An earlier run did it, and did not live to note it.
            Err(TransactionError::Refused(Refusal::AlreadyClaimed)) => self.find(record).await?,
            Err(TransactionError::Refused(refusal @ Refusal::ClaimingOver)) => {
                error!(job = %record.job, receipts = record.count, %refusal, "claim lost");
                Some(ClaimState::Lost)
            }
            // Another transcoder of the job was faster.
            Err(TransactionError::Refused(refusal @ Refusal::ReserveSpent { .. })) => {
                self.dissolve(record)?;
                return Err(TransactionError::Refused(refusal).into());
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(state) = state {
            info!(job = %record.job, receipts = record.count, ?state, "work claimed");
            self.note(record, state)?;
        }
        Ok(())
    }

    /// Puts the receipts of a claim that never was back among the others.
    fn dissolve(&self, record: &ClaimRecord) -> Result<(), LedgerError> {
        let receipts = record.receipts(&self.receipts)?;
        let gone = vec![record.remove()];
        Ok(self.receipts.release(record.job, &receipts, gone)?)
    }

    fn note(&self, record: &mut ClaimRecord, state: ClaimState) -> Result<(), LedgerError> {
        let noted = ClaimRecord {
            state,
            ..record.clone()
        };
        self.account.journal().apply(vec![noted.put()?])?;
        *record = noted;
        Ok(())
    }

    /// Answers what is asked about a claim, and settles it when its time has come.
    async fn defend(
        &self,
        record: &mut ClaimRecord,
        claim: u64,
        block: u64,
    ) -> Result<(), LedgerError> {
        let on_chain = self.account.view().claim(claim).await?;
        let own = Address(on_chain.transcoder.0) == self.account.address();
        if !own || on_chain.root != record.root {
            warn!(job = %record.job, claim, "the chain took the claim back; making it again");
            return self.note(record, ClaimState::Prepared);
        }
        match on_chain.state {
            SETTLED => {
                info!(job = %record.job, claim, amount = on_chain.amount, "claim paid");
                return self.note(record, ClaimState::Settled);
            }
            SLASHED => {
                error!(job = %record.job, claim, "claim slashed");
                return self.note(record, ClaimState::Slashed);
            }
            PENDING => {}
            other => {
                let reason = format!("the contract has claims of state {other}");
                return Err(LedgerError::Unreachable(reason));
            }
        }
        if on_chain.open_challenges > 0 {
            return self.answer(record, claim, block).await;
        }
        let next = self.account.sender().head().await?.saturating_add(1);
        if next < on_chain.settles_at {
            return Ok(());
        }
        let intent = format!("settle/{claim}");
        match self.account.make(&intent, &Action::Settle(claim)).await {
            // A challenge came in between, or it was settled or slashed.
            Err(TransactionError::Refused(
                Refusal::NotSettleable { .. } | Refusal::ClaimClosed { .. },
            )) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => self.note(record, ClaimState::Settled),
        }
    }

    /// Shows every receipt that is asked for.
    async fn answer(&self, record: &ClaimRecord, claim: u64, from: u64) -> Result<(), LedgerError> {
        let stream = self.account.view().job(record.job).await?.stream_hash;
        let receipts = record.receipts(&self.receipts)?;
        let leaves = receipts.iter().map(|receipt| receipt.leaf_of(stream));
        let tree = ReceiptTree::new(leaves.collect()).filter(|tree| tree.root() == record.root);
        let Some(tree) = tree else {
            let reason = format!("receipts of claim {claim} are missing in the data directory");
            return Err(crate::journal::JournalError(reason).into());
        };
        let asked: Vec<contract::ClaimChallengedFilter> =
            self.events(json!([quantity_word(claim)]), from).await?;
        for index in asked.into_iter().map(|event| event.index) {
            let place = usize::try_from(index).unwrap_or(usize::MAX);
            let Some(receipt) = receipts.get(place) else {
                continue;
            };
            let opening = Opening {
                claim,
                index,
                receipt: receipt.clone(),
                proof: tree.proof(place),
            };
            let intent = format!("answer/{claim}/{index}");
            match self.account.make(&intent, &Action::Answer(opening)).await {
                Ok(_) => info!(claim, index, "challenge answered"),
                Err(TransactionError::Refused(Refusal::NotChallenged)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Finds a claim by its root.
    async fn find(&self, record: &ClaimRecord) -> Result<Option<ClaimState>, LedgerError> {
        let created = self.account.view().job(record.job).await?.created_at;
        let own = self.account.address();
        // A topic that is an address is filled up with zeroes in front.
        let own = format!("0x{:0>64}", data_encoding::HEXLOWER.encode(&own.0));
        let topics = json!([null, quantity_word(record.job.0), own]);
        let made: Vec<contract::WorkClaimedFilter> = self.events(topics, created).await?;
        let ours = made.into_iter().find(|event| event.root == record.root);
        Ok(ours.map(|event| ClaimState::Made {
            claim: u64::try_from(event.claim_id).unwrap_or(0),
            block: created,
        }))
    }

    /// Events of a kind with these topics after its own, from a block on.
    async fn events<E: EthEvent>(
        &self,
        topics: serde_json::Value,
        from: u64,
    ) -> Result<Vec<E>, LedgerError> {
        let mut all = vec![json!(format!("{:#x}", E::signature()))];
        all.extend(topics.as_array().into_iter().flatten().cloned());
        let head = self.account.sender().head().await?;
        let mut found = Vec::new();
        let mut first = from;
        while first <= head {
            let last = head.min(first.saturating_add(BLOCKS - 1));
            let filter = json!([{
                "address": self.account.domain().contract.to_string(),
                "topics": all, "fromBlock": quantity(first), "toBlock": quantity(last),
            }]);
            let wire = self.account.sender().wire();
            let logs: Vec<ethers_core::types::Log> = ask(wire, "eth_getLogs", filter)
                .await
                .map_err(TransactionError::from)?;
            let events = logs
                .into_iter()
                .map(|log| RawLog::from((log.topics, log.data.to_vec())));
            found.extend(events.filter_map(|raw| E::decode_log(&raw).ok()));
            first = last.saturating_add(1);
        }
        Ok(found)
    }
}

/// A number as a topic.
fn quantity_word(number: u64) -> String {
    format!("{number:#066x}")
}
