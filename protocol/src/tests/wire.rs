//! One direction of a link: the real codec, and the real verifier at its end.

use bytes::BytesMut;
use headwater_proto::{Checked, LinkVerifier, Message, Violation, decode, encode};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    verifier: LinkVerifier,
}

impl Wire {
    /// Encodes, decodes and checks a message.
    pub(crate) fn carry(&mut self, message: &Message) -> Result<Checked<Message>, Violation> {
        let frame = encode(message).expect("a node sends nothing beyond the bounds");
        let mut bytes = BytesMut::with_capacity(frame.len());
        bytes.extend_from_slice(&frame.head);
        bytes.extend_from_slice(frame.payload.as_deref().unwrap_or_default());
        let decoded = decode(bytes.freeze()).map_err(|_| Violation::Malformed)?;
        assert_eq!(decoded, *message, "what is read is what was written");
        self.verifier.check(decoded)
    }
}
