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
use grant::{Entry, Known, Unchecked};

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

    /// The driver's answer on a claim: the addresses to dial, or `None` for refused.
    pub(crate) fn on_checked(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        name: Name,
        claim: ClaimId,
        addresses: Option<Vec<AddressText>>,
    ) {
        let Some(entry) = self.grants.remove(&name) else {
            return;
        };
        let from = entry.grant();
        let outcome = match entry.answered(claim, addresses.is_some(), cx.now) {
            Ok(outcome) => outcome,
            // It is of a time before the job was revoked or the stream ended.
            Err(entry) => {
                self.grants.insert(name, *entry);
                return;
            }
        };
        self.put(cx, name, from, outcome.entry);
        let stream = outcome.checked.claim.0.stream;
        match addresses {
            Some(addresses) => {
                streams.release(cx, &stream, claim, name);
                self.dial(cx, name, addresses);
            }
            None => {
                // A transcoder may not have heard yet that its job is not its any more.
                cx.stats.refused_claims += 1;
                streams.refuse(cx, &stream, claim);
            }
        }
        if let Some(next) = outcome.next {
            self.check_next(cx, streams, name, next);
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
        self.end(cx, streams, name);
        if let Some(stream) = fed {
            let other = self.job_of(name.0, &stream);
            streams.revoke(cx, &stream, name, other);
        }
    }

    /// A stream of this node is over: so are the claims to it.
    pub(crate) fn on_over(&mut self, cx: &mut Cx, streams: &mut Streams, stream: &StreamId) {
        let all = self.grants.iter();
        let over = all.filter(|(_, entry)| entry.concerns(stream));
        for name in over.map(|(name, _)| *name).collect::<Vec<_>>() {
            self.end(cx, streams, name);
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
        match self.judge(cx, streams, name, (sub.claim, sub.signature)) {
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

    fn judge(
        &mut self,
        cx: &mut Cx,
        streams: &mut Streams,
        name: Name,
        claim: SignedClaim,
    ) -> Verdict {
        if !self.grants.contains_key(&name) && !self.make_room(cx) {
            return Verdict::Overloaded;
        }
        let id = ClaimId(self.next_claim);
        let unchecked = |claim| Unchecked { id, claim };
        let Some(entry) = self.grants.get_mut(&name) else {
            if !ask(cx, name, id, &claim) {
                return Verdict::Overloaded;
            }
            self.next_claim += 1;
            let entry = Entry::asked(unchecked(claim), cx.now);
            self.put(cx, name, Grant::None, Some(entry));
            return Verdict::Checking(id);
        };
        match entry.knows(&claim, cx.now) {
            Known::Held => return Verdict::Granted,
            Known::Unchecked(id) => return Verdict::Checking(id),
            Known::Replayed => return Verdict::Replayed,
            Known::Other => return Verdict::Refused,
            Known::New => {}
        }
        entry.touched = cx.now;
        self.next_claim += 1;
        if entry.is_checking() {
            return match entry.queue(unchecked(claim)) {
                Some(older) if older.id == id => Verdict::Replayed,
                Some(older) => {
                    streams.refuse(cx, &older.claim.0.stream, older.id);
                    Verdict::Checking(id)
                }
                None => Verdict::Checking(id),
            };
        }
        if self.check(cx, name, unchecked(claim)) {
            Verdict::Checking(id)
        } else {
            Verdict::Overloaded
        }
    }

    /// Asks about a claim of a transcoder that is known; false when it can't be asked.
    fn check(&mut self, cx: &mut Cx, name: Name, claim: Unchecked) -> bool {
        let Some(mut entry) = self.grants.remove(&name) else {
            return false;
        };
        let from = entry.grant();
        let asked = ask(cx, name, claim.id, &claim.claim);
        if asked {
            entry.renew(claim);
        }
        self.put(cx, name, from, Some(entry));
        asked
    }

    /// Asks about the claim that came while another was checked.
    fn check_next(&mut self, cx: &mut Cx, streams: &mut Streams, name: Name, claim: Unchecked) {
        let (id, stream) = (claim.id, claim.claim.0.stream.clone());
        let asked = match self
            .grants
            .get(&name)
            .map(|e| e.knows(&claim.claim, cx.now))
        {
            Some(Known::New) => self.check(cx, name, claim),
            // The one before it did not hold, and nothing is remembered of it.
            None if ask(cx, name, id, &claim.claim) => {
                let entry = Entry::asked(claim, cx.now);
                self.put(cx, name, Grant::None, Some(entry));
                true
            }
            Some(Known::Held | Known::Unchecked(_) | Known::Replayed | Known::Other) | None => {
                false
            }
        };
        if !asked {
            streams.refuse(cx, &stream, id);
        }
    }

    /// Nothing is fed or checked for a transcoder and its job any more.
    fn end(&mut self, cx: &mut Cx, streams: &mut Streams, name: Name) {
        let Some(entry) = self.grants.remove(&name) else {
            return;
        };
        for claim in entry.unchecked() {
            streams.refuse(cx, &claim.claim.0.stream, claim.id);
        }
        let from = entry.grant();
        self.put(cx, name, from, entry.end());
    }

    /// Remembers how far it has come, and tells of it.
    fn put(&mut self, cx: &mut Cx, (transcoder, job): Name, from: Grant, entry: Option<Entry>) {
        let to = entry.as_ref().map_or(Grant::None, Entry::grant);
        if let Some(entry) = entry {
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

    /// Forgets what is past and was not claimed for longest, when there is too much.
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
        self.put(cx, name, Grant::Past, None);
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
