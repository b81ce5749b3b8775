//! Endpoints that stand between a node and those who ask it, and misbehave.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt as _, StreamExt as _};
use headwater_chain::ethereum::EndpointUrl;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_tungstenite::tungstenite::Message;

/// How an endpoint misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Not at all.
    Honest,
    /// Its newest block is this one.
    Stale(u64),
    /// Gives events of so many blocks at once.
    Range(u64),
    /// Leaves all events out, without a word.
    Mute,
    /// Leaves out all events of a block but the first.
    First,
    /// Gives all events there are when it is asked for those of one block.
    Careless,
    /// Has no contract: it has not got that far yet.
    Syncing,
    /// Leaves out the events of so many blocks from a range, without a word.
    Forgetful(u64),
    /// Says of every block that it may have any event.
    Loud,
    /// Answers after this.
    Slow(Duration),
    /// Answers with something else.
    Garbage,
    /// Answers with more than anybody should read.
    Huge,
    /// Is of this chain.
    Chain(u64),
}

/// Bytes of a huge answer: more than are read.
const HUGE: usize = 17 << 20;

/// Something that nobody should read.
fn huge() -> String {
    format!("\"{}\"", "x".repeat(HUGE))
}

/// How often each method was asked for.
type Requests = Arc<Mutex<BTreeMap<String, usize>>>;

/// JSON-RPC over HTTP.
pub(crate) struct Proxy {
    pub(crate) url: EndpointUrl,
    mode: Arc<Mutex<Mode>>,
    requests: Requests,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(port: u16, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mode = Arc::new(Mutex::new(mode));
        let requests = Requests::default();
        let (of_task, counter) = (mode.clone(), requests.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, port, of_task.clone(), counter.clone()));
            }
        });
        Self {
            url: url.parse().unwrap(),
            mode,
            requests,
            task,
        }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// How often a method was asked for.
    pub(crate) fn requests(&self, method: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.get(method).copied().unwrap_or(0)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers requests until the connection ends.
async fn serve(mut stream: TcpStream, port: u16, mode: Arc<Mutex<Mode>>, counter: Requests) {
    let http = reqwest::Client::new();
    while let Some(request) = receive(&mut stream).await {
        let method = request["method"].as_str().unwrap().to_owned();
        *counter.lock().unwrap().entry(method).or_default() += 1;
        let mode = mode.lock().unwrap().clone();
        if let Mode::Slow(delay) = mode {
            tokio::time::sleep(delay).await;
        }
        let answer = if mode == Mode::Garbage {
            "<html>\u{fffd}{\"id\":".to_owned()
        } else if mode == Mode::Huge {
            huge()
        } else {
            misbehave(&mode, &http, port, request).await.to_string()
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        let sent = stream.write_all((head + &answer).as_bytes()).await;
        if sent.is_err() {
            return;
        }
    }
}

/// The next request's body.
async fn receive(stream: &mut TcpStream) -> Option<Value> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

fn hex(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

async fn misbehave(mode: &Mode, http: &reqwest::Client, port: u16, mut request: Value) -> Value {
    let id = request["id"].clone();
    let answer = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
    let method = request["method"].as_str().unwrap().to_owned();
    match (mode, method.as_str()) {
        (Mode::Chain(chain), "eth_chainId") => return answer(json!(format!("{chain:#x}"))),
        (Mode::Stale(head), "eth_getBlockByNumber") => {
            if request["params"][0] == "latest" {
                request["params"][0] = json!(format!("{head:#x}"));
            } else if hex(&request["params"][0]).is_some_and(|number| number > *head) {
                return answer(Value::Null);
            }
        }
        (Mode::Stale(head), "eth_getLogs") => {
            // Leaves out what it has not, without a word.
            let filter = &mut request["params"][0];
            if hex(&filter["toBlock"]).is_some_and(|to| to > *head) {
                filter["toBlock"] = json!(format!("{head:#x}"));
            }
        }
        (Mode::Mute, "eth_getLogs") => return answer(json!([])),
        (Mode::Syncing, "eth_getCode") => return answer(json!("0x")),
        (Mode::Careless, "eth_getLogs") => {
            let filter = &mut request["params"][0];
            if filter
                .as_object_mut()
                .unwrap()
                .remove("blockHash")
                .is_some()
            {
                filter["fromBlock"] = json!("0x0");
            }
        }
        (Mode::Forgetful(until), "eth_getLogs") => {
            let filter = &mut request["params"][0];
            if let Some(from) = hex(&filter["fromBlock"]).filter(|from| from <= until) {
                filter["fromBlock"] = json!(format!("{:#x}", from.max(*until)));
            }
        }
        (Mode::Range(most), "eth_getLogs") => {
            let filter = &request["params"][0];
            let range = hex(&filter["toBlock"]).zip(hex(&filter["fromBlock"]));
            if range.is_some_and(|(to, from)| to - from >= *most) {
                let message = format!("query exceeds the range of {most} blocks");
                let error = json!({ "code": -32000, "message": message });
                return json!({ "jsonrpc": "2.0", "id": id, "error": error });
            }
        }
        _ => {}
    }
    let url = format!("http://127.0.0.1:{port}");
    let Ok(response) = http.post(url).json(&request).send().await else {
        return json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32603, "message": "no upstream" } });
    };
    let mut answer: Value = response.json().await.unwrap();
    if *mode == Mode::First
        && method == "eth_getLogs"
        && let Some(logs) = answer["result"].as_array_mut()
    {
        logs.truncate(1);
    }
    if *mode == Mode::Loud && answer["result"].get("logsBloom").is_some() {
        answer["result"]["logsBloom"] = json!(format!("0x{}", "ff".repeat(256)));
    }
    answer
}

/// Passes bytes on, until it is told otherwise.
pub(crate) struct Wire {
    pub(crate) url: EndpointUrl,
    cut: watch::Sender<u32>,
    stall: watch::Sender<u32>,
    closed: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let (cut, stall) = (watch::Sender::new(0), watch::Sender::new(0));
        let closed = Arc::new(AtomicBool::new(false));
        let (cuts, stalls, refuses) = (cut.clone(), stall.clone(), closed.clone());
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                if refuses.load(Ordering::Relaxed) {
                    continue;
                }
                let (mut cut, mut stall) = (cuts.subscribe(), stalls.subscribe());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        // Either side may be gone by then.
                        done = copy_bidirectional(&mut near, &mut far) => drop(done),
                        cut = cut.changed() => cut.unwrap(),
                        stalled = stall.changed() => {
                            stalled.unwrap();
                            cut.changed().await.unwrap();
                        }
                    }
                });
            }
        });
        Self {
            url: url.parse().unwrap(),
            cut,
            stall,
            closed,
            task,
        }
    }

    /// Passes nothing on any more by the connections there are; new ones work.
    pub(crate) fn stall(&self) {
        self.stall.send_modify(|stalls| *stalls += 1);
    }

    /// Ends all connections; new ones are refused or not.
    pub(crate) fn cut(&self, refuse: bool) {
        self.closed.store(refuse, Ordering::Relaxed);
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// JSON-RPC over WebSockets, the messages of which it makes too large when it is told to.
pub(crate) struct Babbler {
    pub(crate) url: EndpointUrl,
    huge: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Babbler {
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let huge = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let (of_task, counter) = (huge.clone(), connections.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(babble(stream, port, of_task.clone()));
            }
        });
        Self {
            url: url.parse().unwrap(),
            huge,
            connections,
            task,
        }
    }

    pub(crate) fn set_huge(&self, huge: bool) {
        self.huge.store(huge, Ordering::Relaxed);
    }

    /// How often it was connected to.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Babbler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes messages on until either side ends.
async fn babble(stream: TcpStream, port: u16, huge: Arc<AtomicBool>) {
    let mut near = tokio_tungstenite::accept_async(stream).await.unwrap();
    let url = format!("ws://127.0.0.1:{port}");
    let (mut far, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    loop {
        let passed = tokio::select! {
            Some(Ok(message)) = near.next() => far.send(message).await,
            Some(Ok(message)) = far.next() => {
                let message = if message.is_text() && huge.load(Ordering::Relaxed) {
                    Message::text(self::huge())
                } else {
                    message
                };
                near.send(message).await
            }
            else => return,
        };
        if passed.is_err() {
            return;
        }
    }
}
