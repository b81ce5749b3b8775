//! What somebody said, with where it was said, before it is looked at.

use std::{collections::BTreeMap, ffi::OsString, fmt::Write as _, path::PathBuf, sync::Arc};

use super::{
    error::Problem,
    setting::{Kind, Setting},
};
use crate::secret::Secret;

/// Values by key; what is not there has not been said.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    given: BTreeMap<Setting, Given>,
    /// The private key of the node's account, in hex; only the environment says it.
    pub(super) private_key: Option<Secret>,
    /// What could not even be taken in as text.
    pub(super) problems: Vec<Problem>,
}

/// A value and where it was said.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) source: Source,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// For a switch, a number or a text.
    One(String),
    /// For a list.
    Many(Vec<String>),
    /// For a list whose values are not shown.
    Hidden(Vec<Secret>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::One(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::One(text)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Many(texts)
    }
}

impl From<Vec<Secret>> for Value {
    fn from(secrets: Vec<Secret>) -> Self {
        Self::Hidden(secrets)
    }
}

impl Value {
    /// The same in the form that the key's values have.
    fn fit(self, key: Setting) -> Self {
        match (key.kind(), self) {
            (Kind::Switch | Kind::Number | Kind::Text, Self::Many(texts)) => {
                Self::One(texts.join(","))
            }
            (Kind::List, Self::One(text)) => Self::Many(vec![text]),
            (Kind::Secrets, Self::One(text)) => Self::Hidden(vec![text.into()]),
            (Kind::Secrets, Self::Many(texts)) => {
                Self::Hidden(texts.into_iter().map(Secret::from).collect())
            }
            (kind, Self::Hidden(secrets)) if kind != Kind::Secrets => {
                Self::One(secrets.iter().map(without_secret).collect()).fit(key)
            }
            (_, fitting) => fitting,
        }
    }
}

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// On the command line.
    Flag,
    /// In the environment.
    Environment,
    /// In a configuration file.
    File(Arc<PathBuf>),
    /// Nowhere.
    Default,
}

impl Source {
    /// Where a value stands, with the value, as somebody would look for it.
    pub(super) fn place(&self, key: Setting, shown: &str) -> String {
        match self {
            Self::Flag => format!("{} {shown}", key.flag()),
            Self::Environment => format!("{}={shown}", key.variable()),
            Self::File(path) => format!("{}: {key} = {shown:?}", path.display()),
            Self::Default => format!("{} (default {shown})", key.flag()),
        }
    }

    fn remark(&self, key: Setting) -> Option<String> {
        match self {
            Self::Flag => Some(key.flag()),
            Self::Environment => Some(key.variable()),
            Self::File(path) => Some(path.display().to_string()),
            Self::Default => None,
        }
    }
}

/// How a stream key is shown: its name, without the secret.
pub(super) fn without_secret(publish_key: &Secret) -> String {
    match publish_key.expose().split_once('=') {
        Some((name, _)) => format!("{name}=(hidden)"),
        None => "(hidden)".to_owned(),
    }
}

impl Raw {
    /// Takes in a flag, if it was given.
    #[must_use]
    pub fn flag(mut self, key: Setting, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.put(key, value.into(), Source::Flag);
        }
        self
    }

    /// What is said here, and where nothing is, what `base` says.
    #[must_use]
    pub fn over(mut self, base: Self) -> Self {
        for (key, given) in base.given {
            self.given.entry(key).or_insert(given);
        }
        self.private_key = self.private_key.or(base.private_key);
        self.problems.extend(base.problems);
        self
    }

    /// With the data directory in the home directory, unless it was said where it is.
    #[must_use]
    pub fn at_home(mut self, home: Option<OsString>) -> Self {
        let home = home.map(PathBuf::from).filter(|home| home.is_absolute());
        if let Some(home) = home.as_deref().and_then(|home| home.to_str())
            && !self.given.contains_key(&Setting::DataDir)
        {
            let path = format!("{}/.headwater", home.trim_end_matches('/'));
            self.put(Setting::DataDir, Value::One(path), Source::Default);
        }
        self
    }

    /// What holds where nothing is said.
    #[must_use]
    pub fn defaults() -> Self {
        let mut raw = Self::default();
        for key in Setting::ALL {
            if let Some(text) = key.default_text() {
                raw.put(key, split(key, text), Source::Default);
            }
        }
        raw
    }

    pub(super) fn put(&mut self, key: Setting, value: Value, source: Source) {
        let value = value.fit(key);
        self.given.insert(key, Given { value, source });
    }

    pub(super) fn given(&self, key: Setting) -> Option<&Given> {
        self.given.get(&key)
    }

    /// Every value as it would be used, as a configuration file: secrets are left out, and
    /// a remark says where it comes from unless it is the default.
    #[must_use]
    pub fn show(self) -> String {
        let all = self.over(Self::defaults());
        let mut text = String::new();
        for key in Setting::ALL {
            let line = match all.given(key) {
                None => format!("# {key} is not set"),
                Some(given) => {
                    let remark = given.source.remark(key);
                    let remark = remark.map(|place| format!("  # {place}"));
                    let value = as_toml(key, &given.value);
                    format!("{key} = {value}{}", remark.unwrap_or_default())
                }
            };
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{line}");
        }
        text
    }
}

/// A value of the environment or a default, as what the key holds.
pub(super) fn split(key: Setting, text: &str) -> Value {
    let parts = || text.split(',').filter(|part| !part.is_empty());
    match key.kind() {
        Kind::Switch | Kind::Number | Kind::Text => Value::One(text.to_owned()),
        Kind::List => Value::Many(parts().map(str::to_owned).collect()),
        Kind::Secrets => Value::Hidden(parts().map(Secret::from).collect()),
    }
}

fn as_toml(key: Setting, value: &Value) -> toml::Value {
    let texts = |texts: Vec<String>| {
        toml::Value::Array(texts.into_iter().map(toml::Value::String).collect())
    };
    match value {
        Value::Hidden(secrets) => texts(secrets.iter().map(without_secret).collect()),
        Value::Many(urls) if key == Setting::Ledger => texts(
            urls.iter()
                .map(|url| super::value::shown_ledger(url))
                .collect(),
        ),
        Value::Many(many) => texts(many.clone()),
        Value::One(text) => match key.kind() {
            Kind::Switch => super::value::switch(text).map(toml::Value::Boolean).ok(),
            Kind::Number => text.parse().map(toml::Value::Integer).ok(),
            Kind::Text | Kind::List | Kind::Secrets => None,
        }
        .unwrap_or_else(|| toml::Value::String(text.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_the_form_of_its_key() {
        let secrets = || vec![Secret::from("a=secret77")];
        let raw = Raw::default()
            .flag(
                Setting::Ladder,
                Some(["720p", "480p"].map(String::from).to_vec()),
            )
            .flag(Setting::Bootstrap, Some("/ip4/192.0.2.1/tcp/1"))
            .flag(Setting::PublishKey, Some("a=secret77"))
            .flag(Setting::Part, Some(secrets()));

        let value = |key| &raw.given(key).unwrap().value;
        let one = |text: &str| Value::One(text.into());
        assert_eq!(value(Setting::Ladder), &one("720p,480p"));
        let list = Value::Many(vec!["/ip4/192.0.2.1/tcp/1".into()]);
        assert_eq!(value(Setting::Bootstrap), &list);
        assert_eq!(value(Setting::PublishKey), &Value::Hidden(secrets()));
        assert_eq!(value(Setting::Part), &one("a=(hidden)"));
    }
}
