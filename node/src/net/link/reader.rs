//! The reading half of a link: frames from all substreams, the most urgent first, decoded
//! and verified.

use std::{io, sync::atomic::Ordering::Relaxed, task::Poll};

use bytes::{Bytes, BytesMut};
use futures::{
    AsyncRead, AsyncReadExt as _, StreamExt as _,
    future::poll_fn,
    stream::{self, BoxStream},
};
use headwater_proto::{
    Header, LengthPrefix, LinkVerifier, Message, NodeId, Violation, decode_header,
};

use super::{CLASSES, Counters, LinkError, NetEvent, Reader, Shared};

/// A message and its size on the wire; none of a kind that is not known here.
type Sized = (Option<Message>, usize);

/// Reads until the link ends.
pub(super) async fn run(
    peer: NodeId,
    readers: [Reader; CLASSES],
    shared: &Shared,
    counters: &Counters,
) -> LinkError {
    let mut verifier = LinkVerifier::default();
    let mut substreams = readers.map(messages);
    loop {
        let next = poll_fn(|cx| {
            for substream in &mut substreams {
                if let Poll::Ready(next) = substream.poll_next_unpin(cx) {
                    return Poll::Ready(next);
                }
            }
            Poll::Pending
        });
        let event = match next.await {
            Some(Ok((message, size))) => {
                counters.read.fetch_add(size as u64, Relaxed);
                let Some(message) = message else {
                    counters.skipped.fetch_add(1, Relaxed);
                    continue;
                };
                match verifier.check(message) {
                    Ok(message) => NetEvent::Received {
                        from: peer,
                        message,
                    },
                    Err(violation) => NetEvent::Violation {
                        from: peer,
                        violation,
                    },
                }
            }
            Some(Err(error)) => {
                if let LinkError::Decode(_) = error {
                    let violation = Violation::Malformed;
                    let event = NetEvent::Violation {
                        from: peer,
                        violation,
                    };
                    shared.tell(event).await;
                }
                return error;
            }
            None => return LinkError::Closed,
        };
        // Waiting here stops reading, and so, by the transport's windows, the neighbour.
        shared.tell(event).await;
    }
}

/// The messages of one substream; ends after the first error.
fn messages(reader: Reader) -> BoxStream<'static, Result<Sized, LinkError>> {
    Box::pin(stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match next(&mut reader).await {
            Ok(Some(message)) => Some((Ok(message), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// The next message; `None` when the substream ends between two.
pub(super) async fn next(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Sized>, LinkError> {
    let Some((header, size)) = next_header(reader).await? else {
        return Ok(None);
    };
    Ok(Some(match header {
        Header::Unknown => (None, size),
        Header::Message(message) => (Some(*message), size),
        Header::Chunk(chunk) => {
            let payload = read_exact(reader, chunk.payload_len()).await?;
            let size = size + payload.len();
            (Some(chunk.finish(payload)?), size)
        }
    }))
}

async fn next_header(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<Option<(Header, usize)>, LinkError> {
    let mut prefix = LengthPrefix::default();
    let mut size = 0;
    let len = loop {
        let mut byte = [0];
        if reader.read(&mut byte).await? == 0 {
            return if size == 0 {
                Ok(None)
            } else {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            };
        }
        size += 1;
        if let Some(len) = prefix.push(byte[0])? {
            break len;
        }
    };
    let header = decode_header(read_exact(reader, len).await?)?;
    Ok(Some((header, size + len)))
}

async fn read_exact(reader: &mut (impl AsyncRead + Unpin), len: usize) -> Result<Bytes, LinkError> {
    let mut bytes = BytesMut::zeroed(len);
    reader.read_exact(&mut bytes).await?;
    Ok(bytes.freeze())
}
