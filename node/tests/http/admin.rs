//! What operators get, and that nobody else does.

use headwater::{
    config::{Raw, Setting},
    pipeline::EndReason,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::{Node, header, headers, picture};

#[tokio::test]
async fn only_this_machine_is_answered_whatever_case_it_is_written_in() {
    let node = Node::plain().await;
    for (asked, status) in [
        (("host", "LocalHost:7935"), 200),
        (("host", "localhost"), 200),
        (("host", "[::1]:7935"), 200),
        (("host", "evil.example"), 403),
        (("host", "localhost.evil.example:7935"), 403),
        (("origin", "https://evil.example"), 403),
        (("sec-fetch-site", "cross-site"), 403),
        (("sec-fetch-site", "same-origin"), 200),
    ] {
        for path in ["/api/v1/status", "/metrics", "/healthz", "/nothing"] {
            let answer = node.operator(path, headers(&[asked])).await;
            let expected = if status == 200 && path == "/nothing" {
                404
            } else {
                status
            };
            assert_eq!(answer.status(), expected, "{asked:?} {path}");
            assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
            assert_eq!(header(&answer, "access-control-allow-origin"), "");
        }
    }
    node.app.stop().await;
}

#[tokio::test]
async fn over_http_2_the_target_says_who_is_asked() {
    let node = Node::plain().await;
    for (host, status) in [
        ("LOCALHOST", 200),
        ("127.0.0.1:7935", 200),
        ("evil.example", 403),
    ] {
        let socket = TcpStream::connect(node.app.admin()).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .unwrap();
        let connection = tokio::spawn(connection);
        let ask = hyper::Request::get(format!("http://{host}/api/v1/status"));
        let ask = ask.body(String::new()).unwrap();

        let answer = client.send_request(ask).await.unwrap();

        assert_eq!(answer.status(), status, "{host}");
        drop((client, answer));
        connection.await.unwrap().unwrap();
    }
    node.app.stop().await;
}

#[tokio::test]
async fn a_node_is_ready_once_it_has_found_another_if_it_was_told_of_any() {
    let alone = Node::plain().await;
    let ready = alone.get("/readyz").await;
    assert_eq!(ready.status(), 200);
    let told: serde_json::Value = ready.json().await.unwrap();
    assert_eq!(told["ready"], true);

    // A port that was free a moment ago: nobody answers there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let node = alone.app.node();
    let lost = Node::start(Raw::default().flag(
        Setting::Bootstrap,
        Some(vec![format!("/ip4/127.0.0.1/tcp/{port}/p2p/{node}")]),
    ))
    .await;
    for answer in [
        lost.get("/readyz").await,
        lost.operator("/readyz", headers(&[])).await,
    ] {
        assert_eq!(answer.status(), 503);
        assert_eq!(header(&answer, "cache-control"), "no-store");
        let told: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(told["ready"], false);
        assert!(told["error"].as_str().unwrap().contains("link"), "{told}");
    }
    assert_eq!(
        lost.get("/healthz").await.status(),
        200,
        "it runs all the same"
    );

    let address = &alone.app.net().listen_addresses()[0];
    let joined = Node::start(Raw::default().flag(
        Setting::Bootstrap,
        Some(vec![format!("{address}/p2p/{node}")]),
    ))
    .await;
    while joined.get("/readyz").await.status() != 200 {
        tokio::task::yield_now().await;
    }
    for node in [lost, joined, alone] {
        node.app.stop().await;
    }
}

#[tokio::test]
async fn monitors_see_what_was_asked_and_how_it_was_answered() {
    let node = Node::plain().await;
    let (stream, _) = node.stream(0..40);
    for (segment, status) in [(39, 200), (39, 200), (3, 410)] {
        let got = node.get(&format!("/stream/{stream}/{segment}.m4s")).await;
        assert_eq!(got.status(), status);
    }

    let metrics = node.operator("/metrics", headers(&[])).await;

    assert!(header(&metrics, "content-type").starts_with("application/openmetrics-text"));
    let text = metrics.text().await.unwrap();
    for line in [
        "headwater_http_requests_total{listener=\"public\",class=\"media\",status=\"2xx\"} 2\n",
        "headwater_http_requests_total{listener=\"public\",class=\"media\",status=\"4xx\"} 1\n",
        "headwater_http_connections{listener=\"admin\"} 1\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
    node.app.stop().await;
}

#[tokio::test]
async fn what_viewers_watch_is_listed_on_their_own_machine_only() {
    let broadcaster = Node::start(
        Raw::default()
            .flag(Setting::Broadcaster, Some("yes"))
            .flag(Setting::Relayer, Some("yes"))
            .flag(Setting::Segment, Some("500ms")),
    )
    .await;
    let broadcasts = broadcaster.app.broadcasts().unwrap();
    let forever = std::future::pending::<EndReason>();
    let published = broadcasts.publish("show", picture(None), forever);
    let manifest = published.await.unwrap();
    let address = &broadcaster.app.net().listen_addresses()[0];
    let viewer = Node::start(Raw::default().flag(
        Setting::Bootstrap,
        Some(vec![format!("{address}/p2p/{}", broadcaster.app.node())]),
    ))
    .await;
    while viewer
        .get(&format!("/stream/{manifest}.m3u8"))
        .await
        .status()
        != 200
    {
        tokio::task::yield_now().await;
    }

    let list = async |node: &Node, asked: &[(&'static str, &str)]| {
        let asked = headers(asked);
        let list = node.ask(reqwest::Method::GET, "/streams.json", asked).await;
        let list: serde_json::Value = list.json().await.unwrap();
        list["streams"].as_array().unwrap().clone()
    };
    let local = list(&viewer, &[("host", "127.0.0.1:8935")]).await;
    assert_eq!(local[0]["manifest"], manifest.to_string());
    assert_eq!(local[0]["live"], true);
    let public = [("host", "watch.example")];
    assert!(list(&viewer, &public).await.is_empty());
    let proxy = [("host", "127.0.0.1:8935"), ("x-forwarded-for", "192.0.2.1")];
    assert!(list(&viewer, &proxy).await.is_empty());
    let own = list(&broadcaster, &public).await;
    assert_eq!(
        own[0]["name"], "show",
        "a broadcaster's own are for everybody"
    );

    let named = broadcaster.get("/live/show.m3u8").await;
    assert_eq!(named.status(), 307);
    assert_eq!(
        header(&named, "location"),
        format!("/stream/{manifest}.m3u8")
    );
    for node in [viewer, broadcaster] {
        node.app.stop().await;
    }
}
