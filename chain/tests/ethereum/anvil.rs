//! A development chain of one test's own.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use headwater_chain::ethereum::EndpointUrl;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// A running anvil; dropping it ends it.
pub(crate) struct Anvil {
    child: Child,
    pub(crate) port: u16,
    state: Option<PathBuf>,
    http: reqwest::Client,
}

impl Anvil {
    pub(crate) fn start() -> Self {
        Self::run(0, None, None)
    }

    /// One that keeps its state when it is told to end.
    pub(crate) fn with_state(state: &Path) -> Self {
        Self::run(0, Some(state.to_owned()), None)
    }

    fn run(port: u16, state: Option<PathBuf>, genesis: Option<u64>) -> Self {
        let mut command = Command::new(program());
        command.args(["--host", "127.0.0.1", "--auto-impersonate"]);
        command.args(["--port", &port.to_string()]);
        if let Some(state) = &state {
            command.arg("--state").arg(state);
        }
        if let Some(time) = genesis {
            command.args(["--timestamp", &time.to_string()]);
        }
        // From here on whatever fails ends it too.
        let mut anvil = Self {
            child: command.stdout(Stdio::piped()).spawn().unwrap(),
            port,
            state,
            http: client(),
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

    pub(crate) fn stop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let pid = i32::try_from(self.child.id()).unwrap();
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        }
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let again = Self::run(self.port, self.state.clone(), None);
        drop(std::mem::replace(self, again));
    }

    /// Starts another chain in its place. Its first block is another one too, even within
    /// the same second.
    pub(crate) fn start_anew(&mut self) {
        self.stop();
        let again = Self::run(self.port, None, Some(1_700_000_000));
        drop(std::mem::replace(self, again));
    }

    pub(crate) fn http(&self) -> EndpointUrl {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) fn ws(&self) -> EndpointUrl {
        format!("ws://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) async fn rpc(&self, method: &str, params: Value) -> Value {
        rpc(
            &self.http,
            &format!("http://127.0.0.1:{}", self.port),
            method,
            &params,
        )
        .await
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([format!("{blocks:#x}")]))
            .await;
    }

    /// Replaces the newest blocks by as many empty ones.
    pub(crate) async fn reorganise(&self, blocks: u64) {
        self.rpc("anvil_reorg", json!([blocks, []])).await;
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One that keeps no connection, which may end with the chain.
pub(crate) fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0);
    client.build().unwrap()
}

pub(crate) async fn rpc(http: &reqwest::Client, url: &str, method: &str, params: &Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let response = http.post(url).json(&body).send().await.unwrap();
    let mut answer: Value = response.json().await.unwrap();
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].take()
}

/// The program that `scripts/contracts` installs.
fn program() -> PathBuf {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(
        "contracts/node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"
    ));
    assert!(
        path.exists(),
        "anvil is not installed; run scripts/contracts install"
    );
    path
}
