//! An FLV byte stream, as an encoder sends it over RTMP.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ff::{Dictionary, format::context::StreamIo};
use ffmpeg_next as ff;

use super::{
    Clock, Ended, Sink,
    demux::{Demuxer, Run, next_packet},
};
use crate::{
    ffmpeg::{self, During as _},
    packager::PackagerConfig,
    part::Resume,
};

/// Publishes an FLV stream until its end. Blocks: give it a thread. One that ends before
/// there is anything to publish is no error.
///
/// # Errors
/// When it is no FLV stream or its tracks cannot be used.
pub fn run_flv(
    reader: impl Read + Send + 'static,
    config: PackagerConfig,
    resume: Resume,
    clock: &mut dyn Clock,
    sink: &mut Sink<'_>,
) -> Ended {
    let over = Arc::new(AtomicBool::new(false));
    let noticed = Noticed {
        reader,
        over: over.clone(),
    };
    let mut silent = true;
    let mut heard = |item| {
        silent = false;
        sink(item)
    };
    let ended = run(noticed, config, resume, clock, &mut heard);
    match ended {
        // Cut off, it could not say what it is made of.
        Err(_) if silent && over.load(Ordering::Relaxed) => Ok(resume),
        Ok(_) | Err(_) => ended,
    }
}

fn run(
    reader: impl Read + Send + 'static,
    config: PackagerConfig,
    resume: Resume,
    clock: &mut dyn Clock,
    sink: &mut Sink<'_>,
) -> Ended {
    ffmpeg::start();
    let io = StreamIo::from_read_with_capacity(reader, 4096).during("opening the stream")?;
    let mut options = Dictionary::new();
    // Codecs are known from the sequence headers: a long look at the stream would only
    // delay it.
    options.set("analyzeduration", "400000");
    options.set("fpsprobesize", "0");
    let mut input = ff::format::input_from_stream(io, Some("live.flv"), Some(options))
        .during("reading the encoder's stream")?;
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
    while let Some(packet) = next_packet(&mut input)? {
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

/// A reader whose end is noticed.
struct Noticed<R> {
    reader: R,
    over: Arc<AtomicBool>,
}

impl<R: Read> Read for Noticed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        if read == 0 {
            self.over.store(true, Ordering::Relaxed);
        }
        Ok(read)
    }
}
