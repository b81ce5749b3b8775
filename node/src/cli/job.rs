//! `headwater job`.

use anyhow::Context as _;
use clap::Subcommand;
use comfy_table::Table;
use headwater_chain::{
    Job, JobFilter, JobId, NewJob, NodeKey, Wei,
    ethereum::{Action, ClaimConfig, Claims, Receipts},
};
use headwater_proto::MediaId;

use super::{
    place::{LedgerArgs, Place, SpendArgs},
    say,
};
use crate::{
    config::{ConfigErrors, Environment, Raw, Setting},
    ledger::{Make, Opened},
};

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// Create the job of a broadcast; one that has a job keeps it
    Create {
        #[command(flatten)]
        place: LedgerArgs,
        /// The broadcast
        id: MediaId,
        /// Renditions that are wanted
        #[arg(long, value_delimiter = ',', default_value = "720p,480p,360p")]
        ladder: Vec<String>,
        /// Highest price for a segment, in wei
        #[arg(long, default_value = "0")]
        max_price: Wei,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// List jobs
    List {
        #[command(flatten)]
        place: LedgerArgs,
        /// Also those that have ended
        #[arg(long)]
        all: bool,
    },
    /// Show a job
    Show {
        #[command(flatten)]
        place: LedgerArgs,
        /// Its number
        job: u64,
    },
    /// Elect the transcoder of an open job on a chain; nodes do it by themselves
    Assign {
        #[command(flatten)]
        place: LedgerArgs,
        /// Its number
        job: u64,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// Take a job from its transcoder and elect another
    Reassign {
        #[command(flatten)]
        place: LedgerArgs,
        /// Its number
        job: u64,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// End a job
    End {
        #[command(flatten)]
        place: LedgerArgs,
        /// Its number
        job: u64,
        #[command(flatten)]
        spend: SpendArgs,
    },
    /// Claim all receipts that a transcoder has for a job, now; its node must not run
    Claim {
        #[command(flatten)]
        place: LedgerArgs,
        /// Its number
        job: u64,
        /// The node's data directory [env: HEADWATER_DATA_DIR] [default: ~/.headwater]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<String>,
    },
}

impl JobCommand {
    pub(super) fn place(&self, said: &Environment) -> Result<Place, ConfigErrors> {
        match self {
            Self::Create { place, .. }
            | Self::List { place, .. }
            | Self::Show { place, .. }
            | Self::Assign { place, .. }
            | Self::Reassign { place, .. }
            | Self::End { place, .. } => place.place(&said.raw),
            Self::Claim {
                place, data_dir, ..
            } => {
                let flags = Raw::default().flag(Setting::DataDir, data_dir.clone());
                let raw = flags.over(said.raw.clone()).at_home(said.home.clone());
                Ok(place.place(&said.raw)?.of_node(raw.data_dir()?))
            }
        }
    }
}

/// Only what adds to a ledger makes one; for the others a book that is not there was
/// mistyped.
pub(super) async fn run(command: JobCommand, at: Place) -> anyhow::Result<()> {
    match command {
        JobCommand::Create {
            place,
            id,
            ladder,
            max_price,
            spend,
        } => {
            let stream = match id {
                MediaId::Manifest(manifest) => manifest.source(),
                MediaId::Stream(stream) => stream,
            };
            let job = NewJob {
                broadcaster: NodeKey(*stream.node.public_key()),
                stream: stream.to_string(),
                profiles: ladder,
                max_price_per_segment: max_price,
            };
            let action = Action::CreateJob {
                stream: job.stream.clone(),
                profiles: job.profiles.clone(),
                max_price,
            };
            let opened = at.open(Make::IfMissing).await?;
            if spend.agreed_in(opened.chain.as_ref(), &action).await? {
                let created = opened.ledger.create_job(job).await?;
                show(&place, &[created])?;
            }
            Ok(())
        }
        JobCommand::List { place, all } => {
            let filter = JobFilter {
                ended: all,
                ..JobFilter::default()
            };
            let jobs = at.open(Make::Never).await?.ledger.jobs(filter).await?;
            show(&place, &jobs)
        }
        JobCommand::Show { place, job } => {
            let opened = at.open(Make::Never).await?;
            show_one(&place, &opened, JobId(job)).await
        }
        JobCommand::Assign { place, job, spend } => assign(&place, &at, JobId(job), &spend).await,
        JobCommand::Reassign { place, job, spend } => {
            let opened = at.open(Make::Never).await?;
            let action = Action::Reassign(JobId(job));
            if spend.agreed_in(opened.chain.as_ref(), &action).await? {
                show(&place, &[opened.ledger.reassign(JobId(job)).await?])?;
            }
            Ok(())
        }
        JobCommand::End { place, job, spend } => {
            let opened = at.open(Make::Never).await?;
            let action = Action::End(JobId(job));
            if spend.agreed_in(opened.chain.as_ref(), &action).await? {
                show(&place, &[opened.ledger.end_job(JobId(job)).await?])?;
            }
            Ok(())
        }
        JobCommand::Claim { place, job, .. } => claim(&place, &at, JobId(job)).await,
    }
}

async fn assign(
    place: &LedgerArgs,
    at: &Place,
    job: JobId,
    spend: &SpendArgs,
) -> anyhow::Result<()> {
    let opened = at.open(Make::Never).await?;
    let chain = opened.chain.as_ref();
    let chain = chain.context("a job book elects by itself")?;
    let writer = chain.writer.as_ref();
    let writer = writer.context("this needs an account; say whose with --keystore")?;
    let action = Action::Assign(job);
    if spend.agreed(writer.account(), &action).await? {
        let block = writer.elect(job).await?;
        chain.ledger.reached(block).await?;
    }
    show_one(place, &opened, job).await
}

/// Claims what a transcoder that does not run has receipts for.
async fn claim(place: &LedgerArgs, at: &Place, job: JobId) -> anyhow::Result<()> {
    let account = at.account_of_node().await?;
    let receipts = Receipts::new(account.journal());
    let claims = Claims::new(account, receipts, ClaimConfig::default());
    claims.attend_job(job, true).await?;
    let made = claims.list(job)?;
    if place.json {
        return say(serde_json::to_string_pretty(&made)?);
    }
    let mut table = Table::new();
    table.set_header(["claim", "segments", "receipts", "state"]);
    for claim in made {
        table.add_row([
            claim.sequence.to_string(),
            format!("{} to {}", claim.first, claim.last),
            claim.count.to_string(),
            format!("{:?}", claim.state).to_lowercase(),
        ]);
    }
    say(table)
}

async fn show_one(place: &LedgerArgs, opened: &Opened, id: JobId) -> anyhow::Result<()> {
    let found = opened.ledger.job(id).await?;
    show(
        place,
        &[found.with_context(|| format!("there is no job {id}"))?],
    )
}

fn show(place: &LedgerArgs, jobs: &[Job]) -> anyhow::Result<()> {
    if place.json {
        return say(serde_json::to_string_pretty(jobs)?);
    }
    let mut table = Table::new();
    table.set_header(["job", "state", "transcoder", "round", "stream"]);
    for job in jobs {
        let transcoder = job.transcoder.as_ref().map(|t| t.address.to_string());
        table.add_row([
            job.id.to_string(),
            format!("{:?}", job.state).to_lowercase(),
            transcoder.unwrap_or_else(|| "-".to_owned()),
            job.round.to_string(),
            job.stream.clone(),
        ]);
    }
    say(table)
}
