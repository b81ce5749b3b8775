//! A development chain of a test's own: starts the anvil that `scripts/contracts` installs.
//! Whatever goes wrong here has failed the test, so it panics.

#![expect(clippy::unwrap_used, reason = "a test without its chain has failed")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// A running anvil; dropping it ends it.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    port: u16,
    manner: Manner,
}

/// How a chain is made.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// A block is made so often, instead of one for each transaction.
    pub block_time: Option<Duration>,
    /// The file in which its state is kept while it is stopped.
    pub state: Option<PathBuf>,
}

impl Anvil {
    /// Starts a chain with a block for each transaction.
    #[must_use]
    pub fn start() -> Self {
        Self::in_manner(Manner::default())
    }

    /// Starts a chain.
    #[must_use]
    pub fn in_manner(manner: Manner) -> Self {
        Self::run(manner, 0, None)
    }

    fn run(manner: Manner, port: u16, genesis: Option<u64>) -> Self {
        let mut command = Command::new(program());
        command.args(["--host", "127.0.0.1", "--auto-impersonate"]);
        command.args(["--port", &port.to_string()]);
        if let Some(time) = manner.block_time {
            command.args(["--block-time", &time.as_secs_f64().to_string()]);
        }
        if let Some(state) = &manner.state {
            command.arg("--state").arg(state);
        }
        if let Some(time) = genesis {
            command.args(["--timestamp", &time.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        // From here on whatever fails ends it too.
        let mut anvil = Self {
            child: command.spawn().unwrap(),
            port,
            manner,
        };
        let mut lines = BufReader::new(anvil.child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let port = line.strip_prefix("Listening on 127.0.0.1:")?;
            Some(port.parse().unwrap())
        });
        // What it says afterwards has to go somewhere.
        std::thread::spawn(move || lines.count());
        anvil.port = port.expect("anvil says where it listens");
        anvil
    }

    /// Stops it; nobody answers at its port.
    pub fn stop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let pid = i32::try_from(self.child.id()).unwrap();
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        }
        self.child.wait().unwrap();
    }

    /// Starts it where it was when it was stopped, if its state is kept.
    pub fn start_again(&mut self) {
        self.stop();
        *self = Self::run(self.manner.clone(), self.port, None);
    }

    /// Starts another chain in its place, from the beginning. Its first block is another one
    /// too, even within the same second.
    pub fn start_anew(&mut self) {
        self.stop();
        if let Some(state) = &self.manner.state {
            std::fs::remove_file(state).unwrap();
        }
        *self = Self::run(self.manner.clone(), self.port, Some(1_700_000_000));
    }

    /// Its port on this machine, for HTTP and WebSockets.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where it answers over HTTP.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it answers over WebSockets.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Asks it for something.
    pub async fn rpc(&self, method: &str, params: Value) -> Value {
        rpc(&self.http_url(), method, &params).await
    }

    /// Makes empty blocks.
    pub async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([blocks])).await;
    }

    /// Takes back the newest blocks and what was in them; as many empty ones come instead.
    pub async fn reorganise(&self, blocks: u64) {
        self.rpc("anvil_reorg", json!([blocks, []])).await;
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Keeps no connection, for each may end with its chain.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let client = reqwest::Client::builder().no_proxy();
    client.pool_max_idle_per_host(0).build().unwrap()
});

/// Asks the node of a chain for something.
///
/// # Panics
/// When it does not answer or refuses.
pub async fn rpc(url: &str, method: &str, params: &Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let response = CLIENT.post(url).json(&body).send().await.unwrap();
    let mut answer: Value = response.json().await.unwrap();
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].take()
}

/// The program that `scripts/contracts` installs.
fn program() -> PathBuf {
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(
        "../../chain/contracts/node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"
    ));
    assert!(
        path.exists(),
        "anvil is not installed; run scripts/contracts install"
    );
    path
}
