//! Messages out of chunks.
//!
//! RTMP cuts messages into chunks, and an encoder may send those of several messages in
//! turn (RTMP 1.0, 5.3). rml_rtmp puts one message together at a time, so it is given each
//! as a single chunk when the last of its own has come.

use std::collections::BTreeMap;

use bytes::{Buf as _, BytesMut};

use super::values::are_safe;

/// Tells rml_rtmp that a chunk may be as long as any message.
pub(super) const AS_LONG_AS_MESSAGES: &[u8] = &[
    2, 0, 0, 0, 0, 0, 4, SET_SIZE, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff,
];

/// Messages under way at once; encoders use about four.
const STREAMS: usize = 64;
/// Bytes of all messages under way of an encoder whose key is known; the longest one has
/// 2^24 - 1.
const PENDING: usize = 1 << 24;
/// The same of anybody else, who has commands to send and little more.
const PENDING_OF_STRANGERS: usize = 1 << 18;
/// In place of a time that does not fit into three bytes.
const EXTENDED: u32 = 0xff_ffff;
/// Kinds of messages that are about chunks (RTMP 1.0, 5.4).
const SET_SIZE: u8 = 1;
const ABORT: u8 = 2;

/// What no encoder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    #[error("a chunk goes on where none has begun")]
    Orphan,
    #[error("a message changes its length")]
    Length,
    #[error("too much is under way at once")]
    TooMuch,
    #[error("a bad chunk size")]
    Size,
    #[error("values that no encoder sends")]
    Values,
}

/// The chunks of one encoder.
#[derive(Debug)]
pub(super) struct Chunks {
    /// Bytes of a message in a chunk, at most.
    size: usize,
    /// Bytes of all messages under way, at most.
    most: usize,
    streams: BTreeMap<u32, Stream>,
    /// The beginning of a chunk.
    rest: BytesMut,
}

#[derive(Debug, Default)]
struct Stream {
    header: Header,
    /// Of the message under way.
    data: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Header {
    time: u32,
    /// What was said of the time: all of it, or how much later it is.
    field: u32,
    len: usize,
    kind: u8,
    message_stream: [u8; 4],
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            size: 128,
            most: PENDING_OF_STRANGERS,
            streams: BTreeMap::new(),
            rest: BytesMut::new(),
        }
    }
}

impl Chunks {
    /// The encoder's key is known: from here on it may send whole pictures.
    pub(super) const fn trust(&mut self) {
        self.most = PENDING;
    }

    /// Takes bytes of the encoder; returns the messages that they complete, each as one
    /// chunk.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ChunkError> {
        self.rest.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while self.next(&mut whole)? {}
        Ok(whole)
    }

    /// Takes one chunk; `false` when it is not here as a whole.
    fn next(&mut self, whole: &mut Vec<u8>) -> Result<bool, ChunkError> {
        let mut left = &self.rest[..];
        let Some((format, id)) = basic_header(&mut left) else {
            return Ok(false);
        };
        let before = self.streams.get(&id);
        let mut header = match before {
            _ if format == 0 => Header::default(),
            Some(stream) => stream.header,
            None => return Err(ChunkError::Orphan),
        };
        let under_way = before.filter(|stream| !stream.data.is_empty());
        if header.read(format, under_way, &mut left).is_none() {
            return Ok(false);
        }
        if under_way.is_some_and(|stream| stream.header.len != header.len) {
            return Err(ChunkError::Length);
        }
        let have = under_way.map_or(0, |stream| stream.data.len());
        let more = self.size.min(header.len - have);
        let pending: usize = self.streams.values().map(|s| s.data.len()).sum();
        if pending + more > self.most || (before.is_none() && self.streams.len() >= STREAMS) {
            return Err(ChunkError::TooMuch);
        }
        if left.len() < more {
            return Ok(false);
        }
        let begin = self.rest.len() - left.len();
        let stream = self.streams.entry(id).or_default();
        stream.header = header;
        stream.data.extend_from_slice(&left[..more]);
        self.rest.advance(begin + more);
        if stream.data.len() == header.len {
            let data = std::mem::take(&mut stream.data);
            self.message(header, &data, whole)?;
        }
        Ok(true)
    }

    fn message(
        &mut self,
        header: Header,
        data: &[u8],
        whole: &mut Vec<u8>,
    ) -> Result<(), ChunkError> {
        let number = data.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match header.kind {
            SET_SIZE => {
                let size = number.filter(|size| (1..1 << 31).contains(size));
                self.size = size.ok_or(ChunkError::Size)? as usize;
            }
            ABORT => {
                if let Some(stream) = number.and_then(|id| self.streams.get_mut(&id)) {
                    stream.data = Vec::new();
                }
            }
            kind if !are_safe(kind, data) => return Err(ChunkError::Values),
            _ => header.write(data, whole),
        }
        Ok(())
    }
}

impl Header {
    /// Reads what a chunk of this format says (RTMP 1.0, 5.3.1.2); `None` when there is more
    /// to come of it. A chunk of a message that is `under_way` says nothing of its time.
    fn read(&mut self, format: u8, under_way: Option<&Stream>, from: &mut &[u8]) -> Option<()> {
        if format < 3 {
            self.field = three_bytes(from)?;
        }
        if format < 2 {
            self.len = three_bytes(from)? as usize;
            [self.kind] = take(from)?;
        }
        if format < 1 {
            self.message_stream = take(from)?;
        }
        let field = match self.field {
            EXTENDED => u32::from_be_bytes(take(from)?),
            field => field,
        };
        self.time = match under_way {
            Some(stream) => stream.header.time,
            None if format == 0 => field,
            None => self.time.wrapping_add(field),
        };
        Some(())
    }

    /// The whole message as one chunk with a full header.
    fn write(&self, data: &[u8], into: &mut Vec<u8>) {
        let field = self.time.min(EXTENDED);
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        into.push(3);
        into.extend_from_slice(&field.to_be_bytes()[1..]);
        into.extend_from_slice(&len.to_be_bytes()[1..]);
        into.push(self.kind);
        into.extend_from_slice(&self.message_stream);
        if field == EXTENDED {
            into.extend_from_slice(&self.time.to_be_bytes());
        }
        into.extend_from_slice(data);
    }
}

/// Format and id of the chunk's stream (RTMP 1.0, 5.3.1.1).
fn basic_header(from: &mut &[u8]) -> Option<(u8, u32)> {
    let [first] = take(from)?;
    let id = match first & 0x3f {
        0 => take::<1>(from).map(|[low]| 64 + u32::from(low))?,
        1 => take(from).map(|bytes| 64 + u32::from(u16::from_le_bytes(bytes)))?,
        id => u32::from(id),
    };
    Some((first >> 6, id))
}

fn three_bytes(from: &mut &[u8]) -> Option<u32> {
    let [high, middle, low] = take(from)?;
    Some(u32::from_be_bytes([0, high, middle, low]))
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = from.split_first_chunk()?;
    *from = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A chunk with a full header, as a message of `len` bytes begins.
    fn begin(id: u8, time: u32, len: u8, kind: u8, data: &[u8]) -> Vec<u8> {
        let [_, time @ ..] = time.to_be_bytes();
        let mut chunk = vec![id, time[0], time[1], time[2], 0, 0, len, kind, 1, 0, 0, 0];
        chunk.extend_from_slice(data);
        chunk
    }

    /// What rml_rtmp is given of one message.
    fn whole(time: u32, kind: u8, data: &[u8]) -> Vec<u8> {
        begin(3, time, u8::try_from(data.len()).unwrap(), kind, data)
    }

    fn go_on(id: u8, data: &[u8]) -> Vec<u8> {
        [&[0xc0 | id], data].concat()
    }

    #[test]
    fn chunks_of_two_messages_may_come_in_turn() {
        let (video, audio) = ([7; 200], [8; 140]);
        let sent = [
            begin(6, 40, 200, 9, &video[..128]),
            begin(4, 41, 140, 8, &audio[..128]),
            go_on(6, &video[128..]),
            go_on(4, &audio[128..]),
        ]
        .concat();
        let expected = [whole(40, 9, &video), whole(41, 8, &audio)].concat();
        let mut at_once = Chunks::default();
        assert_eq!(at_once.feed(&sent), Ok(expected.clone()));

        let mut chunks = Chunks::default();
        let bytes = sent.iter().map(|byte| chunks.feed(&[*byte]).unwrap());
        assert_eq!(bytes.flatten().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn later_messages_say_less_of_themselves() {
        let mut chunks = Chunks::default();
        chunks.feed(&begin(4, 1000, 2, 9, b"ab")).unwrap();
        let later = [
            // 40 ms later, of another length and kind; then as much later; then 20 ms.
            &[0x44, 0, 0, 40, 0, 0, 1, 8, b'c'][..],
            &[0xc4, b'd'],
            &[0x84, 0, 0, 20, b'e'],
        ];
        let expected = [(1040, b"c"), (1080, b"d"), (1100, b"e")];
        for (sent, (time, data)) in later.into_iter().zip(expected) {
            assert_eq!(chunks.feed(sent), Ok(whole(time, 8, data)));
        }
    }

    #[test]
    fn times_beyond_three_bytes_are_repeated_in_every_chunk() {
        let mut chunks = Chunks::default();
        let data = [5; 130];
        let mut sent = begin(4, EXTENDED, 130, 9, &[1, 2, 3, 4]);
        sent.extend_from_slice(&data[..128]);
        sent.extend_from_slice(&[0xc4, 1, 2, 3, 4, 5, 5]);

        let mut expected = whole(EXTENDED, 9, &data);
        expected.splice(12..12, [1, 2, 3, 4]);
        assert_eq!(chunks.feed(&sent), Ok(expected));
    }

    #[test]
    fn chunks_may_be_made_longer_and_messages_given_up() {
        let mut chunks = Chunks::default();
        let longer = begin(2, 0, 4, SET_SIZE, &[0, 0, 0, 200]);
        assert_eq!(chunks.feed(&longer), Ok(Vec::new()));
        assert_eq!(
            chunks.feed(&begin(4, 0, 200, 9, &[1; 200])),
            Ok(whole(0, 9, &[1; 200]))
        );

        chunks.feed(&begin(4, 0, 250, 9, &[2; 200])).unwrap();
        let abort = begin(2, 0, 4, ABORT, &[0, 0, 0, 4]);
        assert_eq!(chunks.feed(&abort), Ok(Vec::new()));
        assert_eq!(chunks.feed(&begin(4, 9, 1, 9, &[3])), Ok(whole(9, 9, &[3])));
    }

    #[test]
    fn what_no_encoder_does_is_refused() {
        let shorter = [begin(4, 0, 200, 9, &[1; 128]), begin(4, 0, 9, 9, &[])].concat();
        let one_more_than_may_be = (0..=64).flat_map(|id| {
            // An id in a byte of its own.
            let mut chunk = begin(0, 0, 200, 9, &[1; 128]);
            chunk.insert(1, id);
            chunk
        });
        for (sent, error) in [
            (go_on(4, &[]), ChunkError::Orphan),
            (shorter, ChunkError::Length),
            (one_more_than_may_be.collect(), ChunkError::TooMuch),
            (begin(2, 0, 4, SET_SIZE, &[0; 4]), ChunkError::Size),
            (begin(2, 0, 1, SET_SIZE, &[0; 1]), ChunkError::Size),
        ] {
            assert_eq!(Chunks::default().feed(&sent), Err(error));
        }
    }

    #[test]
    fn who_is_not_known_may_begin_no_long_message() {
        let longer = begin(2, 0, 4, SET_SIZE, &[0x7f, 0, 0, 0]);
        let picture = [4, 0, 0, 0, 0x10, 0, 0, 9, 1, 0, 0, 0];
        let mut stranger = Chunks::default();
        stranger.feed(&longer).unwrap();
        assert_eq!(stranger.feed(&picture), Err(ChunkError::TooMuch));

        let mut encoder = Chunks::default();
        encoder.trust();
        encoder.feed(&longer).unwrap();
        assert_eq!(encoder.feed(&picture), Ok(Vec::new()));
        let sent = encoder.feed(&[7; 1 << 20]).unwrap();
        assert_eq!(sent.len(), picture.len() + (1 << 20));
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_however_their_chunks_are_mixed(
            messages in vec((0..4_usize, vec(any::<u8>(), 1..256)), 1..40),
            turns in vec(0..4_usize, 1..40),
            cut in 1..300_usize,
        ) {
            let mut queues = [const { VecDeque::new() }; 4];
            for (time, (id, data)) in (0..).zip(messages) {
                queues[id].push_back((time, data, 0));
            }
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            for turn in turns.into_iter().cycle() {
                let next = (turn..turn + 4).find(|id| !queues[id % 4].is_empty());
                let Some(id) = next.map(|id| id % 4) else { break };
                let (time, data, at) = queues[id].front_mut().unwrap();
                let piece = &data[*at..data.len().min(*at + 128)];
                let [stream, len] = [4 + id, data.len()].map(|n| u8::try_from(n).unwrap());
                sent.extend(match at {
                    0 => begin(stream, *time, len, 9, piece),
                    _ => go_on(stream, piece),
                });
                *at += piece.len();
                if *at == data.len() {
                    expected.extend(whole(*time, 9, data));
                    queues[id].pop_front();
                }
            }

            let mut chunks = Chunks::default();
            let got = sent.chunks(cut).flat_map(|some| chunks.feed(some).unwrap());
            prop_assert_eq!(got.collect::<Vec<_>>(), expected);
        }

        #[test]
        fn nonsense_is_never_kept_beyond_the_bound(
            // Enough small numbers that some of it looks like chunks.
            pieces in vec(vec(prop_oneof![0..8_u8, any::<u8>()], 1..256), 1..24),
        ) {
            let mut chunks = Chunks::default();
            for piece in pieces {
                if chunks.feed(&piece).is_err() {
                    break;
                }
                let data = chunks.streams.values().map(|stream| stream.data.len());
                let kept = chunks.rest.len() + data.sum::<usize>();
                prop_assert!(kept <= PENDING_OF_STRANGERS + piece.len(), "{}", kept);
            }
        }
    }
}
