//! `headwater peers`.

use anyhow::Context as _;
use clap::Subcommand;
use comfy_table::Table;

use super::{
    running::{RunningNode, ask},
    say,
};
use crate::http::{PeerReport, TranscoderReport};

#[derive(Debug, Subcommand)]
pub(super) enum PeersCommand {
    /// List the neighbours of a running node
    List {
        #[command(flatten)]
        running: RunningNode,
    },
    /// List transcoders that announce themselves in the network, and whether they answer
    Transcoders {
        #[command(flatten)]
        running: RunningNode,
    },
}

impl PeersCommand {
    pub(super) const fn running(&self) -> &RunningNode {
        let (Self::List { running } | Self::Transcoders { running }) = self;
        running
    }
}

pub(super) async fn run(command: PeersCommand, admin: String) -> anyhow::Result<()> {
    let what = match command {
        PeersCommand::List { .. } => "peers",
        PeersCommand::Transcoders { .. } => "transcoders",
    };
    let text = ask(&admin, what).await?;
    if command.running().json {
        return say(text);
    }
    let mut table = Table::new();
    match command {
        PeersCommand::List { .. } => {
            table.set_header([
                "node",
                "roles",
                "address",
                "round trip",
                "bytes in",
                "bytes out",
            ]);
            let peers: Vec<PeerReport> =
                serde_json::from_str(&text).context("the node's answer")?;
            for peer in peers {
                let roles = peer.roles.join(", ");
                let round_trip = peer.round_trip_us;
                let round_trip =
                    round_trip.map(|us| format!("{}.{} ms", us / 1000, us % 1000 / 100));
                table.add_row([
                    peer.node,
                    if roles.is_empty() {
                        "edge".to_owned()
                    } else {
                        roles
                    },
                    peer.address,
                    round_trip.unwrap_or_else(|| "-".to_owned()),
                    peer.bytes_in.to_string(),
                    peer.bytes_out.to_string(),
                ]);
            }
        }
        PeersCommand::Transcoders { .. } => {
            table.set_header(["transcoder", "answers", "load"]);
            let found: Vec<TranscoderReport> =
                serde_json::from_str(&text).context("the node's answer")?;
            for transcoder in found {
                let answers = match (transcoder.available, transcoder.load) {
                    (true, _) => "yes",
                    (false, Some(_)) => "takes no job",
                    (false, None) => "no",
                };
                let load = transcoder
                    .load
                    .map(|load| format!("{} %", u32::from(load) * 100 / 255));
                table.add_row([
                    transcoder.node,
                    answers.to_owned(),
                    load.unwrap_or_else(|| "-".to_owned()),
                ]);
            }
        }
    }
    say(table)
}
