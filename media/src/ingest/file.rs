//! A file as a live stream.

use std::{path::Path, time::Duration};

use ff::Rescale as _;
use ffmpeg_next as ff;

use super::{
    Clock, Ended, Sink,
    demux::{Demuxer, Run, next_packet, open_file},
};
use crate::{packager::PackagerConfig, part::Resume};

/// How a file is played out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileOptions {
    /// As fast as it is read, rather than in real time.
    pub fast: bool,
    /// Begin again at its end, without a break.
    pub repeat: bool,
}

/// Publishes a file until its end. Blocks: give it a thread.
///
/// # Errors
/// When the file cannot be read, is no media file, or its video is in a codec that
/// browsers cannot play.
pub fn run_file(
    path: &Path,
    options: FileOptions,
    config: PackagerConfig,
    resume: Resume,
    clock: &mut dyn Clock,
    sink: &mut Sink<'_>,
) -> Ended {
    let mut input = open_file(path)?;
    let mut demuxer = Demuxer::new(&input)?;
    let epoch_ms = clock.unix_ms();
    let mut run = Run {
        config,
        resume,
        epoch_ms,
        sink,
    };
    let mut packager = run.packager(&demuxer.tracks)?;
    let mut out = Vec::new();
    let mut round = Round::default();
    loop {
        let Some(mut packet) = next_packet(&mut input)? else {
            if options.repeat && round.next() {
                input = open_file(path)?;
                continue;
            }
            break;
        };
        let Some(stream) = input.stream(packet.stream()) else {
            continue;
        };
        let base = stream.time_base();
        round.shift(&mut packet, base);
        if !options.fast && demuxer.is_leader(&packet) {
            clock.wait_until(round.elapsed(&packet, base));
        }
        demuxer.push(packet, &mut packager, &mut out)?;
        if run.emit(&mut out) {
            break;
        }
    }
    demuxer.finish(&mut packager, &mut out)?;
    let resume = packager.finish(&mut out)?;
    run.emit(&mut out);
    Ok(resume)
}

/// Repetitions of one file on one timeline, in microseconds.
#[derive(Debug, Default)]
struct Round {
    first: Option<i64>,
    offset: i64,
    end: i64,
    packets: u64,
}

const MICROS: ff::Rational = ff::Rational(1, 1_000_000);

impl Round {
    fn shift(&mut self, packet: &mut ff::Packet, base: ff::Rational) {
        let offset = self.offset.rescale(MICROS, base);
        packet.set_pts(packet.pts().map(|time| time + offset));
        packet.set_dts(packet.dts().map(|time| time + offset));
        let Some(time) = packet.dts().or(packet.pts()) else {
            return;
        };
        let micros = time.rescale(base, MICROS);
        self.first.get_or_insert(micros);
        let length = packet.duration().max(1).rescale(base, MICROS);
        self.end = self.end.max(micros + length);
        self.packets += 1;
    }

    fn elapsed(&self, packet: &ff::Packet, base: ff::Rational) -> Duration {
        let time = packet
            .dts()
            .or(packet.pts())
            .unwrap_or(0)
            .rescale(base, MICROS);
        let since = time - self.first.unwrap_or(time);
        Duration::from_micros(u64::try_from(since).unwrap_or(0))
    }

    /// Begins again after the end; `false` when there was nothing to repeat.
    fn next(&mut self) -> bool {
        self.offset = self.end - self.first.unwrap_or(0).min(0);
        std::mem::take(&mut self.packets) > 0
    }
}
