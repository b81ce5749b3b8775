//! The jobs that one transcoding serves: which segments are done for each, and which
//! renditions its broadcaster was told of for it.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{JobId, Position, RenditionName, StreamId};

use crate::receipts::{Done, Segments};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Served {
    segments: Segments,
    /// The newest segment of the source of which something came.
    newest: Option<u64>,
    jobs: BTreeMap<JobId, Job>,
}

#[derive(Debug)]
struct Job {
    /// The segment that was under way when it joined: it is not done for this job, nor is
    /// any before it.
    after: Option<u64>,
    told: Vec<StreamId>,
}

impl Served {
    /// Its work begins with the next segment.
    pub(super) fn join(&mut self, job: JobId) {
        let after = self.newest;
        let told = Vec::new();
        self.jobs.entry(job).or_insert(Job { after, told });
    }

    pub(super) fn leave(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    pub(super) fn jobs(&self) -> BTreeSet<JobId> {
        self.jobs.keys().copied().collect()
    }

    /// A part of the source came; `last` is that of its segment.
    pub(super) fn source(&mut self, position: Position, last: bool, chunks: &[impl AsRef<[u8]>]) {
        self.newest = self.newest.max(Some(position.segment));
        self.segments.source(position, last, chunks);
    }

    /// A rendition of a segment is whole; `of` renditions are made. When all are, and the
    /// source was whole, the segment is done for these jobs.
    pub(super) fn rendition(
        &mut self,
        number: u64,
        name: &RenditionName,
        hash: [u8; 32],
        of: usize,
    ) -> Option<(Done, Vec<JobId>)> {
        let (source, renditions) = self.segments.rendition(number, name, hash, of)?;
        let done = Done {
            number,
            source,
            renditions,
        };
        let since = |job: &Job| job.after.is_none_or(|after| number > after);
        let jobs = self.jobs.iter().filter(|(_, job)| since(job));
        Some((done, jobs.map(|(id, _)| *id).collect()))
    }

    /// The jobs whose broadcaster does not know yet that these are the renditions. From now
    /// on it does.
    pub(super) fn untold(&mut self, renditions: &[StreamId]) -> Vec<JobId> {
        let untold = self
            .jobs
            .iter_mut()
            .filter(|(_, job)| job.told != renditions);
        untold
            .map(|(id, job)| {
                job.told = renditions.to_vec();
                *id
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use headwater_proto::{BroadcastId, SigningKey};

    use super::*;

    const FIRST: JobId = JobId(1);
    const SECOND: JobId = JobId(2);

    fn name() -> RenditionName {
        "720p".parse().unwrap()
    }

    /// A whole segment of the source.
    fn source(served: &mut Served, segment: u64) {
        served.source(Position { segment, part: 0 }, true, &[b"a"]);
    }

    fn done(served: &mut Served, segment: u64) -> Vec<JobId> {
        let done = served.rendition(segment, &name(), [1; 32], 1);
        done.map_or(Vec::new(), |(_, jobs)| jobs)
    }

    #[test]
    fn each_job_is_paid_from_the_segment_on_that_begins_after_it_joined() {
        let mut served = Served::default();
        served.join(FIRST);
        source(&mut served, 4);
        served.source(
            Position {
                segment: 5,
                part: 0,
            },
            false,
            &[b"a"],
        );
        served.join(SECOND);
        served.source(
            Position {
                segment: 5,
                part: 1,
            },
            true,
            &[b"b"],
        );
        source(&mut served, 6);

        // The encoder is behind: it makes now what came before the second job.
        assert_eq!(done(&mut served, 4), [FIRST]);
        assert_eq!(done(&mut served, 5), [FIRST]);
        assert_eq!(done(&mut served, 6), [FIRST, SECOND]);

        source(&mut served, 7);
        served.leave(FIRST);
        assert_eq!(done(&mut served, 7), [SECOND]);
        assert_eq!(served.jobs(), BTreeSet::from([SECOND]));
    }

    #[test]
    fn the_broadcaster_is_told_once_for_each_job_and_anew_for_one_that_comes_back() {
        let stream = |name: &str| StreamId {
            node: SigningKey::from_bytes(&[1; 32]).node_id(),
            broadcast: BroadcastId::from_bytes([0; 16]),
            rendition: name.parse().unwrap(),
        };
        let made = [stream("720p")];
        let mut served = Served::default();
        served.join(FIRST);
        assert_eq!(served.untold(&made), [FIRST]);
        served.join(SECOND);
        assert_eq!(served.untold(&made), [SECOND]);
        served.join(FIRST);
        assert_eq!(served.untold(&made), []);

        assert_eq!(served.untold(&[stream("480p")]), [FIRST, SECOND]);
        served.leave(FIRST);
        served.join(FIRST);
        assert_eq!(served.untold(&[stream("480p")]), [FIRST]);
    }
}
