//! What real nodes did is what the same core does again.

use std::{fs::File, io::BufReader, time::Duration};

use anyhow::Context as _;
use headwater_e2e::{Cluster, Publisher, eventually, get_text};
use headwater_protocol::record::replay;

#[tokio::test]
async fn recordings_of_all_roles_replay_without_a_difference() {
    let cluster = Cluster::new().unwrap();
    let ledger = cluster.ledger();
    let file = |name: &str| cluster.dir().join(name).with_extension("recording");
    let start = async |name: &str, flags: &[&str]| {
        let file = file(name);
        let record = ["--record", file.to_str().unwrap(), "--ledger", &ledger];
        let flags = [flags, &record].concat();
        cluster.node(name, &flags).await.unwrap()
    };
    let relay = start("relay", &["--relayer"]).await;
    let join = ["--bootstrap", &relay.address];
    let transcoder = ["--transcoder", "--ladder", "144p"];
    let transcoder = start("transcoder", &[&transcoder[..], &join].concat()).await;
    let broadcaster = start("broadcaster", &[&["--broadcaster"], &join[..]].concat()).await;
    let viewer = start("viewer", &join).await;
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = cluster.manifest(&broadcaster).await.unwrap();
    let variants = cluster.variants(&viewer, &manifest, 2).await.unwrap();
    for variant in &variants {
        let url = format!("{}/stream/{}", viewer.http, variant.uri);
        eventually("two segments", Duration::from_secs(30), async || {
            let text = get_text(&url).await?;
            let segments = text.lines().filter(|line| line.ends_with(".m4s")).count();
            anyhow::ensure!(segments >= 2, "{text}");
            Ok(())
        })
        .await
        .unwrap();
    }
    encoder.stop().await.unwrap();
    for node in [viewer, broadcaster, transcoder, relay] {
        node.stop().await.unwrap();
    }

    for name in ["viewer", "broadcaster", "transcoder", "relay"] {
        let recording = File::open(file(name)).unwrap();
        let replayed = replay(BufReader::new(recording)).context(name).unwrap();
        assert_eq!(replayed.difference, None, "{name}: {replayed}");
        assert!(replayed.inputs > 50, "{name}: {replayed}");
        assert!(replayed.outputs > 20, "{name}: {replayed}");
    }
}
