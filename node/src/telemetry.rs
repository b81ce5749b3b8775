//! The log, on stderr; stdout is for what a command is asked for.

use std::{io::IsTerminal as _, str::FromStr};

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt as _};

/// How a process logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// What is logged.
    pub filter: Filter,
    /// How lines look.
    pub format: Format,
}

/// What is logged.
///
/// Text form: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or directives
/// such as `headwater=debug,libp2p_kad=info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

impl FromStr for Filter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let level = ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
        let directives = if level {
            format!(
                "warn,libp2p_kad=error,headwater={text},headwater_media={text},headwater_chain={text}"
            )
        } else {
            text.to_owned()
        };
        let read = text.contains('=') && EnvFilter::try_new(&directives).is_ok();
        if level || read {
            Ok(Self(directives))
        } else {
            Err(
                "a level is off, error, warn, info, debug or trace; directives are such as \
                 headwater=debug,libp2p_kad=info",
            )
        }
    }
}

/// How log lines look. Text form: `text` or `json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json"),
        }
    }
}

/// Starts the log of this process, once.
///
/// # Errors
/// When it was started before.
pub fn start(logging: &Logging) -> anyhow::Result<()> {
    let log = fmt()
        .with_env_filter(EnvFilter::try_new(&logging.filter.0)?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match logging.format {
        Format::Text => log.finish().try_init()?,
        Format::Json => log.json().finish().try_init()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_read_and_nothing_else() {
        for good in ["off", "info", "trace", "headwater=debug,libp2p_kad=info"] {
            assert!(good.parse::<Filter>().is_ok(), "{good}");
        }
        for bad in ["", "blah", "INFORMATION", "headwater=blah", "a,b"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!("xml".parse::<Format>().is_err());
    }
}
