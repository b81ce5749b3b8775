//! The renditions of one source while they are made: streams of this node, and what the
//! broadcaster is told of them.
//!
//! When the source ends, so do they. When all its jobs are taken from this node, they are
//! withdrawn: that is no end, for a job may come back. Then they go on behind what was
//! published of them, as they do after this node was killed, so that nobody is given two
//! parts with one position.

use std::{
    collections::BTreeMap,
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
use tracing::{debug, error, warn};

use super::{
    origin::{Complete, Origin, PlaylistTimes},
    place::Place,
    served::Served,
    transcode::{JobError, Transcoding},
};
use crate::{
    clock,
    driver::CoreError,
    mutex::lock,
    receipts::Done,
    store::{RenditionsPlace, Store, StoreError},
};

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
    /// Behind what was published of it when it was made before.
    from: Place,
    /// Number of the next segment, to notice holes.
    next: Option<u64>,
    /// Added to the source's inits.
    shift: u32,
    /// Added to the source's discontinuities.
    breaks: u32,
    /// The first init that was not used.
    init: u32,
}

impl Numbers {
    /// Goes on behind a place, with another encoder.
    fn after(from: Place) -> Self {
        Self {
            from,
            init: from.init,
            ..Self::default()
        }
    }

    /// Numbers the next item; `false` when it is not to be published.
    fn number(&mut self, item: &mut Packaged) -> bool {
        match item {
            Packaged::Init(init) => {
                self.shift = self.shift.max(self.init.saturating_sub(init.index));
                init.index += self.shift;
                self.init = init.index + 1;
            }
            Packaged::Part(part) => {
                if part.segment < self.from.segment {
                    return false;
                }
                match self.next {
                    None => {
                        let before = self.from.discontinuity;
                        self.breaks = before.saturating_sub(part.discontinuity);
                    }
                    // A hole in the source is a discontinuity of the rendition.
                    Some(next) if part.index == 0 && part.segment > next => self.breaks += 1,
                    Some(_) => {}
                }
                part.discontinuity += self.breaks;
                part.init += self.shift;
                self.next = Some(part.segment + u64::from(part.last));
            }
        }
        true
    }
}

/// A place that is written down in the store, for a later run of the node as well.
pub(super) struct Kept {
    store: Arc<Store>,
    source: String,
    place: Place,
}

impl Kept {
    /// Where the renditions of a source were left.
    fn open(store: Arc<Store>, source: &StreamId) -> Result<Self, StoreError> {
        let source = source.to_string();
        let known = store.renditions_place(&source)?;
        let place = known.map_or_else(Place::default, |known| Place {
            segment: known.segment,
            init: known.init,
            discontinuity: known.discontinuity,
        });
        Ok(Self {
            store,
            source,
            place,
        })
    }

    /// An item is about to be published.
    fn before(&mut self, item: &Packaged) {
        let place = self.place.before(item);
        self.write(place);
    }

    /// An item was published.
    fn after(&mut self, item: &Packaged) {
        let place = self.place.after(item);
        self.write(place);
    }

    fn write(&self, place: Option<Place>) {
        let Some(place) = place else { return };
        let place = RenditionsPlace {
            segment: place.segment,
            init: place.init,
            discontinuity: place.discontinuity,
            at_ms: clock::unix_ms(),
        };
        let source = &self.source;
        if let Err(error) = self.store.put_renditions_place(source, &place) {
            error!(source, %error, "the place of the renditions cannot be remembered");
        }
    }
}

/// See the module.
pub(super) struct Session {
    source: StreamId,
    rungs: Vec<Rung>,
    /// Renditions of an earlier plan, which may come again.
    idle: BTreeMap<String, Rung>,
    /// Behind what was published before this.
    from: Place,
    kept: Kept,
    sequence: u64,
}

impl Session {
    /// No renditions yet.
    pub(super) fn new(store: Arc<Store>, source: &StreamId) -> Result<Self, StoreError> {
        let kept = Kept::open(store, source)?;
        Ok(Self {
            source: source.clone(),
            rungs: Vec::new(),
            idle: BTreeMap::new(),
            from: kept.place,
            kept,
            sequence: 0,
        })
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
            let origin =
                Origin::open(stream, jobs.key.clone(), jobs.core.clone(), timeline).await?;
            self.rungs.push(Rung {
                name: planned.name,
                bit_rate: u32::try_from(planned.bit_rate).unwrap_or(u32::MAX),
                origin,
                numbers: Numbers::after(self.from),
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
        self.kept.before(&item);
        let complete = rung.origin.push(item.clone()).await?;
        self.kept.after(&item);
        let Some(Complete { segment, hash }) = complete else {
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

        let mut again = Numbers::after(Place {
            segment: 9,
            init: 3,
            discontinuity: 6,
        });
        let mut same = init(2);
        again.number(&mut same);

        assert!(matches!(same, Packaged::Init(init) if init.index == 3));
        assert_eq!(numbered(&mut again, part(7, 0, true)), None);
        assert_eq!(numbered(&mut again, part(8, 1, true)), None);
        let next = numbered(&mut again, part(9, 0, false)).unwrap();
        assert_eq!((next.segment, next.init, next.discontinuity), (9, 3, 6));
        let hole = numbered(&mut again, part(11, 0, false)).unwrap();
        assert_eq!(hole.discontinuity, 7);
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

    fn source() -> StreamId {
        StreamId {
            node: headwater_proto::SigningKey::from_bytes(&[1; 32]).node_id(),
            broadcast: headwater_proto::BroadcastId::from_bytes([0; 16]),
            rendition: "source".parse().unwrap(),
        }
    }

    /// The database as it is after kill -9 at this moment.
    fn killed(dir: &std::path::Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            let at = copy.path().join(folder.strip_prefix(dir).unwrap());
            std::fs::create_dir_all(&at).unwrap();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    std::fs::copy(&path, at.join(path.file_name().unwrap())).unwrap();
                }
            }
        }
        copy
    }

    /// What a run makes of segments of a source, in order, as it is published by two
    /// renditions of which one is a part behind the other.
    fn made(kept: &Kept, segments: std::ops::Range<u64>) -> Vec<(usize, Packaged)> {
        let parts = segments.flat_map(|segment| (0..2).map(move |part| (segment, part)));
        let parts = parts.map(|(segment, index)| part(segment, index, index == 1));
        let items: Vec<_> = std::iter::once(init(2)).chain(parts).collect();
        let mut rungs = [Numbers::after(kept.place); 2];
        let mut published = Vec::new();
        for at in 0..=items.len() {
            for (rung, index) in [(0_usize, Some(at)), (1, at.checked_sub(1))] {
                let item = index.and_then(|index| items.get(index).cloned());
                let Some(mut item) = item else { continue };
                if rungs[rung].number(&mut item) {
                    published.push((rung, item));
                }
            }
        }
        published
    }

    /// The slots of what is published, with the discontinuity of a part.
    fn slot((rung, item): &(usize, Packaged)) -> (usize, u64, u32, u32) {
        match item {
            Packaged::Init(init) => (*rung, u64::MAX, init.index, 0),
            Packaged::Part(part) => (*rung, part.segment, part.index, part.discontinuity),
        }
    }

    #[test]
    fn whoever_is_killed_publishes_nothing_twice_when_it_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let mut kept = Kept::open(store, &source()).unwrap();
        let all = made(&kept, 7..10);
        let mut published = std::collections::BTreeSet::new();
        for item in &all {
            kept.before(&item.1);
            let (rung, segment, index, discontinuity) = slot(item);
            published.insert((rung, segment, index));
            // Before and after it could be written that the item is published.
            for _ in 0..2 {
                let copy = killed(dir.path());
                let store = Arc::new(Store::open(copy.path()).unwrap());
                let again = made(&Kept::open(store, &source()).unwrap(), 7..14);
                for item in &again {
                    let (rung, segment, index, breaks) = slot(item);
                    assert!(!published.contains(&(rung, segment, index)), "{item:?}");
                    assert!(segment == u64::MAX || breaks > discontinuity, "{item:?}");
                }
                // It waits for the segment after the one that is under way at most.
                let first = again.iter().find(|item| slot(item).1 != u64::MAX);
                assert!(slot(first.unwrap()).1 <= published_segment(&published) + 2);
                kept.after(&item.1);
            }
        }
    }

    /// The newest segment of what is published.
    fn published_segment(published: &std::collections::BTreeSet<(usize, u64, u32)>) -> u64 {
        let segments = published.iter().map(|(_, segment, _)| *segment);
        segments
            .filter(|segment| *segment != u64::MAX)
            .max()
            .unwrap_or(6)
    }
}
