//! A span of time as people write it: `60s`, `250ms`, `2m`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A span of whole milliseconds, at most a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Span(u64);

/// The longest span, in milliseconds.
const LONGEST: u128 = 24 * 60 * 60 * 1000;

/// Why a text is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// It can't be read.
    #[error("`{0}` is no span of time like 60s or 250ms")]
    Text(String),
    /// It is longer than a day, or has fractions of a millisecond.
    #[error("`{0}` is not between 1ms and 24h, or no whole number of milliseconds")]
    Range(String),
}

impl Span {
    /// A span of this many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// In milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// As the core takes it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let span = humantime::parse_duration(text).map_err(|_| SpanError::Text(text.into()))?;
        let whole = span.subsec_nanos().is_multiple_of(1_000_000);
        match u64::try_from(span.as_millis()) {
            Ok(millis) if whole && span.as_millis() <= LONGEST => Ok(Self(millis)),
            _ => Err(SpanError::Range(text.into())),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}s", self.0 / 1000)
        } else {
            write!(f, "{}ms", self.0)
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_back_as_they_are_written() {
        for text in ["60s", "250ms", "0s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("2m".parse::<Span>().unwrap().millis(), 120_000);
    }

    #[test]
    fn what_is_no_span_is_refused_by_name() {
        assert_eq!("fast".parse::<Span>(), Err(SpanError::Text("fast".into())));
        assert_eq!(
            "2days".parse::<Span>(),
            Err(SpanError::Range("2days".into()))
        );
        assert_eq!("1us".parse::<Span>(), Err(SpanError::Range("1us".into())));
    }
}
