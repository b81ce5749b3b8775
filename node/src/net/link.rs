//! One link from Hello to its end: tells the driver of it, reads and writes.

mod reader;
mod writer;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{
    AsyncReadExt as _, AsyncWriteExt as _,
    io::{BufReader, ReadHalf, WriteHalf},
};
use headwater_proto::{DecodeError, Hello, Message, NodeId, OutOfBounds, Roles, encode};
use headwater_protocol::Priority;
use libp2p::{Multiaddr, Stream};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    NetEvent, Peer, PeerInfo, Peers,
    handler::{CLASSES, Streams},
};
use crate::mutex::lock;

/// Bytes of parts and chunks that may be queued for one neighbour: 100 ms of 40 Mbit/s.
/// More would only make newer parts wait behind older ones.
const CREDIT: usize = 512 * 1024;
/// Messages beside parts and chunks that may be queued for one neighbour.
const CONTROL_QUEUE: usize = 1024;
/// The credit bounds these queues; the number only has to be out of its way.
const DATA_QUEUE: usize = 16 * 1024;
/// Bytes read ahead per substream.
const READ_BUFFER: usize = 32 * 1024;
/// How long a neighbour may take to say Hello.
const HELLO: Duration = Duration::from_secs(5);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    #[error("neighbour sent {0}")]
    Decode(#[from] DecodeError),
    #[error("own {0}")]
    Encode(#[from] OutOfBounds),
    #[error("neighbour did not say hello")]
    NoHello,
    #[error("neighbour does not read")]
    Stalled,
    #[error("closed by the neighbour")]
    Closed,
    #[error("closed by this node")]
    Told,
    #[error("the connection is gone")]
    Gone,
}

/// A neighbour's queues, by class.
#[derive(Debug, Clone)]
pub(super) struct Queues {
    control: mpsc::Sender<Message>,
    playlists: mpsc::Sender<Message>,
    data: [mpsc::Sender<Message>; CLASSES - 1],
}

impl Queues {
    /// Queues a message; `false` when the queue is full.
    pub(super) fn push(&self, message: Message, priority: Priority) -> bool {
        let queue = match priority {
            Priority::Control => &self.control,
            Priority::Playlist => &self.playlists,
            Priority::Feed => &self.data[0],
            Priority::Live => &self.data[1],
            Priority::Backfill => &self.data[2],
        };
        // A closed queue is a link that has just ended, which is reported elsewhere.
        !matches!(
            queue.try_send(message),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }
}

/// The other ends of [`Queues`].
#[derive(Debug)]
struct Outgoing {
    control: mpsc::Receiver<Message>,
    playlists: mpsc::Receiver<Message>,
    data: [mpsc::Receiver<Message>; CLASSES - 1],
}

fn queues() -> (Queues, Outgoing) {
    let (control, control_out) = mpsc::channel(CONTROL_QUEUE);
    let (playlists, playlists_out) = mpsc::channel(CONTROL_QUEUE);
    let (feed, feed_out) = mpsc::channel(DATA_QUEUE);
    let (live, live_out) = mpsc::channel(DATA_QUEUE);
    let (backfill, backfill_out) = mpsc::channel(DATA_QUEUE);
    let queues = Queues {
        control,
        playlists,
        data: [feed, live, backfill],
    };
    let outgoing = Outgoing {
        control: control_out,
        playlists: playlists_out,
        data: [feed_out, live_out, backfill_out],
    };
    (queues, outgoing)
}

/// What a link has carried, and how long its way is.
#[derive(Debug, Default)]
pub(super) struct Counters {
    read: AtomicU64,
    written: AtomicU64,
    /// Messages of kinds that are not known here.
    skipped: AtomicU64,
    /// Microseconds; 0 until measured.
    round_trip: AtomicU32,
}

impl Counters {
    pub(super) fn measured(&self, round_trip: Duration) {
        let micros = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
        self.round_trip.store(micros.max(1), Relaxed);
    }

    pub(super) fn fill(&self, info: &mut PeerInfo) {
        info.bytes_in = self.read.load(Relaxed);
        info.bytes_out = self.written.load(Relaxed);
        info.skipped = self.skipped.load(Relaxed);
        let micros = self.round_trip.load(Relaxed);
        info.round_trip = (micros > 0).then(|| Duration::from_micros(micros.into()));
    }
}

/// Buffered, because length prefixes are read byte by byte.
type Reader = BufReader<ReadHalf<Stream>>;

/// Both directions of a link's substreams.
struct Halves {
    readers: [Reader; CLASSES],
    writers: [WriteHalf<Stream>; CLASSES],
}

/// What a link begins with.
pub(super) struct NewLink {
    pub(super) peer: NodeId,
    pub(super) streams: Streams,
    pub(super) address: Multiaddr,
    pub(super) outbound: bool,
    /// The driver's dials that this link answers.
    pub(super) dials: Vec<u64>,
    /// The link to the same neighbour that this one replaces: its end is told first.
    pub(super) predecessor: Option<JoinHandle<()>>,
    /// Ends this link.
    pub(super) stop: CancellationToken,
    /// Its connection has ended.
    pub(super) gone: CancellationToken,
}

/// What links share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) roles: Roles,
    pub(super) agent: String,
    pub(super) peers: Peers,
    pub(super) events: mpsc::Sender<NetEvent>,
    /// The node stops: nobody listens any more.
    pub(super) ending: CancellationToken,
}

impl Shared {
    /// Tells the driver, which always takes events, so this never waits for long.
    pub(super) async fn tell(&self, event: NetEvent) {
        tokio::select! { biased;
            sent = self.events.send(event) => if sent.is_err() {
                tracing::debug!("nobody listens to the network any more");
            },
            () = self.ending.cancelled() => {}
        }
    }
}

/// Lives one link; `greeted` is called when the driver was told of it.
pub(super) async fn live(
    mut new: NewLink,
    shared: Shared,
    greeted: impl AsyncFnOnce(),
) -> LinkError {
    if let Some(predecessor) = new.predecessor.take() {
        // A task that panicked has told nothing; there is nothing to wait for.
        drop(predecessor.await);
    }
    let stop = new.stop.clone();
    let own = Hello {
        roles: shared.roles,
        agent: shared.agent.clone(),
    };
    let open = tokio::select! {
        () = stop.cancelled() => Err(LinkError::Told),
        () = new.gone.cancelled() => Err(LinkError::Gone),
        open = greet(new.streams, own) => open,
    };
    let (halves, hello) = match open {
        Ok(open) => open,
        Err(error) => {
            for dial in new.dials {
                let error = error.to_string();
                shared.tell(NetEvent::DialFailed { dial, error }).await;
            }
            return error;
        }
    };
    let (queues, outgoing) = queues();
    let counters = Arc::new(Counters::default());
    tracing::info!(
        peer = new.peer.fmt_short(),
        address = %new.address,
        agent = hello.agent,
        "linked"
    );
    let info = PeerInfo {
        peer: new.peer,
        roles: hello.roles,
        agent: hello.agent,
        address: new.address.to_string(),
        outbound: new.outbound,
        since_ms: crate::clock::unix_ms(),
        round_trip: None,
        bytes_in: 0,
        bytes_out: 0,
        skipped: 0,
    };
    let entry = Peer {
        info,
        queues,
        counters: counters.clone(),
        stop: stop.clone(),
    };
    lock(&shared.peers).insert(new.peer, entry);
    let mut dials = new.dials.into_iter();
    let connected = NetEvent::Connected {
        peer: new.peer,
        roles: hello.roles,
        credit: CREDIT,
        dial: dials.next(),
        outbound: new.outbound,
    };
    shared.tell(connected).await;
    for dial in dials {
        let error = "another dial made the link".to_owned();
        shared.tell(NetEvent::DialFailed { dial, error }).await;
    }
    greeted().await;
    let reason = tokio::select! {
        () = stop.cancelled() => LinkError::Told,
        () = new.gone.cancelled() => LinkError::Gone,
        error = reader::run(new.peer, halves.readers, &shared, &counters) => error,
        error = writer::run(new.peer, halves.writers, outgoing, &shared, &counters) => error,
    };
    lock(&shared.peers).remove(&new.peer);
    tracing::info!(peer = new.peer.fmt_short(), %reason, "link ended");
    let disconnected = NetEvent::Disconnected {
        peer: new.peer,
        reason: reason.to_string(),
    };
    shared.tell(disconnected).await;
    reason
}

/// Exchanges Hello.
async fn greet(streams: Streams, own: Hello) -> Result<(Halves, Hello), LinkError> {
    let split = |stream: Stream| {
        let (read, write) = stream.split();
        (BufReader::with_capacity(READ_BUFFER, read), write)
    };
    let [ctl, feed, live, backfill] = streams.map(split);
    let (mut ctl_read, mut ctl_write) = ctl;
    let exchange = async {
        let frame = encode(&Message::Hello(own))?;
        ctl_write.write_all(&frame.head).await?;
        ctl_write.flush().await?;
        match reader::next(&mut ctl_read).await? {
            Some((Some(Message::Hello(hello)), _)) => Ok(hello),
            Some(_) | None => Err(LinkError::NoHello),
        }
    };
    let hello = timeout(HELLO, exchange)
        .await
        .map_err(|_| LinkError::NoHello)??;
    let halves = Halves {
        readers: [ctl_read, feed.0, live.0, backfill.0],
        writers: [ctl_write, feed.1, live.1, backfill.1],
    };
    Ok((halves, hello))
}
