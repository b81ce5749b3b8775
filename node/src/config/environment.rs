//! What the environment says.

use std::{ffi::OsString, path::PathBuf};

use super::{
    error::Problem,
    raw::{Raw, Source, split},
    setting::{PREFIX, Setting},
};

/// The variable that names the configuration file.
const CONFIG: &str = "HEADWATER_CONFIG";
/// The variable that holds a private key, for tests and trials; it wins over a keystore.
pub(super) const PRIVATE_KEY: &str = "HEADWATER_PRIVATE_KEY";
/// A cluster's scheduler sets variables of these names for a service called `headwater`;
/// they are not meant for this program.
const FOREIGN: [&str; 2] = ["HEADWATER_PORT", "HEADWATER_SERVICE_"];

/// What the environment says, read once when the program starts.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Values of keys, and variables that are no key's.
    pub raw: Raw,
    /// The configuration file of a node.
    pub config: Option<PathBuf>,
    /// The home directory.
    pub home: Option<OsString>,
}

impl Environment {
    /// Reads this process's environment.
    #[must_use]
    pub fn of_process() -> Self {
        Self::read(std::env::vars_os())
    }

    /// Reads variables. One whose name begins with `HEADWATER_` and is no key's is a
    /// problem, as it was certainly meant to say something.
    pub fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut this = Self::default();
        let mut variables: Vec<_> = variables.into_iter().collect();
        variables.sort();
        for (name, value) in variables {
            let Some(name) = name.to_str() else {
                continue;
            };
            match name {
                "HOME" => this.home = Some(value),
                CONFIG if value.is_empty() => {
                    this.raw.problems.push(Problem::new(name, "it is empty"));
                }
                CONFIG => this.config = Some(value.into()),
                PRIVATE_KEY => {
                    let text = value.to_string_lossy().into_owned();
                    this.raw.private_key = Some(text.into());
                }
                _ if name.starts_with(PREFIX) => this.take(name, &value),
                _ => {}
            }
        }
        this
    }

    fn take(&mut self, name: &str, value: &OsString) {
        let Some(key) = Setting::of_variable(name) else {
            if !FOREIGN.iter().any(|foreign| name.starts_with(foreign)) {
                let reason = "no such variable; `headwater node --help` lists the flags, \
                              and each has one";
                self.raw.problems.push(Problem::new(name, reason));
            }
            return;
        };
        match value.to_str() {
            Some(text) => self
                .raw
                .put(key, split(key, text.trim()), Source::Environment),
            None => self
                .raw
                .problems
                .push(Problem::new(name, "its value is not UTF-8")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let os = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        Environment::read(variables.iter().map(os))
    }

    #[test]
    fn an_unknown_variable_is_named_and_others_are_left_alone() {
        let environment = read(&[
            ("HEADWATER_RELAYR", "1"),
            ("HEADWATER_PORT_8935_TCP", "tcp://10.0.0.1:8935"),
            ("HEADWATER_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ]);

        let problems: Vec<_> = environment
            .raw
            .problems
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("HEADWATER_RELAYR: "));
    }

    #[test]
    fn switches_are_read_in_all_usual_spellings() {
        for (text, on) in [("1", true), ("yes", true), ("TRUE", true), ("no", false)] {
            let raw = read(&[("HEADWATER_RELAYER", text)]).raw;
            let config = raw.at_home(Some("/home/a".into())).parse().unwrap();
            assert_eq!(config.roles.relayer, on, "{text}");
        }
        let raw = read(&[("HEADWATER_RELAYER", "maybe")]).raw;
        let error = raw.at_home(Some("/home/a".into())).parse().unwrap_err();
        assert_eq!(
            error.to_string(),
            "HEADWATER_RELAYER=maybe: yes or no, true or false, 1 or 0"
        );
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let raw = read(&[(
            "HEADWATER_LISTEN",
            "/ip4/127.0.0.1/tcp/1,/ip4/127.0.0.1/tcp/2",
        )])
        .raw;
        let config = raw.at_home(Some("/home/a".into())).parse().unwrap();
        assert_eq!(config.listen.len(), 2);
    }
}
