//! One endpoint: its transport, the check of its chain, its health.

use std::{
    fmt::Debug,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use ethers_core::types::U64;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use tokio::{sync::mpsc, time::timeout};
use tracing::{info, warn};

use super::{
    error::CallError,
    health::{Health, Rank},
    http::{Failure, Http},
    socket::{News, WebSocket},
    url::EndpointUrl,
};

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Transport {
    Http(Box<Http>),
    WebSocket(WebSocket),
}

#[derive(Debug)]
pub(super) struct Endpoint {
    url: EndpointUrl,
    /// As it may be shown.
    name: String,
    transport: Transport,
    limit: Duration,
    health: Mutex<Health>,
    /// The connection whose chain was found right.
    checked: Mutex<Option<u64>>,
    /// The newest block it was seen to have.
    head: Mutex<Option<u64>>,
    started: tokio::time::Instant,
}

/// An endpoint as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Scheme, host and port.
    pub endpoint: String,
    /// Whether it is asked before those that are not.
    pub healthy: bool,
    /// How many requests it failed since the last one that it did not.
    pub failures: u32,
    /// The newest block it was seen to have.
    pub head: Option<u64>,
    /// How many requests it was sent.
    pub requests: u64,
    /// How many of them it failed.
    pub errors: u64,
    /// Why it last failed.
    pub last_error: Option<String>,
}

impl Endpoint {
    pub(super) fn new(
        url: EndpointUrl,
        limit: Duration,
        tls: rustls::ClientConfig,
    ) -> Result<Self, String> {
        let transport = if url.is_web_socket() {
            Transport::WebSocket(WebSocket::new(&url, tls, CONNECT))
        } else {
            Transport::Http(Box::new(Http::new(&url, tls, CONNECT)?))
        };
        Ok(Self {
            name: url.to_string(),
            url,
            transport,
            limit,
            health: Mutex::default(),
            checked: Mutex::default(),
            head: Mutex::default(),
            started: tokio::time::Instant::now(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn has_subscriptions(&self) -> bool {
        self.url.is_web_socket()
    }

    pub(super) fn rank(&self) -> Rank {
        self.health().rank(self.started.elapsed())
    }

    pub(super) fn status(&self) -> EndpointStatus {
        let health = self.health();
        let (requests, errors) = health.counts();
        EndpointStatus {
            endpoint: self.name.clone(),
            healthy: health.rank(self.started.elapsed()) == Rank::Good,
            failures: health.failures(),
            head: *self.head(),
            requests,
            errors,
            last_error: health.last_error().map(str::to_owned),
        }
    }

    pub(super) fn head(&self) -> MutexGuard<'_, Option<u64>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a fault that only whoever asked can see.
    pub(super) fn fault(&self, reason: &str) {
        let first = {
            let mut health = self.health();
            let jitter = crate::ethereum::random()[0];
            health.failed(self.started.elapsed(), reason.to_owned(), jitter);
            health.failures() == 1
        };
        *self.head() = None;
        // Over HTTP nothing else tells that another server may answer from now on.
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if first {
            warn!(endpoint = %self.name, reason, "an endpoint of the chain fails");
        }
    }

    /// Asks for something. What goes wrong by the endpoint's fault counts against it.
    pub(super) async fn ask<R: DeserializeOwned>(
        &self,
        chain: &OnceLock<u64>,
        method: &str,
        params: &impl Serialize,
    ) -> Result<R, CallError> {
        let params = to_raw_value(params).map_err(|e| CallError::Unwritable(e.to_string()))?;
        let asking = async {
            let connection = self.checked_connection(chain).await?;
            let value = self.call(connection, method, &params).await?;
            serde_json::from_str(value.get())
                .map_err(|error| self.garbage(format!("{method}: {error}")))
        };
        let asked = self.within(asking).await;
        self.judge(asked)
    }

    /// Subscribes to new blocks. The news ends with the connection.
    pub(super) async fn subscribe(
        &self,
        chain: &OnceLock<u64>,
    ) -> Result<mpsc::Receiver<News>, CallError> {
        let params =
            to_raw_value(&["newHeads"]).map_err(|e| CallError::Unwritable(e.to_string()))?;
        let asking = async {
            let connection = self.checked_connection(chain).await?;
            match &self.transport {
                Transport::WebSocket(socket) => {
                    let subscribed = socket.subscribe(connection, &params).await;
                    subscribed.map_err(|failure| self.failure(failure))
                }
                Transport::Http(_) => {
                    Err(self.failure(Failure::Unreachable("HTTP has no subscriptions".into())))
                }
            }
        };
        let asked = self.within(asking).await;
        self.judge(asked)
    }

    /// A connection to the right chain.
    async fn checked_connection(&self, chain: &OnceLock<u64>) -> Result<u64, CallError> {
        let connection = match &self.transport {
            Transport::Http(_) => 0,
            Transport::WebSocket(socket) => {
                let connected = socket.connected().await;
                connected.map_err(|failure| self.failure(failure))?
            }
        };
        if *self.checked() == Some(connection) {
            return Ok(connection);
        }
        let none =
            to_raw_value::<[(); 0]>(&[]).map_err(|e| CallError::Unwritable(e.to_string()))?;
        let value = self.call(connection, "eth_chainId", &none).await?;
        let found: U64 = serde_json::from_str(value.get())
            .map_err(|error| self.garbage(format!("eth_chainId: {error}")))?;
        // Without a setting the first that answers decides.
        let expected = *chain.get_or_init(|| found.as_u64());
        if expected != found.as_u64() {
            return Err(CallError::WrongChain {
                endpoint: self.name.clone(),
                expected,
                found: found.as_u64(),
            });
        }
        *self.checked() = Some(connection);
        Ok(connection)
    }

    async fn call(
        &self,
        connection: u64,
        method: &str,
        params: &RawValue,
    ) -> Result<Box<RawValue>, CallError> {
        let called = match &self.transport {
            Transport::Http(http) => http.call(method, params).await,
            Transport::WebSocket(socket) => socket.call(connection, method, params).await,
        };
        called.map_err(|failure| self.failure(failure))
    }

    async fn within<T>(
        &self,
        asking: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        if let Ok(asked) = timeout(self.limit, asking).await {
            return asked;
        }
        if let Transport::WebSocket(socket) = &self.transport {
            socket.hang_up().await;
        }
        Err(CallError::Timeout {
            endpoint: self.name.clone(),
            limit: self.limit,
        })
    }

    fn judge<T>(&self, asked: Result<T, CallError>) -> Result<T, CallError> {
        match &asked {
            Err(error) if error.is_a_fault() => self.fault(&error.to_string()),
            Ok(_) | Err(_) => {
                let failed = {
                    let mut health = self.health();
                    let failures = health.failures();
                    health.answered();
                    failures
                };
                if failed > 0 {
                    info!(endpoint = %self.name, "an endpoint of the chain answers again");
                }
            }
        }
        asked
    }

    fn failure(&self, failure: Failure) -> CallError {
        let endpoint = self.name.clone();
        match failure {
            Failure::Unreachable(reason) => CallError::Unreachable { endpoint, reason },
            Failure::Garbage(reason) => CallError::Garbage { endpoint, reason },
            Failure::Refused(error) => CallError::Refused {
                endpoint,
                error: Box::new(error),
            },
        }
    }

    fn garbage(&self, reason: String) -> CallError {
        self.failure(Failure::Garbage(reason))
    }

    fn checked(&self) -> MutexGuard<'_, Option<u64>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
