//! JSON-RPC over a WebSocket: many requests at a time, and subscriptions. One task owns
//! the connection; it is made when somebody asks for something.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ethers_core::types::U256;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::value::RawValue;
use tokio::{
    net::TcpStream,
    sync::{Mutex, mpsc, oneshot},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{
        Error, Message, Utf8Bytes,
        client::IntoClientRequest as _,
        http::{HeaderValue, header::AUTHORIZATION},
        protocol::WebSocketConfig,
    },
};

use super::{
    error::cause,
    frame::{self, MAX_BYTES, Said},
    http::Failure,
    url::EndpointUrl,
};

/// Requests that wait to be sent, and that wait for their answers.
const REQUESTS: usize = 256;
/// News nobody has looked at yet; the oldest is what matters least, but a full queue only
/// means that nobody looks.
const NEWS: usize = 64;
/// The other side has to show life this often, when it is asked to twice.
const PING: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Answer = Result<Box<RawValue>, Failure>;
/// News of a subscription, or at the end what was wrong with them.
pub(in crate::ethereum) type News = Result<Box<RawValue>, String>;

#[derive(Debug)]
pub(super) struct WebSocket {
    url: EndpointUrl,
    tls: Arc<rustls::ClientConfig>,
    connect: Duration,
    link: Mutex<(u64, Option<mpsc::Sender<Order>>)>,
}

#[derive(Debug)]
struct Order {
    method: String,
    params: Box<RawValue>,
    answer: oneshot::Sender<Answer>,
    /// Where the news goes when the answer is a subscription's number.
    news: Option<mpsc::Sender<News>>,
}

impl WebSocket {
    pub(super) fn new(url: &EndpointUrl, tls: rustls::ClientConfig, connect: Duration) -> Self {
        Self {
            url: url.clone(),
            tls: Arc::new(tls),
            connect,
            link: Mutex::new((0, None)),
        }
    }

    /// Connects unless that is done; gives the connection's number.
    pub(super) async fn connected(&self) -> Result<u64, Failure> {
        let mut link = self.link.lock().await;
        if link.1.as_ref().is_none_or(mpsc::Sender::is_closed) {
            let socket = self.open().await?;
            let (to, orders) = mpsc::channel(REQUESTS);
            tokio::spawn(Link::new(socket).run(orders));
            *link = (link.0 + 1, Some(to));
        }
        Ok(link.0)
    }

    /// Ends the connection: it does not answer.
    pub(super) async fn hang_up(&self) {
        self.link.lock().await.1 = None;
    }

    pub(super) async fn call(
        &self,
        number: u64,
        method: &str,
        params: &RawValue,
    ) -> Result<Box<RawValue>, Failure> {
        self.order(number, method, params, None).await
    }

    /// Subscribes. The news ends when the connection does.
    pub(super) async fn subscribe(
        &self,
        number: u64,
        params: &RawValue,
    ) -> Result<mpsc::Receiver<News>, Failure> {
        let (to, news) = mpsc::channel(NEWS);
        self.order(number, "eth_subscribe", params, Some(to))
            .await?;
        Ok(news)
    }

    async fn order(
        &self,
        number: u64,
        method: &str,
        params: &RawValue,
        news: Option<mpsc::Sender<News>>,
    ) -> Result<Box<RawValue>, Failure> {
        let closed = || Failure::Unreachable("the connection was closed".into());
        let to = {
            let link = self.link.lock().await;
            let same = link.1.clone().filter(|_| link.0 == number);
            same.ok_or_else(closed)?
        };
        let (answer, answered) = oneshot::channel();
        let order = Order {
            method: method.to_owned(),
            params: params.to_owned(),
            answer,
            news,
        };
        to.send(order).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    async fn open(&self) -> Result<Socket, Failure> {
        let unreachable = |reason: String| Failure::Unreachable(reason);
        let mut request = self
            .url
            .bare()
            .into_client_request()
            .map_err(|error| unreachable(error.to_string()))?;
        let credentials = self.url.credentials();
        if let Some(value) = credentials.and_then(|text| HeaderValue::try_from(text).ok()) {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let bounds = WebSocketConfig::default()
            .max_message_size(Some(MAX_BYTES))
            .max_frame_size(Some(MAX_BYTES));
        let tls = Connector::Rustls(self.tls.clone());
        let connecting = connect_async_tls_with_config(request, Some(bounds), true, Some(tls));
        match timeout(self.connect, Box::pin(connecting)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(unreachable(cause(&error))),
            Err(_) => Err(unreachable("no connection in time".into())),
        }
    }
}

/// One connection.
struct Link {
    socket: Socket,
    next: u64,
    waiting: BTreeMap<u64, Order>,
    subscribed: BTreeMap<U256, mpsc::Sender<News>>,
}

impl Link {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            next: 1,
            waiting: BTreeMap::new(),
            subscribed: BTreeMap::new(),
        }
    }

    /// Runs until either side ends it. Whoever still waits learns that by the end of its
    /// channel, and what was wrong if something was.
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        loop {
            let full = self.waiting.len() >= REQUESTS;
            let sent = tokio::select! {
                message = self.socket.next() => match message.map(|message| self.heard(message)) {
                    Some(Ok(open)) => {
                        silent = 0;
                        open
                    }
                    Some(Err(wrong)) => {
                        self.tell(&wrong);
                        false
                    }
                    None => false,
                },
                order = orders.recv(), if !full => match order {
                    Some(order) => self.send(order).await,
                    None => false,
                },
                _ = ping.tick() => {
                    silent += 1;
                    // Who gave up waiting needs no answer any more.
                    self.waiting.retain(|_, order| !order.answer.is_closed());
                    silent <= 2 && self.socket.send(Message::Ping(bytes::Bytes::new())).await.is_ok()
                }
            };
            if !sent {
                break;
            }
        }
        // Best effort: the other side may be gone.
        drop(timeout(PING, self.socket.close(None)).await);
    }

    /// Says to whoever waits what was wrong.
    fn tell(&mut self, wrong: &str) {
        for (_, order) in std::mem::take(&mut self.waiting) {
            // Who asked may have given up.
            drop(order.answer.send(Err(Failure::Garbage(wrong.to_owned()))));
        }
        for news in self.subscribed.values() {
            // Whoever does not keep up learns of the end at least.
            drop(news.try_send(Err(wrong.to_owned())));
        }
    }

    async fn send(&mut self, order: Order) -> bool {
        let id = self.next;
        self.next += 1;
        let Ok(text) = frame::request(id, &order.method, &order.params) else {
            // Dropping the order tells who sent it.
            return true;
        };
        self.waiting.insert(id, order);
        let message = Message::Text(Utf8Bytes::from(text));
        self.socket.send(message).await.is_ok()
    }

    /// Handles what came; false when the connection has ended.
    ///
    /// # Errors
    /// Says what is wrong with it, if the other side could have known better.
    fn heard(&mut self, message: Result<Message, Error>) -> Result<bool, String> {
        let message = match message {
            Ok(message) => message,
            Err(Error::Capacity(_)) => return Err(format!("more than {MAX_BYTES} bytes")),
            Err(_) => return Ok(false),
        };
        let text = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(true),
            Message::Close(_) => return Ok(false),
        };
        match frame::read(text)? {
            Said::Answer(id, answer) => {
                let Some(order) = self.waiting.remove(&id) else {
                    return Ok(true);
                };
                let number = answer.as_ref().ok();
                let number = number.and_then(|value| serde_json::from_str(value.get()).ok());
                if let (Some(news), Some(number)) = (order.news, number) {
                    self.subscribed.insert(number, news);
                }
                // Who asked may have given up.
                drop(order.answer.send(answer.map_err(Failure::Refused)));
            }
            Said::News(number, news) => {
                if let Some(to) = self.subscribed.get(&number)
                    && let Err(mpsc::error::TrySendError::Closed(_)) = to.try_send(Ok(news))
                {
                    self.subscribed.remove(&number);
                }
            }
            Said::Complaint(_) => {}
        }
        Ok(true)
    }
}
