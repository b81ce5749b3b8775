//! Messages as frames: `varint(header length) header [payload]`.
//!
//! The header is a protobuf `Envelope`; only a chunk has a payload, which stays outside
//! the protobuf so that it is never copied.

mod messages;
mod statements;
mod values;
mod wire;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

use crate::{
    Chunk, Message, RequestId, Slot,
    error::DecodeError,
    limits::{CHUNK_BYTES, MAX_HEADER_BYTES},
};

/// Longest length prefix: 64 KiB needs three bytes of seven bits.
const MAX_PREFIX_BYTES: usize = 3;

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
#[must_use]
pub fn encode(message: &Message) -> Frame {
    let envelope = wire::Envelope {
        body: Some(messages::out(message)),
    };
    let len = envelope.encoded_len();
    let mut head = BytesMut::with_capacity(MAX_PREFIX_BYTES + len);
    prost::encoding::encode_varint(len as u64, &mut head);
    head.put_slice(&envelope.encode_to_vec());
    let payload = if let Message::Chunk(chunk) = message {
        Some(chunk.payload.clone())
    } else {
        None
    };
    Frame {
        head: head.freeze(),
        payload,
    }
}

/// Reads the length prefix one byte at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct LengthPrefix {
    value: usize,
    bytes: usize,
}

impl LengthPrefix {
    /// Takes the next byte; `Some` is the header's length, 1 to
    /// [`MAX_HEADER_BYTES`].
    ///
    /// # Errors
    /// When the length is zero, too large, or not in its shortest form.
    pub fn push(&mut self, byte: u8) -> Result<Option<usize>, DecodeError> {
        self.value |= usize::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        if byte & 0x80 != 0 {
            let room = self.bytes < MAX_PREFIX_BYTES;
            return if room {
                Ok(None)
            } else {
                Err(DecodeError::FrameLength)
            };
        }
        let padded = byte == 0 && self.bytes > 1;
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

/// Decodes a header of [`LengthPrefix`] bytes. Signed bodies are slices of it.
///
/// # Errors
/// When it is no known message or breaks a bound.
pub fn decode_header(header: Bytes) -> Result<Header, DecodeError> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(DecodeError::FrameLength);
    }
    let envelope = wire::Envelope::decode(header)?;
    let body = envelope.body.ok_or(DecodeError::UnknownMessage)?;
    if let wire::envelope::Body::Chunk(chunk) = body {
        return chunk_in(chunk).map(Header::Chunk);
    }
    Ok(Header::Message(Box::new(messages::read(body)?)))
}

fn chunk_in(chunk: wire::Chunk) -> Result<ChunkHeader, DecodeError> {
    let payload_len = usize::try_from(chunk.payload_bytes).unwrap_or(usize::MAX);
    if payload_len == 0 || payload_len > CHUNK_BYTES {
        return Err(DecodeError::OutOfBounds("payload_bytes"));
    }
    Ok(ChunkHeader {
        request: RequestId(chunk.request),
        slot: values::slot_in(chunk.slot)?,
        index: messages::chunk_index(chunk.index)?,
        payload_len,
    })
}

/// Decodes one whole frame from the front of a buffer, for tests and simulators that
/// have no streams.
///
/// # Errors
/// When the bytes are no frame, or are longer or shorter than one.
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
        Header::Message(_) => Err(DecodeError::PayloadLength),
    }
}
