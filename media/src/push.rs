//! A file as an encoder: sent to an RTMP server in real time, as it is.

use std::{ops::ControlFlow, path::Path, time::Duration};

use ff::{
    Rescale as _,
    format::context::{Input, Output},
    media::Type,
};
use ffmpeg_next as ff;

use crate::{
    ffmpeg::{self, During as _, FfmpegError},
    ingest::{Clock, IngestError, best_video, open_file},
};

/// How far a push has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Media time sent.
    pub sent: Duration,
    /// Length of the file; zero when unknown.
    pub length: Duration,
}

/// Why a push ended early.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The file cannot be used.
    #[error(transparent)]
    Input(#[from] IngestError),
    /// FLV, in which RTMP carries media, has no place for its tracks.
    #[error(
        "RTMP cannot carry this file ({0}); make one of it that it can: \
         ffmpeg -i FILE -c:v libx264 -c:a aac -ar 48000 NEW.mp4"
    )]
    Unfit(String),
    /// The server cannot be reached, or refused the stream key.
    #[error("the server does not take the stream ({0}); check the address and the stream key")]
    Server(FfmpegError),
    /// The file cannot be read further.
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
}

const MICROS: ff::Rational = ff::Rational(1, 1_000_000);

/// Sends a file's best video and audio track; blocks until its end. The connection is
/// closed as an encoder does when its user stops it.
///
/// # Errors
/// When the file cannot be read, or the server refuses it or goes away.
pub fn run(
    path: &Path,
    url: &str,
    repeat: bool,
    clock: &mut dyn Clock,
    report: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<(), PushError> {
    ffmpeg::start();
    ff::format::network::init();
    let mut input = open_file(path)?;
    // What FLV cannot hold is known before a broadcast begins with it.
    let mut nowhere = ff::format::output_as("/dev/null", "flv").during("looking at the file")?;
    add_tracks(&input, &mut nowhere)?;
    nowhere
        .write_header()
        .map_err(|_| PushError::Unfit(codecs(&nowhere)))?;
    let mut output = ff::format::output_as(&url, "flv")
        .during("connecting")
        .map_err(PushError::Server)?;
    let length = Duration::from_micros(u64::try_from(input.duration()).unwrap_or(0));
    let tracks = add_tracks(&input, &mut output)?;
    output
        .write_header()
        .during("starting the stream")
        .map_err(PushError::Server)?;
    let mut offset = 0;
    let mut end = 0;
    let mut first = None;
    loop {
        let mut packet = ff::Packet::empty();
        match packet.read(&mut input) {
            Ok(()) => {}
            Err(ff::Error::Eof) if repeat && end > offset => {
                offset = end;
                input = open_file(path)?;
                continue;
            }
            Err(ff::Error::Eof) => break,
            Err(ff::Error::InvalidData) => continue,
            Err(error) => return Err(error).during("reading the file").map_err(Into::into),
        }
        let track = tracks.iter().find(|(from, _)| *from == packet.stream());
        let (Some((_, to)), Some(stream)) = (track, input.stream(packet.stream())) else {
            continue;
        };
        let base = stream.time_base();
        let time = packet
            .dts()
            .or(packet.pts())
            .unwrap_or(0)
            .rescale(base, MICROS);
        let start = *first.get_or_insert(time);
        let elapsed = time - start + offset;
        end = end.max(elapsed + packet.duration().rescale(base, MICROS));
        let sent = Duration::from_micros(u64::try_from(elapsed).unwrap_or(0));
        clock.wait_until(sent);
        let shift = (offset - start).rescale(MICROS, base);
        packet.set_pts(packet.pts().map(|pts| pts + shift));
        packet.set_dts(packet.dts().map(|dts| dts + shift));
        let target = output.stream(*to).map_or(base, |stream| stream.time_base());
        packet.rescale_ts(base, target);
        packet.set_stream(*to);
        packet.set_position(-1);
        packet
            .write_interleaved(&mut output)
            .during("sending")
            .map_err(PushError::Server)?;
        if report(Progress { sent, length }).is_break() {
            break;
        }
    }
    output
        .write_trailer()
        .during("ending the stream")
        .map_err(PushError::Server)
}

/// Adds the best video and audio track of a file; returns their numbers there and here.
fn add_tracks(input: &Input, output: &mut Output) -> Result<Vec<(usize, usize)>, FfmpegError> {
    let audio = input.streams().best(Type::Audio);
    let mut tracks = Vec::new();
    for stream in best_video(input).into_iter().chain(audio) {
        let mut parameters = stream.parameters();
        ffmpeg::clear_codec_tag(&mut parameters);
        let mut added = output
            .add_stream(ff::encoder::find(ff::codec::Id::None))
            .during("adding a track")?;
        added.set_parameters(parameters);
        if stream.avg_frame_rate().numerator() > 0 {
            added.set_avg_frame_rate(stream.avg_frame_rate());
        }
        tracks.push((stream.index(), added.index()));
    }
    Ok(tracks)
}

fn codecs(output: &Output) -> String {
    let names: Vec<_> = output
        .streams()
        .map(|stream| stream.parameters().id().name())
        .collect();
    names.join(", ")
}
