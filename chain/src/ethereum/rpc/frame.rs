//! JSON-RPC 2.0: what is sent, what may come back.

use ethers_core::types::U256;
use ethers_providers::JsonRpcError;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Answers above this are not read; a block's logs are far below.
pub(super) const MAX_BYTES: usize = 16 << 20;

#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a RawValue,
}

/// Whatever an endpoint sends.
#[derive(Deserialize)]
pub(super) struct Frame {
    id: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    result: Option<Box<RawValue>>,
    error: Option<JsonRpcError>,
    params: Option<Notice>,
}

#[derive(Deserialize)]
struct Notice {
    subscription: U256,
    result: Box<RawValue>,
}

/// What a frame says.
pub(super) enum Said {
    /// The answer to the request of this number.
    Answer(u64, Result<Box<RawValue>, JsonRpcError>),
    /// News of a subscription.
    News(U256, Box<RawValue>),
    /// An error that is for no request in particular.
    Complaint(JsonRpcError),
}

/// `null` is an answer too.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

pub(super) fn request(id: u64, method: &str, params: &RawValue) -> Result<String, String> {
    let request = Request {
        jsonrpc: "2.0",
        id,
        method,
        params,
    };
    serde_json::to_string(&request).map_err(|error| error.to_string())
}

/// Reads a frame.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Said, String> {
    let frame: Frame = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match frame {
        Frame {
            error: Some(error),
            id,
            ..
        } => Ok(id.map_or_else(
            || Said::Complaint(error.clone()),
            |id| Said::Answer(id, Err(error.clone())),
        )),
        Frame {
            id: Some(id),
            result: Some(result),
            ..
        } => Ok(Said::Answer(id, Ok(result))),
        Frame {
            params: Some(news), ..
        } => Ok(Said::News(news.subscription, news.result)),
        Frame { .. } => Err("neither an answer nor news".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_errors_and_news_are_told_apart() {
        let answer = read(br#"{"jsonrpc":"2.0","id":3,"result":null}"#).unwrap();
        assert!(matches!(answer, Said::Answer(3, Ok(value)) if value.get() == "null"));
        let refused = read(br#"{"id":4,"error":{"code":-32000,"message":"no"}}"#).unwrap();
        assert!(matches!(refused, Said::Answer(4, Err(error)) if error.code == -32000));
        let news = br#"{"method":"eth_subscription","params":{"subscription":"0x2","result":1}}"#;
        assert!(matches!(read(news).unwrap(), Said::News(id, _) if id == 2.into()));
        let complaint = br#"{"id":null,"error":{"code":429,"message":"slow down"}}"#;
        assert!(matches!(read(complaint).unwrap(), Said::Complaint(error) if error.code == 429));
        for nonsense in [
            "",
            "[]",
            "{}",
            "<html>",
            r#"{"id":1}"#,
            r#"{"id":"x","result":1}"#,
        ] {
            assert!(read(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn nothing_an_endpoint_sends_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
        }
    }
}
