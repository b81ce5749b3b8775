//! How a chain is asked: several endpoints in order of preference, each request goes to
//! the first sound one and on to the next when that fails.

mod endpoint;
mod error;
mod frame;
mod health;
mod http;
mod socket;
mod url;

use std::{
    fmt::Debug,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use ethers_providers::JsonRpcClient;
use rustls_platform_verifier::BuilderVerifierExt as _;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

pub use self::{
    endpoint::EndpointStatus,
    url::{EndpointUrl, EndpointUrlError},
};
pub(crate) use error::{CallError, of_all};
pub(in crate::ethereum) use socket::News;

use self::endpoint::Endpoint;
use crate::ledger::LedgerError;

/// The endpoints of one chain. Cheap to clone; all clones share health and connections.
#[derive(Debug, Clone)]
pub struct Endpoints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoints: Vec<Endpoint>,
    /// All of them are of this chain; decided by the first that answers unless it is set.
    chain: OnceLock<u64>,
}

/// One endpoint, for a number of requests that must not see two views of the chain.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    all: Endpoints,
    index: usize,
}

impl Endpoints {
    /// Endpoints in order of preference, each of which has `limit` for an answer. With
    /// `chain` an endpoint of another chain is never used; without, the first that answers
    /// decides which it is. Connects to nothing yet.
    ///
    /// # Errors
    /// Without any endpoint, or when the system's certificates cannot be read.
    pub fn new(
        urls: &[EndpointUrl],
        chain: Option<u64>,
        limit: Duration,
    ) -> Result<Self, LedgerError> {
        if urls.is_empty() {
            return Err(LedgerError::Endpoints("none is given".into()));
        }
        let tls = tls().map_err(|error| LedgerError::Endpoints(error.to_string()))?;
        let endpoints = urls
            .iter()
            .map(|url| Endpoint::new(url.clone(), limit, tls.clone()))
            .collect::<Result<_, _>>()
            .map_err(LedgerError::Endpoints)?;
        let chain = chain.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self(Arc::new(Inner { endpoints, chain })))
    }

    /// How the endpoints do, in order of preference.
    #[must_use]
    pub fn status(&self) -> Vec<EndpointStatus> {
        self.0.endpoints.iter().map(Endpoint::status).collect()
    }

    /// The chain they are of; asks until one tells.
    ///
    /// # Errors
    /// When none answers, or all are of another chain than the one that is known.
    pub(crate) async fn chain_id(&self) -> Result<u64, LedgerError> {
        let mut errors = Vec::new();
        for endpoint in self.in_order() {
            let asked: Result<ethers_core::types::U64, _> =
                endpoint.request("eth_chainId", [(); 0]).await;
            match asked {
                Ok(id) => return Ok(*self.0.chain.get_or_init(|| id.as_u64())),
                Err(error) => errors.push(error),
            }
        }
        Err(of_all(&errors))
    }

    /// Asks one endpoint after the other until one answers. An answer that every sound
    /// node would give, say that a call reverts, is final.
    ///
    /// # Errors
    /// That of the most preferred endpoint when all fail.
    pub(crate) async fn ask<R: DeserializeOwned + Send>(
        &self,
        method: &str,
        params: &(impl Debug + Serialize + Send + Sync),
    ) -> Result<R, CallError> {
        let mut first = None;
        for endpoint in self.in_order() {
            match endpoint.request(method, params).await {
                Err(error) if error.is_of_the_endpoint() => {
                    first.get_or_insert(error);
                }
                settled => return settled,
            }
        }
        Err(first.expect("there is at least one endpoint"))
    }

    /// The newest block that any endpoint but one was seen to have.
    pub(crate) fn newest_but(&self, one: &Pinned) -> Option<u64> {
        let others = self.0.endpoints.iter().enumerate();
        let others = others.filter(|(index, _)| *index != one.index);
        others.filter_map(|(_, endpoint)| *endpoint.head()).max()
    }

    /// The endpoints, the one to try first in front.
    pub(crate) fn in_order(&self) -> Vec<Pinned> {
        let mut ranked: Vec<_> = (0..self.0.endpoints.len())
            .map(|index| (self.0.endpoints[index].rank(), index))
            .collect();
        ranked.sort_unstable();
        let pin = |(_, index)| Pinned {
            all: self.clone(),
            index,
        };
        ranked.into_iter().map(pin).collect()
    }
}

impl Pinned {
    /// New blocks as the endpoint announces them; `None` over HTTP.
    pub(crate) async fn subscribe(&self) -> Option<Result<mpsc::Receiver<News>, CallError>> {
        let endpoint = self.endpoint();
        if !endpoint.has_subscriptions() {
            return None;
        }
        Some(endpoint.subscribe(&self.all.0.chain).await)
    }

    /// Counts a fault that only whoever asked can see.
    pub(crate) fn fault(&self, reason: &str) {
        self.endpoint().fault(reason);
    }

    /// Counts an answer that cannot be true.
    pub(crate) fn garbage(&self, reason: &str) -> CallError {
        let error = CallError::Garbage {
            endpoint: self.name().to_owned(),
            reason: reason.to_owned(),
        };
        self.fault(&error.to_string());
        error
    }

    /// Notes the newest block it has.
    pub(crate) fn note_head(&self, head: u64) {
        *self.endpoint().head() = Some(head);
    }

    /// As it may be shown.
    pub(crate) fn name(&self) -> &str {
        self.endpoint().name()
    }

    /// Its place in the order of preference.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    fn endpoint(&self) -> &Endpoint {
        &self.all.0.endpoints[self.index]
    }
}

#[async_trait]
impl JsonRpcClient for Pinned {
    type Error = CallError;

    async fn request<T, R>(&self, method: &str, params: T) -> Result<R, CallError>
    where
        T: Debug + Serialize + Send + Sync,
        R: DeserializeOwned + Send,
    {
        let chain = &self.all.0.chain;
        self.endpoint().ask(chain, method, &params).await
    }
}

/// TLS as the system trusts it.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_platform_verifier()?.with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_key_is_in_nothing_that_is_printed() {
        let urls = ["https://u:hush@a.example/hush?hush", "wss://a.example/hush"];
        let urls = urls.map(|url| url.parse().unwrap());
        let endpoints = Endpoints::new(&urls, None, Duration::from_secs(1)).unwrap();

        let shown = format!(
            "{endpoints:?} {:?} {:?}",
            endpoints.status(),
            endpoints.in_order()
        );

        assert!(
            shown.contains("a.example") && !shown.contains("hush"),
            "{shown}"
        );
    }

    #[test]
    fn no_endpoint_at_all_is_an_error() {
        let none = Endpoints::new(&[], None, Duration::from_secs(1));
        assert!(matches!(none, Err(LedgerError::Endpoints(_))));
    }
}
