//! Between ledger and protocol: which jobs are ours, whose claims hold, who is replaced.

mod acknowledgement;
mod creation;
mod early;
mod following;
mod holding;
mod overseer;
mod oversight;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use headwater_chain::{
    Address, Job, JobState, Ledger, NodeKey, Wei,
    ethereum::{Claim, Key},
};
use headwater_proto::{
    AddressText, JobId, NodeId, SigningKey, StreamId, TranscodeClaim, limits::MAX_ADDRESSES,
};
use headwater_protocol::{Answer, Command};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

pub use self::holding::{Holding, JobStore, Told, Worker};
use self::{acknowledgement::Acknowledgements, oversight::Oversight, worker::Transcodes};
use crate::{
    clock,
    driver::Core,
    mutex::lock,
    net::{NetHandle, policy},
    pipeline::{Broadcasts, Transcoding},
    receipts::{Books, Collector, CollectorConfig},
    store::Store,
};

/// How long a claim is valid: half of what is allowed, so that the clocks of two nodes may
/// differ by so much either way.
const CLAIM_MS: u64 = 5 * 60_000;
/// A ledger that failed is asked again after this long.
const AGAIN: Duration = Duration::from_secs(2);

/// What a node has to do with a ledger.
#[derive(Debug)]
pub struct Jobs {
    parts: Parts,
    config: JobsConfig,
    /// Claims that held: which transcoder serves which stream.
    granted: Mutex<BTreeMap<(NodeId, JobId), StreamId>>,
    oversight: Mutex<Oversight>,
    holding: Holding<Store, Transcodes>,
    /// Streams whose jobs are being created or ended.
    changing: Arc<Mutex<BTreeSet<String>>>,
}

/// What a node does its jobs with.
pub struct Parts {
    /// Which says whose they are.
    pub ledger: Arc<dyn Ledger>,
    /// The node's account, when the ledger is on a chain.
    pub account: Option<Address>,
    /// Where jobs that were taken up are remembered.
    pub store: Arc<Store>,
    /// Knows where the node can be reached.
    pub net: NetHandle,
    /// The node's key.
    pub node: SigningKey,
    /// Of a transcoder: what signs for its jobs, and what does them.
    pub transcoder: Option<(Key, Arc<Transcoding>)>,
    /// What was fed and done.
    pub books: Books,
    /// The node's tasks.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// How a node deals with jobs.
#[derive(Debug, Clone)]
pub struct JobsConfig {
    /// Create jobs for broadcasts.
    pub create: bool,
    /// Dial private addresses that claims name.
    pub allow_private: bool,
    /// Names of the renditions to ask for, when this node creates jobs.
    pub profiles: Vec<String>,
    /// What a segment may cost at most, when this node creates jobs.
    pub max_price: Wei,
    /// A transcoder of this node's jobs that is silent for so long is asked whether it is
    /// there, and replaced when it does not answer.
    pub reassign_after: Duration,
    /// How long a broadcast waits for its encoder.
    pub reconnect: Duration,
    /// A broadcast that is without a job for so long gets one: the first try failed, or the
    /// chain took it back. A job is ended that is without its broadcast for so long after
    /// its encoder might have come back.
    pub patience: Duration,
    /// How receipts are collected, where there are any.
    pub collector: CollectorConfig,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

impl Jobs {
    /// Binds a node to a ledger.
    #[must_use]
    pub fn new(parts: Parts, config: JobsConfig) -> Arc<Self> {
        let transcoder = parts.transcoder.as_ref().map(|(key, transcoding)| {
            let (tasks, stop) = (parts.tasks.clone(), parts.stop.clone());
            let worker = Transcodes {
                own: key.address(),
                transcoding: transcoding.clone(),
                books: parts.books.clone(),
                acknowledgements: Acknowledgements::new(parts.ledger.clone(), tasks, stop),
            };
            (key.address(), worker)
        });
        let node = parts.node.node_id();
        let (ledger, store) = (parts.ledger.clone(), parts.store.clone());
        Arc::new(Self {
            holding: Holding::new(ledger, store, node, transcoder),
            parts,
            oversight: Mutex::new(Oversight::new(config.reassign_after)),
            config,
            granted: Mutex::default(),
            changing: Arc::default(),
        })
    }

    /// The ledger.
    #[must_use]
    pub fn ledger(&self) -> &dyn Ledger {
        &*self.parts.ledger
    }

    /// What collects this transcoder's receipts, where the ledger pays.
    #[must_use]
    pub fn collector(&self, core: Core) -> Option<Arc<Collector>> {
        let (key, transcoding) = self.parts.transcoder.as_ref()?;
        Some(Collector::new(
            self.config.collector,
            self.parts.books.work()?.clone(),
            core,
            self.parts.ledger.clone(),
            self.parts.node.clone(),
            key.address(),
            transcoding.clone(),
        ))
    }

    /// Checks a claim that reached this broadcaster.
    pub async fn check_claim(&self, claim: &TranscodeClaim, signature: &[u8; 65]) -> Answer {
        let claim = match claim.clone().open(&self.parts.node) {
            Ok(claim) => claim,
            Err(reason) => {
                warn!(job = %claim.job, %reason, "claim refused");
                return Answer::ClaimRefused;
            }
        };
        let checked = Claim {
            stream: claim.stream.to_string(),
            job: headwater_chain::JobId(claim.job.0),
            node: NodeKey(*claim.transcoder.public_key()),
            addresses: claim.addresses.iter().map(ToString::to_string).collect(),
            sequence: claim.sequence,
            expires_ms: claim.expires_ms,
        };
        match early::verify(&*self.parts.ledger, &checked, signature).await {
            // On a chain anybody can create a job for any stream.
            Ok(assignment) if !self.is_own(&assignment.job) => {
                warn!(job = %claim.job, by = %assignment.job.broadcaster, "claim to a job of another account refused");
                Answer::ClaimRefused
            }
            Ok(assignment) => {
                info!(job = %claim.job, transcoder = %assignment.transcoder, "claim holds");
                self.owe(&claim, assignment.transcoder);
                self.granted()
                    .insert((claim.transcoder, claim.job), claim.stream.clone());
                self.worked(claim.transcoder, claim.job);
                let addresses = policy::filter(
                    &claim.addresses,
                    claim.transcoder,
                    self.config.allow_private,
                );
                Answer::ClaimGranted { addresses }
            }
            Err(reason) => {
                warn!(job = %claim.job, %reason, "claim refused");
                Answer::ClaimRefused
            }
        }
    }

    /// Notes from where on a transcoder is owed receipts.
    fn owe(&self, claim: &TranscodeClaim, transcoder: Address) {
        let Some(fed) = self.parts.books.fed() else {
            return;
        };
        let granted = fed.granted(claim.job, claim.transcoder, transcoder, &claim.stream);
        if let Err(error) = granted {
            error!(job = %claim.job, %error, "the transcoder will get no receipts");
        }
    }

    /// Whether a transcoder's claim to serve a stream has held.
    #[must_use]
    pub fn serves(&self, transcoder: NodeId, job: JobId, stream: &StreamId) -> bool {
        self.granted().get(&(transcoder, job)) == Some(stream)
    }

    fn granted(&self) -> std::sync::MutexGuard<'_, BTreeMap<(NodeId, JobId), StreamId>> {
        lock(&self.granted)
    }

    /// Signs a claim to a job this transcoder holds.
    #[must_use]
    pub fn claim(&self, job: JobId) -> Option<(TranscodeClaim, [u8; 65])> {
        let (key, transcoding) = self.parts.transcoder.as_ref()?;
        let stream = transcoding.stream_of(job)?;
        let sequence = match self.parts.store.next_sequence() {
            Ok(sequence) => sequence,
            Err(error) => {
                error!(%error, "no claim without a new number");
                return None;
            }
        };
        let addresses: Vec<AddressText> = self
            .parts
            .net
            .advertised()
            .into_iter()
            .take(MAX_ADDRESSES)
            .collect();
        let claim = TranscodeClaim {
            stream: stream.clone(),
            job,
            transcoder: self.parts.node.node_id(),
            addresses,
            sealed: None,
            sequence,
            expires_ms: clock::unix_ms() + CLAIM_MS,
        };
        let signed = Claim {
            stream: stream.to_string(),
            job: headwater_chain::JobId(job.0),
            node: NodeKey(*claim.transcoder.public_key()),
            addresses: claim.addresses.iter().map(ToString::to_string).collect(),
            sequence,
            expires_ms: claim.expires_ms,
        };
        let signature = key.sign(&self.parts.ledger.domain(), &signed);
        let mut ephemeral = Zeroizing::new([0; 32]);
        if let Err(error) = getrandom::fill(&mut *ephemeral) {
            error!(%error, "no claim without a random key for its addresses");
            return None;
        }
        // The relays on the way need not know where this node is.
        match claim.seal(*ephemeral) {
            Ok(claim) => Some((claim, signature)),
            Err(error) => {
                error!(%job, %error, "the broadcaster's id is no key");
                None
            }
        }
    }

    /// Jobs for which this node owes receipts for what it feeds now.
    fn owed(&self) -> BTreeSet<JobId> {
        let jobs = self.parts.books.fed().map(|fed| fed.jobs());
        jobs.unwrap_or(Ok(BTreeSet::new())).unwrap_or_else(|error| {
            error!(%error, "nobody knows what is owed");
            BTreeSet::new()
        })
    }

    /// Ends what this node feeds to those who hold the job no more.
    async fn revoke(
        &self,
        id: JobId,
        holder: Option<NodeKey>,
        core: &Core,
        broadcasts: &Broadcasts,
    ) {
        if let Some(fed) = self.parts.books.fed() {
            let node = holder.map(|holder| NodeId::from_public_key(holder.0));
            if let Err(error) = fed.held_by(id, node) {
                error!(job = %id, %error, "more may be paid than is fed");
            }
        }
        let mut over = Vec::new();
        self.granted().retain(|(transcoder, granted), _| {
            let keep = *granted != id || holder == Some(NodeKey(*transcoder.public_key()));
            if !keep {
                over.push(*transcoder);
            }
            keep
        });
        for transcoder in over {
            info!(job = %id, transcoder = transcoder.fmt_short(), "the job is not its any more");
            let revoke = Command::RevokeClaim {
                transcoder,
                job: id,
            };
            if let Err(error) = core.command(revoke).await {
                error!(job = %id, %error, "the transcoder is still fed");
            }
            broadcasts.withdraw(transcoder, id).await;
        }
    }
}

/// The node of the transcoder that holds a job.
fn holder_of(job: &Job) -> Option<NodeKey> {
    let holder = job.transcoder.as_ref();
    let holder = holder.filter(|_| job.state != JobState::Ended);
    holder.map(|transcoder| transcoder.node)
}

#[cfg(test)]
mod tests;
