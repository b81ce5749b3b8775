//! What players get: playlists, segments, parts of segments, and pages.

use std::time::Duration;

use headwater::{
    config::{Raw, Setting},
    pipeline::{EndReason, Library, LibraryConfig, PlayError},
};
use headwater_proto::{BroadcastId, ManifestId, Position, SigningKey, StreamId};
use reqwest::{Method, header::HeaderMap};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{Node, SEGMENT, header, headers, picture, push};

#[tokio::test]
async fn segments_are_kept_for_ever_and_playlists_never() {
    let node = Node::plain().await;
    let (stream, _) = node.stream(0..3);

    let playlist = node.get(&format!("/stream/{stream}.m3u8")).await;
    assert_eq!(playlist.status(), 200);
    assert_eq!(header(&playlist, "cache-control"), "no-cache");
    assert_eq!(
        header(&playlist, "content-type"),
        "application/vnd.apple.mpegurl"
    );
    let text = playlist.text().await.unwrap();
    assert!(text.contains(&format!("{stream}/2.m4s")), "{text}");

    for (file, kind, length) in [
        ("2.m4s", "video/iso.segment", SEGMENT),
        ("init-0.mp4", "video/mp4", 4),
    ] {
        let media = node.get(&format!("/stream/{stream}/{file}")).await;
        assert_eq!(media.status(), 200);
        assert_eq!(header(&media, "content-type"), kind);
        assert_eq!(header(&media, "access-control-allow-origin"), "*");
        assert!(header(&media, "cache-control").contains("immutable"));
        assert_eq!(header(&media, "content-length"), length.to_string());
        assert_eq!(media.bytes().await.unwrap().len(), length);
    }
    node.app.stop().await;
}

#[tokio::test]
async fn head_tells_what_get_would_and_sends_nothing() {
    let node = Node::plain().await;
    let (stream, _) = node.stream(0..3);
    let paths = [
        format!("/stream/{stream}.m3u8"),
        format!("/stream/{stream}/1.m4s"),
        format!("/stream/{stream}/init-0.mp4"),
        format!("/stream/{stream}/99.m4s"),
        "/".to_owned(),
        "/watch/x".to_owned(),
        "/assets/hls.js".to_owned(),
        "/streams.json".to_owned(),
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/live/nobody.m3u8".to_owned(),
    ];
    for path in paths {
        for encoding in ["identity", "gzip"] {
            let asked = || headers(&[("accept-encoding", encoding)]);
            let got = node.ask(Method::GET, &path, asked()).await;
            let told = node.ask(Method::HEAD, &path, asked()).await;
            assert_eq!(told.status(), got.status(), "{path}");
            for name in [
                "content-type",
                "cache-control",
                "etag",
                "content-encoding",
                "access-control-allow-origin",
            ] {
                assert_eq!(header(&told, name), header(&got, name), "{path}: {name}");
            }
            if encoding == "identity" {
                let length = header(&told, "content-length");
                let body = got.bytes().await.unwrap();
                assert_eq!(length, body.len().to_string(), "{path}");
            }
            assert!(told.bytes().await.unwrap().is_empty(), "{path}");
        }
    }
    node.app.stop().await;
}

#[tokio::test]
async fn ranges_are_answered_with_just_those_bytes() {
    let node = Node::plain().await;
    let (stream, _) = node.stream(0..3);
    let path = format!("/stream/{stream}/2.m4s");
    let tag = header(&node.get(&path).await, "etag");

    let cases = [
        (
            vec![("range", "bytes=990-1009")],
            206,
            20,
            "bytes 990-1009/2000",
        ),
        (vec![("range", "bytes=-1")], 206, 1, "bytes 1999-1999/2000"),
        (
            vec![("range", "bytes=0-9"), ("if-range", tag.as_str())],
            206,
            10,
            "bytes 0-9/2000",
        ),
        (
            vec![("range", "bytes=0-9"), ("if-range", "\"another\"")],
            200,
            SEGMENT,
            "",
        ),
        (vec![("range", "bytes=0-1,4-5")], 200, SEGMENT, ""),
    ];
    for (asked, status, length, range) in cases {
        let part = node.ask(Method::GET, &path, headers(&asked)).await;
        assert_eq!(part.status(), status, "{asked:?}");
        assert_eq!(header(&part, "content-range"), range, "{asked:?}");
        assert_eq!(header(&part, "content-length"), length.to_string());
        assert_eq!(header(&part, "etag"), tag);
        assert_eq!(part.bytes().await.unwrap().len(), length, "{asked:?}");
    }

    let outside = headers(&[("range", "bytes=2000-")]);
    let outside = node.ask(Method::GET, &path, outside).await;
    assert_eq!(outside.status(), 416);
    assert_eq!(header(&outside, "content-range"), "bytes */2000");
    assert_eq!(header(&outside, "cache-control"), "no-store");
    node.app.stop().await;
}

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again() {
    let node = Node::plain().await;
    let (stream, _) = node.stream(0..3);
    for path in [
        format!("/stream/{stream}/2.m4s"),
        "/assets/player.js".to_owned(),
    ] {
        let first = node.get(&path).await;
        let (tag, kept) = (header(&first, "etag"), header(&first, "cache-control"));
        assert!(!tag.is_empty(), "{path}");

        let again = headers(&[("if-none-match", &tag)]);
        let again = node.ask(Method::GET, &path, again).await;

        assert_eq!(again.status(), 304, "{path}");
        assert_eq!(header(&again, "etag"), tag);
        assert_eq!(header(&again, "cache-control"), kept);
        assert!(again.bytes().await.unwrap().is_empty());
        let other = headers(&[("if-none-match", "\"other\"")]);
        assert_eq!(node.ask(Method::GET, &path, other).await.status(), 200);
    }
    node.app.stop().await;
}

#[tokio::test]
async fn a_segment_that_is_just_to_come_is_waited_for() {
    let node = Node::plain().await;
    let (stream, timeline) = node.stream(0..3);
    let path = format!("/stream/{stream}/3.m4s");

    let (segment, ()) = tokio::join!(node.get(&path), async { push(&timeline, 3) });

    assert_eq!(segment.status(), 200);
    assert_eq!(segment.bytes().await.unwrap().len(), SEGMENT);
    node.app.stop().await;
}

#[tokio::test]
async fn segments_that_are_gone_to_come_and_unheard_of_are_told_apart() {
    let node = Node::plain().await;
    let (stream, timeline) = node.stream(0..40);
    timeline.lock().unwrap().gap(42);
    let absent = node.manifest(9).source();
    for (path, status, retry) in [
        (format!("/stream/{stream}/3.m4s"), 410, ""),
        (format!("/stream/{stream}/41.m4s"), 410, ""),
        (format!("/stream/{stream}/42.m4s"), 503, "1"),
        (format!("/stream/{stream}/99.m4s"), 404, ""),
        (format!("/stream/{stream}/init-7.mp4"), 404, ""),
        (format!("/stream/{absent}/0.m4s"), 404, ""),
    ] {
        let answer = node.get(&path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
        assert_eq!(header(&answer, "retry-after"), retry, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), "*");
        let text = answer.text().await.unwrap();
        assert!(text.contains("\"error\""), "{text}");
    }

    timeline.lock().unwrap().end();
    let past_the_end = node.get(&format!("/stream/{stream}/42.m4s")).await;
    assert_eq!(past_the_end.status(), 404);
    node.app.stop().await;
}

#[tokio::test]
async fn what_no_owner_has_and_what_cannot_be_reached_are_told_apart() {
    let node = Node::plain().await;
    let elsewhere = ManifestId {
        node: SigningKey::from_bytes(&[9; 32]).node_id(),
        broadcast: BroadcastId::from_bytes([9; 16]),
    };
    let own = node.manifest(1);
    let paths = [
        (format!("/stream/{own}.m3u8"), 404),
        (format!("/stream/{}.m3u8", own.source()), 404),
        (format!("/stream/{elsewhere}.m3u8"), 503),
        (format!("/stream/{}.m3u8", elsewhere.source()), 503),
    ];
    let answers = paths.each_ref().map(|(path, _)| node.get(path));
    let answers = futures::future::join_all(answers).await;
    for ((path, status), answer) in paths.iter().zip(answers) {
        assert_eq!(answer.status(), *status, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
    }
    node.app.stop().await;
}

#[tokio::test]
async fn made_up_ids_do_not_keep_real_ones_out() {
    let node = Node::plain().await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let config = LibraryConfig {
        max_streams: 2,
        wait: Duration::from_millis(20),
        ..LibraryConfig::default()
    };
    let core = node.app.core().clone();
    let library = Library::new(config, node.app.node(), core, &tasks, stop.clone());
    for number in 0..6 {
        let made_up = node.manifest(number);
        assert_eq!(library.master(made_up).await, Err(PlayError::Unknown));
        let media = library.media(&made_up.source()).await;
        assert_eq!(media, Err(PlayError::Unknown));
    }

    let (stream, timeline) = node.stream(0..2);
    for number in 4..6 {
        library.host(&node.manifest(number).source(), timeline.clone());
    }
    library.host(&stream, timeline);

    let more = library.media(&node.manifest(6).source()).await;
    assert_eq!(more, Err(PlayError::Busy), "what plays is kept");
    assert!(library.media(&stream).await.is_ok());
    stop.cancel();
    node.app.stop().await;
}

#[tokio::test]
async fn a_broadcast_that_is_over_is_gone_for_those_who_come_later() {
    let broadcaster = Node::start(
        Raw::default()
            .flag(Setting::Broadcaster, Some("yes"))
            .flag(Setting::Relayer, Some("yes"))
            .flag(Setting::Segment, Some("500ms")),
    )
    .await;
    let broadcasts = broadcaster.app.broadcasts().unwrap();
    let finished = std::future::ready(EndReason::Finished);
    let published = broadcasts.publish("show", picture(Some(Duration::from_secs(2))), finished);
    let manifest = published.await.unwrap();
    let media = format!("/stream/{}.m3u8", manifest.source());
    loop {
        let playlist = broadcaster.get(&media).await.text().await.unwrap();
        if playlist.ends_with("#EXT-X-ENDLIST\n") {
            break;
        }
        tokio::task::yield_now().await;
    }
    let address = &broadcaster.app.net().listen_addresses()[0];
    let late = Node::start(Raw::default().flag(
        Setting::Bootstrap,
        Some(vec![format!("{address}/p2p/{}", broadcaster.app.node())]),
    ))
    .await;

    let answer = loop {
        let answer = late.get(&format!("/stream/{manifest}.m3u8")).await;
        if answer.status() != 503 {
            break answer;
        }
    };

    assert_eq!(answer.status(), 410);
    assert_eq!(header(&answer, "cache-control"), "no-store");
    let text = answer.text().await.unwrap();
    assert!(text.contains("has ended"), "{text}");
    let own = broadcaster.get(&format!("/stream/{manifest}.m3u8")).await;
    assert_eq!(own.status(), 200, "it is still here, for those who watch");
    for node in [late, broadcaster] {
        node.app.stop().await;
    }
}

/// The newest part of a stream that a node makes.
async fn edge(node: &Node, stream: &StreamId) -> Option<Position> {
    let snapshot = node.app.core().snapshot().await.unwrap();
    let mut streams = snapshot.streams.iter();
    streams.find(|view| view.stream == *stream)?.edge
}

#[tokio::test]
async fn a_broadcaster_that_is_killed_goes_on_behind_the_segment_that_was_under_way() {
    let raw = || {
        Raw::default()
            .flag(Setting::Broadcaster, Some("yes"))
            .flag(Setting::Segment, Some("500ms"))
    };
    let publish = async |node: &Node| {
        let broadcasts = node.app.broadcasts().unwrap();
        let lost = std::future::ready(EndReason::Lost);
        let published = broadcasts.publish("show", picture(None), lost);
        published.await.unwrap().source()
    };
    let mut node = Node::start(raw()).await;
    let stream = publish(&node).await;
    let mut published = None;
    // It has no luck: the next run is killed in its first segment.
    for wanted in [2, 1] {
        let first = published.map_or(0, |at: Position| at.segment + 1);
        let at = loop {
            match edge(&node, &stream).await {
                Some(at) if at.segment + 1 >= first + wanted => break at,
                Some(_) | None => tokio::task::yield_now().await,
            }
        };
        let dir = node.killed();
        node.app.stop().await;
        node = Node::start_in(dir, raw()).await;
        assert_eq!(publish(&node).await, stream, "the broadcast goes on");
        published = published.max(Some(at));

        let again = loop {
            match edge(&node, &stream).await {
                Some(at) => break at,
                None => tokio::task::yield_now().await,
            }
        };
        assert!(again.segment > at.segment, "{again:?} after {at:?}");
    }
    node.app.stop().await;
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_run_nothing_inline() {
    let node = Node::plain().await;
    for (path, frame) in [("/", "'none'"), ("/watch/x", "*")] {
        let page = node.get(path).await;
        let policy = header(&page, "content-security-policy");
        assert!(policy.contains("script-src 'self';"), "{policy}");
        assert!(policy.contains("worker-src 'self';"), "{policy}");
        assert!(policy.ends_with(&format!("frame-ancestors {frame}")));
        assert!(!policy.contains("unsafe"), "{policy}");
        let text = page.text().await.unwrap();
        let sources = text
            .split("src=\"")
            .skip(1)
            .chain(text.split("href=\"").skip(1));
        for source in sources {
            let source = source.split('"').next().unwrap();
            assert!(source.starts_with('/'), "{source}");
            assert_eq!(node.get(source).await.status(), 200, "{source}");
        }
        assert!(!text.contains("<script>") && !text.contains("style="));
    }
    node.app.stop().await;
}

#[tokio::test]
async fn playlists_and_pages_are_compressed_and_media_is_not() {
    let node = Node::plain().await;
    let (stream, _) = node.stream(0..9);
    let asked = || headers(&[("accept-encoding", "gzip")]);
    for (path, encoding) in [
        (format!("/stream/{stream}.m3u8"), "gzip"),
        ("/watch/x".to_owned(), "gzip"),
        (format!("/stream/{stream}/2.m4s"), ""),
    ] {
        let answer = node.ask(Method::GET, &path, asked()).await;
        assert_eq!(header(&answer, "content-encoding"), encoding, "{path}");
    }
    let plain = node.ask(Method::GET, "/", HeaderMap::new()).await;
    assert_eq!(header(&plain, "vary"), "accept-encoding");
    node.app.stop().await;
}
