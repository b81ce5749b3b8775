//! One link: Hello, then reading and writing until it ends.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _,
    io::{BufReader, ReadHalf, WriteHalf},
    stream::{self, BoxStream},
};
use headwater_proto::{
    DecodeError, Header, Hello, LengthPrefix, LinkVerifier, Message, NodeId, Violation,
    decode_header, encode,
};
use headwater_protocol::{Priority, message_cost};
use libp2p::Stream;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    NetEvent,
    handler::{CLASSES, Streams},
};

/// Bytes of parts and chunks that may be queued for one neighbour: 100 ms of 40 Mbit/s.
/// More would only make newer parts wait behind older ones.
pub(super) const CREDIT: usize = 512 * 1024;
/// Messages beside parts and chunks that may be queued for one neighbour.
const CONTROL_QUEUE: usize = 1024;
/// The credit bounds these queues; the number only has to be out of its way.
const DATA_QUEUE: usize = 16 * 1024;
/// Bytes read ahead per substream.
const READ_BUFFER: usize = 32 * 1024;
/// How long a neighbour may take to say Hello.
const HELLO: Duration = Duration::from_secs(5);
/// How long one write may take.
const STALL: Duration = Duration::from_secs(10);
/// Written bytes are reported once they are this many, or when the queue is empty.
const REPORT: usize = 64 * 1024;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    #[error("neighbour sent {0}")]
    Decode(#[from] DecodeError),
    #[error("neighbour did not say hello")]
    NoHello,
    #[error("neighbour does not read")]
    Stalled,
    #[error("closed by the neighbour")]
    Closed,
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
pub(super) struct Outgoing {
    control: mpsc::Receiver<Message>,
    playlists: mpsc::Receiver<Message>,
    data: [mpsc::Receiver<Message>; CLASSES - 1],
}

pub(super) fn queues() -> (Queues, Outgoing) {
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

/// Buffered, because length prefixes are read byte by byte.
type Reader = BufReader<ReadHalf<Stream>>;

/// A link after both sides said Hello.
pub(super) struct Open {
    readers: [Reader; CLASSES],
    writers: [WriteHalf<Stream>; CLASSES],
    pub(super) hello: Hello,
}

/// Exchanges Hello.
pub(super) async fn greet(streams: Streams, own: Hello) -> Result<Open, LinkError> {
    let split = |stream: Stream| {
        let (read, write) = stream.split();
        (BufReader::with_capacity(READ_BUFFER, read), write)
    };
    let [ctl, feed, live, backfill] = streams.map(split);
    let (mut ctl_read, mut ctl_write) = ctl;
    let exchange = async {
        write(&mut ctl_write, &Message::Hello(own)).await?;
        ctl_write.flush().await?;
        match read(&mut ctl_read).await? {
            Some(Message::Hello(hello)) => Ok(hello),
            Some(_) | None => Err(LinkError::NoHello),
        }
    };
    let hello = timeout(HELLO, exchange)
        .await
        .map_err(|_| LinkError::NoHello)??;
    Ok(Open {
        readers: [ctl_read, feed.0, live.0, backfill.0],
        writers: [ctl_write, feed.1, live.1, backfill.1],
        hello,
    })
}

/// Reads and writes until the link ends or `stop` says so.
pub(super) async fn run(
    peer: NodeId,
    open: Open,
    outgoing: Outgoing,
    events: mpsc::Sender<NetEvent>,
    stop: CancellationToken,
) -> LinkError {
    let [ctl, feed, live, backfill] = open.writers;
    let [feed_queue, live_queue, backfill_queue] = outgoing.data;
    let result = tokio::select! {
        () = stop.cancelled() => Err(LinkError::Closed),
        result = read_all(peer, open.readers, &events) => result,
        result = write_control(ctl, outgoing.control, outgoing.playlists) => result,
        result = write_data(peer, feed, feed_queue, &events) => result,
        result = write_data(peer, live, live_queue, &events) => result,
        result = write_data(peer, backfill, backfill_queue, &events) => result,
    };
    result.err().unwrap_or(LinkError::Closed)
}

/// Reads all substreams, in turn as they have something.
async fn read_all(
    peer: NodeId,
    readers: [Reader; CLASSES],
    events: &mpsc::Sender<NetEvent>,
) -> Result<(), LinkError> {
    let mut verifier = LinkVerifier::default();
    let mut messages = stream::select_all(readers.map(messages));
    while let Some(message) = messages.next().await {
        let event = match message {
            Ok(message) => match verifier.check(message) {
                Ok(message) => NetEvent::Received {
                    from: peer,
                    message,
                },
                Err(violation) => NetEvent::Violation {
                    from: peer,
                    violation,
                },
            },
            Err(error) => {
                if let LinkError::Decode(_) = error {
                    let violation = Violation::Malformed;
                    let event = NetEvent::Violation {
                        from: peer,
                        violation,
                    };
                    events.send(event).await.map_err(|_| LinkError::Closed)?;
                }
                return Err(error);
            }
        };
        // Waiting here stops reading, and so, by the transport's windows, the neighbour.
        events.send(event).await.map_err(|_| LinkError::Closed)?;
    }
    Err(LinkError::Closed)
}

/// The messages of one substream; ends after the first error.
fn messages(reader: Reader) -> BoxStream<'static, Result<Message, LinkError>> {
    Box::pin(stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match read(&mut reader).await {
            Ok(Some(message)) => Some((Ok(message), Some(reader))),
            Ok(None) => Some((Err(LinkError::Closed), None)),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// The next message; `None` when the substream ends between two.
async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<Message>, LinkError> {
    let mut prefix = LengthPrefix::default();
    let mut first = true;
    let len = loop {
        let mut byte = [0];
        if reader.read(&mut byte).await? == 0 {
            return if first {
                Ok(None)
            } else {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            };
        }
        first = false;
        if let Some(len) = prefix.push(byte[0])? {
            break len;
        }
    };
    match decode_header(read_exact(reader, len).await?)? {
        Header::Message(message) => Ok(Some(*message)),
        Header::Chunk(chunk) => {
            let payload = read_exact(reader, chunk.payload_len()).await?;
            Ok(Some(chunk.finish(payload)?))
        }
    }
}

async fn read_exact(reader: &mut (impl AsyncRead + Unpin), len: usize) -> Result<Bytes, LinkError> {
    let mut bytes = BytesMut::zeroed(len);
    reader.read_exact(&mut bytes).await?;
    Ok(bytes.freeze())
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), message: &Message) -> io::Result<()> {
    let frame = encode(message);
    writer.write_all(&frame.head).await?;
    if let Some(payload) = &frame.payload {
        writer.write_all(payload).await?;
    }
    Ok(())
}

/// Writes control messages, and playlists when there are none.
async fn write_control(
    mut writer: WriteHalf<Stream>,
    mut control: mpsc::Receiver<Message>,
    mut playlists: mpsc::Receiver<Message>,
) -> Result<(), LinkError> {
    loop {
        let message = tokio::select! { biased;
            Some(message) = control.recv() => message,
            Some(message) = playlists.recv() => message,
            else => return Err(LinkError::Closed),
        };
        let written = async {
            write(&mut writer, &message).await?;
            if control.is_empty() && playlists.is_empty() {
                writer.flush().await?;
            }
            Ok::<_, LinkError>(())
        };
        timeout(STALL, written)
            .await
            .map_err(|_| LinkError::Stalled)??;
    }
}

/// Writes parts and chunks of one class, and gives their credit back.
async fn write_data(
    peer: NodeId,
    mut writer: WriteHalf<Stream>,
    mut queue: mpsc::Receiver<Message>,
    events: &mpsc::Sender<NetEvent>,
) -> Result<(), LinkError> {
    let mut written = 0;
    while let Some(message) = queue.recv().await {
        let writing = async {
            write(&mut writer, &message).await?;
            if queue.is_empty() {
                writer.flush().await?;
            }
            Ok::<_, LinkError>(())
        };
        timeout(STALL, writing)
            .await
            .map_err(|_| LinkError::Stalled)??;
        written += message_cost(&message);
        if written >= REPORT || queue.is_empty() {
            let credit = std::mem::take(&mut written);
            let event = NetEvent::Writable { peer, credit };
            events.send(event).await.map_err(|_| LinkError::Closed)?;
        }
    }
    Err(LinkError::Closed)
}
