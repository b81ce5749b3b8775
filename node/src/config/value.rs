//! How single values are read; each reader says what it accepts.

use std::{
    fmt::Display,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use headwater_chain::{
    Wei,
    ethereum::{EndpointUrl, ReceiptTree},
};
use headwater_media::transcode::Ladder;

use super::PublishKey;
use crate::secret::Secret;

/// Neighbours that a node may have at most, whatever it is told.
const MAX_PEERS: RangeInclusive<u32> = 8..=10_000;
/// Segments without a receipt: more than are made between two questions; half an hour.
const MAX_UNPAID: RangeInclusive<usize> = 10..=1000;
/// What the contract takes.
const CLAIM_RECEIPTS: RangeInclusive<usize> = 1..=ReceiptTree::MAX;
/// Two weeks of blocks of 12 s.
const CLAIM_BLOCKS: RangeInclusive<u64> = 1..=100_000;

/// A chain takes back so many blocks at most that this program can still follow.
const MAX_CONFIRMATIONS: u64 = 64;

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" => Ok(true),
        "no" | "false" | "0" => Ok(false),
        _ => Err("yes or no, true or false, 1 or 0".to_owned()),
    }
}

pub(super) fn max_peers(text: &str) -> Result<u32, String> {
    number(text, &MAX_PEERS, "neighbours")
}

pub(super) fn max_unpaid(text: &str) -> Result<usize, String> {
    number(text, &MAX_UNPAID, "segments")
}

pub(super) fn claim_receipts(text: &str) -> Result<usize, String> {
    number(text, &CLAIM_RECEIPTS, "receipts")
}

pub(super) fn claim_blocks(text: &str) -> Result<u64, String> {
    number(text, &CLAIM_BLOCKS, "blocks")
}

/// Reads a number of things within bounds.
fn number<T>(text: &str, bounds: &RangeInclusive<T>, what: &str) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    let number = text.parse().ok().filter(|n| bounds.contains(n));
    number.ok_or_else(|| {
        let (min, max) = (bounds.start(), bounds.end());
        format!("a number of {what} from {min} to {max}")
    })
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("a path is not empty".to_owned());
    }
    Ok(text.into())
}

/// Reads the address of a socket to listen on.
///
/// # Errors
/// Says what is accepted.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an address is IP:PORT, such as 127.0.0.1:8935 or [::]:8935".to_owned())
}

/// Reads where something that runs can be asked.
pub(super) fn host_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        Some(Err(_)) | None => Err("an address is HOST:PORT, such as 127.0.0.1:7935".to_owned()),
    }
}

/// Reads a duration between two bounds, in milliseconds.
pub(super) fn duration(text: &str, min_ms: u64, max_ms: u64) -> Result<Duration, String> {
    let span = humantime::parse_duration(text)
        .map_err(|_| "a duration has a unit, such as 200ms or 2s".to_owned())?;
    let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
    if span < min || span > max {
        let [min, max] = [min, max].map(humantime::format_duration);
        return Err(format!("accepted is {min} to {max}"));
    }
    Ok(span)
}

/// Reads a ladder: names of rungs, or a TOML file of them.
///
/// # Errors
/// Says what is accepted, or what is wrong with the file.
pub fn ladder(text: &str) -> Result<Ladder, String> {
    let file = Path::new(text).extension().is_some_and(|e| e == "toml") || text.contains('/');
    let ladder = if file {
        Ladder::from_file(text.as_ref())
    } else {
        text.parse()
    };
    ladder.map_err(|error| error.to_string())
}

/// Where a ledger is.
#[derive(Debug, Clone)]
pub(super) enum LedgerUrl {
    /// A job book.
    Book(PathBuf),
    /// An endpoint of a chain.
    Endpoint(EndpointUrl),
}

/// Reads the URL of a ledger; the reasons do not repeat it, as it may have a key in it.
pub(super) fn ledger(url: &str) -> Result<LedgerUrl, String> {
    if let Some(path) = url.strip_prefix("file:").filter(|path| !path.is_empty()) {
        return Ok(LedgerUrl::Book(path.into()));
    }
    let endpoint = url.parse().map(LedgerUrl::Endpoint);
    endpoint.map_err(|_| "a ledger is file:PATH, or ws(s)://… or http(s)://… of a chain".to_owned())
}

/// The URL of a ledger as it may be shown: without what may be a key.
pub(super) fn shown_ledger(url: &str) -> String {
    match ledger(url) {
        Ok(LedgerUrl::Endpoint(endpoint)) => endpoint.to_string(),
        Err(_) if url.contains("://") => "(hidden)".to_owned(),
        Ok(LedgerUrl::Book(_)) | Err(_) => url.to_owned(),
    }
}

/// Reads an amount.
pub(super) fn wei(text: &str) -> Result<Wei, &'static str> {
    text.parse()
}

/// Reads how many blocks have to follow another.
pub(super) fn confirmations(text: &str) -> Result<u64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| *number <= MAX_CONFIRMATIONS);
    number.ok_or_else(|| format!("a number of blocks from 0 to {MAX_CONFIRMATIONS}"))
}

/// Reads `NAME=KEY`; the reasons do not repeat it.
pub(super) fn publish_key(text: &Secret) -> Result<PublishKey, String> {
    let (name, key) = text
        .expose()
        .split_once('=')
        .ok_or("a publish key is NAME=KEY")?;
    if name.parse::<headwater_proto::RenditionName>().is_err() {
        return Err("a name is 1 to 32 of a-z, 0-9, '-' and '_'".to_owned());
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if key.len() < 8 || key.len() > 128 || !key.bytes().all(plain) {
        return Err("a key is 8 to 128 letters, digits, '-' and '_'".to_owned());
    }
    Ok(PublishKey {
        name: name.to_owned(),
        key: key.into(),
    })
}

/// Reads the path of a keystore that is there.
pub(super) fn keystore(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    let there = std::fs::File::open(&path).and_then(|file| file.metadata());
    let reason = match there {
        Ok(about) if about.is_file() => return Ok(path),
        Ok(_) => "it is not a file".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "{reason}; make it with `headwater key new`, or leave the key out"
    ))
}

/// Reads the path of a file that holds a password.
pub(super) fn password_file(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    match read_password(&path) {
        Ok(_) => Ok(path),
        Err(PasswordError::File { reason, .. }) => Err(reason.to_string()),
        Err(PasswordError::Empty { .. }) => {
            Err("it is empty; write the password on its first line".to_owned())
        }
    }
}

/// Why a password cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("password file {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// An empty password protects nothing.
    #[error("password file {path} is empty; write the password on its first line")]
    Empty {
        /// The file.
        path: String,
    },
}

/// Reads a password file, without the end of its line.
///
/// # Errors
/// When the file cannot be read or has no password in it.
pub fn read_password(path: &Path) -> Result<Secret, PasswordError> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|reason| PasswordError::File {
        path: shown(),
        reason,
    })?;
    let whole = Secret::from(text);
    let password = whole.expose().trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(PasswordError::Empty { path: shown() });
    }
    Ok(password.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_password_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        for empty in ["", "\n", "\r\n\n"] {
            std::fs::write(&path, empty).unwrap();
            let error = read_password(&path).unwrap_err().to_string();
            assert!(error.contains("is empty"), "{error}");
        }
        std::fs::write(&path, " pass word \r\n").unwrap();
        assert_eq!(read_password(&path).unwrap().expose(), " pass word ");
    }

    #[test]
    fn a_number_of_peers_has_bounds() {
        assert_eq!(max_peers("8"), Ok(8));
        for text in ["7", "10001", "-1", "many", ""] {
            assert!(max_peers(text).unwrap_err().contains("8 to 10000"));
        }
    }

    #[test]
    fn unpaid_segments_have_bounds() {
        assert_eq!(max_unpaid("10"), Ok(10));
        for text in ["9", "1001", "-1", ""] {
            assert!(max_unpaid(text).unwrap_err().contains("10 to 1000"));
        }
    }

    #[test]
    fn the_size_of_claims_has_bounds() {
        assert_eq!(
            (claim_receipts("4096"), claim_blocks("100000")),
            (Ok(4096), Ok(100_000))
        );
        for text in ["0", "4097", "-1", "", "1e3"] {
            assert!(claim_receipts(text).unwrap_err().contains("1 to 4096"));
        }
        for text in ["0", "100001", "-1", ""] {
            assert!(claim_blocks(text).unwrap_err().contains("1 to 100000"));
        }
    }

    #[test]
    fn a_chain_is_told_from_a_mistyped_ledger() {
        let book = ledger("file:jobs.book").unwrap();
        assert!(matches!(book, LedgerUrl::Book(path) if path == Path::new("jobs.book")));
        for url in ["ws://node", "https://user:secret@node/v1"] {
            assert!(matches!(ledger(url), Ok(LedgerUrl::Endpoint(_))), "{url}");
        }
        for url in ["file:", "jobs.book", "ftp://node", ""] {
            assert!(ledger(url).unwrap_err().contains("file:PATH"), "{url}");
        }
    }

    #[test]
    fn confirmations_have_bounds() {
        assert_eq!(confirmations("0"), Ok(0));
        assert_eq!(confirmations("64"), Ok(64));
        assert!(confirmations("65").unwrap_err().contains("0 to 64"));
    }
}
