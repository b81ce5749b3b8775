//! What a configuration file says.

use std::{path::Path, sync::Arc};

use zeroize::Zeroizing;

use super::{
    error::Problem,
    raw::{Raw, Source, Value},
    setting::{Kind, Setting},
};
use crate::secret::Secret;

/// Reads a configuration file, TOML with a key per line. What is wrong with it is told
/// when the values are looked at, with everything else that is wrong.
#[must_use]
pub fn read(path: &Path) -> Raw {
    let mut raw = Raw::default();
    let place = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) => {
            raw.problems.push(Problem::new(place, error));
            return raw;
        }
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let (line, column) = position(&text, &error);
            // The parser would repeat the line, which may hold a stream key.
            let place = format!("{place}:{line}:{column}");
            let reason = error.message().lines().next().unwrap_or("not TOML");
            raw.problems.push(Problem::new(place, reason));
            return raw;
        }
    };
    let source = Source::File(Arc::new(path.to_owned()));
    for (name, value) in table {
        let Some(key) = Setting::of_name(&name) else {
            let reason = "no such key; `headwater config show` lists them all";
            raw.problems
                .push(Problem::new(format!("{place}: {name}"), reason));
            continue;
        };
        match of_kind(key, value) {
            Ok(value) => raw.put(key, value, source.clone()),
            Err(wanted) => raw
                .problems
                .push(Problem::new(format!("{place}: {name}"), wanted)),
        }
    }
    raw
}

/// Line and column of an error, from 1.
fn position(text: &str, error: &toml::de::Error) -> (usize, usize) {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.as_bytes()[..at].split(|byte| *byte == b'\n');
    let (lines, last) = before.fold((0, 0), |(lines, _), line| (lines + 1, line.len()));
    (lines, last + 1)
}

/// The value, or what it should have been.
fn of_kind(key: Setting, value: toml::Value) -> Result<Value, &'static str> {
    match (key.kind(), value) {
        (Kind::Switch, toml::Value::Boolean(on)) => Ok(Value::One(on.to_string())),
        (Kind::Switch, _) => Err("true or false, without quotes"),
        (Kind::Number, toml::Value::Integer(number)) => Ok(Value::One(number.to_string())),
        (Kind::Number, _) => Err("a whole number, without quotes"),
        (Kind::Text, toml::Value::String(text)) => Ok(Value::One(text)),
        (Kind::Text, _) => Err("a text in quotes"),
        (Kind::List, toml::Value::Array(items)) => texts(items)
            .map(Value::Many)
            .ok_or("a list of texts, such as [\"A\", \"B\"]"),
        // Most have one.
        (Kind::List, toml::Value::String(text)) if key == Setting::Ledger => Ok(Value::One(text)),
        (Kind::List, _) => Err("a list of texts, such as [\"A\", \"B\"]"),
        (Kind::Secrets, toml::Value::Array(items)) => texts(items)
            .map(|texts| Value::Hidden(texts.into_iter().map(Secret::from).collect()))
            .ok_or("a list such as [\"NAME=KEY\"]"),
        (Kind::Secrets, _) => Err("a list such as [\"NAME=KEY\"]"),
    }
}

fn texts(items: Vec<toml::Value>) -> Option<Vec<String>> {
    items
        .into_iter()
        .map(|item| match item {
            toml::Value::String(text) => Some(text),
            toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_)
            | toml::Value::Table(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let raw = read(&path);
        raw.problems
            .iter()
            .map(|problem| {
                let text = problem.to_string();
                text.replace(&format!("{}/", dir.path().display()), "")
            })
            .collect()
    }

    #[test]
    fn every_unknown_key_and_wrong_kind_is_named() {
        let problems = problems(
            "relayr = true\nrelayer = 'yes'\nmax_peers = 'many'\nlisten = 'x'\npart = 200\n",
        );
        for expected in [
            "node.toml: relayr: no such key",
            "node.toml: relayer: true or false",
            "node.toml: max_peers: a whole number",
            "node.toml: listen: a list",
            "node.toml: part: a text in quotes",
        ] {
            let found = problems.iter().any(|text| text.starts_with(expected));
            assert!(found, "{expected} in {problems:?}");
        }
        assert_eq!(problems.len(), 5);
    }

    #[test]
    fn a_broken_line_is_named_by_its_place_and_never_repeated() {
        for (text, place) in [
            ("relayer = true\npublish_key = ['a=secret77\n", "2:"),
            ("publish_key = [\n  'a=secret77\n]\n", "2:"),
            ("publish_key = 'a=secret77' x\n", "1:"),
            ("part = 'a'\npart = 'b'\n", "2:"),
        ] {
            let problems = problems(text);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with("node.toml:"), "{problems:?}");
            assert!(problems[0].contains(place), "{problems:?}");
            assert!(!problems[0].contains("secret77"), "{problems:?}");
        }
        let wrong = problems("publish_key = 'a=secret77'");
        assert!(wrong[0].contains("NAME=KEY"), "{wrong:?}");
        assert!(!wrong[0].contains("secret77"), "{wrong:?}");
    }

    #[test]
    fn a_file_that_is_not_there_is_a_problem_with_its_name() {
        let raw = read(Path::new("/nonexistent/node.toml"));
        let text = raw.problems[0].to_string();
        assert!(text.starts_with("/nonexistent/node.toml: "), "{text}");
    }
}
