//! The network with a contract on a real chain as its ledger: jobs, money, failures.

#![expect(
    clippy::unwrap_used,
    reason = "what a network cannot be made of has failed its test"
)]

use std::time::Duration;

use headwater_anvil::Anvil;
use headwater_e2e::{
    Cluster, Node, Publisher, account, chain, eventually, get, get_text, playlist_beyond, segments,
    unbroken,
};

/// Wei for a segment.
const PRICE: &str = "1000";
const BROADCASTER: usize = 1;

/// A chain with the contract, and a network without nodes.
struct World {
    cluster: Cluster,
    chain: Anvil,
    contract: String,
}

impl World {
    async fn new() -> Self {
        let cluster = Cluster::new().unwrap();
        let chain = chain(&cluster.dir().join("chain.json"));
        let ws = chain.ws_url();
        let rules = [
            ["--reserve-segments", "200"],
            ["--claim-blocks", "60"],
            ["--challenge-blocks", "4"],
            ["--answer-blocks", "2"],
        ];
        let deploy = ["ledger", "deploy", "--yes", "--ledger", &ws];
        let deploy = [&deploy[..], rules.as_flattened()].concat();
        let made = cluster.run(account(0), &deploy).await.unwrap();
        let contract = made["contract"].as_str().unwrap().to_owned();
        let world = Self {
            cluster,
            chain,
            contract,
        };
        let deposit = ["ledger", "deposit", "1000000000000000000", "--yes"];
        world.run(BROADCASTER, &deposit).await;
        world
    }

    /// The flags that say which ledger.
    fn ledger(&self) -> Vec<String> {
        let flags = [
            "--ledger",
            &self.chain.ws_url(),
            "--contract",
            &self.contract,
        ];
        let flags = flags.into_iter().chain(["--confirmations", "0"]);
        flags.map(str::to_owned).collect()
    }

    async fn run(&self, who: usize, args: &[&str]) -> serde_json::Value {
        let ledger = self.ledger();
        let flags: Vec<_> = args
            .iter()
            .copied()
            .chain(ledger.iter().map(String::as_str))
            .collect();
        self.cluster.run(account(who), &flags).await.unwrap()
    }

    async fn node(&self, who: usize, name: &str, flags: &[&str]) -> Node {
        let ledger = self.ledger();
        let flags: Vec<_> = flags
            .iter()
            .copied()
            .chain(ledger.iter().map(String::as_str))
            .collect();
        self.cluster
            .node_of(account(who), name, &flags)
            .await
            .unwrap()
    }

    /// A registered transcoder, with more flags.
    async fn transcoder(&self, who: usize, ladder: &str, more: &[&str]) -> Node {
        let flags = [&["--transcoder", "--ladder", ladder], more].concat();
        let node = self.node(who, &format!("transcoder-{who}"), &flags).await;
        let register = [
            "ledger", "register", "--yes", "--node", &node.id, "--price", PRICE,
        ];
        self.run(who, &register).await;
        node
    }

    async fn broadcaster(&self, join: &[&str]) -> Node {
        let flags = ["--broadcaster", "--create-jobs", "--max-price", PRICE];
        let flags = [&flags[..], &["--reassign-after", "5s"], join].concat();
        self.node(BROADCASTER, "broadcaster", &flags).await
    }

    /// What an account has in the contract.
    async fn balance(&self, who: usize) -> u128 {
        let told = self.run(who, &["ledger", "account"]).await;
        told["account"]["balance"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }
}

#[tokio::test]
async fn a_transcoder_is_elected_fed_and_paid_on_a_chain() {
    let world = World::new().await;
    let relay = world.cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let often = [&join[..], &["--claim-receipts", "3"]].concat();
    let transcoder = world.transcoder(2, "240p", &often).await;
    let broadcaster = world.broadcaster(&join).await;
    let viewer = world.cluster.node("viewer", &join).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();

    let manifest = world.cluster.manifest(&broadcaster).await.unwrap();
    let variants = world.cluster.variants(&viewer, &manifest, 2).await;
    let logs = || format!("{}\n{}", broadcaster.log(), transcoder.log());
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    let rendition = variants[1].uri.trim_end_matches(".m3u8");
    assert!(rendition.starts_with(&transcoder.id));
    unbroken(&playlist_beyond(&viewer, rendition, 3).await);
    let received = "headwater_receipts_received_total";
    let wanted = Duration::from_secs(60);
    eventually("receipts", wanted, async || {
        let count = transcoder.metric(received).await?;
        anyhow::ensure!(count >= 3, "{count}");
        // While the job goes on: they are as many as a claim wants.
        anyhow::ensure!(transcoder.log().contains("work claimed"));
        Ok(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    encoder.stop().await.unwrap();

    let paid = eventually("to be paid", Duration::from_secs(120), async || {
        let balance = world.balance(2).await;
        anyhow::ensure!(balance > 0, "nothing yet");
        Ok(balance)
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));

    let receipts = u128::from(transcoder.metric(received).await.unwrap());
    assert_eq!(paid % 1000, 0, "{paid}");
    assert!(
        paid >= 3000 && paid <= receipts * 1000,
        "{paid} for {receipts}"
    );
    assert_eq!(
        transcoder
            .metric("headwater_receipts_bad_total")
            .await
            .unwrap(),
        0
    );
}

#[tokio::test]
async fn a_chain_that_was_down_still_gives_a_lost_transcoders_job_to_another() {
    let mut world = World::new().await;
    let relay = world.cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let one = world.transcoder(2, "240p", &join).await;
    let other = world.transcoder(3, "144p", &join).await;
    let mut transcoders = vec![one, other];
    let broadcaster = world.broadcaster(&join).await;
    let viewer = world.cluster.node("viewer", &join).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = world.cluster.manifest(&broadcaster).await.unwrap();
    let source = format!("{manifest}.source");
    let variants = world.cluster.variants(&viewer, &manifest, 2).await;
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", broadcaster.log()));
    let before = playlist_beyond(&viewer, &source, 1).await;
    let of = |node: &Node| variants[1].uri.starts_with(&node.id);
    let dead = transcoders.remove(transcoders.iter().position(of).unwrap());
    let other = &transcoders[0];

    world.chain.start_again();
    let dead_id = dead.id.clone();
    dead.kill().await.unwrap();

    let variant = eventually(
        "the other transcoder to take over",
        Duration::from_secs(90),
        async || {
            let variants = world.cluster.variants(&viewer, &manifest, 2).await?;
            let names = |id: &str| variants.iter().find(|v| v.uri.starts_with(id)).cloned();
            anyhow::ensure!(names(&dead_id).is_none(), "{variants:?}");
            names(&other.id).ok_or_else(|| anyhow::anyhow!("{variants:?}"))
        },
    )
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", broadcaster.log(), other.log()));

    let newest = *segments(&before).last().unwrap();
    let rendition = variant.uri.trim_end_matches(".m3u8");
    unbroken(&playlist_beyond(&viewer, rendition, newest + 1).await);
    unbroken(&playlist_beyond(&viewer, &source, newest + 1).await);
    encoder.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_chain_takes_back_is_worked_on_no_more() {
    let world = World::new().await;
    let relay = world.cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let transcoder = world.transcoder(2, "144p", &join).await;
    world.chain.mine(40).await;
    let broadcaster = world.broadcaster(&join).await;
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = world.cluster.manifest(&broadcaster).await.unwrap();
    let variants = world.cluster.variants(&broadcaster, &manifest, 2).await;
    let logs = || format!("{}\n{}", broadcaster.log(), transcoder.log());
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    assert!(variants[1].uri.starts_with(&transcoder.id));

    // The job was created less than 30 blocks ago, and its transcoder registered before.
    world.chain.reorganise(30).await;

    let wanted = Duration::from_secs(30);
    let gone = eventually("an end of the work", wanted, async || {
        let master = get_text(&format!("{}/stream/{manifest}.m3u8", broadcaster.http)).await?;
        anyhow::ensure!(!master.contains(&transcoder.id), "{master}");
        anyhow::ensure!(transcoder.log().contains("job is over"));
        Ok(())
    });
    gone.await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    let source = format!("{manifest}.source");
    let newest = *segments(&playlist_beyond(&broadcaster, &source, 0).await)
        .last()
        .unwrap();
    unbroken(&playlist_beyond(&broadcaster, &source, newest + 1).await);
    encoder.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_that_the_chain_takes_back_and_gives_to_the_same_transcoder_goes_on() {
    let world = World::new().await;
    let relay = world.cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let transcoder = world.transcoder(2, "144p", &join).await;
    world.chain.mine(40).await;
    let broadcaster = world.broadcaster(&join).await;
    let viewer = world.cluster.node("viewer", &join).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = world.cluster.manifest(&broadcaster).await.unwrap();
    let logs = || format!("{}\n{}", broadcaster.log(), transcoder.log());
    let variants = world.cluster.variants(&viewer, &manifest, 2).await;
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    let rendition = variants[1].uri.trim_end_matches(".m3u8");
    assert!(rendition.starts_with(&transcoder.id));
    unbroken(&playlist_beyond(&viewer, rendition, 2).await);

    world.chain.reorganise(30).await;

    // A player goes on asking all the time.
    let url = format!("{}/stream/{rendition}.m3u8", viewer.http);
    let wanted = Duration::from_secs(90);
    let again = eventually("the job to come again", wanted, async || {
        let playlist = get_text(&url).await?;
        let log = transcoder.log();
        anyhow::ensure!(log.contains("job is over"), "it goes on");
        anyhow::ensure!(log.matches("job starts").count() > 1, "it is over");
        let first = log.rsplit("the source comes").next().unwrap_or_default();
        anyhow::ensure!(log.matches("the source comes").count() > 1, "{first}");
        Ok(*segments(&playlist).last().unwrap())
    });
    let newest = again
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    let variants = world.cluster.variants(&viewer, &manifest, 2).await;
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    assert!(variants[1].uri.starts_with(rendition), "{variants:?}");
    let playlist = playlist_beyond(&viewer, rendition, newest + 3).await;
    let numbers = segments(&playlist);
    assert!(numbers.is_sorted_by(|a, b| a < b), "{playlist}");
    assert!(playlist.contains("#EXT-X-DISCONTINUITY"), "{playlist}");
    assert!(!playlist.contains("#EXT-X-ENDLIST"), "{playlist}");
    let last = numbers.last().unwrap();
    let segment = get(&format!("{}/stream/{rendition}/{last}.m4s", viewer.http)).await;
    assert!(segment.unwrap().bytes().await.unwrap().len() > 1_000);
    for (name, log) in [
        ("transcoder", transcoder.log()),
        ("broadcaster", broadcaster.log()),
        ("viewer", viewer.log()),
        ("relay", relay.log()),
    ] {
        let wrong = log
            .lines()
            .find(|line| line.contains("ERROR") || line.contains("misbehaved"));
        assert_eq!(wrong, None, "of the {name}");
    }
    encoder.stop().await.unwrap();
}

/// The jobs that a transcoder says it holds, with how many renditions it makes for each.
async fn held(transcoder: &Node) -> anyhow::Result<Vec<(u64, usize)>> {
    let text = get_text(&format!("{}/api/v1/jobs", transcoder.admin)).await?;
    let jobs: serde_json::Value = serde_json::from_str(&text)?;
    let read = |job: &serde_json::Value| {
        let renditions = job["renditions"].as_array()?.len();
        Some((job["job"].as_u64()?, renditions))
    };
    let jobs = jobs.as_array().into_iter().flatten().map(read);
    Ok(jobs.collect::<Option<_>>().unwrap_or_default())
}

/// On a chain anybody can create a job for any broadcast, and one transcoder may get both.
#[tokio::test]
async fn two_jobs_for_one_broadcast_share_the_renditions_and_each_is_paid_by_itself() {
    const OTHER: usize = 3;
    let world = World::new().await;
    let deposit = ["ledger", "deposit", "1000000000000000000", "--yes"];
    world.run(OTHER, &deposit).await;
    let relay = world.cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let transcoder = world.transcoder(2, "240p", &join).await;
    let flags = [&["--broadcaster"][..], &join].concat();
    let broadcaster = world.node(BROADCASTER, "broadcaster", &flags).await;
    let viewer = world.cluster.node("viewer", &join).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = world.cluster.manifest(&broadcaster).await.unwrap();
    let logs = || format!("{}\n{}", broadcaster.log(), transcoder.log());
    let holds = async |jobs: &[(u64, usize)]| {
        let wait = Duration::from_secs(60);
        let same = eventually("these jobs", wait, async || {
            let held = held(&transcoder).await?;
            anyhow::ensure!(held == jobs, "{held:?}");
            Ok(())
        });
        let same = same.await;
        same.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    };
    let create = ["job", "create", &manifest, "--ladder", "240p"];
    let create = [&create[..], &["--max-price", PRICE, "--yes"]].concat();

    // The one who is not the broadcaster is the first.
    world.run(OTHER, &create).await;
    holds(&[(1, 0)]).await;
    world.run(BROADCASTER, &create).await;

    let variants = world.cluster.variants(&viewer, &manifest, 2).await;
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    let rendition = variants[1].uri.trim_end_matches(".m3u8");
    assert!(rendition.starts_with(&transcoder.id));
    holds(&[(1, 1), (2, 1)]).await;
    let wanted = Duration::from_secs(60);
    eventually("receipts", wanted, async || {
        let count = transcoder
            .metric("headwater_receipts_received_total")
            .await?;
        anyhow::ensure!(count >= 3, "{count}");
        Ok(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    let bad = transcoder.metric("headwater_receipts_bad_total").await;
    assert_eq!(bad.unwrap(), 0);

    world.run(OTHER, &["job", "end", "1", "--yes"]).await;

    holds(&[(2, 1)]).await;
    let before = playlist_beyond(&viewer, rendition, 1).await;
    let newest = *segments(&before).last().unwrap();
    let after = playlist_beyond(&viewer, rendition, newest + 3).await;
    unbroken(&after);
    assert!(!after.contains("#EXT-X-DISCONTINUITY\n"), "{after}");
    let variants = world.cluster.variants(&viewer, &manifest, 2).await;
    assert_eq!(variants.unwrap().len(), 2);
    encoder.stop().await.unwrap();
}

#[tokio::test]
async fn a_broadcast_gets_its_job_once_it_can_be_paid() {
    const POOR: usize = 4;
    let world = World::new().await;
    let relay = world.cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let transcoder = world.transcoder(2, "144p", &join).await;
    let flags = ["--broadcaster", "--create-jobs", "--max-price", PRICE];
    let flags = [&flags[..], &join].concat();
    let broadcaster = world.node(POOR, "broadcaster", &flags).await;
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = world.cluster.manifest(&broadcaster).await.unwrap();
    let wanted = Duration::from_secs(20);
    let refused = eventually("a refusal", wanted, async || {
        anyhow::ensure!(broadcaster.log().contains("headwater ledger deposit"));
        Ok(())
    });
    refused.await.unwrap();

    let deposit = ["ledger", "deposit", "1000000000000000000", "--yes"];
    world.run(POOR, &deposit).await;

    let variants = world.cluster.variants(&broadcaster, &manifest, 2).await;
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", broadcaster.log()));
    assert!(variants[1].uri.starts_with(&transcoder.id));
    encoder.stop().await.unwrap();
}

/// What `headwater status` says of a node's ledger.
async fn ledger_of(node: &Node) -> anyhow::Result<serde_json::Value> {
    let text = get_text(&format!("{}/api/v1/status", node.admin)).await?;
    let mut status: serde_json::Value = serde_json::from_str(&text)?;
    Ok(status["ledger"].take())
}

#[tokio::test]
async fn nodes_carry_streams_before_their_chain_answers_and_do_jobs_once_it_does() {
    let mut world = World::new().await;
    let relay = world.cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    // It has registered, and is started again.
    let transcoder = world.transcoder(2, "144p", &join).await;
    transcoder.stop().await.unwrap();
    world.chain.stop();

    let flags = [&["--transcoder", "--ladder", "144p"][..], &join].concat();
    let transcoder = world.node(2, "transcoder-2", &flags).await;
    let broadcaster = world.broadcaster(&join).await;
    let viewer = world.cluster.node("viewer", &join).await.unwrap();
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = world.cluster.manifest(&broadcaster).await.unwrap();
    let source = format!("{manifest}.source");
    unbroken(&playlist_beyond(&viewer, &source, 1).await);
    for node in [&broadcaster, &transcoder] {
        let told = ledger_of(node).await.unwrap();
        assert_eq!(told["state"], "unreachable");
        let reason = told["reason"].as_str().unwrap();
        assert!(reason.contains(&world.chain.ws_url()), "{reason}");
        assert_eq!(node.metric("headwater_ledger_open").await.unwrap(), 0);
        let ready = get_text(&format!("{}/readyz", node.http)).await.unwrap();
        assert!(ready.contains("\"ledger\":\"unreachable\""), "{ready}");
        let said = node.log().matches("the ledger is unreachable").count();
        assert!(said >= 1, "{}", node.log());
    }

    world.chain.start_again();

    let variants = world.cluster.variants(&viewer, &manifest, 2).await;
    let logs = || format!("{}\n{}", broadcaster.log(), transcoder.log());
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", logs()));
    let rendition = variants[1].uri.trim_end_matches(".m3u8");
    assert!(rendition.starts_with(&transcoder.id));
    unbroken(&playlist_beyond(&viewer, rendition, 1).await);
    for node in [&broadcaster, &transcoder] {
        assert_eq!(ledger_of(node).await.unwrap()["state"], "open");
        assert_eq!(node.metric("headwater_ledger_open").await.unwrap(), 1);
    }
    encoder.stop().await.unwrap();
}

#[tokio::test]
async fn a_contract_that_is_not_there_yet_is_waited_for() {
    let mut world = World::new().await;
    world.chain.stop();
    let node = world.broadcaster(&[]).await;

    std::fs::remove_file(world.cluster.dir().join("chain.json")).unwrap();
    world.chain.start_again();

    let wanted = Duration::from_secs(30);
    let missed = eventually("the contract to be missed", wanted, async || {
        let told = ledger_of(&node).await?;
        anyhow::ensure!(told["state"] == "unreachable", "{told}");
        let reason = told["reason"].as_str().unwrap_or_default();
        anyhow::ensure!(reason.contains("there is no contract"), "{told}");
        Ok(())
    });
    missed.await.unwrap();
    // With a chain that answers, it is taken for a mistake at the first start.
    let ledger = world.ledger();
    let flags = ledger.iter().map(String::as_str);
    let flags: Vec<_> = flags.chain(["--broadcaster"]).collect();
    let key = account(BROADCASTER);
    let refused = world.cluster.node_of(key, "another", &flags).await;
    let error = format!("{:#}", refused.unwrap_err());
    assert!(error.contains("there is no contract"), "{error}");

    let ws = world.chain.ws_url();
    let deploy = ["ledger", "deploy", "--yes", "--ledger", &ws];
    let made = world.cluster.run(account(0), &deploy).await.unwrap();
    assert_eq!(made["contract"], world.contract);

    let opened = eventually("the ledger to open", wanted, async || {
        let told = ledger_of(&node).await?;
        anyhow::ensure!(told["state"] == "open", "{told}");
        Ok(())
    });
    opened.await.unwrap();
}

#[tokio::test]
async fn a_second_node_of_an_account_leaves_the_first_its_jobs() {
    let world = World::new().await;
    let first = world.transcoder(2, "144p", &[]).await;
    let before = world.run(2, &["ledger", "account"]).await;

    let flags = ["--transcoder", "--ladder", "144p"];
    let second = world.node(2, "copy", &flags).await;

    let wanted = Duration::from_secs(30);
    let warned = eventually("a warning", wanted, async || {
        let log = second.log();
        anyhow::ensure!(log.contains("another node is registered"), "{log}");
        anyhow::ensure!(log.contains(&first.id), "{log}");
        Ok(())
    });
    warned.await.unwrap();
    let after = world.run(2, &["ledger", "account"]).await;
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_chain_that_begins_anew_ends_the_ledger_and_not_the_node() {
    let mut world = World::new().await;
    world.chain.mine(5).await;
    let relay = world.cluster.node("relay", &["--relayer"]).await.unwrap();
    let join = ["--bootstrap", &relay.address];
    let transcoder = world.transcoder(2, "144p", &join).await;
    let broadcaster = world.broadcaster(&join).await;
    let encoder = Publisher::start(broadcaster.publish.as_ref().unwrap()).unwrap();
    let manifest = world.cluster.manifest(&broadcaster).await.unwrap();
    let variants = world.cluster.variants(&broadcaster, &manifest, 2).await;
    let variants = variants.unwrap_or_else(|error| panic!("{error:#}\n{}", broadcaster.log()));
    let rendition = variants[1].uri.trim_end_matches(".m3u8");

    world.chain.start_anew();

    for node in [&broadcaster, &transcoder] {
        let ended = eventually("the ledger to fail", Duration::from_secs(60), async || {
            let told = ledger_of(node).await?;
            anyhow::ensure!(told["state"] == "failed", "{told}");
            Ok(told["reason"].as_str().unwrap_or_default().to_owned())
        });
        let reason = ended.await.unwrap();
        assert!(reason.contains("if the chain was started anew"), "{reason}");
        let said = node.log().matches("the ledger cannot be followed").count();
        assert_eq!(said, 1, "{}", node.log());
    }
    // What is under way goes on.
    let newest = *segments(&playlist_beyond(&broadcaster, rendition, 0).await)
        .last()
        .unwrap();
    unbroken(&playlist_beyond(&broadcaster, rendition, newest + 1).await);
    encoder.stop().await.unwrap();
}
