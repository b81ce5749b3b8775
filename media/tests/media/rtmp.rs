//! The RTMP server against a real encoder, and against those who are none.

use crate::common::{Still, VIDEO, make};
use std::{
    collections::BTreeMap, io::Read as _, net::SocketAddr, ops::ControlFlow, path::Path,
    process::Stdio, time::Duration,
};

use headwater_media::{
    Packaged, PackagerConfig, Resume,
    ingest::{
        rtmp::{End, Publisher, Server},
        run_flv,
    },
    push,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

async fn server() -> Server {
    let keys = BTreeMap::from([
        ("key-one".to_owned(), "one".to_owned()),
        ("key-two".to_owned(), "two".to_owned()),
    ]);
    Server::bind("127.0.0.1:0".parse().unwrap(), keys)
        .await
        .unwrap()
}

fn encoder(server: SocketAddr, key: &str, seconds: &str) -> Child {
    Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=160x90:rate=25",
        ])
        .args([
            "-t",
            seconds,
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-f",
            "flv",
        ])
        .arg(format!("rtmp://{server}/live/{key}"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn accept(server: &mut Server) -> Publisher {
    timeout(Duration::from_secs(10), server.accept())
        .await
        .unwrap()
}

/// Reads an encoder's stream to its end; returns its first bytes and its length.
async fn drain(mut publisher: Publisher) -> (Vec<u8>, usize, End) {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        publisher.reader.read_to_end(&mut bytes).unwrap();
        (bytes[..13].to_vec(), bytes.len(), publisher.ended)
    });
    let (head, len, ended) = timeout(Duration::from_secs(30), reading)
        .await
        .unwrap()
        .unwrap();
    (head, len, ended.await.unwrap())
}

#[tokio::test]
async fn two_encoders_publish_at_once_and_say_goodbye() {
    let mut server = server().await;
    let address = server.local_addr();
    let _encoders = [
        encoder(address, "key-one", "2"),
        encoder(address, "key-two", "2"),
    ];

    let (a, b) = (accept(&mut server).await, accept(&mut server).await);

    let mut names = [a.name.clone(), b.name.clone()];
    names.sort();
    assert_eq!(names, ["one", "two"]);
    let (a, b) = tokio::join!(drain(a), drain(b));
    for (head, len, end) in [a, b] {
        assert_eq!(&head[..3], b"FLV");
        assert!(len > 1000, "{len}");
        assert_eq!(end, End::Unpublished);
    }
}

#[tokio::test]
async fn a_file_that_is_pushed_has_its_frame_rate_told() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("{VIDEO} -t 1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p");
    let file = make(dir.path(), "in.mp4", &arguments);
    let mut server = server().await;
    let url = format!("rtmp://{}/live/key-one", server.local_addr());
    let pushing = tokio::task::spawn_blocking(move || {
        let mut go_on = |_| ControlFlow::Continue(());
        push::run(&file, &url, false, &mut Still, &mut go_on)
    });

    let mut publisher = accept(&mut server).await;
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        publisher.reader.read_to_end(&mut bytes).map(|_| bytes)
    });

    let bytes = reading.await.unwrap().unwrap();
    let told = [&b"framerate\0"[..], &30_f64.to_be_bytes()].concat();
    assert!(bytes.windows(told.len()).any(|window| window == told));
    pushing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_killed_encoder_is_lost_rather_than_done() {
    let mut server = server().await;
    let mut encoder = encoder(server.local_addr(), "key-one", "30");
    let publisher = accept(&mut server).await;

    encoder.kill().await.unwrap();

    assert_eq!(drain(publisher).await.2, End::Lost);
}

/// Two clips of 2 s in one transport stream, which may change between two frames: the second
/// with its own picture size and start in seconds. The encoder sends both in one session.
fn encoder_of_two(server: SocketAddr, dir: &Path, size: &str, start: &str) -> Child {
    let clip = |name: &str, size: &str, start: &str| {
        let arguments = format!(
            "-f lavfi -i testsrc2=size={size}:rate=25:duration=2 -c:v libx264 -preset ultrafast \
             -g 25 -output_ts_offset {start}"
        );
        std::fs::read(make(dir, name, &arguments)).unwrap()
    };
    let mut both = clip("first.ts", "160x90", "0");
    both.extend(clip("second.ts", size, start));
    let path = dir.join("both.ts");
    std::fs::write(&path, both).unwrap();
    Command::new("ffmpeg")
        .args(["-v", "error", "-copyts", "-i"])
        .arg(&path)
        .args(["-c", "copy", "-bsf:v", "extract_extradata", "-f", "flv"])
        .arg(format!("rtmp://{server}/live/key-one"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn an_encoder_that_changes_its_picture_size_begins_a_new_stream() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server().await;
    let _encoder = encoder_of_two(server.local_addr(), dir.path(), "320x180", "2");

    let first = play(accept(&mut server).await).await;
    let second = play(accept(&mut server).await).await;

    assert_eq!(first, (vec![(160, 90)], End::Lost));
    assert_eq!(second, (vec![(320, 180)], End::Unpublished));
}

#[tokio::test]
async fn an_encoder_whose_clock_leaps_begins_a_new_stream() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server().await;
    let _encoder = encoder_of_two(server.local_addr(), dir.path(), "160x90", "60");

    let first = play(accept(&mut server).await).await;
    let second = play(accept(&mut server).await).await;

    assert_eq!(first, (vec![(160, 90)], End::Lost));
    assert_eq!(second, (vec![(160, 90)], End::Unpublished));
}

/// Packages an encoder's stream; returns the picture sizes that it announced.
async fn play(publisher: Publisher) -> (Vec<(u32, u32)>, End) {
    let packaging = tokio::task::spawn_blocking(move || {
        let mut sizes = Vec::new();
        let mut sink = |item| {
            if let Packaged::Init(init) = item {
                let video = init.tracks.video.unwrap();
                sizes.push((video.width, video.height));
            }
            ControlFlow::Continue(())
        };
        let (config, resume) = (PackagerConfig::default(), Resume::default());
        let ended = run_flv(publisher.reader, config, resume, &mut Still, &mut sink);
        ended.unwrap();
        (sizes, publisher.ended)
    });
    let (sizes, ended) = timeout(Duration::from_secs(30), packaging)
        .await
        .unwrap()
        .unwrap();
    (sizes, ended.await.unwrap())
}

#[tokio::test]
async fn who_takes_a_key_over_ends_the_one_before() {
    let mut server = server().await;
    let _first_encoder = encoder(server.local_addr(), "key-one", "30");
    let first = accept(&mut server).await;
    let _second_encoder = encoder(server.local_addr(), "key-one", "1");

    let second = accept(&mut server).await;

    assert_eq!(drain(first).await.2, End::Lost);
    assert_eq!(drain(second).await.2, End::Unpublished);
}

#[tokio::test]
async fn those_who_are_no_encoders_are_shown_out_and_others_still_let_in() {
    let mut server = server().await;
    let address = server.local_addr();
    let mut noise = vec![0; 20_000];
    for (at, byte) in noise.iter_mut().enumerate() {
        *byte = (at * 7919 % 251) as u8;
    }
    let web = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    // A handshake that is right as far as it goes, then nonsense.
    let mut half = vec![3; 1];
    half.extend_from_slice(&noise[..1536]);
    for bytes in [noise, web, half] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        // The server may close before it has read everything.
        let _closed = socket.write_all(&bytes).await;
        let _closed = socket.shutdown().await;
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(15), socket.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection hangs");
    }

    let _encoder = encoder(address, "key-two", "1");
    assert_eq!(accept(&mut server).await.name, "two");
}

#[tokio::test]
async fn values_deep_within_values_end_their_session_only() {
    let mut server = server().await;
    let address = server.local_addr();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let mut hello = vec![0; 1537];
    hello[0] = 3;
    socket.write_all(&hello).await.unwrap();
    let mut answer = vec![0; 1 + 1536 + 1536];
    socket.read_exact(&mut answer).await.unwrap();
    socket.write_all(&answer[1..1537]).await.unwrap();
    // Chunks of any length, and a command that is nothing but the beginnings of objects.
    let longer = [2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff];
    socket.write_all(&longer).await.unwrap();
    let objects = b"\x03\0\x01a".repeat(15_000);
    let [_, len @ ..] = u32::try_from(objects.len()).unwrap().to_be_bytes();
    let header = [3, 0, 0, 0, len[0], len[1], len[2], 20, 0, 0, 0, 0];
    let sent = [&header[..], &objects].concat();
    socket.write_all(&sent).await.unwrap();

    let closed = timeout(Duration::from_secs(5), async {
        while socket.read(&mut answer).await.is_ok_and(|read| read > 0) {}
    });
    closed.await.unwrap();
    let _encoder = encoder(address, "key-two", "1");
    assert_eq!(accept(&mut server).await.name, "two");
}
