//! Why a data directory cannot be used, and what to do about it.

use std::{fmt, path::Path};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another node runs on it.
    #[error(
        "data directory {path} is in use by another node (process {pid}); give this one its own with --data-dir"
    )]
    InUse {
        /// The directory.
        path: String,
        /// Who uses it.
        pid: String,
    },
    /// The system refused.
    #[error("data directory {path}: {reason}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// `node.key` is damaged.
    #[error("{path} is no node key; restore it from a copy, or remove it to get a new identity")]
    Key {
        /// The file.
        path: String,
    },
    /// There is no `node.key`.
    #[error("there is no node key at {path}; `headwater node` makes one when it first starts")]
    NoKey {
        /// The file.
        path: String,
    },
    /// The database is not the one that was written.
    #[error(
        "the database {path} is damaged ({reason}); restore it from a copy, or move it away \
         to begin with an empty one: node.key and with it the node's id stay as they are, \
         publish keys and held jobs are lost"
    )]
    Lost {
        /// Its directory.
        path: String,
        /// What was found.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("data directory {path} was written by a newer version of headwater")]
    Newer {
        /// The directory.
        path: String,
    },
    /// An entry cannot be read.
    #[error("the entry {key} of the database is damaged: {reason}")]
    Damaged {
        /// Which.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

pub(super) fn io(path: &Path, reason: &dyn fmt::Display) -> StoreError {
    StoreError::Io {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}
