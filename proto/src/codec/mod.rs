//! Messages as frames: `varint(header length) header [payload]`.
//!
//! The header is a protobuf `Envelope`; only a chunk has a payload, which stays outside
//! the protobuf so that it is never copied.

mod bounds;
mod messages;
mod scan;
mod statements;
mod values;
mod wire;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use self::{scan::Seen, wire::envelope::Body};
use crate::{
    Chunk, Message, RequestId, Slot,
    error::{DecodeError, OutOfBounds},
    limits::{CHUNK_BYTES, MAX_HEADER_BYTES},
};

/// Longest length prefix: 64 KiB needs three bytes of seven bits.
const MAX_PREFIX_BYTES: usize = 3;
/// What a signed body may keep of the header around it: a signature, a request id, a hop
/// limit, tags and lengths, with some to spare.
const SLICE_OVERHEAD: usize = 128;

/// One encoded message, ready to write: head, then payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Length prefix and header.
    pub head: Bytes,
    /// A chunk's bytes, shared with whoever else sends them.
    pub payload: Option<Bytes>,
}

impl Frame {
    /// Bytes on the wire.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.payload.as_ref().map_or(0, Bytes::len)
    }

    /// Never: a frame has a head.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Encodes a message.
///
/// # Errors
/// When a field is beyond the bound that its reader has: nothing is sent then, since a
/// neighbour ends the link of who sends such a thing. It is a fault of the caller.
pub fn encode(message: &Message) -> Result<Frame, OutOfBounds> {
    bounds::message(message)?;
    let envelope = wire::Envelope {
        body: Some(messages::out(message)),
    };
    let len = envelope.encoded_len();
    if len > MAX_HEADER_BYTES {
        return Err(OutOfBounds("header"));
    }
    let mut head = BytesMut::with_capacity(MAX_PREFIX_BYTES + len);
    prost::encoding::encode_varint(len as u64, &mut head);
    envelope
        .encode(&mut head)
        .expect("a buffer that grows has room");
    let payload = if let Message::Chunk(chunk) = message {
        Some(chunk.payload.clone())
    } else {
        None
    };
    Ok(Frame {
        head: head.freeze(),
        payload,
    })
}

/// Reads the length prefix one byte at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct LengthPrefix {
    value: usize,
    /// How many came; [`MAX_PREFIX_BYTES`] when none may follow.
    bytes: usize,
}

impl LengthPrefix {
    /// Takes the next byte; `Some` is the header's length, 1 to
    /// [`MAX_HEADER_BYTES`].
    ///
    /// # Errors
    /// When the length is zero, too large, or not in its shortest form, and for every
    /// byte after its end or an error.
    pub fn push(&mut self, byte: u8) -> Result<Option<usize>, DecodeError> {
        if self.bytes >= MAX_PREFIX_BYTES {
            return Err(DecodeError::FrameLength);
        }
        self.value |= usize::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        if byte & 0x80 != 0 {
            let room = self.bytes < MAX_PREFIX_BYTES;
            return room.then_some(None).ok_or(DecodeError::FrameLength);
        }
        let padded = byte == 0 && self.bytes > 1;
        self.bytes = MAX_PREFIX_BYTES;
        if padded || self.value == 0 || self.value > MAX_HEADER_BYTES {
            return Err(DecodeError::FrameLength);
        }
        Ok(Some(self.value))
    }
}

/// A decoded header: a whole message, or a chunk that lacks its payload.
#[derive(Debug, Clone)]
pub enum Header {
    /// Complete.
    Message(Box<Message>),
    /// A chunk whose payload follows.
    Chunk(ChunkHeader),
    /// Of a kind that a later version has, and complete: to be skipped.
    Unknown,
}

/// The part of a [`Chunk`] that comes before its payload.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHeader {
    request: RequestId,
    slot: Slot,
    index: u16,
    payload_len: usize,
}

impl ChunkHeader {
    /// Bytes of payload that follow: 1 to [`CHUNK_BYTES`].
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Adds the payload.
    ///
    /// # Errors
    /// When it is not as long as the header says.
    pub fn finish(self, payload: Bytes) -> Result<Message, DecodeError> {
        if payload.len() != self.payload_len {
            return Err(DecodeError::PayloadLength);
        }
        Ok(Message::Chunk(Chunk {
            request: self.request,
            slot: self.slot,
            index: self.index,
            payload,
        }))
    }
}

/// Decodes a header of [`LengthPrefix`] bytes. A signed body is a slice of it, unless it
/// would keep much more memory than it needs.
///
/// # Errors
/// When it is no message or breaks a bound.
pub fn decode_header(header: Bytes) -> Result<Header, DecodeError> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(DecodeError::FrameLength);
    }
    if scan::scan(&header, &scan::ENVELOPE)? == Seen::Unknown {
        return Ok(Header::Unknown);
    }
    let whole = header.len();
    let envelope = wire::Envelope::decode(header)?;
    let body = envelope.body.ok_or(DecodeError::Malformed)?;
    if let Body::Chunk(chunk) = body {
        return chunk_in(chunk).map(Header::Chunk);
    }
    let message = messages::read(own_memory(body, whole))?;
    bounds::message(&message)?;
    Ok(Header::Message(Box::new(message)))
}

/// Copies a signed body out of a header that is much larger, whose memory it would keep
/// for as long as itself.
fn own_memory(mut body: Body, header_bytes: usize) -> Body {
    let signed = match &mut body {
        Body::Finish(reply)
        | Body::Part(reply)
        | Body::MasterPlaylistData(reply)
        | Body::NodeStatusData(reply)
        | Body::Receipts(reply) => &mut reply.body,
        Body::TranscodeResponse(request) | Body::GetReceipts(request) => &mut request.body,
        Body::Hello(_)
        | Body::Ping(_)
        | Body::Pong(_)
        | Body::Sub(_)
        | Body::SubAck(_)
        | Body::NotFound(_)
        | Body::NoRoute(_)
        | Body::Redirect(_)
        | Body::Cancel(_)
        | Body::Chunk(_)
        | Body::Nack(_)
        | Body::Gap(_)
        | Body::GetMasterPlaylist(_)
        | Body::NodeStatusReq(_)
        | Body::TranscodeSub(_)
        | Body::JobProbe(_)
        | Body::JobProbeReply(_) => return body,
    };
    if header_bytes - signed.len() > SLICE_OVERHEAD {
        *signed = Bytes::copy_from_slice(signed);
    }
    body
}

fn chunk_in(chunk: wire::Chunk) -> Result<ChunkHeader, DecodeError> {
    let payload_len = usize::try_from(chunk.payload_bytes).unwrap_or(usize::MAX);
    if payload_len == 0 || payload_len > CHUNK_BYTES {
        return Err(DecodeError::OutOfBounds("payload_bytes"));
    }
    let slot = values::slot_in(chunk.slot)?;
    let index = messages::chunk_index(chunk.index)?;
    bounds::chunk_place(slot, index)?;
    Ok(ChunkHeader {
        request: RequestId(chunk.request),
        slot,
        index,
        payload_len,
    })
}

/// Decodes one whole frame from the front of a buffer, for tests and simulators that
/// have no streams.
///
/// # Errors
/// When the bytes are no frame of a known message, or are longer or shorter than one.
pub fn decode(mut frame: Bytes) -> Result<Message, DecodeError> {
    let mut prefix = LengthPrefix::default();
    let len = loop {
        if frame.is_empty() {
            return Err(DecodeError::FrameLength);
        }
        let byte = frame.split_to(1)[0];
        if let Some(len) = prefix.push(byte)? {
            break len;
        }
    };
    if frame.len() < len {
        return Err(DecodeError::FrameLength);
    }
    match decode_header(frame.split_to(len))? {
        Header::Chunk(chunk) => chunk.finish(frame),
        Header::Message(message) if frame.is_empty() => Ok(*message),
        Header::Unknown if frame.is_empty() => Err(DecodeError::UnknownMessage),
        Header::Message(_) | Header::Unknown => Err(DecodeError::PayloadLength),
    }
}
