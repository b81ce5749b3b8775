//! A development chain with the contract on it.

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

/// Keys of the first accounts of every development chain; they are known to everyone.
const KEYS: [&str; 6] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "0x47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
];

/// The key of one of the chain's accounts, as `HEADWATER_PRIVATE_KEY` has it.
///
/// # Panics
/// Beyond the sixth.
#[must_use]
pub fn account(number: usize) -> &'static str {
    KEYS[number]
}

/// A running anvil; dropping it kills it.
#[derive(Debug)]
pub struct Chain {
    child: Child,
    port: u16,
    state: PathBuf,
}

impl Chain {
    /// Starts a chain with a block each second, whose state is kept in a file when it is
    /// stopped.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start(state: &Path) -> anyhow::Result<Self> {
        Self::run(state, 0).await
    }

    /// Starts another chain in its place, from the beginning.
    ///
    /// # Errors
    /// When it has ended, or does not start.
    pub async fn start_anew(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        std::fs::remove_file(&self.state)?;
        self.start_again().await
    }

    async fn run(state: &Path, port: u16) -> anyhow::Result<Self> {
        let mut child = Command::new(program()?)
            .args(["--host", "127.0.0.1", "--block-time", "1"])
            .args(["--port", &port.to_string(), "--state"])
            .arg(state)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let listening = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(port) = line.strip_prefix("Listening on 127.0.0.1:") {
                    return Ok(port.parse()?);
                }
            }
            anyhow::bail!("the chain has ended")
        };
        let port = timeout(Duration::from_secs(30), listening).await??;
        // What it says afterwards has to go somewhere.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let state = state.to_owned();
        Ok(Self { child, port, state })
    }

    /// Its WebSocket, as a ledger's flag.
    #[must_use]
    pub fn ws(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Its port on this machine, for HTTP and WebSockets.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Takes back the newest blocks and what was in them; as many empty ones and one more
    /// come instead.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn take_back(&self, blocks: u64) -> anyhow::Result<()> {
        self.ask("anvil_reorg", serde_json::json!([blocks, []]))
            .await
    }

    /// Makes empty blocks.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn mine(&self, blocks: u64) -> anyhow::Result<()> {
        self.ask("anvil_mine", serde_json::json!([blocks])).await
    }

    async fn ask(&self, method: &str, params: serde_json::Value) -> anyhow::Result<()> {
        let ask = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": method, "params": params,
        });
        let client = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://127.0.0.1:{}", self.port);
        let response = client.post(url).json(&ask).send().await?;
        let answer: serde_json::Value = response.json().await?;
        anyhow::ensure!(answer.get("error").is_none(), "{answer}");
        Ok(())
    }

    /// Stops it and starts it again where it was.
    ///
    /// # Errors
    /// When it has ended, or does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Stops it; nobody answers at its port.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        self.child.wait().await?;
        Ok(())
    }

    /// Starts it where it was when it was stopped.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        *self = Self::run(&self.state, self.port).await?;
        Ok(())
    }
}

/// The program that `scripts/contracts` installs.
fn program() -> anyhow::Result<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(
        "../../chain/contracts/node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"
    ));
    anyhow::ensure!(
        path.exists(),
        "anvil is not installed; run scripts/contracts install"
    );
    Ok(path)
}
