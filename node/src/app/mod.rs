//! A whole node: assembled, run, and stopped.

mod answers;
mod assembly;
mod checks;
mod duties;
mod encoders;
mod error;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use headwater_proto::{ManifestId, NodeId, StreamId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use assembly::Assembly;
pub use error::StartError;

use crate::{
    config::{Config, PublishKey},
    driver::Core,
    net::NetHandle,
    pipeline::{Broadcasts, Library},
    store::Store,
};

/// A running node.
#[derive(Debug)]
pub struct App {
    node: NodeId,
    net: NetHandle,
    core: Core,
    store: Arc<Store>,
    library: Arc<Library>,
    broadcasts: Option<Arc<Broadcasts>>,
    http: SocketAddr,
    admin: SocketAddr,
    rtmp: Option<SocketAddr>,
    keys: Vec<PublishKey>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How long a node takes to stop at most.
const STOP: Duration = Duration::from_secs(5);

impl App {
    /// Starts a node. What can fail fails here, before anything is announced.
    ///
    /// # Errors
    /// Says what cannot be had and which flag decides it.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let started = match Assembly::new(&config, &tasks, &stop) {
            Ok(assembly) => assembly.run().await,
            Err(error) => Err(error),
        };
        if started.is_err() {
            stop.cancel();
            tasks.close();
            tasks.wait().await;
        }
        started
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Talks to its core.
    #[must_use]
    pub const fn core(&self) -> &Core {
        &self.core
    }

    /// Its links.
    #[must_use]
    pub const fn net(&self) -> &NetHandle {
        &self.net
    }

    /// Its streams.
    #[must_use]
    pub const fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// Its broadcasts, if it is a broadcaster.
    #[must_use]
    pub const fn broadcasts(&self) -> Option<&Arc<Broadcasts>> {
        self.broadcasts.as_ref()
    }

    /// Where players fetch.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where operators ask.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where encoders publish, if it is a broadcaster.
    #[must_use]
    pub const fn rtmp(&self) -> Option<SocketAddr> {
        self.rtmp
    }

    /// Names and the keys that publish them.
    #[must_use]
    pub fn publish_keys(&self) -> &[PublishKey] {
        &self.keys
    }

    /// The playlist and player URLs of a broadcast at this node.
    #[must_use]
    pub fn urls(&self, manifest: ManifestId) -> (String, String) {
        let http = self.http;
        (
            format!("http://{http}/stream/{manifest}.m3u8"),
            format!("http://{http}/watch/{manifest}"),
        )
    }

    /// The playlist URL of a stream at this node.
    #[must_use]
    pub fn playlist(&self, stream: &StreamId) -> String {
        format!("http://{}/stream/{stream}.m3u8", self.http)
    }

    /// Stops the node, and waits until everything in it has ended.
    pub async fn stop(self) {
        if let Err(error) = self.store.put_peers(self.net.known_relayers()) {
            warn!(%error, "known relayers are lost");
        }
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP, self.tasks.wait()).await.is_err() {
            warn!("some tasks did not end in time");
        }
    }
}
