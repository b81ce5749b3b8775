//! Everything that can happen to a node, as values.

use bytes::Bytes;
use headwater_proto::{
    AddressText, Checked, JobId, ManifestId, MasterPlaylist, Message, NodeId, NodeStatus,
    PartHeader, Position, ReceiptList, ReceiptsWanted, RenditionName, Roles, Signed, StreamEnd,
    StreamId, TranscodeClaim, TranscodeResult, Violation,
};

/// One thing that happened, to be given to [`crate::Node::handle`].
#[derive(Debug, Clone)]
pub enum Input {
    /// The program on this machine wants something; each gets one [`crate::Output::Reply`].
    Command {
        /// Repeated in the reply.
        id: CommandId,
        /// What is wanted.
        command: Command,
    },
    /// A link to a neighbour is up and both sides have said Hello.
    Connected {
        /// The neighbour, proven by the connection.
        peer: NodeId,
        /// What is known of the link.
        link: Link,
    },
    /// The link is gone; nothing more comes from it. A reconnect is a new link.
    Disconnected {
        /// The neighbour.
        peer: NodeId,
    },
    /// A [`crate::Output::Dial`] led nowhere.
    DialFailed {
        /// Which dial.
        dial: DialId,
    },
    /// A message came in, decoded, size-checked and signature-checked.
    Received {
        /// From which neighbour.
        from: NodeId,
        /// The message.
        message: Checked<Message>,
    },
    /// A neighbour sent what no correct node sends; the driver dropped it.
    Violation {
        /// The neighbour.
        from: NodeId,
        /// What was wrong.
        violation: Violation,
    },
    /// Where others can dial a neighbour, as far as the driver knows by now; replaces what
    /// it said before. Newcomers are sent to children with known addresses first.
    Addresses {
        /// The neighbour; its link is up.
        peer: NodeId,
        /// The best first; all but the first [`headwater_proto::limits::MAX_ADDRESSES`]
        /// are ignored.
        addresses: Vec<AddressText>,
    },
    /// The link's writer has room for this many more bytes of parts and chunks.
    Writable {
        /// The neighbour.
        peer: NodeId,
        /// Bytes to add to the link's credit.
        credit: usize,
    },
    /// Answers an [`crate::Output::Ask`].
    Answer {
        /// Which question.
        ask: AskId,
        /// The answer.
        answer: Answer,
    },
    /// [`crate::Node::poll_timeout`] has come. Early, late and spurious ones are harmless.
    Timeout,
}

/// Names a command towards its reply; chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Names a dial towards its outcome; chosen by the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// Names a question towards its answer; chosen by the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What a node is told of a new link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What the neighbour does, by its Hello.
    pub roles: Roles,
    /// Bytes of parts and chunks that may be sent before the first
    /// [`Input::Writable`].
    pub credit: usize,
    /// The [`crate::Output::Dial`] that made it, if one did.
    pub dial: Option<DialId>,
}

/// What the program on this machine can ask of its node.
#[derive(Debug, Clone)]
pub enum Command {
    /// Opens a stream that this node makes.
    Publish {
        /// Its id; the node in it is this one.
        stream: StreamId,
    },
    /// Adds an init or part to a stream of this node.
    Append {
        /// The signed header; the stream's order is the order of appending.
        header: Signed<PartHeader>,
        /// The payload, in chunks as the header's hashes count them.
        chunks: Vec<Bytes>,
    },
    /// Ends a stream of this node.
    Finish {
        /// What subscribers are told.
        body: Signed<StreamEnd>,
    },
    /// Stops making a stream of this node without ending it: nothing of it is kept, and
    /// whoever takes it is told that it is not here, and may go on asking. It can be
    /// published anew, from a later segment than any that it has had: nobody is to be
    /// given two parts with one position.
    Unpublish {
        /// The stream.
        stream: StreamId,
    },
    /// Replaces the master playlist of a broadcast of this node.
    SetMaster {
        /// What requesters are told; its version must have grown.
        body: Signed<MasterPlaylist>,
    },
    /// Delivers a stream to this machine until [`Command::Unsubscribe`] or its end. A stream
    /// that is not live yet is waited for.
    Subscribe {
        /// The stream.
        stream: StreamId,
        /// First part wanted; `None` joins at the newest complete segment.
        from: Option<Position>,
    },
    /// Stops delivering a stream.
    Unsubscribe {
        /// The stream.
        stream: StreamId,
    },
    /// Delivers a broadcast's master playlist and its changes as
    /// [`crate::Output::Master`] until [`Command::UnfollowMaster`].
    FollowMaster {
        /// The broadcast.
        manifest: ManifestId,
    },
    /// Stops delivering a master playlist.
    UnfollowMaster {
        /// The broadcast.
        manifest: ManifestId,
    },
    /// Asks any node for its status.
    RequestStatus {
        /// The node; this one answers itself.
        node: NodeId,
    },
    /// Asks a transcoder whether it would take a job now.
    Probe {
        /// The transcoder.
        transcoder: NodeId,
        /// The source stream.
        stream: StreamId,
        /// What is wanted of it.
        renditions: Vec<RenditionName>,
    },
    /// Subscribes to the source of a job this transcoder holds, by TranscodeSub.
    StartJob {
        /// The job.
        job: JobId,
        /// The source stream.
        stream: StreamId,
        /// First part wanted, as in [`Command::Subscribe`].
        from: Option<Position>,
    },
    /// Ends what [`Command::StartJob`] began.
    StopJob {
        /// The job.
        job: JobId,
    },
    /// Ends what this broadcaster feeds a transcoder for a job, because the job was given
    /// to another or has ended. A later claim for it is checked anew.
    RevokeClaim {
        /// The transcoder.
        transcoder: NodeId,
        /// The job.
        job: JobId,
    },
    /// Tells the broadcaster of a job which renditions are made; repeated by the node
    /// until acknowledged, and replaced by a later one of the same job.
    Respond {
        /// What the broadcaster is told.
        body: Signed<TranscodeResult>,
    },
    /// Asks the broadcaster of a job, held now or before, for receipts.
    GetReceipts {
        /// What is wanted; this node is the transcoder in it.
        body: Signed<ReceiptsWanted>,
    },
}

/// What the driver answers to a [`crate::Question`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// A claim signed for a job; `None` when the job is gone.
    Claim(Option<Box<(TranscodeClaim, [u8; 65])>>),
    /// The claim holds, and these of its addresses may be dialled.
    ClaimGranted {
        /// May be empty: the transcoder is then fed over the relays only.
        addresses: Vec<AddressText>,
    },
    /// The claim does not hold; its sender is not fed.
    ClaimRefused,
    /// The transcoder's result was taken into the master playlist (or not).
    Result {
        /// Taken.
        accepted: bool,
    },
    /// This node's status.
    Status(Signed<NodeStatus>),
    /// The receipts; `None` when the transcoder never held the job.
    Receipts(Option<Signed<ReceiptList>>),
    /// The search for somebody closer has ended; what it brought is told as links.
    Lookup,
    /// Whether this node would take a job.
    Probe {
        /// It would.
        available: bool,
    },
}
