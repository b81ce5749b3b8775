//! `headwater ledger`: transcoders, and the money of an account.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;
use headwater_chain::{
    Address, Ledger, NodeKey, Transcoder, Wei,
    ethereum::{Action, Rules},
};
use headwater_proto::NodeId;

use super::{
    place::{LedgerArgs, Place, SpendArgs, act, tell},
    say,
};
use crate::{
    config::{ConfigErrors, Raw},
    ledger::{Make, Opened},
};

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Put a contract on a chain; its rules never change
    Deploy {
        #[command(flatten)]
        place: LedgerArgs,
        #[command(flatten)]
        rules: RulesArgs,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// Register a transcoder, or change its terms
    Register {
        #[command(flatten)]
        place: LedgerArgs,
        /// Its Ethereum address; on a chain that of the keystore
        #[arg(long)]
        address: Option<Address>,
        /// Its node
        #[arg(long)]
        node: NodeId,
        /// What it asks for a segment, in wei
        #[arg(long, default_value = "0")]
        price: Wei,
        /// Its weight in elections, on a chain wei that are at stake
        /// [default: 1, on a chain what the contract asks for]
        #[arg(long)]
        stake: Option<Wei>,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// Take a transcoder out of elections
    Unregister {
        #[command(flatten)]
        place: LedgerArgs,
        /// Its Ethereum address; on a chain that of the keystore
        #[arg(long)]
        address: Option<Address>,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// Have the stake back, some time after leaving
    ReleaseStake {
        #[command(flatten)]
        place: LedgerArgs,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// Pay into the account's balance in the contract, from which jobs are paid
    Deposit {
        #[command(flatten)]
        place: LedgerArgs,
        /// How much
        wei: Wei,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// Take out of the account's balance in the contract
    Withdraw {
        #[command(flatten)]
        place: LedgerArgs,
        /// How much [default: all]
        wei: Option<Wei>,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// List the registered transcoders
    Show {
        #[command(flatten)]
        place: LedgerArgs,
    },
    /// Show what the account has in the contract
    Account {
        #[command(flatten)]
        place: LedgerArgs,
    },
}

/// The rules of a contract. Blocks are those of the chain.
#[derive(Debug, Args)]
pub(super) struct RulesArgs {
    /// Least stake of a transcoder, in wei
    #[arg(long, default_value = "1000000000000000000")]
    min_stake: Wei,
    /// What somebody who asks to see a receipt puts up, in wei
    #[arg(long, default_value = "1000000000000000")]
    challenge_bond: Wei,
    /// Segments that are paid for in advance
    #[arg(long, default_value = "1800")]
    reserve_segments: u32,
    /// Blocks that an elected transcoder has to acknowledge
    #[arg(long, default_value = "10")]
    ack_blocks: u32,
    /// Blocks that a job lives unless it is extended
    #[arg(long, default_value = "7200")]
    job_blocks: u32,
    /// Blocks after a job's end in which its work can be claimed
    #[arg(long, default_value = "7200")]
    claim_blocks: u32,
    /// Blocks in which a claim can be challenged
    #[arg(long, default_value = "1800")]
    challenge_blocks: u32,
    /// Blocks that a transcoder has to answer a challenge
    #[arg(long, default_value = "900")]
    answer_blocks: u32,
    /// Blocks that stake stays bonded after leaving; above 256
    #[arg(long, default_value = "50400")]
    unbond_blocks: u32,
}

impl From<&RulesArgs> for Rules {
    fn from(args: &RulesArgs) -> Self {
        Self {
            min_stake: args.min_stake,
            challenge_bond: args.challenge_bond,
            reserve_segments: args.reserve_segments,
            ack_blocks: args.ack_blocks,
            job_blocks: args.job_blocks,
            claim_blocks: args.claim_blocks,
            challenge_blocks: args.challenge_blocks,
            answer_blocks: args.answer_blocks,
            unbond_blocks: args.unbond_blocks,
        }
    }
}

impl LedgerCommand {
    pub(super) fn place(&self, said: &Raw) -> Result<Place, ConfigErrors> {
        match self {
            Self::Deploy { place, .. } => place.bare_chain(said),
            Self::Register { place, .. }
            | Self::Unregister { place, .. }
            | Self::ReleaseStake { place, .. }
            | Self::Deposit { place, .. }
            | Self::Withdraw { place, .. }
            | Self::Show { place }
            | Self::Account { place } => place.place(said),
        }
    }
}

pub(super) async fn run(command: LedgerCommand, at: Place) -> anyhow::Result<()> {
    match command {
        LedgerCommand::Deploy {
            place,
            rules,
            spend,
        } => money(&at, &Action::Deploy((&rules).into()), &spend, &place).await,
        LedgerCommand::Register {
            place,
            address,
            node,
            price,
            stake,
            spend,
        } => {
            let opened = at.open(Make::IfMissing).await?;
            let terms = Transcoder {
                address: who(&opened, address)?,
                node: NodeKey(*node.public_key()),
                price_per_segment: price,
                stake: match stake {
                    Some(stake) => stake,
                    None => least_stake(&opened).await?,
                },
            };
            register(&opened, terms, &spend).await?;
            show(&place, &*opened.ledger).await
        }
        LedgerCommand::Unregister {
            place,
            address,
            spend,
        } => {
            let opened = at.open(Make::Never).await?;
            let address = who(&opened, address)?;
            if spend
                .agreed_in(opened.chain.as_ref(), &Action::Unregister)
                .await?
            {
                opened.ledger.unregister(address).await?;
            }
            show(&place, &*opened.ledger).await
        }
        LedgerCommand::ReleaseStake { place, spend } => {
            money(&at, &Action::ReleaseStake, &spend, &place).await
        }
        LedgerCommand::Deposit { place, wei, spend } => {
            money(&at, &Action::Deposit(wei), &spend, &place).await
        }
        LedgerCommand::Withdraw { place, wei, spend } => {
            let wei = match wei {
                Some(wei) => wei,
                None => at.account().await?.standing().await?.balance,
            };
            money(&at, &Action::Withdraw(wei), &spend, &place).await
        }
        LedgerCommand::Show { place } => show(&place, &*at.open(Make::Never).await?.ledger).await,
        LedgerCommand::Account { place } => account(&place, &at).await,
    }
}

/// Does what only a chain has.
async fn money(
    at: &Place,
    action: &Action,
    spend: &SpendArgs,
    place: &LedgerArgs,
) -> anyhow::Result<()> {
    match act(&at.account().await?, action, spend).await? {
        Some(made) => tell(&made, place.json),
        None => Ok(()),
    }
}

/// Of whom the command is: on a chain everybody acts for themselves.
fn who(opened: &Opened, address: Option<Address>) -> anyhow::Result<Address> {
    let own = opened
        .chain
        .as_ref()
        .and_then(|chain| chain.writer.as_ref());
    match (address, own) {
        (Some(address), _) => Ok(address),
        (None, Some(writer)) => Ok(writer.account().address()),
        (None, None) if opened.chain.is_some() => bail!("say whose account with --keystore"),
        (None, None) => bail!("a job book needs the transcoder's --address"),
    }
}

async fn least_stake(opened: &Opened) -> anyhow::Result<Wei> {
    let Some(chain) = &opened.chain else {
        return Ok(Wei(1));
    };
    let writer = chain.writer.as_ref();
    let account = writer
        .context("say whose account with --keystore")?
        .account();
    Ok(account.rules().await?.min_stake)
}

async fn register(opened: &Opened, terms: Transcoder, spend: &SpendArgs) -> anyhow::Result<()> {
    let staked = match opened
        .chain
        .as_ref()
        .and_then(|chain| chain.writer.as_ref())
    {
        Some(writer) => writer.account().standing().await?.bonded,
        None => Wei(0),
    };
    let action = Action::Register {
        node: terms.node,
        price: terms.price_per_segment,
        profiles: Vec::new(),
        stake: Wei(terms.stake.0.saturating_sub(staked.0)),
    };
    if spend.agreed_in(opened.chain.as_ref(), &action).await? {
        opened.ledger.register(terms).await?;
    }
    Ok(())
}

async fn show(place: &LedgerArgs, ledger: &dyn Ledger) -> anyhow::Result<()> {
    let transcoders = ledger.transcoders().await?;
    if place.json {
        return say(serde_json::to_string_pretty(&transcoders)?);
    }
    let mut table = Table::new();
    table.set_header(["address", "node", "price per segment", "stake"]);
    for transcoder in transcoders {
        let node = NodeId::from_public_key(transcoder.node.0);
        table.add_row([
            transcoder.address.to_string(),
            node.to_string(),
            transcoder.price_per_segment.to_string(),
            transcoder.stake.to_string(),
        ]);
    }
    say(table)
}

async fn account(place: &LedgerArgs, at: &Place) -> anyhow::Result<()> {
    let account = at.account().await?;
    let standing = account.standing().await?;
    let rules = account.rules().await?;
    if place.json {
        let both = serde_json::json!({"account": standing, "rules": rules});
        return say(serde_json::to_string_pretty(&both)?);
    }
    let mut table = Table::new();
    let node = standing
        .node
        .map(|node| NodeId::from_public_key(node.0).to_string());
    table.add_row(["account", &standing.account.to_string()]);
    table.add_row(["coins for gas, in wei", &standing.coins.to_string()]);
    table.add_row([
        "balance in the contract, in wei",
        &standing.balance.to_string(),
    ]);
    table.add_row(["node", node.as_deref().unwrap_or("-")]);
    table.add_row(["price per segment, in wei", &standing.price.to_string()]);
    table.add_row(["stake in elections, in wei", &standing.stake.to_string()]);
    table.add_row(["bonded, in wei", &standing.bonded.to_string()]);
    table.add_row(["bonded until block", &standing.unbonds_at.to_string()]);
    table.add_row(["claims not settled", &standing.open_claims.to_string()]);
    table.add_row(["least stake, in wei", &rules.min_stake.to_string()]);
    table.add_row([
        "segments paid in advance",
        &rules.reserve_segments.to_string(),
    ]);
    say(table)
}
