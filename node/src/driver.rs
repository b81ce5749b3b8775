//! Runs the protocol core: one task that turns what happens into inputs and outputs into
//! deeds, and never waits in between.

mod sink;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use headwater_proto::{ManifestId, MasterPlaylist, NodeId, Signed, StreamId};
use headwater_protocol::{
    Answer, AskId, Command, CommandError, CommandId, Delivery, Event, Failure, Input, Link, Node,
    Output, Question, Reply, Stats, StreamView, record::Recorder,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    clock,
    net::{NetEvent, NetHandle},
};
use sink::Sink;
pub use sink::{SINK_ITEMS, Subscription};

/// Requests that may wait for the core; beyond that callers wait.
const REQUESTS: usize = 1024;
/// Questions that may wait for their answerer; beyond that the core is told no.
const QUESTIONS: usize = 256;
/// The number of this node in a recording of its own.
pub const RECORDED_AS: u32 = 0;
/// Inputs taken in one round before timers are looked at again.
const INPUTS_PER_ROUND: usize = 64;
/// Looks at a link until it counts as one that nothing uses.
const LOOKS: u32 = 6;

/// What is known of a followed master playlist.
#[derive(Debug, Clone, Default)]
pub enum MasterState {
    /// Asked for, not answered.
    #[default]
    Asking,
    /// Cannot be had now; it is asked for again.
    Missing(Failure),
    /// The newest version.
    Known(Signed<MasterPlaylist>),
}

/// A question of the core that the program has to answer.
#[derive(Debug)]
pub struct Ask {
    /// The question.
    pub question: Question,
    id: AskId,
    requests: mpsc::Sender<Request>,
}

impl Ask {
    /// Gives the answer.
    pub async fn answer(self, answer: Answer) {
        // The core is gone only when the node stops; then nobody waits for the answer.
        drop(self.requests.send(Request::Answer(self.id, answer)).await);
    }
}

/// Counters and views of the core at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every stream the node carries.
    pub streams: Vec<StreamView>,
    /// Counters since the start.
    pub stats: Stats,
}

#[derive(Debug)]
enum Request {
    Command(Command, oneshot::Sender<Result<Reply, CommandError>>),
    Attach(StreamId, Consumer, Sink),
    Follow(ManifestId, oneshot::Sender<watch::Receiver<MasterState>>),
    Answer(AskId, Answer),
    Snapshot(oneshot::Sender<Snapshot>),
}

/// Why somebody on this machine takes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consumer {
    /// The core is subscribed for it.
    Subscriber,
    /// A job or another command keeps the stream coming.
    Bystander,
}

/// The node stopped before it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// Why a command brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// The core said no.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// There is no core any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Talks to the core's task; cheap to clone.
#[derive(Debug, Clone)]
pub struct Core {
    requests: mpsc::Sender<Request>,
}

impl Core {
    /// Gives a command and waits for its reply.
    ///
    /// # Errors
    /// When the core refuses it or the node stops.
    pub async fn command(&self, command: Command) -> Result<Reply, CoreError> {
        let (tx, rx) = oneshot::channel();
        self.request(Request::Command(command, tx)).await?;
        Ok(rx.await.map_err(|_| Stopped)??)
    }

    /// Subscribes to a stream until the subscription is dropped.
    ///
    /// # Errors
    /// When the node stops.
    pub async fn subscribe(&self, stream: StreamId) -> Result<Subscription, Stopped> {
        self.attach(stream, Consumer::Subscriber).await
    }

    /// Takes what is delivered of a stream without subscribing to it: a job does that.
    ///
    /// # Errors
    /// When the node stops.
    pub async fn listen(&self, stream: StreamId) -> Result<Subscription, Stopped> {
        self.attach(stream, Consumer::Bystander).await
    }

    /// Follows a broadcast's master playlist for as long as a receiver of it lives.
    ///
    /// # Errors
    /// When the node stops.
    pub async fn follow(
        &self,
        manifest: ManifestId,
    ) -> Result<watch::Receiver<MasterState>, Stopped> {
        let (tx, rx) = oneshot::channel();
        self.request(Request::Follow(manifest, tx)).await?;
        rx.await.map_err(|_| Stopped)
    }

    /// Views and counters.
    ///
    /// # Errors
    /// When the node stops.
    pub async fn snapshot(&self) -> Result<Snapshot, Stopped> {
        let (tx, rx) = oneshot::channel();
        self.request(Request::Snapshot(tx)).await?;
        rx.await.map_err(|_| Stopped)
    }

    async fn attach(&self, stream: StreamId, kind: Consumer) -> Result<Subscription, Stopped> {
        let (sink, subscription) = Sink::new();
        self.request(Request::Attach(stream, kind, sink)).await?;
        Ok(subscription)
    }

    async fn request(&self, request: Request) -> Result<(), Stopped> {
        self.requests.send(request).await.map_err(|_| Stopped)
    }
}

/// Starts the core's task. Questions of the core come on the returned receiver. Links that
/// this node has dialled, and that nothing has used for `spare_after`, are closed unless
/// the overlay needs them.
pub fn start(
    node: Node,
    net: NetHandle,
    events: mpsc::Receiver<NetEvent>,
    recorder: Option<Recorder>,
    spare_after: Duration,
    tasks: &tokio_util::task::TaskTracker,
    stop: CancellationToken,
) -> (Core, mpsc::Receiver<Ask>) {
    let (requests, incoming) = mpsc::channel(REQUESTS);
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let driver = Driver {
        node,
        net,
        questions,
        requests: requests.downgrade(),
        replies: BTreeMap::new(),
        next_command: 0,
        streams: BTreeMap::new(),
        masters: BTreeMap::new(),
        recorder,
        dialled: BTreeSet::new(),
        spare_after,
        inputs: VecDeque::new(),
    };
    tasks.spawn(driver.run(incoming, events, stop));
    (Core { requests }, asked)
}

/// Local consumers of one stream.
#[derive(Debug, Default)]
struct Consumers {
    sinks: Vec<(Consumer, Sink)>,
    /// Told to those who come later.
    init: Option<Delivery>,
    /// The core has a Subscribe of ours.
    subscribed: bool,
}

struct Driver {
    node: Node,
    net: NetHandle,
    questions: mpsc::Sender<Ask>,
    /// Weak, so that the last [`Core`] that is dropped ends the task.
    requests: mpsc::WeakSender<Request>,
    replies: BTreeMap<CommandId, oneshot::Sender<Result<Reply, CommandError>>>,
    next_command: u64,
    streams: BTreeMap<StreamId, Consumers>,
    masters: BTreeMap<ManifestId, watch::Sender<MasterState>>,
    recorder: Option<Recorder>,
    /// Neighbours that this node has dialled.
    dialled: BTreeSet<NodeId>,
    spare_after: Duration,
    /// What the core is given next: one thing at a time, so that a recording tells what
    /// came of each.
    inputs: VecDeque<Input>,
}

impl Driver {
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut events: mpsc::Receiver<NetEvent>,
        stop: CancellationToken,
    ) {
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        let mut look = tokio::time::interval(self.spare_after / LOOKS);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.node.poll_timeout().map(|deadline| deadline.at);
            // Local work first: what people on this machine want bounds what the network
            // may make the node do.
            tokio::select! { biased;
                () = stop.cancelled() => break,
                request = requests.recv() => match request {
                    Some(request) => self.request(request),
                    None => break,
                },
                event = events.recv() => match event {
                    Some(event) => self.event(event),
                    None => break,
                },
                _ = sweep.tick() => self.sweep(),
                _ = look.tick() => self.close_spare(),
                () = clock::sleep_until(wake) => self.input(Input::Timeout),
            }
            for _ in 1..INPUTS_PER_ROUND {
                match events.try_recv() {
                    Ok(event) => self.event(event),
                    Err(_) => break,
                }
            }
        }
        if let Some(Err(error)) = self.recorder.take().map(Recorder::finish) {
            warn!(%error, "the recording is not whole");
        }
    }

    fn input(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            let now = clock::now();
            if let Some(recorder) = &mut self.recorder {
                recorder.input(RECORDED_AS, now, &input);
            }
            self.node.handle(now, input);
            while let Some(output) = self.node.poll_output() {
                if let Some(recorder) = &mut self.recorder {
                    recorder.output(RECORDED_AS, &output);
                }
                self.output(output);
            }
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Command(command, reply) => {
                let id = self.command_id();
                self.replies.insert(id, reply);
                self.input(Input::Command { id, command });
            }
            Request::Attach(stream, kind, sink) => self.attach(stream, kind, sink),
            Request::Follow(manifest, reply) => self.follow(manifest, reply),
            Request::Answer(ask, answer) => self.input(Input::Answer { ask, answer }),
            Request::Snapshot(reply) => {
                let snapshot = Snapshot {
                    streams: self.node.streams().collect(),
                    stats: self.node.stats().clone(),
                };
                // Whoever asked may have given up meanwhile.
                drop(reply.send(snapshot));
            }
        }
    }

    fn command_id(&mut self) -> CommandId {
        self.next_command += 1;
        CommandId(self.next_command)
    }

    /// A command whose reply nobody waits for.
    fn tell(&mut self, command: Command) {
        let id = self.command_id();
        self.input(Input::Command { id, command });
    }

    fn attach(&mut self, stream: StreamId, kind: Consumer, mut sink: Sink) {
        let consumers = self.streams.entry(stream.clone()).or_default();
        if let Some(init) = &consumers.init {
            sink.offer(init);
        }
        consumers.sinks.push((kind, sink));
        if kind == Consumer::Subscriber && !consumers.subscribed {
            consumers.subscribed = true;
            self.tell(Command::Subscribe { stream, from: None });
        }
    }

    fn follow(
        &mut self,
        manifest: ManifestId,
        reply: oneshot::Sender<watch::Receiver<MasterState>>,
    ) {
        let known = self.masters.get(&manifest).map(watch::Sender::subscribe);
        let receiver = known.unwrap_or_else(|| {
            let (tx, rx) = watch::channel(MasterState::default());
            self.masters.insert(manifest, tx);
            self.tell(Command::FollowMaster { manifest });
            rx
        });
        drop(reply.send(receiver));
    }

    /// Ends what nobody on this machine takes any more.
    fn sweep(&mut self) {
        let mut over = Vec::new();
        for (stream, consumers) in &mut self.streams {
            consumers.sinks.retain(|(_, sink)| !sink.is_closed());
            let wanted = consumers
                .sinks
                .iter()
                .any(|(kind, _)| *kind == Consumer::Subscriber);
            if consumers.subscribed && !wanted {
                consumers.subscribed = false;
                over.push(stream.clone());
            }
        }
        for stream in over {
            self.tell(Command::Unsubscribe { stream });
        }
        self.streams
            .retain(|_, consumers| !consumers.sinks.is_empty());
        let unfollowed: Vec<_> = self
            .masters
            .iter()
            .filter(|(_, tx)| tx.receiver_count() == 0)
            .map(|(manifest, _)| *manifest)
            .collect();
        for manifest in unfollowed {
            self.masters.remove(&manifest);
            self.tell(Command::UnfollowMaster { manifest });
        }
    }

    /// Has links closed that nothing uses any more.
    fn close_spare(&self) {
        let now = clock::now();
        let is_spare = |peer: &&NodeId| {
            let since = self.node.idle_since(peer);
            since.is_some_and(|since| now.since(since) >= self.spare_after)
        };
        let spare: Vec<_> = self.dialled.iter().filter(is_spare).copied().collect();
        if !spare.is_empty()
            && let Err(error) = self.net.close_spare(spare)
        {
            debug!(%error, "spare links are looked at later");
        }
    }

    fn event(&mut self, event: NetEvent) {
        let input = match event {
            NetEvent::Connected {
                peer,
                roles,
                credit,
                dial,
                outbound,
            } => {
                if outbound {
                    self.dialled.insert(peer);
                }
                let dial = dial.map(headwater_protocol::DialId);
                let link = Link {
                    roles,
                    credit,
                    dial,
                };
                Input::Connected { peer, link }
            }
            NetEvent::Addresses { peer, addresses } => Input::Addresses { peer, addresses },
            NetEvent::Disconnected { peer, .. } => {
                self.dialled.remove(&peer);
                Input::Disconnected { peer }
            }
            NetEvent::DialFailed { dial, error } => {
                debug!(dial, error, "dial failed");
                let dial = headwater_protocol::DialId(dial);
                Input::DialFailed { dial }
            }
            NetEvent::Received { from, message } => Input::Received { from, message },
            NetEvent::Violation { from, violation } => Input::Violation { from, violation },
            NetEvent::Writable { peer, credit } => Input::Writable { peer, credit },
        };
        self.input(input);
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Send {
                to,
                message,
                priority,
            } => self.net.send(to, message, priority),
            Output::Dial {
                dial,
                peer,
                addresses,
            } => {
                if let Err(error) = self.net.dial(dial.0, peer, addresses) {
                    warn!(peer = peer.fmt_short(), %error, "not dialled");
                    self.inputs.push_back(Input::DialFailed { dial });
                }
            }
            Output::Disconnect { peer, reason } => {
                info!(peer = peer.fmt_short(), ?reason, "closing the link");
                self.net.disconnect(peer);
            }
            Output::Deliver { stream, delivery } => self.deliver(&stream, delivery),
            Output::Master { body } => {
                if let Some(tx) = self.masters.get(&body.value().manifest) {
                    tx.send_replace(MasterState::Known(body));
                }
            }
            Output::MasterMissing { manifest, failure } => {
                if let Some(tx) = self.masters.get(&manifest) {
                    tx.send_if_modified(|state| match state {
                        MasterState::Known(_) => false,
                        MasterState::Asking | MasterState::Missing(_) => {
                            *state = MasterState::Missing(failure);
                            true
                        }
                    });
                }
            }
            Output::Ask { ask, question } => self.ask(ask, question),
            Output::Reply { id, result } => {
                if let Some(reply) = self.replies.remove(&id) {
                    drop(reply.send(result));
                } else if let Err(error) = result {
                    warn!(%error, "command failed");
                }
            }
            Output::Observe(event) => observe(&event),
        }
    }

    fn deliver(&mut self, stream: &StreamId, delivery: Delivery) {
        let Some(consumers) = self.streams.get_mut(stream) else {
            return;
        };
        for (_, sink) in &mut consumers.sinks {
            sink.offer(&delivery);
        }
        if matches!(delivery, Delivery::Init { .. }) {
            consumers.init = Some(delivery);
        }
    }

    fn ask(&mut self, id: AskId, question: Question) {
        let Some(requests) = self.requests.upgrade() else {
            return;
        };
        let ask = Ask {
            question,
            id,
            requests,
        };
        if let Err(refused) = self.questions.try_send(ask) {
            warn!("too many questions at once; refusing one");
            let answer = refusal(&refused.into_inner().question);
            if let Some(answer) = answer {
                self.inputs.push_back(Input::Answer { ask: id, answer });
            }
        }
    }
}

/// What an overloaded node says; `None` where silence until a time-out is the answer.
fn refusal(question: &Question) -> Option<Answer> {
    match question {
        Question::Claim { .. } | Question::Status => None,
        Question::CheckClaim { .. } => Some(Answer::ClaimRefused),
        Question::Lookup { .. } => Some(Answer::Lookup),
        Question::CheckResult { .. } => Some(Answer::Result { accepted: false }),
        Question::Probe { .. } => Some(Answer::Probe { available: false }),
        Question::Receipts { .. } => Some(Answer::Receipts(None)),
    }
}

fn observe(event: &Event) {
    match event {
        Event::ParentChanged { stream, from, to } => {
            let from = from.map(|node| node.fmt_short());
            let to = to.map(|node| node.fmt_short());
            info!(%stream, from, to, "stream comes from another node");
        }
        Event::StageChanged { stream, from, to } if from.is_fed() || to.is_fed() => {
            info!(%stream, ?from, ?to, "feed of a job changed");
        }
        // A search goes on, every second and for as long as the broadcaster is away.
        Event::StageChanged { stream, from, to } => {
            debug!(%stream, ?from, ?to, "search of a job's feed");
        }
        Event::GrantChanged {
            job,
            transcoder,
            from,
            to,
        } => debug!(%job, transcoder = transcoder.fmt_short(), ?from, ?to, "claims to a job"),
        Event::FeedStarted {
            job,
            transcoder,
            direct,
        } => info!(%job, transcoder = transcoder.fmt_short(), direct, "feeding transcoder"),
        Event::FeedEnded {
            job,
            transcoder,
            direct,
        } => info!(%job, transcoder = transcoder.fmt_short(), direct, "feed ended"),
        Event::Misbehaved { peer, what } => {
            warn!(peer = peer.fmt_short(), what, "neighbour misbehaved");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use headwater_protocol::Stage;

    use super::*;

    #[test]
    fn a_search_that_goes_on_is_not_news() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Arc::new(File::create(&path).unwrap()))
            .finish();
        let node = NodeId::from_public_key([7; 32]);
        let stream: StreamId = format!("{node}.aaaaaaaaaaaaaaaaaaaaaaaaaa.source")
            .parse()
            .unwrap();
        let stages = [
            Stage::Idle,
            Stage::Searching,
            Stage::Asked,
            Stage::Searching,
            Stage::Asked,
            Stage::Relayed,
            Stage::Searching,
        ];

        tracing::subscriber::with_default(log, || {
            for pair in stages.windows(2) {
                observe(&Event::StageChanged {
                    stream: stream.clone(),
                    from: pair[0],
                    to: pair[1],
                });
            }
        });

        let log = std::fs::read_to_string(path).unwrap();
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(
            log.contains("to=Relayed") && log.contains("from=Relayed"),
            "{log}"
        );
    }
}
