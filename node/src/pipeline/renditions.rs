//! The renditions of one source while they are made: streams of this node, and what the
//! broadcaster is told of them.
//!
//! When the source ends, so do they. When all its jobs are taken from this node, they are
//! withdrawn: that is no end, for a job may come back. Then they go on behind what was
//! published of them, so that nobody is given two parts with one position.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use headwater_media::{
    Packaged,
    hls::{Timeline, TimelineConfig},
    transcode::{Output, RungPlan},
};
use headwater_proto::{JobId, RenditionName, Signed, StreamId, TranscodeResult};
use headwater_protocol::Command;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{
    origin::{Complete, Origin, PlaylistTimes},
    served::Served,
    transcode::{JobError, Transcoding},
};
use crate::{clock, driver::CoreError, mutex::lock, receipts::Done};

/// Withdrawn renditions whose place is remembered; the oldest is forgotten for one more.
const MAX_LEFT: usize = 256;

/// How far a rendition had come when it was withdrawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// The first segment that nothing was published of.
    segment: u64,
    /// The first init that was not.
    init: u32,
    /// Discontinuities of its own.
    breaks: u32,
}

/// Places of withdrawn renditions, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Left(VecDeque<(StreamId, Place)>);

impl Left {
    fn put(&mut self, stream: StreamId, place: Place) {
        self.0.retain(|(known, _)| *known != stream);
        if self.0.len() >= MAX_LEFT {
            self.0.pop_front();
        }
        self.0.push_back((stream, place));
    }

    fn take(&mut self, stream: &StreamId) -> Option<Place> {
        let index = self.0.iter().position(|(known, _)| known == stream)?;
        self.0.remove(index).map(|(_, place)| place)
    }
}

/// One rendition that is being made.
struct Rung {
    name: String,
    bit_rate: u32,
    origin: Origin,
    numbers: Numbers,
}

/// How items of the encoder are numbered in a rendition.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    /// The first segment that is published: the ones before were when the job was here
    /// before.
    first: u64,
    /// How far it has come.
    place: Place,
    /// Number of the next segment, to notice holes.
    next: Option<u64>,
    /// Added to the source's inits.
    shift: u32,
}

impl Numbers {
    /// Goes on where a rendition was withdrawn, with another encoder.
    fn after(place: Place) -> Self {
        let breaks = place.breaks + 1;
        Self {
            first: place.segment,
            place: Place { breaks, ..place },
            ..Self::default()
        }
    }

    /// Numbers the next item; `false` when it is not to be published.
    fn number(&mut self, item: &mut Packaged) -> bool {
        match item {
            Packaged::Init(init) => {
                let used = self.place.init;
                self.shift = self.shift.max(used.saturating_sub(init.index));
                init.index += self.shift;
                self.place.init = init.index + 1;
            }
            Packaged::Part(part) => {
                if part.segment < self.first {
                    return false;
                }
                // A hole in the source is a discontinuity of the rendition.
                if part.index == 0 && self.next.is_some_and(|next| part.segment > next) {
                    self.place.breaks += 1;
                }
                part.discontinuity += self.place.breaks;
                part.init += self.shift;
                self.place.segment = part.segment + 1;
                self.next = Some(part.segment + u64::from(part.last));
            }
        }
        true
    }
}

/// See the module.
pub(super) struct Session {
    source: StreamId,
    rungs: Vec<Rung>,
    /// Renditions of an earlier plan, which may come again.
    idle: BTreeMap<String, Rung>,
    sequence: u64,
}

impl Session {
    /// No renditions yet.
    pub(super) fn new(source: &StreamId) -> Self {
        Self {
            source: source.clone(),
            rungs: Vec::new(),
            idle: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Publishes what the ladder makes, and tells the broadcaster of it.
    pub(super) async fn publish(
        &mut self,
        jobs: &Transcoding,
        mut output: mpsc::Receiver<Output>,
        served: &Mutex<Served>,
    ) -> Result<(), JobError> {
        while let Some(output) = output.recv().await {
            match output {
                Output::Plan(plan) => {
                    self.plan(jobs, plan).await?;
                    let names = self.rungs.iter().map(|rung| rung.name.clone());
                    jobs.set_renditions(&self.source, names.collect());
                }
                Output::Item { rung, item } => {
                    let last = matches!(&item, Packaged::Part(part) if part.last);
                    if let Some((done, of)) = self.item(rung, item, served).await? {
                        of.into_iter().for_each(|job| jobs.done(job, done));
                    }
                    if last {
                        self.tell(jobs, served).await?;
                    }
                }
                Output::Failed(error) => {
                    warn!(stream = %self.source, %error, "the source cannot be transcoded");
                }
            }
        }
        Ok(())
    }

    /// Ends the renditions: the source is over.
    pub(super) async fn finish(self) -> Result<(), JobError> {
        for rung in self.rungs.into_iter().chain(self.idle.into_values()) {
            rung.origin.finish().await?;
        }
        Ok(())
    }

    /// Makes the renditions no more, without an end: a job may come back.
    pub(super) async fn withdraw(self, jobs: &Transcoding) {
        for rung in self.rungs.into_iter().chain(self.idle.into_values()) {
            let stream = rung.origin.stream().clone();
            jobs.library.forget(&stream);
            if let Err(error) = rung.origin.withdraw().await {
                debug!(%stream, %error, "not withdrawn");
            }
            lock(&jobs.left).put(stream, rung.numbers.place);
        }
    }

    async fn plan(&mut self, jobs: &Transcoding, plan: Vec<RungPlan>) -> Result<(), JobError> {
        for rung in self.rungs.drain(..) {
            self.idle.insert(rung.name.clone(), rung);
        }
        for planned in plan {
            if let Some(rung) = self.idle.remove(&planned.name) {
                self.rungs.push(rung);
                continue;
            }
            let rendition: RenditionName = planned.name.parse()?;
            let stream = StreamId {
                node: jobs.key.node_id(),
                broadcast: self.source.broadcast,
                rendition,
            };
            let config = TimelineConfig {
                target_duration: jobs.config.packager.target_duration(),
                ..TimelineConfig::default()
            };
            let timeline = Arc::new(Mutex::new(Timeline::new(config)));
            jobs.library.host(&stream, timeline.clone());
            let left = lock(&jobs.left).take(&stream);
            let numbers = left.map_or_else(Numbers::default, Numbers::after);
            let origin =
                Origin::open(stream, jobs.key.clone(), jobs.core.clone(), timeline).await?;
            self.rungs.push(Rung {
                name: planned.name,
                bit_rate: u32::try_from(planned.bit_rate).unwrap_or(u32::MAX),
                origin,
                numbers,
            });
        }
        Ok(())
    }

    /// Publishes an item; when it completes a segment in all renditions, that is returned
    /// with the jobs for which it was done.
    async fn item(
        &mut self,
        rung: usize,
        mut item: Packaged,
        served: &Mutex<Served>,
    ) -> Result<Option<(Done, Vec<JobId>)>, JobError> {
        let count = self.rungs.len();
        let Some(rung) = self.rungs.get_mut(rung) else {
            return Ok(None);
        };
        if !rung.numbers.number(&mut item) {
            return Ok(None);
        }
        let Some(Complete { segment, hash }) = rung.origin.push(item).await? else {
            return Ok(None);
        };
        let name = &rung.origin.stream().rendition;
        Ok(lock(served).rendition(segment, name, hash, count))
    }

    /// Tells the broadcaster of renditions that have become playable or have changed, for
    /// each job.
    async fn tell(&mut self, jobs: &Transcoding, served: &Mutex<Served>) -> Result<(), JobError> {
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let times = PlaylistTimes {
            target_duration_ms: ms(jobs.config.packager.target_duration()),
            part_target_ms: ms(jobs.config.packager.part),
        };
        let rungs = self.rungs.iter();
        let renditions: Vec<_> = rungs
            .filter_map(|rung| rung.origin.rendition(times, rung.bit_rate))
            .collect();
        if renditions.len() < self.rungs.len() {
            return Ok(());
        }
        let streams: Vec<_> = renditions.iter().map(|r| r.stream.clone()).collect();
        let untold = lock(served).untold(&streams);
        for job in untold {
            self.sequence = clock::unix_ms().max(self.sequence + 1);
            let result = TranscodeResult {
                stream: self.source.clone(),
                job,
                transcoder: jobs.key.node_id(),
                sequence: self.sequence,
                renditions: renditions.clone(),
            };
            let body = Signed::sign(result, &jobs.key);
            match jobs.core.command(Command::Respond { body }).await {
                // The job may have ended meanwhile, and not alone.
                Err(CoreError::Refused(error)) => debug!(%job, %error, "no result"),
                result => drop(result?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use headwater_media::{Init, Part, Tracks};

    use super::*;

    fn init(index: u32) -> Packaged {
        Packaged::Init(Init {
            index,
            tracks: Tracks {
                video: None,
                audio: None,
            },
            data: bytes::Bytes::new(),
        })
    }

    fn part(segment: u64, index: u32, last: bool) -> Packaged {
        Packaged::Part(Part {
            segment,
            index,
            init: 2,
            discontinuity: 5,
            start: 0,
            duration: 1,
            program_date_time_ms: 0,
            independent: index == 0,
            last,
            data: bytes::Bytes::new(),
        })
    }

    /// The part as it is published, if it is.
    fn numbered(numbers: &mut Numbers, mut item: Packaged) -> Option<Part> {
        let published = numbers.number(&mut item);
        match item {
            Packaged::Part(part) => published.then_some(part),
            Packaged::Init(_) => None,
        }
    }

    #[test]
    fn a_rendition_that_comes_back_goes_on_behind_what_was_published() {
        let mut numbers = Numbers::default();
        assert!(numbers.number(&mut init(2)));
        for (segment, index, last) in [(7, 0, false), (7, 1, true), (8, 0, false)] {
            let part = numbered(&mut numbers, part(segment, index, last)).unwrap();
            assert_eq!((part.init, part.discontinuity), (2, 5));
        }

        let mut again = Numbers::after(numbers.place);
        let mut same = init(2);
        again.number(&mut same);

        assert!(matches!(same, Packaged::Init(init) if init.index == 3));
        assert_eq!(numbered(&mut again, part(7, 0, true)), None);
        assert_eq!(numbered(&mut again, part(8, 1, true)), None);
        let next = numbered(&mut again, part(9, 0, false)).unwrap();
        assert_eq!((next.segment, next.init, next.discontinuity), (9, 3, 6));
    }

    #[test]
    fn a_rendition_that_comes_back_twice_without_a_part_loses_nothing_of_its_place() {
        let place = Place {
            segment: 9,
            init: 3,
            breaks: 1,
        };

        let idle = Numbers::after(place);

        let again = Numbers::after(idle.place);
        assert_eq!((again.first, again.place.init), (9, 3));
        assert!(again.place.breaks > place.breaks);
    }

    #[test]
    fn a_hole_is_a_discontinuity_and_so_is_a_segment_that_was_cut_off() {
        let mut numbers = Numbers::default();
        numbered(&mut numbers, part(1, 0, true));
        let follows = numbered(&mut numbers, part(2, 0, false)).unwrap();
        assert_eq!(follows.discontinuity, 5);
        let cut = numbered(&mut numbers, part(3, 0, true)).unwrap();
        assert_eq!(cut.discontinuity, 6);
        let hole = numbered(&mut numbers, part(5, 0, true)).unwrap();
        assert_eq!(hole.discontinuity, 7);
    }

    #[test]
    fn places_of_a_few_hundred_renditions_are_kept_the_newest_for_longest() {
        let node = headwater_proto::SigningKey::from_bytes(&[1; 32]).node_id();
        let broadcast = headwater_proto::BroadcastId::from_bytes([0; 16]);
        let stream = |number: usize| StreamId {
            node,
            broadcast,
            rendition: format!("r{number}").parse().unwrap(),
        };
        let mut left = Left::default();
        for number in 0..=MAX_LEFT {
            let place = Place {
                segment: number as u64,
                ..Place::default()
            };
            left.put(stream(number), place);
        }

        assert_eq!(left.take(&stream(0)), None);
        assert_eq!(left.take(&stream(MAX_LEFT)).unwrap().segment, 256);
        assert_eq!(left.take(&stream(MAX_LEFT)), None, "it is taken once");
    }
}
