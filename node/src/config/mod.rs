//! What a node is told: flags over HEADWATER_* environment over a TOML file over
//! defaults, all with the same names.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use headwater_media::{PackagerConfig, transcode::Ladder};
use headwater_proto::Roles;
use serde::{Deserialize, Serialize};

/// What somebody typed, before it is looked at. Everything is optional.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Take streams in from encoders
    #[arg(long, env = "HEADWATER_BROADCASTER", num_args = 0..=1, default_missing_value = "true")]
    pub broadcaster: Option<bool>,
    /// Carry any stream for others, and be a node to bootstrap from
    #[arg(long, env = "HEADWATER_RELAYER", num_args = 0..=1, default_missing_value = "true")]
    pub relayer: Option<bool>,
    /// Make renditions of streams whose job is assigned to this node
    #[arg(long, env = "HEADWATER_TRANSCODER", num_args = 0..=1, default_missing_value = "true")]
    pub transcoder: Option<bool>,
    /// Where identity and state are kept [default: ~/.headwater]
    #[arg(long, env = "HEADWATER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Multiaddr to listen on; repeatable
    /// [default: /ip4/0.0.0.0/tcp/4935 and /ip4/0.0.0.0/udp/4935/quic-v1]
    #[arg(
        long,
        env = "HEADWATER_LISTEN",
        value_name = "MULTIADDR",
        value_delimiter = ','
    )]
    pub listen: Option<Vec<String>>,
    /// Multiaddr of a node to begin with; repeatable
    #[arg(
        long,
        env = "HEADWATER_BOOTSTRAP",
        value_name = "MULTIADDR",
        value_delimiter = ','
    )]
    pub bootstrap: Option<Vec<String>>,
    /// Multiaddr under which others reach this node, when it cannot know it; repeatable
    #[arg(
        long,
        env = "HEADWATER_EXTERNAL_ADDR",
        value_name = "MULTIADDR",
        value_delimiter = ','
    )]
    pub external_addr: Option<Vec<String>>,
    /// Dial private and loopback addresses that other nodes tell of; for networks at home
    /// and tests
    #[arg(long, env = "HEADWATER_ALLOW_PRIVATE_DIALS", num_args = 0..=1, default_missing_value = "true")]
    pub allow_private_dials: Option<bool>,
    /// Where players fetch streams [default: 127.0.0.1:8935]
    #[arg(long, env = "HEADWATER_HTTP", value_name = "ADDR")]
    pub http: Option<String>,
    /// Where `headwater status` and monitors ask [default: 127.0.0.1:7935]
    #[arg(long, env = "HEADWATER_ADMIN", value_name = "ADDR")]
    pub admin: Option<String>,
    /// Where encoders publish to a broadcaster [default: 127.0.0.1:1935]
    #[arg(long, env = "HEADWATER_RTMP", value_name = "ADDR")]
    pub rtmp: Option<String>,
    /// A name and the secret key an encoder publishes it with; repeatable. Without any, a
    /// key for the name `live` is made on the first start
    #[arg(
        hide_env_values = true,
        long,
        env = "HEADWATER_PUBLISH_KEY",
        value_name = "NAME=KEY",
        value_delimiter = ','
    )]
    pub publish_key: Option<Vec<String>>,
    /// The ledger of jobs: file:PATH, a job book that several nodes of one machine share
    #[arg(long, env = "HEADWATER_LEDGER", value_name = "URL")]
    pub ledger: Option<String>,
    /// Create a transcoding job when a broadcast begins [default: true with a job book]
    #[arg(long, env = "HEADWATER_CREATE_JOBS", num_args = 0..=1, default_missing_value = "true")]
    pub create_jobs: Option<bool>,
    /// Keystore of the transcoder's Ethereum key [default: DATA_DIR/ethereum.json]
    #[arg(long, env = "HEADWATER_KEYSTORE", value_name = "FILE")]
    pub keystore: Option<PathBuf>,
    /// File with the keystore's password
    #[arg(long, env = "HEADWATER_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Renditions a transcoder makes: names such as 720p,480p,360p, or a TOML file
    /// [default: 720p,480p,360p]
    #[arg(long, env = "HEADWATER_LADDER", value_name = "LADDER")]
    pub ladder: Option<String>,
    /// Length of a segment, 500ms to 10s [default: 2s]
    #[arg(long, env = "HEADWATER_SEGMENT", value_name = "DURATION")]
    pub segment: Option<String>,
    /// Length of a part, 50ms to 2s [default: 200ms]
    #[arg(long, env = "HEADWATER_PART", value_name = "DURATION")]
    pub part: Option<String>,
    /// How long a broadcast waits for an encoder that was cut off, 0s to 1h [default: 30s]
    #[arg(long, env = "HEADWATER_RECONNECT_WINDOW", value_name = "DURATION")]
    pub reconnect_window: Option<String>,
}

/// What a node does. Every value has been looked at.
#[derive(Debug, Clone)]
pub struct Config {
    /// What it does for the network.
    pub roles: Roles,
    /// Where identity and state are kept.
    pub data_dir: PathBuf,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs to begin with.
    pub bootstrap: Vec<String>,
    /// Multiaddrs under which others reach it.
    pub external: Vec<String>,
    /// Dial private addresses.
    pub allow_private_dials: bool,
    /// Public HTTP.
    pub http: SocketAddr,
    /// Admin HTTP.
    pub admin: SocketAddr,
    /// RTMP ingest of a broadcaster.
    pub rtmp: SocketAddr,
    /// Names and their secret keys.
    pub publish_keys: Vec<PublishKey>,
    /// The job book.
    pub ledger: Option<PathBuf>,
    /// Create jobs by itself.
    pub create_jobs: bool,
    /// The transcoder's key.
    pub keystore: PathBuf,
    /// Its password.
    pub password_file: Option<PathBuf>,
    /// Renditions to make.
    pub ladder: Ladder,
    /// Lengths of parts and segments.
    pub packager: PackagerConfig,
    /// How long a broadcast waits for its encoder.
    pub reconnect_window: Duration,
}

/// A name and the key that publishes it.
#[derive(Clone)]
pub struct PublishKey {
    /// The name, 1 to 32 of `a-z 0-9 _ -`.
    pub name: String,
    /// The secret.
    pub key: String,
}

impl std::fmt::Debug for PublishKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublishKey({}=..)", self.name)
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read, or is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A value that is refused.
    #[error("{key} = {value:?}: {reason}")]
    Value {
        /// The key, as in the file; a flag has `-` for `_`.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        reason: String,
    },
}

fn refused(key: &'static str, value: &str, reason: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_owned(),
        reason: reason.to_string(),
    }
}

impl Raw {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read or has a key that is not known.
    pub fn from_file(path: &std::path::Path) -> Result<Self, ConfigError> {
        let failed = |reason: String| ConfigError::File {
            path: path.display().to_string(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        toml::from_str(&text).map_err(|error| failed(readable(&text, &error)))
    }

    /// What is given here, and where nothing is, what `base` gives.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        Self {
            broadcaster: self.broadcaster.or(base.broadcaster),
            relayer: self.relayer.or(base.relayer),
            transcoder: self.transcoder.or(base.transcoder),
            data_dir: self.data_dir.or(base.data_dir),
            listen: self.listen.or(base.listen),
            bootstrap: self.bootstrap.or(base.bootstrap),
            external_addr: self.external_addr.or(base.external_addr),
            allow_private_dials: self.allow_private_dials.or(base.allow_private_dials),
            http: self.http.or(base.http),
            admin: self.admin.or(base.admin),
            rtmp: self.rtmp.or(base.rtmp),
            publish_key: self.publish_key.or(base.publish_key),
            ledger: self.ledger.or(base.ledger),
            create_jobs: self.create_jobs.or(base.create_jobs),
            keystore: self.keystore.or(base.keystore),
            password_file: self.password_file.or(base.password_file),
            ladder: self.ladder.or(base.ladder),
            segment: self.segment.or(base.segment),
            part: self.part.or(base.part),
            reconnect_window: self.reconnect_window.or(base.reconnect_window),
        }
    }

    /// Every value with its default, secrets left out, as a configuration file.
    #[must_use]
    pub fn effective(self) -> Self {
        let hide = |key: &String| {
            let name = key.split_once('=').map_or("", |(name, _)| name);
            format!("{name}=(hidden)")
        };
        let publish_key = self
            .publish_key
            .as_ref()
            .map(|keys| keys.iter().map(hide).collect());
        Self {
            publish_key,
            ..self.over(Self::defaults())
        }
    }

    /// What holds where nothing is said.
    #[must_use]
    pub fn defaults() -> Self {
        let text = |text: &str| Some(text.to_owned());
        let home = std::env::var_os("HOME").map_or_else(PathBuf::new, PathBuf::from);
        Self {
            broadcaster: Some(false),
            relayer: Some(false),
            transcoder: Some(false),
            data_dir: Some(home.join(".headwater")),
            listen: Some(vec![
                "/ip4/0.0.0.0/tcp/4935".to_owned(),
                "/ip4/0.0.0.0/udp/4935/quic-v1".to_owned(),
            ]),
            bootstrap: Some(Vec::new()),
            external_addr: Some(Vec::new()),
            allow_private_dials: Some(false),
            http: text("127.0.0.1:8935"),
            admin: text("127.0.0.1:7935"),
            rtmp: text("127.0.0.1:1935"),
            publish_key: Some(Vec::new()),
            ledger: None,
            create_jobs: Some(true),
            keystore: None,
            password_file: None,
            ladder: text("720p,480p,360p"),
            segment: text("2s"),
            part: text("200ms"),
            reconnect_window: text("30s"),
        }
    }

    /// Looks at every value.
    ///
    /// # Errors
    /// Names the first value that is refused, and what is accepted.
    pub fn parse(self) -> Result<Config, ConfigError> {
        let raw = self.over(Self::defaults());
        let data_dir = raw.data_dir.unwrap_or_default();
        let segment = duration("segment", raw.segment, 500, 10_000)?;
        let part = duration("part", raw.part, 50, 2000)?;
        if part > segment {
            let value = humantime::format_duration(part).to_string();
            return Err(refused(
                "part",
                &value,
                &"a part is no longer than a segment",
            ));
        }
        let ladder = raw.ladder.unwrap_or_default();
        let parsed = if ladder.ends_with(".toml") || ladder.contains('/') {
            Ladder::from_file(ladder.as_ref())
        } else {
            ladder.parse()
        };
        Ok(Config {
            roles: Roles {
                broadcaster: raw.broadcaster.unwrap_or_default(),
                relayer: raw.relayer.unwrap_or_default(),
                transcoder: raw.transcoder.unwrap_or_default(),
            },
            listen: raw.listen.unwrap_or_default(),
            bootstrap: raw.bootstrap.unwrap_or_default(),
            external: raw.external_addr.unwrap_or_default(),
            allow_private_dials: raw.allow_private_dials.unwrap_or_default(),
            http: address("http", raw.http)?,
            admin: address("admin", raw.admin)?,
            rtmp: address("rtmp", raw.rtmp)?,
            publish_keys: publish_keys(&raw.publish_key.unwrap_or_default())?,
            ledger: raw.ledger.as_deref().map(ledger).transpose()?,
            create_jobs: raw.create_jobs.unwrap_or_default(),
            keystore: raw
                .keystore
                .unwrap_or_else(|| data_dir.join("ethereum.json")),
            password_file: raw.password_file,
            ladder: parsed.map_err(|error| refused("ladder", &ladder, &error))?,
            packager: PackagerConfig { part, segment },
            reconnect_window: duration("reconnect_window", raw.reconnect_window, 0, 3_600_000)?,
            data_dir,
        })
    }
}

/// What is wrong with a file, without repeating a line that holds secrets.
fn readable(text: &str, error: &toml::de::Error) -> String {
    let before = &text[..error.span().map_or(0, |span| span.start).min(text.len())];
    let number = before.matches('\n').count();
    let secret = text
        .lines()
        .nth(number)
        .is_some_and(|line| line.contains("publish_key"));
    if secret {
        format!(
            "line {}: publish_key is a list such as [\"NAME=KEY\"]",
            number + 1
        )
    } else {
        error.to_string()
    }
}

/// Reads the URL of a ledger; only job books are spoken by this version.
///
/// # Errors
/// Says what is accepted.
pub fn ledger(url: &str) -> Result<PathBuf, ConfigError> {
    if let Some(path) = url.strip_prefix("file:").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let chain = ["http://", "https://", "ws://", "wss://"]
        .iter()
        .any(|s| url.starts_with(s));
    let reason = if chain {
        "Ethereum is not spoken by this version; use file:PATH"
    } else {
        "a ledger is file:PATH"
    };
    Err(refused("ledger", url, &reason))
}

fn address(key: &'static str, text: Option<String>) -> Result<SocketAddr, ConfigError> {
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| {
        refused(
            key,
            &text,
            &"an address is IP:PORT, such as 127.0.0.1:8935 or [::]:8935",
        )
    })
}

fn duration(
    key: &'static str,
    text: Option<String>,
    min_ms: u64,
    max_ms: u64,
) -> Result<Duration, ConfigError> {
    let text = text.unwrap_or_default();
    let span = humantime::parse_duration(&text)
        .map_err(|_| refused(key, &text, &"a duration has a unit, such as 200ms or 2s"))?;
    let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
    if span < min || span > max {
        let [min, max] = [min, max].map(humantime::format_duration);
        return Err(refused(key, &text, &format!("accepted is {min} to {max}")));
    }
    Ok(span)
}

fn publish_keys(texts: &[String]) -> Result<Vec<PublishKey>, ConfigError> {
    let mut keys: Vec<PublishKey> = Vec::new();
    for text in texts {
        // The value is a secret and is not repeated.
        let refused = |reason: &str| refused("publish_key", "(hidden)", &reason);
        let (name, key) = text
            .split_once('=')
            .ok_or_else(|| refused("a publish key is NAME=KEY"))?;
        if name.parse::<headwater_proto::RenditionName>().is_err() {
            return Err(refused("a name is 1 to 32 of a-z, 0-9, '-' and '_'"));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if key.len() < 8 || key.len() > 128 || !key.bytes().all(plain) {
            return Err(refused("a key is 8 to 128 letters, digits, '-' and '_'"));
        }
        if keys
            .iter()
            .any(|other| other.name == name || other.key == key)
        {
            return Err(refused("each name has one key, and each key one name"));
        }
        keys.push(PublishKey {
            name: name.to_owned(),
            key: key.to_owned(),
        });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(raw: Raw) -> String {
        raw.parse().unwrap_err().to_string()
    }

    #[test]
    fn flags_win_over_files_and_files_over_defaults() {
        let flags = Raw {
            part: Some("100ms".into()),
            ..Raw::default()
        };
        let file: Raw = toml::from_str("part = '300ms'\nsegment = '4s'\nrelayer = true").unwrap();

        let config = flags.over(file).parse().unwrap();

        assert_eq!(config.packager.part, Duration::from_millis(100));
        assert_eq!(config.packager.segment, Duration::from_secs(4));
        assert!(config.roles.relayer);
        assert_eq!(config.http.port(), 8935);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<Raw>("relayr = true")
            .unwrap_err()
            .to_string();
        assert!(error.contains("relayr"), "{error}");
    }

    #[test]
    fn bad_values_are_named_with_what_is_accepted() {
        let text = |text: &str| Some(text.to_owned());
        let part = error(Raw {
            part: text("5s"),
            ..Raw::default()
        });
        assert!(
            part.contains("part") && part.contains("50ms to 2s"),
            "{part}"
        );
        let http = error(Raw {
            http: text("8935"),
            ..Raw::default()
        });
        assert!(http.contains("IP:PORT"), "{http}");
        let chain = error(Raw {
            ledger: text("ws://node"),
            ..Raw::default()
        });
        assert!(chain.contains("file:PATH"), "{chain}");
        let ladder = error(Raw {
            ladder: text("999p"),
            ..Raw::default()
        });
        assert!(ladder.contains("999p"), "{ladder}");
    }

    #[test]
    fn a_refused_key_is_not_repeated() {
        let raw = |keys: &[&str]| Raw {
            publish_key: Some(keys.iter().map(ToString::to_string).collect()),
            ..Raw::default()
        };
        assert!(!error(raw(&["show=sec ret77"])).contains("ret77"));
        assert!(error(raw(&["a=12345678", "a=87654321"])).contains("one key"));
        let shown = toml::to_string(&raw(&["show=secret77"]).effective()).unwrap();
        assert!(
            !shown.contains("secret77") && shown.contains("show=(hidden)"),
            "{shown}"
        );
    }

    #[test]
    fn a_broken_line_with_a_key_is_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        for line in [
            "publish_key = 'show=secret77'",
            "publish_key = ['show=secret77",
        ] {
            std::fs::write(&path, format!("relayer = true\n{line}\n")).unwrap();
            let error = Raw::from_file(&path).unwrap_err().to_string();
            assert!(!error.contains("secret77"), "{error}");
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn the_example_file_holds_every_default() {
        let file: Raw = toml::from_str(include_str!("../node.example.toml")).unwrap();
        let defaults = Raw::defaults();
        assert_eq!(file.listen, defaults.listen);
        assert_eq!(file.segment, defaults.segment);
        assert_eq!(file.ladder, defaults.ladder);
        assert_eq!(file.reconnect_window, defaults.reconnect_window);
        file.parse().unwrap();
    }
}
