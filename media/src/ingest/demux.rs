//! Opening an input, choosing its tracks, and feeding their packets to a packager.

use std::path::Path;

use ff::{Packet, format::context::Input, media::Type};
use ffmpeg_next as ff;

use super::{IngestError, Sink, audio::AudioEncoder};
use crate::{
    codec,
    ffmpeg::{self, During as _, FfmpegError, details},
    fragment::{InputTrack, InputTracks, Kind},
    packager::{Cuts, PackageError, Packager, PackagerConfig},
    part::{Packaged, Resume, Tracks},
};

/// What a file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The tracks that are used, as they will be published.
    pub tracks: Tracks,
    /// Its length; zero when unknown.
    pub duration: std::time::Duration,
}

/// Looks at a file without publishing it.
///
/// # Errors
/// When it cannot be read, is no media file, or has no track that can be used.
pub fn probe(path: &Path) -> Result<Probe, IngestError> {
    let input = open_file(path)?;
    let duration = u64::try_from(input.duration()).unwrap_or(0);
    let demuxer = Demuxer::new(&input)?;
    let tracks = demuxer.tracks.describe().map_err(PackageError::codec)?;
    Ok(Probe {
        tracks,
        duration: std::time::Duration::from_micros(duration),
    })
}

pub(crate) fn open_file(path: &Path) -> Result<Input, IngestError> {
    ffmpeg::start();
    let name = || path.display().to_string();
    // FFmpeg's own errors for a missing file and a directory say less.
    let meta = std::fs::File::open(path).and_then(|file| file.metadata());
    let meta = meta.map_err(|reason| IngestError::Read {
        path: name(),
        reason,
    })?;
    if meta.is_dir() {
        let reason = std::io::ErrorKind::IsADirectory.into();
        return Err(IngestError::Read {
            path: name(),
            reason,
        });
    }
    let input = ff::format::input(path).map_err(|_| IngestError::NotMedia { path: name() })?;
    // Some demuxers make a picture of any text, or a film of one picture.
    let format = input.format().name().to_owned();
    let still = format == "tty" || format.starts_with("image2") || format.ends_with("_pipe");
    let known = |stream: ff::Stream<'_>| stream.parameters().id() != ff::codec::Id::None;
    if still || !input.streams().any(known) {
        return Err(IngestError::NotMedia { path: name() });
    }
    Ok(input)
}

/// Packets of the chosen tracks of one input.
pub(super) struct Demuxer {
    pub(super) tracks: InputTracks,
    video: Option<usize>,
    audio: Option<usize>,
    encoder: Option<AudioEncoder>,
}

impl Demuxer {
    pub(super) fn new(input: &Input) -> Result<Self, IngestError> {
        let video = best_video(input);
        let audio = input.streams().best(Type::Audio);
        let mut tracks = InputTracks {
            video: video.as_ref().map(track),
            audio: audio.as_ref().map(track),
        };
        let mut encoder = None;
        if let Some(audio) = &mut tracks.audio {
            let playable = codec::name(audio.parameters.id(), &details(&audio.parameters));
            if playable.is_none() || audio.parameters.id() != ff::codec::Id::AAC {
                let made = AudioEncoder::from_packets(audio)?;
                *audio = made.track();
                encoder = Some(made);
            }
        }
        if tracks.video.is_none() && tracks.audio.is_none() {
            return Err(PackageError::NoTracks.into());
        }
        Ok(Self {
            video: video.map(|stream| stream.index()),
            audio: audio.map(|stream| stream.index()),
            tracks,
            encoder,
        })
    }

    /// Hands a packet to the packager, audio encoded first if it has to be.
    pub(super) fn push(
        &mut self,
        packet: Packet,
        packager: &mut Packager,
        out: &mut Vec<Packaged>,
    ) -> Result<(), PackageError> {
        if Some(packet.stream()) == self.video {
            packager.push(Kind::Video, packet, out)?;
        } else if Some(packet.stream()) == self.audio {
            match &mut self.encoder {
                None => packager.push(Kind::Audio, packet, out)?,
                Some(encoder) => {
                    for packet in encoder.push_packet(&packet)? {
                        packager.push(Kind::Audio, packet, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands over what the audio encoder still holds.
    pub(super) fn finish(
        &mut self,
        packager: &mut Packager,
        out: &mut Vec<Packaged>,
    ) -> Result<(), PackageError> {
        if let Some(encoder) = &mut self.encoder {
            for packet in encoder.finish()? {
                packager.push(Kind::Audio, packet, out)?;
            }
        }
        Ok(())
    }

    pub(super) fn is_leader(&self, packet: &Packet) -> bool {
        let leader = self.video.or(self.audio);
        Some(packet.stream()) == leader
    }
}

/// The best video stream that is moving pictures, not a cover.
pub(crate) fn best_video(input: &Input) -> Option<ff::Stream<'_>> {
    let cover = ff::format::stream::Disposition::ATTACHED_PIC;
    let moving = |stream: &ff::Stream<'_>| !stream.disposition().contains(cover);
    let best = input.streams().best(Type::Video).filter(moving);
    best.or_else(|| {
        input
            .streams()
            .filter(|stream| stream.parameters().medium() == Type::Video)
            .find(moving)
    })
}

fn track(stream: &ff::Stream<'_>) -> InputTrack {
    InputTrack {
        parameters: stream.parameters(),
        time_base: stream.time_base(),
        frame_rate: stream.avg_frame_rate(),
    }
}

/// Reads an input to its end, or until the sink says stop.
pub(super) struct Run<'a, 'b> {
    pub(super) config: PackagerConfig,
    pub(super) resume: Resume,
    pub(super) epoch_ms: u64,
    pub(super) sink: &'a mut Sink<'b>,
}

impl Run<'_, '_> {
    pub(super) fn packager(&self, tracks: &InputTracks) -> Result<Packager, PackageError> {
        let cuts = Cuts::Found {
            resume: self.resume,
            epoch_ms: self.epoch_ms,
        };
        Packager::new(self.config, tracks, cuts)
    }

    /// Hands items on; `true` when the sink wants no more.
    pub(super) fn emit(&mut self, out: &mut Vec<Packaged>) -> bool {
        out.drain(..).any(|item| (self.sink)(item).is_break())
    }
}

/// The next packet; `None` at the end of the input.
pub(super) fn next_packet(input: &mut Input) -> Result<Option<Packet>, FfmpegError> {
    /// Broken packets in a row that end an input.
    const MAX_BROKEN: u32 = 64;
    let mut broken = 0;
    loop {
        let mut packet = Packet::empty();
        match packet.read(input) {
            Ok(()) => return Ok(Some(packet)),
            Err(ff::Error::Eof | ff::Error::Exit) => return Ok(None),
            Err(ff::Error::InvalidData) if broken < MAX_BROKEN => broken += 1,
            Err(error) => return Err(error).during("reading the input"),
        }
    }
}
