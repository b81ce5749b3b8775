//! What a job book's entries add up to. No I/O here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ethereum::election::elect,
    ledger::{Event, NewJob},
    types::{Address, Broadcaster, Job, JobId, JobState, Transcoder},
};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Register(Transcoder),
    Unregister(Address),
    Create(NewJob),
    Acknowledge(JobId),
    Reassign(JobId),
    End(JobId),
}

/// Everything that is settled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    transcoders: BTreeMap<Address, Transcoder>,
    jobs: BTreeMap<JobId, Job>,
    /// Of the entry that created the job.
    seeds: BTreeMap<JobId, [u8; 32]>,
}

impl State {
    pub(super) fn transcoder(&self, address: Address) -> Option<&Transcoder> {
        self.transcoders.get(&address)
    }

    pub(super) fn transcoders(&self) -> impl Iterator<Item = &Transcoder> {
        self.transcoders.values()
    }

    pub(super) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    pub(super) fn open_job_of(&self, stream: &str) -> Option<&Job> {
        let mut jobs = self.jobs.values();
        jobs.find(|job| job.stream == stream && job.state != JobState::Ended)
    }

    /// Applies an entry; `seed` is its checksum. An entry that makes no sense changes
    /// nothing, so that any sequence of entries has a meaning.
    pub(super) fn apply(&mut self, change: &Change, seed: [u8; 32]) -> Vec<Event> {
        match change {
            Change::Register(transcoder) => {
                self.transcoders
                    .insert(transcoder.address, transcoder.clone());
                let mut events = vec![Event::Registered(transcoder.clone())];
                let open = self.jobs.values().filter(|job| job.state == JobState::Open);
                let open: Vec<_> = open.map(|job| job.id).collect();
                for id in open {
                    events.extend(self.assign(id));
                }
                events
            }
            Change::Unregister(address) => {
                let gone = self.transcoders.remove(address);
                gone.map(|_| Event::Unregistered(*address))
                    .into_iter()
                    .collect()
            }
            Change::Create(new) => {
                if self.open_job_of(&new.stream).is_some() {
                    return Vec::new();
                }
                let last = self.jobs.last_key_value().map_or(0, |(id, _)| id.0);
                let id = JobId(last + 1);
                let job = Job {
                    id,
                    stream: new.stream.clone(),
                    broadcaster: Broadcaster::Node(new.broadcaster),
                    profiles: new.profiles.clone(),
                    max_price_per_segment: new.max_price_per_segment,
                    state: JobState::Open,
                    transcoder: None,
                    round: 0,
                    excluded: Vec::new(),
                };
                self.jobs.insert(id, job.clone());
                self.seeds.insert(id, seed);
                let created = Event::JobCreated(job);
                std::iter::once(created).chain(self.assign(id)).collect()
            }
            Change::Acknowledge(id) => {
                let job = self
                    .jobs
                    .get_mut(id)
                    .filter(|job| job.state == JobState::Assigned);
                let acknowledged = job.map(|job| {
                    job.state = JobState::Acknowledged;
                    Event::JobAcknowledged(job.clone())
                });
                acknowledged.into_iter().collect()
            }
            Change::Reassign(id) => {
                let Some(job) = self
                    .jobs
                    .get_mut(id)
                    .filter(|job| job.state != JobState::Ended)
                else {
                    return Vec::new();
                };
                job.excluded
                    .extend(job.transcoder.take().map(|t| t.address));
                job.state = JobState::Open;
                self.assign(*id).into_iter().collect()
            }
            Change::End(id) => {
                let job = self
                    .jobs
                    .get_mut(id)
                    .filter(|job| job.state != JobState::Ended);
                let ended = job.map(|job| {
                    job.state = JobState::Ended;
                    Event::JobEnded(job.clone())
                });
                ended.into_iter().collect()
            }
        }
    }

    /// Elects a transcoder for an open job.
    fn assign(&mut self, id: JobId) -> Option<Event> {
        let job = self.jobs.get_mut(&id)?;
        let seed = self.seeds.get(&id)?;
        let max = job.max_price_per_segment;
        let candidates = self.transcoders.values();
        let winner = elect(seed, job.round, candidates, max, &job.excluded)?;
        job.transcoder = Some(winner.clone());
        job.round += 1;
        job.state = JobState::Assigned;
        Some(Event::JobAssigned(job.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{NodeKey, Wei};

    fn changes() -> impl Strategy<Value = Change> {
        let job = || (1..6_u64).prop_map(JobId);
        prop_oneof![
            (0..4_u8, 0..4_u128, 0..3_u128).prop_map(|(n, price, stake)| {
                Change::Register(Transcoder {
                    address: Address([n; 20]),
                    node: NodeKey([n; 32]),
                    price_per_segment: Wei(price),
                    stake: Wei(stake),
                })
            }),
            (0..4_u8).prop_map(|n| Change::Unregister(Address([n; 20]))),
            (0..3_u8, 0..4_u128).prop_map(|(n, price)| {
                Change::Create(NewJob {
                    stream: format!("s{n}"),
                    broadcaster: NodeKey([n; 32]),
                    profiles: vec![],
                    max_price_per_segment: Wei(price),
                })
            }),
            job().prop_map(Change::Acknowledge),
            job().prop_map(Change::Reassign),
            job().prop_map(Change::End),
        ]
    }

    proptest! {
        #[test]
        fn any_sequence_of_entries_leaves_a_sound_state(
            changes in prop::collection::vec(changes(), 0..60),
        ) {
            let mut state = State::default();
            for (n, change) in changes.iter().enumerate() {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&n.to_be_bytes());
                state.apply(change, seed);
                for job in state.jobs() {
                    let held = job.transcoder.is_some();
                    let needs = matches!(job.state, JobState::Assigned | JobState::Acknowledged);
                    prop_assert!(held || !needs);
                    prop_assert!(job.state != JobState::Open || !held);
                    if let Some(holder) = &job.transcoder {
                        prop_assert!(holder.price_per_segment <= job.max_price_per_segment);
                        prop_assert!(!job.excluded.contains(&holder.address));
                    }
                    let twins = state.jobs().filter(|other| {
                        other.stream == job.stream && other.state != JobState::Ended
                    });
                    prop_assert!(twins.count() <= 1);
                }
            }
        }
    }
}
