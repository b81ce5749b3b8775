//! Master playlists: who follows which, and from whom changes come.
//!
//! A GetMasterPlaylist is a lease: for a while, whoever answers it sends every newer
//! version on the same request. Each node on the way keeps one lease upstream for all
//! its followers, so a change reaches everyone without anybody asking again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use headwater_proto::{
    GetMasterPlaylist, ManifestId, MasterPlaylist, MasterPlaylistData, Message, NoRouteReason,
    NodeId, NotFound, RequestId, Signed,
    limits::{MASTER_LEASE_MS, MAX_HOPS},
};

use super::Node;
use crate::{
    output::{CommandError, Failure, Output, Priority},
    time::Time,
    timers::Timer,
};

/// A broadcast's master playlist, followed here or by neighbours.
#[derive(Debug, Default)]
pub(super) struct Master {
    pub(super) known: Option<Signed<MasterPlaylist>>,
    /// This machine follows it.
    local: bool,
    followers: BTreeMap<(NodeId, RequestId), Follower>,
    upstream: Option<Lease>,
    tried: BTreeSet<NodeId>,
    hops: u8,
}

#[derive(Debug)]
struct Follower {
    until: Time,
    /// Version it was sent last.
    version: Option<u64>,
}

#[derive(Debug)]
struct Lease {
    peer: NodeId,
    request: RequestId,
    answered: bool,
}

const LEASE: Duration = Duration::from_millis(MASTER_LEASE_MS);
/// A third of the lease, so that one lost renewal does not end it.
const RENEW: Duration = Duration::from_millis(MASTER_LEASE_MS / 3);

impl Node {
    pub(super) fn set_master(&mut self, body: Signed<MasterPlaylist>) -> Result<(), CommandError> {
        let manifest = body.value().manifest;
        let master = self.masters.entry(manifest).or_default();
        let known = master.known.as_ref().map(|known| known.value().version);
        if manifest.node != self.id || known.is_some_and(|v| v >= body.value().version) {
            return Err(CommandError::StaleMaster);
        }
        self.master_news(manifest, body);
        Ok(())
    }

    pub(super) fn follow_master(&mut self, manifest: ManifestId) -> Result<(), CommandError> {
        if !self.room_for_master(&manifest) {
            return Err(CommandError::TooMany("master playlists"));
        }
        let master = self.masters.entry(manifest).or_default();
        master.local = true;
        master.hops = MAX_HOPS;
        if let Some(body) = master.known.clone() {
            self.out.push_back(Output::Master { body });
        }
        self.ask_master(manifest);
        Ok(())
    }

    pub(super) fn unfollow_master(&mut self, manifest: ManifestId) -> Result<(), CommandError> {
        if let Some(master) = self.masters.get_mut(&manifest) {
            master.local = false;
        }
        Ok(())
    }

    pub(super) fn on_get_master(&mut self, from: NodeId, get: &GetMasterPlaylist) {
        let (manifest, request) = (get.manifest, get.request);
        let own = manifest.node == self.id;
        let known = self
            .masters
            .get(&manifest)
            .is_some_and(|m| m.known.is_some());
        if own && !known {
            return self.send(from, Message::NotFound(NotFound { request }));
        }
        if !own && !self.config.roles.relayer {
            return self.refuse(from, request, NoRouteReason::NoCloserPeer);
        }
        if !own && get.hops_left == 0 {
            return self.refuse(from, request, NoRouteReason::HopLimit);
        }
        let leases = self.masters.values().flat_map(|m| m.followers.keys());
        let leases = leases.filter(|(peer, _)| *peer == from).count();
        if leases >= self.config.max_requests_per_peer || !self.room_for_master(&manifest) {
            return self.refuse(from, request, NoRouteReason::Overloaded);
        }
        let until = self.now + LEASE;
        let master = self.masters.entry(manifest).or_default();
        master.hops = master.hops.max(get.hops_left.saturating_sub(1));
        let follower = Follower {
            until,
            version: None,
        };
        master.followers.insert((from, request), follower);
        if own {
            self.timers
                .set_if_unset(Timer::Master(manifest), self.now + LEASE);
        }
        if own || master.upstream.as_ref().is_some_and(|lease| lease.answered) {
            self.tell_followers(manifest);
        } else {
            self.ask_master(manifest);
        }
    }

    pub(super) fn on_master_data(&mut self, from: NodeId, data: MasterPlaylistData) {
        if let Some(origin) = self.take_request(from, data.request) {
            return self.result_answered(origin, data);
        }
        let manifest = data.body.value().manifest;
        let Some(master) = self.masters.get_mut(&manifest) else {
            return;
        };
        let lease = master.upstream.as_mut();
        let Some(lease) = lease.filter(|l| l.peer == from && l.request == data.request) else {
            return;
        };
        lease.answered = true;
        master.tried.clear();
        self.timers.set(Timer::Master(manifest), self.now + RENEW);
        let version = data.body.value().version;
        match master.known.as_ref().map(|known| known.value().version) {
            Some(known) if known > version => self.stats.stale_masters += 1,
            Some(known) if known == version => self.tell_followers(manifest),
            Some(_) | None => self.master_news(manifest, data.body),
        }
    }

    /// Takes a newer version and tells everybody who follows it.
    fn master_news(&mut self, manifest: ManifestId, body: Signed<MasterPlaylist>) {
        if let Some(master) = self.masters.get_mut(&manifest) {
            if master.local {
                self.out.push_back(Output::Master { body: body.clone() });
            }
            master.known = Some(body);
        }
        self.tell_followers(manifest);
    }

    fn tell_followers(&mut self, manifest: ManifestId) {
        let Some(master) = self.masters.get_mut(&manifest) else {
            return;
        };
        let Some(body) = &master.known else {
            return;
        };
        let version = body.value().version;
        for ((peer, request), follower) in &mut master.followers {
            if follower.version == Some(version) {
                continue;
            }
            follower.version = Some(version);
            let data = MasterPlaylistData {
                request: *request,
                body: body.clone(),
            };
            self.out.push_back(Output::Send {
                to: *peer,
                message: Message::MasterPlaylistData(data),
                priority: Priority::Playlist,
            });
        }
    }

    /// Asks the best neighbour not yet tried, unless one is being asked.
    fn ask_master(&mut self, manifest: ManifestId) {
        let hops = self.next_hops(manifest.node, None);
        let request = self.fresh_request();
        let Some(master) = self.masters.get_mut(&manifest) else {
            return;
        };
        if manifest.node == self.id || master.upstream.is_some() {
            return;
        }
        let Some(hop) = hops.iter().find(|hop| !master.tried.contains(hop)) else {
            let failure = if hops.is_empty() && self.links.is_empty() {
                Failure::NoPeers
            } else {
                Failure::NoRoute(NoRouteReason::NoCloserPeer)
            };
            return self.master_failed(manifest, failure);
        };
        master.tried.insert(*hop);
        master.upstream = Some(Lease {
            peer: *hop,
            request,
            answered: false,
        });
        let get = GetMasterPlaylist {
            request,
            manifest,
            hops_left: master.hops,
        };
        let per_hop = self.config.request_per_hop * (u32::from(master.hops) + 1);
        self.send(*hop, Message::GetMasterPlaylist(get));
        self.timers.set(Timer::Master(manifest), self.now + per_hop);
    }

    /// Nobody could answer: tells those who wait, and tries again later for this machine.
    fn master_failed(&mut self, manifest: ManifestId, failure: Failure) {
        let at = self.jittered(self.config.retry_min * 2);
        let Some(master) = self.masters.get_mut(&manifest) else {
            return;
        };
        master.tried.clear();
        let waiting = std::mem::take(&mut master.followers);
        if master.local {
            self.out
                .push_back(Output::MasterMissing { manifest, failure });
        }
        self.timers.set(Timer::Master(manifest), at);
        for (peer, request) in waiting.into_keys() {
            if failure == Failure::NotFound {
                self.send(peer, Message::NotFound(NotFound { request }));
            } else {
                self.refuse(peer, request, NoRouteReason::NoCloserPeer);
            }
        }
    }

    pub(super) fn master_not_found(&mut self, from: NodeId, request: RequestId) -> bool {
        let Some(manifest) = self.take_lease(from, request) else {
            return false;
        };
        self.master_failed(manifest, Failure::NotFound);
        true
    }

    pub(super) fn master_no_route(&mut self, from: NodeId, request: RequestId) -> bool {
        let Some(manifest) = self.take_lease(from, request) else {
            return false;
        };
        self.ask_master(manifest);
        true
    }

    fn take_lease(&mut self, from: NodeId, request: RequestId) -> Option<ManifestId> {
        let (manifest, master) = self.masters.iter_mut().find(|(_, master)| {
            let lease = master.upstream.as_ref();
            lease.is_some_and(|l| l.peer == from && l.request == request)
        })?;
        master.upstream = None;
        Some(*manifest)
    }

    /// The lease is due for renewal, was not answered, or failed a while ago.
    pub(super) fn master_timeout(&mut self, manifest: ManifestId) {
        let now = self.now;
        let Some(master) = self.masters.get_mut(&manifest) else {
            return;
        };
        master.followers.retain(|_, follower| follower.until > now);
        if manifest.node == self.id {
            if !master.followers.is_empty() {
                self.timers.set(Timer::Master(manifest), now + LEASE);
            }
            return;
        }
        if !master.local && master.followers.is_empty() {
            self.masters.remove(&manifest);
            return;
        }
        // A renewal is a new request to the best neighbour; a lease that was never
        // answered leaves its neighbour marked as tried.
        if master.upstream.take().is_some_and(|lease| lease.answered) {
            master.tried.clear();
        }
        self.ask_master(manifest);
    }

    pub(super) fn masters_gained_link(&mut self) {
        let waiting = self
            .masters
            .iter()
            .filter(|(_, m)| m.upstream.is_none() && m.local);
        let waiting: Vec<_> = waiting.map(|(manifest, _)| *manifest).collect();
        for manifest in waiting {
            self.ask_master(manifest);
        }
    }

    pub(super) fn masters_lost_link(&mut self, peer: NodeId) {
        let mut lost = Vec::new();
        for (manifest, master) in &mut self.masters {
            master
                .followers
                .retain(|(follower, _), _| *follower != peer);
            if master
                .upstream
                .as_ref()
                .is_some_and(|lease| lease.peer == peer)
            {
                master.upstream = None;
                lost.push(*manifest);
            }
        }
        for manifest in lost {
            self.ask_master(manifest);
        }
    }

    /// Makes room by forgetting one that nobody follows.
    fn room_for_master(&mut self, manifest: &ManifestId) -> bool {
        if self.masters.contains_key(manifest) || self.masters.len() < self.config.max_masters {
            return true;
        }
        let own = self.id;
        let idle = self
            .masters
            .iter()
            .find(|(m, master)| m.node != own && !master.local && master.followers.is_empty());
        match idle.map(|(m, _)| *m) {
            Some(idle) => self.masters.remove(&idle).is_some(),
            None => false,
        }
    }
}
