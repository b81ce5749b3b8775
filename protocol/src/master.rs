//! Master playlists: made here, followed here, and kept for neighbours that follow.
//!
//! Following is a lease ([`MASTER_LEASE_MS`]): a newer version is pushed on the same
//! request while it lasts, and it is renewed after a third of it. A relay asks upstream
//! once for all its followers, and answers from what it keeps only while its own lease
//! lasts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use headwater_proto::{
    BroadcastId, GetMasterPlaylist, ManifestId, MasterPlaylist, MasterPlaylistData, Message,
    NoRouteReason, NodeId, RequestId, Signed,
    limits::{MASTER_LEASE_MS, MAX_HOPS},
};

use crate::{
    cx::{Cx, Retry},
    lookups::Found,
    output::{CommandError, Failure, Output, Priority, SUB_BYTES},
    routing::Asker,
    time::Time,
    timers::Timer,
};

const LEASE: Duration = Duration::from_millis(MASTER_LEASE_MS);
const RENEWAL: Duration = Duration::from_millis(MASTER_LEASE_MS / 3);

/// A neighbour that follows.
#[derive(Debug)]
struct Follower {
    until: Time,
    /// It was sent a version.
    answered: bool,
}

/// The lease at the neighbour that was asked.
#[derive(Debug)]
struct Lease {
    peer: NodeId,
    request: RequestId,
    /// When it was asked last, without an answer so far.
    asked: Option<Time>,
    /// When the answer came last.
    answered: Option<Time>,
}

impl Lease {
    fn is_live(&self, now: Time) -> bool {
        self.answered.is_some_and(|at| at + LEASE > now)
    }

    /// When it has to be renewed, or is given up.
    fn due(&self, patience: Duration) -> Option<Time> {
        match (self.asked, self.answered) {
            (Some(asked), _) => Some(asked + patience),
            (None, answered) => answered.map(|at| at + RENEWAL),
        }
    }
}

#[derive(Debug)]
struct Master {
    body: Option<Signed<MasterPlaylist>>,
    followers: BTreeMap<(NodeId, RequestId), Follower>,
    /// This machine follows.
    local: bool,
    lease: Option<Lease>,
    tried: BTreeSet<NodeId>,
    failure: Option<Failure>,
    /// What this machine was last told is wrong.
    reported: Option<Failure>,
    retry: Retry,
    retry_at: Option<Time>,
    hops: u8,
    /// Somebody closer was looked for in this search; until when it is waited for.
    looked: Option<Time>,
    /// Last time anybody asked.
    used: Time,
}

impl Master {
    fn wanted(&self) -> bool {
        self.local || !self.followers.is_empty()
    }

    /// Charges those for whom it is asked; false when none of them has sent as much as it
    /// costs. What this machine wants is free.
    fn charge(&self, cx: &mut Cx, to: NodeId) -> bool {
        let mut followers = self.followers.keys().map(|(peer, _)| *peer);
        self.local || followers.any(|peer| cx.spend_bytes(peer, SUB_BYTES)) && cx.may_pass_on(to)
    }

    fn may_look_up(&self, cx: &mut Cx) -> bool {
        let mut followers = self.followers.keys().map(|(peer, _)| *peer);
        self.local || followers.any(|peer| cx.spend_lookup(peer))
    }

    fn version(&self) -> Option<u64> {
        self.body.as_ref().map(|body| body.value().version)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Masters {
    table: BTreeMap<ManifestId, Master>,
    /// Our requests to neighbours.
    asked: BTreeMap<RequestId, ManifestId>,
}

impl Masters {
    /// The newest known version.
    pub(crate) fn body(&self, manifest: &ManifestId) -> Option<&Signed<MasterPlaylist>> {
        self.table.get(manifest)?.body.as_ref()
    }

    // ---- commands ------------------------------------------------------------------

    pub(crate) fn set(
        &mut self,
        cx: &mut Cx,
        body: Signed<MasterPlaylist>,
    ) -> Result<(), CommandError> {
        let (manifest, version) = (body.value().manifest, body.value().version);
        if manifest.node != cx.me {
            return Err(CommandError::StaleMaster);
        }
        let master = self
            .entry(cx, manifest)
            .ok_or(CommandError::TooMany("master playlists"))?;
        if master.version().is_some_and(|known| version <= known) {
            return Err(CommandError::StaleMaster);
        }
        master.body = Some(body);
        self.push(cx, manifest);
        Ok(())
    }

    pub(crate) fn follow(&mut self, cx: &mut Cx, manifest: ManifestId) -> Result<(), CommandError> {
        let now = cx.now;
        let master = self
            .entry(cx, manifest)
            .ok_or(CommandError::TooMany("master playlists"))?;
        master.local = true;
        master.used = now;
        master.reported = None;
        if let Some(body) = &master.body {
            let body = body.clone();
            cx.emit(Output::Master { body });
        }
        self.seek(cx, manifest);
        Ok(())
    }

    pub(crate) fn unfollow(&mut self, cx: &mut Cx, manifest: ManifestId) {
        if let Some(master) = self.table.get_mut(&manifest) {
            master.local = false;
            master.retry_at = None;
        }
        self.settle(cx, manifest);
    }

    // ---- messages ------------------------------------------------------------------

    pub(crate) fn on_get(&mut self, cx: &mut Cx, from: NodeId, get: &GetMasterPlaylist) {
        let (manifest, request) = (get.manifest, get.request);
        let owned = manifest.node == cx.me;
        if owned && self.body(&manifest).is_none() {
            return cx.not_found(from, request);
        }
        if !owned && !self.table.contains_key(&manifest) {
            if !cx.config.roles.relayer {
                return cx.no_route(from, request, NoRouteReason::NoCloserPeer);
            }
            if get.hops_left == 0 {
                return cx.no_route(from, request, NoRouteReason::HopLimit);
            }
        }
        let (now, limit) = (cx.now, cx.config.max_followers);
        let Some(master) = self.entry(cx, manifest) else {
            return cx.no_route(from, request, NoRouteReason::Overloaded);
        };
        let name = (from, request);
        if master.followers.len() >= limit && !master.followers.contains_key(&name) {
            return cx.no_route(from, request, NoRouteReason::Overloaded);
        }
        master.used = now;
        master.hops = master.hops.max(get.hops_left.saturating_sub(1));
        let follower = Follower {
            until: now + LEASE,
            answered: false,
        };
        master.followers.insert(name, follower);
        let current = owned
            || master
                .lease
                .as_ref()
                .is_some_and(|lease| lease.is_live(now));
        if current {
            self.push_to(cx, manifest, |_, follower| !follower.answered);
        }
        self.seek(cx, manifest);
    }

    /// Whether a neighbour follows a master playlist here, or one is followed at it.
    pub(crate) fn concern(&self, peer: &NodeId) -> bool {
        self.table.values().any(|master| {
            let mut followers = master.followers.keys();
            let lease = master.lease.as_ref();
            lease.is_some_and(|lease| lease.peer == *peer)
                || followers.any(|(follower, _)| follower == peer)
        })
    }

    /// Whether a request of ours waits here for an answer.
    pub(crate) fn contains(&self, request: RequestId) -> bool {
        self.asked.contains_key(&request)
    }

    pub(crate) fn on_data(&mut self, cx: &mut Cx, from: NodeId, data: MasterPlaylistData) {
        let Some((manifest, master)) = self.asked_of(from, data.request) else {
            return cx.unsolicited(from, data.request);
        };
        if data.body.value().manifest != manifest {
            return cx.violation(from, "answer to another question");
        }
        if let Some(lease) = &mut master.lease {
            lease.asked = None;
            lease.answered = Some(cx.now);
        }
        master.tried.clear();
        master.failure = None;
        master.looked = None;
        master.retry.reset();
        for (follower, _) in master.followers.keys() {
            cx.prove(*follower);
        }
        let version = data.body.value().version;
        match master.version() {
            Some(known) if version < known => cx.stats.stale_masters += 1,
            Some(known) if version == known => {}
            Some(_) | None => {
                master.body = Some(data.body);
                self.push(cx, manifest);
            }
        }
        self.push_to(cx, manifest, |_, follower| !follower.answered);
        self.settle(cx, manifest);
    }

    /// NotFound, NoRoute or Redirect.
    pub(crate) fn on_refused(
        &mut self,
        cx: &mut Cx,
        from: NodeId,
        request: RequestId,
        failure: Failure,
    ) {
        let Some((manifest, _)) = self.asked_of(from, request) else {
            return cx.unsolicited(from, request);
        };
        self.lose(cx, manifest, failure);
    }

    // ---- links and time ------------------------------------------------------------

    pub(crate) fn on_connected(&mut self, cx: &mut Cx, peer: NodeId) {
        let relayer = cx.links.get(&peer).is_some_and(|link| link.roles.relayer);
        let waits = |(manifest, master): &(&ManifestId, &Master)| {
            let waits = master.retry_at.is_some() || master.looked.is_some();
            waits && (relayer || manifest.node == peer)
        };
        let waiting: Vec<_> = self.table.iter().filter(waits).map(|(id, _)| *id).collect();
        for manifest in waiting {
            self.seek(cx, manifest);
        }
    }

    pub(crate) fn on_disconnected(&mut self, cx: &mut Cx, peer: NodeId) {
        let mut lost = Vec::new();
        for (manifest, master) in &mut self.table {
            master
                .followers
                .retain(|(follower, _), _| *follower != peer);
            if master
                .lease
                .as_ref()
                .is_some_and(|lease| lease.peer == peer)
            {
                lost.push(*manifest);
            }
        }
        for manifest in lost {
            self.lose(cx, manifest, Failure::ParentLost);
        }
    }

    /// The driver has looked for somebody closer.
    pub(crate) fn on_lookup(&mut self, cx: &mut Cx, target: NodeId) {
        let broadcasts = ManifestId {
            node: target,
            broadcast: BroadcastId::from_bytes([0; 16]),
        };
        let all = self.table.range_mut(broadcasts..);
        let waiting: Vec<_> = all
            .take_while(|(manifest, _)| manifest.node == target)
            .filter_map(|(manifest, master)| {
                let looked = master.looked.as_mut()?;
                *looked = cx.now;
                Some(*manifest)
            })
            .collect();
        for manifest in waiting {
            self.seek(cx, manifest);
        }
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Cx, manifest: ManifestId) {
        let Some(master) = self.table.get_mut(&manifest) else {
            return;
        };
        let now = cx.now;
        master.followers.retain(|_, follower| follower.until > now);
        let patience = cx.config.request_patience;
        let due = master.lease.as_ref().and_then(|lease| lease.due(patience));
        if due.is_some_and(|due| due <= now) && master.wanted() {
            match &mut master.lease {
                Some(lease) if lease.asked.is_none() => {
                    lease.asked = Some(now);
                    let (peer, request) = (lease.peer, lease.request);
                    send_get(cx, peer, request, manifest, master.hops);
                }
                Some(_) | None => {
                    let late = Failure::NoRoute(NoRouteReason::Timeout);
                    return self.lose(cx, manifest, late);
                }
            }
        }
        let waited = master.lease.is_none() && master.looked.is_some_and(|until| until <= now);
        if waited || master.retry_at.is_some_and(|at| at <= now) {
            return self.seek(cx, manifest);
        }
        self.settle(cx, manifest);
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    // ---- inside --------------------------------------------------------------------

    /// The entry of a broadcast; `None` when all that are kept are in use.
    fn entry(&mut self, cx: &mut Cx, manifest: ManifestId) -> Option<&mut Master> {
        if !self.table.contains_key(&manifest) && self.table.len() >= cx.config.max_masters {
            let me = cx.me;
            let unused = self.table.iter().filter(|(id, master)| {
                let ended = master.body.as_ref().is_some_and(|body| body.value().ended);
                !master.wanted() && (id.node != me || ended)
            });
            let oldest = unused.min_by_key(|(_, master)| master.used)?;
            let oldest = *oldest.0;
            self.drop_lease(cx, oldest);
            self.table.remove(&oldest);
            cx.timers.set(Timer::Master(oldest), None);
        }
        Some(self.table.entry(manifest).or_insert_with(|| Master {
            body: None,
            followers: BTreeMap::new(),
            local: false,
            lease: None,
            tried: BTreeSet::new(),
            failure: None,
            reported: None,
            retry: Retry::new(cx.config.retry),
            retry_at: None,
            hops: 0,
            looked: None,
            used: cx.now,
        }))
    }

    fn asked_of(&mut self, from: NodeId, request: RequestId) -> Option<(ManifestId, &mut Master)> {
        let manifest = *self.asked.get(&request)?;
        let master = self.table.get_mut(&manifest)?;
        let lease = master.lease.as_ref()?;
        (lease.peer == from && lease.request == request).then_some((manifest, master))
    }

    /// Asks a neighbour when a lease is wanted and there is none.
    fn seek(&mut self, cx: &mut Cx, manifest: ManifestId) {
        if let Some(master) = self.table.get_mut(&manifest)
            && manifest.node != cx.me
            && master.lease.is_none()
            && master.wanted()
        {
            master.retry_at = None;
            let asker = if master.local {
                master.hops = MAX_HOPS;
                Asker::Own
            } else {
                Asker::Neighbour
            };
            let next = cx.candidates(&manifest.node, asker, |peer| {
                master.tried.contains(peer) || master.followers.keys().any(|(f, _)| f == peer)
            });
            let Some(peer) = next.first().copied() else {
                let until = match master.looked {
                    Some(until) => until,
                    None if master.may_look_up(cx) && cx.look_up(manifest.node) == Found::Later => {
                        cx.now + cx.config.lookup_patience
                    }
                    None => cx.now,
                };
                master.looked = Some(until);
                if until > cx.now {
                    return self.settle(cx, manifest);
                }
                let failure = master.failure.take().unwrap_or(cx.nobody());
                return self.fail(cx, manifest, failure);
            };
            if !master.charge(cx, peer) {
                let failure = Failure::NoRoute(NoRouteReason::Overloaded);
                return self.fail(cx, manifest, failure);
            }
            let request = cx.request_id();
            self.asked.insert(request, manifest);
            master.lease = Some(Lease {
                peer,
                request,
                asked: Some(cx.now),
                answered: None,
            });
            send_get(cx, peer, request, manifest, master.hops);
        }
        self.settle(cx, manifest);
    }

    /// The neighbour that was asked failed.
    fn lose(&mut self, cx: &mut Cx, manifest: ManifestId, failure: Failure) {
        let peer = self.drop_lease(cx, manifest);
        let Some(master) = self.table.get_mut(&manifest) else {
            return;
        };
        master.tried.extend(peer);
        master.failure = Some(failure);
        if failure == Failure::NotFound {
            self.fail(cx, manifest, failure);
        } else {
            self.seek(cx, manifest);
        }
    }

    /// Nobody has it: followers that wait are told, this machine tries again.
    fn fail(&mut self, cx: &mut Cx, manifest: ManifestId, failure: Failure) {
        let Some(master) = self.table.get_mut(&manifest) else {
            return;
        };
        master.tried.clear();
        master.failure = None;
        master.looked = None;
        master.followers.retain(|(peer, request), follower| {
            if !follower.answered {
                cx.refuse(*peer, *request, failure);
            }
            follower.answered
        });
        if master.wanted() {
            master.retry_at = Some(master.retry.schedule(cx));
        }
        if master.local && master.reported != Some(failure) {
            master.reported = Some(failure);
            cx.emit(Output::MasterMissing { manifest, failure });
        }
        self.settle(cx, manifest);
    }

    /// Tells everybody of a new version.
    fn push(&mut self, cx: &mut Cx, manifest: ManifestId) {
        let now = cx.now;
        if let Some(master) = self.table.get_mut(&manifest) {
            master.followers.retain(|_, follower| follower.until > now);
            master.reported = None;
            if let (true, Some(body)) = (master.local, &master.body) {
                let body = body.clone();
                cx.emit(Output::Master { body });
            }
        }
        self.push_to(cx, manifest, |_, _| true);
    }

    fn push_to(
        &mut self,
        cx: &mut Cx,
        manifest: ManifestId,
        mut which: impl FnMut(&NodeId, &Follower) -> bool,
    ) {
        let Some(master) = self.table.get_mut(&manifest) else {
            return;
        };
        let Some(body) = &master.body else { return };
        for ((peer, request), follower) in &mut master.followers {
            if which(peer, follower) {
                follower.answered = true;
                let message = Message::MasterPlaylistData(MasterPlaylistData {
                    request: *request,
                    body: body.clone(),
                });
                cx.send(*peer, message, Priority::Playlist);
            }
        }
    }

    fn drop_lease(&mut self, cx: &mut Cx, manifest: ManifestId) -> Option<NodeId> {
        let lease = self.table.get_mut(&manifest)?.lease.take()?;
        self.asked.remove(&lease.request);
        if let Some(link) = cx.links.get_mut(&lease.peer) {
            link.close(lease.request, cx.now);
        }
        Some(lease.peer)
    }

    /// Lets go of a lease that is not wanted, and sets the next wake-up.
    fn settle(&mut self, cx: &mut Cx, manifest: ManifestId) {
        let Some(master) = self.table.get(&manifest) else {
            return;
        };
        if !master.wanted() {
            self.drop_lease(cx, manifest);
            let useless = self.table.get(&manifest).is_some_and(|m| m.body.is_none());
            if useless {
                self.table.remove(&manifest);
            }
            return cx.timers.set(Timer::Master(manifest), None);
        }
        let patience = cx.config.request_patience;
        let lease = master.lease.as_ref().and_then(|lease| lease.due(patience));
        let expiry = master
            .followers
            .values()
            .map(|follower| follower.until)
            .min();
        let looked = master.looked.filter(|_| master.lease.is_none());
        let next = [lease, expiry, master.retry_at, looked];
        let next = next.into_iter().flatten().min();
        cx.timers.set(Timer::Master(manifest), next);
    }
}

fn send_get(cx: &mut Cx, to: NodeId, request: RequestId, manifest: ManifestId, hops_left: u8) {
    let message = Message::GetMasterPlaylist(GetMasterPlaylist {
        request,
        manifest,
        hops_left,
    });
    cx.send(to, message, Priority::Control);
}
