//! Commands that ask a running node.

use clap::Args;

use crate::config::{ConfigErrors, Raw, Setting};

#[derive(Debug, Args)]
pub(super) struct RunningNode {
    /// Admin address of a running node [env: HEADWATER_ADMIN] [default: 127.0.0.1:7935]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl RunningNode {
    /// The node to ask.
    pub(super) fn admin(&self, said: &Raw) -> Result<String, ConfigErrors> {
        let flags = Raw::default().flag(Setting::Admin, self.admin.clone());
        flags.over(said.clone()).admin()
    }
}

/// What a running node answers.
pub(super) async fn ask(admin: &str, what: &str) -> anyhow::Result<String> {
    let url = format!("http://{admin}/api/v1/{what}");
    let client = reqwest::Client::builder().no_proxy().build()?;
    let response = client.get(&url).send().await.map_err(|error| {
        // What the system said; what stands between it and the user says nothing more.
        let error = anyhow::Error::new(error);
        let cause = error.root_cause();
        anyhow::anyhow!(
            "no node answers at {admin}; is it running, and is --admin right? ({cause})"
        )
    })?;
    let status = response.status();
    let text = response.text().await?;
    if status == reqwest::StatusCode::NOT_FOUND {
        anyhow::bail!("{admin} is not the admin address of a node; is --admin right?");
    }
    if !status.is_success() {
        let error: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let message = error["error"]
            .as_str()
            .unwrap_or("the node refused to answer");
        match error["hint"].as_str().filter(|hint| !hint.is_empty()) {
            Some(hint) => anyhow::bail!("{message}; {hint}"),
            None => anyhow::bail!("{message}"),
        }
    }
    Ok(text)
}
