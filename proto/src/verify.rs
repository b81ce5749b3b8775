//! What a link's reader checks before the node sees a message.
//!
//! Everything a neighbour passes on was signed by somebody else, so a neighbour can
//! neither forge it nor change it; what fails here can only have been sent by a neighbour
//! that forges, or that did not check.

use crate::{Chunk, Message, Part, Signed, Statement, announced::Announced};

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
    /// Two different headers for one part, both signed.
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
///
/// It remembers part headers until their chunks came, a bounded number for each
/// subscription and bytes for the link; an honest neighbour never has so many under way.
#[derive(Debug, Default)]
pub struct LinkVerifier {
    announced: Announced,
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
            Message::GetReceipts(get) => signed(&get.body)?,
            Message::Receipts(receipts) => signed(&receipts.body)?,
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
        let Part { request, header } = part;
        let known = self.announced.get(*request, header.value().slot);
        // The same header again (a repair) needs no second verification.
        if known != Some(header) {
            signed(header)?;
            if known.is_some_and(|known| known.bytes() != header.bytes()) {
                return Err(Violation::Equivocation);
            }
        }
        self.announced.announce(*request, header);
        Ok(())
    }

    fn chunk(&mut self, chunk: &Chunk) -> Result<(), Violation> {
        let header = self
            .announced
            .get(chunk.request, chunk.slot)
            .ok_or(Violation::UnannouncedChunk)?
            .value();
        let index = usize::from(chunk.index);
        let hash = header.hashes.get(index).ok_or(Violation::BadChunk)?;
        let len = header.chunk_len(index);
        if chunk.payload.len() != len || blake3::hash(&chunk.payload) != *hash {
            return Err(Violation::BadChunk);
        }
        self.announced.arrived(chunk.request, chunk.slot, index);
        Ok(())
    }
}

fn signed<T: Statement>(statement: &Signed<T>) -> Result<(), Violation> {
    statement.verify().map_err(|_| Violation::BadSignature)
}
