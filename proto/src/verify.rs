//! What a link's reader checks before the node sees a message.
//!
//! Everything a neighbour passes on was signed by somebody else, so a neighbour can
//! neither forge it nor change it; what fails here can only have been sent by a neighbour
//! that forges, or that did not check.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{
    Chunk, MediaInfo, Message, Part, PartHeader, RequestId, Signed, Slot, Statement, StreamId,
    error::PayloadSize,
    limits::{CHUNK_BYTES, MAX_PART_BYTES},
};

/// Headers of one link whose chunks may still come; the oldest is forgotten first.
const HEADERS: usize = 128;

/// A message that passed its link's [`LinkVerifier`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<M>(M);

impl<M> Checked<M> {
    /// Takes a message as checked, for simulators that trust their own nodes.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub const fn assume(message: M) -> Self {
        Self(message)
    }

    /// The message.
    pub fn into_inner(self) -> M {
        self.0
    }
}

impl<M> std::ops::Deref for Checked<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.0
    }
}

/// What no correct neighbour sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Violation {
    /// Not a frame, or beyond a bound.
    #[error("malformed frame")]
    Malformed,
    /// A signature that is not the author's.
    #[error("bad signature")]
    BadSignature,
    /// Two different headers for one part.
    #[error("two headers for one part")]
    Equivocation,
    /// A chunk whose header did not come before it.
    #[error("chunk without header")]
    UnannouncedChunk,
    /// A chunk whose bytes are not those of the header.
    #[error("chunk does not match its header")]
    BadChunk,
    /// More substreams than a link has.
    #[error("too many substreams")]
    TooManyStreams,
}

/// Checks signatures and hashes of what comes over one link, in order of arrival.
#[derive(Debug, Default)]
pub struct LinkVerifier {
    headers: BTreeMap<(RequestId, Slot), Signed<PartHeader>>,
    order: VecDeque<(RequestId, Slot)>,
}

impl LinkVerifier {
    /// Passes a message on if it is what its author signed.
    ///
    /// # Errors
    /// When it is not; the message is then lost and the link goes on.
    pub fn check(&mut self, message: Message) -> Result<Checked<Message>, Violation> {
        match &message {
            Message::Part(part) => self.part(part)?,
            Message::Chunk(chunk) => self.chunk(chunk)?,
            Message::Finish(finish) => signed(&finish.body)?,
            Message::MasterPlaylistData(data) => signed(&data.body)?,
            Message::NodeStatusData(data) => signed(&data.body)?,
            Message::TranscodeResponse(response) => signed(&response.body)?,
            Message::Hello(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::Sub(_)
            | Message::SubAck(_)
            | Message::NotFound(_)
            | Message::NoRoute(_)
            | Message::Redirect(_)
            | Message::Cancel(_)
            | Message::Nack(_)
            | Message::Gap(_)
            | Message::GetMasterPlaylist(_)
            | Message::NodeStatusReq(_)
            // Its signature is by an Ethereum key; the broadcaster's ledger checks it.
            | Message::TranscodeSub(_)
            | Message::JobProbe(_)
            | Message::JobProbeReply(_) => {}
        }
        Ok(Checked(message))
    }

    fn part(&mut self, part: &Part) -> Result<(), Violation> {
        let key = (part.request, part.header.value().slot);
        if let Some(known) = self.headers.get(&key) {
            // The same header again (a repair) needs no second verification.
            return if *known == part.header {
                Ok(())
            } else {
                Err(Violation::Equivocation)
            };
        }
        signed(&part.header)?;
        if self.order.len() == HEADERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.headers.remove(&oldest);
        }
        self.order.push_back(key);
        self.headers.insert(key, part.header.clone());
        Ok(())
    }

    fn chunk(&self, chunk: &Chunk) -> Result<(), Violation> {
        let header = self
            .headers
            .get(&(chunk.request, chunk.slot))
            .ok_or(Violation::UnannouncedChunk)?
            .value();
        let index = usize::from(chunk.index);
        let hash = header.hashes.get(index).ok_or(Violation::BadChunk)?;
        let len = header.chunk_len(index);
        if chunk.payload.len() != len || blake3::hash(&chunk.payload) != *hash {
            return Err(Violation::BadChunk);
        }
        Ok(())
    }
}

fn signed<T: Statement>(statement: &Signed<T>) -> Result<(), Violation> {
    statement.verify().map_err(|_| Violation::BadSignature)
}

impl PartHeader {
    /// Splits a payload into chunks, which share its memory, and makes their header.
    ///
    /// # Errors
    /// When the payload is empty or larger than [`MAX_PART_BYTES`].
    pub fn for_payload(
        stream: StreamId,
        slot: Slot,
        media: Option<MediaInfo>,
        payload: &Bytes,
    ) -> Result<(Self, Vec<Bytes>), PayloadSize> {
        let got = payload.len();
        let size = match u32::try_from(got) {
            Ok(size) if size > 0 && got <= MAX_PART_BYTES => size,
            _ => return Err(PayloadSize { got }),
        };
        let chunks: Vec<_> = (0..got)
            .step_by(CHUNK_BYTES)
            .map(|at| payload.slice(at..got.min(at + CHUNK_BYTES)))
            .collect();
        let header = Self {
            stream,
            slot,
            media,
            size,
            hashes: chunks.iter().map(|c| *blake3::hash(c).as_bytes()).collect(),
        };
        Ok((header, chunks))
    }

    /// Length of a chunk in bytes; the last may be shorter than [`CHUNK_BYTES`].
    #[must_use]
    pub fn chunk_len(&self, index: usize) -> usize {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        size.saturating_sub(index * CHUNK_BYTES).min(CHUNK_BYTES)
    }
}
