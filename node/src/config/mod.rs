//! What a node is told: flags over HEADWATER_* environment over a TOML file over
//! defaults, all with the same names.
//!
//! [`Raw`] is what somebody said and where; [`Raw::parse`] makes a [`Config`] of it, or
//! tells everything that is wrong. Nothing else reads the environment.

mod check;
mod environment;
mod error;
pub mod file;
mod ledger;
mod raw;
mod setting;
mod value;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use headwater_chain::ethereum::ClaimConfig;
use headwater_media::{PackagerConfig, transcode::Ladder};
use headwater_proto::Roles;

pub use self::{
    environment::Environment,
    error::{ConfigErrors, Problem},
    ledger::{AccountConfig, AccountError, ChainConfig, JobCreation, KEYSTORE, LedgerConfig},
    raw::{Raw, Value},
    setting::Setting,
    value::{PasswordError, address, ladder, read_password},
};
use crate::{secret::Secret, telemetry::Logging};

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
    /// Neighbours at most, 8 to 10000. Few make long ways through the network; each
    /// costs buffers of up to some MiB while streams go over it.
    pub max_peers: u32,
    /// Public HTTP.
    pub http: SocketAddr,
    /// Admin HTTP.
    pub admin: SocketAddr,
    /// RTMP ingest of a broadcaster.
    pub rtmp: SocketAddr,
    /// Names and their secret keys.
    pub publish_keys: Vec<PublishKey>,
    /// Where jobs are.
    pub ledger: Option<LedgerConfig>,
    /// What jobs it creates by itself.
    pub jobs: JobCreation,
    /// How long the transcoder of a job may be silent before it is asked whether it is
    /// there, and replaced when it is not.
    pub reassign_after: Duration,
    /// Segments that a transcoder makes without a receipt before it stops a job.
    pub max_unpaid: usize,
    /// When a transcoder claims its receipts on a chain.
    pub claims: ClaimConfig,
    /// Its account.
    pub account: AccountConfig,
    /// Renditions to make.
    pub ladder: Ladder,
    /// Lengths of parts and segments.
    pub packager: PackagerConfig,
    /// How long a broadcast waits for its encoder.
    pub reconnect_window: Duration,
    /// How the process logs.
    pub logging: Logging,
    /// Where everything that the core is given and does is taken down.
    pub record: Option<PathBuf>,
}

/// A name and the key that publishes it.
#[derive(Debug, Clone)]
pub struct PublishKey {
    /// The name, 1 to 32 of `a-z 0-9 _ -`.
    pub name: String,
    /// The secret.
    pub key: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "/home/somebody";

    fn flags(pairs: &[(Setting, &str)]) -> Raw {
        pairs.iter().fold(Raw::default(), |raw, (key, text)| {
            raw.flag(*key, Some(*text))
        })
    }

    fn errors(raw: Raw) -> Vec<String> {
        let error = raw.at_home(Some(HOME.into())).parse().unwrap_err();
        error.problems().map(ToString::to_string).collect()
    }

    fn keys(keys: &[&str]) -> Raw {
        let keys: Vec<Secret> = keys.iter().map(|key| Secret::from(*key)).collect();
        Raw::default().flag(Setting::PublishKey, Some(keys))
    }

    fn file_of(text: &str) -> Raw {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        file::read(&path)
    }

    #[test]
    fn flags_win_over_the_environment_over_files_over_defaults() {
        let variables = [
            ("HEADWATER_PART", "150ms"),
            ("HEADWATER_SEGMENT", "3s"),
            ("HOME", HOME),
        ];
        let os = variables.map(|(name, value)| (name.into(), value.into()));
        let environment = Environment::read(os);
        let file = file_of("part = '300ms'\nsegment = '4s'\nreconnect_window = '5s'\n");

        let raw = flags(&[(Setting::Part, "100ms")])
            .over(environment.raw)
            .over(file)
            .at_home(environment.home);
        let config = raw.parse().unwrap();

        assert_eq!(config.packager.part, Duration::from_millis(100));
        assert_eq!(config.packager.segment, Duration::from_secs(3));
        assert_eq!(config.reconnect_window, Duration::from_secs(5));
        assert_eq!(config.http.port(), 8935);
        assert_eq!(config.data_dir, PathBuf::from("/home/somebody/.headwater"));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_what_is_accepted() {
        let raw = flags(&[
            (Setting::Part, "5s"),
            (Setting::Http, "8935"),
            (Setting::Ladder, "999p"),
            (Setting::MaxPeers, "3"),
            (Setting::Log, "blah"),
        ]);
        let raw = raw.flag(Setting::Listen, Some(vec!["nonsense".to_owned()]));
        let environment = Environment::read([("HEADWATER_RTMP".into(), "here".into())]);
        let file = file_of("ledger = 'jobs.book'\nbootstrap = ['/unix/a/tcp/1', '/ip4/1.2.3.4']\n");

        let errors = errors(raw.over(environment.raw).over(file));

        let expected = [
            ("--listen nonsense: ", "/ip4/192.0.2.1/tcp/4935"),
            ("node.toml: bootstrap = \"/unix/a/tcp/1\": ", "/ip4/ADDRESS"),
            ("node.toml: bootstrap = \"/ip4/1.2.3.4\": ", "/tcp/PORT"),
            ("--max-peers 3: ", "8 to 10000"),
            ("--http 8935: ", "IP:PORT"),
            ("HEADWATER_RTMP=here: ", "IP:PORT"),
            ("node.toml: ledger = \"jobs.book\": ", "file:PATH"),
            ("--ladder 999p: ", "720p"),
            ("--part 5s: ", "50ms to 2s"),
            ("--log blah: ", "debug"),
        ];
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, (place, accepted)) in errors.iter().zip(expected) {
            assert!(error.contains(place), "{place} in {error}");
            assert!(error.contains(accepted), "{accepted} in {error}");
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_refused() {
        let errors = errors(flags(&[
            (Setting::Transcoder, "yes"),
            (Setting::Segment, "1s"),
            (Setting::Part, "1500ms"),
            (Setting::Keystore, "/nonexistent/key.json"),
            (Setting::PasswordFile, "/nonexistent/password"),
        ]));

        let expected = [
            "--transcoder yes: a transcoder needs a ledger",
            "--keystore /nonexistent/key.json: No such file",
            "--password-file /nonexistent/password: No such file",
            "--part 1500ms: a part is no longer than a segment",
        ];
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, start) in errors.iter().zip(expected) {
            assert!(error.starts_with(start), "{start} in {error}");
        }
    }

    #[test]
    fn without_a_home_the_data_directory_has_to_be_named() {
        for home in [None, Some("".into()), Some("relative".into())] {
            let error = Raw::default().at_home(home).parse().unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("--data-dir: "), "{text}");
        }
        let named = flags(&[(Setting::DataDir, "/srv/node")]).at_home(None);
        assert_eq!(named.parse().unwrap().data_dir, PathBuf::from("/srv/node"));
    }

    #[test]
    fn a_refused_key_is_never_repeated() {
        for (given, hint) in [
            (&["show=sec ret77"][..], "8 to 128"),
            (&["secret77"], "NAME=KEY"),
            (&["a=secret77", "a=secret78"], "one key"),
            (&["a=secret77", "b=secret77"], "one key"),
        ] {
            let errors = errors(keys(given));
            assert_eq!(errors.len(), 1);
            assert!(errors[0].contains(hint), "{errors:?}");
            assert!(
                !errors[0].contains("ret7"),
                "the key is not repeated: {errors:?}"
            );
        }
        let raw = keys(&["show=secret77"]);
        assert!(!format!("{raw:?}").contains("secret77"));
        let config = raw.clone().at_home(Some(HOME.into())).parse().unwrap();
        assert!(!format!("{config:?}").contains("secret77"));
        let shown = raw.show();
        assert!(!shown.contains("secret77"), "{shown}");
        assert!(shown.contains("show=(hidden)"), "{shown}");
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let raw = flags(&[(Setting::Relayer, "yes"), (Setting::MaxPeers, "64")]);
        let shown = raw.at_home(Some(HOME.into())).show();

        assert!(shown.contains("relayer = true  # --relayer\n"), "{shown}");
        let again = file_of(&shown);
        assert!(again.problems.is_empty(), "{:?}", again.problems);
        let config = again.parse().unwrap();
        assert!(config.roles.relayer);
        assert_eq!(config.max_peers, 64);
        assert_eq!(config.data_dir, PathBuf::from("/home/somebody/.headwater"));
    }

    #[test]
    fn the_example_file_names_every_key_with_its_default() {
        let example = include_str!("../../node.example.toml");
        for line in Raw::defaults().show().lines() {
            if let Some(key) = line.strip_suffix(" is not set") {
                let key = key.trim_start_matches("# ");
                assert!(example.contains(&format!("\n#{key} = ")), "{key}");
            } else {
                assert!(example.contains(&format!("\n{line}\n")), "{line}");
            }
        }
        let given = file_of(example);
        assert!(given.problems.is_empty(), "{:?}", given.problems);
        given.at_home(Some(HOME.into())).parse().unwrap();
    }
}
