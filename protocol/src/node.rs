//! The node: takes inputs, hands each to its sub-machine, queues outputs.

mod feeds;
mod flow;
mod jobs;
mod links;
mod local;
mod masters;
mod requests;
mod routing;
mod streams;
mod upstream;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use headwater_proto::{JobId, ManifestId, Message, NodeId, RequestId, RoutingKey, StreamId};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use self::{feeds::Feed, jobs::Job, links::Neighbour, masters::Master, requests::Pending};
use crate::{
    config::Config,
    input::{Answer, AskId, Command, CommandId, DialId, Input},
    output::{CommandError, Output, Priority, Question, Reply},
    stats::Stats,
    stream::Stream,
    time::{Deadline, Time},
    timers::{Timer, Timers},
    view::{PeerView, StreamView},
};

/// One participant of the overlay: broadcaster, relay, subscriber and transcoder alike.
///
/// `Node` performs no I/O, reads no clock and draws no entropy. Feed it [`Input`]s, then
/// carry out the [`Output`]s in order until [`Node::poll_output`] gives `None`, then wait
/// for the next input or until [`Node::poll_timeout`].
///
/// 1. `now` never decreases; an older `now` counts as the newest one seen.
/// 2. Outputs are carried out in order, without waiting; what comes of them returns as
///    inputs.
/// 3. Each [`Input::Command`] gets exactly one [`Output::Reply`], each [`Output::Dial`]
///    exactly one [`Input::Connected`] or [`Input::DialFailed`], each [`Output::Ask`] at
///    most one [`Input::Answer`].
/// 4. The same seed and inputs give the same outputs, on every machine.
pub struct Node {
    id: NodeId,
    key: RoutingKey,
    config: Config,
    now: Time,
    rng: ChaCha8Rng,
    out: VecDeque<Output>,
    timers: Timers,
    stats: Stats,
    next_id: u64,
    links: BTreeMap<NodeId, Neighbour>,
    streams: BTreeMap<StreamId, Stream>,
    /// Which stream a request of ours, present or past, was for.
    subs: BTreeMap<RequestId, StreamId>,
    requests: BTreeMap<RequestId, Pending>,
    masters: BTreeMap<ManifestId, Master>,
    jobs: BTreeMap<JobId, Job>,
    feeds: BTreeMap<(NodeId, JobId), Feed>,
    asks: BTreeMap<AskId, Asked>,
    dials: BTreeMap<DialId, (NodeId, JobId)>,
}

/// Why a question was put to the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// A claim to subscribe with.
    Claim(JobId),
    /// Whether a transcoder's claim holds.
    CheckClaim(NodeId, JobId),
    /// What to answer to a neighbour, or to a command, that asked.
    Answer(Origin),
    /// Whether to take a transcoder's result for a broadcast.
    CheckResult(Origin, ManifestId),
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A neighbour, by its request.
    Peer(NodeId, RequestId),
    /// This machine.
    Local(CommandId),
    /// A job of this node, for its result.
    Job(JobId),
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("now", &self.now)
            .field("links", &self.links.len())
            .field("streams", &self.streams.len())
            .finish_non_exhaustive()
    }
}

impl Node {
    /// A node without links. `seed` is all its randomness.
    #[must_use]
    pub fn new(id: NodeId, config: Config, seed: [u8; 32], now: Time) -> Self {
        Self {
            id,
            key: id.routing_key(),
            config,
            now,
            rng: ChaCha8Rng::from_seed(seed),
            out: VecDeque::new(),
            timers: Timers::default(),
            stats: Stats::default(),
            next_id: 1,
            links: BTreeMap::new(),
            streams: BTreeMap::new(),
            subs: BTreeMap::new(),
            requests: BTreeMap::new(),
            masters: BTreeMap::new(),
            jobs: BTreeMap::new(),
            feeds: BTreeMap::new(),
            asks: BTreeMap::new(),
            dials: BTreeMap::new(),
        }
    }

    /// Applies one input. Never fails and never panics, whatever a peer sends.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Command { id, command } => self.command(id, command),
            Input::Connected { peer, link } => self.connected(peer, &link),
            Input::Disconnected { peer } => self.disconnected(peer),
            Input::DialFailed { dial } => self.dial_failed(dial),
            Input::Received { from, message } => self.received(from, message.into_inner()),
            Input::Violation { from, violation } => {
                *self.stats.violations.entry(violation).or_default() += 1;
                self.misbehaved(from, "broken data");
            }
            Input::Writable { peer, credit } => self.writable(peer, credit),
            Input::Answer { ask, answer } => self.answered(ask, answer),
            Input::Timeout => {}
        }
        while let Some(timer) = self.timers.pop(self.now) {
            self.timer(timer);
        }
    }

    /// The next thing to do, in causal order.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Input::Timeout`] is due next. Changes only in [`Node::handle`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.next()
    }

    /// The node's id.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Counters since the start.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The open links.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.links.iter().map(|(peer, link)| PeerView {
            peer: *peer,
            roles: link.roles,
            credit: link.credit,
        })
    }

    /// The streams it carries.
    pub fn streams(&self) -> impl Iterator<Item = StreamView> {
        self.streams.values().map(|stream| StreamView {
            stream: stream.id.clone(),
            owned: stream.owned,
            parent: stream.parent(),
            children: stream.children.keys().map(|(peer, _)| *peer).collect(),
            delivered: stream.local.is_some(),
            edge: stream.ring.edge(),
            finished: stream.finish.is_some(),
            ring_bytes: stream.ring.bytes(),
        })
    }

    fn command(&mut self, id: CommandId, command: Command) {
        let done = match command {
            Command::Publish { stream } => self.publish(stream),
            Command::Append { header, chunks } => self.append(&header, &chunks),
            Command::Finish { body } => self.finish(&body),
            Command::SetMaster { body } => self.set_master(body),
            Command::Subscribe { stream, from } => self.subscribe(&stream, from),
            Command::Unsubscribe { stream } => self.unsubscribe(&stream),
            Command::FollowMaster { manifest } => self.follow_master(manifest),
            Command::UnfollowMaster { manifest } => self.unfollow_master(manifest),
            Command::StartJob { job, stream, from } => self.start_job(job, &stream, from),
            Command::StopJob { job } => self.stop_job(job),
            Command::Respond { body } => self.respond(body),
            Command::RequestStatus { node } => return self.request_status(id, node),
            Command::Probe {
                transcoder,
                stream,
                renditions,
            } => return self.probe(id, transcoder, stream, renditions),
        };
        self.reply(id, done.map(|()| Reply::Done));
    }

    fn received(&mut self, from: NodeId, message: Message) {
        // What is still on its way when a link closes has no sender any more.
        let Some(link) = self.links.get_mut(&from) else {
            return;
        };
        link.heard = self.now;
        match message {
            // The driver exchanged these before it said Connected.
            Message::Hello(_) => {}
            Message::Ping(ping) => self.send(from, Message::Pong(ping)),
            Message::Pong(_) => {}
            Message::Sub(sub) => self.on_sub(from, sub),
            Message::SubAck(ack) => self.on_sub_ack(from, ack),
            Message::NotFound(not_found) => self.on_not_found(from, not_found.request),
            Message::NoRoute(no_route) => {
                self.on_no_route(from, no_route.request, no_route.reason);
            }
            Message::Redirect(redirect) => self.on_redirect(from, &redirect),
            Message::Cancel(cancel) => self.on_cancel(from, cancel.request),
            Message::Finish(finish) => self.on_finish(from, &finish),
            Message::Part(part) => self.on_part(from, &part),
            Message::Chunk(chunk) => self.on_chunk(from, &chunk),
            Message::Nack(nack) => self.on_nack(from, &nack),
            Message::Gap(gap) => self.on_gap(from, &gap),
            Message::GetMasterPlaylist(get) => self.on_get_master(from, &get),
            Message::MasterPlaylistData(data) => self.on_master_data(from, data),
            Message::NodeStatusReq(request) => self.on_status_req(from, &request),
            Message::NodeStatusData(data) => self.on_status_data(from, data),
            Message::TranscodeSub(sub) => self.on_transcode_sub(from, sub),
            Message::TranscodeResponse(response) => self.on_transcode_response(from, response),
            Message::JobProbe(probe) => self.on_probe(from, probe),
            Message::JobProbeReply(reply) => self.on_probe_reply(from, &reply),
        }
    }

    fn answered(&mut self, ask: AskId, answer: Answer) {
        let Some(asked) = self.asks.remove(&ask) else {
            return;
        };
        match (asked, answer) {
            (Asked::Claim(job), Answer::Claim(claim)) => self.claim_ready(job, claim),
            (Asked::CheckClaim(transcoder, job), Answer::ClaimGranted { addresses }) => {
                self.claim_granted(transcoder, job, addresses);
            }
            (Asked::CheckClaim(transcoder, job), Answer::ClaimRefused) => {
                self.claim_refused(transcoder, job);
            }
            (Asked::Answer(origin), Answer::Status(body)) => self.status_ready(origin, body),
            (Asked::Answer(origin), Answer::Probe { available }) => {
                self.probe_ready(origin, available);
            }
            (Asked::CheckResult(origin, manifest), Answer::Result { accepted }) => {
                self.result_checked(origin, manifest, accepted);
            }
            (asked, answer) => {
                debug_assert!(false, "{asked:?} cannot be answered by {answer:?}");
            }
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::KeepAlive(peer) => self.keep_alive(peer),
            Timer::Request(request) => self.request_timeout(request),
            Timer::Upstream(stream) => self.upstream_timeout(&stream),
            Timer::Retry(stream) => self.seek(&stream),
            Timer::Heartbeat(stream) => self.heartbeat(&stream),
            Timer::Repair(stream) => self.repair(&stream),
            Timer::Drop(stream) => self.drop_stream(&stream),
            Timer::Master(manifest) => self.master_timeout(manifest),
            Timer::Respond(job) => self.send_result(job),
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.send_with(to, message, Priority::Control);
    }

    fn send_with(&mut self, to: NodeId, message: Message, priority: Priority) {
        self.out.push_back(Output::Send {
            to,
            message,
            priority,
        });
    }

    fn reply(&mut self, id: CommandId, result: Result<Reply, CommandError>) {
        self.out.push_back(Output::Reply { id, result });
    }

    fn ask(&mut self, asked: Asked, question: Question) {
        let ask = AskId(self.fresh());
        self.asks.insert(ask, asked);
        self.out.push_back(Output::Ask { ask, question });
    }

    fn fresh(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn fresh_request(&mut self) -> RequestId {
        RequestId(self.fresh())
    }

    /// A wait of `span` to one and a half times `span`, so that many nodes that lost
    /// the same parent do not all come back at once.
    fn jittered(&mut self, span: Duration) -> Time {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let extra = self.rng.next_u64() % (micros / 2).max(1);
        self.now + span + Duration::from_micros(extra)
    }
}
