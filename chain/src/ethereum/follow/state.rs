//! What the contract's events add up to, and how to take the last of them back.

use std::collections::{BTreeMap, BTreeSet};

use super::happened::{Created, Happened};
use crate::{
    Event,
    ethereum::election::elect,
    types::{Address, Broadcaster, Job, JobId, JobState, NodeKey, Transcoder, Wei},
};

/// Ended jobs that are remembered; older ones are as if they had never been.
const ENDED: usize = 4096;

/// All that is settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ethereum) struct State {
    jobs: BTreeMap<JobId, JobEntry>,
    transcoders: BTreeMap<Address, TranscoderEntry>,
    ended: BTreeSet<JobId>,
}

/// A job with what only the chain has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ethereum) struct JobEntry {
    pub(in crate::ethereum) job: Job,
    /// The block whose hash elects, or elected.
    pub(in crate::ethereum) seed_block: u64,
    /// The block of the last assignment.
    pub(in crate::ethereum) assigned_at: u64,
    /// The block from which anyone may end it.
    pub(in crate::ethereum) expires_at: u64,
}

/// A transcoder, with its terms before the last change: an election goes by those that
/// held before its seed was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TranscoderEntry {
    node: NodeKey,
    terms: Terms,
    before: Terms,
    changed_at: u64,
}

/// Without stake it takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Terms {
    stake: Wei,
    price: Wei,
}

/// What an event replaced.
#[derive(Debug, Clone)]
pub(in crate::ethereum) enum Undo {
    Job(JobId, Option<Box<JobEntry>>),
    Transcoder(Address, Option<TranscoderUndo>),
}

/// As opaque as it need be outside.
#[derive(Debug, Clone)]
pub(in crate::ethereum) struct TranscoderUndo(TranscoderEntry);

/// What a block's events come to.
#[derive(Debug, Default)]
pub(in crate::ethereum) struct Applied {
    pub(in crate::ethereum) events: Vec<Event>,
    pub(in crate::ethereum) undo: Vec<Undo>,
    /// What does not fit together, in words.
    pub(in crate::ethereum) doubts: Vec<String>,
}

impl State {
    pub(in crate::ethereum) fn job(&self, id: JobId) -> Option<&JobEntry> {
        self.jobs.get(&id)
    }

    pub(in crate::ethereum) fn jobs(&self) -> impl Iterator<Item = &JobEntry> {
        self.jobs.values()
    }

    /// The job that will be created next.
    pub(in crate::ethereum) fn next_job(&self) -> JobId {
        let last = self.jobs.keys().next_back();
        JobId(last.map_or(1, |last| last.0.saturating_add(1)))
    }

    /// Who takes part in elections, by address.
    pub(in crate::ethereum) fn transcoders(&self) -> impl Iterator<Item = Transcoder> {
        self.transcoders
            .iter()
            .filter(|(_, entry)| entry.terms.stake > Wei(0))
            .map(|(address, entry)| entry.transcoder(*address, entry.terms))
    }

    /// Applies what happened in a block. What makes no sense changes nothing and is doubted.
    pub(in crate::ethereum) fn apply(&mut self, block: u64, happened: &[Happened]) -> Applied {
        let mut applied = Applied::default();
        for one in happened {
            if self.apply_one(block, one, &mut applied).is_none() {
                let doubt = format!("block {block}: {one:?} is of something unknown");
                applied.doubts.push(doubt);
            }
        }
        applied
    }

    /// Takes back what a block did.
    pub(in crate::ethereum) fn take_back(&mut self, undo: Vec<Undo>) {
        for one in undo.into_iter().rev() {
            match one {
                Undo::Job(id, entry) => drop(self.put_job(id, entry.map(|entry| *entry))),
                Undo::Transcoder(address, Some(TranscoderUndo(entry))) => {
                    self.transcoders.insert(address, entry);
                }
                Undo::Transcoder(address, None) => {
                    self.transcoders.remove(&address);
                }
            }
        }
    }

    fn apply_one(&mut self, block: u64, one: &Happened, applied: &mut Applied) -> Option<()> {
        match one {
            Happened::Registered {
                transcoder,
                node,
                price,
                stake,
            } => self.register(block, *transcoder, *node, [*price, *stake], applied),
            Happened::Unregistered(address) => {
                let mut entry = *self.transcoders.get(address)?;
                entry.change(block, Terms::default());
                self.set_transcoder(*address, entry, applied);
                applied.events.push(Event::Unregistered(*address));
            }
            Happened::Slashed {
                transcoder,
                stake,
                active,
            } => self.slash(block, *transcoder, *stake, *active, applied)?,
            Happened::Created(created) => self.create(created, applied),
            Happened::SeedChosen { job, block } => {
                self.change(*job, applied, |entry| entry.seed_block = *block)?;
            }
            Happened::Assigned { job, .. } => {
                let entry = self.jobs.get(job)?.clone();
                self.assign(block, entry, one, applied);
            }
            Happened::Acknowledged(id) => {
                let job = self.change(*id, applied, |entry| {
                    entry.job.state = JobState::Acknowledged;
                })?;
                applied.events.push(Event::JobAcknowledged(job));
            }
            Happened::Unassigned { job, transcoder } => {
                let job = self.change(*job, applied, |entry| {
                    entry.job.excluded.push(*transcoder);
                    entry.job.transcoder = None;
                    entry.job.state = JobState::Open;
                })?;
                applied.events.push(Event::JobUnassigned(job));
            }
            Happened::Extended { job, expires_at } => {
                self.change(*job, applied, |entry| entry.expires_at = *expires_at)?;
            }
            Happened::Ended(id) => {
                let job = self.change(*id, applied, |entry| entry.job.state = JobState::Ended)?;
                applied.events.push(Event::JobEnded(job));
                if self.ended.len() > ENDED
                    && let Some(oldest) = self.ended.first().copied()
                {
                    let before = self.put_job(oldest, None).map(Box::new);
                    applied.undo.push(Undo::Job(oldest, before));
                }
            }
            Happened::Other => {}
        }
        Some(())
    }

    fn register(
        &mut self,
        block: u64,
        address: Address,
        node: NodeKey,
        [price, stake]: [Wei; 2],
        applied: &mut Applied,
    ) {
        let terms = Terms { stake, price };
        let mut entry = self.transcoders.get(&address).copied();
        let entry = entry.get_or_insert(TranscoderEntry {
            node,
            terms: Terms::default(),
            before: Terms::default(),
            changed_at: 0,
        });
        entry.node = node;
        if entry.terms != terms {
            entry.change(block, terms);
        }
        self.set_transcoder(address, *entry, applied);
        let registered = entry.transcoder(address, terms);
        applied.events.push(Event::Registered(registered));
    }

    fn slash(
        &mut self,
        block: u64,
        address: Address,
        stake: Wei,
        active: bool,
        applied: &mut Applied,
    ) -> Option<()> {
        let mut entry = *self.transcoders.get(&address)?;
        let took_part = entry.terms.stake > Wei(0);
        if active {
            entry.terms.stake = stake;
            entry.before.stake = entry.before.stake.min(stake);
            let changed = entry.transcoder(address, entry.terms);
            applied.events.push(Event::Registered(changed));
        } else {
            entry.change(block, Terms::default());
            entry.before = Terms::default();
            if took_part {
                applied.events.push(Event::Unregistered(address));
            }
        }
        self.set_transcoder(address, entry, applied);
        Some(())
    }

    fn create(&mut self, created: &Created, applied: &mut Applied) {
        let job = Job {
            id: created.job,
            stream: created.stream.clone(),
            broadcaster: Broadcaster::Account(created.account),
            profiles: created.profiles.clone(),
            max_price_per_segment: created.max_price,
            state: JobState::Open,
            transcoder: None,
            round: 0,
            excluded: Vec::new(),
        };
        let entry = JobEntry {
            job: job.clone(),
            seed_block: 0,
            assigned_at: 0,
            expires_at: created.expires_at,
        };
        let before = self.put_job(job.id, Some(entry)).map(Box::new);
        applied.undo.push(Undo::Job(job.id, before));
        applied.events.push(Event::JobCreated(job));
    }

    /// Gives a job to whom the contract gave it, and recomputes whether that was right.
    fn assign(&mut self, block: u64, entry: JobEntry, one: &Happened, applied: &mut Applied) {
        let Happened::Assigned {
            job: id,
            transcoder,
            node,
            price,
            round,
            seed_block,
            seed,
        } = one
        else {
            return;
        };
        let candidates = self.candidates(*seed_block);
        let JobEntry { mut job, .. } = entry;
        let winner = elect(
            seed,
            *round,
            &candidates,
            job.max_price_per_segment,
            &job.excluded,
        );
        let right = winner.is_some_and(|winner| {
            winner.address == *transcoder && winner.price_per_segment == *price
        });
        if !right || job.round != *round || entry.seed_block != *seed_block {
            let elected = winner.map_or_else(|| "nobody".into(), |w| w.address.to_string());
            applied.doubts.push(format!(
                "block {block}: job {id} round {round} went to {transcoder}, but its seed elects {elected}"
            ));
        }
        let stake = self
            .transcoders
            .get(transcoder)
            .map_or(Wei(0), |entry| entry.terms.stake);
        job.transcoder = Some(Transcoder {
            address: *transcoder,
            node: *node,
            price_per_segment: *price,
            stake,
        });
        job.state = JobState::Assigned;
        job.round = round.saturating_add(1);
        let assigned = JobEntry {
            job: job.clone(),
            assigned_at: block,
            ..entry
        };
        let before = self.put_job(*id, Some(assigned)).map(Box::new);
        applied.undo.push(Undo::Job(*id, before));
        applied.events.push(Event::JobAssigned(job));
    }

    /// Everyone with the terms as they were just before a block.
    fn candidates(&self, seed_block: u64) -> Vec<Transcoder> {
        let then = |(address, entry): (&Address, &TranscoderEntry)| {
            let changed_before = entry.changed_at < seed_block;
            let terms = if changed_before {
                entry.terms
            } else {
                entry.before
            };
            entry.transcoder(*address, terms)
        };
        self.transcoders.iter().map(then).collect()
    }

    /// Changes a job; gives it as it is then.
    fn change(
        &mut self,
        id: JobId,
        applied: &mut Applied,
        change: impl FnOnce(&mut JobEntry),
    ) -> Option<Job> {
        let mut entry = self.jobs.get(&id)?.clone();
        change(&mut entry);
        let job = entry.job.clone();
        let before = self.put_job(id, Some(entry)).map(Box::new);
        applied.undo.push(Undo::Job(id, before));
        Some(job)
    }

    fn set_transcoder(&mut self, address: Address, entry: TranscoderEntry, applied: &mut Applied) {
        let before = self.transcoders.insert(address, entry).map(TranscoderUndo);
        applied.undo.push(Undo::Transcoder(address, before));
    }

    /// The only place that changes jobs. Gives what was there.
    fn put_job(&mut self, id: JobId, entry: Option<JobEntry>) -> Option<JobEntry> {
        if entry
            .as_ref()
            .is_some_and(|entry| entry.job.state == JobState::Ended)
        {
            self.ended.insert(id);
        } else {
            self.ended.remove(&id);
        }
        match entry {
            Some(entry) => self.jobs.insert(id, entry),
            None => self.jobs.remove(&id),
        }
    }
}

impl TranscoderEntry {
    fn change(&mut self, block: u64, terms: Terms) {
        self.before = std::mem::replace(&mut self.terms, terms);
        self.changed_at = block;
    }

    fn transcoder(&self, address: Address, terms: Terms) -> Transcoder {
        Transcoder {
            address,
            node: self.node,
            price_per_segment: terms.price,
            stake: terms.stake,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = Address> {
        (0..4_u8).prop_map(|n| Address([n; 20]))
    }

    fn happened() -> impl Strategy<Value = Happened> {
        let job = || (1..5_u64).prop_map(JobId);
        prop_oneof![
            (address(), 0..3_u128, 1..4_u128).prop_map(|(transcoder, price, stake)| {
                Happened::Registered {
                    transcoder,
                    node: NodeKey([transcoder.0[0]; 32]),
                    price: Wei(price),
                    stake: Wei(stake),
                }
            }),
            address().prop_map(Happened::Unregistered),
            (address(), 0..3_u128, any::<bool>()).prop_map(|(transcoder, stake, active)| {
                Happened::Slashed {
                    transcoder,
                    stake: Wei(stake),
                    active,
                }
            }),
            (job(), address())
                .prop_map(|(job, account)| Happened::Created(Box::new(created(job, account)))),
            (job(), 0..50_u64).prop_map(|(job, block)| Happened::SeedChosen { job, block }),
            (job(), address(), any::<u32>(), any::<[u8; 32]>()).prop_map(
                |(job, transcoder, round, seed)| Happened::Assigned {
                    job,
                    transcoder,
                    node: NodeKey([1; 32]),
                    price: Wei(1),
                    round,
                    seed_block: 3,
                    seed,
                }
            ),
            job().prop_map(Happened::Acknowledged),
            (job(), address())
                .prop_map(|(job, transcoder)| Happened::Unassigned { job, transcoder }),
            (job(), any::<u64>())
                .prop_map(|(job, expires_at)| Happened::Extended { job, expires_at }),
            job().prop_map(Happened::Ended),
            Just(Happened::Other),
        ]
    }

    fn created(job: JobId, account: Address) -> Created {
        Created {
            job,
            account,
            stream: format!("s{job}"),
            profiles: vec!["360p".into()],
            max_price: Wei(2),
            expires_at: 1000,
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_back_never_was(
            blocks in prop::collection::vec(prop::collection::vec(happened(), 0..6), 1..40),
            keep in any::<prop::sample::Index>(),
        ) {
            let keep = keep.index(blocks.len());
            let (mut state, mut undo, mut kept) = (State::default(), Vec::new(), State::default());
            for (number, block) in (1..).zip(&blocks) {
                if undo.len() == keep {
                    kept = state.clone();
                }
                undo.push(state.apply(number, block).undo);
            }
            for block in undo.drain(keep..).rev() {
                state.take_back(block);
            }
            prop_assert_eq!(state, kept);
        }
    }

    #[test]
    fn an_election_is_judged_by_the_terms_before_its_seed() {
        let [early, late] = [Address([1; 20]), Address([2; 20])];
        let registered = |transcoder| Happened::Registered {
            transcoder,
            node: NodeKey([9; 32]),
            price: Wei(1),
            stake: Wei(1),
        };
        let assigned = |transcoder| Happened::Assigned {
            job: JobId(1),
            transcoder,
            node: NodeKey([9; 32]),
            price: Wei(1),
            round: 0,
            seed_block: 11,
            seed: [7; 32],
        };
        let mut state = State::default();
        state.apply(5, &[registered(early)]);
        let job = created(JobId(1), early);
        let seed = Happened::SeedChosen {
            job: JobId(1),
            block: 11,
        };
        state.apply(10, &[Happened::Created(Box::new(job)), seed]);
        // Whoever comes with the seed's block or later counts for nothing.
        state.apply(11, &[registered(late)]);

        let right = state.clone().apply(12, &[assigned(early)]);
        let wrong = state.apply(12, &[assigned(late)]);

        assert_eq!(right.doubts, Vec::<String>::new());
        assert_eq!(wrong.doubts.len(), 1, "a wrong election is doubted");
        assert!(
            matches!(&wrong.events[..], [Event::JobAssigned(_)]),
            "and followed"
        );
    }

    #[test]
    fn only_so_many_ended_jobs_are_remembered_and_that_can_be_taken_back() {
        let mut state = State::default();
        let many = u64::try_from(ENDED).unwrap() + 1;
        for id in (1..=many).map(JobId) {
            let job = created(id, Address([1; 20]));
            state.apply(
                id.0,
                &[Happened::Created(Box::new(job)), Happened::Ended(id)],
            );
        }
        assert_eq!(state.jobs().count(), ENDED);
        assert!(state.job(JobId(1)).is_none());

        let job = created(JobId(many + 1), Address([1; 20]));
        let ended = Happened::Ended(job.job);
        let applied = state.apply(many + 1, &[Happened::Created(Box::new(job)), ended]);
        assert!(state.job(JobId(2)).is_none());
        state.take_back(applied.undo);
        assert!(state.job(JobId(2)).is_some());
    }
}
