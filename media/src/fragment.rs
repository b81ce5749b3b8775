//! CMAF fragments of up to one video and one audio track, from encoded packets.

use bytes::Bytes;
use ff::{
    Dictionary, Packet, Rational,
    codec::{Id, Parameters},
    format::context::StreamIo,
};
use ffmpeg_next as ff;

use crate::{
    codec,
    ffmpeg::{self, Buffer, Details, During as _, FfmpegError, details},
    part::{AudioTrack, TIMESCALE, Tracks, VideoTrack},
};

/// A track as it comes in.
#[derive(Clone)]
pub(crate) struct InputTrack {
    pub(crate) parameters: Parameters,
    /// Of the packets.
    pub(crate) time_base: Rational,
    /// Frames per second, for video; zero when unknown.
    pub(crate) frame_rate: Rational,
}

/// Video and audio as they come in; one of them may be absent.
#[derive(Clone)]
pub(crate) struct InputTracks {
    pub(crate) video: Option<InputTrack>,
    pub(crate) audio: Option<InputTrack>,
}

impl InputTracks {
    /// What playlists have to say of them.
    ///
    /// # Errors
    /// The codec that cannot be played from MP4.
    pub(crate) fn describe(&self) -> Result<Tracks, Id> {
        let name = |track: &InputTrack, details: &Details| {
            let id = track.parameters.id();
            codec::name(id, details).ok_or(id)
        };
        let video = match &self.video {
            None => None,
            Some(track) => {
                let details = details(&track.parameters);
                let rate = track.frame_rate;
                let milli = match i64::from(rate.denominator()) {
                    0 => 0,
                    // FFmpeg's fraction is close to the rate, and not always below it.
                    below => (i64::from(rate.numerator()) * 1000 + below / 2) / below,
                };
                Some(VideoTrack {
                    codec: name(track, &details)?,
                    width: details.width,
                    height: details.height,
                    frame_rate_milli: u32::try_from(milli).unwrap_or(0),
                })
            }
        };
        let audio = match &self.audio {
            None => None,
            Some(track) => {
                let details = details(&track.parameters);
                Some(AudioTrack {
                    codec: name(track, &details)?,
                    sample_rate: details.sample_rate,
                    channels: details.channels,
                })
            }
        };
        Ok(Tracks { video, audio })
    }

    /// Time base of video packets inside the fragments.
    pub(crate) fn video_base() -> Rational {
        Rational(1, i32::try_from(TIMESCALE).unwrap_or(i32::MAX))
    }

    /// Time base of audio packets inside the fragments: one sample.
    pub(crate) fn audio_base(&self) -> Rational {
        let rate = self
            .audio
            .as_ref()
            .map(|track| details(&track.parameters).sample_rate);
        let rate = rate.filter(|rate| *rate > 0).unwrap_or(TIMESCALE);
        Rational(1, i32::try_from(rate).unwrap_or(i32::MAX))
    }
}

/// Which track a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Audio,
}

/// Writes packets into fragments.
pub(crate) struct Fragmenter {
    output: ff::format::context::Output,
    buffer: Buffer,
    video: Option<usize>,
    audio: Option<usize>,
    bases: [Rational; 2],
}

impl Fragmenter {
    /// Opens a muxer; returns the init with it.
    pub(crate) fn new(tracks: &InputTracks) -> Result<(Self, Bytes), FfmpegError> {
        ffmpeg::start();
        let buffer = Buffer::default();
        let io = StreamIo::from_write(buffer.clone()).during("opening a muxer")?;
        let mut output =
            ff::format::output_to_stream(io, None, Some("mp4")).during("opening a muxer")?;
        let bases = [InputTracks::video_base(), tracks.audio_base()];
        let mut indexes = [None, None];
        for (kind, track) in [&tracks.video, &tracks.audio].into_iter().enumerate() {
            let Some(track) = track else {
                continue;
            };
            let mut parameters = track.parameters.clone();
            ffmpeg::clear_codec_tag(&mut parameters);
            let mut stream = output
                .add_stream(ff::encoder::find(Id::None))
                .during("adding a track")?;
            stream.set_parameters(parameters);
            stream.set_time_base(bases[kind]);
            if track.frame_rate.numerator() > 0 {
                stream.set_avg_frame_rate(track.frame_rate);
            }
            indexes[kind] = Some(stream.index());
        }
        let mut options = Dictionary::new();
        options.set(
            "movflags",
            "+empty_moov+default_base_moof+frag_custom+frag_discont+skip_trailer",
        );
        options.set("use_editlist", "0");
        options.set("avoid_negative_ts", "disabled");
        options.set("video_track_timescale", &TIMESCALE.to_string());
        options.set("flush_packets", "1");
        output
            .write_header_with(options)
            .during("writing the init segment")?;
        let init = Bytes::from(buffer.take());
        let fragmenter = Self {
            output,
            buffer,
            video: indexes[0],
            audio: indexes[1],
            bases,
        };
        Ok((fragmenter, init))
    }

    /// Adds a packet, with times in the fragments' time base, to the open fragment.
    pub(crate) fn write(&mut self, kind: Kind, packet: &mut Packet) -> Result<(), FfmpegError> {
        let (index, base) = match kind {
            Kind::Video => (self.video, self.bases[0]),
            Kind::Audio => (self.audio, self.bases[1]),
        };
        let Some(index) = index else {
            return Ok(());
        };
        packet.set_stream(index);
        let actual = self.output.stream(index).map_or(base, |s| s.time_base());
        packet.rescale_ts(base, actual);
        packet.set_position(-1);
        packet.write(&mut self.output).during("writing a sample")?;
        Ok(())
    }

    /// Ends the open fragment and returns its bytes.
    pub(crate) fn flush(&mut self) -> Result<Bytes, FfmpegError> {
        ffmpeg::flush_fragment(&mut self.output)?;
        Ok(Bytes::from(self.buffer.take()))
    }
}
