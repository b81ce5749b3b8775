//! The number of neighbours that a node is told reaches its core.

#![expect(
    clippy::unwrap_used,
    reason = "a node that does not start has failed its test"
)]

use std::time::Duration;

use headwater::{
    app::App,
    config::{Raw, Setting},
    net::{self, NetConfig, NetEvent, NetHandle},
};
use headwater_proto::{Roles, SigningKey};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The fewest that can be told.
const MAX: u8 = 8;

async fn relay(dir: &std::path::Path) -> App {
    let any = Some("127.0.0.1:0");
    let raw = Raw::default()
        .flag(Setting::Relayer, Some("yes"))
        .flag(Setting::MaxPeers, Some(MAX.to_string()))
        .flag(Setting::DataDir, dir.to_str())
        .flag(
            Setting::Listen,
            Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
        )
        .flag(Setting::AllowPrivateDials, Some("yes"))
        .flag(Setting::Http, any)
        .flag(Setting::Admin, any);
    App::start(raw.parse().unwrap()).await.unwrap()
}

async fn neighbour(
    seed: u8,
    bootstrap: &str,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (NetHandle, mpsc::Receiver<NetEvent>) {
    let config = NetConfig {
        key: SigningKey::from_bytes(&[seed; 32]),
        roles: Roles::default(),
        agent: format!("test/{seed}"),
        listen: vec![],
        external: vec![],
        bootstrap: vec![bootstrap.to_owned()],
        known: vec![],
        allow_private: true,
        home_links: 1,
        max_links: 4,
    };
    net::start(config, tasks, stop.clone()).await.unwrap()
}

async fn next(events: &mut mpsc::Receiver<NetEvent>) -> NetEvent {
    let event = timeout(Duration::from_secs(20), events.recv()).await;
    event.unwrap().unwrap()
}

#[tokio::test]
async fn a_node_keeps_no_more_neighbours_than_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let app = relay(dir.path()).await;
    let address = format!("{}/p2p/{}", app.net().listen_addresses()[0], app.node());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut kept = Vec::new();
    for seed in 1..=MAX {
        let (net, mut events) = neighbour(seed, &address, &tasks, &stop).await;
        while !matches!(next(&mut events).await, NetEvent::Connected { .. }) {}
        kept.push((net, events));
    }

    let (_net, mut events) = neighbour(100, &address, &tasks, &stop).await;
    while !matches!(next(&mut events).await, NetEvent::Disconnected { .. }) {}

    for (net, events) in &mut kept {
        assert_eq!(net.peers().len(), 1, "those that were there stay");
        while let Ok(event) = events.try_recv() {
            let left = matches!(event, NetEvent::Disconnected { .. });
            assert!(!left, "{event:?}");
        }
    }
    stop.cancel();
    tasks.close();
    timeout(Duration::from_secs(10), tasks.wait())
        .await
        .unwrap();
    app.stop().await;
}
