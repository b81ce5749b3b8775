//! What is refused, how clearly, and who may read what.

use reqwest::{Method, header::HeaderMap};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Node, header, headers};

/// An answer to exactly these bytes.
async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn addresses_that_nothing_can_have_are_refused_as_json_and_not_kept() {
    let node = Node::plain().await;
    let long = format!("/stream/{}.m3u8", "a".repeat(2000));
    for (path, status) in [
        ("/stream/%ff.m3u8", 400),
        ("/stream/%ff/%fe.m4s", 400),
        ("/watch/%ff", 400),
        ("/nothing/%ff", 400),
        ("/stream/nonsense.m3u8", 400),
        ("/stream/nonsense/1.m4s", 400),
        ("/nothing/here", 404),
        ("/assets/nothing.js", 404),
        (long.as_str(), 414),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = raw(node.app.http(), &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        for line in [
            "content-type: application/json",
            "cache-control: no-store",
            "access-control-allow-origin: *",
        ] {
            assert!(answer.contains(line), "{path}: {answer}");
        }
        assert!(answer.contains("{\"error\":"), "{answer}");
    }
    node.app.stop().await;
}

#[tokio::test]
async fn only_reading_is_served_and_what_is_served_is_named() {
    let node = Node::plain().await;
    let (stream, _) = node.stream(0..1);
    let known = [
        "/".to_owned(),
        format!("/stream/{stream}.m3u8"),
        format!("/stream/{stream}/0.m4s"),
        "/streams.json".to_owned(),
        "/readyz".to_owned(),
    ];
    for path in &known {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let answer = node.ask(method, path, HeaderMap::new()).await;
            assert_eq!(answer.status(), 405, "{path}");
            assert_eq!(header(&answer, "allow"), "GET, HEAD, OPTIONS", "{path}");
            assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
            assert!(answer.text().await.unwrap().contains("\"error\""));
        }
    }
    let unknown = node.ask(Method::POST, "/nothing", HeaderMap::new()).await;
    assert_eq!(unknown.status(), 404);
    node.app.stop().await;
}

#[tokio::test]
async fn a_preflight_is_answered_without_content() {
    let node = Node::plain().await;
    let asked = headers(&[
        ("origin", "https://player.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "range"),
    ]);
    let path = format!("/stream/{}.m3u8", node.manifest(1));
    let answer = node.ask(Method::OPTIONS, &path, asked).await;

    assert_eq!(answer.status(), 204);
    assert_eq!(header(&answer, "access-control-allow-origin"), "*");
    assert_eq!(
        header(&answer, "access-control-allow-methods"),
        "GET, HEAD, OPTIONS"
    );
    assert!(header(&answer, "access-control-allow-headers").contains("Range"));
    assert!(answer.bytes().await.unwrap().is_empty());
    node.app.stop().await;
}

#[tokio::test]
async fn pages_elsewhere_cannot_read_what_is_watched_here() {
    let node = Node::plain().await;
    let list = node.get("/streams.json").await;

    assert_eq!(list.status(), 200);
    assert_eq!(header(&list, "access-control-allow-origin"), "");
    assert_eq!(header(&list, "cross-origin-resource-policy"), "same-origin");
    assert_eq!(header(&list, "cache-control"), "no-store");
    let preflight = node
        .ask(Method::OPTIONS, "/streams.json", HeaderMap::new())
        .await;
    assert_eq!(header(&preflight, "access-control-allow-origin"), "");
    node.app.stop().await;
}
