//! Encoders of this node: who may publish, and their way into broadcasts.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;
use headwater_media::ingest::rtmp;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use super::StartError;
use crate::{
    config::{Config, PublishKey},
    pipeline::{Broadcasts, EndReason, Ingest},
    secret::Secret,
    store::Store,
};

/// The keys that were given, or one for the name `live` that is made once and kept.
pub(super) fn publish_keys(config: &Config, store: &Store) -> Result<Vec<PublishKey>, StartError> {
    const NAME: &str = "live";
    if !config.publish_keys.is_empty() {
        return Ok(config.publish_keys.clone());
    }
    let key = match store.publish_key(NAME)? {
        Some(key) => key,
        None => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
            let key = Secret::from(HEXLOWER.encode(&bytes));
            store.put_publish_key(NAME, &key)?;
            key
        }
    };
    let name = NAME.to_owned();
    Ok(vec![PublishKey { name, key }])
}

/// Lets encoders in until the node stops; returns where it listens.
pub(super) async fn listen_rtmp(
    address: SocketAddr,
    keys: &[PublishKey],
    broadcasts: &Arc<Broadcasts>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<SocketAddr, StartError> {
    let failed = |reason| StartError::Rtmp { address, reason };
    let keys = keys
        .iter()
        .map(|key| (key.key.expose().to_owned(), key.name.clone()))
        .collect();
    let mut server = rtmp::Server::bind(address, keys).await.map_err(failed)?;
    let local = server.local_addr();
    let (broadcasts, stop) = (broadcasts.clone(), stop.clone());
    let sessions = tasks.clone();
    tasks.spawn(async move {
        loop {
            let publisher = tokio::select! {
                () = stop.cancelled() => return,
                publisher = server.accept() => publisher,
            };
            let broadcasts = broadcasts.clone();
            sessions.spawn(async move {
                publish(&broadcasts, publisher).await;
            });
        }
    });
    Ok(local)
}

async fn publish(broadcasts: &Arc<Broadcasts>, publisher: rtmp::Publisher) {
    let rtmp::Publisher {
        name,
        remote,
        reader,
        ended,
    } = publisher;
    // An encoder that took over its own key waits for the old connection's end.
    for _ in 0..50 {
        let busy = broadcasts
            .list()
            .iter()
            .any(|live| live.name == name && live.connected);
        if !busy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    info!(name, %remote, "encoder connected");
    let ended = async move {
        match ended.await {
            Ok(rtmp::End::Unpublished) => EndReason::Finished,
            Ok(rtmp::End::Lost) | Err(_) => EndReason::Lost,
        }
    };
    let ingest = Ingest::Flv(Box::new(reader));
    if let Err(error) = broadcasts.publish(&name, ingest, ended).await {
        error!(name, %error, "not published");
    }
}
