//! `headwater node`.

use std::path::PathBuf;

use clap::Args;

use super::{flags::NodeArgs, interrupted, say};
use crate::{app::App, config::Config};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) node: NodeArgs,
    /// Take down everything that the protocol core is given and does, for
    /// `headwater-sim --replay`; as private as the node's traffic
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
}

pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    let app = App::start(config).await?;
    announce(&app)?;
    interrupted().await?;
    tracing::info!("stopping");
    app.stop().await;
    Ok(())
}

/// What somebody needs to use the node, on stdout.
fn announce(app: &App) -> anyhow::Result<()> {
    let (node, http) = (app.node(), app.http());
    say(format_args!("node: {node}"))?;
    for address in app.net().listen_addresses() {
        say(format_args!("listening: {address}/p2p/{node}"))?;
    }
    if let Some(rtmp) = app.rtmp() {
        for key in app.publish_keys() {
            say(format_args!(
                "publish {}: rtmp://{rtmp}/live/{}",
                key.name,
                key.key.expose()
            ))?;
            say(format_args!(
                "playlist {0}: http://{http}/live/{0}.m3u8",
                key.name
            ))?;
        }
    }
    say(format_args!("player: http://{http}/"))?;
    say(format_args!("admin: http://{}/api/v1/status", app.admin()))
}
