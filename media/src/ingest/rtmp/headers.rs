//! What a decoder needs before anything else: the headers of an encoder's tracks, and
//! whether media still fits them.
//!
//! An encoder that changes its picture size or codec settings sends new headers in
//! mid-stream. A stream has one init for all its parts, so what follows is a new stream,
//! as if the encoder had connected again.

use bytes::Bytes;

/// Kinds of FLV tags (Adobe FLV 10.1, E.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Audio = 8,
    Video = 9,
    Script = 18,
}

/// What to do with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It belongs to the stream.
    Forward,
    /// It belongs to the stream that begins with the next media.
    Hold,
    /// It is the first media of a new stream, after [`Headers::all`].
    Restart,
}

/// The headers of one encoder.
#[derive(Debug, Default)]
pub(super) struct Headers {
    script: Option<Bytes>,
    video: Option<Bytes>,
    audio: Option<Bytes>,
    /// Media has followed the headers.
    flowing: bool,
    /// A header has changed since.
    changed: bool,
}

impl Headers {
    /// Takes note of a tag.
    pub(super) fn note(&mut self, kind: Kind, data: &[u8]) -> Effect {
        if !is_header(kind, data) {
            self.flowing = true;
            return if std::mem::take(&mut self.changed) {
                Effect::Restart
            } else {
                Effect::Forward
            };
        }
        let slot = match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
            Kind::Script => &mut self.script,
        };
        let differs = slot.as_deref() != Some(data);
        *slot = Some(Bytes::copy_from_slice(data));
        // A script holds figures that may change without the tracks.
        self.changed |= differs && self.flowing && kind != Kind::Script;
        if self.changed {
            Effect::Hold
        } else {
            Effect::Forward
        }
    }

    /// All headers, in the order in which a stream begins.
    pub(super) fn all(&self) -> Vec<(Kind, Bytes)> {
        [
            (Kind::Script, &self.script),
            (Kind::Video, &self.video),
            (Kind::Audio, &self.audio),
        ]
        .into_iter()
        .filter_map(|(kind, header)| Some((kind, header.clone()?)))
        .collect()
    }
}

/// Whether a tag is a sequence header or a script rather than media (Adobe FLV 10.1, E.4.2
/// and E.4.3; Enhanced RTMP v2, "ExVideoTagHeader" and "ExAudioTagHeader").
pub(super) fn is_header(kind: Kind, data: &[u8]) -> bool {
    let (Some(first), second) = (data.first(), data.get(1)) else {
        return false;
    };
    match kind {
        Kind::Script => true,
        Kind::Video if first & 0x80 != 0 => first & 0x0f == 0,
        Kind::Video => matches!(first & 0x0f, 7 | 12 | 13) && second == Some(&0),
        Kind::Audio if first >> 4 == 9 => first & 0x0f == 0,
        Kind::Audio => first >> 4 == 10 && second == Some(&0),
    }
}

/// The first libavformat that reads Enhanced RTMP, of FFmpeg 6.1.
const READS_ENHANCED: u32 = (60 << 16) | (16 << 8);

/// Whether a libavformat of this version takes a tag for something that it is not: HEVC and
/// AV1 have tags of their own (Enhanced RTMP v2, "ExVideoTagHeader").
pub(super) fn is_misread(kind: Kind, data: &[u8], version: u32) -> bool {
    let enhanced = data.first().is_some_and(|first| first & 0x80 != 0);
    kind == Kind::Video && enhanced && version < READS_ENHANCED
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVC: &[u8] = &[0x17, 0, 0, 0, 0, 1];
    const AVC_LARGER: &[u8] = &[0x17, 0, 0, 0, 0, 2];
    const KEY_FRAME: &[u8] = &[0x17, 1, 0, 0, 0, 9];
    const AAC: &[u8] = &[0xaf, 0, 0x12];
    const AAC_MONO: &[u8] = &[0xaf, 0, 0x13];
    const AAC_FRAME: &[u8] = &[0xaf, 1, 0x21];

    fn begun() -> Headers {
        let mut headers = Headers::default();
        for (kind, data) in [
            (Kind::Script, &[2, 0][..]),
            (Kind::Video, AVC),
            (Kind::Audio, AAC),
            (Kind::Video, KEY_FRAME),
            (Kind::Audio, AAC_FRAME),
        ] {
            assert_eq!(headers.note(kind, data), Effect::Forward);
        }
        headers
    }

    #[test]
    fn repeated_headers_and_scripts_change_nothing() {
        let mut headers = begun();
        for (kind, data) in [
            (Kind::Video, AVC),
            (Kind::Script, &[2, 1][..]),
            (Kind::Audio, AAC),
            (Kind::Video, KEY_FRAME),
        ] {
            assert_eq!(headers.note(kind, data), Effect::Forward);
        }
    }

    #[test]
    fn changed_headers_begin_one_new_stream_with_the_next_media() {
        let mut headers = begun();

        assert_eq!(headers.note(Kind::Video, AVC_LARGER), Effect::Hold);
        assert_eq!(headers.note(Kind::Audio, AAC_MONO), Effect::Hold);
        assert_eq!(headers.note(Kind::Video, KEY_FRAME), Effect::Restart);
        assert_eq!(headers.note(Kind::Audio, AAC_FRAME), Effect::Forward);

        let all = headers.all();
        let kinds: Vec<_> = all.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [Kind::Script, Kind::Video, Kind::Audio]);
        assert_eq!(all[1].1, AVC_LARGER);
        assert_eq!(all[2].1, AAC_MONO);
    }

    #[test]
    fn a_track_that_comes_late_begins_a_new_stream() {
        let mut headers = Headers::default();
        headers.note(Kind::Video, AVC);
        headers.note(Kind::Video, KEY_FRAME);

        assert_eq!(headers.note(Kind::Audio, AAC), Effect::Hold);
        assert_eq!(headers.note(Kind::Audio, AAC_FRAME), Effect::Restart);
    }

    #[test]
    fn an_old_ffmpeg_misreads_enhanced_pictures_only() {
        let hevc = [0x90, b'h', b'v', b'c', b'1', 0];
        let debian_12 = (59 << 16) | (27 << 8) | 100;
        assert!(is_misread(Kind::Video, &hevc, debian_12));
        assert!(!is_misread(Kind::Video, &hevc, READS_ENHANCED));
        assert!(!is_misread(Kind::Video, KEY_FRAME, debian_12));
        assert!(!is_misread(Kind::Audio, AAC, debian_12));
    }

    #[test]
    fn enhanced_headers_are_known() {
        assert!(is_header(Kind::Video, &[0x90, b'h', b'v', b'c', b'1', 0]));
        assert!(!is_header(Kind::Video, &[0x91, b'h', b'v', b'c', b'1', 0]));
        assert!(is_header(Kind::Audio, &[0x90, b'O', b'p', b'u', b's']));
        assert!(!is_header(Kind::Audio, &[0x91, b'O', b'p', b'u', b's']));
        assert!(!is_header(Kind::Video, &[]));
    }
}
