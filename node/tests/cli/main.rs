//! The command line as its users meet it: the program itself, its exit codes, and what it
//! says.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod book;
mod config;
mod help;
mod key;
mod node;
mod publish;
mod watch;
mod writers;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// A place of its own for one user of the program.
struct User {
    dir: tempfile::TempDir,
}

/// What a command came to.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl User {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path of a file with this text.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// A job book, as a flag's value.
    fn book(&self) -> String {
        format!("file:{}", self.path("jobs.book").display())
    }

    /// Everything in this user's place.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    /// The program with nothing but a home in its environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        command.output().unwrap().into()
    }

    /// What a command that has to succeed says.
    fn ask(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.err);
        ran.out
    }

    /// As [`User::ask`], with `--json`.
    fn ask_json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.ask(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// What was complained of, by a command that had to end with this code.
    fn errors(&self, code: i32) -> Vec<&str> {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        let lines = self.err.lines();
        let errors: Vec<_> = lines.filter_map(|l| l.strip_prefix("error: ")).collect();
        assert!(!errors.is_empty(), "{}", self.err);
        errors
    }

    /// The only thing complained of.
    fn error(&self, code: i32) -> &str {
        let errors = self.errors(code);
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors[0]
    }
}

/// The id of a broadcast, one of 255.
fn broadcast(n: u8) -> String {
    let node = headwater_proto::NodeId::from_public_key([n; 32]);
    format!("{node}.{}", "a".repeat(26))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
