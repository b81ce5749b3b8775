//! The broadcaster's side of TranscodeSub, and what relays pass on of it.
//!
//! A claim is checked by the driver before anything is sent or dialled for it: `grant` says
//! what comes of it. The transcoder's half is in `streams::stage`.

mod grant;

use std::collections::BTreeMap;

use headwater_proto::{AddressText, JobId, Message, NoRouteReason, NodeId, StreamId, TranscodeSub};

pub(crate) use grant::ClaimId;
pub use grant::Grant;

use crate::{
    cx::{Asked, Cx},
    input::DialId,
    output::{Event, Output, Priority, Question, claim_bytes},
    routing::Asker,
    streams::{Child, Hold, SignedClaim, Streams},
    time::Time,
};
use grant::{CHECKS, Entry, Known, Unchecked};

/// Neighbours and jobs whose last TranscodeSub is remembered, at most.
const MAX_PASSED: usize = 256;

/// A transcoder and its job.
type Name = (NodeId, JobId);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Feeds {
    grants: BTreeMap<Name, Entry>,
    dials: BTreeMap<DialId, Name>,
    passed: BTreeMap<Name, Time>,
    /// Newest accepted result of each transcoder and job.
    results: BTreeMap<Name, u64>,
    next_claim: u64,
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
        if let Some(link) = cx.links.get_mut(&from) {
            link.used = cx.now;
        }
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
            .find(|(_, entry)| entry.fed() == Some(stream))
            .map(|((_, job), _)| *job)
    }

    /// Whether a transcoder has a claim that is checked here or holds: it is fed, or may be.
    pub(crate) fn may_feed(&self, transcoder: &NodeId) -> bool {
        let all = (*transcoder, JobId(u64::MIN))..=(*transcoder, JobId(u64::MAX));
        let mut entries = self.grants.range(all);
        entries.any(|(_, entry)| entry.grant() != Grant::Past)
    }

    /// The driver's answer on a claim: the addresses to dial, or `None` for refused.
    pub(crate) fn on_checked(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        name: Name,
        claim: ClaimId,
        addresses: Option<Vec<AddressText>>,
    ) {
        let Some(mut entry) = self.grants.remove(&name) else {
            return;
        };
        let from = entry.grant();
        let answered = entry.answered(claim, addresses.is_some(), cx.now);
        self.put(cx, name, from, entry);
        // Otherwise it is of a time before the job was revoked or the stream ended.
        let Some((checked, holds)) = answered else {
            return;
        };
        let stream = checked.claim.0.stream;
        match addresses {
            Some(addresses) if holds => {
                streams.release(cx, &stream, claim, name);
                self.dial(cx, name, addresses);
            }
            Some(_) => {
                cx.stats.stale_claims += 1;
                streams.refuse(cx, &stream, claim);
            }
            None => {
                // A transcoder may not have heard yet that its job is not its any more.
                cx.stats.refused_claims += 1;
                streams.refuse(cx, &stream, claim);
            }
        }
    }

    /// A dial has ended, either way.
    pub(crate) fn on_dialled(&mut self, dial: DialId) {
        if let Some(name) = self.dials.remove(&dial)
            && let Some(entry) = self.grants.get_mut(&name)
        {
            entry.dialled(dial);
        }
    }

    /// The job was given to another: the transcoder is no longer fed for it.
    pub(crate) fn revoke(&mut self, cx: &mut Cx, streams: &mut Streams, name: Name) {
        let fed = self.grants.get(&name).and_then(Entry::fed).cloned();
        let now = cx.now;
        self.end(cx, streams, name, |entry| entry.end(now));
        if let Some(stream) = fed {
            let other = self.job_of(name.0, &stream);
            streams.revoke(cx, &stream, name, other);
        }
    }

    /// A stream of this node is over: so are the claims to it.
    pub(crate) fn on_over(&mut self, cx: &mut Cx, streams: &mut Streams, stream: &StreamId) {
        let now = cx.now;
        for name in self.grants.keys().copied().collect::<Vec<_>>() {
            self.end(cx, streams, name, |entry| entry.over(stream, now));
        }
    }

    /// Whether a result is at least as new as the newest accepted one.
    pub(crate) fn is_current(&self, name: Name, sequence: u64) -> bool {
        self.results
            .get(&name)
            .is_none_or(|newest| sequence >= *newest)
    }

    /// Notes the sequence of an accepted result.
    pub(crate) fn accept_result(&mut self, cx: &Cx, name: Name, sequence: u64) {
        if self.results.len() >= cx.config.max_claims && !self.results.contains_key(&name) {
            self.results.pop_first();
        }
        let newest = self.results.entry(name).or_default();
        *newest = sequence.max(*newest);
    }

    // ---- the broadcaster -----------------------------------------------------------

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
        let known = self.grants.get(&name).and_then(Entry::fed);
        let is_fed = from == name.0 && known == Some(&stream);
        match self.judge(cx, from, name, (sub.claim, sub.signature)) {
            Verdict::Granted => child.feed = Some(name),
            // Its link proves who it is; the newer claim brings other addresses at most.
            Verdict::Checking(_) if is_fed => child.feed = Some(name),
            Verdict::Checking(claim) => child.hold = Hold::Claim(claim),
            Verdict::Replayed => {
                cx.stats.stale_claims += 1;
                return;
            }
            Verdict::Refused => {
                cx.stats.refused_claims += 1;
                if sub.branch {
                    cx.not_found(from, sub.request);
                }
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

    fn judge(&mut self, cx: &mut Cx, from: NodeId, name: Name, claim: SignedClaim) -> Verdict {
        let known = self.grants.get(&name);
        match known.map_or(Known::New, |entry| entry.knows(&claim, cx.now)) {
            Known::Held => return Verdict::Granted,
            Known::Unchecked(id) => return Verdict::Checking(id),
            Known::Replayed => return Verdict::Replayed,
            Known::Other => return Verdict::Refused,
            Known::New => {}
        }
        let room = known.is_some() || self.make_room(cx);
        let id = ClaimId(self.next_claim);
        if !room || self.checks_of(from) >= CHECKS || !ask(cx, name, id, &claim) {
            return Verdict::Overloaded;
        }
        self.next_claim += 1;
        let entry = self.grants.remove(&name);
        let mut entry = entry.unwrap_or_else(|| Entry::new(cx.now));
        let before = entry.grant();
        entry.check(Unchecked { id, claim, from });
        self.put(cx, name, before, entry);
        Verdict::Checking(id)
    }

    /// How many claims that came from a neighbour are being checked.
    fn checks_of(&self, from: NodeId) -> usize {
        let all = self.grants.values().flat_map(Entry::unchecked);
        all.filter(|one| one.from == from).count()
    }

    /// Something is fed or checked no more for a transcoder and its job.
    fn end(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        name: Name,
        end: impl FnOnce(&mut Entry) -> Vec<Unchecked>,
    ) {
        let Some(mut entry) = self.grants.remove(&name) else {
            return;
        };
        let from = entry.grant();
        for claim in end(&mut entry) {
            streams.refuse(cx, &claim.claim.0.stream, claim.id);
        }
        self.put(cx, name, from, entry);
    }

    /// Remembers how far it has come, and tells of it.
    fn put(&mut self, cx: &mut Cx, (transcoder, job): Name, from: Grant, entry: Entry) {
        let to = entry.grant();
        if to != Grant::None {
            self.grants.insert((transcoder, job), entry);
        }
        if from != to {
            cx.observe(Event::GrantChanged {
                job,
                transcoder,
                from,
                to,
            });
        }
    }

    /// Forgets what is past, and has been for longest, when there is too much.
    fn make_room(&mut self, cx: &mut Cx) -> bool {
        if self.grants.len() < cx.config.max_claims {
            return true;
        }
        let all = self.grants.iter();
        let past = all.filter(|(_, entry)| entry.grant() == Grant::Past);
        let oldest = past.min_by_key(|(_, entry)| entry.touched);
        let Some(name) = oldest.map(|(name, _)| *name) else {
            return false;
        };
        self.grants.remove(&name);
        self.put(cx, name, Grant::Past, Entry::new(cx.now));
        true
    }

    fn dial(&mut self, cx: &mut Cx, name: Name, addresses: Vec<AddressText>) {
        let Some(entry) = self.grants.get_mut(&name) else {
            return;
        };
        if addresses.is_empty()
            || cx.links.contains(&name.0)
            || !entry.may_dial(cx.config.max_dials_per_minute, cx.now)
        {
            return;
        }
        let dial = cx.dial_id();
        entry.dial(dial, cx.now);
        self.dials.insert(dial, name);
        cx.stats.dials += 1;
        cx.emit(Output::Dial {
            dial,
            peer: name.0,
            addresses,
        });
    }

    // ---- relays --------------------------------------------------------------------

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
            link.close(request, cx.now);
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
    Checking(ClaimId),
    Replayed,
    Refused,
    Overloaded,
}

fn ask(cx: &mut Cx, (transcoder, job): Name, id: ClaimId, claim: &SignedClaim) -> bool {
    let question = Question::CheckClaim {
        claim: Box::new(claim.0.clone()),
        signature: claim.1,
    };
    let asked = Asked::CheckClaim {
        transcoder,
        job,
        claim: id,
    };
    cx.ask(question, asked)
}
