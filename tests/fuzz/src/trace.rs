//! Bytes as a recording.

use headwater_protocol::record::replay;

/// Replays the bytes as a recording.
///
/// # Panics
/// When what is said of the replay does not fit the bytes.
pub fn trace(data: &[u8]) {
    let Ok(replayed) = replay(data) else {
        return;
    };
    // Every input and output takes some bytes.
    assert!(replayed.inputs + replayed.outputs <= data.len() as u64);
    assert!(replayed.to_string().contains("inputs"));
}
