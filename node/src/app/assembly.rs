//! How the parts of a node are put together.

use std::{
    fs::OpenOptions, io::BufWriter, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc,
    time::Duration,
};

use headwater_chain::{
    Address, NodeKey, Transcoder, Wei,
    ethereum::{ClaimConfig, Claims, Key},
};
use headwater_proto::{NodeId, SigningKey};
use headwater_protocol::{Config as CoreConfig, Node, Time, record::Recorder};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{App, StartError, answers::Answerer, encoders};
use crate::{
    clock,
    config::{AccountError, Config, KEYSTORE, LedgerConfig},
    driver::{self, Ask, Core},
    http::{self, Admin, Public, Readiness, Traffic},
    jobs::{Jobs, JobsConfig},
    ledger::{self, Keeper, Make, Means, Opened},
    net::{self, NetConfig, NetHandle},
    pipeline::{
        Broadcasts, BroadcastsConfig, Hook, Library, LibraryConfig, Transcoding, TranscodingConfig,
    },
    receipts::{Books, CollectorConfig},
    status::{self, About},
    store::Store,
};

/// How often known relayers are kept.
const KEEP_PEERS: Duration = Duration::from_secs(30);
/// Links that every node keeps to the relayers nearest to it.
const HOME_LINKS: usize = 8;

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

    /// Starts all parts. What can fail fails before anything is announced.
    pub(super) async fn run(self) -> Result<App, StartError> {
        let key = self.account_key()?;
        let ledger = self.ledger(key.as_ref()).await?;
        if self.config.roles.transcoder && ledger.is_none() {
            return Err(StartError::NoLedger);
        }
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
        let books = self.books(ledger.as_ref(), key.as_ref());
        let transcoding = self.transcoding(&core, &library, &books);
        let jobs = ledger.as_ref().map(|opened| {
            let transcoder = key.clone().zip(transcoding.clone());
            self.jobs(opened, &net, transcoder, &books)
        });
        if let Some(opened) = &ledger {
            self.keep(opened);
        }
        let collector = jobs.as_ref().and_then(|jobs| jobs.collector(core.clone()));
        if let Some(collector) = &collector {
            self.tasks.spawn(collector.clone().run(self.stop.clone()));
        }
        let broadcasts = self.broadcasts(&core, &library, jobs.as_ref(), &books);
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
            jobs: jobs.clone(),
            http: http.local_addr().unwrap_or(self.config.http),
            admin: admin.local_addr().unwrap_or(self.config.admin),
            rtmp,
            keys,
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        };
        self.attend(&app, asks, transcoding.is_some());
        let readiness = Readiness::new(net.clone(), !self.config.bootstrap.is_empty());
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
            collector,
            chain: ledger.and_then(|opened| opened.chain),
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
        let (core, asks) = driver::start(core, net.clone(), events, recorder, tasks, stop);
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
                library.clone(),
                self.tasks.clone(),
                self.stop.clone(),
                books.work.clone(),
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

    /// The ledger, in which a transcoder registers.
    async fn ledger(&self, key: Option<&Key>) -> Result<Option<Opened>, StartError> {
        let Some(config) = &self.config.ledger else {
            return Ok(None);
        };
        let means = Means {
            key: key.cloned(),
            spend_limit: Some(self.config.jobs.spend_limit),
            journal: self.store.clone(),
        };
        let opened = ledger::open(config, means, Make::IfMissing).await?;
        if let Some(key) = key.filter(|_| self.config.roles.transcoder) {
            register(&opened, key.address(), self.node).await?;
        }
        Ok(Some(opened))
    }

    /// What the node has to do with its ledger.
    fn jobs(
        &self,
        opened: &Opened,
        net: &NetHandle,
        transcoder: Option<(Key, Arc<Transcoding>)>,
        books: &Books,
    ) -> Arc<Jobs> {
        let chain = opened.chain.as_ref();
        let writer = chain.and_then(|chain| chain.writer.as_ref());
        Jobs::new(
            opened.ledger.clone(),
            self.store.clone(),
            net.clone(),
            self.key.clone(),
            JobsConfig {
                create: self.config.jobs.create,
                allow_private: self.config.allow_private_dials,
                profiles: self.config.ladder.names().map(str::to_owned).collect(),
                max_price: self.config.jobs.max_price,
                account: writer.map(|writer| writer.account().address()),
                reassign_after: self.config.reassign_after,
                collector: CollectorConfig {
                    max_unpaid: self.config.max_unpaid,
                },
            },
            transcoder,
            books.clone(),
        )
    }

    /// What is kept about work that a chain pays for. A job book pays nobody.
    fn books(&self, ledger: Option<&Opened>, key: Option<&Key>) -> Books {
        let chain = ledger.and_then(|opened| opened.chain.as_ref());
        let writer = chain.and_then(|chain| chain.writer.as_ref());
        match (writer, key) {
            (Some(writer), Some(key)) => {
                let account = writer.account();
                let domain = account.domain();
                Books::of_chain(account.journal(), self.key.clone(), key.clone(), domain)
            }
            (None | Some(_), _) => Books::default(),
        }
    }

    /// Looks after what is under way on a chain.
    fn keep(&self, opened: &Opened) {
        let Some(chain) = &opened.chain else {
            return;
        };
        let Some(writer) = &chain.writer else {
            return;
        };
        let account = writer.account().clone();
        let claims = self.config.roles.transcoder;
        let claims = claims.then(|| Claims::new(account, ClaimConfig::default()));
        let keeper = Keeper::new(chain.clone(), writer.clone(), claims);
        self.tasks.spawn(keeper.run(self.stop.clone()));
    }

    fn broadcasts(
        &self,
        core: &Core,
        library: &Arc<Library>,
        jobs: Option<&Arc<Jobs>>,
        books: &Books,
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
                hook(self.config, jobs.cloned(), self.tasks.clone()),
                books.fed.clone(),
            )
        })
    }

    /// Starts what goes on beside the core: the ledger, its questions, the memory of
    /// relayers.
    fn attend(&self, app: &App, asks: mpsc::Receiver<Ask>, accepts_jobs: bool) {
        if let Some(jobs) = &app.jobs {
            let (core, broadcasts) = (app.core.clone(), app.broadcasts.clone());
            if let Some(broadcasts) = broadcasts.clone() {
                let over = jobs
                    .clone()
                    .watch_over(core.clone(), broadcasts, self.stop.clone());
                self.tasks.spawn(over);
            }
            let watch = jobs.clone().watch(core, broadcasts, self.stop.clone());
            self.tasks.spawn(watch);
        }
        let answerer = Answerer {
            about: self.about.clone(),
            core: app.core.clone(),
            net: app.net.clone(),
            key: self.key.clone(),
            jobs: app.jobs.clone(),
            broadcasts: app.broadcasts.clone(),
            accepts_jobs,
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

/// A transcoder that is not in the job book puts itself there, for nothing and with the
/// least stake; `headwater ledger register` changes the terms. On a chain that costs a
/// stake, so it has to be done by hand.
async fn register(opened: &Opened, own: Address, node: NodeId) -> Result<(), StartError> {
    let key = NodeKey(*node.public_key());
    let known = opened.ledger.transcoders().await?;
    let terms = match known.into_iter().find(|known| known.address == own) {
        Some(known) if known.node == key => return Ok(()),
        Some(known) => known,
        None if opened.chain.is_some() => {
            warn!(address = %own, %node, "not registered; see `headwater ledger register`");
            return Ok(());
        }
        None => Transcoder {
            address: own,
            node: key,
            price_per_segment: Wei(0),
            stake: Wei(1),
        },
    };
    let terms = Transcoder { node: key, ..terms };
    opened.ledger.register(terms).await?;
    info!(address = %own, "registered in the ledger");
    Ok(())
}

fn hook(config: &Config, jobs: Option<Arc<Jobs>>, tasks: TaskTracker) -> Hook {
    let create = config.jobs.create;
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
