//! The streams of one node: commands and messages find their stream here.

mod child;
mod children;
mod claims;
mod holes;
mod local;
mod messages;
mod parents;
mod redirects;
mod ring;
mod rivals;
mod stage;
mod stream;
mod upstream;

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_proto::{
    JobId, NoRouteReason, NodeId, PartHeader, Position, Signed, Slot, Statement as _, StreamEnd,
    StreamId,
    limits::{CHUNK_BYTES, MAX_HOPS},
};

pub(crate) use child::{Child, Hold};
pub use stage::Stage;
pub(crate) use stream::{Source, Stream};
pub(crate) use upstream::SignedClaim;

use crate::{
    cx::{Cx, Retry},
    feed::ClaimId,
    links::Subs,
    output::{CommandError, Failure},
    time::Time,
    timers::Timer,
};
use children::Admission;
use ring::{Accepted, after};
use stream::{Finished, Owned};
use upstream::{Lookup, Upstream};

/// Streams that could not be had lately, at most.
const MAX_NEGATIVES: usize = 256;
/// Neighbours that were sent elsewhere lately, at most.
const MAX_SENT_AWAY: usize = 256;
/// For how long one that was sent elsewhere may come back.
const SENT_AWAY: std::time::Duration = std::time::Duration::from_secs(15);

/// A stream within this node: short to copy and to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamKey(u64);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    keys: BTreeMap<StreamId, StreamKey>,
    table: Table,
    next: u64,
    /// What could not be had, and until when that is the answer.
    negatives: BTreeMap<StreamId, (Failure, Time)>,
    /// Who was sent elsewhere, and until when it may come back.
    sent_away: BTreeMap<(NodeId, StreamId), Time>,
}

impl Streams {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.table.values()
    }

    pub(crate) fn get(&self, id: &StreamId) -> Option<&Stream> {
        self.table.get(*self.keys.get(id)?)
    }

    /// Whether this node makes the stream now.
    pub(crate) fn is_open(&self, id: &StreamId) -> bool {
        self.get(id)
            .is_some_and(|stream| stream.is_owned() && stream.finished.is_none())
    }

    /// Whether a stream of that node is wanted here and does not come.
    pub(crate) fn misses(&self, owner: &NodeId) -> bool {
        let mut streams = self.table.values();
        streams.any(|stream| stream.id.node == *owner && !stream.is_live())
    }

    /// Whether a job here takes a stream of that node, whose own link is tried again and
    /// again.
    pub(crate) fn works_for(&self, owner: &NodeId) -> bool {
        let mut streams = self.table.values();
        streams.any(|stream| stream.id.node == *owner && stream.claims.lead().is_some())
    }

    // ---- commands ------------------------------------------------------------------

    pub(crate) fn publish(&mut self, cx: &mut Cx, id: StreamId) -> Result<(), CommandError> {
        if id.node != cx.me {
            return Err(CommandError::NotOurs(id));
        }
        let Some(key) = self.keys.get(&id).copied() else {
            return match self.insert(cx, id, Source::Owned(Owned::default())) {
                Some(_) => Ok(()),
                None => Err(CommandError::TooMany("streams")),
            };
        };
        self.with(cx, key, |stream, _| {
            if stream.finished.take().is_some() {
                Ok(())
            } else {
                Err(CommandError::AlreadyPublished(id))
            }
        })
        .unwrap_or(Ok(()))
    }

    pub(crate) fn append(
        &mut self,
        cx: &mut Cx,
        header: &Signed<PartHeader>,
        chunks: Vec<Bytes>,
    ) -> Result<(), CommandError> {
        let id = &header.value().stream;
        let key = self.open_key(id)?;
        check_payload(header.value(), &chunks)?;
        self.with(cx, key, |stream, cx| append(stream, cx, header, chunks))
            .unwrap_or(Ok(()))
    }

    pub(crate) fn finish(
        &mut self,
        cx: &mut Cx,
        body: Signed<StreamEnd>,
    ) -> Result<(), CommandError> {
        let key = self.open_key(&body.value().stream)?;
        self.with(cx, key, |stream, cx| {
            if let Source::Owned(owned) = &stream.source
                && owned.last != body.value().last
            {
                let zero = Position {
                    segment: 0,
                    part: 0,
                };
                return Err(CommandError::OutOfOrder {
                    last: owned.last,
                    got: body.value().last.unwrap_or(zero),
                });
            }
            stream.finished = Some(Finished { body, at: cx.now });
            Ok(())
        })
        .unwrap_or(Ok(()))
    }

    /// Forgets a stream of this node. Those who take it are told NotFound, which is no end.
    pub(crate) fn unpublish(&mut self, cx: &mut Cx, id: &StreamId) -> Result<(), CommandError> {
        let key = self.open_key(id)?;
        self.with(cx, key, Stream::withdraw);
        Ok(())
    }

    /// Delivers a stream to this machine: to a viewer, or to a job.
    pub(crate) fn deliver(
        &mut self,
        cx: &mut Cx,
        id: StreamId,
        from: Option<Position>,
        job: Option<JobId>,
    ) -> Result<(), CommandError> {
        let key = match self.keys.get(&id) {
            Some(key) => *key,
            None if id.node == cx.me => return Err(CommandError::UnknownStream(id)),
            None => {
                let source =
                    Source::Remote(Box::new(Upstream::new(&cx.config, MAX_HOPS, from, cx.now)));
                self.insert(cx, id, source)
                    .ok_or(CommandError::TooMany("streams"))?
            }
        };
        self.with(cx, key, |stream, cx| {
            stream.local.begin(from);
            if let Source::Remote(up) = &mut stream.source {
                up.hops = MAX_HOPS;
                if job.is_some() {
                    up.retry = Retry::new(cx.config.job_retry);
                }
            }
            match job {
                Some(job) => {
                    stream.local.jobs.insert(job);
                    let live = stream.is_live();
                    stream.claims.begin(cx, job, live);
                }
                None => stream.local.viewer = true,
            }
            stream.watched = true;
            stream.seek(cx);
        });
        Ok(())
    }

    /// Ends what [`Self::deliver`] began.
    pub(crate) fn undeliver(
        &mut self,
        cx: &mut Cx,
        id: &StreamId,
        job: Option<JobId>,
    ) -> Result<(), CommandError> {
        let key = self.keys.get(id).copied();
        let had = key.and_then(|key| {
            self.with(cx, key, |stream, cx| match job {
                Some(job) => {
                    stream.claims.end(job);
                    let had = stream.local.jobs.remove(&job);
                    stream.end_measuring(cx);
                    stream.seek_without_claim(cx);
                    had
                }
                None => std::mem::take(&mut stream.local.viewer),
            })
        });
        match had {
            Some(true) => Ok(()),
            Some(false) | None => Err(CommandError::UnknownStream(id.clone())),
        }
    }

    /// The driver's answer to a question for a claim.
    pub(crate) fn on_claim(
        &mut self,
        cx: &mut Cx,
        id: &StreamId,
        job: JobId,
        claim: Option<Box<SignedClaim>>,
    ) {
        let Some(key) = self.keys.get(id).copied() else {
            return;
        };
        self.with(cx, key, |stream, cx| stream.on_claim(cx, job, claim));
    }

    /// The broadcaster did not take a job's result.
    pub(crate) fn on_result_refused(&mut self, cx: &mut Cx, id: &StreamId, job: JobId) {
        if let Some(key) = self.keys.get(id).copied() {
            self.with(cx, key, |stream, cx| stream.on_result_refused(cx, job));
        }
    }

    /// The driver has looked for somebody closer to a node.
    pub(crate) fn on_lookup(&mut self, cx: &mut Cx, target: NodeId) {
        let waiting = self.table.values().filter(|s| s.id.node == target);
        for key in waiting.map(|s| s.key).collect::<Vec<_>>() {
            self.with(cx, key, |stream, cx| stream.on_lookup(cx));
        }
    }

    /// A node that some streams had dialled is linked, or could not be reached.
    pub(crate) fn on_dialled(
        &mut self,
        cx: &mut Cx,
        peer: NodeId,
        keys: impl IntoIterator<Item = StreamKey>,
    ) {
        let linked = cx.links.contains(&peer);
        for key in keys {
            self.with(cx, key, |stream, cx| stream.on_dialled(cx, peer, linked));
        }
    }

    // ---- links and time ------------------------------------------------------------

    pub(crate) fn on_connected(&mut self, cx: &mut Cx, peer: NodeId) {
        let relayer = cx.links.get(&peer).is_some_and(|link| link.roles.relayer);
        self.negatives.clear();
        let concerned = |stream: &&Stream| relayer || stream.id.node == peer;
        let keys: Vec<_> = self
            .table
            .values()
            .filter(concerned)
            .map(|s| s.key)
            .collect();
        for key in keys {
            self.with(cx, key, |stream, cx| {
                let owner = stream.id.node == peer;
                if let Source::Remote(up) = &mut stream.source {
                    up.tried.remove(&peer);
                    up.no_standby.remove(&peer);
                    if up.retry_at.is_some() || matches!(up.lookup, Lookup::Waiting(_)) {
                        stream.seek(cx);
                    }
                }
                if owner {
                    stream.claims.on_owner(cx);
                    stream.claim_again(cx);
                }
            });
        }
    }

    pub(crate) fn on_disconnected(&mut self, cx: &mut Cx, peer: NodeId, up: &Subs, down: &Subs) {
        for (request, key) in down.iter() {
            self.with(cx, key, |stream, cx| {
                stream.drop_child(cx, (peer, request));
            });
        }
        for (request, key) in up.iter() {
            self.with(cx, key, |stream, cx| {
                stream.on_parent_gone(cx, peer, request)
            });
        }
        let fed = |s: &&Stream| s.id.node == peer && !s.local.jobs.is_empty();
        let jobs: Vec<_> = self.table.values().filter(fed).map(|s| s.key).collect();
        for key in jobs {
            self.with(cx, key, |stream, cx| {
                stream.claims.on_owner(cx);
                stream.claim_again(cx);
            });
        }
    }

    /// A link has room again: feeds first, then the live edge, then the rest.
    pub(crate) fn on_writable(&mut self, cx: &mut Cx, peer: NodeId) {
        let Some(link) = cx.links.get(&peer) else {
            return;
        };
        let mut order: Vec<_> = link
            .down
            .iter()
            .filter_map(|(request, key)| {
                let stream = self.table.get(key)?;
                let child = stream.children.get(&(peer, request))?;
                Some((child.class(&stream.ring), key, request))
            })
            .collect();
        order.sort_unstable();
        // Equals take turns at being first.
        let turn = usize::try_from(cx.random() % (order.len().max(1) as u64)).unwrap_or(0);
        order.rotate_left(turn);
        order.sort_by_key(|(class, ..)| *class);
        for (_, key, request) in order {
            let Some(stream) = self.table.get_mut(key) else {
                continue;
            };
            if let Some(child) = stream.children.get_mut(&(peer, request)) {
                child.pump(cx, &stream.ring);
            }
            if stream.finished.is_some() {
                self.with(cx, key, |_, _| ());
            }
        }
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Cx, key: StreamKey) {
        self.with(cx, key, |stream, cx| stream.tick(cx));
    }

    // ---- subscriptions of neighbours -----------------------------------------------

    /// Takes a neighbour's subscription on, or answers why not.
    pub(crate) fn admit(
        &mut self,
        cx: &mut Cx,
        id: &StreamId,
        mut child: Child,
        hops_left: u8,
        claim: Option<SignedClaim>,
    ) {
        let (peer, request) = (child.peer, child.request);
        let key = match self.keys.get(id) {
            Some(key) => *key,
            None => match self.begin_relay(cx, id, &child, hops_left, claim) {
                Ok(key) => key,
                Err(failure) => return cx.refuse(peer, request, failure),
            },
        };
        if !self.sent_away.is_empty() {
            let back = self.sent_away.remove(&(peer, id.clone()));
            child.insists = back.is_some_and(|until| until > cx.now);
        }
        child.relayer = cx.links.get(&peer).is_some_and(|link| link.roles.relayer);
        let from = child.from();
        let admission = self.with(cx, key, |stream, cx| {
            let admission = stream.add_child(cx, child);
            match admission {
                Admission::Taken => {
                    stream.raise(cx, peer);
                    if let Source::Remote(up) = &mut stream.source {
                        up.hops = up.hops.max(hops_left.saturating_sub(1));
                        stream.reach_back(cx, from);
                        stream.seek(cx);
                    }
                    stream.pump_children(cx);
                }
                Admission::Full => stream.push_down(cx, peer, request),
                Admission::Refused(reason) => cx.no_route(peer, request, reason),
            }
            admission
        });
        if admission == Some(Admission::Full) {
            self.remember_sent_away(cx, peer, id.clone());
        }
    }

    /// A stream that this node does not have yet, for a neighbour that asks for it.
    fn begin_relay(
        &mut self,
        cx: &mut Cx,
        id: &StreamId,
        child: &Child,
        hops_left: u8,
        claim: Option<SignedClaim>,
    ) -> Result<StreamKey, Failure> {
        let no_route = |reason| Err(Failure::NoRoute(reason));
        if id.node == cx.me {
            return Err(Failure::NotFound);
        }
        if !cx.config.roles.relayer {
            return no_route(NoRouteReason::NoCloserPeer);
        }
        if hops_left == 0 || child.is_standby() {
            return no_route(NoRouteReason::HopLimit);
        }
        // Claims are few, and a second passes before the next: the broadcaster may be back.
        if let Some((failure, until)) = self.negatives.get(id)
            && *until > cx.now
            && claim.is_none()
        {
            return Err(*failure);
        }
        // Others who lost the same parent may be some parts behind this one.
        let from = child.from().map(|at| Position { part: 0, ..at });
        let mut up = Upstream::new(&cx.config, hops_left - 1, from, cx.now);
        up.claim = claim.map(Box::new);
        let source = Source::Remote(Box::new(up));
        self.insert(cx, id.clone(), source)
            .ok_or(Failure::NoRoute(NoRouteReason::Overloaded))
    }

    /// Remembers that a neighbour was sent elsewhere, where it may not be welcome.
    pub(super) fn remember_sent_away(&mut self, cx: &Cx, peer: NodeId, id: StreamId) {
        if self.sent_away.len() >= MAX_SENT_AWAY {
            self.sent_away.retain(|_, until| *until > cx.now);
        }
        if self.sent_away.len() < MAX_SENT_AWAY {
            self.sent_away.insert((peer, id), cx.now + SENT_AWAY);
        }
    }

    /// The driver granted a claim.
    pub(crate) fn release(
        &mut self,
        cx: &mut Cx,
        id: &StreamId,
        claim: ClaimId,
        name: (NodeId, JobId),
    ) {
        if let Some(key) = self.keys.get(id).copied() {
            self.with(cx, key, |stream, cx| {
                stream.release(cx, claim, name);
                stream.pump_children(cx);
            });
        }
    }

    /// A claim does not hold, or is checked no more.
    pub(crate) fn refuse(&mut self, cx: &mut Cx, id: &StreamId, claim: ClaimId) {
        if let Some(key) = self.keys.get(id).copied() {
            self.with(cx, key, |stream, cx| stream.refuse(cx, claim));
        }
    }

    /// The broadcaster ends what a transcoder is fed for a job.
    pub(crate) fn revoke(
        &mut self,
        cx: &mut Cx,
        id: &StreamId,
        name: (NodeId, JobId),
        other: Option<JobId>,
    ) {
        if let Some(key) = self.keys.get(id).copied() {
            self.with(cx, key, |stream, cx| stream.revoke(cx, name, other));
        }
    }

    // ---- the table -----------------------------------------------------------------

    fn open_key(&self, id: &StreamId) -> Result<StreamKey, CommandError> {
        if self.is_open(id)
            && let Some(key) = self.keys.get(id)
        {
            return Ok(*key);
        }
        Err(CommandError::UnknownStream(id.clone()))
    }

    fn insert(&mut self, cx: &Cx, id: StreamId, source: Source) -> Option<StreamKey> {
        if self.table.len() >= cx.config.max_streams {
            return None;
        }
        let key = StreamKey(self.next);
        self.next += 1;
        self.keys.insert(id.clone(), key);
        self.table.push(Stream::new(id, key, source));
        Some(key)
    }

    /// Works on one stream, then brings it and its surroundings into order.
    fn with<T>(
        &mut self,
        cx: &mut Cx,
        key: StreamKey,
        work: impl FnOnce(&mut Stream, &mut Cx) -> T,
    ) -> Option<T> {
        let stream = self.table.get_mut(key)?;
        let result = work(stream, cx);
        stream.settle(cx);
        account(stream, cx);
        if stream.dead {
            cx.ring_bytes -= stream.accounted;
            cx.timers.set(Timer::Stream(key), None);
            if let Some(failure) = stream.failed {
                let until = cx.now + cx.config.negative_cache;
                if self.negatives.len() >= MAX_NEGATIVES {
                    self.negatives.retain(|_, (_, until)| *until > cx.now);
                }
                if self.negatives.len() < MAX_NEGATIVES {
                    self.negatives.insert(stream.id.clone(), (failure, until));
                }
            }
            self.keys.remove(&stream.id);
            self.table.remove(key);
        }
        Some(result)
    }
}

/// The streams in the order of their keys. What is searched lies together, and so does all
/// of a stream.
#[derive(Debug, Default)]
struct Table {
    keys: Vec<StreamKey>,
    streams: Vec<Stream>,
}

impl Table {
    fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.streams.get(self.place(key)?)
    }

    fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let place = self.place(key)?;
        self.streams.get_mut(place)
    }

    /// Adds a stream, whose key is greater than all.
    fn push(&mut self, stream: Stream) {
        self.keys.push(stream.key);
        self.streams.push(stream);
    }

    fn remove(&mut self, key: StreamKey) {
        if let Some(place) = self.place(key) {
            self.keys.remove(place);
            self.streams.remove(place);
        }
    }

    fn values(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter()
    }

    const fn len(&self) -> usize {
        self.keys.len()
    }

    fn place(&self, key: StreamKey) -> Option<usize> {
        self.keys.binary_search(&key).ok()
    }
}

/// Keeps a ring within its bounds and the node's sum right.
fn account(stream: &mut Stream, cx: &mut Cx) {
    let others = cx.ring_bytes - stream.accounted;
    let room = cx.config.total_ring_bytes.saturating_sub(others);
    let bytes = cx.config.ring_bytes.min(room);
    stream.ring.evict(cx.config.ring_segments.max(2), bytes);
    stream.accounted = stream.ring.bytes();
    cx.ring_bytes = others + stream.accounted;
}

/// Checks that the chunks are those that the owner signed. It costs a millisecond for a
/// megabyte, once, and keeps a fault of this machine from being signed away: neighbours
/// would count every such chunk as a forgery.
fn check_payload(header: &PartHeader, chunks: &[Bytes]) -> Result<(), CommandError> {
    header.check().map_err(CommandError::Unsendable)?;
    let size = header.size as usize;
    let count = size.div_ceil(CHUNK_BYTES);
    let lengths_fit = chunks.iter().enumerate().all(|(index, chunk)| {
        chunk.len() == size.saturating_sub(index * CHUNK_BYTES).min(CHUNK_BYTES)
    });
    if size == 0 || chunks.len() != count || header.hashes.len() != count || !lengths_fit {
        return Err(CommandError::PayloadMismatch);
    }
    for (chunk, hash) in chunks.iter().zip(&header.hashes) {
        let stream = header.stream.clone();
        let (one, _) = PartHeader::for_payload(stream, header.slot, None, chunk)
            .map_err(|_| CommandError::PayloadMismatch)?;
        if one.hashes != [*hash] {
            return Err(CommandError::PayloadMismatch);
        }
    }
    Ok(())
}

/// Appends to a stream of this node.
///
/// Parts follow each other without a hole; only at the start of a segment, and with a
/// grown discontinuity count, may the owner jump ahead. What it jumped over becomes a
/// gap, which every subscriber is told of.
fn append(
    stream: &mut Stream,
    cx: &mut Cx,
    header: &Signed<PartHeader>,
    chunks: Vec<Bytes>,
) -> Result<(), CommandError> {
    let Source::Owned(owned) = &mut stream.source else {
        return Err(CommandError::UnknownStream(stream.id.clone()));
    };
    let slot = header.value().slot;
    let mut jump = None;
    if let (Slot::Part(got), Some(media)) = (slot, header.value().media) {
        let jumps = got.part == 0 && media.discontinuity > owned.discontinuity;
        let follows = match owned.next {
            None => got.part == 0,
            Some(next) => got == next || (jumps && got > next),
        };
        if !follows || stream.ring.init(media.init).is_none() {
            let last = owned.last;
            return Err(CommandError::OutOfOrder { last, got });
        }
        jump = owned
            .next
            .filter(|next| *next < got)
            .map(|next| (next, got));
        owned.last = Some(got);
        owned.next = Some(after(got, media.last));
        owned.discontinuity = media.discontinuity;
    }
    match stream.ring.announce(header) {
        Accepted::New => {}
        Accepted::Known => return Ok(()),
        Accepted::Stale | Accepted::Contradiction | Accepted::Full => {
            return Err(CommandError::PayloadMismatch);
        }
    }
    for (index, chunk) in (0..=u16::MAX).zip(chunks) {
        stream.ring.put(slot, index, chunk);
    }
    if let Some((from, to)) = jump {
        stream.ring.declare_gap(from, to);
    }
    account(stream, cx);
    stream.pump_children(cx);
    Ok(())
}
