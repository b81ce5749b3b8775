//! `headwater status`.

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use headwater_proto::NodeId;

use super::say;
use crate::{
    config::{ConfigErrors, Raw, Setting},
    http::StatusReport,
};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// A node of the network; without it, the node that is asked
    node: Option<NodeId>,
    /// Admin address of a running node [env: HEADWATER_ADMIN] [default: 127.0.0.1:7935]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    /// The node to ask.
    pub(super) fn admin(&self, said: &Raw) -> Result<String, ConfigErrors> {
        let flags = Raw::default().flag(Setting::Admin, self.admin.clone());
        flags.over(said.clone()).admin()
    }
}

pub(super) async fn run(args: StatusArgs, admin: String) -> anyhow::Result<()> {
    let path = args.node.map(|node| format!("/{node}")).unwrap_or_default();
    let url = format!("http://{admin}/api/v1/status{path}");
    let client = reqwest::Client::builder().no_proxy().build()?;
    let response = client.get(&url).send().await.map_err(|error| {
        // What the system said; what stands between it and the user says nothing more.
        let error = anyhow::Error::new(error);
        let cause = error.root_cause();
        anyhow::anyhow!(
            "no node answers at {admin}; is it running, and is --admin right? ({cause})"
        )
    })?;
    let ok = response.status().is_success();
    let text = response.text().await?;
    if !ok {
        let error: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let message = error["error"]
            .as_str()
            .unwrap_or("the node refused to answer");
        anyhow::bail!("{message}");
    }
    if args.json {
        return say(text);
    }
    let report: StatusReport = serde_json::from_str(&text).context("the node's answer")?;
    let roles = if report.roles.is_empty() {
        "edge".to_owned()
    } else {
        report.roles.join(", ")
    };
    say(format_args!("node    {}", report.node))?;
    say(format_args!(
        "program {}, up {} s",
        report.agent, report.uptime_s
    ))?;
    say(format_args!("roles   {roles}"))?;
    say(format_args!("links   {}", report.peers))?;
    for address in &report.addresses {
        say(format_args!("address {address}"))?;
    }
    if report.streams.is_empty() {
        return say("no streams");
    }
    let mut table = Table::new();
    table.set_header(["stream", "newest segment", "from", "to nodes"]);
    for stream in &report.streams {
        let segment = stream.segment.map(|segment| segment.to_string());
        table.add_row([
            stream.stream.clone(),
            segment.unwrap_or_else(|| "-".to_owned()),
            stream
                .parent
                .clone()
                .unwrap_or_else(|| "this node".to_owned()),
            stream.children.to_string(),
        ]);
    }
    say(table)
}
