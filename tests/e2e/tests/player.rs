//! The player page while renditions come and go.

#![expect(
    clippy::unwrap_used,
    reason = "a network that does not start has failed its test"
)]

use std::{path::Path, process::Stdio};

use headwater_e2e::{Cluster, Node, Publisher};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

async fn transcoder(cluster: &Cluster, broadcaster: &Node) -> Node {
    let ledger = cluster.ledger();
    let flags = ["--transcoder", "--ladder", "144p", "--ledger", &ledger];
    let join = ["--bootstrap", &broadcaster.address];
    let flags = [&flags[..], &join].concat();
    cluster.node("transcoder", &flags).await.unwrap()
}

/// A page that tells how far it is.
struct Browser {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    fn open(url: &str, rendition: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
        let mut child = Command::new("node")
            .current_dir(folder)
            .args(["renditions.mjs", url, rendition])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = self.lines.next_line().await.unwrap();
        line.expect("the browser tells what it sees")
    }
}

#[tokio::test]
async fn the_page_plays_on_while_renditions_come_and_go_and_keeps_to_the_chosen_one() {
    let cluster = Cluster::new().unwrap();
    let ledger = cluster.ledger();
    let flags = ["--broadcaster", "--relayer", "--ledger", &ledger];
    let broadcaster = cluster.node("broadcaster", &flags).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = cluster.manifest(&broadcaster).await.unwrap();
    let url = format!("{}/watch/{manifest}", broadcaster.http);
    let mut browser = Browser::open(&url, "144p");

    assert_eq!(browser.line().await, "plays the source");
    let first = transcoder(&cluster, &broadcaster).await;
    assert_eq!(browser.line().await, "plays the rendition");
    first.kill().await.unwrap();
    assert_eq!(browser.line().await, "plays the source again");
    let second = transcoder(&cluster, &broadcaster).await;
    assert_eq!(browser.line().await, "plays the rendition again");
    encoder.stop().await.unwrap();
    let seen: serde_json::Value = serde_json::from_str(&browser.line().await).unwrap();
    assert!(browser.child.wait().await.unwrap().success());

    assert_eq!(seen["pageError"], serde_json::Value::Null, "{seen}");
    assert_eq!(
        seen["first"]["muted"], true,
        "a browser allows no sound yet"
    );
    assert_eq!(seen["offered"], true, "but it is offered");
    let came = seen["came"].as_array().unwrap();
    let moments = came.iter().map(|one| one["moment"].as_f64().unwrap());
    let moments: Vec<_> = moments.collect();
    let back = moments.windows(2).find(|two| two[1] < two[0] - 500.0);
    assert_eq!(back, None, "nothing is seen twice");
    for one in came {
        assert_eq!(one["state"], "live", "no new start: {one}");
        assert_eq!(one["muted"], false, "sound stays: {one}");
    }
    assert_eq!(seen["without"]["wanted"], "144p", "the choice is kept");
    assert_eq!(seen["again"]["wanted"], "144p", "{seen}");
    assert_eq!(seen["again"]["fatalErrors"], 0, "{seen}");
    assert_eq!(seen["notice"], "The broadcast has ended.");
    for node in [second, broadcaster] {
        node.stop().await.unwrap();
    }
}
