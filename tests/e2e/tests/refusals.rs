//! What is refused, how clearly it is said, and that nothing secret is said with it.

#![expect(
    clippy::unwrap_used,
    reason = "a node that does not start has failed its test"
)]

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use headwater_e2e::{Cluster, Node, Publisher, eventually, get_text};
use tokio::{io::AsyncReadExt as _, process::Command};

async fn headwater(cluster: &Cluster, arguments: &[&str]) -> Output {
    let run = Command::new(cluster.binary())
        .args(arguments)
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(Duration::from_secs(60), run)
        .await
        .unwrap()
        .unwrap()
}

/// The error of a command that was told right and has to fail.
async fn refusal(cluster: &Cluster, arguments: &[&str]) -> String {
    error(cluster, arguments, 1).await
}

/// The error of a command that was told something wrong.
async fn mistake(cluster: &Cluster, arguments: &[&str]) -> String {
    error(cluster, arguments, 2).await
}

async fn error(cluster: &Cluster, arguments: &[&str], code: i32) -> String {
    let output = headwater(cluster, arguments).await;
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}

/// Flags of a node that would start.
fn flags<'a>(dir: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = [
        "node",
        "--data-dir",
        dir,
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--admin",
        "127.0.0.1:0",
    ];
    [&base, more].concat()
}

async fn make(dir: &Path, name: &str, arguments: &str) -> String {
    let path = dir.join(name).display().to_string();
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .status()
        .await
        .unwrap();
    assert!(status.success());
    path
}

#[tokio::test]
async fn what_cannot_be_is_refused_at_start_with_the_flag_to_change() {
    let cluster = Cluster::new().unwrap();
    let data = cluster.dir().join("data").display().to_string();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();

    let error = refusal(&cluster, &flags(&data, &["--http", &taken])).await;
    assert!(
        error.contains("--http") && error.contains(&taken),
        "{error}"
    );
    let error = mistake(
        &cluster,
        &flags(&data, &["--http", "127.0.0.1:0", "--bootstrap", "nonsense"]),
    )
    .await;
    assert!(
        error.contains("--bootstrap nonsense") && error.contains("/ip4/"),
        "{error}"
    );
    let rtmp = ["--http", "127.0.0.1:0", "--broadcaster", "--rtmp", &taken];
    let error = refusal(&cluster, &flags(&data, &rtmp)).await;
    assert!(error.contains("--rtmp"), "{error}");

    let book = cluster.dir().join("notes.txt");
    std::fs::write(&book, "buy milk\n".repeat(50)).unwrap();
    let book = format!("file:{}", book.display());
    let error = refusal(
        &cluster,
        &flags(&data, &["--http", "127.0.0.1:0", "--ledger", &book]),
    )
    .await;
    assert!(
        error.contains("notes.txt") && error.contains("not a job book"),
        "{error}"
    );
    let error = mistake(
        &cluster,
        &flags(&data, &["--http", "127.0.0.1:0", "--transcoder"]),
    )
    .await;
    assert!(error.contains("--ledger"), "{error}");
    let error = mistake(&cluster, &flags(&data, &["--part", "9s"])).await;
    assert!(error.contains("part") && error.contains("2s"), "{error}");
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused_by_its_holder_s_number() {
    let cluster = Cluster::new().unwrap();
    let node = cluster.node("node", &[]).await.unwrap();
    let data = cluster.dir().join("node").display().to_string();

    let error = refusal(&cluster, &flags(&data, &["--http", "127.0.0.1:0"])).await;

    assert!(error.contains("in use by another node"), "{error}");
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_never_logged() {
    let cluster = Cluster::new().unwrap();
    let node = cluster
        .node(
            "node",
            &["--broadcaster", "--publish-key", "show=right-secret"],
        )
        .await
        .unwrap();
    let url = node.publish.clone().unwrap();
    assert!(url.ends_with("/live/right-secret"), "{url}");
    let wrong = url.replace("right-secret", "wrong-secret");
    let film = make(
        cluster.dir(),
        "a.mp4",
        "-f lavfi -i testsrc2=size=320x180:rate=30 -t 2 -c:v libx264 -pix_fmt yuv420p",
    )
    .await;

    let error = refusal(&cluster, &["publish", &film, "--to", &wrong]).await;

    assert!(error.contains("stream key"), "{error}");
    let elsewhere = node.http.replace("http://", "rtmp://") + "/live/right-secret";
    let error = refusal(&cluster, &["publish", &film, "--to", &elsewhere]).await;
    assert!(error.contains("port"), "{error}");
    let log = node.log();
    assert!(log.contains("wrong stream key"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_a_refused_key() {
    let cluster = Cluster::new().unwrap();
    let film = make(
        cluster.dir(),
        "a.mp4",
        "-f lavfi -i testsrc2=size=320x180:rate=30 -t 2 -c:v libx264 -pix_fmt yuv420p",
    )
    .await;
    // Nobody listens on a port that is held by another protocol.
    let held = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = held.local_addr().unwrap().to_string();
    let nobody = format!("rtmp://{server}/live/secret77");

    let error = refusal(&cluster, &["publish", &film, "--to", &nobody]).await;
    assert!(error.contains("nobody answers"), "{error}");
    assert!(
        error.contains(&server) && !error.contains("secret"),
        "{error}"
    );
    let nowhere = "rtmp://nowhere.invalid/live/secret77";
    let error = refusal(&cluster, &["publish", &film, "--to", nowhere]).await;
    assert!(error.contains("no host for nowhere.invalid"), "{error}");
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_watching_quietly() {
    let cluster = Cluster::new().unwrap();
    let node = cluster.node("node", &["--broadcaster"]).await.unwrap();
    let publisher = Publisher::start(node.publish.as_ref().unwrap()).unwrap();
    let manifest = cluster.manifest(&node).await.unwrap();
    cluster.variants(&node, &manifest, 1).await.unwrap();
    let mut watch = Command::new(cluster.binary())
        .args(["--log", "error", "watch", &manifest, "-o", "-"])
        .args(["--bootstrap", &node.address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut film = watch.stdout.take().unwrap();
    let mut start = [0; 8];
    film.read_exact(&mut start).await.unwrap();
    assert_eq!(&start[4..], b"ftyp");

    drop(film);

    let ended = tokio::time::timeout(Duration::from_secs(30), watch.wait_with_output());
    let ended = ended.await.unwrap().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
    publisher.stop().await.unwrap();
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_broadcast_that_has_ended_is_not_waited_for_and_costs_no_film() {
    let cluster = Cluster::new().unwrap();
    let node = cluster.node("node", &["--broadcaster"]).await.unwrap();
    let publisher = Publisher::start(node.publish.as_ref().unwrap()).unwrap();
    let manifest = cluster.manifest(&node).await.unwrap();
    cluster.variants(&node, &manifest, 1).await.unwrap();
    publisher.stop().await.unwrap();
    eventually("the end", Duration::from_secs(20), async || {
        anyhow::ensure!(node.log().contains("broadcast ended"), "it goes on");
        Ok(())
    })
    .await
    .unwrap();
    let film = cluster.dir().join("film.mp4");
    std::fs::write(&film, "an earlier film").unwrap();

    let watch = ["watch", &manifest, "-o", film.to_str().unwrap()];
    let error = refusal(
        &cluster,
        &[&watch[..], &["--bootstrap", &node.address]].concat(),
    )
    .await;

    assert!(error.contains("the broadcast has ended"), "{error}");
    assert_eq!(std::fs::read(&film).unwrap(), b"an earlier film");
    node.stop().await.unwrap();
}

#[tokio::test]
async fn an_unknown_id_is_not_found_and_the_answer_is_not_kept() {
    let cluster = Cluster::new().unwrap();
    let node = cluster.node("node", &[]).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let id = format!("{}.{}", node.id, "a".repeat(26));

    let cases = [
        (format!("/stream/{id}.m3u8"), 404),
        (format!("/stream/{id}.source/1.m4s"), 404),
        ("/stream/nonsense.m3u8".to_owned(), 400),
        ("/live/nobody.m3u8".to_owned(), 404),
        ("/nothing/here".to_owned(), 404),
    ];
    for (path, status) in cases {
        let response = client
            .get(format!("{}{path}", node.http))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
        assert_eq!(
            response.headers()["access-control-allow-origin"],
            "*",
            "{path}"
        );
        let text = response.text().await.unwrap();
        assert!(text.contains("\"error\""), "{text}");
    }
    let posted = client.post(format!("{}/", node.http)).send().await.unwrap();
    assert_eq!(posted.status(), 405);
}

#[tokio::test]
async fn what_is_no_media_is_refused_by_name() {
    let cluster = Cluster::new().unwrap();
    let notes = cluster.dir().join("notes.txt");
    std::fs::write(&notes, "not a film\n".repeat(100)).unwrap();
    let notes = notes.display().to_string();

    let error = refusal(&cluster, &["demo", "--input", &notes]).await;
    assert!(
        error.contains("notes.txt") && error.contains("not a media file"),
        "{error}"
    );
    let error = refusal(
        &cluster,
        &["publish", &notes, "--to", "rtmp://127.0.0.1:1/live/x"],
    )
    .await;
    assert!(error.contains("not a media file"), "{error}");

    let song = make(cluster.dir(), "song.mp3", "-f lavfi -i sine -t 1").await;
    let error = refusal(&cluster, &["demo", "--input", &song]).await;
    assert!(
        error.contains("song.mp3") && error.contains("no video"),
        "{error}"
    );
}

async fn publishes(cluster: &Cluster, node: &Node, file: &str, codecs: &str) {
    let mut publisher = Command::new(cluster.binary())
        .args([
            "publish",
            file,
            "--to",
            node.publish.as_ref().unwrap(),
            "--loop",
        ])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let manifest = cluster.manifest(node).await.unwrap();
    let variants = cluster.variants(node, &manifest, 1).await.unwrap();
    assert!(variants[0].codecs.starts_with(codecs), "{variants:?}");
    assert!(!variants[0].codecs.contains(','), "one track: {variants:?}");
    publisher.kill().await.unwrap();
}

#[tokio::test]
async fn audio_alone_and_video_alone_play() {
    let cluster = Cluster::new().unwrap();
    let audio = make(
        cluster.dir(),
        "a.m4a",
        "-f lavfi -i sine=frequency=300 -t 6 -c:a aac",
    )
    .await;
    let video = make(
        cluster.dir(),
        "v.mp4",
        "-f lavfi -i testsrc2=size=320x180:rate=30 -t 6 -g 30 -c:v libx264 -pix_fmt yuv420p",
    )
    .await;

    for (name, file, codecs) in [("one", &audio, "mp4a.40.2"), ("two", &video, "avc1.")] {
        let node = cluster.node(name, &["--broadcaster"]).await.unwrap();
        publishes(&cluster, &node, file, codecs).await;
    }
}

#[tokio::test]
async fn a_second_encoder_with_the_same_key_takes_over() {
    let cluster = Cluster::new().unwrap();
    let node = cluster.node("node", &["--broadcaster"]).await.unwrap();
    let url = node.publish.clone().unwrap();
    let first = Publisher::start(&url).unwrap();
    let manifest = cluster.manifest(&node).await.unwrap();
    cluster.variants(&node, &manifest, 1).await.unwrap();

    let second = Publisher::start(&url).unwrap();

    let playlist = format!("{}/stream/{manifest}.source.m3u8", node.http);
    eventually(
        "the other encoder's stream",
        Duration::from_secs(20),
        async || {
            let text = get_text(&playlist).await?;
            anyhow::ensure!(text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
            Ok(())
        },
    )
    .await
    .unwrap();
    drop(first);
    second.stop().await.unwrap();
}
