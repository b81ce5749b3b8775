//! A broadcaster and its jobs in a ledger that does not always do what it should.

use std::{
    io::{PipeWriter, pipe},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use headwater_chain::{
    Cursor, Future, JobBook, JobFilter, JobId, LedgerError, NewJob, Transcoder, Watch,
    ethereum::Domain,
};
use headwater_media::PackagerConfig;
use headwater_proto::{BroadcastId, ManifestId, Roles};
use headwater_protocol::{Config, Node};
use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    driver,
    net::{self, NetConfig},
    pipeline::{BroadcastsConfig, EndReason, Ingest, Library, LibraryConfig},
};

pub(super) const OWN: Address = Address([1; 20]);
pub(super) const OTHER: Address = Address([2; 20]);
const A_WHILE: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// A job book in which acknowledging fails at first, and creating hangs when it is told to.
#[derive(Debug)]
pub(super) struct Troubled {
    book: JobBook,
    errors: Mutex<Vec<LedgerError>>,
    pub(super) tries: AtomicUsize,
    hangs: AtomicBool,
    hanging: AtomicUsize,
}

impl Troubled {
    /// Without jobs.
    fn new(dir: &tempfile::TempDir, errors: Vec<LedgerError>) -> Self {
        Self {
            book: JobBook::open(&dir.path().join("jobs.book")).unwrap(),
            errors: Mutex::new(errors),
            tries: AtomicUsize::new(0),
            hangs: AtomicBool::new(false),
            hanging: AtomicUsize::new(0),
        }
    }

    /// With a job, which [`OWN`] holds.
    pub(super) async fn with(dir: &tempfile::TempDir, errors: Vec<LedgerError>) -> Self {
        let ledger = Self::new(dir, errors);
        ledger.enrol(OWN).await;
        ledger.book.create_job(job("stream")).await.unwrap();
        ledger
    }

    async fn enrol(&self, address: Address) {
        let terms = Transcoder {
            address,
            node: NodeKey([address.0[0]; 32]),
            price_per_segment: Wei(0),
            stake: Wei(1),
        };
        self.book.register(terms).await.unwrap();
    }

    /// The jobs that go on.
    async fn live(&self) -> Vec<Job> {
        self.book.jobs(JobFilter::default()).await.unwrap()
    }
}

impl Ledger for Troubled {
    fn domain(&self) -> Domain {
        self.book.domain()
    }
    fn register(&self, transcoder: Transcoder) -> Future<'_, ()> {
        self.book.register(transcoder)
    }
    fn unregister(&self, address: Address) -> Future<'_, ()> {
        self.book.unregister(address)
    }
    fn transcoders(&self) -> Future<'_, Vec<Transcoder>> {
        self.book.transcoders()
    }
    fn create_job(&self, job: NewJob) -> Future<'_, Job> {
        if self.hangs.load(Ordering::Relaxed) {
            self.hanging.fetch_add(1, Ordering::Relaxed);
            return Box::pin(std::future::pending());
        }
        self.book.create_job(job)
    }
    fn job(&self, id: JobId) -> Future<'_, Option<Job>> {
        self.book.job(id)
    }
    fn jobs(&self, filter: JobFilter) -> Future<'_, Vec<Job>> {
        self.book.jobs(filter)
    }
    fn acknowledge(&self, id: JobId, transcoder: Address) -> Future<'_, Job> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        match lock(&self.errors).pop() {
            Some(error) => Box::pin(async move { Err(error) }),
            None => self.book.acknowledge(id, transcoder),
        }
    }
    fn reassign(&self, id: JobId) -> Future<'_, Job> {
        self.book.reassign(id)
    }
    fn end_job(&self, id: JobId) -> Future<'_, Job> {
        self.book.end_job(id)
    }
    fn watch(&self, from: Option<Cursor>) -> Watch {
        self.book.watch(from)
    }
}

/// The first job, in a round of its election; this node holds it, if any.
pub(super) fn assigned(holder: Option<NodeKey>, round: u32) -> Job {
    Job {
        id: JobId(1),
        stream: "stream".into(),
        broadcaster: headwater_chain::Broadcaster::Node(NodeKey([9; 32])),
        profiles: vec![],
        max_price_per_segment: Wei(1),
        state: JobState::Assigned,
        transcoder: holder.map(|node| Transcoder {
            address: Address([node.0[0]; 20]),
            node,
            price_per_segment: Wei(1),
            stake: Wei(1),
        }),
        round,
        excluded: vec![],
    }
}

fn job(stream: &str) -> NewJob {
    NewJob {
        stream: stream.to_owned(),
        broadcaster: NodeKey([9; 32]),
        profiles: vec![],
        max_price_per_segment: Wei(0),
    }
}

/// A broadcaster without neighbours.
struct Broadcaster {
    jobs: Arc<Jobs>,
    ledger: Arc<Troubled>,
    core: Core,
    broadcasts: Arc<Broadcasts>,
    /// What encoders would write to.
    encoders: Vec<PipeWriter>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Broadcaster {
    async fn start(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let key = SigningKey::from_bytes(&[9; 32]);
        let node = key.node_id();
        let net = NetConfig {
            key: key.clone(),
            roles: Roles::default(),
            agent: "test".into(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            external: vec![],
            bootstrap: vec![],
            known: vec![],
            allow_private: true,
            home_links: 1,
            max_links: 1,
        };
        let (net, events) = net::start(net, &tasks, stop.clone()).await.unwrap();
        let core = Node::new(node, Config::default(), [9; 32], clock::now());
        let (core, _) = driver::start(
            core,
            net.clone(),
            events,
            None,
            net::SPARE_AFTER,
            &tasks,
            stop.clone(),
        );
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let library = LibraryConfig::default();
        let library = Library::new(library, node, core.clone(), &tasks, stop.clone());
        let config = BroadcastsConfig {
            packager: PackagerConfig::default(),
            reconnect: patience,
        };
        let broadcasts = Broadcasts::new(
            config,
            key.clone(),
            core.clone(),
            store.clone(),
            library,
            tasks.clone(),
            stop.clone(),
            Arc::new(|_, _| {}),
            Books::default(),
        );
        let ledger = Arc::new(Troubled::new(&dir, vec![]));
        let parts = Parts {
            ledger: ledger.clone(),
            account: None,
            store,
            net,
            node: key,
            transcoder: None,
            books: Books::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let config = JobsConfig {
            create: true,
            allow_private: true,
            profiles: vec![],
            max_price: Wei(0),
            reassign_after: patience,
            reconnect: patience,
            patience,
            collector: CollectorConfig { max_unpaid: 1 },
        };
        Self {
            jobs: Jobs::new(parts, config),
            ledger,
            core,
            broadcasts,
            encoders: Vec::new(),
            tasks,
            stop,
            _dir: dir,
        }
    }

    /// An encoder connects, and says nothing.
    async fn publish(&mut self, name: &str) -> String {
        let (reader, writer) = pipe().unwrap();
        self.encoders.push(writer);
        let ingest = Ingest::Flv(Box::new(reader));
        let ended = async { EndReason::Finished };
        let published = self.broadcasts.publish(name, ingest, ended).await;
        published.unwrap().source().to_string()
    }

    /// Does all that a broadcaster does about its jobs.
    fn attend(&self) {
        let (jobs, core, broadcasts) = (&self.jobs, &self.core, &self.broadcasts);
        let watch = jobs.clone().watch(core.clone(), Some(broadcasts.clone()));
        self.tasks.spawn(watch);
        let over = jobs.clone().watch_over(core.clone(), broadcasts.clone());
        self.tasks.spawn(over);
        self.tasks.spawn(jobs.clone().keep_jobs(broadcasts.clone()));
    }

    /// Waits until one of the jobs that go on is as it should be.
    async fn job_that(&self, what: &str, is: impl Fn(&Job) -> bool) -> Job {
        let found = timeout(LONG, async {
            loop {
                let live = self.ledger.live().await;
                if let Some(job) = live.into_iter().find(&is) {
                    return job;
                }
                sleep(A_WHILE).await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("{what}: never"))
    }

    async fn stop(mut self) {
        self.encoders.clear();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test]
async fn a_transcoder_is_replaced_while_the_creation_of_another_job_hangs() {
    let mut broadcaster = Broadcaster::start(Duration::from_millis(300)).await;
    let ledger = broadcaster.ledger.clone();
    ledger.enrol(OWN).await;
    ledger.enrol(OTHER).await;
    broadcaster.attend();
    let stream = broadcaster.publish("first").await;
    let first = broadcaster
        .job_that("a job", |job| {
            job.stream == stream && job.transcoder.is_some()
        })
        .await;
    // From now on, of the next broadcast at least.
    ledger.hangs.store(true, Ordering::Relaxed);
    broadcaster.publish("second").await;
    let hangs = timeout(LONG, async {
        while ledger.hanging.load(Ordering::Relaxed) == 0 {
            sleep(A_WHILE).await;
        }
    });
    hangs.await.unwrap();
    let before = ledger.job(first.id).await.unwrap().unwrap();

    broadcaster
        .job_that("another transcoder", |job| {
            job.id == before.id && job.round > before.round && job.transcoder != before.transcoder
        })
        .await;

    assert_eq!(ledger.live().await.len(), 1, "the other is still hanging");
    broadcaster.stop().await;
}

#[tokio::test]
async fn a_job_without_its_broadcast_is_ended_after_the_time_in_which_it_may_come_back() {
    let patience = Duration::from_millis(200);
    let mut broadcaster = Broadcaster::start(patience).await;
    let ledger = broadcaster.ledger.clone();
    ledger.enrol(OWN).await;
    let of = |node: NodeId| {
        let broadcast = BroadcastId::from_bytes([7; 16]);
        ManifestId { node, broadcast }.source().to_string()
    };
    let own = broadcaster.jobs.parts.node.node_id();
    let left = NewJob {
        broadcaster: NodeKey(*own.public_key()),
        ..job(&of(own))
    };
    let left = ledger.book.create_job(left).await.unwrap();
    // Somebody else's, about which this node can say nothing.
    let foreign = NewJob {
        broadcaster: NodeKey(*own.public_key()),
        ..job(&of(NodeId::from_public_key([5; 32])))
    };
    let foreign = ledger.book.create_job(foreign).await.unwrap();
    let stream = broadcaster.publish("live").await;
    let begun = clock::now();
    broadcaster.attend();
    let live = broadcaster
        .job_that("a job", |job| job.stream == stream)
        .await;

    let over = timeout(LONG, async {
        while ledger.live().await.iter().any(|job| job.id == left.id) {
            sleep(A_WHILE).await;
        }
    });
    over.await.unwrap();

    assert!(clock::now().since(begun) >= 2 * patience);
    sleep(4 * patience).await;
    let ids = ledger.live().await.into_iter().map(|job| job.id);
    assert_eq!(ids.collect::<Vec<_>>(), [foreign.id, live.id]);
    broadcaster.stop().await;
}
