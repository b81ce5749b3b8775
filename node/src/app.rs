//! A whole node: assembled, run, and stopped.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use headwater_chain::{
    JobBook, Ledger, LedgerError, Transcoder, Wei,
    ethereum::{Key, KeyError},
};
use headwater_media::ingest::rtmp;
use headwater_proto::{ManifestId, NodeId};
use headwater_protocol::{Answer, Config as CoreConfig, Node, Question};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    clock,
    config::{Config, PasswordError, PublishKey, read_password},
    driver::{self, Ask, Core},
    http::{self, Admin, BindError, Public, Readiness, Traffic},
    jobs::Jobs,
    net::{self, NetConfig, NetError, NetHandle},
    pipeline::{
        Broadcasts, BroadcastsConfig, EndReason, Hook, Ingest, Library, LibraryConfig, Transcoding,
        TranscodingConfig,
    },
    secret::Secret,
    status::{self, About},
    store::{Store, StoreError},
};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// HTTP.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// RTMP.
    #[error("cannot listen on {address} (--rtmp): {reason}")]
    Rtmp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The transcoder's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The password of the transcoder's key.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A transcoder without a ledger gets no jobs.
    #[error("a transcoder needs a ledger to get jobs from; add --ledger file:PATH")]
    NoLedger,
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
}

/// A running node.
#[derive(Debug)]
pub struct App {
    node: NodeId,
    net: NetHandle,
    core: Core,
    store: Arc<Store>,
    library: Arc<Library>,
    broadcasts: Option<Arc<Broadcasts>>,
    jobs: Option<Arc<Jobs>>,
    http: SocketAddr,
    admin: SocketAddr,
    rtmp: Option<SocketAddr>,
    keys: Vec<PublishKey>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How long a node takes to stop at most.
const STOP: Duration = Duration::from_secs(5);
/// How often known relayers are kept.
const KEEP_PEERS: Duration = Duration::from_secs(30);

impl App {
    /// Starts a node. What can fail fails here, before anything is announced.
    ///
    /// # Errors
    /// Says what cannot be had and which flag decides it.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let started = Self::assemble(&config, &tasks, &stop).await;
        if started.is_err() {
            stop.cancel();
            tasks.close();
            tasks.wait().await;
        }
        started
    }

    async fn assemble(
        config: &Config,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let store = Arc::new(Store::open(&config.data_dir)?);
        let key = store.node_key()?;
        let node = key.node_id();
        let ledger = config.ledger.as_deref().map(JobBook::open).transpose()?;
        if config.roles.transcoder && ledger.is_none() {
            return Err(StartError::NoLedger);
        }
        let http = http::bind(config.http, "--http").await?;
        let admin = http::bind(config.admin, "--admin").await?;
        let about = About {
            roles: config.roles,
            agent: status::agent(),
            started: clock::now(),
        };
        let net_config = NetConfig {
            key: key.clone(),
            roles: config.roles,
            agent: about.agent.clone(),
            listen: config.listen.clone(),
            external: config.external.clone(),
            bootstrap: config.bootstrap.clone(),
            known: store.peers()?,
            allow_private: config.allow_private_dials,
            home_links: 8,
            max_links: config.max_peers,
        };
        let (net, events) = net::start(net_config, tasks, stop.clone()).await?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| StartError::Random(error.to_string()))?;
        let core_config = CoreConfig {
            max_peers: usize::try_from(config.max_peers).unwrap_or(usize::MAX),
            ..CoreConfig::for_roles(config.roles)
        };
        let core = Node::new(node, core_config, seed, clock::now());
        let (core, asks) = driver::start(core, net.clone(), events, tasks, stop.clone());
        let library = Library::new(
            LibraryConfig::default(),
            node,
            core.clone(),
            tasks,
            stop.clone(),
        );
        let transcoding = config.roles.transcoder.then(|| {
            let transcoding = TranscodingConfig {
                ladder: config.ladder.clone(),
                packager: config.packager,
            };
            Transcoding::new(
                transcoding,
                key.clone(),
                core.clone(),
                library.clone(),
                tasks.clone(),
                stop.clone(),
            )
        });
        let jobs = match ledger {
            None => None,
            Some(ledger) => {
                let transcoder = match &transcoding {
                    None => None,
                    Some(transcoding) => {
                        let key = transcoder_key(config)?;
                        register(&ledger, &key, node).await?;
                        Some((key, transcoding.clone()))
                    }
                };
                Some(Jobs::new(
                    Arc::new(ledger),
                    store.clone(),
                    net.clone(),
                    key.clone(),
                    config.allow_private_dials,
                    config.ladder.names().map(str::to_owned).collect(),
                    transcoder,
                ))
            }
        };
        let broadcasts = config.roles.broadcaster.then(|| {
            Broadcasts::new(
                BroadcastsConfig {
                    packager: config.packager,
                    reconnect: config.reconnect_window,
                },
                key.clone(),
                core.clone(),
                store.clone(),
                library.clone(),
                tasks.clone(),
                stop.clone(),
                hook(config, jobs.clone(), tasks.clone()),
            )
        });
        let keys = match &broadcasts {
            Some(_) => publish_keys(config, &store)?,
            None => Vec::new(),
        };
        let rtmp = match &broadcasts {
            Some(broadcasts) => {
                Some(listen_rtmp(config.rtmp, &keys, broadcasts, tasks, stop).await?)
            }
            None => None,
        };
        let app = Self {
            node,
            net: net.clone(),
            core: core.clone(),
            store,
            library: library.clone(),
            broadcasts: broadcasts.clone(),
            jobs: jobs.clone(),
            http: http.local_addr().unwrap_or(config.http),
            admin: admin.local_addr().unwrap_or(config.admin),
            rtmp,
            keys,
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        if let Some(jobs) = &jobs {
            let watch = jobs
                .clone()
                .watch(core.clone(), broadcasts.clone(), stop.clone());
            tasks.spawn(watch);
        }
        let answerer = Answerer {
            about: about.clone(),
            core: core.clone(),
            net: net.clone(),
            key,
            jobs,
            broadcasts: broadcasts.clone(),
            accepts_jobs: transcoding.is_some(),
        };
        tasks.spawn(answerer.run(asks, tasks.clone(), stop.clone()));
        let readiness = Readiness::new(net.clone(), !config.bootstrap.is_empty());
        let traffic = Arc::new(Traffic::default());
        let public = Public {
            library,
            broadcasts,
            readiness: readiness.clone(),
            traffic: traffic.clone(),
        };
        let admin_state = Admin {
            core,
            net,
            about,
            transcoding,
            readiness,
            traffic,
        };
        tasks.spawn(http::serve_public(http, public, stop.clone()));
        tasks.spawn(http::serve_admin(admin, admin_state, stop.clone()));
        tasks.spawn(keep_peers(app.net.clone(), app.store.clone(), stop.clone()));
        Ok(app)
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Talks to its core.
    #[must_use]
    pub const fn core(&self) -> &Core {
        &self.core
    }

    /// Its links.
    #[must_use]
    pub const fn net(&self) -> &NetHandle {
        &self.net
    }

    /// Its streams.
    #[must_use]
    pub const fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// Its broadcasts, if it is a broadcaster.
    #[must_use]
    pub const fn broadcasts(&self) -> Option<&Arc<Broadcasts>> {
        self.broadcasts.as_ref()
    }

    /// Its jobs, if it has a ledger.
    #[must_use]
    pub const fn jobs(&self) -> Option<&Arc<Jobs>> {
        self.jobs.as_ref()
    }

    /// Where players fetch.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where operators ask.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where encoders publish, if it is a broadcaster.
    #[must_use]
    pub const fn rtmp(&self) -> Option<SocketAddr> {
        self.rtmp
    }

    /// Names and the keys that publish them.
    #[must_use]
    pub fn publish_keys(&self) -> &[PublishKey] {
        &self.keys
    }

    /// The playlist and player URLs of a broadcast at this node.
    #[must_use]
    pub fn urls(&self, manifest: ManifestId) -> (String, String) {
        let http = self.http;
        (
            format!("http://{http}/stream/{manifest}.m3u8"),
            format!("http://{http}/watch/{manifest}"),
        )
    }

    /// Stops the node, and waits until everything in it has ended.
    pub async fn stop(self) {
        if let Err(error) = self.store.put_peers(self.net.known_relayers()) {
            warn!(%error, "known relayers are lost");
        }
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP, self.tasks.wait()).await.is_err() {
            warn!("some tasks did not end in time");
        }
    }
}

fn transcoder_key(config: &Config) -> Result<Key, StartError> {
    let password = match &config.password_file {
        None => Secret::from(""),
        Some(path) => read_password(path)?,
    };
    if config.keystore.exists() {
        return Ok(Key::load(&config.keystore, password.expose())?);
    }
    let key = Key::random();
    key.save(&config.keystore, password.expose())?;
    info!(address = %key.address(), keystore = %config.keystore.display(), "made a key");
    Ok(key)
}

/// A transcoder that is not in the job book puts itself there, for nothing and with the
/// least stake; `headwater ledger register` changes the terms.
async fn register(ledger: &JobBook, key: &Key, node: NodeId) -> Result<(), StartError> {
    let own = headwater_chain::NodeKey(*node.public_key());
    let known = ledger.transcoders().await?;
    let same = |known: &&Transcoder| known.address == key.address();
    let terms = match known.iter().find(same) {
        Some(known) if known.node == own => return Ok(()),
        Some(known) => known.clone(),
        None => Transcoder {
            address: key.address(),
            node: own,
            price_per_segment: Wei(0),
            stake: Wei(1),
        },
    };
    ledger.register(Transcoder { node: own, ..terms }).await?;
    info!(address = %key.address(), "registered in the job book");
    Ok(())
}

fn hook(config: &Config, jobs: Option<Arc<Jobs>>, tasks: TaskTracker) -> Hook {
    let create = config.create_jobs;
    Arc::new(move |stream, began| {
        let (Some(jobs), true) = (jobs.clone(), create) else {
            return;
        };
        let stream = stream.clone();
        tasks.spawn(async move {
            if began {
                jobs.broadcast_began(&stream).await;
            } else {
                jobs.broadcast_ended(&stream).await;
            }
        });
    })
}

/// The keys that were given, or one for the name `live` that is made once and kept.
fn publish_keys(config: &Config, store: &Store) -> Result<Vec<PublishKey>, StartError> {
    const NAME: &str = "live";
    if !config.publish_keys.is_empty() {
        return Ok(config.publish_keys.clone());
    }
    let key = match store.publish_key(NAME)? {
        Some(key) => key,
        None => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|error| StartError::Random(error.to_string()))?;
            let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let key = Secret::from(key);
            store.put_publish_key(NAME, &key)?;
            key
        }
    };
    let name = NAME.to_owned();
    Ok(vec![PublishKey { name, key }])
}

async fn listen_rtmp(
    address: SocketAddr,
    keys: &[PublishKey],
    broadcasts: &Arc<Broadcasts>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<SocketAddr, StartError> {
    let failed = |reason| StartError::Rtmp { address, reason };
    let keys = keys
        .iter()
        .map(|key| (key.key.expose().to_owned(), key.name.clone()))
        .collect();
    let mut server = rtmp::Server::bind(address, keys).await.map_err(failed)?;
    let local = server.local_addr();
    let (broadcasts, stop) = (broadcasts.clone(), stop.clone());
    let sessions = tasks.clone();
    tasks.spawn(async move {
        loop {
            let publisher = tokio::select! {
                () = stop.cancelled() => return,
                publisher = server.accept() => publisher,
            };
            let broadcasts = broadcasts.clone();
            sessions.spawn(async move {
                publish(&broadcasts, publisher).await;
            });
        }
    });
    Ok(local)
}

async fn publish(broadcasts: &Arc<Broadcasts>, publisher: rtmp::Publisher) {
    let rtmp::Publisher {
        name,
        remote,
        reader,
        ended,
    } = publisher;
    // An encoder that took over its own key waits for the old connection's end.
    for _ in 0..50 {
        let busy = broadcasts
            .list()
            .iter()
            .any(|live| live.name == name && live.connected);
        if !busy {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    info!(name, %remote, "encoder connected");
    let ended = async move {
        match ended.await {
            Ok(rtmp::End::Unpublished) => EndReason::Finished,
            Ok(rtmp::End::Lost) | Err(_) => EndReason::Lost,
        }
    };
    let ingest = Ingest::Flv(Box::new(reader));
    if let Err(error) = broadcasts.publish(&name, ingest, ended).await {
        error!(name, %error, "not published");
    }
}

async fn keep_peers(net: NetHandle, store: Arc<Store>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(KEEP_PEERS);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {
                let known = net.known_relayers();
                if !known.is_empty() && let Err(error) = store.put_peers(known) {
                    warn!(%error, "known relayers cannot be kept");
                }
            }
        }
    }
}

/// Answers what only the program can know.
struct Answerer {
    about: About,
    core: Core,
    net: NetHandle,
    key: headwater_proto::SigningKey,
    jobs: Option<Arc<Jobs>>,
    broadcasts: Option<Arc<Broadcasts>>,
    accepts_jobs: bool,
}

impl Answerer {
    async fn run(self, mut asks: mpsc::Receiver<Ask>, tasks: TaskTracker, stop: CancellationToken) {
        let this = Arc::new(self);
        loop {
            let ask = tokio::select! {
                () = stop.cancelled() => return,
                ask = asks.recv() => match ask {
                    Some(ask) => ask,
                    None => return,
                },
            };
            let this = this.clone();
            tasks.spawn(async move {
                if let Some(answer) = this.answer(&ask.question).await {
                    ask.answer(answer).await;
                }
            });
        }
    }

    async fn answer(&self, question: &Question) -> Option<Answer> {
        Some(match question {
            Question::Claim { job } => {
                Answer::Claim(self.jobs.as_ref().and_then(|jobs| jobs.claim(*job)))
            }
            Question::CheckClaim { claim, signature } => match &self.jobs {
                Some(jobs) => jobs.check_claim(claim, signature).await,
                None => Answer::ClaimRefused,
            },
            Question::CheckResult { body } => {
                let result = body.value();
                let serves =
                    |jobs: &Arc<Jobs>| jobs.serves(result.transcoder, result.job, &result.stream);
                let accepted = match &self.broadcasts {
                    Some(broadcasts) if self.jobs.as_ref().is_some_and(serves) => {
                        broadcasts.accept_result(result).await
                    }
                    Some(_) | None => false,
                };
                debug!(job = %result.job, accepted, "transcoder's renditions");
                Answer::Result { accepted }
            }
            Question::Lookup { target } => {
                self.net.look_up(*target).await;
                Answer::Lookup
            }
            Question::Status => {
                let snapshot = self.core.snapshot().await.ok()?;
                Answer::Status(status::sign(&self.about, &snapshot, &self.net, &self.key))
            }
            Question::Probe { .. } => Answer::Probe {
                available: self.accepts_jobs,
            },
        })
    }
}
