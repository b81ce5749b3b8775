//! Whether the transcoders of this node's jobs are there: one that stays silent is asked,
//! and one that does not answer, or answers but brings nothing, loses the job.

use std::{collections::BTreeMap, time::Duration};

use headwater_chain::{Job, JobId, JobState, NodeKey};
use headwater_protocol::Time;

use super::holder_of;

/// So often in a row an answer excuses silence.
const EXCUSES: u32 = 2;

/// What this node knows of the transcoders of its jobs.
#[derive(Debug)]
pub(super) struct Oversight {
    patience: Duration,
    jobs: BTreeMap<JobId, Overseen>,
}

#[derive(Debug)]
struct Overseen {
    job: Job,
    holder: NodeKey,
    /// When it was elected, last worked or last answered.
    heard: Time,
    excuses: u32,
    /// It is being asked.
    asked: bool,
}

impl Oversight {
    /// No jobs yet. A transcoder that is silent for `patience` is asked.
    pub(super) const fn new(patience: Duration) -> Self {
        Self {
            patience,
            jobs: BTreeMap::new(),
        }
    }

    /// What the ledger says of a job of this node.
    pub(super) fn told(&mut self, job: &Job, now: Time) {
        let Some(holder) = holder_of(job) else {
            self.jobs.remove(&job.id);
            return;
        };
        match self.jobs.get_mut(&job.id) {
            Some(overseen) if overseen.holder == holder && overseen.job.round == job.round => {
                overseen.job = job.clone();
                if job.state == JobState::Acknowledged {
                    overseen.heard = now;
                }
            }
            Some(_) | None => {
                let overseen = Overseen {
                    job: job.clone(),
                    holder,
                    heard: now,
                    excuses: 0,
                    asked: false,
                };
                self.jobs.insert(job.id, overseen);
            }
        }
    }

    /// Forgets all jobs: the ledger took some back, and tells all again.
    pub(super) fn clear(&mut self) {
        self.jobs.clear();
    }

    /// A transcoder claimed its job, or told of renditions it makes.
    pub(super) fn worked(&mut self, job: JobId, transcoder: NodeKey, now: Time) {
        if let Some(overseen) = self.of(job, transcoder) {
            overseen.heard = now;
            overseen.excuses = 0;
        }
    }

    /// The jobs whose transcoders are to be asked now whether they are there. Nothing is
    /// expected of them while a stream does not go on.
    pub(super) fn due(&mut self, now: Time, goes_on: impl Fn(&str) -> bool) -> Vec<Job> {
        let mut due = Vec::new();
        for overseen in self.jobs.values_mut() {
            if !goes_on(&overseen.job.stream) {
                overseen.heard = now;
            } else if !overseen.asked && now.since(overseen.heard) >= self.patience {
                overseen.asked = true;
                due.push(overseen.job.clone());
            }
        }
        due
    }

    /// What a transcoder answered, or that it did not. `true` when it is to be replaced;
    /// then it is not asked again until that has been tried.
    pub(super) fn answered(
        &mut self,
        job: JobId,
        transcoder: NodeKey,
        there: bool,
        now: Time,
    ) -> bool {
        let patience = self.patience;
        let Some(overseen) = self.of(job, transcoder) else {
            return false;
        };
        // It may have begun to work while it was asked.
        let works = now.since(overseen.heard) < patience;
        if !works {
            overseen.heard = now;
            overseen.excuses += 1;
        }
        overseen.asked = !works && (!there || overseen.excuses > EXCUSES);
        overseen.asked
    }

    /// It was tried to replace a transcoder.
    pub(super) fn looked_after(&mut self, job: JobId, transcoder: NodeKey, now: Time) {
        if let Some(overseen) = self.of(job, transcoder) {
            overseen.asked = false;
            overseen.heard = now;
        }
    }

    fn of(&mut self, job: JobId, transcoder: NodeKey) -> Option<&mut Overseen> {
        let overseen = self.jobs.get_mut(&job)?;
        (overseen.holder == transcoder).then_some(overseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::tests::assigned;

    const FIRST: NodeKey = NodeKey([1; 32]);
    const SECOND: NodeKey = NodeKey([2; 32]);

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn overseeing() -> Oversight {
        let mut oversight = Oversight::new(Duration::from_secs(10));
        oversight.told(&assigned(Some(FIRST), 1), at(0));
        oversight
    }

    fn asked(oversight: &mut Oversight, seconds: u64) -> usize {
        oversight.due(at(seconds), |_| true).len()
    }

    #[test]
    fn one_that_is_silent_is_asked_once_and_replaced_when_it_does_not_answer() {
        let mut oversight = overseeing();
        assert_eq!(asked(&mut oversight, 9), 0);
        assert_eq!(asked(&mut oversight, 10), 1);
        assert_eq!(asked(&mut oversight, 30), 0, "it is being asked");

        assert!(oversight.answered(JobId(1), FIRST, false, at(31)));
        assert_eq!(asked(&mut oversight, 300), 0, "it is being replaced");
        oversight.looked_after(JobId(1), FIRST, at(300));
        assert_eq!(asked(&mut oversight, 309), 0);
        assert_eq!(asked(&mut oversight, 310), 1, "there was no other");
    }

    #[test]
    fn one_that_works_is_never_asked() {
        let mut oversight = overseeing();
        for second in 1..100 {
            oversight.worked(JobId(1), FIRST, at(second));
            assert_eq!(asked(&mut oversight, second + 9), 0);
        }
    }

    #[test]
    fn answers_alone_excuse_only_some_silence() {
        let mut oversight = overseeing();
        let mut replaced = Vec::new();
        for round in 1..=3 {
            assert_eq!(asked(&mut oversight, round * 10), 1, "{round}");
            replaced.push(oversight.answered(JobId(1), FIRST, true, at(round * 10)));
        }
        assert_eq!(replaced, [false, false, true]);
    }

    #[test]
    fn one_that_begins_to_work_while_it_is_asked_stays() {
        let mut oversight = overseeing();
        assert_eq!(asked(&mut oversight, 10), 1);
        oversight.worked(JobId(1), FIRST, at(11));
        assert!(!oversight.answered(JobId(1), FIRST, false, at(12)));
    }

    #[test]
    fn the_next_one_has_time_of_its_own() {
        let mut oversight = overseeing();
        assert_eq!(asked(&mut oversight, 10), 1);
        oversight.told(&assigned(Some(SECOND), 2), at(12));

        assert!(!oversight.answered(JobId(1), FIRST, false, at(13)));
        assert_eq!(asked(&mut oversight, 21), 0);
        assert_eq!(asked(&mut oversight, 22), 1);
    }

    #[test]
    fn nothing_is_expected_without_a_holder_or_a_stream() {
        let mut oversight = overseeing();
        assert!(oversight.due(at(50), |_| false).is_empty());
        assert_eq!(
            asked(&mut oversight, 59),
            0,
            "the stream has just come back"
        );

        oversight.told(&assigned(None, 1), at(60));
        assert_eq!(asked(&mut oversight, 100), 0);
    }
}
