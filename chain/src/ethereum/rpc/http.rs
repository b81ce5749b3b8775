//! JSON-RPC over HTTP: one POST per request.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ethers_providers::JsonRpcError;
use futures::StreamExt as _;
use reqwest::{
    Client,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};
use serde_json::value::RawValue;

use super::{
    frame::{self, MAX_BYTES, Said},
    url::EndpointUrl,
};

/// Why a transport has no answer.
pub(super) enum Failure {
    Unreachable(String),
    Garbage(String),
    Refused(JsonRpcError),
}

#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    /// Without user and password, which go into a header of their own.
    url: String,
    authorization: Option<HeaderValue>,
    next: AtomicU64,
}

impl Http {
    pub(super) fn new(
        url: &EndpointUrl,
        tls: rustls::ClientConfig,
        connect: Duration,
    ) -> Result<Self, String> {
        // Elsewhere there is no business for what the URL has in it.
        let client = Client::builder()
            .redirect(Policy::none())
            .tls_backend_preconfigured(tls)
            .connect_timeout(connect)
            .build();
        let authorization = url
            .credentials()
            .and_then(|text| HeaderValue::try_from(text).ok())
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        Ok(Self {
            client: client.map_err(|error| error.to_string())?,
            url: url.bare(),
            authorization,
            next: AtomicU64::new(1),
        })
    }

    pub(super) async fn call(
        &self,
        method: &str,
        params: &RawValue,
    ) -> Result<Box<RawValue>, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let body = frame::request(id, method, params).map_err(Failure::Garbage)?;
        let mut request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(unreachable)?;
            if bytes.len() + chunk.len() > MAX_BYTES {
                return Err(Failure::Garbage(format!("more than {MAX_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        match frame::read(&bytes) {
            Ok(Said::Answer(of, answer)) if of == id => answer.map_err(Failure::Refused),
            Ok(Said::Complaint(error)) => Err(Failure::Refused(error)),
            Ok(Said::Answer(..) | Said::News(..)) => {
                Err(Failure::Garbage("an answer to something else".into()))
            }
            Err(_) if !status.is_success() => {
                Err(Failure::Unreachable(format!("HTTP status {status}")))
            }
            Err(reason) => Err(Failure::Garbage(reason)),
        }
    }
}

/// What went wrong down to its first cause, without the URL.
fn unreachable(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    Failure::Unreachable(text)
}
