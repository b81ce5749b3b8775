//! From whom a stream comes: the parents, and the search for one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use headwater_proto::{
    JobId, Message, NodeAddresses, NodeId, Position, RequestId, Slot, StreamId, Sub,
    TranscodeClaim, TranscodeSub,
    limits::{MAX_HOPS, MAX_SEGMENT},
};

use crate::{
    config::Config,
    cx::{Cx, Retry},
    output::{Failure, Priority},
    streams::StreamKey,
    time::Time,
};

/// Slots that one parent may have announced and not completed.
const MAX_ANNOUNCED: usize = 256;
/// Gaps of one parent whose end has not come.
const MAX_PENDING_GAPS: usize = 16;
/// Nodes that are remembered as having the stream.
const MAX_LEADS: usize = 8;
/// Redirects that one search follows: a tree of full nodes is not deeper.
pub(crate) const MAX_FOLLOWED: u8 = 12;

/// No stream gets there: who subscribes from here wants to be told how the parent fares,
/// and no data.
pub(crate) const STANDBY: Position = Position {
    segment: MAX_SEGMENT,
    part: 0,
};

/// A claim with its signature, as it travels.
pub(crate) type SignedClaim = (TranscodeClaim, [u8; 65]);

/// How far a subscription has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParentState {
    /// Nothing has been answered.
    Asked,
    /// The parent is looking for the stream itself.
    Pending,
    /// Data flows, or its source is quiet.
    Live,
}

/// What a parent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It feeds the stream, or is asked to. Several may be asked; one feeds.
    Feed,
    /// It is tried besides the one that feeds.
    Rival(Rivalry),
    /// It has the stream and says so, for the day the other fails.
    Standby,
}

/// Why a parent is tried besides another, which decides when it takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rivalry {
    /// It is the owner, and this node holds a job: the one that delivers earlier stays.
    Direct,
    /// The other seems to have stopped or to lag: takes over with the first new data.
    Stalled,
    /// The other asked to be left for it: takes over when it is live.
    Moved,
}

/// One subscription at a neighbour.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) peer: NodeId,
    pub(crate) request: RequestId,
    pub(crate) role: Role,
    pub(crate) state: ParentState,
    /// Since when it is in `state`.
    pub(crate) since: Time,
    heard: Time,
    /// Slots whose header it sent and the ring agrees with, the newest last.
    announced: Vec<Slot>,
    /// What it says will not come; counts once the part after it is here.
    pub(crate) gaps: Vec<(Position, Position)>,
    /// The owner down to this parent.
    pub(crate) path: Vec<u64>,
    /// Its newest part, by its last SubAck.
    pub(crate) edge: Option<Position>,
    /// How busy it is, 0 to 255.
    pub(crate) load: u8,
    /// Chunks that came from it first, while it has a rival.
    pub(crate) firsts: u32,
    /// SubAcks in a row whose edge was ahead of what is here.
    pub(crate) ahead: u8,
    /// SubAcks in a row by which it was much less busy than the parent.
    pub(crate) lighter: u8,
    /// The job with whose claim it was asked.
    pub(crate) claim: Option<JobId>,
}

impl Parent {
    fn new(peer: NodeId, request: RequestId, role: Role, now: Time) -> Self {
        Self {
            peer,
            request,
            role,
            state: ParentState::Asked,
            since: now,
            heard: now,
            announced: Vec::new(),
            gaps: Vec::new(),
            path: Vec::new(),
            edge: None,
            load: 0,
            firsts: 0,
            ahead: 0,
            lighter: 0,
            claim: None,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state == ParentState::Live
    }

    pub(crate) fn is_standby(&self) -> bool {
        self.role == Role::Standby
    }

    /// When it is given up, if nothing more comes.
    pub(crate) fn deadline(&self, config: &Config) -> Time {
        if self.is_standby() && self.state != ParentState::Asked {
            return self.heard + config.standby_silence;
        }
        let silent = self.heard + config.parent_silence;
        match self.state {
            ParentState::Asked => silent,
            ParentState::Live if self.role == Role::Rival(Rivalry::Stalled) => {
                silent.min(self.since + config.rival_window)
            }
            ParentState::Live => silent,
            // It says so seldom, and is not waited for long.
            ParentState::Pending => self.since + config.pending_patience,
        }
    }

    /// Notes a sign of life; true when the state has changed.
    pub(crate) fn hear(&mut self, now: Time, state: ParentState) -> bool {
        self.heard = now;
        let changed = self.state != state;
        if changed {
            self.state = state;
            self.since = now;
        }
        changed
    }

    /// Gives it another part to play, as if it had just been asked.
    pub(crate) fn recast(&mut self, role: Role, now: Time) {
        self.role = role;
        self.state = ParentState::Asked;
        self.heard = now;
        self.since = now;
        self.firsts = 0;
        self.ahead = 0;
        self.lighter = 0;
    }

    pub(crate) fn announce(&mut self, slot: Slot) {
        if self.has_announced(slot) {
            return;
        }
        if self.announced.len() >= MAX_ANNOUNCED {
            self.announced.remove(0);
        }
        self.announced.push(slot);
    }

    pub(crate) fn has_announced(&self, slot: Slot) -> bool {
        // Chunks follow their header, so it is one of the last.
        self.announced.iter().rev().any(|known| *known == slot)
    }

    pub(crate) fn completed(&mut self, slot: Slot) {
        self.announced.retain(|known| *known != slot);
    }

    pub(crate) fn note_gap(&mut self, from: Position, to: Position) {
        if self.gaps.len() < MAX_PENDING_GAPS && from < to {
            self.gaps.push((from, to));
        }
    }
}

/// A part that is missing while later ones are here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hole {
    pub(crate) slot: Slot,
    pub(crate) since: Time,
    pub(crate) asked: Option<Time>,
    /// How often it was asked for.
    pub(crate) times: u8,
}

/// The search for somebody closer, by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Not needed in this search.
    Idle,
    /// Under way; given up at that time.
    Waiting(Time),
    /// It has ended.
    Done,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// The one that feeds the stream comes first.
    pub(crate) parents: Vec<Parent>,
    /// Neighbours that failed in this search.
    pub(crate) tried: BTreeSet<NodeId>,
    /// First neighbour of the last search that failed: tried last in the next.
    pub(crate) avoid: Option<NodeId>,
    /// Why the last neighbour failed.
    pub(crate) failure: Option<Failure>,
    /// When a subscriber searches again.
    pub(crate) retry_at: Option<Time>,
    pub(crate) retry: Retry,
    /// Relays that may still pass a subscription on.
    pub(crate) hops: u8,
    /// First part wanted, until there is one.
    pub(crate) wanted: Option<Position>,
    /// Makes the next subscription a TranscodeSub.
    pub(crate) claim: Option<Box<SignedClaim>>,
    pub(crate) hole: Option<Hole>,
    /// The parent that was last told of in an event.
    pub(crate) reported: Option<NodeId>,
    /// Nodes that are said to have the stream, the best first.
    pub(crate) leads: VecDeque<NodeAddresses>,
    /// Nodes that are being dialled for this stream, and until when each is waited for.
    pub(crate) dialling: BTreeMap<NodeId, Time>,
    /// Redirects that this search still follows.
    pub(crate) follow_left: u8,
    /// When another is asked besides those who have not come to life.
    pub(crate) hedge_at: Option<Time>,
    pub(crate) lookup: Lookup,
    /// When a standby is looked for.
    pub(crate) standby_at: Option<Time>,
    pub(crate) standby_retry: Retry,
    /// Neighbours that were no good as a standby lately.
    pub(crate) no_standby: BTreeSet<NodeId>,
    /// When new data came last.
    pub(crate) data_at: Time,
    /// Pause without data after which another is tried.
    pub(crate) stall: Retry,
    pub(crate) stall_at: Option<Time>,
    /// When the owner's own link is tried again.
    pub(crate) direct_at: Option<Time>,
    /// When an only child is introduced to the parent.
    pub(crate) introduce_at: Option<Time>,
    pub(crate) introduce: Retry,
    /// When the last introduction of a parent was followed.
    pub(crate) moved: Option<Time>,
    /// When older parts were asked for, and how often since then.
    pub(crate) reached_back: (Option<Time>, u8),
    /// As what a node that is dialled beside a live parent is taken.
    pub(crate) dial_as: Rivalry,
    /// Parents that did not bring what others had, and until when they are asked last.
    pub(crate) distrusted: BTreeMap<NodeId, Time>,
}

impl Upstream {
    pub(crate) fn new(config: &Config, hops: u8, wanted: Option<Position>, now: Time) -> Self {
        Self {
            parents: Vec::new(),
            tried: BTreeSet::new(),
            avoid: None,
            failure: None,
            retry_at: None,
            retry: Retry::new(config.retry),
            hops,
            wanted,
            claim: None,
            hole: None,
            reported: None,
            leads: VecDeque::new(),
            dialling: BTreeMap::new(),
            follow_left: MAX_FOLLOWED,
            hedge_at: None,
            lookup: Lookup::Idle,
            standby_at: None,
            standby_retry: Retry::new(config.standby_retry),
            no_standby: BTreeSet::new(),
            data_at: now,
            stall: Retry::new(config.stall),
            stall_at: None,
            direct_at: None,
            introduce_at: None,
            introduce: Retry::new(config.introduce),
            moved: None,
            reached_back: (None, 0),
            dial_as: Rivalry::Moved,
            distrusted: BTreeMap::new(),
        }
    }

    /// The parent that feeds the stream, or the first that was asked to.
    pub(crate) fn main(&self) -> Option<&Parent> {
        self.parents.iter().find(|p| p.role == Role::Feed)
    }

    /// The parent that feeds the stream.
    pub(crate) fn live(&self) -> Option<&Parent> {
        self.main().filter(|p| p.is_live())
    }

    pub(crate) fn standby(&self) -> Option<usize> {
        self.parents.iter().position(Parent::is_standby)
    }

    pub(crate) fn rival(&self) -> Option<usize> {
        let rival = |p: &Parent| matches!(p.role, Role::Rival(_));
        self.parents.iter().position(rival)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live().is_some()
    }

    /// Subscriptions and dials of the search that are under way.
    pub(crate) fn open(&self) -> usize {
        let feeds = self.parents.iter().filter(|p| p.role == Role::Feed);
        feeds.count() + self.dialling.len()
    }

    pub(crate) fn find(&self, peer: NodeId, request: RequestId) -> Option<usize> {
        let same = |p: &Parent| p.request == request && p.peer == peer;
        self.parents.iter().position(same)
    }

    pub(crate) fn has_parent(&self, peer: &NodeId) -> bool {
        self.parents.iter().any(|p| p.peer == *peer)
    }

    /// Remembers nodes that have the stream, before those known so far.
    pub(crate) fn learn(&mut self, nodes: impl DoubleEndedIterator<Item = NodeAddresses>) {
        for node in nodes.rev() {
            self.leads.retain(|known| known.node != node.node);
            self.leads.push_front(node);
        }
        self.leads.truncate(MAX_LEADS);
    }

    /// Subscribes at a neighbour, by TranscodeSub when there is a claim and the neighbour
    /// is to feed the stream.
    pub(crate) fn subscribe(
        &mut self,
        cx: &mut Cx,
        key: StreamKey,
        stream: &StreamId,
        peer: NodeId,
        from: Option<Position>,
        role: Role,
    ) {
        let request = cx.request_id();
        let Some(link) = cx.links.get_mut(&peer) else {
            return;
        };
        link.up.insert(request, key);
        self.parents.push(Parent::new(peer, request, role, cx.now));
        self.send_sub(cx, stream, peer, request, from, role);
    }

    /// Asks a parent again, from another part or with another claim. The subscription gets
    /// a new id, which replaces the old one there: an answer to the old one that is on its
    /// way must not be taken for one to the new.
    pub(crate) fn renew(
        &mut self,
        cx: &mut Cx,
        key: StreamKey,
        stream: &StreamId,
        index: usize,
        from: Option<Position>,
    ) {
        let request = cx.request_id();
        let Some(parent) = self.parents.get_mut(index) else {
            return;
        };
        let (peer, role) = (parent.peer, parent.role);
        let old = std::mem::replace(&mut parent.request, request);
        parent.announced.clear();
        parent.gaps.clear();
        if let Some(link) = cx.links.get_mut(&peer) {
            link.up.remove(old);
            link.close(old, cx.now);
            link.up.insert(request, key);
        }
        self.send_sub(cx, stream, peer, request, from, role);
        // Should the new one be refused at the door, the old one must not live on.
        let message = Message::Cancel(headwater_proto::Cancel { request: old });
        cx.send(peer, message, Priority::Control);
    }

    /// Sends what a subscription begins with.
    fn send_sub(
        &mut self,
        cx: &mut Cx,
        stream: &StreamId,
        peer: NodeId,
        request: RequestId,
        from: Option<Position>,
        role: Role,
    ) {
        cx.stats.subs_out += 1;
        let claim = match role {
            Role::Feed => self.claim.clone(),
            Role::Rival(_) | Role::Standby => None,
        };
        let job = claim.as_ref().map(|claim| claim.0.job);
        if let Some(index) = self.find(peer, request) {
            self.parents[index].claim = job;
        }
        // Only those who have the stream already are any good as a standby.
        let hops_left = match role {
            Role::Standby => 0,
            Role::Feed | Role::Rival(_) => self.hops.min(MAX_HOPS),
        };
        let message = match claim {
            None => Message::from(Sub {
                request,
                stream: stream.clone(),
                from,
                hops_left,
            }),
            Some(claim) => {
                cx.stats.claims_out += 1;
                let (claim, signature) = *claim;
                Message::from(TranscodeSub {
                    request,
                    branch: true,
                    from,
                    hops_left,
                    claim,
                    signature,
                })
            }
        };
        cx.send(peer, message, Priority::Control);
    }
}

/// Forgets a subscription at a neighbour, and tells it when it should stop.
pub(super) fn close_up(cx: &mut Cx, peer: NodeId, request: RequestId, cancel: bool) {
    if let Some(link) = cx.links.get_mut(&peer) {
        link.up.remove(request);
        link.close(request, cx.now);
        if cancel {
            let message = Message::Cancel(headwater_proto::Cancel { request });
            cx.send(peer, message, Priority::Control);
        }
    }
}
