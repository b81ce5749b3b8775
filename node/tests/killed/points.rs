//! The points at which a process can be killed, and what has them: a store that is
//! written, and a way to the chain by which transactions go.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use headwater::{
    jobs::JobStore,
    store::{HeldJob, Store, StoreError},
};
use headwater_chain::{Change, Journal, JournalError};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Counts the points that a process passes, and kills it at one.
#[derive(Debug)]
pub(crate) struct Points {
    at: Option<usize>,
    passed: AtomicUsize,
}

impl Points {
    pub(crate) fn killing(at: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            at,
            passed: AtomicUsize::new(0),
        })
    }

    /// A point. What comes after it may never come.
    pub(crate) fn pass(&self) {
        if Some(self.passed.fetch_add(1, Ordering::Relaxed)) == self.at {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
            // It takes effect before this returns; nothing else may happen.
            loop {
                std::thread::park();
            }
        }
    }

    /// Does something between two points.
    pub(crate) fn around<T>(&self, work: impl FnOnce() -> T) -> T {
        self.pass();
        let done = work();
        self.pass();
        done
    }
}

/// A store with a point before and after each of its writes.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) store: Arc<Store>,
    pub(crate) points: Arc<Points>,
}

impl JobStore for Disk {
    fn cursor(&self) -> Result<Option<String>, StoreError> {
        self.store.cursor()
    }

    fn put_cursor(&self, cursor: &str) -> Result<(), StoreError> {
        self.points.around(|| self.store.put_cursor(cursor))
    }

    fn jobs(&self) -> Result<Vec<(u64, HeldJob)>, StoreError> {
        self.store.jobs()
    }

    fn put_job(&self, job: u64, held: &HeldJob) -> Result<(), StoreError> {
        self.points.around(|| self.store.put_job(job, held))
    }

    fn remove_job(&self, job: u64) -> Result<(), StoreError> {
        self.points.around(|| self.store.remove_job(job))
    }
}

impl Journal for Disk {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, JournalError> {
        Journal::get(&*self.store, key)
    }

    fn scan(
        &self,
        prefix: &str,
        from: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, JournalError> {
        self.store.scan(prefix, from, limit)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        self.points.around(|| self.store.apply(changes))
    }
}

/// Passes requests on to a chain, with a point before a transaction reaches it and one
/// before the answer comes back. Gives its own URL.
pub(crate) async fn way_to(chain: String, points: Arc<Points>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(pass_on(stream, chain.clone(), points.clone()));
        }
    });
    url
}

async fn pass_on(mut stream: TcpStream, chain: String, points: Arc<Points>) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    while let Some(body) = receive(&mut stream).await {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let sends = request["method"] == "eth_sendRawTransaction";
        if sends {
            points.pass();
        }
        let response = client.post(&chain).body(body);
        let response = response.header("content-type", "application/json");
        let answer = response.send().await.unwrap().bytes().await.unwrap();
        if sends {
            points.pass();
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        let sent = stream.write_all(&[head.as_bytes(), &answer].concat()).await;
        if sent.is_err() {
            return;
        }
    }
}

/// The next request's body.
async fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}
