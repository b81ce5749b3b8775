//! What a node or a person changes in the ledger on a chain, for one account.

use serde_json::json;
use tracing::{info, warn};

use super::{
    account::{Account, Made},
    action::Action,
    contract,
    refusal::Refusal,
    sender::{TransactionError, ask},
};
use crate::{
    journal::{Change, JournalError},
    ledger::{LedgerError, NewJob},
    types::{Address, JobId, Transcoder, Wei},
};

/// What a program may reserve for jobs of its own accord.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spending {
    /// Reserved at most within any 24 hours of the chain's time; `None` for a person who
    /// knows what they do.
    pub limit: Option<Wei>,
}

/// Changes the ledger on a chain for one account. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    account: Account,
    spending: Spending,
}

/// States of a job in the contract.
const OPEN: u8 = 1;
const ACKNOWLEDGED: u8 = 3;
const ENDED: u8 = 4;
/// Seconds over which spending is summed up.
const DAY: u64 = 24 * 3600;

impl Writer {
    /// Changes made by an account, within its limits.
    #[must_use]
    pub const fn new(account: Account, spending: Spending) -> Self {
        Self { account, spending }
    }

    /// Whose changes they are.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Registers the account, or changes its terms; its stake is made up to what is asked
    /// for and never becomes less. Returns the block from which that counts, if anything
    /// had to be done.
    ///
    /// # Errors
    /// Those of a transaction, and for the terms of another account.
    pub async fn register(&self, terms: &Transcoder) -> Result<Option<u64>, LedgerError> {
        self.check_own(terms.address)?;
        let known = self.account.standing().await?;
        let stake = Wei(terms.stake.0.saturating_sub(known.bonded.0));
        let same = known.node == Some(terms.node)
            && known.price == terms.price_per_segment
            && known.stake >= terms.stake
            && known.stake > Wei(0);
        if same {
            return Ok(None);
        }
        let action = Action::Register {
            node: terms.node,
            price: terms.price_per_segment,
            profiles: Vec::new(),
            stake,
        };
        let made = self.account.make("register", &action).await?;
        Ok(Some(made.block))
    }

    /// Takes the account out of elections.
    ///
    /// # Errors
    /// Those of a transaction, and for another account.
    pub async fn unregister(&self, address: Address) -> Result<u64, LedgerError> {
        self.check_own(address)?;
        let made = self.account.make("unregister", &Action::Unregister).await?;
        Ok(made.block)
    }

    /// Creates a job, or finds that of the stream, and elects its transcoder.
    ///
    /// # Errors
    /// Those of a transaction, and when more would be reserved than may be.
    pub async fn create_job(&self, job: &NewJob) -> Result<(JobId, u64), LedgerError> {
        let view = self.account.view();
        let own = self.account.address();
        if let Some(live) = view.live_job(own, &job.stream).await? {
            return Ok((live, self.elect(live).await?));
        }
        let price = job.max_price_per_segment;
        let segments = view.rules().await?.reserve_segments;
        let reserve = Wei(price.0.saturating_mul(segments.into()));
        let intent = format!("create/{}", job.stream);
        self.spend(&intent, reserve).await?;
        let action = Action::CreateJob {
            stream: job.stream.clone(),
            profiles: job.profiles.clone(),
            max_price: price,
        };
        let made = self.account.make(&intent, &action).await;
        if let Err(TransactionError::Refused(_)) = made {
            self.unspend(&intent)?;
        }
        let id = match made {
            Ok(Made { job: Some(id), .. }) => id,
            Ok(_) => view
                .live_job(own, &job.stream)
                .await?
                .ok_or_else(|| LedgerError::Unreachable("the job is not there".to_owned()))?,
            Err(TransactionError::Refused(Refusal::StreamHasJob { job })) => {
                JobId(u64::try_from(job).unwrap_or(0))
            }
            Err(error) => return Err(error.into()),
        };
        Ok((id, self.elect(id).await?))
    }

    /// Elects the transcoder of a job that is open, as soon as its seed is there. Returns
    /// the newest block. A job for which nobody can be elected stays open.
    ///
    /// # Errors
    /// Those of a transaction, and when there is no such job.
    pub async fn elect(&self, id: JobId) -> Result<u64, LedgerError> {
        let sender = self.account.sender();
        loop {
            let job = self.known(id).await?;
            let head = sender.head().await?;
            if job.state != OPEN || head >= job.expires_at {
                return Ok(head);
            }
            if head < job.seed_block {
                sender.pause().await;
                continue;
            }
            let elects = match self.account.would_elect(id).await {
                // Too early, or somebody else has just done it.
                Err(TransactionError::Refused(
                    Refusal::SeedNotMined { .. } | Refusal::WrongState { .. },
                )) => {
                    sender.pause().await;
                    continue;
                }
                elects => elects?,
            };
            // Who registered after the seed's block needs another seed.
            if !elects {
                let excluded = self.account.view().excluded(id).await?;
                if !self.account.view().has_candidates(&job, excluded).await? {
                    info!(job = %id, "nobody can be elected");
                    return Ok(head);
                }
            }
            let intent = format!("assign/{id}/{}", job.seed_block);
            match self.account.make(&intent, &Action::Assign(id)).await {
                Ok(_) => {}
                Err(TransactionError::Refused(
                    Refusal::SeedNotMined { .. } | Refusal::WrongState { .. },
                )) => sender.pause().await,
                // It came second in its block: the job tells.
                Err(TransactionError::Refused(_)) if self.known(id).await?.state != OPEN => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Says that the account works on a job.
    ///
    /// # Errors
    /// Those of a transaction, and when the account does not hold the job.
    pub async fn acknowledge(&self, id: JobId, transcoder: Address) -> Result<u64, LedgerError> {
        self.check_own(transcoder)?;
        let job = self.known(id).await?;
        if job.state == ENDED {
            return Err(LedgerError::Ended(id));
        }
        if Address(job.transcoder.0) != transcoder {
            return Err(LedgerError::NotHolder(id, transcoder));
        }
        if job.state == ACKNOWLEDGED {
            return Ok(self.account.sender().head().await?);
        }
        let intent = format!("acknowledge/{id}/{}", job.round);
        let made = self.account.make(&intent, &Action::Acknowledge(id)).await?;
        Ok(made.block)
    }

    /// Takes a job from its holder, and elects another.
    ///
    /// # Errors
    /// Those of a transaction, and when the job is over.
    pub async fn reassign(&self, id: JobId) -> Result<u64, LedgerError> {
        let job = self.known(id).await?;
        if job.state == ENDED {
            return Err(LedgerError::Ended(id));
        }
        if job.state != OPEN {
            let intent = format!("reassign/{id}/{}", job.round);
            self.account.make(&intent, &Action::Reassign(id)).await?;
        }
        self.elect(id).await
    }

    /// Ends a job.
    ///
    /// # Errors
    /// Those of a transaction, and when the job is of another account.
    pub async fn end_job(&self, id: JobId) -> Result<u64, LedgerError> {
        let job = self.known(id).await?;
        if job.state == ENDED {
            return Ok(self.account.sender().head().await?);
        }
        let intent = format!("end/{id}");
        let made = self.account.make(&intent, &Action::End(id)).await?;
        Ok(made.block)
    }

    /// Looks after a job of the account: elects when it is open, sets more aside when the
    /// reserve or the time runs out, has back what is left when it is over. Returns whether
    /// nothing will ever have to be done for it again.
    ///
    /// # Errors
    /// Those of a transaction.
    pub async fn attend(&self, id: JobId) -> Result<bool, LedgerError> {
        let job = self.known(id).await?;
        let head = self.account.sender().head().await?;
        let rules = self.account.view().rules().await?;
        if job.state == ENDED {
            if !job.released && head > job.ended_at + u64::from(rules.claim_blocks) {
                let action = Action::ReleaseReserve(id);
                self.account.make(&format!("release/{id}"), &action).await?;
            }
            return Ok(job.released);
        }
        if job.state == OPEN {
            self.elect(id).await?;
        }
        let full = job.max_price.saturating_mul(rules.reserve_segments.into());
        let missing = full.saturating_sub(job.reserved);
        let short = missing > full / 4 * 3;
        let late = job.expires_at.saturating_sub(head) < u64::from(rules.job_blocks / 4);
        if (short || late) && head < job.expires_at {
            let segments = missing.checked_div(job.max_price).unwrap_or(0);
            let segments = u32::try_from(segments).unwrap_or(u32::MAX);
            self.extend(id, &job, segments).await?;
        }
        Ok(false)
    }

    /// Sets more aside; where that may not be, lets the job live on with what it has.
    async fn extend(
        &self,
        id: JobId,
        job: &contract::Job,
        segments: u32,
    ) -> Result<(), LedgerError> {
        let added = Wei(job.max_price.saturating_mul(segments.into()));
        let intent = format!("extend/{id}/{}", job.expires_at);
        let allowed = match self.spend(&intent, added).await {
            Err(error @ LedgerError::SpendLimit { .. }) => {
                warn!(job = %id, %error, "the job's reserve is not filled up");
                0
            }
            spent => spent.map(|()| segments)?,
        };
        let action = Action::Extend {
            job: id,
            segments: allowed,
        };
        let made = self.account.make(&intent, &action).await;
        if let Err(TransactionError::Refused(_)) = made {
            self.unspend(&intent)?;
        }
        made.map(drop).map_err(LedgerError::from)
    }

    fn check_own(&self, address: Address) -> Result<(), LedgerError> {
        let own = self.account.address();
        if address == own {
            return Ok(());
        }
        Err(LedgerError::NotOwn(address, own))
    }

    async fn known(&self, id: JobId) -> Result<contract::Job, LedgerError> {
        let job = self.account.view().job(id).await?;
        if job.state == 0 {
            return Err(LedgerError::UnknownJob(id));
        }
        Ok(job)
    }

    /// Notes what is about to be reserved, if it may be. One intent counts once.
    async fn spend(&self, intent: &str, amount: Wei) -> Result<(), LedgerError> {
        let Some(limit) = self.spending.limit else {
            return Ok(());
        };
        let now = self.time().await?;
        let journal = self.account.journal();
        let mut over = Vec::new();
        let mut spent = 0_u128;
        for (key, value) in journal.scan(SPENT, SPENT, usize::MAX)? {
            let (at, of) = read_spent(&key, &value)?;
            if key.ends_with(&format!("/{intent}")) || at.saturating_add(DAY) <= now {
                over.push(Change::Remove { key });
            } else {
                spent = spent.saturating_add(of);
            }
        }
        if spent.saturating_add(amount.0) > limit.0 {
            return Err(LedgerError::SpendLimit {
                needed: amount,
                spent: Wei(spent),
                limit,
            });
        }
        over.push(Change::Put {
            key: format!("{SPENT}{now:020}/{intent}"),
            value: amount.0.to_be_bytes().to_vec(),
        });
        Ok(journal.apply(over)?)
    }

    /// It was not reserved after all.
    fn unspend(&self, intent: &str) -> Result<(), LedgerError> {
        let journal = self.account.journal();
        let noted = journal.scan(SPENT, SPENT, usize::MAX)?.into_iter();
        let end = format!("/{intent}");
        let noted = noted.filter(|(key, _)| key.ends_with(&end));
        let removed = noted.map(|(key, _)| Change::Remove { key }).collect();
        Ok(journal.apply(removed)?)
    }

    /// The chain's time, s since 1970.
    async fn time(&self) -> Result<u64, LedgerError> {
        #[derive(serde::Deserialize)]
        struct Header {
            timestamp: ethers_core::types::U64,
        }
        let params = json!(["latest", false]);
        let wire = self.account.sender().wire();
        let newest: Header = ask(wire, "eth_getBlockByNumber", params)
            .await
            .map_err(TransactionError::from)?;
        Ok(newest.timestamp.as_u64())
    }
}

/// Where the journal keeps what was reserved, by time and intent.
const SPENT: &str = "spent/";

fn read_spent(key: &str, value: &[u8]) -> Result<(u64, u128), JournalError> {
    let at = key
        .get(SPENT.len()..SPENT.len() + 20)
        .and_then(|at| at.parse().ok());
    let of = value.try_into().ok().map(u128::from_be_bytes);
    at.zip(of)
        .ok_or_else(|| JournalError(format!("the entry {key} is damaged")))
}
