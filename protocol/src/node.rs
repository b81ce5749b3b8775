//! Where every input goes.

use std::sync::Arc;

use headwater_proto::{
    GetReceipts, JobProbe, ManifestId, Message, NoRouteReason, NodeId, NodeStatusReq, RequestId,
    Sub, TranscodeResponse, Violation,
    limits::{MAX_ADDRESSES, MAX_HOPS},
};

use crate::{
    asks::{Asks, asks},
    config::Config,
    cx::{Asked, Cx, Requester},
    feed::Feeds,
    input::{Answer, AskId, Command, CommandId, DialId, Input, Link},
    jobs::Jobs,
    master::Masters,
    output::{DisconnectReason, Failure, Output, Priority, Question, Reply},
    receipts::Receipts,
    requests::{Outcome, Requests, What, answer},
    stats::Stats,
    streams::{Child, Streams},
    time::{Deadline, Time},
    timers::Timer,
};

/// One participant of the network: broadcaster, relayer, transcoder and viewer alike.
///
/// It performs no I/O, reads no clock and draws no entropy but from its seed: the same
/// inputs at the same times give the same outputs. A driver
///
/// 1. gives it what happens ([`Node::handle`]), with a time that never decreases (an
///    earlier one counts as the latest);
/// 2. carries out what it wants ([`Node::poll_output`]) in order, without waiting in
///    between, until there is nothing more;
/// 3. sleeps until something happens or [`Node::poll_timeout`] has come, which it tells
///    as [`Input::Timeout`].
///
/// Each command gets one reply, each question one answer, each dial one outcome.
/// A link is FIFO within each [`Priority`], and nothing comes from it after
/// [`Input::Disconnected`]. After [`Output::Disconnect`] the node treats the link as
/// gone at once.
#[derive(Debug)]
pub struct Node {
    pub(crate) cx: Cx,
    pub(crate) streams: Streams,
    masters: Masters,
    requests: Requests,
    feeds: Feeds,
    receipts: Receipts,
    pub(crate) jobs: Jobs,
}

impl Node {
    /// A node without links. `seed` decides every random choice: it varies pauses, and
    /// is no secret. Many nodes of one process may share a configuration.
    #[must_use]
    pub fn new(id: NodeId, config: impl Into<Arc<Config>>, seed: [u8; 32], now: Time) -> Self {
        Self {
            cx: Cx::new(id, config.into(), seed, now),
            streams: Streams::default(),
            masters: Masters::default(),
            requests: Requests::default(),
            feeds: Feeds::default(),
            receipts: Receipts::default(),
            jobs: Jobs::default(),
        }
    }

    /// Applies one input. Never fails and never panics, whatever a neighbour sends.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.cx.now = self.cx.now.max(now);
        self.cx.stats.inputs += 1;
        match input {
            Input::Command { id, command } => self.on_command(id, command),
            Input::Connected { peer, link } => self.on_connected(peer, &link),
            Input::Disconnected { peer } => self.on_disconnected(peer),
            Input::DialFailed { dial } => self.on_dial_failed(dial),
            Input::Received { from, message } => {
                if let Some(link) = self.cx.links.get_mut(&from) {
                    link.heard = self.cx.now;
                    link.earn(&message);
                    let asks = asks(&message);
                    let times = match asks {
                        Asks::Nothing => 0,
                        Asks::Work => link.asked.count(self.cx.now),
                        Asks::Answer(_) => {
                            link.used = self.cx.now;
                            link.asked.count(self.cx.now)
                        }
                    };
                    self.cx.stats.messages_in += 1;
                    let most = self.cx.config.max_requests_per_second;
                    if times <= most {
                        self.on_message(from, message.into_inner());
                    } else {
                        self.on_excess(from, asks, times / FLOOD >= most);
                    }
                }
            }
            Input::Violation { from, violation } => {
                self.cx.violation(from, violation_name(violation));
            }
            Input::Addresses {
                peer,
                mut addresses,
            } => {
                addresses.truncate(MAX_ADDRESSES);
                if let Some(link) = self.cx.links.get_mut(&peer) {
                    link.addresses = addresses;
                }
            }
            Input::Writable { peer, credit } => {
                if let Some(link) = self.cx.links.get_mut(&peer) {
                    link.credit = link.credit.saturating_add(credit).min(link.credit_max);
                    if std::mem::take(&mut link.starved) {
                        self.streams.on_writable(&mut self.cx, peer);
                    }
                }
            }
            Input::Answer { ask, answer } => self.on_answer(ask, answer),
            Input::Timeout => {}
        }
        self.run_timers();
        self.after();
    }

    /// The next thing to do, in order of cause and effect.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.pop_output()
    }

    /// When [`Input::Timeout`] is due, and for what. Changes only in [`Node::handle`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.cx.timers.next()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.cx.stats
    }

    /// This node.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.cx.me
    }

    /// Routed requests that wait for an answer.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// Questions that wait for the driver's answer.
    #[must_use]
    pub fn open_questions(&self) -> usize {
        self.cx.open_asks()
    }

    /// Since when a link has carried nothing that anybody waits for; `None` while it does,
    /// and when there is no such link.
    ///
    /// What counts is what either side has asked of the other: subscriptions, routed
    /// requests, followed master playlists; and that a job needs the link, or something
    /// here waits for a way to the neighbour. When that is long ago, a link that the driver
    /// does not keep for routing is of no use.
    #[must_use]
    pub fn idle_since(&self, peer: &NodeId) -> Option<Time> {
        let link = self.cx.links.get(peer)?;
        let used = !link.carries_nothing()
            || self.requests.wait_for(peer)
            || self.masters.concern(peer)
            || self.feeds.may_feed(peer)
            || self.streams.works_for(peer)
            || self.is_looked_for(peer);
        (!used).then_some(link.used)
    }

    /// Broadcasts whose master playlist is made, followed or kept.
    #[must_use]
    pub fn known_masters(&self) -> usize {
        self.masters.len()
    }

    // ---- commands ------------------------------------------------------------------

    fn on_command(&mut self, id: CommandId, command: Command) {
        let cx = &mut self.cx;
        let result = match command {
            Command::Publish { stream } => self.streams.publish(cx, stream),
            Command::Append { header, chunks } => self.streams.append(cx, &header, chunks),
            Command::Finish { body } => {
                let stream = body.value().stream.clone();
                let result = self.streams.finish(cx, body);
                if result.is_ok() {
                    self.feeds.on_over(cx, &mut self.streams, &stream);
                }
                result
            }
            Command::Unpublish { stream } => {
                let result = self.streams.unpublish(cx, &stream);
                if result.is_ok() {
                    self.feeds.on_over(cx, &mut self.streams, &stream);
                }
                result
            }
            Command::SetMaster { body } => self.masters.set(cx, body),
            Command::Subscribe { stream, from } => self.streams.deliver(cx, stream, from, None),
            Command::Unsubscribe { stream } => self.streams.undeliver(cx, &stream, None),
            Command::FollowMaster { manifest } => self.masters.follow(cx, manifest),
            Command::UnfollowMaster { manifest } => {
                self.masters.unfollow(cx, manifest);
                Ok(())
            }
            Command::RequestStatus { node } => {
                return self.request(What::Status(node), Requester::Command(id), MAX_HOPS);
            }
            Command::Probe {
                transcoder,
                stream,
                renditions,
            } => {
                let what = What::Probe {
                    transcoder,
                    stream,
                    renditions,
                };
                return self.request(what, Requester::Command(id), MAX_HOPS);
            }
            Command::StartJob { job, stream, from } => {
                let result = self.jobs.start(cx, &mut self.streams, job, stream, from);
                if result.is_ok() {
                    self.cx.reply(id, Ok(Reply::Done));
                    return;
                }
                result
            }
            Command::StopJob { job } => self.jobs.stop(cx, &mut self.streams, job),
            Command::RevokeClaim { transcoder, job } => {
                self.feeds.revoke(cx, &mut self.streams, (transcoder, job));
                Ok(())
            }
            Command::Respond { body } => match self.jobs.respond(cx, body) {
                Ok(body) => {
                    let to = Requester::Job(body.value().job);
                    self.request(What::Response(body), to, MAX_HOPS);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Command::GetReceipts { body } => {
                return self.request(What::Receipts(body), Requester::Command(id), MAX_HOPS);
            }
        };
        self.cx.reply(id, result.map(|()| Reply::Done));
    }

    // ---- links ---------------------------------------------------------------------

    fn on_connected(&mut self, peer: NodeId, link: &Link) {
        if let Some(dial) = link.dial {
            self.feeds.on_dialled(dial);
        }
        if peer == self.cx.me {
            return;
        }
        self.on_disconnected(peer);
        if self.cx.links.len() >= self.cx.config.max_peers {
            let reason = DisconnectReason::TooManyLinks;
            let needed = link.dial.is_some() || self.is_looked_for(&peer);
            let least = self
                .cx
                .links
                .least_needed(needed || link.roles.relayer, self.cx.now);
            let closed = least.unwrap_or(peer);
            self.cx.emit(Output::Disconnect {
                peer: closed,
                reason,
            });
            if closed == peer {
                return self.wish_ends(peer);
            }
            self.on_disconnected(closed);
        }
        let cx = &mut self.cx;
        cx.links.insert(peer, link.roles, link.credit, cx.now);
        cx.timers
            .set_no_earlier(Timer::Links, cx.now + cx.config.ping_after);
        self.streams.on_connected(cx, peer);
        self.masters.on_connected(cx, peer);
        self.requests.on_connected(cx, peer);
        self.wish_ends(peer);
    }

    /// Whether something here waits for a link to a node.
    fn is_looked_for(&self, peer: &NodeId) -> bool {
        let cx = &self.cx;
        cx.dials.is_wished(peer) || cx.lookups.is_open(peer, cx.now) || self.streams.misses(peer)
    }

    /// A node that streams wanted a link to is linked, or can't be.
    fn wish_ends(&mut self, peer: NodeId) {
        let streams = self.cx.dials.take(&peer);
        self.streams.on_dialled(&mut self.cx, peer, streams);
    }

    fn on_dial_failed(&mut self, dial: DialId) {
        self.feeds.on_dialled(dial);
        if let Some(peer) = self.cx.dials.target(dial) {
            self.wish_ends(peer);
        }
    }

    pub(crate) fn on_disconnected(&mut self, peer: NodeId) {
        let cx = &mut self.cx;
        let Some(link) = cx.links.remove(&peer) else {
            return;
        };
        self.streams.on_disconnected(cx, peer, &link.up, &link.down);
        self.masters.on_disconnected(cx, peer);
        self.requests.on_disconnected(cx, peer);
    }

    // ---- messages ------------------------------------------------------------------

    fn on_message(&mut self, from: NodeId, message: Message) {
        let cx = &mut self.cx;
        match message {
            Message::Hello(_) => cx.violation(from, "second hello"),
            Message::Ping(ping) => cx.send(from, Message::Pong(ping), Priority::Control),
            Message::Pong(pong) => self.on_pong(from, pong),
            Message::Sub(sub) => self.on_sub(from, &sub),
            Message::SubAck(ack) => self.streams.on_sub_ack(cx, from, ack),
            Message::NotFound(answer) => self.on_refused(from, answer.request, Failure::NotFound),
            Message::NoRoute(answer) => {
                self.on_refused(from, answer.request, Failure::NoRoute(answer.reason));
            }
            Message::Redirect(answer) => {
                let request = answer.request;
                if !self.streams.on_redirect(cx, from, answer) {
                    let failure = Failure::NoRoute(NoRouteReason::Overloaded);
                    self.on_refused(from, request, failure);
                }
            }
            Message::Cancel(cancel) => self.streams.on_cancel(cx, from, &cancel),
            Message::Finish(finish) => self.streams.on_finish(cx, from, finish),
            Message::Part(part) => self.streams.on_part(cx, from, &part),
            Message::Chunk(chunk) => self.streams.on_chunk(cx, from, chunk),
            Message::Nack(nack) => self.streams.on_nack(cx, from, nack),
            Message::Gap(gap) => self.streams.on_gap(cx, from, &gap),
            Message::GetMasterPlaylist(get) => self.masters.on_get(cx, from, &get),
            Message::MasterPlaylistData(data) => {
                if self.requests.contains(data.request) {
                    let outcome = Outcome::Master(data.body);
                    self.requests.on_answer(cx, from, data.request, outcome);
                } else {
                    self.masters.on_data(cx, from, data);
                }
            }
            Message::NodeStatusReq(NodeStatusReq {
                request,
                node,
                hops_left,
            }) => {
                let to = Requester::Peer(from, request);
                self.request(What::Status(node), to, hops_left);
            }
            Message::NodeStatusData(data) => {
                let outcome = Outcome::Status(data.body);
                self.requests.on_answer(cx, from, data.request, outcome);
            }
            Message::TranscodeSub(sub) => {
                self.feeds
                    .on_transcode_sub(cx, &mut self.streams, from, *sub);
            }
            Message::TranscodeResponse(TranscodeResponse {
                request,
                hops_left,
                body,
            }) => {
                let to = Requester::Peer(from, request);
                self.request(What::Response(body), to, hops_left);
            }
            Message::JobProbe(probe) => self.on_job_probe(from, *probe),
            Message::JobProbeReply(reply) => {
                let outcome = Outcome::Probe {
                    available: reply.available,
                    load: reply.load,
                };
                self.requests.on_answer(cx, from, reply.request, outcome);
            }
            Message::GetReceipts(GetReceipts {
                request,
                hops_left,
                body,
            }) => {
                let to = Requester::Peer(from, request);
                self.request(What::Receipts(body), to, hops_left);
            }
            Message::Receipts(receipts) => {
                let outcome = Outcome::Receipts(receipts.body);
                self.requests.on_answer(cx, from, receipts.request, outcome);
            }
        }
    }

    /// A neighbour asks for more in a second than this node does for it. A relay may pass
    /// on what many asked of it, so only what no relay does is held against it.
    fn on_excess(&mut self, from: NodeId, asks: Asks, flood: bool) {
        let cx = &mut self.cx;
        match asks {
            _ if flood => cx.violation(from, "flood of requests"),
            Asks::Answer(request) => cx.no_route(from, request, NoRouteReason::Overloaded),
            Asks::Work | Asks::Nothing => cx.stats.overloaded += 1,
        }
    }

    fn on_sub(&mut self, from: NodeId, sub: &Sub) {
        self.cx.stats.subs_in += 1;
        let mut child = Child::new(from, sub.request, sub.from, self.cx.now);
        if sub.stream.node == self.cx.me {
            child.feed = self.feeds.job_of(from, &sub.stream).map(|job| (from, job));
        }
        self.streams
            .admit(&mut self.cx, &sub.stream, child, sub.hops_left, None);
    }

    fn on_job_probe(&mut self, from: NodeId, probe: JobProbe) {
        let to = Requester::Peer(from, probe.request);
        let what = What::Probe {
            transcoder: probe.transcoder,
            stream: probe.stream,
            renditions: probe.renditions,
        };
        self.request(what, to, probe.hops_left);
    }

    fn on_refused(&mut self, from: NodeId, request: RequestId, failure: Failure) {
        let cx = &mut self.cx;
        if self.streams.on_refused(cx, from, request, failure) {
            return;
        }
        if self.masters.contains(request) {
            self.masters.on_refused(cx, from, request, failure);
        } else {
            self.requests
                .on_answer(cx, from, request, Outcome::Failed(failure));
        }
    }

    /// Starts a routed request, or answers it when this node is its target.
    fn request(&mut self, what: What, requester: Requester, hops_left: u8) {
        let cx = &mut self.cx;
        if what.target() != cx.me {
            return self.requests.start(cx, what, requester, hops_left);
        }
        let asked = match what {
            What::Status(_) => cx.ask(Question::Status, Asked::Status { to: requester }),
            What::Probe {
                stream, renditions, ..
            } => {
                let question = Question::Probe { stream, renditions };
                cx.ask(question, Asked::Probe { to: requester })
            }
            What::Response(body) => {
                let result = body.value();
                let name = (result.transcoder, result.job);
                if !self.feeds.is_current(name, result.sequence) {
                    cx.stats.stale_claims += 1;
                    return answer(cx, requester, Outcome::Failed(Failure::NotFound));
                }
                let asked = Asked::CheckResult {
                    to: requester,
                    name,
                    sequence: result.sequence,
                    manifest: ManifestId {
                        node: result.stream.node,
                        broadcast: result.stream.broadcast,
                    },
                };
                cx.ask(Question::CheckResult { body }, asked)
            }
            What::Receipts(body) => {
                cx.stats.receipts_asked += 1;
                let asked = Asked::Receipts {
                    to: requester,
                    name: (body.value().transcoder, body.value().job),
                };
                cx.ask(Question::Receipts { body }, asked)
            }
        };
        if !asked {
            let busy = Failure::NoRoute(NoRouteReason::Overloaded);
            answer(cx, requester, Outcome::Failed(busy));
        }
    }

    // ---- the driver's answers ------------------------------------------------------

    fn on_answer(&mut self, ask: AskId, given: Answer) {
        if let Some(asked) = self.cx.take_ask(ask) {
            self.answered(asked, Some(given));
        }
    }

    /// Does what follows from an answer. None at all, or one of another kind than the
    /// question, counts as a refusal.
    fn answered(&mut self, asked: Asked, given: Option<Answer>) {
        let cx = &mut self.cx;
        match asked {
            Asked::Lookup { target } => {
                cx.looked_up(target);
                self.streams.on_lookup(cx, target);
                self.masters.on_lookup(cx, target);
                self.requests.on_lookup(cx, target);
            }
            Asked::Claim { stream, job } => {
                let claim = if let Some(Answer::Claim(claim)) = given {
                    claim
                } else {
                    None
                };
                self.streams.on_claim(cx, &stream, job, claim);
            }
            Asked::CheckClaim {
                transcoder,
                job,
                claim,
            } => {
                let addresses = if let Some(Answer::ClaimGranted { addresses }) = given {
                    Some(addresses)
                } else {
                    None
                };
                let name = (transcoder, job);
                self.feeds
                    .on_checked(cx, &mut self.streams, name, claim, addresses);
            }
            Asked::CheckResult {
                to,
                name,
                sequence,
                manifest,
            } => {
                let accepted = matches!(given, Some(Answer::Result { accepted: true }));
                if accepted {
                    self.feeds.accept_result(cx, name, sequence);
                }
                let body = self.masters.body(&manifest).filter(|_| accepted).cloned();
                let refused = Outcome::Failed(Failure::NotFound);
                answer(cx, to, body.map_or(refused, Outcome::Master));
            }
            Asked::Status { to } => {
                let outcome = if let Some(Answer::Status(body)) = given {
                    Outcome::Status(body)
                } else {
                    Outcome::Failed(Failure::NotFound)
                };
                answer(cx, to, outcome);
            }
            Asked::Receipts { to, name } => {
                let outcome = if let Some(Answer::Receipts(Some(body))) = given {
                    self.receipts.answer(cx.now, name, body)
                } else {
                    Outcome::Failed(Failure::NotFound)
                };
                cx.stats.receipts_refused += u64::from(matches!(outcome, Outcome::Failed(_)));
                answer(cx, to, outcome);
            }
            Asked::Probe { to } => {
                let available = matches!(given, Some(Answer::Probe { available: true }));
                let load = self.jobs.load(cx);
                answer(cx, to, Outcome::Probe { available, load });
            }
        }
    }

    // ---- time ----------------------------------------------------------------------

    fn run_timers(&mut self) {
        while let Some(timer) = self.cx.timers.pop_due(self.cx.now) {
            let cx = &mut self.cx;
            match timer {
                Timer::Links => self.check_links(),
                Timer::Stream(key) => self.streams.on_timer(cx, key),
                Timer::Request(request) => self.requests.on_timer(cx, request),
                Timer::Master(manifest) => self.masters.on_timer(cx, manifest),
                Timer::Job(job) => {
                    if let Some(body) = self.jobs.due(job) {
                        self.request(What::Response(body), Requester::Job(job), MAX_HOPS);
                    }
                }
                Timer::Asks => {
                    while let Some(asked) = self.cx.overdue_ask() {
                        self.answered(asked, None);
                    }
                }
            }
        }
    }

    /// Does what one part of the node left for another.
    fn after(&mut self) {
        for job in std::mem::take(&mut self.cx.jobs_fed) {
            if let Some(body) = self.jobs.on_fed(job) {
                self.request(What::Response(body), Requester::Job(job), MAX_HOPS);
            }
        }
        for (job, done) in std::mem::take(&mut self.cx.job_results) {
            self.jobs.on_result(&mut self.cx, job, done);
            if let Some(stream) = self.jobs.stream(job).filter(|_| !done) {
                self.streams.on_result_refused(&mut self.cx, &stream, job);
            }
        }
        while let Some(peer) = self.cx.condemned.pop() {
            if self.cx.links.contains(&peer) {
                let reason = DisconnectReason::Violations;
                self.cx.emit(Output::Disconnect { peer, reason });
                self.on_disconnected(peer);
            }
        }
    }
}

/// Times [`Config::max_requests_per_second`] that are a flood. Relays pass on no more than
/// once that much to one neighbour.
const FLOOD: u32 = 4;

/// How a violation that the link's reader saw is counted.
const fn violation_name(violation: Violation) -> &'static str {
    match violation {
        Violation::Malformed => "malformed frame",
        Violation::BadSignature => "bad signature",
        Violation::Equivocation => "two headers for one part",
        Violation::UnannouncedChunk => "chunk without header",
        Violation::BadChunk => "chunk does not match its header",
        Violation::TooManyStreams => "too many substreams",
    }
}
