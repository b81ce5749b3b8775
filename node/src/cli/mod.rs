//! The command line.

mod book;
mod demo;
mod keys;
mod node;
mod publish;
mod status;
mod watch;

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    clock,
    config::Raw,
    telemetry::{self, Format},
};

/// Live video from one person to many over a peer-to-peer network.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// Log level (error, warn, info, debug, trace), or directives such as headwater=debug
    #[arg(long, global = true, default_value = "info", env = "HEADWATER_LOG")]
    log: String,
    /// How log lines look
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        env = "HEADWATER_LOG_FORMAT"
    )]
    log_format: Format,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  headwater demo                                   a whole network on this machine
  headwater node --relayer                         carry streams for others
  headwater node --broadcaster --bootstrap /ip4/192.0.2.1/tcp/4935
  headwater publish film.mp4 --to rtmp://127.0.0.1/live/KEY
  headwater watch ID --bootstrap /ip4/192.0.2.1/tcp/4935 -o film.mp4";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node; its roles are flags and combine
    Node(node::NodeArgs),
    /// Run broadcaster, relay, transcoder and viewer on this machine and show a stream
    Demo(demo::DemoArgs),
    /// Send a file to a broadcaster as an encoder would, in real time
    Publish(publish::PublishArgs),
    /// Join the network, subscribe to a stream, and write or serve it
    Watch(watch::WatchArgs),
    /// Show this machine's node, or any node of the network
    Status(status::StatusArgs),
    /// Node identities and Ethereum keys
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Transcoding jobs in a ledger
    #[command(subcommand)]
    Job(book::JobCommand),
    /// Transcoders in a ledger
    #[command(subcommand)]
    Ledger(book::LedgerCommand),
    /// Look at a node's configuration without running it
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration is good, and if not what is wrong
    Check(node::NodeArgs),
    /// Print every value as it would be used, secrets left out
    Show(node::NodeArgs),
}

/// Runs what the command line says; the result is the exit code.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let run = || -> anyhow::Result<()> {
        telemetry::start(&cli.log, cli.log_format)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        // The clock's zero is the program's start.
        let _zero = clock::now();
        let result = runtime.block_on(dispatch(cli.command));
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        result
    };
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            std::process::ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Node(args) => node::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Publish(args) => publish::run(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Key(command) => keys::run(command),
        Command::Job(command) => book::run_job(command).await,
        Command::Ledger(command) => book::run_ledger(command).await,
        Command::Config(ConfigCommand::Check(args)) => {
            args.raw()?.parse()?;
            say("the configuration is good")
        }
        Command::Config(ConfigCommand::Show(args)) => {
            let raw = args.raw()?;
            raw.clone().parse()?;
            say(toml::to_string(&raw.effective())?.trim_end())
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "headwater", &mut text);
            say(String::from_utf8(text)?.trim_end())
        }
    }
}

/// Prints a line that was asked for. A reader that has gone away is no error.
fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    use std::io::Write as _;
    let written = writeln!(std::io::stdout(), "{text}");
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the one place where a failed command says why"
)]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = term.recv() => {}
    }
    Ok(())
}

/// A configuration of a node that lives in one command: loopback, free ports.
fn local_raw(data_dir: PathBuf) -> Raw {
    let any = || Some("127.0.0.1:0".to_owned());
    Raw {
        data_dir: Some(data_dir),
        listen: Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
        allow_private_dials: Some(true),
        http: any(),
        admin: any(),
        rtmp: any(),
        ..Raw::default()
    }
}
