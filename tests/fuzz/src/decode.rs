//! Frames from anywhere: read or refused, and what is read can be sent on as it is.

use bytes::Bytes;
use headwater_proto::{Header, Message, decode as decode_frame, decode_header, encode};

/// Bytes as a frame, and as a header alone.
///
/// # Panics
/// When a message that was read is not read the same after it was written again.
pub fn decode(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(message) = decode_frame(bytes.clone()) {
        assert_sent_on(&message);
    }
    match decode_header(bytes) {
        Ok(Header::Message(message)) => assert_sent_on(&message),
        Ok(Header::Chunk(chunk)) => {
            let payload = Bytes::from(vec![0; chunk.payload_len()]);
            let message = chunk.finish(payload).expect("it is as long as announced");
            assert_sent_on(&message);
            let short = Bytes::from(vec![0; chunk.payload_len() - 1]);
            assert!(chunk.finish(short).is_err(), "a payload that is cut short");
        }
        Ok(Header::Unknown) | Err(_) => {}
    }
}

fn assert_sent_on(message: &Message) {
    let frame = encode(message).expect("what was read is within the bounds");
    let again = decode_frame(crate::material::whole(&frame));
    assert_eq!(again.as_ref(), Ok(message), "read, written, read");
}
