//! The command line: what can be asked of the program, and its exit codes. 0 is success,
//! 1 a command that failed, 2 a command line or configuration that was refused.

mod demo;
mod flags;
mod job;
mod keys;
mod ledger;
mod node;
mod peers;
mod place;
mod publish;
mod running;
mod status;
mod watch;

use std::{fmt, future::Future, path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use self::flags::NodeArgs;
use crate::{
    clock,
    config::{ConfigErrors, Environment, Raw, Setting},
    telemetry::{self, Logging},
};

/// Live video from one person to many over a peer-to-peer network.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// What is logged, on stderr: error, warn, info, debug, trace, or directives such as
    /// headwater=debug [default: info]
    #[arg(long, global = true, value_name = "FILTER", display_order = 100)]
    log: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"], display_order = 101)]
    log_format: Option<String>,
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
    Node(Box<node::RunArgs>),
    /// Run broadcaster, relay, transcoder and viewer on this machine and show a stream
    Demo(demo::DemoArgs),
    /// Send a file to a broadcaster as an encoder would, in real time
    Publish(publish::PublishArgs),
    /// Join the network, subscribe to a stream, and write or serve it
    Watch(watch::WatchArgs),
    /// Show this machine's node, or any node of the network
    Status(status::StatusArgs),
    /// Neighbours of a running node, and transcoders that it can find
    #[command(subcommand)]
    Peers(peers::PeersCommand),
    /// Node identities and Ethereum keys
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Transcoding jobs in a ledger
    #[command(subcommand)]
    Job(Box<job::JobCommand>),
    /// Transcoders in a ledger, and what an account has in one on a chain
    #[command(subcommand)]
    Ledger(Box<ledger::LedgerCommand>),
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
    /// Say whether the configuration is good, and if not everything that is wrong
    Check(Box<NodeArgs>),
    /// Print every value as it would be used and where it comes from, secrets left out
    Show(Box<NodeArgs>),
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
enum Failure {
    /// What it was told is wrong.
    Refused(ConfigErrors),
    /// It was told right, and could not.
    Failed(anyhow::Error),
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Refused(errors)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let flags = Raw::default()
        .flag(Setting::Log, cli.log)
        .flag(Setting::LogFormat, cli.log_format);
    let mut said = Environment::of_process();
    said.raw = flags.over(said.raw);
    match dispatch(cli.command, said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(errors)) => {
            errors.problems().for_each(|problem| complain(problem));
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            complain(&format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command, said: Environment) -> Result<(), Failure> {
    let raw = said.raw.clone();
    let log = |raw: &Raw| raw.clone().logging();
    match command {
        Command::Node(args) => {
            let record = args.record;
            let mut config = args.node.raw(said).parse()?;
            config.record = record;
            let logging = config.logging.clone();
            work(&logging, node::run(config))?;
        }
        Command::Config(ConfigCommand::Check(args)) => {
            args.raw(said).parse()?;
            say("the configuration is good")?;
        }
        Command::Config(ConfigCommand::Show(args)) => {
            let raw = args.raw(said);
            raw.clone().parse()?;
            say(raw.show().trim_end())?;
        }
        Command::Demo(args) => work(&log(&raw)?, demo::run(args))?,
        Command::Publish(args) => {
            let publish = args.looked_at()?;
            work(&log(&raw)?, publish::run(publish))?;
        }
        Command::Watch(args) => work(&log(&raw)?, watch::run(args))?,
        Command::Status(args) => {
            let admin = args.running.admin(&raw)?;
            work(&log(&raw)?, status::run(args, admin))?;
        }
        Command::Peers(command) => {
            let admin = command.running().admin(&raw)?;
            work(&log(&raw)?, peers::run(command, admin))?;
        }
        Command::Key(command) => {
            log(&raw)?;
            keys::run(command, said)?;
        }
        Command::Job(command) => {
            let place = command.place(&said)?;
            work(&log(&raw)?, job::run(*command, place))?;
        }
        Command::Ledger(command) => {
            let place = command.place(&raw)?;
            work(&log(&raw)?, ledger::run(*command, place))?;
        }
        Command::Completions { shell } => {
            log(&raw)?;
            completions(shell)?;
        }
    }
    Ok(())
}

/// Runs a command that waits for things.
fn work(
    logging: &Logging,
    command: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    telemetry::start(logging)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // The clock's zero is the program's start.
    let _zero = clock::now();
    let result = runtime.block_on(Box::pin(command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "headwater", &mut text);
    say(String::from_utf8(text)?.trim_end())
}

/// Prints a line that was asked for. A reader that has gone away is no error.
fn say(text: impl fmt::Display) -> anyhow::Result<()> {
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
fn complain(reason: &dyn fmt::Display) {
    eprintln!("error: {reason}");
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
fn local_raw(data_dir: &Path) -> anyhow::Result<Raw> {
    let data_dir = data_dir
        .to_str()
        .with_context(|| format!("{} is not a readable name", data_dir.display()))?;
    let any = Some("127.0.0.1:0");
    Ok(Raw::default()
        .flag(Setting::DataDir, Some(data_dir))
        .flag(
            Setting::Listen,
            Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
        )
        .flag(Setting::AllowPrivateDials, Some("yes"))
        .flag(Setting::Http, any)
        .flag(Setting::Admin, any)
        .flag(Setting::Rtmp, any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_fits_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_key_of_the_configuration_is_a_flag_of_a_node() {
        let mut cli = Cli::command();
        cli.build();
        let node = cli.find_subcommand("node").unwrap();
        for key in Setting::ALL {
            let flag = key.flag();
            let found = node
                .get_arguments()
                .any(|argument| argument.get_long() == Some(flag.trim_start_matches("--")));
            assert!(found, "{flag}");
        }
    }
}
