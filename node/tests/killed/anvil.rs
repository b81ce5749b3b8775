//! A development chain of one test's own.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

/// A running anvil with a block for each transaction; dropping it ends it.
pub(crate) struct Anvil {
    child: Child,
    pub(crate) url: String,
}

impl Anvil {
    pub(crate) fn start() -> Self {
        let arch = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!(
            "../chain/contracts/node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"
        ));
        assert!(
            path.exists(),
            "anvil is not installed; run scripts/contracts install"
        );
        let mut command = Command::new(path);
        command.args(["--host", "127.0.0.1", "--port", "0"]);
        // From here on whatever fails ends it too.
        let mut anvil = Self {
            child: command.stdout(Stdio::piped()).spawn().unwrap(),
            url: String::new(),
        };
        let mut lines = BufReader::new(anvil.child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("Listening on ").map(str::to_owned)
        });
        // What it says afterwards has to go somewhere.
        std::thread::spawn(move || lines.count());
        anvil.url = format!("http://{}", address.expect("anvil says where it listens"));
        anvil
    }

    pub(crate) async fn rpc(&self, method: &str, params: Value) -> Value {
        rpc(&self.url, method, &params).await
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

pub(crate) async fn rpc(url: &str, method: &str, params: &Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = client.post(url).json(&body).send().await.unwrap();
    let mut answer: Value = response.json().await.unwrap();
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].take()
}
