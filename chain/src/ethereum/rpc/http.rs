//! JSON-RPC over HTTP: one POST per request.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use ethers_providers::JsonRpcError;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::value::RawValue;

use super::{
    error::cause,
    frame::{self, MAX_BYTES, Said},
    url::EndpointUrl,
};

/// Connections that wait for the next request, and for how long: less than servers do, so
/// that none is used just when it is closed.
const IDLE: usize = 8;
const IDLE_FOR: Duration = Duration::from_secs(4);

/// Why a transport has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    Unreachable(String),
    Garbage(String),
    Refused(JsonRpcError),
}

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without user and password, which go into a header of their own.
    uri: Uri,
    authorization: Option<HeaderValue>,
    next: AtomicU64,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may have a key in it.
        f.write_str("Http(..)")
    }
}

impl Http {
    pub(super) fn new(
        url: &EndpointUrl,
        tls: rustls::ClientConfig,
        connect: Duration,
    ) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_FOR)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let authorization = url
            .credentials()
            .and_then(|text| HeaderValue::try_from(text).ok())
            .map(|mut value| {
                value.set_sensitive(true);
                value
            });
        Ok(Self {
            client,
            uri: url.bare().parse().map_err(|_| format!("{url} is no URL"))?,
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
        let mut request = Request::post(&self.uri).header(CONTENT_TYPE, "application/json");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Full::from(body))
            .map_err(|error| Failure::Garbage(error.to_string()))?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| Failure::Unreachable(cause(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Failure::Garbage(format!("more than {MAX_BYTES} bytes")),
            None => Failure::Unreachable(cause(&*error)),
        })?;
        match frame::read(&body.to_bytes()) {
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
