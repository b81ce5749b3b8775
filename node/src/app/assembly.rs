//! How the parts of a node are put together.

use std::{
    fs::OpenOptions, io::BufWriter, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc,
    time::Duration,
};

use headwater_chain::ethereum::{Domain, Key};
use headwater_proto::{NodeId, SigningKey};
use headwater_protocol::{Config as CoreConfig, Node, Time, record::Recorder};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{
    App, StartError,
    answers::Answerer,
    checks::Checks,
    duties::{self, Duties, Office},
    encoders,
};
use crate::{
    clock,
    config::{AccountError, ChainConfig, Config, KEYSTORE, LedgerConfig},
    driver::{self, Ask, Core},
    http::{self, Admin, Public, Readiness, Traffic},
    jobs::JobsConfig,
    ledger::{Means, Opened, Opening},
    net::{self, NetConfig, NetHandle},
    pipeline::{
        Broadcasts, BroadcastsConfig, Library, LibraryConfig, Transcoding, TranscodingConfig,
    },
    receipts::{Books, CollectorConfig},
    status::{self, About},
    store::Store,
};

/// How often known relayers are kept.
const KEEP_PEERS: Duration = Duration::from_secs(30);
/// Links that every node keeps to the relayers nearest to it.
const HOME_LINKS: usize = 8;
/// See [`JobsConfig::patience`].
const JOB_PATIENCE: Duration = Duration::from_secs(15);

/// What all parts of a node need.
pub(super) struct Assembly<'a> {
    config: &'a Config,
    tasks: &'a TaskTracker,
    stop: &'a CancellationToken,
    store: Arc<Store>,
    key: SigningKey,
    node: NodeId,
    about: About,
}

impl<'a> Assembly<'a> {
    /// Opens the data directory.
    pub(super) fn new(
        config: &'a Config,
        tasks: &'a TaskTracker,
        stop: &'a CancellationToken,
    ) -> Result<Self, StartError> {
        let store = Arc::new(Store::open(&config.data_dir)?);
        let key = store.node_key()?;
        Ok(Self {
            config,
            tasks,
            stop,
            store,
            node: key.node_id(),
            key,
            about: About {
                roles: config.roles,
                agent: status::agent(),
                started: clock::now(),
            },
        })
    }

    /// Starts all parts. What can fail fails before anything is announced; only the ledger
    /// is waited for when nobody answers for it yet.
    pub(super) async fn run(self) -> Result<App, StartError> {
        let account = self.account_key()?;
        let office = Office::default();
        let means = self.means(account.as_ref());
        let ledger = self.ledger(account.as_ref(), &office)?;
        let opened = match &ledger {
            Some(ledger) => self.opened(ledger, &means).await?,
            None => None,
        };
        let http = http::bind(self.config.http, "--http").await?;
        let admin = http::bind(self.config.admin, "--admin").await?;
        let (net, core, asks) = self.network().await?;
        let library = Library::new(
            LibraryConfig::default(),
            self.node,
            core.clone(),
            self.tasks,
            self.stop.clone(),
        );
        let transcoding = self.transcoding(&core, &library, &office.books);
        let broadcasts = self.broadcasts(&core, &library, &office);
        let (mut keys, mut rtmp) = (Vec::new(), None);
        if let Some(broadcasts) = &broadcasts {
            keys = encoders::publish_keys(self.config, &self.store)?;
            let address = self.config.rtmp;
            let listening =
                encoders::listen_rtmp(address, &keys, broadcasts, self.tasks, self.stop);
            rtmp = Some(listening.await?);
        }
        let app = App {
            node: self.node,
            net: net.clone(),
            core: core.clone(),
            store: self.store.clone(),
            library: library.clone(),
            broadcasts: broadcasts.clone(),
            http: http.local_addr().unwrap_or(self.config.http),
            admin: admin.local_addr().unwrap_or(self.config.admin),
            rtmp,
            keys,
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        };
        self.attend(&app, asks, &office, transcoding.is_some());
        if let Some(ledger) = &ledger {
            let duties = Duties {
                ledger: ledger.clone(),
                means,
                jobs: self.jobs(),
                claims: self.config.claims,
                account,
                node: self.key.clone(),
                store: self.store.clone(),
                net: net.clone(),
                core: core.clone(),
                transcoding: transcoding.clone(),
                broadcasts: broadcasts.clone(),
                office: office.clone(),
                tasks: self.tasks.clone(),
                stop: self.stop.clone(),
            };
            match opened {
                Some(opened) => duties.begin(&opened),
                None => drop(self.tasks.spawn(duties.wait())),
            }
        }
        let joins = !self.config.bootstrap.is_empty();
        let readiness = Readiness::new(net.clone(), joins, ledger.clone());
        let traffic = Arc::new(Traffic::default());
        let public = Public {
            library,
            broadcasts,
            readiness: readiness.clone(),
            traffic: traffic.clone(),
        };
        let operators = Admin {
            core,
            net,
            about: self.about,
            transcoding,
            collector: office.collector,
            ledger,
            readiness,
            traffic,
        };
        let stop = self.stop;
        self.tasks
            .spawn(http::serve_public(http, public, stop.clone()));
        self.tasks
            .spawn(http::serve_admin(admin, operators, stop.clone()));
        Ok(app)
    }

    /// The network and the core on it.
    async fn network(&self) -> Result<(NetHandle, Core, mpsc::Receiver<Ask>), StartError> {
        let config = self.config;
        let net = NetConfig {
            key: self.key.clone(),
            roles: config.roles,
            agent: self.about.agent.clone(),
            listen: config.listen.clone(),
            external: config.external.clone(),
            bootstrap: config.bootstrap.clone(),
            known: self.store.peers()?,
            allow_private: config.allow_private_dials,
            home_links: HOME_LINKS,
            max_links: config.max_peers,
        };
        let (net, events) = net::start(net, self.tasks, self.stop.clone()).await?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| StartError::Random(error.to_string()))?;
        let core = CoreConfig {
            max_peers: usize::try_from(config.max_peers).unwrap_or(usize::MAX),
            ..CoreConfig::for_roles(config.roles)
        };
        let now = clock::now();
        let recorder = match &config.record {
            Some(path) => Some(self.recorder(path, &core, seed, now)?),
            None => None,
        };
        let core = Node::new(self.node, core, seed, now);
        let (tasks, stop) = (self.tasks, self.stop.clone());
        let (core, asks) = driver::start(
            core,
            net.clone(),
            events,
            recorder,
            net::SPARE_AFTER,
            tasks,
            stop,
        );
        Ok((net, core, asks))
    }

    /// A recording of the core from its beginning.
    fn recorder(
        &self,
        path: &Path,
        core: &CoreConfig,
        seed: [u8; 32],
        now: Time,
    ) -> Result<Recorder, StartError> {
        let failed = |reason| StartError::Record {
            path: path.display().to_string(),
            reason,
        };
        // It holds addresses, claims and all media that pass.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let mut recorder = Recorder::new(BufWriter::new(file)).map_err(failed)?;
        recorder.start(driver::RECORDED_AS, &self.node, core, seed, now);
        Ok(recorder)
    }

    fn transcoding(
        &self,
        core: &Core,
        library: &Arc<Library>,
        books: &Books,
    ) -> Option<Arc<Transcoding>> {
        let config = TranscodingConfig {
            ladder: self.config.ladder.clone(),
            packager: self.config.packager,
        };
        self.config.roles.transcoder.then(|| {
            Transcoding::new(
                config,
                self.key.clone(),
                core.clone(),
                self.store.clone(),
                library.clone(),
                self.tasks.clone(),
                self.stop.clone(),
                books.clone(),
            )
        })
    }

    /// The account of a transcoder, and on a chain of a broadcaster too.
    fn account_key(&self) -> Result<Option<Key>, StartError> {
        let config = self.config;
        let on_chain = matches!(config.ledger, Some(LedgerConfig::Chain(_)));
        if !(config.roles.transcoder || config.roles.broadcaster && on_chain) {
            return Ok(None);
        }
        let keystore = config.data_dir.join(KEYSTORE);
        if let Some(key) = config.account.key(Some(&keystore))? {
            return Ok(Some(key));
        }
        let key = Key::random();
        let password = config.account.password().map_err(AccountError::from)?;
        key.save(&keystore, password.expose())
            .map_err(AccountError::from)?;
        info!(address = %key.address(), keystore = %keystore.display(), "made a key");
        Ok(Some(key))
    }

    /// What the node may do in its ledger of its own accord.
    fn means(&self, account: Option<&Key>) -> Means {
        Means {
            key: account.cloned(),
            spend_limit: Some(self.config.jobs.spend_limit),
            journal: self.store.clone(),
        }
    }

    /// The ledger, which is not opened yet.
    fn ledger(
        &self,
        account: Option<&Key>,
        office: &Office,
    ) -> Result<Option<Arc<Opening>>, StartError> {
        let Some(config) = &self.config.ledger else {
            if self.config.roles.transcoder {
                return Err(StartError::NoLedger);
            }
            return Ok(None);
        };
        let mut known = None;
        if let LedgerConfig::Chain(ChainConfig { contract, .. }) = config {
            known = self.store.chain(&contract.to_string())?;
            if let (Some(chain_id), Some(account)) = (known, account) {
                let contract = *contract;
                let domain = Domain { chain_id, contract };
                office.begin_books(self.store.clone(), &self.key, account, domain);
            }
        }
        Ok(Some(Arc::new(Opening::new(config.clone(), known)?)))
    }

    /// The ledger when it can be opened at once. A transcoder registers in a job book.
    async fn opened(&self, ledger: &Opening, means: &Means) -> Result<Option<Opened>, StartError> {
        let opened = ledger.at_once(means).await?;
        let book = opened.as_ref().filter(|opened| opened.chain.is_none());
        let transcoder = means.key.as_ref().filter(|_| self.config.roles.transcoder);
        if let (Some(book), Some(key)) = (book, transcoder) {
            duties::register(book, key.address(), self.node).await?;
        }
        Ok(opened)
    }

    /// How the node deals with jobs.
    fn jobs(&self) -> JobsConfig {
        let config = self.config;
        JobsConfig {
            create: config.jobs.create,
            allow_private: config.allow_private_dials,
            profiles: config.ladder.names().map(str::to_owned).collect(),
            max_price: config.jobs.max_price,
            reassign_after: config.reassign_after,
            reconnect: config.reconnect_window,
            patience: JOB_PATIENCE,
            collector: CollectorConfig {
                max_unpaid: config.max_unpaid,
            },
        }
    }

    fn broadcasts(
        &self,
        core: &Core,
        library: &Arc<Library>,
        office: &Office,
    ) -> Option<Arc<Broadcasts>> {
        self.config.roles.broadcaster.then(|| {
            Broadcasts::new(
                BroadcastsConfig {
                    packager: self.config.packager,
                    reconnect: self.config.reconnect_window,
                },
                self.key.clone(),
                core.clone(),
                self.store.clone(),
                library.clone(),
                self.tasks.clone(),
                self.stop.clone(),
                office.hook(self.config.jobs.create, self.tasks.clone()),
                office.books.clone(),
            )
        })
    }

    /// Starts what goes on beside the core: answers to its questions, the memory of
    /// relayers.
    fn attend(&self, app: &App, asks: mpsc::Receiver<Ask>, office: &Office, transcodes: bool) {
        let answerer = Answerer {
            about: self.about.clone(),
            core: app.core.clone(),
            net: app.net.clone(),
            key: self.key.clone(),
            jobs: office.jobs.clone(),
            checks: Checks::new(office.jobs.clone()),
            books: office.books.clone(),
            broadcasts: app.broadcasts.clone(),
            transcodes,
        };
        let (tasks, stop) = (self.tasks, self.stop);
        tasks.spawn(answerer.run(asks, tasks.clone(), stop.clone()));
        tasks.spawn(keep_peers(
            app.net.clone(),
            self.store.clone(),
            stop.clone(),
        ));
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
