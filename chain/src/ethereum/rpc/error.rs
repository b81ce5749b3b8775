//! Why a request to a chain had no answer.

use std::time::Duration;

use ethers_providers::{JsonRpcError, ProviderError, RpcError};

use crate::ledger::LedgerError;

/// Why one endpoint, or all of them, did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection, or it broke.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// As it may be shown.
        endpoint: String,
        /// What the system or the other side said.
        reason: String,
    },
    /// It took too long.
    #[error("{endpoint} did not answer within {limit:?}")]
    Timeout {
        /// As it may be shown.
        endpoint: String,
        /// How long it had.
        limit: Duration,
    },
    /// What it sent is no answer to what was asked.
    #[error("{endpoint} answers nonsense: {reason}")]
    Garbage {
        /// As it may be shown.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It serves another chain than the one asked for.
    #[error("{endpoint} is of chain {found}, not of {expected}; take it out of --ledger")]
    WrongChain {
        /// As it may be shown.
        endpoint: String,
        /// What the others are of, or the setting says.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// It understood and refused.
    #[error("{endpoint} refused: {}", .error.message)]
    Refused {
        /// As it may be shown.
        endpoint: String,
        /// What it said.
        error: Box<JsonRpcError>,
    },
    /// The request cannot be written as JSON.
    #[error("the request cannot be written: {0}")]
    Unwritable(String),
}

impl CallError {
    /// Whether another endpoint may well do it: everything but an answer that every
    /// sound node of the chain would give.
    pub(super) fn is_of_the_endpoint(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Garbage { .. }
            | Self::WrongChain { .. } => true,
            Self::Unwritable(_) => false,
            Self::Refused { error, .. } => is_incapable(error),
        }
    }

    /// Whether it counts against the endpoint's health.
    pub(super) fn is_a_fault(&self) -> bool {
        match self {
            Self::Refused { error, .. } => is_limit(error),
            Self::Unwritable(_) => false,
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Garbage { .. }
            | Self::WrongChain { .. } => true,
        }
    }
}

/// What went wrong first, of an error of a transport.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut first = error;
    while let Some(inner) = within(first) {
        first = inner;
    }
    let unknown = rustls::CertificateError::UnknownIssuer;
    match first.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(reason)) if *reason == unknown => {
            "its certificate is signed by nobody whom this machine trusts".to_owned()
        }
        Some(_) | None => first.to_string(),
    }
}

/// What an error is about.
fn within<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    let io = error.downcast_ref::<std::io::Error>();
    // An I/O error passes over what it is made of.
    match io.and_then(std::io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// What is wrong with a ledger when all of its endpoints failed like this: each is named,
/// unless all are of another chain, which waiting does not change.
pub(crate) fn of_all(errors: &[CallError]) -> LedgerError {
    let another = |error: &CallError| matches!(error, CallError::WrongChain { .. });
    let all = errors.iter().all(another);
    match errors.first() {
        Some(CallError::WrongChain {
            endpoint,
            expected,
            found,
        }) if all => LedgerError::WrongChain {
            endpoint: endpoint.clone(),
            expected: *expected,
            found: *found,
        },
        _ => {
            let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
            LedgerError::Unreachable(told.join("; "))
        }
    }
}

/// Says that this endpoint can't, rather than that it can't be done.
fn is_incapable(error: &JsonRpcError) -> bool {
    // Unknown method, internal error, unknown block, limits (EIP-1474).
    if matches!(
        error.code,
        -32601 | -32603 | -32001 | -32002 | -32004 | -32005
    ) || is_limit(error)
    {
        return true;
    }
    let text = error.message.to_ascii_lowercase();
    let words = [
        "not found",
        "unknown block",
        "missing trie node",
        "pruned",
        "timeout",
        "timed out",
        "unavailable",
        "not available",
    ];
    error.data.is_none() && words.iter().any(|word| text.contains(word))
}

/// Says that it was asked too often.
fn is_limit(error: &JsonRpcError) -> bool {
    let text = error.message.to_ascii_lowercase();
    let words = ["too many requests", "rate limit", "capacity", "quota"];
    error.code == 429 || words.iter().any(|word| text.contains(word))
}

impl RpcError for CallError {
    fn as_error_response(&self) -> Option<&JsonRpcError> {
        match self {
            Self::Refused { error, .. } => Some(error),
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Garbage { .. }
            | Self::WrongChain { .. }
            | Self::Unwritable(_) => None,
        }
    }

    fn as_serde_error(&self) -> Option<&serde_json::Error> {
        None
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        Self::JsonRpcClientError(Box::new(error))
    }
}
