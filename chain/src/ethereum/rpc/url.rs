//! Where an endpoint is, and what of that may be shown: providers put keys into the
//! path, the query and the user's name.

use std::{fmt, str::FromStr};

use url::Url;

/// Where a provider of a chain answers JSON-RPC.
///
/// Text form: an URL of `http`, `https`, `ws` or `wss`. It is shown without what may be a
/// key: only scheme, host and port.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

/// A text is no endpoint. Does not repeat the text, which may have a key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an endpoint of a chain is an http://, https://, ws:// or wss:// URL with a host")]
pub struct EndpointUrlError;

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        let url = Url::parse(text).map_err(|_| EndpointUrlError)?;
        let known = matches!(url.scheme(), "http" | "https" | "ws" | "wss");
        if !known || url.host_str().is_none_or(str::is_empty) {
            return Err(EndpointUrlError);
        }
        Ok(Self(url))
    }
}

impl EndpointUrl {
    /// Whether blocks can be subscribed to.
    #[must_use]
    pub fn is_web_socket(&self) -> bool {
        matches!(self.0.scheme(), "ws" | "wss")
    }

    /// The URL to ask, without user and password. Never to be shown.
    pub(super) fn bare(&self) -> String {
        let mut url = self.0.clone();
        // Only an URL without a host has no place for these.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        debug_assert!(cleared.is_ok(), "the URL has a host");
        url.into()
    }

    /// What HTTP's basic authentication wants of it, when it names a user.
    pub(super) fn credentials(&self) -> Option<String> {
        let part = |text: &str| {
            percent_encoding::percent_decode_str(text)
                .decode_utf8_lossy()
                .into_owned()
        };
        let user = part(self.0.username());
        let password = self.0.password().map(part);
        if user.is_empty() && password.is_none() {
            return None;
        }
        let pair = format!("{user}:{}", password.unwrap_or_default());
        let encoded = data_encoding::BASE64.encode(pair.as_bytes());
        Some(format!("Basic {encoded}"))
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.0.scheme())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        let hidden = self.0.path() != "/" || self.0.query().is_some();
        f.write_str(if hidden { "/…" } else { "" })
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_key_is_never_shown() {
        let shown = [
            ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
            (
                "wss://name:pass@chain.example/v3/key",
                "wss://chain.example/…",
            ),
            (
                "https://chain.example?key=secret",
                "https://chain.example/…",
            ),
            ("ws://[::1]:8546/", "ws://[::1]:8546"),
        ];
        for (text, expected) in shown {
            let url: EndpointUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), expected);
            assert_eq!(format!("{url:?}"), format!("EndpointUrl({expected})"));
        }
    }

    #[test]
    fn other_things_are_no_endpoints() {
        for text in [
            "",
            "localhost:8545",
            "ftp://x/",
            "file:/etc",
            "http://",
            "ws:",
        ] {
            assert_eq!(text.parse::<EndpointUrl>(), Err(EndpointUrlError), "{text}");
        }
    }

    #[test]
    fn a_user_and_password_become_a_header() {
        let url: EndpointUrl = "https://us%40er:pa%3Ass@chain.example/".parse().unwrap();
        let expected = data_encoding::BASE64.encode(b"us@er:pa:ss");
        assert_eq!(url.credentials(), Some(format!("Basic {expected}")));
        let open: EndpointUrl = "https://chain.example/".parse().unwrap();
        assert_eq!(open.credentials(), None);
    }
}
