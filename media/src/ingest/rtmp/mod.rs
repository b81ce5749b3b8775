//! Encoders that publish over RTMP. The only place that uses rml_rtmp.
//!
//! A session authenticates its encoder by the stream key and turns what it sends into an
//! FLV byte stream, which FFmpeg reads on a thread of its own.

mod chunks;
mod headers;
mod times;
mod values;

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    sessions::{
        ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult, StreamMetadata,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use chunks::Chunks;
use headers::{Effect, Headers, Kind, is_header, is_misread};
use times::Times;

/// Encoders connected at once.
const CONNECTIONS: usize = 64;
/// Until an encoder publishes.
const SETUP: Duration = Duration::from_secs(10);
/// An encoder that sends nothing for this long is cut off.
const IDLE: Duration = Duration::from_secs(20);
/// FLV tags between the socket and FFmpeg; a full queue stops the socket.
const TAGS: usize = 256;
/// Bytes read from the socket at once.
const READ: usize = 16 * 1024;

/// An encoder that was let in.
#[derive(Debug)]
pub struct Publisher {
    /// The name its key stands for.
    pub name: String,
    /// Where it is.
    pub remote: SocketAddr,
    /// What it sends, as FLV.
    pub reader: FlvReader,
    /// How it goes away.
    pub ended: oneshot::Receiver<End>,
}

/// How an encoder went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It said that it was done.
    Unpublished,
    /// It was cut off, fell silent, or another took its key.
    Lost,
}

/// A listening RTMP server; dropping it ends all sessions.
#[derive(Debug)]
pub struct Server {
    local: SocketAddr,
    publishers: mpsc::Receiver<Publisher>,
    _stop: watch::Sender<()>,
}

/// What sessions share.
struct Shared {
    /// Key to name.
    keys: BTreeMap<String, String>,
    /// Ends the session that holds a name.
    holders: Mutex<BTreeMap<String, (u64, oneshot::Sender<()>)>>,
    publishers: mpsc::Sender<Publisher>,
}

impl Server {
    /// Listens for encoders; `keys` maps each stream key to the name it publishes.
    ///
    /// # Errors
    /// When the address is in use or not this machine's.
    pub async fn bind(address: SocketAddr, keys: BTreeMap<String, String>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        let (tx, publishers) = mpsc::channel(8);
        let (stop, stopped) = watch::channel(());
        let shared = Arc::new(Shared {
            keys,
            holders: Mutex::default(),
            publishers: tx,
        });
        tokio::spawn(listen(listener, shared, stopped));
        Ok(Self {
            local,
            publishers,
            _stop: stop,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next encoder that publishes with a good key. Cancel-safe.
    pub async fn accept(&mut self) -> Publisher {
        match self.publishers.recv().await {
            Some(publisher) => publisher,
            None => std::future::pending().await,
        }
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let (socket, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "encoder not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            warn!(%remote, "too many encoders; connection refused");
            continue;
        };
        number += 1;
        let (shared, mut stop, number) = (shared.clone(), stop.clone(), number);
        tokio::spawn(async move {
            let session = Session {
                socket,
                remote,
                number,
                shared,
                publishing: None,
                headers: Headers::default(),
                times: Times::default(),
            };
            tokio::select! {
                () = session.run() => {}
                _ = stop.changed() => {}
            }
            drop(place);
        });
    }
}

struct Session {
    socket: TcpStream,
    remote: SocketAddr,
    number: u64,
    shared: Arc<Shared>,
    publishing: Option<Publishing>,
    headers: Headers,
    times: Times,
}

struct Publishing {
    name: String,
    tags: mpsc::Sender<Bytes>,
    ended: Option<oneshot::Sender<End>>,
    /// Fires when another session takes the name.
    replaced: oneshot::Receiver<()>,
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not RTMP: {0}")]
    Protocol(String),
    #[error("it did not begin to publish within {} s", SETUP.as_secs())]
    Setup,
    #[error("it sent nothing for {} s", IDLE.as_secs())]
    Idle,
    #[error("{0}")]
    Refused(&'static str),
}

impl Session {
    async fn run(mut self) {
        let remote = self.remote;
        match self.serve().await {
            Ok(()) => debug!(%remote, "encoder disconnected"),
            Err(error) => info!(%remote, %error, "encoder's session ended"),
        }
        self.end(End::Lost);
    }

    async fn serve(&mut self) -> Result<(), SessionError> {
        self.socket.set_nodelay(true)?;
        let rest = timeout(SETUP, self.handshake())
            .await
            .map_err(|_| SessionError::Setup)??;
        let (mut session, results) =
            ServerSession::new(ServerSessionConfig::new()).map_err(protocol)?;
        self.results(&mut session, results).await?;
        let mut chunks = Chunks::default();
        let whole = chunks.feed(&rest).map_err(protocol)?;
        for input in [chunks::AS_LONG_AS_MESSAGES, &whole] {
            let results = session.handle_input(input).map_err(protocol)?;
            self.results(&mut session, results).await?;
        }
        let mut buffer = vec![0; READ];
        let mut setup = Instant::now() + SETUP;
        loop {
            let (deadline, late) = if self.publishing.is_some() {
                chunks.trust();
                // When it is done, it may publish again.
                setup = Instant::now() + SETUP;
                (Instant::now() + IDLE, SessionError::Idle)
            } else {
                (setup, SessionError::Setup)
            };
            let replaced = async {
                match &mut self.publishing {
                    // A dropped sender is a session that has been removed already.
                    Some(publishing) => drop((&mut publishing.replaced).await),
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                () = replaced => return Err(SessionError::Refused("another encoder took its key")),
                read = self.socket.read(&mut buffer) => read?,
                () = sleep_until(deadline) => return Err(late),
            };
            if read == 0 {
                return Ok(());
            }
            let whole = chunks.feed(&buffer[..read]).map_err(protocol)?;
            let results = session.handle_input(&whole).map_err(protocol)?;
            self.results(&mut session, results).await?;
        }
    }

    async fn handshake(&mut self) -> Result<Vec<u8>, SessionError> {
        let mut handshake = Handshake::new(PeerType::Server);
        let hello = handshake.generate_outbound_p0_and_p1().map_err(protocol)?;
        self.socket.write_all(&hello).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let read = self.socket.read(&mut buffer).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            match handshake.process_bytes(&buffer[..read]).map_err(protocol)? {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    self.socket.write_all(&response_bytes).await?;
                }
                HandshakeProcessResult::Completed {
                    response_bytes,
                    remaining_bytes,
                } => {
                    self.socket.write_all(&response_bytes).await?;
                    return Ok(remaining_bytes);
                }
            }
        }
    }

    async fn results(
        &mut self,
        session: &mut ServerSession,
        results: Vec<ServerSessionResult>,
    ) -> Result<(), SessionError> {
        for result in results {
            match result {
                ServerSessionResult::OutboundResponse(packet) => {
                    self.socket.write_all(&packet.bytes).await?;
                }
                ServerSessionResult::RaisedEvent(event) => self.event(session, event).await?,
                ServerSessionResult::UnhandleableMessageReceived(message) => {
                    debug!(kind = message.type_id, "unknown message of an encoder");
                }
            }
        }
        Ok(())
    }

    async fn event(
        &mut self,
        session: &mut ServerSession,
        event: ServerSessionEvent,
    ) -> Result<(), SessionError> {
        match event {
            ServerSessionEvent::ConnectionRequested { request_id, .. }
            | ServerSessionEvent::ReleaseStreamRequested { request_id, .. } => {
                self.accept(session, request_id).await
            }
            ServerSessionEvent::PublishStreamRequested {
                request_id,
                stream_key,
                ..
            } => self.publish(session, request_id, &stream_key).await,
            ServerSessionEvent::PublishStreamFinished { .. } => {
                self.end(End::Unpublished);
                self.headers = Headers::default();
                self.times = Times::default();
                Ok(())
            }
            ServerSessionEvent::StreamMetadataChanged { metadata, .. } => {
                let script = metadata_tag(&metadata);
                self.tag(Kind::Script, 0, &script).await
            }
            ServerSessionEvent::AudioDataReceived {
                data, timestamp, ..
            } => self.tag(Kind::Audio, timestamp.value, &data).await,
            ServerSessionEvent::VideoDataReceived {
                data, timestamp, ..
            } => self.tag(Kind::Video, timestamp.value, &data).await,
            ServerSessionEvent::PlayStreamRequested { request_id, .. } => {
                self.reject(session, request_id, "NetStream.Play.Failed")
                    .await?;
                Err(SessionError::Refused(
                    "streams are watched over HTTP, not RTMP",
                ))
            }
            ServerSessionEvent::ClientChunkSizeChanged { .. }
            | ServerSessionEvent::UnhandleableAmf0Command { .. }
            | ServerSessionEvent::PlayStreamFinished { .. }
            | ServerSessionEvent::AcknowledgementReceived { .. }
            | ServerSessionEvent::PingResponseReceived { .. } => Ok(()),
        }
    }

    async fn accept(
        &mut self,
        session: &mut ServerSession,
        request: u32,
    ) -> Result<(), SessionError> {
        for result in session.accept_request(request).map_err(protocol)? {
            if let ServerSessionResult::OutboundResponse(packet) = result {
                self.socket.write_all(&packet.bytes).await?;
            }
        }
        Ok(())
    }

    async fn reject(
        &mut self,
        session: &mut ServerSession,
        request: u32,
        code: &str,
    ) -> Result<(), SessionError> {
        let results = session
            .reject_request(request, code, "refused")
            .map_err(protocol)?;
        for result in results {
            if let ServerSessionResult::OutboundResponse(packet) = result {
                self.socket.write_all(&packet.bytes).await?;
            }
        }
        Ok(self.socket.flush().await?)
    }

    async fn publish(
        &mut self,
        session: &mut ServerSession,
        request: u32,
        key: &str,
    ) -> Result<(), SessionError> {
        // Encoders append options as a query.
        let key = key.split('?').next().unwrap_or_default();
        let Some(name) = self.shared.keys.get(key).cloned() else {
            self.reject(session, request, "NetStream.Publish.BadName")
                .await?;
            return Err(SessionError::Refused(if key.is_empty() {
                "no stream key: the key goes into the encoder's own field for it"
            } else {
                "wrong stream key"
            }));
        };
        if self.publishing.is_some() {
            return Err(SessionError::Refused("it publishes already"));
        }
        self.begin(name).await?;
        self.accept(session, request).await
    }

    /// Hands a new stream of this encoder to whoever accepts publishers.
    async fn begin(&mut self, name: String) -> Result<(), SessionError> {
        let (tags, incoming) = mpsc::channel(TAGS);
        let (ended, end) = oneshot::channel();
        let (replace, replaced) = oneshot::channel();
        let old = self.holders().insert(name.clone(), (self.number, replace));
        if let Some((_, old)) = old {
            // The one that held the name may have ended just now.
            let _gone = old.send(());
        }
        self.publishing = Some(Publishing {
            name: name.clone(),
            tags,
            ended: Some(ended),
            replaced,
        });
        let publisher = Publisher {
            name,
            remote: self.remote,
            reader: FlvReader {
                tags: incoming,
                rest: Bytes::from_static(FLV_HEADER),
            },
            ended: end,
        };
        let sent = self.shared.publishers.send(publisher).await;
        sent.map_err(|_| SessionError::Refused("the server stops"))
    }

    fn holders(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (u64, oneshot::Sender<()>)>> {
        self.shared
            .holders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn tag(&mut self, kind: Kind, time: u32, data: &[u8]) -> Result<(), SessionError> {
        let Some(publishing) = &self.publishing else {
            return Ok(());
        };
        if is_misread(kind, data, ffmpeg_next::format::version()) {
            return Err(SessionError::Refused(
                "it sends HEVC or AV1, which this node's FFmpeg does not take over RTMP; \
                 set it to H.264",
            ));
        }
        let leapt = !is_header(kind, data) && self.times.leaps(kind, time);
        let why = match self.headers.note(kind, data) {
            Effect::Forward if leapt => Some("the encoder's clock leapt"),
            Effect::Forward => None,
            Effect::Hold => return Ok(()),
            Effect::Restart => Some("the encoder changed its settings"),
        };
        if let Some(why) = why {
            let name = publishing.name.clone();
            info!(name, "{why}; its stream begins anew");
            self.end(End::Lost);
            self.begin(name).await?;
            for (kind, header) in self.headers.all() {
                self.forward(kind, time, &header).await?;
            }
        }
        self.forward(kind, time, data).await
    }

    async fn forward(&self, kind: Kind, time: u32, data: &[u8]) -> Result<(), SessionError> {
        let Some(publishing) = &self.publishing else {
            return Ok(());
        };
        let sent = publishing.tags.send(flv_tag(kind, time, data)).await;
        sent.map_err(|_| SessionError::Refused("the stream cannot be used"))
    }

    fn end(&mut self, end: End) {
        let Some(mut publishing) = self.publishing.take() else {
            return;
        };
        if let Some(ended) = publishing.ended.take() {
            // The ingest may have given up before its encoder.
            let _gone = ended.send(end);
        }
        let mut holders = self.holders();
        if holders
            .get(&publishing.name)
            .is_some_and(|(number, _)| *number == self.number)
        {
            holders.remove(&publishing.name);
        }
    }
}

fn protocol(error: impl std::fmt::Display) -> SessionError {
    SessionError::Protocol(error.to_string())
}

/// Signature, version 1, audio and video, header length, and the size of no tag before.
const FLV_HEADER: &[u8] = &[b'F', b'L', b'V', 1, 5, 0, 0, 0, 9, 0, 0, 0, 0];

/// One FLV tag and its length after it (Adobe FLV 10.1, E.4.1).
fn flv_tag(kind: Kind, time: u32, data: &[u8]) -> Bytes {
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let [_, len @ ..] = len.to_be_bytes();
    let [high, time @ ..] = time.to_be_bytes();
    let mut tag = Vec::with_capacity(data.len() + 15);
    tag.push(kind as u8);
    tag.extend_from_slice(&len);
    tag.extend_from_slice(&time);
    tag.extend_from_slice(&[high, 0, 0, 0]);
    tag.extend_from_slice(data);
    let total = u32::try_from(tag.len()).unwrap_or(u32::MAX);
    tag.extend_from_slice(&total.to_be_bytes());
    tag.into()
}

/// An onMetaData script with the frame rate, the one thing that FFmpeg cannot learn from
/// the first packets.
fn metadata_tag(metadata: &StreamMetadata) -> Vec<u8> {
    let mut script = vec![2, 0, 10];
    script.extend_from_slice(b"onMetaData");
    let rate = metadata
        .video_frame_rate
        .filter(|rate| rate.is_finite() && *rate > 0.0);
    script.push(8);
    script.extend_from_slice(&u32::from(rate.is_some()).to_be_bytes());
    if let Some(rate) = rate {
        script.extend_from_slice(&[0, 9]);
        script.extend_from_slice(b"framerate");
        script.push(0);
        script.extend_from_slice(&f64::from(rate).to_be_bytes());
    }
    script.extend_from_slice(&[0, 0, 9]);
    script
}

/// An encoder's stream as FLV bytes; reading blocks.
#[derive(Debug)]
pub struct FlvReader {
    tags: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for FlvReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.tags.blocking_recv() {
                Some(tag) => self.rest = tag,
                None => return Ok(0),
            }
        }
        let len = self.rest.len().min(into.len());
        self.rest.copy_to_slice(&mut into[..len]);
        Ok(len)
    }
}
