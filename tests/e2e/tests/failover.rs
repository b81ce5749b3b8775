//! A transcoder is lost for good, and another makes the renditions.

use std::time::Duration;

use headwater_e2e::{Cluster, Node, Publisher, eventually, playlist_beyond, segments, unbroken};
use tokio::process::Command;

#[tokio::test]
async fn another_transcoder_takes_over_from_one_that_died() {
    let cluster = Cluster::new().unwrap();
    let ledger = cluster.ledger();
    let relay = cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let mut transcoders = Vec::new();
    for (name, ladder) in [("one", "240p"), ("other", "144p")] {
        let flags = ["--transcoder", "--ladder", ladder, "--ledger", &ledger];
        let flags = [&flags[..], &join].concat();
        transcoders.push(cluster.node(name, &flags).await.unwrap());
    }
    let flags = [
        "--broadcaster",
        "--ledger",
        &ledger,
        "--reassign-after",
        "5s",
    ];
    let flags = [&flags[..], &join].concat();
    let broadcaster = cluster.node("broadcaster", &flags).await.unwrap();
    let viewer = cluster.node("viewer", &join).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = cluster.manifest(&broadcaster).await.unwrap();
    let source = format!("{manifest}.source");
    let variants = cluster.variants(&viewer, &manifest, 2).await.unwrap();
    let before = playlist_beyond(&viewer, &source, 1).await;

    let of = |id: &str| variants[1].uri.starts_with(id);
    let elected = transcoders.iter().position(|node| of(&node.id)).unwrap();
    let dead = transcoders.remove(elected);
    let (dead_id, other) = (dead.id.clone(), &transcoders[0]);
    dead.kill().await.unwrap();

    let variant = eventually(
        "the other transcoder to take over",
        Duration::from_secs(60),
        async || {
            let variants = cluster.variants(&viewer, &manifest, 2).await?;
            let names = |id: &str| variants.iter().find(|v| v.uri.starts_with(id)).cloned();
            anyhow::ensure!(names(&dead_id).is_none(), "{variants:?}");
            names(&other.id).ok_or_else(|| anyhow::anyhow!("{variants:?}"))
        },
    )
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", broadcaster.log()));

    let newest = *segments(&before).last().unwrap();
    let rendition = variant.uri.trim_end_matches(".m3u8");
    let made = unbroken(&playlist_beyond(&viewer, rendition, newest + 1).await);
    let shown = unbroken(&playlist_beyond(&viewer, &source, newest + 1).await);
    assert!(
        made.iter().any(|number| shown.contains(number)),
        "numbers go on: {made:?} {shown:?}"
    );
    encoder.stop().await.unwrap();
}

/// What makes a transcoder say each step of its search.
const STEPS: [&str; 2] = ["--log", "info,headwater::driver=debug"];

/// Times that a transcoder has asked somebody to feed it, and that it has been fed.
fn asked_and_fed(transcoder: &Node) -> (usize, usize) {
    let log = transcoder.log();
    let count = |stage: &str| log.matches(&format!("to={stage}")).count();
    (count("Asked"), count("Relayed") + count("Direct"))
}

#[tokio::test]
async fn a_transcoder_is_soon_fed_again_when_its_broadcaster_was_killed_and_comes_back() {
    let cluster = Cluster::new().unwrap();
    let ledger = cluster.ledger();
    let relay = cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let flags = ["--transcoder", "--ladder", "144p", "--ledger", &ledger];
    let transcoder = cluster
        .node("transcoder", &[&flags[..], &join, &STEPS].concat())
        .await;
    let transcoder = transcoder.unwrap();
    let flags = [&["--broadcaster", "--ledger", &ledger][..], &join].concat();
    let broadcaster = cluster.node("broadcaster", &flags).await.unwrap();
    let viewer = cluster.node("viewer", &join).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = cluster.manifest(&broadcaster).await.unwrap();
    let variants = cluster.variants(&viewer, &manifest, 2).await.unwrap();
    let rendition = variants[1].uri.trim_end_matches(".m3u8").to_owned();
    let before = playlist_beyond(&viewer, &rendition, 1).await;

    let (asked, _) = asked_and_fed(&transcoder);
    broadcaster.kill().await.unwrap();
    encoder.kill().await.unwrap();
    // It is away for long enough that the pauses between claims are at their longest.
    let wanted = Duration::from_secs(40);
    let tried = eventually("claims in vain", wanted, async || {
        let (now, _) = asked_and_fed(&transcoder);
        anyhow::ensure!(now >= asked + 6, "{asked}, {now}");
        Ok(())
    });
    tried.await.unwrap();
    let (_, fed) = asked_and_fed(&transcoder);
    let broadcaster = cluster.node("broadcaster", &flags).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    assert_eq!(cluster.manifest(&broadcaster).await.unwrap(), manifest);

    let wanted = Duration::from_secs(5);
    let back = eventually("the feed to come back", wanted, async || {
        let (_, now) = asked_and_fed(&transcoder);
        anyhow::ensure!(now > fed, "{}", transcoder.log());
        Ok(())
    });
    back.await.unwrap();
    let newest = *segments(&before).last().unwrap();
    cluster.variants(&viewer, &manifest, 2).await.unwrap();
    let playlist = playlist_beyond(&viewer, &rendition, newest + 3).await;
    assert!(playlist.contains("#EXT-X-DISCONTINUITY"), "{playlist}");
    for node in [&relay, &transcoder, &viewer] {
        let contradictions = node.metric("headwater_contradictions_total").await;
        assert_eq!(contradictions.unwrap(), 0);
    }
    encoder.stop().await.unwrap();
}

#[tokio::test]
async fn transcoders_are_found_by_any_node_and_said_to_be_gone_when_they_are() {
    let cluster = Cluster::new().unwrap();
    let ledger = cluster.ledger();
    let relay = cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let flags = [&["--transcoder", "--ledger", &ledger][..], &join].concat();
    let transcoder = cluster.node("transcoder", &flags).await.unwrap();
    let edge = cluster.node("edge", &join).await.unwrap();
    let admin = edge.admin.trim_start_matches("http://").to_owned();
    let found = async |available: bool| {
        let what = format!("the transcoder listed with available={available}");
        let listed = eventually(&what, Duration::from_secs(30), async || {
            let output = Command::new(cluster.binary())
                .args(["peers", "transcoders", "--json", "--admin", &admin])
                .output()
                .await?;
            let error = String::from_utf8_lossy(&output.stderr);
            anyhow::ensure!(output.status.success(), "{error}");
            let listed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
            anyhow::ensure!(listed[0]["available"] == available, "{listed}");
            Ok(listed)
        });
        listed.await.unwrap()
    };

    let listed = found(true).await;
    assert_eq!(listed[0]["node"], transcoder.id);
    assert_eq!(listed.as_array().unwrap().len(), 1);

    transcoder.kill().await.unwrap();
    found(false).await;
}
