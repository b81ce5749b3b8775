//! One neighbour that a stream goes to: a cursor into the ring.

use std::collections::{BTreeSet, VecDeque};

use headwater_proto::{
    Chunk, Gap, JobId, Message, NodeId, Part, Position, RequestId, Slot, limits::MAX_CHUNKS,
};

use super::{
    ring::{Entry, Ring, Step, after},
    upstream::STANDBY,
};
use crate::{
    config::Config,
    cx::Cx,
    feed::ClaimId,
    output::{MESSAGE_OVERHEAD, Priority},
    time::Time,
};

/// Repairs that wait for credit, at most.
const MAX_REPAIRS: usize = 32;

/// Bytes that a child may have repaired beyond a quarter of what it was sent.
const REPAIR_GRACE: usize = 4 << 20;

/// Inits that were sent and are remembered.
const MAX_INITS_KNOWN: usize = 64;

/// What keeps a child from being sent data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing.
    Free,
    /// The claim it came with has not been checked.
    Claim(ClaimId),
}

/// How far one slot has been sent.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    /// The class that its header went in: its chunks follow in the same, for links keep
    /// the order within one class only.
    header: Option<Priority>,
    chunks: usize,
}

/// What sending a slot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    NoCredit,
    NoData,
}

/// Pieces asked for by Nack.
#[derive(Debug)]
struct Repair {
    slot: Slot,
    header: bool,
    chunks: VecDeque<u16>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) peer: NodeId,
    pub(crate) request: RequestId,
    /// Next position; `None` until the join position is known.
    at: Option<Position>,
    sent: Sent,
    init: Option<(u32, Sent)>,
    inits: BTreeSet<u32>,
    /// The last of them.
    newest_init: Option<u32>,
    repairs: VecDeque<Repair>,
    /// Payload bytes that were sent to it, and those of them that it asked for again.
    bytes: usize,
    repaired: usize,
    /// Set while it is behind: since when.
    behind: Option<Time>,
    /// Last data or SubAck.
    pub(crate) told: Time,
    /// It was data.
    pub(crate) told_data: bool,
    /// What the last SubAck or data said: `None` nothing yet, else live or not.
    pub(crate) told_live: Option<bool>,
    pub(crate) joined: Time,
    pub(crate) hold: Hold,
    /// The job it is fed for.
    pub(crate) feed: Option<(NodeId, JobId)>,
    pub(crate) finish_sent: bool,
    /// How often newcomers were sent to it first.
    pub(crate) handed: u32,
    /// It came back after it had been sent elsewhere.
    pub(crate) insists: bool,
    /// It carries streams for others.
    pub(crate) relayer: bool,
    /// When it was last asked to move to another child.
    pub(crate) introduced: Option<Time>,
}

impl Child {
    pub(crate) const fn new(
        peer: NodeId,
        request: RequestId,
        from: Option<Position>,
        now: Time,
    ) -> Self {
        Self {
            peer,
            request,
            at: from,
            sent: Sent {
                header: None,
                chunks: 0,
            },
            init: None,
            inits: BTreeSet::new(),
            newest_init: None,
            repairs: VecDeque::new(),
            bytes: 0,
            repaired: 0,
            behind: None,
            told: now,
            told_data: false,
            told_live: None,
            joined: now,
            hold: Hold::Free,
            feed: None,
            finish_sent: false,
            handed: 0,
            insists: false,
            relayer: false,
            introduced: None,
        }
    }

    /// It wants to know how this node fares, and no data.
    pub(crate) fn is_standby(&self) -> bool {
        self.at.is_some_and(|at| at >= STANDBY)
    }

    /// The next position it is sent.
    pub(crate) const fn from(&self) -> Option<Position> {
        self.at
    }

    /// Whether everything before `end` has been sent.
    pub(crate) fn reached(&self, end: Position) -> bool {
        self.at.is_some_and(|at| at >= end) && self.repairs.is_empty()
    }

    /// What goes first when several children share a link.
    pub(crate) fn class(&self, ring: &Ring) -> Priority {
        if self.feed.is_some() {
            return Priority::Feed;
        }
        match (self.at, ring.edge()) {
            // The segment before the newest is what a viewer joins with.
            (Some(at), Some(edge)) if at.segment.saturating_add(1) < edge.segment => {
                Priority::Backfill
            }
            _ => Priority::Live,
        }
    }

    /// Sends what the ring has and the link has room for.
    pub(crate) fn pump(&mut self, cx: &mut Cx, ring: &Ring) {
        if self.hold != Hold::Free {
            return;
        }
        if self.repair(cx, ring) == Outcome::NoCredit {
            return;
        }
        if self.is_standby() {
            return;
        }
        if self.at.is_none() {
            self.at = ring.join_position();
        }
        while let Some(at) = self.at {
            match ring.step(at) {
                Step::Here(entry) => match self.send_part(cx, ring, at, entry) {
                    Outcome::Done => {
                        self.at = Some(after(at, entry.is_last()));
                        self.sent = Sent::default();
                    }
                    Outcome::NoData => {
                        self.behind = None;
                        return;
                    }
                    Outcome::NoCredit => {
                        let since = *self.behind.get_or_insert(cx.now);
                        match self.overtaken(cx, ring, at, since) {
                            Some(to) => self.skip(cx, at, to),
                            None => return,
                        }
                    }
                },
                Step::Skip(to) => self.skip(cx, at, to),
                Step::Wait => {
                    self.behind = None;
                    return;
                }
            }
        }
    }

    /// Puts what a Nack asks for in front of the rest.
    pub(crate) fn on_nack(&mut self, cx: &mut Cx, ring: &Ring, slot: Slot, chunks: Vec<u16>) {
        match (slot, ring.entry(slot)) {
            (_, Some(_)) => {
                let afford = self.repaired <= self.bytes / 4 + REPAIR_GRACE;
                if afford && self.repairs.len() < MAX_REPAIRS && chunks.len() <= MAX_CHUNKS {
                    // The header goes before them again, for it may have come to the child
                    // on another link, or be under way in another class.
                    self.repairs.push_back(Repair {
                        slot,
                        header: true,
                        chunks: chunks.into(),
                    });
                }
            }
            (Slot::Part(from), None) if self.at.is_some_and(|at| from < at) => {
                if let Some(to) = ring.next_after(from) {
                    self.tell_gap(cx, from, to);
                }
            }
            (Slot::Part(_) | Slot::Init(_), None) => {}
        }
    }

    /// Where it goes on when it is too slow; `None` when it is not.
    fn overtaken(&self, cx: &Cx, ring: &Ring, at: Position, since: Time) -> Option<Position> {
        let Config {
            lag_age, lag_bytes, ..
        } = *cx.config;
        let too_long = cx.now.since(since) > lag_age;
        let too_much = cx.now.since(self.joined) > lag_age && ring.bytes_from(at) > lag_bytes;
        (too_long || too_much)
            .then(|| ring.newest_start_after(at))
            .flatten()
    }

    fn skip(&mut self, cx: &mut Cx, from: Position, to: Position) {
        if self.behind.take().is_some() {
            cx.stats.children_skipped += 1;
        }
        self.tell_gap(cx, from, to);
        self.at = Some(to);
        self.sent = Sent::default();
    }

    fn tell_gap(&mut self, cx: &mut Cx, from: Position, to: Position) {
        cx.stats.gaps_out += 1;
        let request = self.request;
        let message = Message::Gap(Gap { request, from, to });
        cx.send(self.peer, message, Priority::Control);
        self.told = cx.now;
    }

    fn send_part(&mut self, cx: &mut Cx, ring: &Ring, at: Position, entry: &Entry) -> Outcome {
        let class = self.class(ring);
        if let Some(media) = entry.media() {
            match self.send_init(cx, ring, media.init, class) {
                Outcome::Done => {}
                stop @ (Outcome::NoCredit | Outcome::NoData) => return stop,
            }
        }
        let mut sent = self.sent;
        let outcome = self.send_slot(cx, Slot::Part(at), entry, &mut sent, class);
        self.sent = sent;
        outcome
    }

    fn send_init(&mut self, cx: &mut Cx, ring: &Ring, index: u32, class: Priority) -> Outcome {
        if self.newest_init == Some(index) || self.inits.contains(&index) {
            return Outcome::Done;
        }
        let Some(entry) = ring.init(index) else {
            return Outcome::NoData;
        };
        let mut sent = match self.init {
            Some((begun, sent)) if begun == index => sent,
            _ => Sent::default(),
        };
        let outcome = self.send_slot(cx, Slot::Init(index), entry, &mut sent, class);
        self.init = Some((index, sent));
        if outcome == Outcome::Done {
            self.inits.insert(index);
            self.newest_init = Some(index);
            // The ring keeps few inits, and the newest are the last to be asked for.
            if self.inits.len() > MAX_INITS_KNOWN {
                self.inits.pop_first();
            }
        }
        outcome
    }

    fn send_slot(
        &mut self,
        cx: &mut Cx,
        slot: Slot,
        entry: &Entry,
        sent: &mut Sent,
        class: Priority,
    ) -> Outcome {
        let class = match sent.header {
            Some(class) => class,
            None if self.send_header(cx, entry, class) => *sent.header.insert(class),
            None => return Outcome::NoCredit,
        };
        while sent.chunks < entry.count() {
            let Ok(index) = u16::try_from(sent.chunks) else {
                break;
            };
            match self.send_chunk(cx, slot, index, entry, class) {
                Outcome::Done => sent.chunks += 1,
                stop @ (Outcome::NoCredit | Outcome::NoData) => return stop,
            }
        }
        Outcome::Done
    }

    fn send_header(&mut self, cx: &mut Cx, entry: &Entry, class: Priority) -> bool {
        let request = self.request;
        let cost = entry.header.bytes().len() + MESSAGE_OVERHEAD;
        let sent = cx.send_data(self.peer, cost, class, || {
            Message::Part(Part {
                request,
                header: entry.header.clone(),
            })
        });
        if sent {
            self.told = cx.now;
            self.told_data = true;
            self.told_live = Some(true);
        }
        sent
    }

    fn send_chunk(
        &mut self,
        cx: &mut Cx,
        slot: Slot,
        index: u16,
        entry: &Entry,
        class: Priority,
    ) -> Outcome {
        let Some(payload) = entry.chunk(usize::from(index)) else {
            return Outcome::NoData;
        };
        let request = self.request;
        let size = payload.len();
        let sent = cx.send_data(self.peer, size + MESSAGE_OVERHEAD, class, || {
            Message::Chunk(Chunk {
                request,
                slot,
                index,
                payload: payload.clone(),
            })
        });
        if !sent {
            return Outcome::NoCredit;
        }
        self.bytes = self.bytes.saturating_add(size);
        cx.stats.bytes_out += size as u64;
        self.told = cx.now;
        self.told_data = true;
        Outcome::Done
    }

    fn repair(&mut self, cx: &mut Cx, ring: &Ring) -> Outcome {
        while let Some(mut repair) = self.repairs.pop_front() {
            let Some(entry) = ring.entry(repair.slot) else {
                continue;
            };
            if repair.header {
                if !self.send_header(cx, entry, Priority::Live) {
                    self.repairs.push_front(repair);
                    return Outcome::NoCredit;
                }
                repair.header = false;
                if repair.chunks.is_empty() {
                    repair.chunks = (0..=u16::MAX).take(entry.count()).collect();
                }
            }
            while let Some(&index) = repair.chunks.front() {
                let outcome = self.send_chunk(cx, repair.slot, index, entry, Priority::Live);
                if outcome == Outcome::NoCredit {
                    self.repairs.push_front(repair);
                    return Outcome::NoCredit;
                }
                let size = entry.chunk(usize::from(index)).map_or(0, bytes::Bytes::len);
                self.repaired = self.repaired.saturating_add(size);
                repair.chunks.pop_front();
            }
        }
        Outcome::Done
    }
}
