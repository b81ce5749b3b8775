//! From whom a stream comes: the parents, and the search for one.

use std::collections::BTreeSet;

use headwater_proto::{Message, limits::MAX_HOPS};
use headwater_proto::{
    NodeId, Position, RequestId, Slot, StreamId, Sub, TranscodeClaim, TranscodeSub,
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

/// One subscription at a neighbour.
#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) peer: NodeId,
    pub(crate) request: RequestId,
    pub(crate) state: ParentState,
    /// Since when it is in `state`.
    since: Time,
    heard: Time,
    /// Slots whose header it sent and the ring agrees with.
    announced: BTreeSet<Slot>,
    /// What it says will not come; counts once the part after it is here.
    pub(crate) gaps: Vec<(Position, Position)>,
    /// The owner down to this parent.
    pub(crate) path: Vec<u64>,
}

impl Parent {
    /// When it is given up, if nothing more comes.
    pub(crate) fn deadline(&self, config: &Config) -> Time {
        let silent = self.heard + config.parent_silence;
        match self.state {
            ParentState::Asked | ParentState::Live => silent,
            ParentState::Pending => silent.min(self.since + config.pending_patience),
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

    pub(crate) fn announce(&mut self, slot: Slot) {
        if self.announced.len() >= MAX_ANNOUNCED {
            self.announced.pop_first();
        }
        self.announced.insert(slot);
    }

    pub(crate) fn has_announced(&self, slot: Slot) -> bool {
        self.announced.contains(&slot)
    }

    pub(crate) fn completed(&mut self, slot: Slot) {
        self.announced.remove(&slot);
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
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// The first one feeds the stream; a second one is being tried before it takes over.
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
    pub(crate) claim: Option<SignedClaim>,
    /// The driver has been asked for a claim.
    pub(crate) claim_asked: bool,
    /// When the TranscodeSub is sent again.
    pub(crate) resend_at: Option<Time>,
    pub(crate) hole: Option<Hole>,
    /// The parent that was last told of in an event.
    pub(crate) reported: Option<NodeId>,
}

impl Upstream {
    pub(crate) fn new(config: &Config, hops: u8, wanted: Option<Position>) -> Self {
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
            claim_asked: false,
            resend_at: None,
            hole: None,
            reported: None,
        }
    }

    /// The parent that feeds the stream.
    pub(crate) fn main(&self) -> Option<&Parent> {
        self.parents.first()
    }

    pub(crate) fn is_live(&self) -> bool {
        self.parents.iter().any(|p| p.state == ParentState::Live)
    }

    pub(crate) fn find(&self, peer: NodeId, request: RequestId) -> Option<usize> {
        let same = |p: &Parent| p.peer == peer && p.request == request;
        self.parents.iter().position(same)
    }

    /// Subscribes at a neighbour, by TranscodeSub when there is a claim and `plain` is
    /// not set.
    pub(crate) fn subscribe(
        &mut self,
        cx: &mut Cx,
        key: StreamKey,
        stream: &StreamId,
        peer: NodeId,
        from: Option<Position>,
        plain: bool,
    ) {
        let request = cx.request_id();
        let Some(link) = cx.links.get_mut(&peer) else {
            return;
        };
        link.up.insert(request, key);
        self.parents.push(Parent {
            peer,
            request,
            state: ParentState::Asked,
            since: cx.now,
            heard: cx.now,
            announced: BTreeSet::new(),
            gaps: Vec::new(),
            path: Vec::new(),
        });
        self.send_sub(cx, stream, peer, request, from, plain);
    }

    /// Sends (again) what a subscription begins with.
    pub(crate) fn send_sub(
        &mut self,
        cx: &mut Cx,
        stream: &StreamId,
        peer: NodeId,
        request: RequestId,
        from: Option<Position>,
        plain: bool,
    ) {
        cx.stats.subs_out += 1;
        let claim = if plain { None } else { self.claim.clone() };
        let hops_left = self.hops.min(MAX_HOPS);
        let message = match claim {
            None => Message::Sub(Sub {
                request,
                stream: stream.clone(),
                from,
                hops_left,
            }),
            Some((claim, signature)) => {
                cx.stats.claims_out += 1;
                Message::TranscodeSub(TranscodeSub {
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
