//! The claims of the jobs that take a stream at this transcoder: when each is made and
//! sent (again).
//!
//! A TranscodeSub has two duties. It subscribes, like a Sub, and it tells the broadcaster
//! that a transcoder of its job wants to be fed, and where it can be dialled. The relays
//! on the way may fulfil the first and lose the second, so each job goes on claiming for
//! as long as its broadcaster is not linked:
//!
//! | the stream | the claim of a job goes | and again |
//! |---|---|---|
//! | has no parent | as the subscription, to the next hop | in the next search |
//! | waits for its parent | as the subscription again, on the same request | after [`crate::Config::job_retry`] |
//! | comes from relays | beside the subscription, towards the broadcaster | after [`crate::Config::claim_refresh`] |
//! | any, with the broadcaster linked | once, over that link | when the link is lost |
//!
//! Every claim is asked of the driver anew, so its sequence grows and its addresses and
//! its expiry are fresh.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{JobId, Message, StreamId, TranscodeSub, limits::MAX_HOPS};

use super::{
    stream::{Source, Stream},
    upstream::{Parent, ParentState, Role, SignedClaim},
};
use crate::{
    cx::{Cx, Retry},
    output::Priority,
    routing::Asker,
    time::Time,
};

/// One job's claim.
#[derive(Debug)]
struct Claim {
    /// The driver has been asked for it.
    asked: bool,
    /// When it is made next.
    due: Option<Time>,
    retry: Retry,
    /// The broadcaster was told over a link of its own, which is still up.
    direct: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<JobId, Claim>);

impl Claims {
    /// A job begins to take the stream, which may be coming already.
    pub(crate) fn begin(&mut self, cx: &Cx, job: JobId, live: bool) {
        let plan = if live {
            cx.config.claim_refresh
        } else {
            cx.config.job_retry
        };
        self.0.entry(job).or_insert_with(|| Claim {
            asked: false,
            due: Some(cx.now),
            retry: Retry::new(plan),
            direct: false,
        });
    }

    pub(crate) fn end(&mut self, job: JobId) {
        self.0.remove(&job);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Asks the driver for a job's claim unless it has been; false when it can't be asked.
    pub(crate) fn ask(&mut self, cx: &mut Cx, stream: &StreamId, job: JobId) -> bool {
        let Some(claim) = self.0.get_mut(&job) else {
            return false;
        };
        claim.due = None;
        if !claim.asked {
            claim.asked = cx.ask_claim(stream, job);
            if !claim.asked {
                claim.due = Some(claim.retry.schedule(cx));
            }
        }
        claim.asked
    }

    /// The subscription went out with the claim of the first job.
    pub(crate) fn sent(&mut self, cx: &mut Cx, jobs: &BTreeSet<JobId>) {
        if let Some(claim) = jobs.first().and_then(|job| self.0.get_mut(job)) {
            claim.due = Some(claim.retry.schedule(cx));
        }
    }

    /// The stream comes: the claims of all jobs are refreshed now and then. `told` says
    /// that the first job's came to the broadcaster over a link of its own.
    pub(crate) fn fed(&mut self, cx: &mut Cx, jobs: &BTreeSet<JobId>, told: bool) {
        for (job, claim) in &mut self.0 {
            claim.retry = Retry::new(cx.config.claim_refresh);
            let first = jobs.first() == Some(job);
            if told && first {
                claim.direct = true;
                claim.due = None;
            }
            let waits = claim.direct || claim.asked;
            if !waits && (claim.due.is_none() || first) {
                claim.due = Some(claim.retry.schedule(cx));
            }
        }
    }

    /// The stream is lost: the search decides when it is claimed.
    pub(crate) fn pause(&mut self) {
        for claim in self.0.values_mut() {
            claim.due = None;
        }
    }

    /// The broadcaster's own link is up, or is gone.
    pub(crate) fn on_owner(&mut self, cx: &Cx, linked: bool) {
        for claim in self.0.values_mut() {
            claim.direct = false;
            claim.retry = Retry::new(cx.config.job_retry);
            if linked {
                claim.due = Some(cx.now);
            }
        }
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.0.values().filter_map(|claim| claim.due).min()
    }
}

impl Stream {
    /// Makes the claims that are due.
    pub(crate) fn claim_again(&mut self, cx: &mut Cx) {
        let due = |claim: &Claim| claim.due.is_some_and(|at| at <= cx.now);
        let jobs: Vec<_> = self
            .claims
            .0
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
    pub(crate) fn on_claim(&mut self, cx: &mut Cx, job: JobId, claim: Option<SignedClaim>) {
        let from = self.resume_from();
        let lead = self.local.jobs.first() == Some(&job);
        let Some(state) = self.claims.0.get_mut(&job) else {
            return;
        };
        state.asked = false;
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let Some(claim) = claim else {
            if up.open() == 0 {
                up.retry_at = Some(up.retry.schedule(cx));
            }
            return;
        };
        if up.open() == 0 {
            up.claim = Some(claim);
            return self.seek(cx);
        }
        let waits = |p: &Parent| p.role == Role::Feed && p.state != ParentState::Live;
        let waiting = up.parents.iter().position(waits);
        if let (Some(index), true, false) = (waiting, lead, up.is_live()) {
            up.claim = Some(claim);
            up.renew(cx, self.key, &self.id, index, from);
            return self.claims.sent(cx, &self.local.jobs);
        }
        self.announce(cx, job, claim);
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
        if let Some(state) = self.claims.0.get_mut(&job) {
            state.direct = direct;
            state.due = (!direct).then(|| state.retry.schedule(cx));
        }
        let Some(next) = next else { return };
        let request = cx.request_id();
        if let Some(link) = cx.links.get_mut(&next) {
            // Nothing is owed on it, but an answer would be no violation.
            link.close(request);
        }
        cx.stats.claims_out += 1;
        let message = Message::TranscodeSub(TranscodeSub {
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
