//! The broadcaster's side of TranscodeSub, and what relays pass on of it.
//!
//! A claim is checked by the driver before anything is sent or dialled for it. A claim
//! older than the one that was granted is a replay; the same one by another way is not.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use headwater_proto::{
    AddressText, JobId, Message, NoRouteReason, NodeId, StreamId, TranscodeClaim, TranscodeSub,
};

use crate::{
    cx::{Asked, Cx},
    input::DialId,
    output::{Event, Output, Priority, Question, claim_bytes},
    routing::Asker,
    streams::{Child, Hold, SignedClaim, Streams},
    time::Time,
};

/// Neighbours and jobs whose last TranscodeSub is remembered, at most.
const MAX_PASSED: usize = 256;
/// Dials are counted over this long.
const DIAL_WINDOW: Duration = Duration::from_secs(60);

/// What is known of one transcoder and job.
#[derive(Debug)]
struct Grant {
    stream: StreamId,
    /// The newest claim that was granted.
    granted: Option<TranscodeClaim>,
    /// The claim the driver is checking, and who sent it.
    checking: Option<(SignedClaim, NodeId)>,
    /// The newest claim that came meanwhile.
    queued: Option<(SignedClaim, NodeId)>,
    dialling: Option<DialId>,
    dials: VecDeque<Time>,
    /// Last time a claim came.
    touched: Time,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    grants: BTreeMap<(NodeId, JobId), Grant>,
    dials: BTreeMap<DialId, (NodeId, JobId)>,
    passed: BTreeMap<(NodeId, JobId), Time>,
    /// Newest accepted result of each transcoder and job.
    results: BTreeMap<(NodeId, JobId), u64>,
}

impl Feeds {
    pub(crate) fn on_transcode_sub(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        from: NodeId,
        sub: TranscodeSub,
    ) {
        cx.stats.claims_in += 1;
        cx.stats.subs_in += u64::from(sub.branch);
        if sub.claim.stream.node == cx.me {
            self.at_broadcaster(cx, streams, from, sub);
        } else {
            self.at_relay(cx, streams, from, sub);
        }
    }

    /// The job for which a neighbour is to be fed with a stream.
    pub(crate) fn job_of(&self, peer: NodeId, stream: &StreamId) -> Option<JobId> {
        let all = (peer, JobId(u64::MIN))..=(peer, JobId(u64::MAX));
        self.grants
            .range(all)
            .find(|(_, grant)| grant.granted.is_some() && grant.stream == *stream)
            .map(|((_, job), _)| *job)
    }

    /// The driver's answer on a claim: the addresses to dial, or `None` for refused.
    pub(crate) fn on_checked(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        name: (NodeId, JobId),
        addresses: Option<Vec<AddressText>>,
    ) {
        let Some(grant) = self.grants.get_mut(&name) else {
            return;
        };
        let Some(((claim, _), from)) = grant.checking.take() else {
            return;
        };
        let stream = claim.stream.clone();
        let granted = addresses.is_some();
        match addresses {
            Some(addresses) => {
                grant.granted = Some(claim);
                grant.stream = stream.clone();
                streams.release(cx, &stream, name.0, name.1);
                self.dial(cx, name, addresses);
            }
            None => {
                cx.stats.refused_claims += 1;
                // A relay on its way cannot know what the ledger says.
                if from == name.0 {
                    cx.observe(Event::Misbehaved {
                        peer: from,
                        what: "refused claim",
                    });
                }
            }
        }
        if self.check_queued(cx, name) || granted {
            return;
        }
        streams.refuse(cx, &stream, name.0, name.1);
        if self
            .grants
            .get(&name)
            .is_some_and(|grant| grant.granted.is_none())
        {
            self.grants.remove(&name);
        }
    }

    /// A dial has ended, either way.
    pub(crate) fn on_dialled(&mut self, dial: DialId) {
        if let Some(name) = self.dials.remove(&dial)
            && let Some(grant) = self.grants.get_mut(&name)
        {
            grant.dialling = None;
        }
    }

    /// The job was given to another: the transcoder is no longer fed for it.
    pub(crate) fn revoke(&mut self, cx: &mut Cx, streams: &mut Streams, name: (NodeId, JobId)) {
        let Some(grant) = self.grants.remove(&name) else {
            return;
        };
        let other = self.job_of(name.0, &grant.stream);
        streams.revoke(cx, &grant.stream, name, other);
    }

    /// A stream of this node has ended: its claims are void.
    pub(crate) fn on_finished(&mut self, stream: &StreamId) {
        self.grants.retain(|_, grant| grant.stream != *stream);
    }

    /// Whether a result is at least as new as the newest accepted one.
    pub(crate) fn is_current(&self, name: (NodeId, JobId), sequence: u64) -> bool {
        self.results
            .get(&name)
            .is_none_or(|newest| sequence >= *newest)
    }

    /// Notes the sequence of an accepted result.
    pub(crate) fn accept_result(&mut self, cx: &Cx, name: (NodeId, JobId), sequence: u64) {
        if self.results.len() >= cx.config.max_claims && !self.results.contains_key(&name) {
            self.results.pop_first();
        }
        let newest = self.results.entry(name).or_default();
        *newest = sequence.max(*newest);
    }

    fn at_broadcaster(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        from: NodeId,
        sub: TranscodeSub,
    ) {
        let stream = sub.claim.stream.clone();
        if !streams.is_open(&stream) {
            if sub.branch {
                cx.not_found(from, sub.request);
            }
            return;
        }
        let name = (sub.claim.transcoder, sub.claim.job);
        let mut child = Child::new(from, sub.request, sub.from, cx.now);
        match self.judge(cx, name, from, (sub.claim, sub.signature)) {
            Verdict::Granted => child.feed = Some(name),
            Verdict::Checking => child.hold = Hold::Claim(name.0, name.1),
            Verdict::Replayed => {
                cx.stats.stale_claims += 1;
                return;
            }
            Verdict::Overloaded => {
                if sub.branch {
                    cx.no_route(from, sub.request, NoRouteReason::Overloaded);
                }
                return;
            }
        }
        if sub.branch {
            streams.admit(cx, &stream, child, sub.hops_left, None);
        }
    }

    fn judge(
        &mut self,
        cx: &mut Cx,
        name: (NodeId, JobId),
        from: NodeId,
        claim: SignedClaim,
    ) -> Verdict {
        if !self.grants.contains_key(&name) && !self.make_room(cx) {
            return Verdict::Overloaded;
        }
        let now = cx.now;
        let grant = self.grants.entry(name).or_insert_with(|| Grant {
            stream: claim.0.stream.clone(),
            granted: None,
            checking: None,
            queued: None,
            dialling: None,
            dials: VecDeque::new(),
            touched: now,
        });
        grant.touched = now;
        if let Some(granted) = &grant.granted {
            if claim.0 == *granted {
                return Verdict::Granted;
            }
            if claim.0.sequence <= granted.sequence {
                return Verdict::Replayed;
            }
        }
        match &grant.checking {
            Some((checking, _)) if *checking == claim => {}
            Some(_) => {
                let older =
                    |(queued, _): &(SignedClaim, NodeId)| queued.0.sequence < claim.0.sequence;
                if grant.queued.as_ref().is_none_or(older) {
                    grant.queued = Some((claim, from));
                }
            }
            None => {
                if !ask(cx, name, &claim) {
                    return Verdict::Overloaded;
                }
                grant.checking = Some((claim, from));
            }
        }
        Verdict::Checking
    }

    /// Asks about the claim that came while another was checked; true when it did.
    fn check_queued(&mut self, cx: &mut Cx, name: (NodeId, JobId)) -> bool {
        let Some(grant) = self.grants.get_mut(&name) else {
            return false;
        };
        let Some((claim, from)) = grant.queued.take() else {
            return false;
        };
        let newest = grant.granted.as_ref().map(|granted| granted.sequence);
        if newest.is_some_and(|newest| claim.0.sequence <= newest) || !ask(cx, name, &claim) {
            return false;
        }
        grant.checking = Some((claim, from));
        true
    }

    /// Forgets the grant that was not claimed for longest, when there are too many.
    fn make_room(&mut self, cx: &Cx) -> bool {
        if self.grants.len() < cx.config.max_claims {
            return true;
        }
        let idle = self
            .grants
            .iter()
            .filter(|(_, grant)| grant.checking.is_none());
        let oldest = idle
            .min_by_key(|(_, grant)| grant.touched)
            .map(|(name, _)| *name);
        oldest.is_some_and(|name| self.grants.remove(&name).is_some())
    }

    fn dial(&mut self, cx: &mut Cx, name: (NodeId, JobId), addresses: Vec<AddressText>) {
        let Some(grant) = self.grants.get_mut(&name) else {
            return;
        };
        if addresses.is_empty() || grant.dialling.is_some() || cx.links.contains(&name.0) {
            return;
        }
        let old = |at: &Time| cx.now.since(*at) > DIAL_WINDOW;
        while grant.dials.front().is_some_and(old) {
            grant.dials.pop_front();
        }
        if grant.dials.len() >= cx.config.max_dials_per_minute {
            return;
        }
        let dial = cx.dial_id();
        grant.dials.push_back(cx.now);
        grant.dialling = Some(dial);
        self.dials.insert(dial, name);
        cx.stats.dials += 1;
        cx.emit(Output::Dial {
            dial,
            peer: name.0,
            addresses,
        });
    }

    fn at_relay(&mut self, cx: &mut Cx, streams: &mut Streams, from: NodeId, sub: TranscodeSub) {
        let stream = sub.claim.stream.clone();
        if sub.branch {
            let carried = streams.get(&stream).is_some();
            let child = Child::new(from, sub.request, sub.from, cx.now);
            // A new branch carries the claim towards the broadcaster itself.
            let claim = (!carried).then(|| (sub.claim.clone(), sub.signature));
            streams.admit(cx, &stream, child, sub.hops_left, claim);
            if !carried {
                return;
            }
        }
        self.pass_on(cx, from, sub);
    }

    fn pass_on(&mut self, cx: &mut Cx, from: NodeId, sub: TranscodeSub) {
        if !cx.config.roles.relayer || sub.hops_left == 0 || !self.may_pass(cx, from, sub.claim.job)
        {
            return;
        }
        let next = cx.candidates(&sub.claim.stream.node, Asker::Neighbour, |peer| {
            *peer == from
        });
        let Some(next) = next.first().copied() else {
            return;
        };
        if !cx.spend_bytes(from, claim_bytes(&sub.claim)) || !cx.may_pass_on(next) {
            return;
        }
        let request = cx.request_id();
        if let Some(link) = cx.links.get_mut(&next) {
            // Nothing is owed on it, but an answer would be no violation.
            link.close(request);
        }
        cx.stats.claims_out += 1;
        let message = Message::from(TranscodeSub {
            request,
            branch: false,
            hops_left: sub.hops_left - 1,
            ..sub
        });
        cx.send(next, message, Priority::Control);
    }

    fn may_pass(&mut self, cx: &Cx, from: NodeId, job: JobId) -> bool {
        let pause = cx.config.claim_interval;
        if let Some(last) = self.passed.get(&(from, job))
            && *last + pause > cx.now
        {
            return false;
        }
        if self.passed.len() >= MAX_PASSED {
            self.passed.retain(|_, last| *last + pause > cx.now);
        }
        if self.passed.len() >= MAX_PASSED {
            return false;
        }
        self.passed.insert((from, job), cx.now);
        true
    }
}

/// What is to be done about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Granted,
    Checking,
    Replayed,
    Overloaded,
}

fn ask(cx: &mut Cx, name: (NodeId, JobId), claim: &SignedClaim) -> bool {
    let question = Question::CheckClaim {
        claim: claim.0.clone(),
        signature: claim.1,
    };
    let (transcoder, job) = name;
    cx.ask(question, Asked::CheckClaim { transcoder, job })
}
