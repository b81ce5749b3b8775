//! Who transcodes, what is to be transcoded, and for how much.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize, de::Error as _};

/// An Ethereum address.
///
/// Text form: `0x` and 40 hex digits, whose case is a checksum (EIP-55).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 20]);

/// A text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Wrong length or characters.
    #[error("an address is 0x and 40 hex digits")]
    Form,
    /// The case of its digits is wrong: it was mistyped.
    #[error("the address has a wrong checksum; check its digits")]
    Checksum,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::ethereum::checksummed(self))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let digits = text.strip_prefix("0x").ok_or(AddressError::Form)?;
        let address = Self(hex(digits).ok_or(AddressError::Form)?);
        let mixed = digits.bytes().any(|b| b.is_ascii_uppercase())
            && digits.bytes().any(|b| b.is_ascii_lowercase());
        if mixed && address.to_string() != text {
            return Err(AddressError::Checksum);
        }
        Ok(address)
    }
}

/// Reads exactly `N` bytes of hex digits.
pub(crate) fn hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    HEXLOWER_PERMISSIVE
        .decode_mut(digits.as_bytes(), &mut bytes)
        .ok()?;
    Some(bytes)
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

as_text!(Address);
as_text!(Broadcaster);
as_text!(NodeKey);
as_text!(Wei);

/// The public key of a node, which is all that the chain knows of it.
///
/// Text form: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub [u8; 32]);

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({self})")
    }
}

impl FromStr for NodeKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        hex(text).map(Self).ok_or("a node key is 64 hex digits")
    }
}

/// Whose stream a job is for, as far as its ledger knows.
///
/// Text form: that of the node's key, or of the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broadcaster {
    /// In a job book, which knows no accounts.
    Node(NodeKey),
    /// On a chain: it created the job, pays, and signs receipts.
    Account(Address),
}

impl Broadcaster {
    /// Who pays and signs receipts; nobody in a job book.
    #[must_use]
    pub const fn account(&self) -> Option<Address> {
        match self {
            Self::Node(_) => None,
            Self::Account(account) => Some(*account),
        }
    }
}

impl fmt::Display for Broadcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Account(account) => account.fmt(f),
        }
    }
}

impl FromStr for Broadcaster {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if let Ok(account) = text.parse() {
            return Ok(Self::Account(account));
        }
        let wrong = "a broadcaster is an address or the key of a node";
        text.parse().map(Self::Node).map_err(|_| wrong)
    }
}

/// An amount of the chain's smallest coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wei(pub u128);

impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Wei {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        text.parse()
            .map(Self)
            .map_err(|_| "an amount is a whole number of wei")
    }
}

/// Number of a job, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A registered transcoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcoder {
    /// Who signs its claims.
    pub address: Address,
    /// Its node.
    pub node: NodeKey,
    /// What it asks for one segment.
    pub price_per_segment: Wei,
    /// Its weight in elections; without stake it is never elected.
    pub stake: Wei,
}

/// What has become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// No transcoder could be elected (yet).
    Open,
    /// A transcoder was elected and has not answered.
    Assigned,
    /// The transcoder works on it.
    Acknowledged,
    /// It is over.
    Ended,
}

/// A stream that is to be transcoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// The source stream.
    pub stream: String,
    /// Whose stream it is.
    pub broadcaster: Broadcaster,
    /// Names of the renditions that are wanted.
    pub profiles: Vec<String>,
    /// The highest price at which a transcoder may be elected.
    pub max_price_per_segment: Wei,
    /// What has become of it.
    pub state: JobState,
    /// Who holds it.
    pub transcoder: Option<Transcoder>,
    /// How often a transcoder has been elected for it.
    pub round: u32,
    /// Transcoders that failed it and are not elected again.
    pub excluded: Vec<Address>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_by_the_case_of_their_digits() {
        let text = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        let address: Address = text.parse().unwrap();

        assert_eq!(address.to_string(), text);
        assert_eq!(text.to_lowercase().parse(), Ok(address));
        let mistyped = text.replace("5aA", "5AA");
        assert_eq!(mistyped.parse::<Address>(), Err(AddressError::Checksum));
        assert_eq!("0x12".parse::<Address>(), Err(AddressError::Form));
        let signs = format!("0x{}", "+f".repeat(20));
        assert_eq!(signs.parse::<Address>(), Err(AddressError::Form));
    }
}
