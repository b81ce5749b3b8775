//! Texts that are never shown by accident: stream keys and passwords.

use std::{convert::Infallible, fmt, str::FromStr};

use zeroize::Zeroizing;

/// A text that is wiped from memory when it is dropped and left out of logs.
///
/// It has no `Display` and no `Serialize`; [`Secret::expose`] is the only way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text, for the place that cannot do without.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::from(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_its_debug_text() {
        let secret = Secret::from("hunter22");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "(..) Some((..))");
        assert_eq!(secret.expose(), "hunter22");
    }
}
