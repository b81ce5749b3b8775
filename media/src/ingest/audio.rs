//! Audio that is not AAC becomes AAC, because that is what plays everywhere.

use ff::{ChannelLayout, Packet, Rational, codec, filter, frame};
use ffmpeg_next as ff;

use crate::{
    ffmpeg::{During as _, FfmpegError},
    fragment::InputTrack,
};

/// Bits per second of encoded audio.
const BIT_RATE: usize = 128_000;

/// Decodes audio, brings it into AAC's form, and encodes it.
pub(super) struct AudioEncoder {
    decoder: Option<codec::decoder::Audio>,
    graph: filter::Graph,
    encoder: codec::encoder::audio::Encoder,
    time_base: Rational,
    started: bool,
}

impl AudioEncoder {
    /// For packets of another codec.
    pub(super) fn from_packets(track: &InputTrack) -> Result<Self, FfmpegError> {
        let mut context = codec::Context::from_parameters(track.parameters.clone())
            .during("opening the audio decoder")?;
        context.set_time_base(track.time_base);
        let mut decoder = context
            .decoder()
            .audio()
            .during("opening the audio decoder")?;
        decoder.set_packet_time_base(track.time_base);
        if decoder.channel_layout().is_empty() {
            decoder.set_channel_layout(ChannelLayout::default(i32::from(decoder.channels())));
        }
        let source = format!(
            "time_base={}:sample_rate={}:sample_fmt={}:channel_layout=0x{:x}",
            track.time_base,
            decoder.rate(),
            decoder.format().name(),
            decoder.channel_layout().bits()
        );
        let rate = if decoder.rate() == 44_100 {
            44_100
        } else {
            48_000
        };
        let mut graph = filter::Graph::new();
        let buffer = filter::find("abuffer").ok_or(ff::Error::FilterNotFound);
        graph
            .add(&buffer.during("converting audio")?, "in", &source)
            .during("converting audio")?;
        Self::with_graph(graph, Some(decoder), "anull", rate)
    }

    /// For sound that a filter makes, such as `sine`.
    pub(super) fn from_filter(spec: &str) -> Result<Self, FfmpegError> {
        Self::with_graph(filter::Graph::new(), None, spec, 48_000)
    }

    fn with_graph(
        mut graph: filter::Graph,
        decoder: Option<codec::decoder::Audio>,
        spec: &str,
        rate: u32,
    ) -> Result<Self, FfmpegError> {
        const DOING: &str = "converting audio";
        let sink = filter::find("abuffersink").ok_or(ff::Error::FilterNotFound);
        graph.add(&sink.during(DOING)?, "out", "").during(DOING)?;
        let shape = format!(
            "{spec},aformat=sample_fmts=fltp:sample_rates={rate}:channel_layouts=stereo,\
             asetnsamples=n=1024:p=1"
        );
        let parser = if decoder.is_some() {
            graph.output("in", 0).during(DOING)?.input("out", 0)
        } else {
            graph.input("out", 0)
        };
        parser.during(DOING)?.parse(&shape).during(DOING)?;
        graph.validate().during(DOING)?;
        let codec = ff::encoder::find(codec::Id::AAC).ok_or(ff::Error::EncoderNotFound);
        let codec = codec.during("opening the AAC encoder")?;
        let mut context = codec::Context::new_with_codec(codec);
        // MP4 keeps the decoder's configuration in its header.
        context.set_flags(codec::Flags::GLOBAL_HEADER);
        let mut encoder = context
            .encoder()
            .audio()
            .during("opening the AAC encoder")?;
        let time_base = Rational(1, i32::try_from(rate).unwrap_or(48_000));
        encoder.set_rate(time_base.denominator());
        encoder.set_channel_layout(ChannelLayout::STEREO);
        encoder.set_format(ff::format::Sample::F32(ff::format::sample::Type::Planar));
        encoder.set_bit_rate(BIT_RATE);
        encoder.set_time_base(time_base);
        let encoder = encoder.open_as(codec).during("opening the AAC encoder")?;
        Ok(Self {
            decoder,
            graph,
            encoder,
            time_base,
            started: false,
        })
    }

    /// The track that comes out.
    pub(super) fn track(&self) -> InputTrack {
        InputTrack {
            parameters: codec::Parameters::from(&self.encoder),
            time_base: self.time_base,
            frame_rate: Rational(0, 1),
        }
    }

    /// Takes a packet of the other codec. Packets that do not decode are left out.
    pub(super) fn push_packet(&mut self, packet: &Packet) -> Result<Vec<Packet>, FfmpegError> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(Vec::new());
        };
        if let Err(error) = decoder.send_packet(packet) {
            tracing::debug!(%error, "audio packet does not decode");
            return Ok(Vec::new());
        }
        self.drain_decoder()?;
        self.drain_graph()
    }

    /// Takes the next frame of a filter that makes sound.
    pub(super) fn generate(&mut self) -> Result<Vec<Packet>, FfmpegError> {
        let mut packets = Vec::new();
        self.convert_one(&mut packets)?;
        Ok(packets)
    }

    /// Takes the end.
    pub(super) fn finish(&mut self) -> Result<Vec<Packet>, FfmpegError> {
        if let Some(decoder) = &mut self.decoder {
            decoder.send_eof().during("decoding audio")?;
            self.drain_decoder()?;
            if self.started
                && let Some(mut input) = self.graph.get("in")
            {
                input.source().flush().during("converting audio")?;
            }
        }
        let mut packets = self.drain_graph()?;
        self.encoder.send_eof().during("encoding audio")?;
        self.drain_encoder(&mut packets);
        Ok(packets)
    }

    fn drain_decoder(&mut self) -> Result<(), FfmpegError> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        let mut frame = frame::Audio::empty();
        while decoder.receive_frame(&mut frame).is_ok() {
            let timestamp = frame.timestamp();
            frame.set_pts(timestamp);
            if let Some(mut input) = self.graph.get("in") {
                input.source().add(&frame).during("converting audio")?;
                self.started = true;
            }
        }
        Ok(())
    }

    fn drain_graph(&mut self) -> Result<Vec<Packet>, FfmpegError> {
        let mut packets = Vec::new();
        if !self.started {
            return Ok(packets);
        }
        while self.convert_one(&mut packets)? {}
        Ok(packets)
    }

    /// Moves one frame from the filters to the encoder; `false` when there is none.
    fn convert_one(&mut self, packets: &mut Vec<Packet>) -> Result<bool, FfmpegError> {
        let Some(mut output) = self.graph.get("out") else {
            return Ok(false);
        };
        let mut frame = frame::Audio::empty();
        if output.sink().frame(&mut frame).is_err() {
            return Ok(false);
        }
        self.encoder.send_frame(&frame).during("encoding audio")?;
        self.drain_encoder(packets);
        Ok(true)
    }

    fn drain_encoder(&mut self, packets: &mut Vec<Packet>) {
        let mut packet = Packet::empty();
        while self.encoder.receive_packet(&mut packet).is_ok() {
            packets.push(std::mem::replace(&mut packet, Packet::empty()));
        }
    }
}
