//! Opens the ledger that a node or a command uses, whichever kind it is.

mod keeper;
mod opening;

use std::{path::Path, sync::Arc, time::Duration};

use headwater_chain::{
    JobBook, Journal, Ledger, LedgerError, Wei,
    ethereum::{
        Account, ChainSettings, Endpoints, EthereumLedger, Key, SenderConfig, Spending, Writer,
    },
};
use tokio::sync::SetOnce;

pub use self::{
    keeper::Keeper,
    opening::{LedgerReport, LedgerState, Opening},
};
use crate::config::{ChainConfig, LedgerConfig};

/// How long an endpoint of a chain has for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is there once a ledger is open.
pub type Later<T> = Arc<SetOnce<T>>;

/// A ledger, and what only one on a chain has.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// More of it, when it is on a chain.
    pub chain: Option<Chain>,
}

/// A ledger on a chain.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The ledger.
    pub ledger: Arc<EthereumLedger>,
    /// What the account does there; `None` without a key.
    pub writer: Option<Writer>,
}

/// What a program may do of its own accord, and where it keeps what is under way.
#[derive(Debug, Clone)]
pub struct Means {
    /// Whose account it is; without one a chain is only read.
    pub key: Option<Key>,
    /// Reserved for jobs within a day at most.
    pub spend_limit: Option<Wei>,
    /// What is under way.
    pub journal: Arc<dyn Journal>,
}

/// Whether a job book that is not there is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// It is: something is added to it.
    IfMissing,
    /// It is not: it was mistyped.
    Never,
}

/// Opens a ledger for a command.
///
/// # Errors
/// When the job book cannot be used, or no endpoint of the chain answers or knows the
/// contract.
pub async fn open(config: &LedgerConfig, means: Means, make: Make) -> Result<Opened, LedgerError> {
    match config {
        LedgerConfig::Book(path) => open_book(path, make),
        LedgerConfig::Chain(config) => {
            let endpoints = endpoints(config, None)?;
            open_chain(config, &endpoints, means).await
        }
    }
}

fn open_book(path: &Path, make: Make) -> Result<Opened, LedgerError> {
    let book = match make {
        Make::IfMissing => JobBook::open(path)?,
        Make::Never => JobBook::open_existing(path)?,
    };
    Ok(Opened {
        ledger: Arc::new(book),
        chain: None,
    })
}

async fn open_chain(
    config: &ChainConfig,
    endpoints: &Endpoints,
    means: Means,
) -> Result<Opened, LedgerError> {
    let spending = Spending {
        limit: means.spend_limit,
    };
    let writer = match means.key {
        Some(key) => {
            let account = account(config, endpoints, key, means.journal).await?;
            Some(Writer::new(account, spending))
        }
        None => None,
    };
    let settings = ChainSettings {
        confirmations: config.confirmations,
        ..ChainSettings::new(endpoints.clone(), config.contract)
    };
    let ledger = EthereumLedger::open(settings).await?;
    let ledger = match &writer {
        Some(writer) => ledger.writing(writer.clone()),
        None => ledger,
    };
    let ledger = Arc::new(ledger);
    Ok(Opened {
        ledger: ledger.clone(),
        chain: Some(Chain { ledger, writer }),
    })
}

/// An account at a contract, or one that will deploy it.
///
/// # Errors
/// When no endpoint answers.
pub async fn account(
    config: &ChainConfig,
    endpoints: &Endpoints,
    key: Key,
    journal: Arc<dyn Journal>,
) -> Result<Account, LedgerError> {
    let sender = SenderConfig {
        max_fee: config.max_fee,
        confirmations: config.confirmations,
        ..SenderConfig::default()
    };
    Account::open(endpoints, config.contract, key, journal, sender).await
}

/// The endpoints of a chain. With `chain` those of another one are not used.
///
/// # Errors
/// When the system's certificates cannot be read.
pub fn endpoints(config: &ChainConfig, chain: Option<u64>) -> Result<Endpoints, LedgerError> {
    Endpoints::new(&config.endpoints, chain, PATIENCE)
}
