//! The list of all keys: their names, what they hold, and what holds when nothing is said.

use std::fmt;

/// One key of the configuration: `data_dir` in a file, `--data-dir` as a flag,
/// `HEADWATER_DATA_DIR` in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Take streams in from encoders.
    Broadcaster,
    /// Carry any stream for others.
    Relayer,
    /// Make renditions of streams.
    Transcoder,
    /// Where identity and state are kept.
    DataDir,
    /// Multiaddrs to listen on.
    Listen,
    /// Multiaddrs of nodes to begin with.
    Bootstrap,
    /// Multiaddrs under which others reach the node.
    ExternalAddr,
    /// Dial private addresses that others tell of.
    AllowPrivateDials,
    /// Neighbours at most.
    MaxPeers,
    /// Where players fetch.
    Http,
    /// Where operators ask.
    Admin,
    /// Where encoders publish.
    Rtmp,
    /// Names and the stream keys that publish them.
    PublishKey,
    /// The ledger of jobs, in order of preference where there are several ways to it.
    Ledger,
    /// The contract on the ledger's chain.
    Contract,
    /// Blocks on top of one until it counts.
    Confirmations,
    /// Paid for gas at most.
    MaxFee,
    /// Create a job when a broadcast begins.
    CreateJobs,
    /// Paid for a segment at most.
    MaxPrice,
    /// Reserved for jobs within a day at most.
    SpendLimit,
    /// How long a job's transcoder may be silent.
    ReassignAfter,
    /// Segments done without a receipt before a job is stopped.
    MaxUnpaid,
    /// Receipts that make a claim due.
    ClaimReceipts,
    /// Blocks that one waits until a claim is due.
    ClaimBlocks,
    /// The transcoder's keystore.
    Keystore,
    /// The file with its password.
    PasswordFile,
    /// Renditions to make.
    Ladder,
    /// Length of a segment.
    Segment,
    /// Length of a part.
    Part,
    /// How long a broadcast waits for its encoder.
    ReconnectWindow,
    /// What is logged.
    Log,
    /// How log lines look.
    LogFormat,
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Yes or no.
    Switch,
    /// A whole number.
    Number,
    /// A text.
    Text,
    /// Texts; separated by commas in the environment.
    List,
    /// Texts that are not shown.
    Secrets,
}

impl Setting {
    /// Every key, in the order of the example file.
    pub const ALL: [Self; 32] = [
        Self::Broadcaster,
        Self::Relayer,
        Self::Transcoder,
        Self::DataDir,
        Self::Listen,
        Self::Bootstrap,
        Self::ExternalAddr,
        Self::AllowPrivateDials,
        Self::MaxPeers,
        Self::Http,
        Self::Admin,
        Self::Rtmp,
        Self::PublishKey,
        Self::Ledger,
        Self::Contract,
        Self::Confirmations,
        Self::MaxFee,
        Self::CreateJobs,
        Self::MaxPrice,
        Self::SpendLimit,
        Self::ReassignAfter,
        Self::MaxUnpaid,
        Self::ClaimReceipts,
        Self::ClaimBlocks,
        Self::Keystore,
        Self::PasswordFile,
        Self::Ladder,
        Self::Segment,
        Self::Part,
        Self::ReconnectWindow,
        Self::Log,
        Self::LogFormat,
    ];

    /// Its name in a file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broadcaster => "broadcaster",
            Self::Relayer => "relayer",
            Self::Transcoder => "transcoder",
            Self::DataDir => "data_dir",
            Self::Listen => "listen",
            Self::Bootstrap => "bootstrap",
            Self::ExternalAddr => "external_addr",
            Self::AllowPrivateDials => "allow_private_dials",
            Self::MaxPeers => "max_peers",
            Self::Http => "http",
            Self::Admin => "admin",
            Self::Rtmp => "rtmp",
            Self::PublishKey => "publish_key",
            Self::Ledger => "ledger",
            Self::Contract => "contract",
            Self::Confirmations => "confirmations",
            Self::MaxFee => "max_fee",
            Self::CreateJobs => "create_jobs",
            Self::MaxPrice => "max_price",
            Self::SpendLimit => "spend_limit",
            Self::ReassignAfter => "reassign_after",
            Self::MaxUnpaid => "max_unpaid",
            Self::ClaimReceipts => "claim_receipts",
            Self::ClaimBlocks => "claim_blocks",
            Self::Keystore => "keystore",
            Self::PasswordFile => "password_file",
            Self::Ladder => "ladder",
            Self::Segment => "segment",
            Self::Part => "part",
            Self::ReconnectWindow => "reconnect_window",
            Self::Log => "log",
            Self::LogFormat => "log_format",
        }
    }

    /// Its name as a flag, with the dashes.
    #[must_use]
    pub fn flag(self) -> String {
        format!("--{}", self.name().replace('_', "-"))
    }

    /// Its name in the environment.
    #[must_use]
    pub fn variable(self) -> String {
        format!("{PREFIX}{}", self.name().to_ascii_uppercase())
    }

    /// The key of this name in a file.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The key of this environment variable.
    pub(super) fn of_variable(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.variable() == name)
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Broadcaster
            | Self::Relayer
            | Self::Transcoder
            | Self::AllowPrivateDials
            | Self::CreateJobs => Kind::Switch,
            Self::MaxPeers
            | Self::Confirmations
            | Self::MaxUnpaid
            | Self::ClaimReceipts
            | Self::ClaimBlocks => Kind::Number,
            Self::Listen | Self::Bootstrap | Self::ExternalAddr | Self::Ledger => Kind::List,
            Self::PublishKey => Kind::Secrets,
            Self::DataDir
            | Self::Http
            | Self::Admin
            | Self::Rtmp
            | Self::Contract
            | Self::MaxFee
            | Self::MaxPrice
            | Self::SpendLimit
            | Self::ReassignAfter
            | Self::Keystore
            | Self::PasswordFile
            | Self::Ladder
            | Self::Segment
            | Self::Part
            | Self::ReconnectWindow
            | Self::Log
            | Self::LogFormat => Kind::Text,
        }
    }

    /// What holds when nothing is said, as in the environment. `None` where that depends
    /// on other things, or is nothing at all.
    pub(super) const fn default_text(self) -> Option<&'static str> {
        match self {
            Self::Broadcaster | Self::Relayer | Self::Transcoder | Self::AllowPrivateDials => {
                Some("false")
            }
            Self::Listen => Some("/ip4/0.0.0.0/tcp/4935,/ip4/0.0.0.0/udp/4935/quic-v1"),
            Self::Bootstrap | Self::ExternalAddr | Self::PublishKey | Self::Ledger => Some(""),
            Self::Confirmations => Some("2"),
            Self::MaxFee => Some("200000000000"),
            Self::SpendLimit => Some("10000000000000000"),
            Self::MaxPeers => Some("256"),
            Self::Http => Some("127.0.0.1:8935"),
            Self::Admin => Some("127.0.0.1:7935"),
            Self::Rtmp => Some("127.0.0.1:1935"),
            Self::ReassignAfter => Some("20s"),
            Self::MaxUnpaid => Some("30"),
            Self::ClaimReceipts | Self::ClaimBlocks => Some("1800"),
            Self::Ladder => Some("720p,480p,360p"),
            Self::Segment => Some("2s"),
            Self::Part => Some("200ms"),
            Self::ReconnectWindow => Some("30s"),
            Self::Log => Some("info"),
            Self::LogFormat => Some("text"),
            Self::DataDir
            | Self::Contract
            | Self::CreateJobs
            | Self::MaxPrice
            | Self::Keystore
            | Self::PasswordFile => None,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What all environment variables of this program begin with.
pub(super) const PREFIX: &str = "HEADWATER_";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_listed_once_in_order() {
        assert!(Setting::ALL.is_sorted());
        let names: BTreeSet<_> = Setting::ALL.iter().map(|key| key.name()).collect();
        assert_eq!(names.len(), Setting::ALL.len());
        assert_eq!(Setting::ALL.last().map(|last| *last as usize), Some(31));
    }

    #[test]
    fn a_key_has_one_name_in_three_spellings() {
        assert_eq!(Setting::ReconnectWindow.flag(), "--reconnect-window");
        assert_eq!(
            Setting::ReconnectWindow.variable(),
            "HEADWATER_RECONNECT_WINDOW"
        );
        for key in Setting::ALL {
            assert_eq!(Setting::of_name(key.name()), Some(key));
            assert_eq!(Setting::of_variable(&key.variable()), Some(key));
        }
    }
}
