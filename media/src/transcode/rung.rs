//! One rung: scaled, encoded, packaged like its source.

use std::collections::VecDeque;

use ff::{
    Dictionary, Packet, Rational, codec,
    format::Pixel,
    frame, picture,
    software::scaling::{Context as Scaler, Flags},
};
use ffmpeg_next as ff;

use super::RungPlan;
use crate::{
    ffmpeg::{During as _, FfmpegError},
    fragment::{InputTrack, InputTracks, Kind},
    packager::{Cuts, Mark, PackageError, Packager, PackagerConfig},
    part::Packaged,
};

pub(super) struct Rung {
    plan: RungPlan,
    scaler: Option<Scaler>,
    encoder: codec::encoder::video::Encoder,
    packager: Packager,
    last_pts: Option<i64>,
}

impl Rung {
    pub(super) fn new(
        plan: RungPlan,
        frame_rate: Rational,
        audio: Option<InputTrack>,
        config: PackagerConfig,
        init: u32,
    ) -> Result<Self, PackageError> {
        let encoder = open_encoder(&plan, frame_rate)?;
        let video = InputTrack {
            parameters: codec::Parameters::from(&encoder),
            time_base: InputTracks::video_base(),
            frame_rate,
        };
        let tracks = InputTracks {
            video: Some(video),
            audio,
        };
        let cuts = Cuts::Given {
            init,
            marks: VecDeque::new(),
            current: None,
        };
        Ok(Self {
            plan,
            scaler: None,
            encoder,
            packager: Packager::new(config, &tracks, cuts)?,
            last_pts: None,
        })
    }

    /// Announces the source's next segment.
    pub(super) fn mark(&mut self, mark: Mark) {
        self.packager.mark(mark);
    }

    /// Scales and encodes a frame; returns the scaled one for the next lower rung.
    pub(super) fn push(
        &mut self,
        from: &frame::Video,
        key: bool,
        out: &mut Vec<Packaged>,
    ) -> Result<frame::Video, PackageError> {
        let mut scaled = self.scale(from)?;
        let kind = if key {
            picture::Type::I
        } else {
            picture::Type::None
        };
        scaled.set_kind(kind);
        // x264 refuses times that do not rise.
        let pts = from.pts().unwrap_or(0);
        if self.last_pts.is_none_or(|last| pts > last) {
            self.last_pts = Some(pts);
            self.encoder.send_frame(&scaled).during("encoding")?;
            self.drain(out)?;
        }
        Ok(scaled)
    }

    /// Takes an audio packet of the source as it is.
    pub(super) fn push_audio(
        &mut self,
        packet: Packet,
        out: &mut Vec<Packaged>,
    ) -> Result<(), PackageError> {
        self.packager.push(Kind::Audio, packet, out)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Packaged>) -> Result<(), PackageError> {
        self.encoder.send_eof().during("encoding")?;
        self.drain(out)?;
        self.packager.finish(out)?;
        Ok(())
    }

    fn drain(&mut self, out: &mut Vec<Packaged>) -> Result<(), PackageError> {
        let mut packet = Packet::empty();
        while self.encoder.receive_packet(&mut packet).is_ok() {
            let packet = std::mem::replace(&mut packet, Packet::empty());
            self.packager.push(Kind::Video, packet, out)?;
        }
        Ok(())
    }

    fn scale(&mut self, from: &frame::Video) -> Result<frame::Video, FfmpegError> {
        const TO: Pixel = Pixel::YUV420P;
        let fits = |scaler: &Scaler| {
            let input = scaler.input();
            (input.format, input.width, input.height)
                == (from.format(), from.width(), from.height())
        };
        let (width, height) = (self.plan.width, self.plan.height);
        let scaler = match self.scaler.take().filter(fits) {
            Some(scaler) => scaler,
            None => Scaler::get(
                from.format(),
                from.width(),
                from.height(),
                TO,
                width,
                height,
                Flags::BICUBIC,
            )
            .during("scaling")?,
        };
        let mut scaled = frame::Video::empty();
        self.scaler
            .insert(scaler)
            .run(from, &mut scaled)
            .during("scaling")?;
        scaled.set_pts(from.pts());
        Ok(scaled)
    }
}

fn open_encoder(
    plan: &RungPlan,
    frame_rate: Rational,
) -> Result<codec::encoder::video::Encoder, FfmpegError> {
    const DOING: &str = "opening x264";
    let codec = ff::encoder::find_by_name("libx264").ok_or(ff::Error::EncoderNotFound);
    let codec = codec.during(DOING)?;
    let mut context = codec::Context::new_with_codec(codec);
    context.set_flags(codec::Flags::GLOBAL_HEADER);
    let mut encoder = context.encoder().video().during(DOING)?;
    encoder.set_width(plan.width);
    encoder.set_height(plan.height);
    encoder.set_format(Pixel::YUV420P);
    encoder.set_time_base(InputTracks::video_base());
    // x264 spreads bits by it; a wrong guess costs a little quality.
    let known = frame_rate.numerator() > 0;
    encoder.set_frame_rate(Some(if known { frame_rate } else { Rational(30, 1) }));
    encoder.set_bit_rate(plan.bit_rate);
    encoder.set_max_bit_rate(plan.bit_rate);
    // Key frames come where the source's segments begin, and nowhere else.
    encoder.set_gop(3600);
    let mut options = Dictionary::new();
    options.set("preset", "veryfast");
    options.set("forced-idr", "1");
    options.set("sc_threshold", "0");
    // Without B-frames decode and presentation times agree with the source's, and the
    // look-ahead costs a third of a second instead of two.
    options.set("bf", "0");
    options.set("rc-lookahead", "10");
    options.set("bufsize", &plan.bit_rate.to_string());
    encoder.open_as_with(codec, options).during(DOING)
}
