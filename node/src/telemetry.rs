//! The log, on stderr; stdout is for what a command is asked for.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts the log. `filter` is a level, or directives such as `headwater=debug`.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(filter: &str, format: Format) -> anyhow::Result<()> {
    let directives = if filter.contains(['=', ',']) {
        filter.to_owned()
    } else {
        format!(
            "warn,libp2p_kad=error,headwater={filter},headwater_media={filter},headwater_chain={filter}"
        )
    };
    let filter = EnvFilter::try_new(directives)?;
    let log = fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        Format::Text => log.init(),
        Format::Json => log.json().init(),
    }
    Ok(())
}
