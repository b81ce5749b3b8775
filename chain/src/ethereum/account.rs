//! One account at one contract: what it has there, what it does, and what that costs.

use std::sync::Arc;

use ethers_contract::EthLogDecode as _;
use ethers_core::abi::RawLog;
use serde::Serialize;

use super::{
    action::{Action, Rules},
    contract,
    eip712::Domain,
    key::Key,
    rpc::Endpoints,
    sender::{Estimate, Mined, Sender, SenderConfig, TransactionError, ask},
    view::View,
};
use crate::{
    journal::{Journal, LedgerJournal},
    ledger::LedgerError,
    types::{Address, JobId, NodeKey, Wei},
};

/// An account at a contract. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Account {
    domain: Domain,
    sender: Arc<Sender>,
    journal: Arc<LedgerJournal>,
}

/// What has been done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The transaction, 0x and 64 hex digits.
    pub transaction: String,
    /// Its block.
    pub block: u64,
    /// The contract that it deployed.
    pub contract: Option<Address>,
    /// The job that it created.
    pub job: Option<JobId>,
    /// The claim that it made.
    pub claim: Option<u64>,
}

/// What an account has, as of the newest block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The account.
    pub account: Address,
    /// What it has outside of the contract, to pay for gas.
    pub coins: Wei,
    /// What it has deposited or earned, and may use or withdraw.
    pub balance: Wei,
    /// The node it registered as a transcoder.
    pub node: Option<NodeKey>,
    /// What it asks for one segment.
    pub price: Wei,
    /// What counts in elections; 0 for one who takes no part.
    pub stake: Wei,
    /// What is at stake, also while leaving.
    pub bonded: Wei,
    /// From this block the stake of one who left can be had back.
    pub unbonds_at: u64,
    /// Claims that are not settled.
    pub open_claims: u32,
    /// Transactions that are under way.
    pub pending: usize,
}

impl Account {
    /// The account of a key at a contract. What is under way is kept in the journal.
    ///
    /// # Errors
    /// When no endpoint says which chain it is, or all are of another one.
    pub async fn open(
        endpoints: &Endpoints,
        contract: Address,
        key: Key,
        journal: Arc<dyn Journal>,
        config: SenderConfig,
    ) -> Result<Self, LedgerError> {
        let chain_id = endpoints.chain_id().await?;
        let domain = Domain { chain_id, contract };
        let journal = Arc::new(LedgerJournal::new(journal, &domain));
        let wire = Arc::new(endpoints.clone());
        let sender = Sender::new(wire, key, chain_id, journal.clone(), config);
        Ok(Self {
            domain,
            sender: Arc::new(sender),
            journal,
        })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.sender.account()
    }

    /// What is signed for the contract.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        self.domain
    }

    /// What is kept about the contract.
    #[must_use]
    pub fn journal(&self) -> Arc<dyn Journal> {
        self.journal.clone()
    }

    /// What an action would need. Nothing is done.
    ///
    /// # Errors
    /// When it would be refused now, or costs more than it may.
    pub async fn estimate(&self, action: &Action) -> Result<Estimate, TransactionError> {
        self.sender
            .estimate(&action.call(self.domain.contract))
            .await
    }

    /// Does something, and waits until it is in a block. The intent is a text of the
    /// caller's: while an action with the same intent is under way, that one is waited for
    /// instead, also by a later run of the program.
    ///
    /// # Errors
    /// When it was refused or cannot be sent. When the chain cannot be asked, an action
    /// that has begun goes on all the same.
    pub async fn make(&self, intent: &str, action: &Action) -> Result<Made, TransactionError> {
        let call = action.call(self.domain.contract);
        let mined = self.sender.submit(intent, &call).await?;
        Ok(Made::of(&mined))
    }

    /// Looks once at what is under way: sends again what got lost, offers more for what
    /// waits, and forgets what is settled. To be called now and then.
    ///
    /// # Errors
    /// When the chain or the journal fails.
    pub async fn attend(&self) -> Result<(), TransactionError> {
        self.sender.attend().await
    }

    /// How many transactions are under way.
    ///
    /// # Errors
    /// When the journal fails.
    pub fn pending(&self) -> Result<usize, TransactionError> {
        self.sender.pending()
    }

    /// The contract's rules.
    ///
    /// # Errors
    /// When the chain cannot be asked, or there is no such contract.
    pub async fn rules(&self) -> Result<Rules, TransactionError> {
        self.view().rules().await
    }

    /// What the account has.
    ///
    /// # Errors
    /// When the chain cannot be asked.
    pub async fn standing(&self) -> Result<Standing, TransactionError> {
        let account = self.address();
        let params = serde_json::json!([account.to_string(), "latest"]);
        let coins: ethers_core::types::U256 =
            ask(self.sender.wire(), "eth_getBalance", params).await?;
        let transcoder = self.view().transcoder(account).await?;
        Ok(Standing {
            account,
            coins: Wei(u128::try_from(coins).unwrap_or(u128::MAX)),
            balance: self.view().balance(account).await?,
            node: (transcoder.node != [0; 32]).then_some(NodeKey(transcoder.node)),
            price: Wei(transcoder.terms.price),
            stake: Wei(transcoder.terms.stake),
            bonded: Wei(transcoder.bonded),
            unbonds_at: transcoder.unbonds_at,
            open_claims: transcoder.open_claims,
            pending: self.sender.pending()?,
        })
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            wire: self.sender.wire(),
            contract: self.domain.contract,
        }
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Whom an election would give a job now; nobody for a zero address.
    pub(super) async fn would_elect(&self, job: JobId) -> Result<bool, TransactionError> {
        let call = Action::Assign(job).call(self.domain.contract);
        let returned = self.sender.call(&call).await?;
        Ok(returned.iter().any(|byte| *byte != 0))
    }
}

impl Made {
    fn of(mined: &Mined) -> Self {
        let mut made = Self {
            transaction: super::sender::bytes(&mined.hash),
            block: mined.block,
            contract: mined.contract,
            job: None,
            claim: None,
        };
        for log in &mined.logs {
            let raw = RawLog::from((log.topics.clone(), log.data.to_vec()));
            let number = |number| u64::try_from(number).ok();
            match contract::HeadwaterEvents::decode_log(&raw) {
                Ok(contract::HeadwaterEvents::JobCreatedFilter(event)) => {
                    made.job = number(event.job_id).map(JobId);
                }
                Ok(contract::HeadwaterEvents::WorkClaimedFilter(event)) => {
                    made.claim = number(event.claim_id);
                }
                _ => {}
            }
        }
        made
    }
}
