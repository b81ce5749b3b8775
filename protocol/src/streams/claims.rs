//! The claims of the jobs that take a stream at this transcoder: when each is made and
//! sent (again).
//!
//! A TranscodeSub has two duties. It subscribes, like a Sub, and it tells the broadcaster
//! that a transcoder of its job wants to be fed, and where it can be dialled. The relays
//! on the way may fulfil the first and lose the second, so each job goes on claiming for
//! as long as its broadcaster is not linked:
//!
//! | stage | the claim of a job goes | and again |
//! |---|---|---|
//! | Searching | that of the leading job as the subscription, to the next hop | in the next attempt |
//! | Asked | that of the leading job as the subscription again, to the same neighbour | after [`crate::Config::job_retry`] |
//! | fed by relays | beside the subscription, towards the broadcaster | after [`crate::Config::claim_refresh`] |
//! | fed, and the broadcaster does not take the job's result | beside the subscription: the broadcaster may have forgotten it | at once |
//! | any, with the broadcaster linked | once, over that link | when the link is lost: at once |
//!
//! Jobs that do not lead claim beside the subscription in every stage. Every claim is asked
//! of the driver anew, so its sequence grows and its addresses and its expiry are fresh.

use std::collections::BTreeMap;

use headwater_proto::{JobId, Message, StreamId, TranscodeSub, limits::MAX_HOPS};

use super::{
    stage::Stage,
    stream::{Source, Stream},
    upstream::{Parent, ParentState, Role, SignedClaim},
};
use crate::{
    cx::{Cx, Retry},
    output::Priority,
    routing::Asker,
    time::Time,
};

/// How far one job's claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The search makes it when it needs it.
    Waits,
    /// It is made at that time.
    Due(Time),
    /// The driver makes it.
    Making,
    /// The broadcaster was told over a link of its own, which is still up.
    Told,
}

/// One job's claim.
#[derive(Debug)]
struct Claim {
    progress: Progress,
    retry: Retry,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    jobs: BTreeMap<JobId, Claim>,
    /// The job whose claim the last search subscribed with.
    led: Option<JobId>,
}

impl Claims {
    /// A job begins to take the stream, which may be coming already.
    pub(crate) fn begin(&mut self, cx: &Cx, job: JobId, live: bool) {
        let plan = if live {
            cx.config.claim_refresh
        } else {
            cx.config.job_retry
        };
        self.jobs.entry(job).or_insert_with(|| Claim {
            progress: Progress::Due(cx.now),
            retry: Retry::new(plan),
        });
    }

    pub(crate) fn end(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    pub(crate) fn clear(&mut self) {
        self.jobs.clear();
    }

    /// The job with whose claim the stream is subscribed to.
    pub(crate) fn lead(&self) -> Option<JobId> {
        let led = self.led.filter(|job| self.jobs.contains_key(job));
        led.or_else(|| self.jobs.first_key_value().map(|(job, _)| *job))
    }

    /// An attempt was in vain, maybe because the leading job's claim does not hold: in the
    /// next one another job leads.
    pub(crate) fn next_lead(&mut self) {
        let Some(lead) = self.lead() else { return };
        let after = (std::ops::Bound::Excluded(lead), std::ops::Bound::Unbounded);
        self.led = self.jobs.range(after).next().map(|(job, _)| *job);
    }

    /// Asks the driver for a job's claim unless it has been; false when it can't be asked.
    pub(crate) fn ask(&mut self, cx: &mut Cx, stream: &StreamId, job: JobId) -> bool {
        let Some(claim) = self.jobs.get_mut(&job) else {
            return false;
        };
        if claim.progress != Progress::Making {
            claim.progress = if cx.ask_claim(stream, job) {
                Progress::Making
            } else {
                Progress::Due(claim.retry.schedule(cx))
            };
        }
        claim.progress == Progress::Making
    }

    /// The subscription went out with a job's claim.
    pub(crate) fn sent(&mut self, cx: &mut Cx, job: JobId) {
        if let Some(claim) = self.jobs.get_mut(&job) {
            claim.progress = Progress::Due(claim.retry.schedule(cx));
        }
    }

    /// Nobody feeds the stream any more, and the search decides when the leading job claims.
    pub(super) fn unfed(&mut self, cx: &mut Cx, stage: Stage) {
        if stage == Stage::Idle {
            return;
        }
        let lead = self.lead();
        let Some(claim) = lead.and_then(|job| self.jobs.get_mut(&job)) else {
            return;
        };
        match (claim.progress, stage) {
            (Progress::Making, _) | (Progress::Due(_), Stage::Asked) => {}
            (_, Stage::Asked) => claim.progress = Progress::Due(claim.retry.schedule(cx)),
            (_, _) => claim.progress = Progress::Waits,
        }
    }

    /// The broadcaster's own link is up, or is gone: either way it is told anew.
    pub(crate) fn on_owner(&mut self, cx: &Cx) {
        for claim in self.jobs.values_mut() {
            claim.retry = Retry::new(cx.config.job_retry);
            if claim.progress != Progress::Making {
                claim.progress = Progress::Due(cx.now);
            }
        }
    }

    /// The broadcaster seems to know nothing of a job's claim.
    fn forgotten(&mut self, cx: &Cx, job: JobId) {
        if let Some(claim) = self.jobs.get_mut(&job)
            && claim.progress != Progress::Making
        {
            claim.progress = Progress::Due(cx.now);
        }
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        let due = |claim: &Claim| match claim.progress {
            Progress::Due(at) => Some(at),
            Progress::Waits | Progress::Making | Progress::Told => None,
        };
        self.jobs.values().filter_map(due).min()
    }
}

impl Stream {
    /// Somebody feeds the stream: claims are refreshed now and then, but for one that the
    /// broadcaster has as the subscription over its own link.
    pub(super) fn claims_fed(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &self.source else {
            return;
        };
        let Some(feeder) = up.live() else { return };
        let carried = feeder.claim;
        let told = carried.filter(|_| feeder.peer == self.id.node);
        for (job, claim) in &mut self.claims.jobs {
            claim.retry = Retry::new(cx.config.claim_refresh);
            claim.progress = match claim.progress {
                _ if told == Some(*job) => Progress::Told,
                Progress::Due(_) if carried == Some(*job) => {
                    Progress::Due(claim.retry.schedule(cx))
                }
                Progress::Waits => Progress::Due(claim.retry.schedule(cx)),
                as_it_is @ (Progress::Due(_) | Progress::Making | Progress::Told) => as_it_is,
            };
        }
    }

    /// A job's result was not taken, though the job is fed.
    pub(crate) fn on_result_refused(&mut self, cx: &mut Cx, job: JobId) {
        if self.stage.is_fed() {
            self.claims.forgotten(cx, job);
            self.claim_again(cx);
        }
    }

    /// Makes the claims that are due.
    pub(crate) fn claim_again(&mut self, cx: &mut Cx) {
        let due = |claim: &Claim| matches!(claim.progress, Progress::Due(at) if at <= cx.now);
        let jobs: Vec<_> = self
            .claims
            .jobs
            .iter()
            .filter(|(_, claim)| due(claim))
            .map(|(job, _)| *job)
            .collect();
        for job in jobs {
            self.claims.ask(cx, &self.id, job);
        }
    }

    /// A job has ended that the search may have waited for: others go on without it.
    pub(crate) fn seek_without_claim(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &self.source else {
            return;
        };
        let used = self.local.wanted() || !self.children.is_empty();
        if used && up.retry_at.is_none() {
            self.seek(cx);
        }
    }

    /// The driver has made a claim, or has not because the job is gone.
    pub(crate) fn on_claim(&mut self, cx: &mut Cx, job: JobId, claim: Option<Box<SignedClaim>>) {
        let from = self.resume_from();
        let lead = self.claims.lead() == Some(job);
        let Some(state) = self.claims.jobs.get_mut(&job) else {
            return;
        };
        state.progress = Progress::Waits;
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let Some(claim) = claim else {
            // Its end is told apart; until then the search tries the next.
            if lead && up.open() == 0 {
                up.retry_at = Some(up.retry.schedule(cx));
                self.claims.next_lead();
            }
            return;
        };
        if lead && up.open() == 0 {
            up.claim = Some(claim);
            return self.seek(cx);
        }
        let linked = cx.links.contains(&self.id.node);
        let waits = |p: &Parent| p.role == Role::Feed && p.state != ParentState::Live;
        let waiting = up.parents.iter().position(waits);
        if let (Some(index), true, false) = (waiting, lead, up.is_live() || linked) {
            up.claim = Some(claim);
            up.renew(cx, self.key, &self.id, index, from);
            return self.claims.sent(cx, job);
        }
        self.announce(cx, job, *claim);
    }

    /// Sends a claim beside the subscription.
    fn announce(&mut self, cx: &mut Cx, job: JobId, (claim, signature): SignedClaim) {
        let owner = self.id.node;
        let direct = cx.links.contains(&owner);
        let next = if direct {
            Some(owner)
        } else {
            let near = cx.candidates(&owner, Asker::Own, |_| false);
            near.first().copied()
        };
        if let Some(state) = self.claims.jobs.get_mut(&job) {
            state.progress = if direct {
                Progress::Told
            } else {
                Progress::Due(state.retry.schedule(cx))
            };
        }
        let Some(next) = next else { return };
        let request = cx.request_id();
        if let Some(link) = cx.links.get_mut(&next) {
            // Nothing is owed on it, but an answer would be no violation.
            link.close(request, cx.now);
        }
        cx.stats.claims_out += 1;
        let message = Message::from(TranscodeSub {
            request,
            branch: false,
            from: None,
            hops_left: MAX_HOPS,
            claim,
            signature,
        });
        cx.send(next, message, Priority::Control);
    }
}
