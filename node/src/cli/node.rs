//! `headwater node`.

use std::path::PathBuf;

use clap::Args;

use super::{interrupted, say};
use crate::{
    app::App,
    config::{ConfigError, Raw},
};

/// A node's flags.
#[derive(Debug, Args)]
#[command(after_help = "Without a role flag a node is an edge: it serves its own players.")]
pub(super) struct NodeArgs {
    /// TOML file with the same keys as the flags, `_` for `-`
    #[arg(long, env = "HEADWATER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Raw,
}

impl NodeArgs {
    pub(super) fn raw(self) -> Result<Raw, ConfigError> {
        let file = self.config.as_deref().map(Raw::from_file).transpose()?;
        Ok(self.flags.over(file.unwrap_or_default()))
    }
}

pub(super) async fn run(args: NodeArgs) -> anyhow::Result<()> {
    let app = App::start(args.raw()?.parse()?).await?;
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
                key.name, key.key
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
