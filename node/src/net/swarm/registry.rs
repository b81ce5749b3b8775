//! The registry of transcoders: provider records of the overlay under one key. A hint for
//! operators and broadcasters, not a proof: anybody can announce himself, and only the
//! ledger says who may do a job.

use std::{collections::BTreeSet, time::Duration};

use headwater_proto::NodeId;
use libp2p::{
    PeerId,
    kad::{
        self,
        store::{MemoryStore, MemoryStoreConfig, RecordStore as _},
    },
    multiaddr::Protocol,
};
use tokio::{sync::oneshot, time::Instant};
use tracing::debug;

use super::Task;
use crate::net::policy::node_of;

const TRANSCODERS: &[u8] = b"/headwater/transcoders/1";
/// How often a transcoder announces itself.
const ANNOUNCE: Duration = Duration::from_secs(120);
/// How soon again after an announcement that reached nobody.
const ANNOUNCE_SOON: Duration = Duration::from_secs(5);
/// An announcement that is not repeated is forgotten after this long.
pub(in crate::net) const KEPT: Duration = Duration::from_secs(360);
/// Transcoders that one relayer keeps, and that a search returns, at most.
const MOST: usize = 64;

/// Where a relayer keeps announcements: of transcoders, and nothing else.
pub(in crate::net) fn store(local: PeerId) -> MemoryStore {
    let config = MemoryStoreConfig {
        max_records: 0,
        max_provided_keys: 1,
        max_providers_per_key: MOST,
        ..MemoryStoreConfig::default()
    };
    MemoryStore::with_config(local, config)
}

/// A search under way.
#[derive(Debug)]
pub(super) struct Search {
    found: BTreeSet<NodeId>,
    done: oneshot::Sender<Vec<NodeId>>,
}

impl Task {
    /// A transcoder tells the overlay of itself, when it is time.
    pub(super) fn announce(&mut self, now: Instant) {
        let due = self.announced.is_none_or(|next| next <= now);
        if !self.config.roles.transcoder || self.links.is_empty() || !due {
            return;
        }
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        let announced = kad.start_providing(kad::RecordKey::new(&TRANSCODERS));
        if let Err(error) = announced {
            debug!(%error, "not announced as a transcoder");
        }
        self.announced = Some(now + ANNOUNCE);
    }

    /// An announcement has ended; one that nobody took is repeated soon.
    pub(super) fn announcement_ended(&mut self, taken: bool, now: Instant) {
        if !taken {
            self.announced = Some(now + ANNOUNCE_SOON);
        }
    }

    /// Another node announces something: only transcoders are kept, and of them only who
    /// they are. Where they can be dialled they tell the broadcasters of their jobs.
    pub(super) fn announced_to(&mut self, mut record: kad::ProviderRecord) {
        if self.config.roles.relayer && record.key.as_ref() == TRANSCODERS {
            // A record without any address would not be told.
            record.addresses = vec![Protocol::P2p(record.provider).into()];
            let store = self.swarm.behaviour_mut().overlay.kad.store_mut();
            if let Err(error) = store.add_provider(record) {
                debug!(%error, "an announcement is not kept");
            }
        }
    }

    /// Looks for transcoders.
    pub(super) fn find_transcoders(&mut self, done: oneshot::Sender<Vec<NodeId>>) {
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        let query = kad.get_providers(kad::RecordKey::new(&TRANSCODERS));
        let found = BTreeSet::new();
        self.searches.insert(query, Search { found, done });
    }

    /// A search has found somebody, or ended.
    pub(super) fn found_transcoders(
        &mut self,
        query: kad::QueryId,
        found: Result<kad::GetProvidersOk, kad::GetProvidersError>,
        last: bool,
    ) {
        let Some(search) = self.searches.get_mut(&query) else {
            return;
        };
        if let Ok(kad::GetProvidersOk::FoundProviders { providers, .. }) = found {
            let room = MOST.saturating_sub(search.found.len());
            let nodes = providers.iter().filter_map(node_of);
            search.found.extend(nodes.take(room));
        }
        if last && let Some(search) = self.searches.remove(&query) {
            // Whoever asked may have gone.
            drop(search.done.send(search.found.into_iter().collect()));
        }
    }
}
