//! Everything a node wants done, as values.

use std::fmt;

use bytes::Bytes;
use headwater_proto::{
    AddressText, JobId, ManifestId, MasterPlaylist, MediaInfo, Message, NoRouteReason,
    NodeAddresses, NodeId, NodeStatus, OutOfBounds, Position, ReceiptList, ReceiptsWanted,
    RenditionName, Signed, StreamId, TranscodeClaim, TranscodeResult,
};

use crate::{
    asks::{Asks, asks},
    feed::Grant,
    input::{AskId, CommandId, DialId},
    streams::Stage,
};

/// One thing to do; the driver does them in order and never waits in between.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send a message to a neighbour.
    Send {
        /// The neighbour; its link is up.
        to: NodeId,
        /// The message. Parts and chunks never exceed the link's credit.
        message: Message,
        /// What goes first when the link is full.
        priority: Priority,
    },
    /// Connect to a node; ends in [`crate::Input::Connected`] or
    /// [`crate::Input::DialFailed`]. The addresses come from strangers: only those that
    /// policy allows may be dialled. Without any, the driver looks the node up.
    Dial {
        /// Repeated in the outcome.
        dial: DialId,
        /// Who has to answer.
        peer: NodeId,
        /// Where, best first.
        addresses: Vec<AddressText>,
    },
    /// Close the link to a neighbour.
    Disconnect {
        /// The neighbour.
        peer: NodeId,
        /// Why.
        reason: DisconnectReason,
    },
    /// Hand media of a subscribed stream to this machine: in order, each once.
    Deliver {
        /// The stream.
        stream: StreamId,
        /// What came.
        delivery: Delivery,
    },
    /// The master playlist of a followed broadcast, when it is known and when it changes.
    Master {
        /// What the broadcaster signed.
        body: Signed<MasterPlaylist>,
    },
    /// A followed master playlist could not be had now; it is asked for again.
    MasterMissing {
        /// The broadcast.
        manifest: ManifestId,
        /// What was answered.
        failure: Failure,
    },
    /// Needs something that only the driver can know; one [`crate::Input::Answer`] each.
    Ask {
        /// Repeated in the answer.
        ask: AskId,
        /// The question.
        question: Question,
    },
    /// The outcome of a command.
    Reply {
        /// The command.
        id: CommandId,
        /// What came of it.
        result: Result<Reply, CommandError>,
    },
    /// Something worth knowing; no duty attached.
    Observe(Event),
}

/// Wire bytes beside a payload or signed header, about.
pub(crate) const MESSAGE_OVERHEAD: usize = 64;

/// What a message takes of a link's credit, in bytes; the driver gives as much back when
/// it is written. Only parts and chunks take any.
#[must_use]
pub fn message_cost(message: &Message) -> usize {
    if let Message::Chunk(chunk) = message {
        chunk.payload.len() + MESSAGE_OVERHEAD
    } else if let Message::Part(part) = message {
        part.header.bytes().len() + MESSAGE_OVERHEAD
    } else {
        0
    }
}

/// Wire bytes of a Sub, about.
pub(crate) const SUB_BYTES: usize = 96;
/// Wire bytes of a NodeStatusReq, at least: what comes back may be longer.
const STATUS_BYTES: usize = 40;
/// Wire bytes that a search for somebody closer takes, about.
pub(crate) const LOOKUP_BYTES: usize = 1024;
/// Wire bytes of a signed statement beside its body, at most.
const SIGNED_BYTES: usize = 90;
/// Wire bytes of a request without a long body, about.
const SHORT_BYTES: usize = 64;

/// Wire bytes of a message with little more than a request id, about.
const ANSWER_BYTES: usize = 24;

/// Wire bytes of a message, about: what a neighbour brings, or is sent for its sake.
pub(crate) fn message_bytes(message: &Message) -> usize {
    let short = |extra: usize| SHORT_BYTES.saturating_add(extra);
    match message {
        Message::Sub(_) | Message::GetMasterPlaylist(_) => SUB_BYTES,
        Message::NodeStatusReq(_) => STATUS_BYTES,
        Message::Part(_) | Message::Chunk(_) => message_cost(message),
        Message::TranscodeSub(sub) => claim_bytes(&sub.claim),
        Message::SubAck(ack) => 24 + 9 * ack.path.len(),
        Message::Redirect(redirect) => redirect.nodes.iter().map(node_bytes).sum::<usize>() + 24,
        Message::JobProbe(probe) => short(100 + 16 * probe.renditions.len()),
        Message::TranscodeResponse(response) => short(response.body.bytes().len()),
        Message::MasterPlaylistData(data) => short(data.body.bytes().len()),
        Message::NodeStatusData(data) => SIGNED_BYTES + data.body.bytes().len(),
        Message::GetReceipts(get) => short(get.body.bytes().len()),
        Message::Receipts(receipts) => short(receipts.body.bytes().len()),
        Message::Finish(finish) => short(finish.body.bytes().len()),
        Message::Nack(nack) => 24 + 3 * nack.chunks.len(),
        Message::Hello(_) => SHORT_BYTES,
        Message::Ping(_)
        | Message::Pong(_)
        | Message::NotFound(_)
        | Message::NoRoute(_)
        | Message::Cancel(_)
        | Message::Gap(_)
        | Message::JobProbeReply(_) => ANSWER_BYTES,
    }
}

/// Wire bytes of the short answer that a message gets at least, about: a refusal, or what
/// is no longer than one.
pub(crate) fn answer_bytes(message: &Message) -> usize {
    match asks(message) {
        Asks::Answer(_) => ANSWER_BYTES,
        Asks::Work if matches!(message, Message::Ping(_)) => ANSWER_BYTES,
        Asks::Work | Asks::Nothing => 0,
    }
}

/// Wire bytes of a TranscodeSub with this claim, about.
pub(crate) fn claim_bytes(claim: &TranscodeClaim) -> usize {
    let addresses = claim.addresses.iter().map(|a| a.as_str().len() + 4);
    let sealed = claim
        .sealed
        .as_ref()
        .map_or(0, |sealed| sealed.as_bytes().len());
    SHORT_BYTES + 200 + addresses.sum::<usize>() + sealed
}

fn node_bytes(node: &NodeAddresses) -> usize {
    let addresses = node.addresses.iter().map(|a| a.as_str().len() + 4);
    44 + addresses.sum::<usize>()
}

/// Classes of traffic on one link, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Subscriptions, acknowledgements, ends.
    Control,
    /// Master playlists.
    Playlist,
    /// Parts for a transcoder that holds a job.
    Feed,
    /// Parts at the live edge.
    Live,
    /// Older parts for those who join or repair.
    Backfill,
}

/// One item of a subscribed stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// An init; comes before the first part that names it.
    Init {
        /// Its index.
        index: u32,
        /// The payload, in chunks.
        chunks: Vec<Bytes>,
    },
    /// A part, complete and verified.
    Part {
        /// Where it belongs.
        position: Position,
        /// Times and flags.
        media: MediaInfo,
        /// The payload, in chunks.
        chunks: Vec<Bytes>,
    },
    /// These parts will not come.
    Gap {
        /// First missing part.
        from: Position,
        /// First part that comes again.
        to: Position,
    },
    /// The owner ended the stream and everything up to its end was delivered: the
    /// subscription is over.
    Finished,
    /// Nothing comes for the moment; the node goes on trying.
    Waiting(Failure),
}

/// Why something that was asked for did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The node that should have it does not have it, or not yet.
    NotFound,
    /// It could not be reached.
    NoRoute(NoRouteReason),
    /// The neighbour it came from is gone or silent.
    ParentLost,
    /// There is no neighbour at all.
    NoPeers,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "the node that should have it does not, or not yet",
            Self::NoRoute(NoRouteReason::NoCloserPeer) => "no way to that node is known",
            Self::NoRoute(NoRouteReason::HopLimit) => "the way to that node is too long",
            Self::NoRoute(NoRouteReason::Timeout) => "that node did not answer in time",
            Self::NoRoute(NoRouteReason::Overloaded) => "a relay on the way has too much to do",
            Self::ParentLost => "the neighbour it came from is gone or silent",
            Self::NoPeers => "this node has no links",
        })
    }
}

/// What only the driver can know. One that it leaves unanswered for a minute counts as
/// refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A fresh claim for a job this node holds; answered by [`crate::Answer::Claim`].
    Claim {
        /// The job.
        job: JobId,
    },
    /// Does this claim hold, and where may it be dialled? Answered by
    /// [`crate::Answer::ClaimGranted`] or [`crate::Answer::ClaimRefused`].
    CheckClaim {
        /// What a transcoder claims.
        claim: Box<TranscodeClaim>,
        /// Its signature.
        signature: [u8; 65],
    },
    /// Take a transcoder's result into the master playlist; answered by
    /// [`crate::Answer::Result`], after [`crate::Command::SetMaster`] if it is taken.
    CheckResult {
        /// What the transcoder signed.
        body: Signed<TranscodeResult>,
    },
    /// The receipts that a transcoder wants; answered by [`crate::Answer::Receipts`].
    Receipts {
        /// What the transcoder's node signed; its stream is of this node.
        body: Signed<ReceiptsWanted>,
    },
    /// This node's status; answered by [`crate::Answer::Status`].
    Status,
    /// Nobody with a link is closer to this node: find somebody who is, by a walk through
    /// the network's table, and connect to the node itself or to the closest that can be
    /// reached. Answered by [`crate::Answer::Lookup`] when that has ended; the new links
    /// are told as ever, before the answer. The core asks once for each target at a
    /// time, and not again for [`crate::Config::lookup_pause`].
    Lookup {
        /// Who is to be reached.
        target: NodeId,
    },
    /// Would this node take the job? Answered by [`crate::Answer::Probe`].
    Probe {
        /// The source stream.
        stream: StreamId,
        /// What is wanted of it.
        renditions: Vec<RenditionName>,
    },
}

/// What a command brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It was done, or has begun.
    Done,
    /// Another node's status.
    Status(Signed<NodeStatus>),
    /// Receipts; their signatures are not checked yet.
    Receipts(Signed<ReceiptList>),
    /// A transcoder's answer to a probe.
    Probe {
        /// It would take the job.
        available: bool,
        /// How busy it is, 0 to 255.
        load: u8,
    },
}

/// Why a command was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The id names another node.
    #[error("stream {0} belongs to another node")]
    NotOurs(StreamId),
    /// It was never published here, or has ended.
    #[error("unknown stream {0}")]
    UnknownStream(StreamId),
    /// It is published already.
    #[error("stream {0} is published already")]
    AlreadyPublished(StreamId),
    /// A part does not follow the one before it.
    #[error("part {got:?} does not follow {last:?}")]
    OutOfOrder {
        /// The last part that was appended.
        last: Option<Position>,
        /// The one that was refused.
        got: Position,
    },
    /// The chunks are not those of the header.
    #[error("the payload does not match its header")]
    PayloadMismatch,
    /// The header breaks a bound of the wire, so that nobody could read it.
    #[error("the part's header cannot be sent: {0}")]
    Unsendable(OutOfBounds),
    /// A master playlist's version did not grow, or is of another node.
    #[error("the master playlist is not newer than the current one")]
    StaleMaster,
    /// The job was never started here.
    #[error("unknown job {0}")]
    UnknownJob(JobId),
    /// A limit of this node is reached.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// The network did not give an answer.
    #[error("no answer: {0}")]
    Failed(Failure),
}

/// Why a link is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DisconnectReason {
    /// The neighbour sent too much that no correct node sends.
    Violations,
    /// The neighbour did not answer.
    Silent,
    /// The node has too many links.
    TooManyLinks,
}

/// Something worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A neighbour became the parent of a stream.
    ParentChanged {
        /// The stream.
        stream: StreamId,
        /// From whom it came until now.
        from: Option<NodeId>,
        /// From whom it comes.
        to: Option<NodeId>,
    },
    /// The feed of this node's jobs on a stream has come to another stage.
    StageChanged {
        /// The stream.
        stream: StreamId,
        /// How far it had come.
        from: Stage,
        /// How far it has come.
        to: Stage,
    },
    /// The claims of a transcoder to a job of this broadcaster have come to another state.
    GrantChanged {
        /// The job.
        job: JobId,
        /// The transcoder.
        transcoder: NodeId,
        /// How far they had come.
        from: Grant,
        /// How far they have come.
        to: Grant,
    },
    /// A transcoder's claim was granted and it is being fed.
    FeedStarted {
        /// The job.
        job: JobId,
        /// The transcoder.
        transcoder: NodeId,
        /// Over a link of its own rather than relays.
        direct: bool,
    },
    /// A transcoder is no longer fed over that path.
    FeedEnded {
        /// The job.
        job: JobId,
        /// The transcoder.
        transcoder: NodeId,
        /// Over a link of its own rather than relays.
        direct: bool,
    },
    /// A neighbour was caught sending what no correct node sends.
    Misbehaved {
        /// The neighbour.
        peer: NodeId,
        /// What was wrong.
        what: &'static str,
    },
}
