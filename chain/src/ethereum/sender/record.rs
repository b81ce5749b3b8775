//! A transaction in the journal: written before it is sent, removed when it is settled.

use serde::{Deserialize, Serialize};

use super::fees::Fees;
use crate::{
    journal::{Change, Journal, JournalError},
    types::Address,
};

/// What is done by a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ethereum) struct Call {
    /// The contract; none to deploy one.
    pub(in crate::ethereum) to: Option<Address>,
    /// Wei that go with it.
    pub(in crate::ethereum) value: u128,
    /// What is called, and with what.
    #[serde(with = "hex_text")]
    pub(in crate::ethereum) data: Vec<u8>,
}

/// A transaction that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its place among the account's transactions.
    pub(super) nonce: u64,
    /// What it is for; two with the same are never under way.
    pub(super) intent: String,
    /// What it does.
    pub(super) call: Call,
    /// Units at most.
    pub(super) gas: u64,
    /// What is offered at present.
    pub(super) fees: Fees,
    /// Hashes of all its forms, the present one last.
    pub(super) hashes: Vec<[u8; 32]>,
    /// The newest block when its present form was sent.
    pub(super) sent_at: u64,
}

/// Where transactions stand in the journal.
pub(super) const PREFIX: &str = "transaction/";

impl Record {
    fn key(&self) -> String {
        format!("{PREFIX}{:020}", self.nonce)
    }

    pub(super) fn put(&self) -> Result<Change, JournalError> {
        let value = serde_json::to_vec(self).map_err(|error| JournalError(error.to_string()))?;
        let key = self.key();
        Ok(Change::Put { key, value })
    }

    pub(super) fn remove(&self) -> Change {
        Change::Remove { key: self.key() }
    }

    /// All that are under way, in order.
    pub(super) fn all(journal: &dyn Journal) -> Result<Vec<Self>, JournalError> {
        let read = |(key, value): (String, Vec<u8>)| {
            serde_json::from_slice(&value)
                .map_err(|error| JournalError(format!("the entry {key} is damaged: {error}")))
        };
        let entries = journal.scan(PREFIX, PREFIX, usize::MAX)?;
        entries.into_iter().map(read).collect()
    }
}

mod hex_text {
    use data_encoding::HEXLOWER;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&HEXLOWER.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)
    }
}
