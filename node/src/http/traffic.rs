//! What is counted of HTTP: requests by class and answer, connections, bytes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a request is for. One that is for nothing here is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Api,
    Media,
    Monitor,
    Other,
    Page,
    Playlist,
}

impl Class {
    const ALL: [Self; 6] = [
        Self::Api,
        Self::Media,
        Self::Monitor,
        Self::Other,
        Self::Page,
        Self::Playlist,
    ];

    pub(super) fn of(path: &str) -> Self {
        if path.starts_with("/stream/") || path.starts_with("/live/") {
            if path.ends_with(".m3u8") {
                Self::Playlist
            } else {
                Self::Media
            }
        } else if path.starts_with("/api/") || path == "/streams.json" {
            Self::Api
        } else if matches!(path, "/metrics" | "/healthz" | "/readyz") {
            Self::Monitor
        } else if path == "/" || path.starts_with("/watch/") || path.starts_with("/assets/") {
            Self::Page
        } else {
            Self::Other
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Media => "media",
            Self::Monitor => "monitor",
            Self::Other => "other",
            Self::Page => "page",
            Self::Playlist => "playlist",
        }
    }
}

/// Names of the classes of status codes that are given.
const STATUSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Counters of one listener.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: [[AtomicU64; STATUSES.len()]; Class::ALL.len()],
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    stalled: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counters {
    pub(super) fn answered(&self, class: Class, status: u16) {
        let status = (usize::from(status) / 100).clamp(2, 5) - 2;
        self.requests[class as usize][status].fetch_add(1, Relaxed);
    }

    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(super) fn closed(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn stalled(&self) {
        self.stalled.fetch_add(1, Relaxed);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    /// Class, class of status codes, and count of the requests that were answered.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        Class::ALL.into_iter().flat_map(move |class| {
            let counts = self.requests[class as usize].iter();
            let counts = counts.map(|count| count.load(Relaxed));
            let named = STATUSES.into_iter().zip(counts);
            named.map(move |(status, count)| (class.name(), status, count))
        })
    }

    pub(super) fn read(&self) -> Connections {
        let closed = self.closed.load(Relaxed);
        let opened = self.opened.load(Relaxed);
        Connections {
            open: opened.saturating_sub(closed),
            refused: self.refused.load(Relaxed),
            stalled: self.stalled.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
        }
    }
}

/// What has become of connections so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connections {
    pub(super) open: u64,
    /// Turned away because there were too many.
    pub(super) refused: u64,
    /// Closed because the other side did not take what it had asked for.
    pub(super) stalled: u64,
    /// Bytes written, headers included.
    pub(super) bytes_out: u64,
}

/// What players and operators have asked of one node.
#[derive(Debug, Default)]
pub struct Traffic {
    pub(super) public: Counters,
    pub(super) admin: Counters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_by_what_it_is_for_and_how_it_was_answered() {
        let counters = Counters::default();
        for (path, status) in [
            ("/stream/x.m3u8", 200),
            ("/live/x.m3u8", 307),
            ("/stream/x/1.m4s", 206),
            ("/stream/x/2.m4s", 410),
            ("/stream/x/3.m4s", 410),
            ("/nothing", 404),
        ] {
            counters.answered(Class::of(path), status);
        }

        let counted: Vec<_> = counters.requests().filter(|(.., n)| *n > 0).collect();
        assert_eq!(
            counted,
            [
                ("media", "2xx", 1),
                ("media", "4xx", 2),
                ("other", "4xx", 1),
                ("playlist", "2xx", 1),
                ("playlist", "3xx", 1),
            ]
        );
    }
}
