//! `headwater status`.

use anyhow::Context as _;
use clap::Args;
use comfy_table::Table;
use headwater_proto::NodeId;

use super::{
    running::{RunningNode, ask},
    say,
};
use crate::http::StatusReport;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// A node of the network; without it, the node that is asked
    node: Option<NodeId>,
    #[command(flatten)]
    pub(super) running: RunningNode,
}

pub(super) async fn run(args: StatusArgs, admin: String) -> anyhow::Result<()> {
    let path = args.node.map(|node| format!("/{node}")).unwrap_or_default();
    let text = ask(&admin, &format!("status{path}")).await?;
    if args.running.json {
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
    if let Some(ledger) = &report.ledger {
        let reason = ledger.reason.as_ref().map(|reason| format!(": {reason}"));
        say(format_args!(
            "ledger  {}{}",
            ledger.state,
            reason.unwrap_or_default()
        ))?;
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
