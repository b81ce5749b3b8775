//! The ledger that a command is about, whose account it uses, and what it may cost.

use std::{fmt, io::IsTerminal as _, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Args;
use headwater_chain::{
    Journal, MemoryJournal,
    ethereum::{Account, Action, Key, Made},
};

use super::say;
use crate::{
    config::{AccountConfig, ConfigErrors, KEYSTORE, LedgerConfig, Raw, Setting},
    ledger::{self, Chain, Make, Means, Opened},
    store::Store,
};

#[derive(Debug, Args)]
pub(super) struct LedgerArgs {
    /// The ledger: file:PATH, or ws(s)://… or http(s)://… of a chain; repeatable for a
    /// chain [env: HEADWATER_LEDGER]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    ledger: Option<Vec<String>>,
    /// Address of the contract on the chain [env: HEADWATER_CONTRACT]
    #[arg(long, value_name = "0x…")]
    contract: Option<String>,
    /// Blocks that must follow a block until what is in it counts
    /// [env: HEADWATER_CONFIRMATIONS] [default: 2]
    #[arg(long, value_name = "BLOCKS")]
    confirmations: Option<String>,
    /// Keystore of the account that acts [env: HEADWATER_KEYSTORE]
    #[arg(long, value_name = "FILE")]
    keystore: Option<String>,
    /// File with the keystore's password [env: HEADWATER_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Wei paid for a unit of gas at most [env: HEADWATER_MAX_FEE]
    #[arg(long, value_name = "WEI")]
    max_fee: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What was said about the ledger, looked at.
#[derive(Debug)]
pub(super) struct Place {
    ledger: LedgerConfig,
    account: AccountConfig,
    /// Of the node whose receipts are claimed.
    data_dir: Option<PathBuf>,
}

impl LedgerArgs {
    fn raw(&self, said: &Raw) -> Raw {
        Raw::default()
            .flag(Setting::Ledger, self.ledger.clone())
            .flag(Setting::Contract, self.contract.clone())
            .flag(Setting::Confirmations, self.confirmations.clone())
            .flag(Setting::Keystore, self.keystore.clone())
            .flag(Setting::PasswordFile, self.password_file.clone())
            .flag(Setting::MaxFee, self.max_fee.clone())
            .over(said.clone())
    }

    pub(super) fn place(&self, said: &Raw) -> Result<Place, ConfigErrors> {
        let raw = self.raw(said);
        Ok(Place {
            account: raw.clone().account()?,
            ledger: raw.ledger()?,
            data_dir: None,
        })
    }

    /// Where a contract is to be deployed.
    pub(super) fn bare_chain(&self, said: &Raw) -> Result<Place, ConfigErrors> {
        let raw = self.raw(said);
        Ok(Place {
            account: raw.clone().account()?,
            ledger: LedgerConfig::Chain(raw.chain()?),
            data_dir: None,
        })
    }
}

impl Place {
    /// Opens the ledger. What a command has under way is not remembered when it is ended.
    pub(super) async fn open(&self, make: Make) -> anyhow::Result<Opened> {
        let means = Means {
            key: self.account.key(None)?,
            spend_limit: None,
            journal: Arc::new(MemoryJournal::default()),
        };
        Ok(ledger::open(&self.ledger, means, make).await?)
    }

    /// With the data directory of a node.
    pub(super) fn of_node(self, data_dir: PathBuf) -> Self {
        Self {
            data_dir: Some(data_dir),
            ..self
        }
    }

    /// The account on the chain, without following it.
    pub(super) async fn account(&self) -> anyhow::Result<Account> {
        let key = self.account.key(None)?;
        self.account_with(key, Arc::new(MemoryJournal::default()))
            .await
    }

    /// The account of a node that does not run, with what it has under way.
    pub(super) async fn account_of_node(&self) -> anyhow::Result<Account> {
        let data_dir = self.data_dir.as_deref();
        let data_dir = data_dir.context("the node's data directory is needed")?;
        let key = self.account.key(Some(&data_dir.join(KEYSTORE)))?;
        self.account_with(key, Arc::new(Store::open(data_dir)?))
            .await
    }

    async fn account_with(
        &self,
        key: Option<Key>,
        journal: Arc<dyn Journal>,
    ) -> anyhow::Result<Account> {
        let LedgerConfig::Chain(config) = &self.ledger else {
            bail!("there are no accounts and no money in a job book");
        };
        let key = key.context("this needs an account; say whose with --keystore")?;
        let endpoints = ledger::endpoints(config, None)?;
        Ok(ledger::account(config, &endpoints, key, journal).await?)
    }
}

/// Whether and how something is done that costs money.
#[derive(Debug, Args)]
pub(super) struct SpendArgs {
    /// Say what it would cost, and whether it would be refused; do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask whether to spend money
    #[arg(long, short)]
    yes: bool,
}

impl SpendArgs {
    /// Says what an action costs. Whether to go on.
    pub(super) async fn agreed(&self, account: &Account, action: &Action) -> anyhow::Result<bool> {
        let estimate = account.estimate(action).await?;
        let (gas, fee, cost) = (estimate.gas, estimate.max_fee, estimate.cost());
        let mut text = format!("at most {cost} wei for {gas} gas at {fee} wei");
        if action.value().0 > 0 {
            text = format!("{} wei, and {text}", action.value());
        }
        if self.dry_run {
            say(format_args!("{} would pay {text}", account.address()))?;
            return Ok(false);
        }
        if !self.yes && !ask(&format!("{} pays {text}. Go on?", account.address()))? {
            bail!("nothing was done");
        }
        Ok(true)
    }

    /// The same for what may be in a job book, where nothing costs anything.
    pub(super) async fn agreed_in(
        &self,
        chain: Option<&Chain>,
        action: &Action,
    ) -> anyhow::Result<bool> {
        match chain {
            None if self.dry_run => {
                say("it would cost nothing")?;
                Ok(false)
            }
            None => Ok(true),
            Some(chain) => {
                let writer = chain.writer.as_ref();
                let writer = writer.context("this needs an account; say whose with --keystore")?;
                self.agreed(writer.account(), action).await
            }
        }
    }
}

/// Does something on a chain, after having said what it costs.
pub(super) async fn act(
    account: &Account,
    action: &Action,
    spend: &SpendArgs,
) -> anyhow::Result<Option<Made>> {
    if !spend.agreed(account, action).await? {
        return Ok(None);
    }
    Ok(Some(account.make("command", action).await?))
}

/// Says what was done.
pub(super) fn tell(made: &Made, json: bool) -> anyhow::Result<()> {
    if json {
        return say(serde_json::to_string_pretty(made)?);
    }
    let line = |name: &str, value: Option<&dyn fmt::Display>| match value {
        Some(value) => say(format_args!("{name}: {value}")),
        None => Ok(()),
    };
    line("transaction", Some(&made.transaction))?;
    line("block", Some(&made.block))?;
    line(
        "contract",
        made.contract.as_ref().map(|c| c as &dyn fmt::Display),
    )
}

/// Asks somebody at a terminal.
#[expect(
    clippy::print_stderr,
    reason = "a question to whoever types, not output"
)]
fn ask(question: &str) -> anyhow::Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("{question} Say --yes");
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
