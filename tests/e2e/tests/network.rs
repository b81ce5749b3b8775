//! The main job on real processes: publish, relay, transcode, watch; then things break.

#![expect(
    clippy::unwrap_used,
    reason = "a network that does not start has failed its test"
)]

use std::{path::Path, time::Duration};

use headwater_e2e::{
    Cluster, Node, Publisher, eventually, get, get_text, playlist_beyond, segments, unbroken,
};
use tokio::process::Command;

struct Network {
    cluster: Cluster,
    relay: Node,
    transcoder: Node,
    broadcaster: Node,
    viewer: Node,
}

async fn network() -> Network {
    let cluster = Cluster::new().unwrap();
    let ledger = cluster.ledger();
    let relay = cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let transcoder = ["--transcoder", "--ladder", "240p,144p", "--ledger", &ledger];
    let transcoder = cluster
        .node("transcoder", &[&transcoder[..], &join].concat())
        .await
        .unwrap();
    let broadcaster = [
        "--broadcaster",
        "--ledger",
        &ledger,
        "--reconnect-window",
        "20s",
    ];
    let broadcaster = cluster
        .node("broadcaster", &[&broadcaster[..], &join].concat())
        .await
        .unwrap();
    let viewer = cluster.node("viewer", &join).await.unwrap();
    Network {
        cluster,
        relay,
        transcoder,
        broadcaster,
        viewer,
    }
}

fn media_sequence(playlist: &str) -> u64 {
    let line = playlist
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
    line.unwrap().parse().unwrap()
}

/// Plays a page in Chromium; returns what the page measured.
async fn browse(url: &str, seconds: u32, rendition: &str) -> serde_json::Value {
    let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let output = Command::new("node")
        .current_dir(browser)
        .args(["play.mjs", url, &seconds.to_string(), rendition])
        .output()
        .await
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_browser_plays_the_source_and_switches_to_a_rendition() {
    let net = network().await;
    let encoder = Publisher::start(net.broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = net.cluster.manifest(&net.broadcaster).await.unwrap();
    let variants = net
        .cluster
        .variants(&net.viewer, &manifest, 3)
        .await
        .unwrap();
    let names: Vec<_> = variants
        .iter()
        .map(|variant| variant.name.as_str())
        .collect();
    assert_eq!(names, ["source", "240p", "144p"]);

    let url = format!("{}/watch/{manifest}", net.viewer.http);
    let played = browse(&url, 30, "240p").await;

    let samples = played["samples"].as_array().unwrap();
    let time = |sample: &serde_json::Value| sample["currentTime"].as_f64().unwrap();
    let advanced = time(samples.last().unwrap()) - time(&samples[0]);
    assert!(advanced > 20.0, "{played}");
    assert_eq!(
        played["last"]["videoWidth"], played["switched"]["width"],
        "{played}"
    );
    assert_eq!(played["last"]["videoWidth"], 426, "{played}");
    assert_eq!(played["last"]["fatalErrors"], 0, "{played}");
    assert_eq!(
        played["requests"].as_array().unwrap().len(),
        0,
        "no other host"
    );
    assert!(
        net.broadcaster.log().contains("direct=true"),
        "the feed is direct"
    );
    encoder.stop().await.unwrap();
    for node in [net.viewer, net.broadcaster, net.transcoder, net.relay] {
        node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_killed_relay_costs_the_viewer_nothing_and_a_killed_transcoder_comes_back() {
    let mut net = network().await;
    let join = ["--bootstrap", &net.relay.address];
    let second = net
        .cluster
        .node("second", &[&["--relayer"], &join[..]].concat())
        .await
        .unwrap();
    let encoder = Publisher::start(net.broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = net.cluster.manifest(&net.broadcaster).await.unwrap();
    let variants = net
        .cluster
        .variants(&net.viewer, &manifest, 3)
        .await
        .unwrap();
    let source = variants[0].uri.trim_end_matches(".m3u8").to_owned();
    let rendition = variants[1].uri.trim_end_matches(".m3u8").to_owned();
    // Everybody has to know both relays before one of them dies.
    for node in [&net.viewer, &net.broadcaster, &net.transcoder] {
        eventually(
            "links to both relays",
            Duration::from_secs(30),
            async || {
                let peers = get_text(&format!("{}/api/v1/peers", node.admin)).await?;
                anyhow::ensure!(peers.contains(&second.id), "{peers}");
                Ok(())
            },
        )
        .await
        .unwrap();
    }
    let before = playlist_beyond(&net.viewer, &source, 2).await;
    let newest = *segments(&before).last().unwrap();

    net.relay.kill().await.unwrap();

    let after = playlist_beyond(&net.viewer, &source, newest + 3).await;
    let numbers = unbroken(&after);
    for number in &numbers {
        get(&format!("{}/stream/{source}/{number}.m4s", net.viewer.http))
            .await
            .unwrap();
    }

    net.transcoder.kill().await.unwrap();
    let ledger = net.cluster.ledger();
    let flags = ["--transcoder", "--ladder", "240p,144p", "--ledger", &ledger];
    let join = ["--bootstrap", &second.address];
    net.transcoder = net
        .cluster
        .node("transcoder", &[&flags[..], &join].concat())
        .await
        .unwrap();
    let at_restart = playlist_beyond(&net.viewer, &source, newest).await;
    let newest = *segments(&at_restart).last().unwrap();
    playlist_beyond(&net.viewer, &rendition, newest + 1).await;
    assert!(
        net.transcoder
            .log()
            .contains("resuming a job of the last run")
    );
    let contradictions = net.viewer.metric("headwater_contradictions_total").await;
    assert_eq!(contradictions.unwrap(), 0);
    encoder.stop().await.unwrap();
}

/// The only relay answers nobody until the viewer has noticed.
#[tokio::test]
async fn what_was_missed_while_the_only_way_was_cut_is_made_up_for() {
    let net = network().await;
    let encoder = Publisher::start(net.broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = net.cluster.manifest(&net.broadcaster).await.unwrap();
    let source = format!("{manifest}.source");
    let before = playlist_beyond(&net.viewer, &source, 1).await;
    let newest = *segments(&before).last().unwrap();

    net.relay.freeze().unwrap();
    let relay = format!("from=\"{}\"", &net.relay.id[net.relay.id.len() - 8..]);
    eventually(
        "the viewer to miss its parent",
        Duration::from_secs(20),
        async || {
            let log = net.viewer.log();
            anyhow::ensure!(log.contains(&relay), "{log}");
            Ok(())
        },
    )
    .await
    .unwrap();
    net.relay.thaw().unwrap();

    let after = playlist_beyond(&net.viewer, &source, newest + 2).await;
    unbroken(&after);
    encoder.stop().await.unwrap();
}

#[tokio::test]
async fn an_encoder_that_comes_back_goes_on_and_one_that_stops_ends_the_stream() {
    let net = network().await;
    let url = net.broadcaster.publish.clone().unwrap();
    let encoder = Publisher::start(&url).unwrap();
    let manifest = net.cluster.manifest(&net.broadcaster).await.unwrap();
    let source = format!("{manifest}.source");
    let before = playlist_beyond(&net.viewer, &source, 1).await;

    encoder.kill().await.unwrap();
    let encoder = Publisher::start(&url).unwrap();

    let newest = *segments(&before).last().unwrap();
    let after = playlist_beyond(&net.viewer, &source, newest + 3).await;
    assert_eq!(
        net.cluster.manifest(&net.broadcaster).await.unwrap(),
        manifest
    );
    assert!(media_sequence(&after) >= media_sequence(&before));
    assert!(after.contains("#EXT-X-DISCONTINUITY\n"), "{after}");
    unbroken(&after);

    encoder.stop().await.unwrap();
    let playlist = format!("{}/stream/{source}.m3u8", net.viewer.http);
    eventually("the end", Duration::from_secs(20), async || {
        let text = get_text(&playlist).await?;
        anyhow::ensure!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_transcoder_that_cannot_be_dialled_is_fed_by_the_relays() {
    let cluster = Cluster::new().unwrap();
    let ledger = cluster.ledger();
    let relay = cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    // Nobody listens at the only address it may be dialled at.
    let closed = "/ip4/127.0.0.1/tcp/9";
    let transcoder = ["--transcoder", "--ladder", "144p", "--ledger", &ledger];
    let address = ["--external-addr", closed];
    let flags = [&transcoder[..], &address, &join].concat();
    let transcoder = cluster.node("transcoder", &flags).await.unwrap();
    let broadcaster = ["--broadcaster", "--ledger", &ledger];
    let flags = [&broadcaster[..], &join].concat();
    let broadcaster = cluster.node("broadcaster", &flags).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();

    let manifest = cluster.manifest(&broadcaster).await.unwrap();
    let variants = cluster.variants(&broadcaster, &manifest, 2).await.unwrap();

    assert_eq!(variants[1].name, "144p");
    assert!(
        broadcaster.log().contains("direct=false"),
        "{}",
        broadcaster.log()
    );
    assert!(!broadcaster.log().contains("direct=true"));
    drop(transcoder);
    encoder.stop().await.unwrap();
}
