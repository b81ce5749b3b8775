//! What a node has to do with its ledger, once that is open. Until then it carries streams
//! as if it had none.

use std::{sync::Arc, time::Duration};

use headwater_chain::{
    Address, LedgerError, LedgerJournal, NodeKey, Transcoder, Wei,
    ethereum::{ClaimConfig, Claims, Domain, Key},
};
use headwater_proto::{NodeId, SigningKey};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{
    driver::Core,
    jobs::{Jobs, JobsConfig, Parts},
    ledger::{Chain, Keeper, Later, Means, Opened, Opening},
    net::NetHandle,
    pipeline::{Broadcasts, Hook, Transcoding},
    receipts::{Books, Collector},
    store::Store,
};

/// A chain that failed is asked again after this long.
const AGAIN: Duration = Duration::from_secs(5);

/// The parts of a node that come of its ledger; empty until it is open.
#[derive(Debug, Clone, Default)]
pub(super) struct Office {
    pub(super) jobs: Later<Arc<Jobs>>,
    pub(super) collector: Later<Arc<Collector>>,
    pub(super) books: Books,
}

/// What is needed to begin.
pub(super) struct Duties {
    pub(super) ledger: Arc<Opening>,
    pub(super) means: Means,
    pub(super) jobs: JobsConfig,
    pub(super) claims: ClaimConfig,
    pub(super) account: Option<Key>,
    pub(super) node: SigningKey,
    pub(super) store: Arc<Store>,
    pub(super) net: NetHandle,
    pub(super) core: Core,
    pub(super) transcoding: Option<Arc<Transcoding>>,
    pub(super) broadcasts: Option<Arc<Broadcasts>>,
    pub(super) office: Office,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Office {
    /// Writes down what is fed and done from the start on, when the chain is known from an
    /// earlier run: a transcoder that goes on meanwhile is owed its receipts.
    pub(super) fn begin_books(
        &self,
        store: Arc<Store>,
        node: &SigningKey,
        account: &Key,
        domain: Domain,
    ) {
        let journal = Arc::new(LedgerJournal::new(store, &domain));
        self.books
            .begin(journal, node.clone(), account.clone(), domain);
    }

    /// Has the job of each broadcast created, and ended.
    pub(super) fn hook(&self, create: bool, tasks: TaskTracker) -> Hook {
        let jobs = self.jobs.clone();
        Arc::new(move |stream, began| {
            // Whoever opens the ledger looks for broadcasts that began before.
            let (Some(jobs), true) = (jobs.get().cloned(), create) else {
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
}

impl Duties {
    /// Begins as soon as the ledger can be opened.
    pub(super) async fn wait(self) {
        let opened = tokio::select! {
            () = self.stop.cancelled() => return,
            opened = self.ledger.wait(&self.means) => opened,
        };
        if let Some(opened) = opened {
            self.begin(&opened);
        }
    }

    /// Begins with a ledger that is open.
    pub(super) fn begin(self, opened: &Opened) {
        if let Some(chain) = &opened.chain {
            self.keep(opened, chain);
        }
        let transcoder = self.account.clone().zip(self.transcoding.clone());
        let parts = Parts {
            ledger: opened.ledger.clone(),
            account: account_of(opened),
            store: self.store.clone(),
            net: self.net.clone(),
            node: self.node.clone(),
            transcoder,
            books: self.office.books.clone(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        };
        let jobs = Jobs::new(parts, self.jobs);
        if let Some(collector) = jobs.collector(self.core.clone()) {
            self.tasks.spawn(collector.clone().run(self.stop.clone()));
            open(&self.office.collector, collector);
        }
        open(&self.office.jobs, jobs.clone());
        let core = self.core;
        if let Some(broadcasts) = self.broadcasts.clone() {
            let over = jobs.clone().watch_over(core.clone(), broadcasts.clone());
            self.tasks.spawn(over);
            self.tasks.spawn(jobs.clone().keep_jobs(broadcasts));
        }
        let (ledger, feeding) = (self.ledger, self.broadcasts);
        self.tasks.spawn(async move {
            if let Some(error) = jobs.watch(core, feeding).await {
                ledger.fail(&error);
            }
        });
    }

    /// Looks after what is under way on a chain.
    fn keep(&self, opened: &Opened, chain: &Chain) {
        let (Some(writer), Some(key)) = (&chain.writer, &self.account) else {
            return;
        };
        let account = writer.account();
        let domain = account.domain();
        if let Err(error) = self
            .store
            .put_chain(&domain.contract.to_string(), domain.chain_id)
        {
            error!(%error, "the contract's chain cannot be remembered");
        }
        let books = &self.office.books;
        books.begin(account.journal(), self.node.clone(), key.clone(), domain);
        let receipts = books.work().filter(|_| self.transcoding.is_some());
        let claims = receipts.map(|work| {
            let receipts = work.receipts().clone();
            Claims::new(account.clone(), receipts, self.claims)
        });
        let keeper = Keeper::new(chain.clone(), writer.clone(), claims);
        self.tasks.spawn(keeper.run(self.stop.clone()));
        if self.transcoding.is_some() {
            let (opened, own, node) = (opened.clone(), key.address(), self.node.node_id());
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = register_on_chain(&opened, own, node) => {}
                }
            });
        }
    }
}

/// Says what is there from now on. A ledger is opened once.
fn open<T>(later: &Later<T>, what: T) {
    let first = later.set(what);
    debug_assert!(first.is_ok(), "the ledger was opened before");
}

/// The node's account on a chain.
fn account_of(opened: &Opened) -> Option<Address> {
    let writer = opened.chain.as_ref()?.writer.as_ref()?;
    Some(writer.account().address())
}

/// Looks whether the account is registered, as soon as the chain answers.
async fn register_on_chain(opened: &Opened, own: Address, node: NodeId) {
    loop {
        match register(opened, own, node).await {
            Ok(()) => return,
            Err(error) if error.is_for_good() => {
                return error!(%error, "nobody knows whether the transcoder is registered");
            }
            Err(error) => debug!(%error, "asking again whether the transcoder is registered"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A transcoder that is not in the job book puts itself there, for nothing and with the
/// least stake; `headwater ledger register` changes the terms. On a chain that costs a
/// stake, and takes the jobs from another node of the account, so it is only said there.
pub(super) async fn register(
    opened: &Opened,
    own: Address,
    node: NodeId,
) -> Result<(), LedgerError> {
    let key = NodeKey(*node.public_key());
    let known = opened.ledger.transcoders().await?;
    let known = known.into_iter().find(|known| known.address == own);
    let terms = match known {
        Some(known) if known.node == key => return Ok(()),
        Some(known) if opened.chain.is_some() => {
            let registered = NodeId::from_public_key(known.node.0);
            warn!(
                address = %own, %registered, %node,
                "another node is registered, and gets the jobs; to move them to this one, see \
                 `headwater ledger register --node`"
            );
            return Ok(());
        }
        None if opened.chain.is_some() => {
            warn!(address = %own, %node, "not registered; see `headwater ledger register`");
            return Ok(());
        }
        Some(known) => Transcoder { node: key, ..known },
        None => Transcoder {
            address: own,
            node: key,
            price_per_segment: Wei(0),
            stake: Wei(1),
        },
    };
    opened.ledger.register(terms).await?;
    info!(address = %own, "registered in the ledger");
    Ok(())
}
