//! A moving test pattern with sound, for networks without a camera.

use std::time::Duration;

use ff::{Dictionary, Packet, Rational, codec, filter, format::Pixel, frame};
use ffmpeg_next as ff;

use super::{Clock, Ended, Sink, audio::AudioEncoder, demux::Run};
use crate::{
    ffmpeg::{self, During as _, FfmpegError},
    fragment::{InputTrack, InputTracks, Kind},
    packager::PackagerConfig,
    part::Resume,
};

/// What the test pattern looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestSource {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frames per second.
    pub frame_rate: u32,
    /// Bits per second of video.
    pub bit_rate: usize,
    /// How long it goes on; `None` for ever.
    pub duration: Option<Duration>,
}

impl Default for TestSource {
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            frame_rate: 30,
            bit_rate: 2_500_000,
            duration: None,
        }
    }
}

/// Publishes the test pattern in real time. Blocks: give it a thread.
///
/// # Errors
/// When FFmpeg was built without its test sources, x264 or AAC.
pub fn run_test_source(
    source: TestSource,
    config: PackagerConfig,
    resume: Resume,
    clock: &mut dyn Clock,
    sink: &mut Sink<'_>,
) -> Ended {
    ffmpeg::start();
    let mut video = Pattern::new(source)?;
    let mut audio =
        AudioEncoder::from_filter("sine=frequency=440:beep_factor=2:sample_rate=48000")?;
    let tracks = InputTracks {
        video: Some(video.track()),
        audio: Some(audio.track()),
    };
    let epoch_ms = clock.unix_ms();
    let mut run = Run {
        config,
        resume,
        epoch_ms,
        sink,
    };
    let mut packager = run.packager(&tracks)?;
    let mut out = Vec::new();
    let mut samples = 0_u64;
    for frame in 0_u64.. {
        let elapsed = Duration::from_micros(frame * 1_000_000 / u64::from(source.frame_rate));
        if source.duration.is_some_and(|duration| elapsed >= duration) {
            break;
        }
        clock.wait_until(elapsed);
        while Duration::from_micros(samples * 1_000_000 / 48_000) <= elapsed {
            for packet in audio.generate()? {
                packager.push(Kind::Audio, packet, &mut out)?;
            }
            samples += 1024;
        }
        for packet in video.frame()? {
            packager.push(Kind::Video, packet, &mut out)?;
        }
        if run.emit(&mut out) {
            break;
        }
    }
    for packet in video.finish()? {
        packager.push(Kind::Video, packet, &mut out)?;
    }
    let resume = packager.finish(&mut out)?;
    run.emit(&mut out);
    Ok(resume)
}

/// Encoded frames of the pattern.
struct Pattern {
    graph: filter::Graph,
    encoder: codec::encoder::video::Encoder,
    rate: Rational,
}

impl Pattern {
    fn new(source: TestSource) -> Result<Self, FfmpegError> {
        const DOING: &str = "making the test pattern";
        let mut graph = filter::Graph::new();
        let sink = filter::find("buffersink").ok_or(ff::Error::FilterNotFound);
        graph.add(&sink.during(DOING)?, "out", "").during(DOING)?;
        let spec = format!(
            "testsrc2=size={}x{}:rate={},format=yuv420p",
            source.width, source.height, source.frame_rate
        );
        let parser = graph.input("out", 0).during(DOING)?;
        parser.parse(&spec).during(DOING)?;
        graph.validate().during(DOING)?;
        let codec = ff::encoder::find_by_name("libx264").ok_or(ff::Error::EncoderNotFound);
        let codec = codec.during("opening x264")?;
        let rate = Rational(i32::try_from(source.frame_rate).unwrap_or(30), 1);
        let mut context = codec::Context::new_with_codec(codec);
        context.set_flags(codec::Flags::GLOBAL_HEADER);
        let mut encoder = context.encoder().video().during("opening x264")?;
        encoder.set_width(source.width);
        encoder.set_height(source.height);
        encoder.set_format(Pixel::YUV420P);
        encoder.set_time_base(rate.invert());
        encoder.set_frame_rate(Some(rate));
        encoder.set_bit_rate(source.bit_rate);
        encoder.set_max_bit_rate(source.bit_rate);
        encoder.set_gop(source.frame_rate);
        let mut options = Dictionary::new();
        options.set("preset", "ultrafast");
        options.set("tune", "zerolatency");
        options.set("bufsize", &source.bit_rate.to_string());
        options.set("sc_threshold", "0");
        let encoder = encoder
            .open_as_with(codec, options)
            .during("opening x264")?;
        Ok(Self {
            graph,
            encoder,
            rate,
        })
    }

    fn track(&self) -> InputTrack {
        InputTrack {
            parameters: codec::Parameters::from(&self.encoder),
            time_base: self.rate.invert(),
            frame_rate: self.rate,
        }
    }

    fn frame(&mut self) -> Result<Vec<Packet>, FfmpegError> {
        let mut frame = frame::Video::empty();
        let output = self.graph.get("out").ok_or(ff::Error::FilterNotFound);
        output
            .during("drawing the test pattern")?
            .sink()
            .frame(&mut frame)
            .during("drawing the test pattern")?;
        frame.set_kind(ff::picture::Type::None);
        self.encoder
            .send_frame(&frame)
            .during("encoding the test pattern")?;
        Ok(self.drain())
    }

    fn finish(&mut self) -> Result<Vec<Packet>, FfmpegError> {
        self.encoder
            .send_eof()
            .during("encoding the test pattern")?;
        Ok(self.drain())
    }

    fn drain(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut packet = Packet::empty();
        while self.encoder.receive_packet(&mut packet).is_ok() {
            packets.push(std::mem::replace(&mut packet, Packet::empty()));
        }
        packets
    }
}
