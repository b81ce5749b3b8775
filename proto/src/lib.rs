//! What is on the wire: ids, messages, codec, limits, signatures.
