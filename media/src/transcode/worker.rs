//! The thread of one transcoding: demuxes, decodes once, feeds every rung.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use bytes::{Buf as _, Bytes};
use ff::{
    Dictionary, Packet, Rational, Rescale as _, codec, format::context::StreamIo, frame,
    media::Type,
};
use ffmpeg_next as ff;
use tokio::sync::mpsc;

use super::{Ladder, RungPlan, plan, rung::Rung};
use crate::{
    ffmpeg::{self, During as _},
    fragment::{InputTrack, InputTracks},
    packager::{Mark, PackageError, PackagerConfig},
    part::{Init, Packaged, TIMESCALE},
};

/// Source items that may wait for the decoder: about 25 s.
const INPUT_ITEMS: usize = 128;
/// Made items that may wait for whoever publishes them.
const OUTPUT_ITEMS: usize = 256;

/// What comes out of a transcoder.
#[derive(Debug)]
pub enum Output {
    /// The renditions that follow, highest first; again when the source changes. Empty
    /// when the source has no video.
    Plan(Vec<RungPlan>),
    /// The next item of a rendition.
    Item {
        /// Its place in the plan.
        rung: usize,
        /// The item.
        item: Packaged,
    },
    /// The source cannot be transcoded (any more).
    Failed(PackageError),
}

/// How far a transcoder has come.
#[derive(Debug, Default)]
pub struct TranscoderStats {
    taken: AtomicU64,
    made: AtomicU64,
    broken: AtomicU64,
}

impl TranscoderStats {
    /// Media time between what was taken in and what has come out, in milliseconds.
    #[must_use]
    pub fn lag_ms(&self) -> u64 {
        let (taken, made) = (&self.taken, &self.made);
        let ticks = taken
            .load(Ordering::Relaxed)
            .saturating_sub(made.load(Ordering::Relaxed));
        ticks * 1000 / u64::from(TIMESCALE)
    }

    /// Packets that did not decode.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }
}

/// Where a source goes in; dropping it ends the transcoding after what was taken.
#[derive(Debug, Clone)]
pub struct TranscoderInput {
    items: mpsc::Sender<Packaged>,
    stats: Arc<TranscoderStats>,
}

impl TranscoderInput {
    /// Takes the next item of the source, waiting for room. `false` when the
    /// transcoder has ended. Cancel-safe.
    pub async fn push(&self, item: Packaged) -> bool {
        self.items.send(item).await.is_ok()
    }

    /// Takes the next item of the source if there is room for it.
    #[must_use]
    pub fn try_push(&self, item: Packaged) -> bool {
        self.items.try_send(item).is_ok()
    }

    /// How far it has come.
    #[must_use]
    pub fn stats(&self) -> &TranscoderStats {
        &self.stats
    }
}

/// Makes a ladder of renditions of one stream.
#[derive(Debug)]
pub struct Transcoder;

impl Transcoder {
    /// Starts a thread that transcodes what is put in, from the first key frame on.
    ///
    /// # Errors
    /// When the machine gives no thread.
    pub fn start(
        ladder: Ladder,
        config: PackagerConfig,
    ) -> std::io::Result<(TranscoderInput, mpsc::Receiver<Output>)> {
        let (items, source) = mpsc::channel(INPUT_ITEMS);
        let (out, made) = mpsc::channel(OUTPUT_ITEMS);
        let stats = Arc::new(TranscoderStats::default());
        let worker = Worker {
            feed: Arc::new(Mutex::new(Feed::new(source, stats.clone()))),
            ladder,
            config,
            out,
            stats: stats.clone(),
        };
        thread::Builder::new()
            .name("transcode".into())
            .spawn(move || worker.run())?;
        Ok((TranscoderInput { items, stats }, made))
    }
}

/// The source as a byte stream, with the places of its segments on the side.
struct Feed {
    source: mpsc::Receiver<Packaged>,
    /// Bytes of the present item that the demuxer has not read.
    rest: Bytes,
    /// An init that begins another stream of bytes.
    next: Option<Init>,
    marks: VecDeque<Mark>,
    started: bool,
    stats: Arc<TranscoderStats>,
}

impl Feed {
    fn new(source: mpsc::Receiver<Packaged>, stats: Arc<TranscoderStats>) -> Self {
        Self {
            source,
            rest: Bytes::new(),
            next: None,
            marks: VecDeque::new(),
            started: false,
            stats,
        }
    }

    /// Waits for the init of the next stream of bytes; `None` at the end.
    fn begin(&mut self) -> Option<Init> {
        self.started = false;
        self.marks.clear();
        loop {
            if let Some(init) = self.next.take() {
                self.rest = init.data.clone();
                return Some(init);
            }
            if let Packaged::Init(init) = self.source.blocking_recv()? {
                self.next = Some(init);
            }
        }
    }

    /// Waits until there are bytes; `false` at the end of this stream of bytes.
    fn fill(&mut self) -> bool {
        while self.rest.is_empty() {
            if self.next.is_some() {
                return false;
            }
            match self.source.blocking_recv() {
                None => return false,
                Some(Packaged::Init(init)) => self.next = Some(init),
                Some(Packaged::Part(part)) => {
                    // Decoding begins at a key frame.
                    self.started |= part.index == 0 && part.independent;
                    if !self.started {
                        continue;
                    }
                    if part.index == 0 {
                        self.marks.push_back(Mark {
                            segment: part.segment,
                            start: i64::try_from(part.start).unwrap_or(i64::MAX),
                            discontinuity: part.discontinuity,
                            program_date_time_ms: part.program_date_time_ms,
                        });
                    }
                    let end = part.start + u64::from(part.duration);
                    self.stats.taken.store(end, Ordering::Relaxed);
                    self.rest = part.data;
                }
            }
        }
        true
    }
}

struct FeedReader(Arc<Mutex<Feed>>);

fn lock(feed: &Mutex<Feed>) -> MutexGuard<'_, Feed> {
    feed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for FeedReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut feed = lock(&self.0);
        if !feed.fill() {
            return Ok(0);
        }
        let len = feed.rest.len().min(into.len());
        feed.rest.copy_to_slice(&mut into[..len]);
        Ok(len)
    }
}

struct Worker {
    feed: Arc<Mutex<Feed>>,
    ladder: Ladder,
    config: PackagerConfig,
    out: mpsc::Sender<Output>,
    stats: Arc<TranscoderStats>,
}

impl Worker {
    fn run(self) {
        ffmpeg::start();
        loop {
            let Some(init) = lock(&self.feed).begin() else {
                return;
            };
            match self.stream(&init) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // Nobody listens any more when this fails.
                    drop(self.out.blocking_send(Output::Failed(error)));
                    return;
                }
            }
        }
    }

    /// Transcodes until the source's next init or its end; `false` when nobody takes
    /// what is made.
    fn stream(&self, init: &Init) -> Result<bool, PackageError> {
        let io = StreamIo::from_read(FeedReader(self.feed.clone())).during("opening the source")?;
        let mut options = Dictionary::new();
        options.set("fpsprobesize", "0");
        options.set("analyzeduration", "1");
        let mut input = ff::format::input_from_stream(io, Some("source.mp4"), Some(options))
            .during("opening the source")?;
        let rungs = plan(&init.tracks, &self.ladder);
        if self.out.blocking_send(Output::Plan(rungs.clone())).is_err() {
            return Ok(false);
        }
        let Some(video) = input.streams().best(Type::Video) else {
            return Ok(self.skip(&mut input));
        };
        let frame_rate = match init.tracks.video.as_ref().map(|v| v.frame_rate_milli) {
            Some(milli) => exact_rate(milli),
            None => Rational(0, 1),
        };
        let audio = input.streams().best(Type::Audio);
        let audio_track = audio.as_ref().map(|stream| InputTrack {
            parameters: stream.parameters(),
            time_base: stream.time_base(),
            frame_rate: Rational(0, 1),
        });
        let rungs: Result<Vec<_>, _> = rungs
            .into_iter()
            .map(|plan| {
                Rung::new(
                    plan,
                    frame_rate,
                    audio_track.clone(),
                    self.config,
                    init.index,
                )
            })
            .collect();
        let mut context =
            codec::Context::from_parameters(video.parameters()).during("opening the decoder")?;
        context.set_threading(codec::threading::Config::kind(
            codec::threading::Type::Frame,
        ));
        let decoder = context.decoder().video().during("opening the decoder")?;
        let mut session = Session {
            worker: self,
            video: video.index(),
            audio: audio.map(|stream| stream.index()),
            base: video.time_base(),
            decoder,
            rungs: rungs?,
            marks: VecDeque::new(),
        };
        session.run(&mut input)
    }

    /// Reads a source without video to its end.
    fn skip(&self, input: &mut ff::format::context::Input) -> bool {
        let mut packet = Packet::empty();
        while packet.read(input).is_ok() {
            if self.out.is_closed() {
                return false;
            }
        }
        true
    }
}

/// Frame rates that come as thousandths but are fractions of 1001.
fn exact_rate(milli: u32) -> Rational {
    let milli = i32::try_from(milli).unwrap_or(i32::MAX);
    match milli {
        23_976 => Rational(24_000, 1001),
        29_970 => Rational(30_000, 1001),
        59_940 => Rational(60_000, 1001),
        milli => Rational(milli, 1000),
    }
}

struct Session<'a> {
    worker: &'a Worker,
    video: usize,
    audio: Option<usize>,
    base: Rational,
    decoder: codec::decoder::Video,
    rungs: Vec<Rung>,
    marks: VecDeque<Mark>,
}

impl Session<'_> {
    fn run(&mut self, input: &mut ff::format::context::Input) -> Result<bool, PackageError> {
        loop {
            let mut packet = Packet::empty();
            match packet.read(input) {
                Ok(()) => {}
                Err(ff::Error::InvalidData) => {
                    self.worker.stats.broken.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(_) => break,
            }
            if packet.stream() == self.video {
                if self.decoder.send_packet(&packet).is_err() {
                    self.worker.stats.broken.fetch_add(1, Ordering::Relaxed);
                }
                if !self.frames()? {
                    return Ok(false);
                }
            } else if Some(packet.stream()) == self.audio && !self.sound(&packet)? {
                return Ok(false);
            }
        }
        // A decoder that is asked to end gives what it still holds.
        self.decoder.send_eof().during("decoding")?;
        if !self.frames()? {
            return Ok(false);
        }
        for at in 0..self.rungs.len() {
            let mut out = Vec::new();
            self.rungs[at].finish(&mut out)?;
            if !self.emit(at, out) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take_marks(&mut self) {
        let new: Vec<_> = lock(&self.worker.feed).marks.drain(..).collect();
        for mark in new {
            for rung in &mut self.rungs {
                rung.mark(mark);
            }
            self.marks.push_back(mark);
        }
    }

    fn frames(&mut self) -> Result<bool, PackageError> {
        let mut frame = frame::Video::empty();
        while self.decoder.receive_frame(&mut frame).is_ok() {
            let Some(time) = frame.timestamp().or(frame.pts()) else {
                continue;
            };
            let pts = time.rescale(self.base, InputTracks::video_base());
            frame.set_pts(Some(pts));
            self.take_marks();
            let mut key = false;
            while self.marks.front().is_some_and(|mark| mark.start <= pts) {
                self.marks.pop_front();
                key = true;
            }
            // Each rung is scaled from the one above it.
            let mut from = std::mem::replace(&mut frame, frame::Video::empty());
            for at in 0..self.rungs.len() {
                let mut out = Vec::new();
                from = self.rungs[at].push(&from, key, &mut out)?;
                if !self.emit(at, out) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn sound(&mut self, packet: &Packet) -> Result<bool, PackageError> {
        self.take_marks();
        for at in 0..self.rungs.len() {
            let mut out = Vec::new();
            self.rungs[at].push_audio(packet.clone(), &mut out)?;
            if !self.emit(at, out) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn emit(&self, rung: usize, out: Vec<Packaged>) -> bool {
        for item in out {
            if let Packaged::Part(part) = &item {
                let end = part.start + u64::from(part.duration);
                self.worker.stats.made.store(end, Ordering::Relaxed);
            }
            let output = Output::Item { rung, item };
            if self.worker.out.blocking_send(output).is_err() {
                return false;
            }
        }
        true
    }
}
