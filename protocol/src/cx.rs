//! What every part of a node shares: time, randomness, links, outputs, questions.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use headwater_proto::{
    JobId, ManifestId, Message, NoRoute, NoRouteReason, NodeAddresses, NodeId, NotFound, Redirect,
    RequestId, RoutingKey, StreamId,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::{
    config::{Backoff, Config},
    dials::Dials,
    feed::ClaimId,
    input::{AskId, CommandId, DialId},
    links::{GRACE, Links},
    lookups::Lookups,
    output::{
        CommandError, Delivery, Event, Failure, LOOKUP_BYTES, Output, Priority, Question, Reply,
        message_bytes,
    },
    stats::Stats,
    time::Time,
    timers::{Timer, Timers},
};

/// Shortest time between two searches by the driver on account of one neighbour.
const LOOKUP_PAUSE: Duration = Duration::from_secs(2);
/// What the driver has not answered for this long it never will.
pub(crate) const ASK_PATIENCE: Duration = Duration::from_secs(60);

/// For what a question was asked.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A claim, to subscribe to a stream with.
    Claim { stream: StreamId, job: JobId },
    /// Somebody closer to a node.
    Lookup { target: NodeId },
    /// Whether the claim of a transcoder holds.
    CheckClaim {
        transcoder: NodeId,
        job: JobId,
        claim: ClaimId,
    },
    /// Whether a transcoder's result is taken.
    CheckResult {
        to: Requester,
        name: (NodeId, JobId),
        sequence: u64,
        manifest: ManifestId,
    },
    /// This node's status.
    Status { to: Requester },
    /// Receipts for a transcoder.
    Receipts {
        to: Requester,
        name: (NodeId, JobId),
    },
    /// Whether this node would take a job.
    Probe { to: Requester },
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requester {
    /// This machine.
    Command(CommandId),
    /// A neighbour.
    Peer(NodeId, RequestId),
    /// The repetition of a job's result.
    Job(JobId),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cx {
    pub(crate) me: NodeId,
    pub(crate) key: RoutingKey,
    pub(crate) config: Arc<Config>,
    pub(crate) now: Time,
    pub(crate) links: Links,
    pub(crate) timers: Timers,
    pub(crate) stats: Stats,
    /// Payload bytes in all rings.
    pub(crate) ring_bytes: usize,
    /// Jobs whose result was answered: taken, or not.
    pub(crate) job_results: Vec<(JobId, bool)>,
    /// Jobs that are fed and were not before.
    pub(crate) jobs_fed: Vec<JobId>,
    /// Neighbours over the limit of violations.
    pub(crate) condemned: Vec<NodeId>,
    pub(crate) dials: Dials,
    pub(crate) lookups: Lookups,
    out: VecDeque<Output>,
    /// Questions without an answer, the oldest first, and since when.
    asks: BTreeMap<AskId, (Time, Asked)>,
    rng: ChaCha8Rng,
    next_request: u64,
    next_ask: u64,
    next_dial: u64,
}

impl Cx {
    pub(crate) fn new(me: NodeId, config: Arc<Config>, seed: [u8; 32], now: Time) -> Self {
        Self {
            me,
            key: me.routing_key(),
            config,
            now,
            links: Links::default(),
            timers: Timers::default(),
            stats: Stats::default(),
            ring_bytes: 0,
            job_results: Vec::new(),
            jobs_fed: Vec::new(),
            condemned: Vec::new(),
            dials: Dials::default(),
            lookups: Lookups::default(),
            out: VecDeque::new(),
            asks: BTreeMap::new(),
            rng: ChaCha8Rng::from_seed(seed),
            next_request: 1,
            next_ask: 1,
            next_dial: 1,
        }
    }

    pub(crate) fn pop_output(&mut self) -> Option<Output> {
        let next = self.out.pop_front();
        if next.is_none() && self.out.capacity() > 0 {
            // Memory that was freed a moment ago is near; one's own of long ago is not.
            self.out = VecDeque::new();
        }
        next
    }

    pub(crate) fn emit(&mut self, output: Output) {
        self.out.push_back(output);
    }

    /// Sends to a neighbour; nothing happens when its link is gone.
    pub(crate) fn send(&mut self, to: NodeId, message: Message, priority: Priority) {
        if self.links.contains(&to) {
            self.stats.messages_out += 1;
            self.emit(Output::Send {
                to,
                message,
                priority,
            });
        }
    }

    /// Sends a part or chunk if the link has room for it.
    ///
    /// It is charged `cost`, which is [`crate::message_cost`] of the message; the driver
    /// gives the same back. Backfill leaves a quarter of the link free for the rest.
    pub(crate) fn send_data(
        &mut self,
        to: NodeId,
        cost: usize,
        priority: Priority,
        message: impl FnOnce() -> Message,
    ) -> bool {
        let Some(link) = self.links.get_mut(&to) else {
            return false;
        };
        let backfill = priority == Priority::Backfill && link.credit < link.credit_max;
        let kept_free = if backfill { link.credit_max / 4 } else { 0 };
        if link.credit < cost.saturating_add(kept_free) {
            link.starved = true;
            return false;
        }
        link.credit -= cost;
        self.stats.messages_out += 1;
        self.emit(Output::Send {
            to,
            message: message(),
            priority,
        });
        true
    }

    pub(crate) fn not_found(&mut self, to: NodeId, request: RequestId) {
        let message = Message::NotFound(NotFound { request });
        self.send(to, message, Priority::Control);
    }

    pub(crate) fn no_route(&mut self, to: NodeId, request: RequestId, reason: NoRouteReason) {
        if reason == NoRouteReason::Overloaded {
            self.stats.overloaded += 1;
        }
        let message = Message::NoRoute(NoRoute { request, reason });
        self.send(to, message, Priority::Control);
    }

    /// Answers a subscription that can't be served.
    pub(crate) fn refuse(&mut self, to: NodeId, request: RequestId, failure: Failure) {
        match failure {
            Failure::NotFound => self.not_found(to, request),
            Failure::NoRoute(reason) => self.no_route(to, request, reason),
            Failure::ParentLost | Failure::NoPeers => {
                self.no_route(to, request, NoRouteReason::NoCloserPeer);
            }
        }
    }

    /// Sends a subscriber to other nodes; a stranger that asks too often is told less.
    pub(crate) fn redirect(&mut self, to: NodeId, request: RequestId, nodes: Vec<NodeAddresses>) {
        let message = Message::Redirect(Redirect { request, nodes });
        if !self.spend(to, &message) {
            return self.no_route(to, request, NoRouteReason::Overloaded);
        }
        self.stats.redirects_out += 1;
        self.send(to, message, Priority::Control);
    }

    /// What to say when there is nobody to ask.
    pub(crate) fn nobody(&self) -> Failure {
        if self.links.len() == 0 {
            Failure::NoPeers
        } else {
            Failure::NoRoute(NoRouteReason::NoCloserPeer)
        }
    }

    /// Charges a neighbour for a message that is sent for its sake; false when it has
    /// no allowance left.
    pub(crate) fn spend(&mut self, peer: NodeId, message: &Message) -> bool {
        self.spend_bytes(peer, message_bytes(message))
    }

    /// As [`Self::spend`], in bytes.
    pub(crate) fn spend_bytes(&mut self, peer: NodeId, bytes: usize) -> bool {
        let Some(link) = self.links.get_mut(&peer) else {
            return false;
        };
        let left = link.allowance.checked_sub(bytes);
        if let Some(left) = left {
            link.allowance = left;
        }
        left.is_some()
    }

    /// Counts a request that is passed on to a neighbour for another; false when the
    /// neighbour would take so many for a flood.
    pub(crate) fn may_pass_on(&mut self, to: NodeId) -> bool {
        let (now, most) = (self.now, self.config.max_requests_per_second);
        let link = self.links.get_mut(&to);
        link.is_some_and(|link| link.passed.count(now) <= most)
    }

    /// Charges a neighbour for a search by the driver, which costs many others a little;
    /// false when it has no allowance left or had one a short while ago.
    pub(crate) fn spend_lookup(&mut self, peer: NodeId) -> bool {
        let now = self.now;
        let Some(link) = self.links.get_mut(&peer) else {
            return false;
        };
        let recent = link.looked.is_some_and(|at| at + LOOKUP_PAUSE > now);
        if recent || link.allowance < LOOKUP_BYTES {
            return false;
        }
        link.looked = Some(now);
        link.allowance -= LOOKUP_BYTES;
        true
    }

    /// What a neighbour asked for exists.
    pub(crate) fn prove(&mut self, peer: NodeId) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.allowance = GRACE;
        }
    }

    pub(crate) fn deliver(&mut self, stream: &StreamId, delivery: Delivery) {
        match delivery {
            Delivery::Part { .. } => self.stats.parts_delivered += 1,
            Delivery::Gap { .. } => self.stats.gaps_delivered += 1,
            Delivery::Init { .. } | Delivery::Finished | Delivery::Waiting(_) => {}
        }
        self.emit(Output::Deliver {
            stream: stream.clone(),
            delivery,
        });
    }

    pub(crate) fn reply(&mut self, id: CommandId, result: Result<Reply, CommandError>) {
        self.emit(Output::Reply { id, result });
    }

    pub(crate) fn observe(&mut self, event: Event) {
        self.emit(Output::Observe(event));
    }

    /// Puts a question to the driver; false when too many are open.
    pub(crate) fn ask(&mut self, question: Question, asked: Asked) -> bool {
        if self.asks.len() >= self.config.max_asks {
            return false;
        }
        let ask = AskId(self.next_ask);
        self.next_ask += 1;
        self.asks.insert(ask, (self.now, asked));
        self.wait_for_answers();
        self.emit(Output::Ask { ask, question });
        true
    }

    /// Asks the driver for a claim; false when too many questions are open.
    pub(crate) fn ask_claim(&mut self, stream: &StreamId, job: JobId) -> bool {
        let stream = stream.clone();
        self.ask(Question::Claim { job }, Asked::Claim { stream, job })
    }

    /// For what a question was asked; `None` when it was answered already, or too late.
    pub(crate) fn take_ask(&mut self, ask: AskId) -> Option<Asked> {
        let (_, asked) = self.asks.remove(&ask)?;
        self.wait_for_answers();
        Some(asked)
    }

    /// A question whose answer is not waited for any more.
    pub(crate) fn overdue_ask(&mut self) -> Option<Asked> {
        let oldest = self.asks.first_entry();
        let overdue = oldest.filter(|oldest| oldest.get().0 + ASK_PATIENCE <= self.now);
        let asked = overdue.map(|overdue| overdue.remove().1);
        self.wait_for_answers();
        asked
    }

    pub(crate) fn open_asks(&self) -> usize {
        self.asks.len()
    }

    fn wait_for_answers(&mut self) {
        let oldest = self.asks.first_key_value();
        let until = oldest.map(|(_, (since, _))| *since + ASK_PATIENCE);
        self.timers.set(Timer::Asks, until);
    }

    pub(crate) const fn request_id(&mut self) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        id
    }

    pub(crate) const fn dial_id(&mut self) -> DialId {
        let id = DialId(self.next_dial);
        self.next_dial += 1;
        id
    }

    pub(crate) fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A span between three and five quarters of `span`.
    pub(crate) fn jitter(&mut self, span: Duration) -> Duration {
        let micros = micros(span);
        let half = micros / 2;
        let extra = if half == 0 { 0 } else { self.random() % half };
        Duration::from_micros(micros - micros / 4 + extra)
    }

    /// Counts what no correct neighbour does.
    pub(crate) fn violation(&mut self, peer: NodeId, what: &'static str) {
        *self.stats.violations.entry(what).or_default() += 1;
        self.observe(Event::Misbehaved { peer, what });
        let (now, config) = (self.now, &self.config);
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        if now.since(link.window) > config.violation_window {
            link.window = now;
            link.violations = 0;
        }
        link.violations = link.violations.saturating_add(1);
        if link.violations >= config.max_violations && !self.condemned.contains(&peer) {
            self.condemned.push(peer);
        }
    }

    /// Counts an answer or data on a request that is not open: late when it was open a
    /// short while ago, a violation when not.
    pub(crate) fn unsolicited(&mut self, peer: NodeId, request: RequestId) {
        match self.links.get(&peer) {
            Some(link) if link.was_closed(request) => self.stats.late += 1,
            Some(_) => self.violation(peer, "unsolicited"),
            None => {}
        }
    }
}

/// The pauses of one thing that is tried again and again, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    next: u64,
    first: u64,
    cap: u64,
}

impl Retry {
    pub(crate) fn new(plan: Backoff) -> Self {
        let first = micros(plan.first);
        Self {
            next: first,
            first,
            cap: micros(plan.cap),
        }
    }

    /// When to try again; later each time.
    pub(crate) fn schedule(&mut self, cx: &mut Cx) -> Time {
        let pause = cx.jitter(Duration::from_micros(self.next));
        self.next = self.next.saturating_mul(2).min(self.cap);
        cx.now + pause
    }

    pub(crate) const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A span in microseconds, as far as they fit.
fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 2)
}
