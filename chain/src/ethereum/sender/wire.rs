//! What a sender asks of a chain, and how it reads the answers.

use std::{fmt, future::Future, pin::Pin};

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    super::{
        refusal::Refusal,
        rpc::{CallError, Endpoints},
    },
    error::TransactionError,
};

/// An answer to be awaited.
pub(in crate::ethereum) type Answer<'a> =
    Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send + 'a>>;

/// Nodes of a chain.
pub(in crate::ethereum) trait Wire: Send + Sync + fmt::Debug {
    /// Asks one of them.
    fn ask(&self, method: &'static str, params: Value) -> Answer<'_>;
}

impl Wire for Endpoints {
    fn ask(&self, method: &'static str, params: Value) -> Answer<'_> {
        Box::pin(async move { Ok(self.ask::<Value>(method, &params).await?) })
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { error, .. } => Self::Refused {
                code: error.code,
                message: error.message,
                data: error.data,
            },
            CallError::Unreachable { .. }
            | CallError::Timeout { .. }
            | CallError::Garbage { .. }
            | CallError::WrongChain { .. }
            | CallError::Unwritable(_) => Self::Lost(error.to_string()),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::ethereum) enum Failure {
    /// Nobody answers, or not in a way that makes sense. It may have been done.
    Lost(String),
    /// A node understood and refused. It was not done.
    Refused {
        /// As JSON-RPC has it.
        code: i64,
        /// In the node's words.
        message: String,
        /// What a call reverted with.
        data: Option<Value>,
    },
}

impl Failure {
    /// What the contract says; `None` when it is not the contract that refuses.
    pub(in crate::ethereum) fn refusal(&self) -> Option<Refusal> {
        let Self::Refused { message, data, .. } = self else {
            return None;
        };
        // Some nodes wrap it once more.
        let data = match data {
            Some(Value::Object(fields)) => fields.get("data"),
            other => other.as_ref(),
        };
        let text = data.and_then(Value::as_str);
        let bytes = text.and_then(|text| {
            HEXLOWER_PERMISSIVE
                .decode(text.strip_prefix("0x")?.as_bytes())
                .ok()
        });
        match bytes {
            Some(bytes) => {
                Refusal::decode(&bytes).or_else(|| Some(Refusal::Other(message.clone())))
            }
            None => message
                .contains("revert")
                .then(|| Refusal::Other(message.clone())),
        }
    }

    /// Whether the node's words have one of these in them.
    pub(super) fn says(&self, words: &[&str]) -> bool {
        match self {
            Self::Lost(_) => false,
            Self::Refused { message, .. } => {
                let message = message.to_ascii_lowercase();
                words.iter().any(|word| message.contains(word))
            }
        }
    }
}

impl From<Failure> for TransactionError {
    fn from(failure: Failure) -> Self {
        match (failure.refusal(), failure) {
            (Some(refusal), _) => Self::Refused(refusal),
            (None, Failure::Lost(reason)) => Self::Chain(reason),
            (None, Failure::Refused { message, .. }) => {
                Self::Chain(format!("the chain's node refused: {message}"))
            }
        }
    }
}

/// Asks, and reads the answer as a type.
pub(in crate::ethereum) async fn ask<T: DeserializeOwned>(
    wire: &dyn Wire,
    method: &'static str,
    params: Value,
) -> Result<T, Failure> {
    let answer = wire.ask(method, params).await?;
    serde_json::from_value(answer)
        .map_err(|error| Failure::Lost(format!("nonsense in answer to {method}: {error}")))
}

/// A number in the form of JSON-RPC.
pub(in crate::ethereum) fn quantity(number: impl Into<u128>) -> String {
    format!("{:#x}", number.into())
}

/// Bytes in the form of JSON-RPC.
pub(in crate::ethereum) fn bytes(bytes: &[u8]) -> String {
    format!("0x{}", data_encoding::HEXLOWER.encode(bytes))
}
