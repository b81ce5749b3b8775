//! Bounds of connections, over real sockets.

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(50);
const PATIENT: Limits = Limits {
    connections: 8,
    patience: Patience {
        idle: HOUR,
        stall: HOUR,
        answer: HOUR,
    },
    drain: HOUR,
};

struct Served {
    address: SocketAddr,
    traffic: Arc<Traffic>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn served(router: Router, limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (traffic, stop) = (Arc::new(Traffic::default()), CancellationToken::new());
    let counted = (Side::Public, traffic.clone());
    let task = tokio::spawn(serve(listener, router, limits, counted, stop.clone()));
    Served {
        address,
        traffic,
        stop,
        task,
    }
}

impl Served {
    async fn connect(&self, sent: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        socket
    }
}

/// What comes until the other side closes; a reset is a close.
async fn until_closed(mut socket: TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    match socket.read_to_end(&mut came).await {
        Ok(_) => came,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => came,
        Err(error) => panic!("{error}"),
    }
}

fn hello() -> Router {
    Router::new().route("/", get(async || "hello"))
}

/// More than the system's buffers on both sides take.
fn endless() -> Router {
    let piece = bytes::Bytes::from(vec![7; 1 << 20]);
    Router::new().route(
        "/",
        get(async move || {
            let pieces = std::iter::repeat_n(piece, 1 << 10).map(Ok::<_, Infallible>);
            Body::from_stream(futures::stream::iter(pieces))
        }),
    )
}

const ASK: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn connections_that_ask_for_nothing_are_closed() {
    let mut limits = PATIENT;
    limits.patience.idle = SOON;
    let served = served(hello(), limits).await;

    // Nothing, half a head, half an HTTP/2 preface, and nothing after an answer.
    for sent in ["", "GET / HTTP/1.1\r\nhost: loc", "PRI * HTTP/2.0\r\n", ASK] {
        let came = until_closed(served.connect(sent).await).await;
        assert_eq!(came.ends_with(b"hello"), sent == ASK, "{sent}");
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_room_is_made_again() {
    let limits = Limits {
        connections: 1,
        ..PATIENT
    };
    let served = served(hello(), limits).await;
    let mut first = served.connect(ASK).await;
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();

    assert!(until_closed(served.connect("").await).await.is_empty());

    assert_eq!(served.traffic.public.read().refused, 1);
    drop(first);
    let again = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    loop {
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        // A socket that is refused may be gone before anything is written.
        drop(socket.write_all(again.as_bytes()).await);
        if until_closed(socket).await.ends_with(b"hello") {
            break;
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_take_its_answer_is_cut_off() {
    let mut limits = PATIENT;
    limits.patience.stall = SOON;
    let served = served(endless(), limits).await;
    let socket = served.connect(ASK).await;

    while served.traffic.public.read().stalled == 0 {
        tokio::task::yield_now().await;
    }

    assert!(until_closed(socket).await.len() < 1 << 30);
}

#[tokio::test]
async fn a_peer_that_opens_no_window_for_its_answer_is_cut_off() {
    let mut limits = PATIENT;
    limits.patience.stall = SOON;
    let served = served(endless(), limits).await;
    let io = TokioIo::new(served.connect("").await);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let ask = Request::get("http://localhost/")
        .body(Body::empty())
        .unwrap();

    // The body is never read: the connection stays open, the stream's window closes.
    let answer = client.send_request(ask).await.unwrap();

    // However the connection ends, it does.
    drop(connection.await.unwrap());
    assert_eq!(served.traffic.public.read().stalled, 1);
    drop(answer);
}

#[tokio::test]
async fn a_stop_lets_answers_under_way_end() {
    let (asked, go) = (
        Arc::new(tokio::sync::Notify::new()),
        CancellationToken::new(),
    );
    let (told, wait) = (asked.clone(), go.clone());
    let slow = async move || {
        told.notify_one();
        wait.cancelled().await;
        "hello"
    };
    let served = served(Router::new().route("/", get(slow)), PATIENT).await;
    let socket = served.connect(ASK).await;
    asked.notified().await;

    served.stop.cancel();
    go.cancel();

    let came = until_closed(socket).await;
    assert!(came.ends_with(b"hello"));
    served.task.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let limits = Limits {
        drain: SOON,
        ..PATIENT
    };
    let served = served(endless(), limits).await;
    let mut socket = served.connect(ASK).await;
    let mut byte = [0];
    socket.read_exact(&mut byte).await.unwrap();

    served.stop.cancel();

    served.task.await.unwrap();
    assert_eq!(served.traffic.public.read().open, 0);
}
