//! `headwater job` and `headwater ledger`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use comfy_table::Table;
use headwater_chain::{
    Address, Job, JobBook, JobFilter, JobId, Ledger, NewJob, NodeKey, Transcoder, Wei,
};
use headwater_proto::{MediaId, NodeId};

use super::say;
use crate::config::{ConfigErrors, Raw, Setting};

#[derive(Debug, Args)]
pub(super) struct BookArgs {
    /// The ledger: file:PATH [env: HEADWATER_LEDGER]
    #[arg(long, value_name = "URL")]
    ledger: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BookArgs {
    /// Where the job book is.
    pub(super) fn path(&self, said: &Raw) -> Result<PathBuf, ConfigErrors> {
        let flags = Raw::default().flag(Setting::Ledger, self.ledger.clone());
        flags.over(said.clone()).job_book()
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// Create the job of a broadcast; one that has a job keeps it
    Create {
        #[command(flatten)]
        book: BookArgs,
        /// The broadcast
        id: MediaId,
        /// Renditions that are wanted
        #[arg(long, value_delimiter = ',', default_value = "720p,480p,360p")]
        ladder: Vec<String>,
        /// Highest price for a segment, in wei
        #[arg(long, default_value = "0")]
        max_price: Wei,
    },
    /// List jobs
    List {
        #[command(flatten)]
        book: BookArgs,
        /// Also those that have ended
        #[arg(long)]
        all: bool,
    },
    /// Show a job
    Show {
        #[command(flatten)]
        book: BookArgs,
        /// Its number
        job: u64,
    },
    /// Take a job from its transcoder and elect another
    Reassign {
        #[command(flatten)]
        book: BookArgs,
        /// Its number
        job: u64,
    },
    /// End a job
    End {
        #[command(flatten)]
        book: BookArgs,
        /// Its number
        job: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Register a transcoder, or change its terms
    Register {
        #[command(flatten)]
        book: BookArgs,
        /// Its Ethereum address
        #[arg(long)]
        address: Address,
        /// Its node
        #[arg(long)]
        node: NodeId,
        /// What it asks for a segment, in wei
        #[arg(long, default_value = "0")]
        price: Wei,
        /// Its weight in elections
        #[arg(long, default_value = "1")]
        stake: Wei,
    },
    /// Take a transcoder out of elections
    Unregister {
        #[command(flatten)]
        book: BookArgs,
        /// Its Ethereum address
        #[arg(long)]
        address: Address,
    },
    /// List the registered transcoders
    Show {
        #[command(flatten)]
        book: BookArgs,
    },
}

impl JobCommand {
    pub(super) const fn book(&self) -> &BookArgs {
        let (Self::Create { book, .. }
        | Self::List { book, .. }
        | Self::Show { book, .. }
        | Self::Reassign { book, .. }
        | Self::End { book, .. }) = self;
        book
    }
}

impl LedgerCommand {
    pub(super) const fn book(&self) -> &BookArgs {
        let (Self::Register { book, .. } | Self::Unregister { book, .. } | Self::Show { book }) =
            self;
        book
    }
}

/// Only what adds to a ledger makes one; for the others a book that is not there was
/// mistyped.
pub(super) async fn run_job(command: JobCommand, path: PathBuf) -> anyhow::Result<()> {
    match command {
        JobCommand::Create {
            book,
            id,
            ladder,
            max_price,
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
            let created = JobBook::open(&path)?.create_job(job).await?;
            show(&book, &[created])
        }
        JobCommand::List { book, all } => {
            let filter = JobFilter {
                ended: all,
                ..JobFilter::default()
            };
            let jobs = JobBook::open_existing(&path)?.jobs(filter).await?;
            show(&book, &jobs)
        }
        JobCommand::Show { book, job } => {
            let found = JobBook::open_existing(&path)?.job(JobId(job)).await?;
            show(
                &book,
                &[found.with_context(|| format!("there is no job {job}"))?],
            )
        }
        JobCommand::Reassign { book, job } => {
            let job = JobBook::open_existing(&path)?.reassign(JobId(job)).await?;
            show(&book, &[job])
        }
        JobCommand::End { book, job } => {
            let job = JobBook::open_existing(&path)?.end_job(JobId(job)).await?;
            show(&book, &[job])
        }
    }
}

fn show(book: &BookArgs, jobs: &[Job]) -> anyhow::Result<()> {
    if book.json {
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

pub(super) async fn run_ledger(command: LedgerCommand, path: PathBuf) -> anyhow::Result<()> {
    match command {
        LedgerCommand::Register {
            book,
            address,
            node,
            price,
            stake,
        } => {
            let transcoder = Transcoder {
                address,
                node: NodeKey(*node.public_key()),
                price_per_segment: price,
                stake,
            };
            let ledger = JobBook::open(&path)?;
            ledger.register(transcoder).await?;
            transcoders(&book, &ledger).await
        }
        LedgerCommand::Unregister { book, address } => {
            let ledger = JobBook::open_existing(&path)?;
            ledger.unregister(address).await?;
            transcoders(&book, &ledger).await
        }
        LedgerCommand::Show { book } => transcoders(&book, &JobBook::open_existing(&path)?).await,
    }
}

async fn transcoders(book: &BookArgs, ledger: &JobBook) -> anyhow::Result<()> {
    let transcoders = ledger.transcoders().await?;
    if book.json {
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
