//! One `headwater node` process.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::get_text;

/// Where the program takes the key of an account from, when it is no secret.
pub(crate) const PRIVATE_KEY: &str = "HEADWATER_PRIVATE_KEY";

/// A running node, and what it said on stdout when it started.
#[derive(Debug)]
pub struct Node {
    child: Child,
    /// Its id.
    pub id: String,
    /// Multiaddr with its id.
    pub address: String,
    /// Base URL for players.
    pub http: String,
    /// Base URL for operators.
    pub admin: String,
    /// Where an encoder publishes, by name.
    pub publish: Option<String>,
    log: PathBuf,
}

impl Node {
    /// Starts a node on loopback with free ports and waits until it is ready. `account` is
    /// its key on a chain.
    ///
    /// # Errors
    /// When it does not start; its log is in the error.
    pub async fn start(
        binary: &Path,
        dir: &Path,
        flags: &[&str],
        account: Option<&str>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let log = dir.with_extension("log");
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)?;
        let mut child = Command::new(binary)
            .args(["--log", "info", "node", "--allow-private-dials"])
            .args(["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"])
            .args(["--admin", "127.0.0.1:0", "--rtmp", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir)
            .args(flags)
            .envs(account.map(|key| (PRIVATE_KEY, key)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut node = Self {
            child,
            id: String::new(),
            address: String::new(),
            http: String::new(),
            admin: String::new(),
            publish: None,
            log,
        };
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if node.note(&line) {
                    return anyhow::Ok(());
                }
            }
            anyhow::bail!("it ended")
        };
        let ready = timeout(Duration::from_secs(30), ready).await;
        ready
            .map_err(anyhow::Error::from)
            .and_then(|ready| ready)
            .with_context(|| format!("node did not start:\n{}", node.log()))?;
        Ok(node)
    }

    /// Takes a line of stdout; `true` after the last.
    fn note(&mut self, line: &str) -> bool {
        let Some((what, value)) = line.split_once(": ") else {
            return false;
        };
        let value = value.to_owned();
        match what {
            "node" => self.id = value,
            "listening" if self.address.is_empty() => self.address = value,
            "player" => self.http = value.trim_end_matches('/').to_owned(),
            "admin" => {
                self.admin = value.trim_end_matches("/api/v1/status").to_owned();
                return true;
            }
            _ if what.starts_with("publish ") => self.publish = Some(value),
            _ => {}
        }
        false
    }

    /// One of its metrics that has no labels.
    ///
    /// # Errors
    /// When it does not answer or has none of that name.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let text = get_text(&format!("{}/metrics", self.admin)).await?;
        let value = |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
        let value = text.lines().find_map(value);
        Ok(value.with_context(|| format!("no {name}"))?.parse()?)
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it without warning, as a power cut does.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Freezes it, as a cut link does: its sockets stay, and nobody answers.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on after [`Node::freeze`].
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended")?;
        Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it ends with an error or not in time.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = timeout(Duration::from_secs(10), self.child.wait()).await;
        let status = status.with_context(|| format!("it does not stop:\n{}", self.log()))??;
        anyhow::ensure!(status.success(), "{status}\n{}", self.log());
        Ok(())
    }
}
