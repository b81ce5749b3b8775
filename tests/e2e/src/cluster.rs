//! A network of nodes, and encoders that publish to it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use headwater_media::playlist::{Variant, parse_master};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{Node, eventually, get_text, node::PRIVATE_KEY};

/// A folder for a network's data, and the binary it runs.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
    binary: PathBuf,
}

impl Cluster {
    /// An empty network of the `headwater` that was built beside this test.
    ///
    /// # Errors
    /// When it was not built, or there is no room for the network's folder.
    pub fn new() -> anyhow::Result<Self> {
        let test = std::env::current_exe()?;
        let built = test
            .parent()
            .and_then(Path::parent)
            .context("no build folder")?;
        let binary = built.join("headwater");
        anyhow::ensure!(binary.exists(), "run `cargo build --bin headwater` first");
        Ok(Self {
            dir: tempfile::tempdir()?,
            binary,
        })
    }

    /// The network's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The network's job book, as a flag's value.
    #[must_use]
    pub fn ledger(&self) -> String {
        format!("file:{}", self.dir.path().join("jobs.book").display())
    }

    /// Starts a node; one of the same name takes up where it was.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn node(&self, name: &str, flags: &[&str]) -> anyhow::Result<Node> {
        self.node_with(name, flags, None).await
    }

    /// Starts a node that acts on a chain by the account with this key.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn node_of(&self, key: &str, name: &str, flags: &[&str]) -> anyhow::Result<Node> {
        self.node_with(name, flags, Some(key)).await
    }

    async fn node_with(
        &self,
        name: &str,
        flags: &[&str],
        account: Option<&str>,
    ) -> anyhow::Result<Node> {
        Node::start(&self.binary, &self.dir.path().join(name), flags, account)
            .await
            .with_context(|| format!("starting {name}"))
    }

    /// Runs a command of an account to its end; returns the JSON that it prints.
    ///
    /// # Errors
    /// With what it said on stderr, when it fails.
    pub async fn run(&self, key: &str, args: &[&str]) -> anyhow::Result<serde_json::Value> {
        let output = Command::new(&self.binary)
            .args(args)
            .arg("--json")
            .env(PRIVATE_KEY, key)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{args:?}: {said}");
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{args:?}: {}", String::from_utf8_lossy(&output.stdout)))
    }

    /// The id of what a broadcaster publishes now.
    ///
    /// # Errors
    /// When nothing is published in time.
    pub async fn manifest(&self, broadcaster: &Node) -> anyhow::Result<String> {
        eventually("a broadcast", Duration::from_secs(20), async || {
            let text = get_text(&format!("{}/streams.json", broadcaster.http)).await?;
            let list: serde_json::Value = serde_json::from_str(&text)?;
            let id = list["streams"][0]["manifest"].as_str();
            Ok(id.context("nothing is published")?.to_owned())
        })
        .await
    }

    /// The variants that a node offers of a broadcast, once there are at least `count`.
    ///
    /// # Errors
    /// When there are fewer after a while.
    pub async fn variants(
        &self,
        node: &Node,
        manifest: &str,
        count: usize,
    ) -> anyhow::Result<Vec<Variant>> {
        eventually("enough variants", Duration::from_secs(60), async || {
            let text = get_text(&format!("{}/stream/{manifest}.m3u8", node.http)).await?;
            let variants = parse_master(&text)?;
            anyhow::ensure!(variants.len() >= count, "there are {}", variants.len());
            Ok(variants)
        })
        .await
    }
}

/// An `ffmpeg` that publishes a test picture over RTMP, with a key frame every second.
#[derive(Debug)]
pub struct Publisher {
    child: Child,
}

impl Publisher {
    /// Starts publishing.
    ///
    /// # Errors
    /// When there is no `ffmpeg`.
    pub fn start(url: &str) -> anyhow::Result<Self> {
        let child = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-re",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=640x360:rate=30",
            ])
            .args(["-f", "lavfi", "-i", "sine=frequency=500:sample_rate=48000"])
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-tune",
                "zerolatency",
            ])
            .args([
                "-pix_fmt", "yuv420p", "-g", "30", "-b:v", "800k", "-c:a", "aac",
            ])
            .args(["-f", "flv", url])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }

    /// Kills it, as a crash of the encoder does.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Stops it as its user does.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGINT)?;
        self.child.wait().await?;
        Ok(())
    }
}
