//! Links: what is sent waits for bandwidth, travels, arrives in order, or is lost with
//! its link.
//!
//! A link is two directions. Each has the queues of the real driver, one for each
//! [`Priority`], and behind them a socket buffer: what is in it has a time of arrival and
//! is overtaken by nothing. Credit comes back when 64 KiB were written, or a while after
//! the queue is empty. (The real driver does so at once when its queue is empty: many more
//! inputs, and no other behaviour, since a link has far more credit than it lends out in
//! that while.) The receiver learns of a close after everything that was sent before it.

use std::collections::VecDeque;

use headwater_proto::{LinkVerifier, Message};
use headwater_protocol::{Priority, Time};

use crate::{checks::Ask, host::HostIx};

/// Credit of a link: the real driver's.
pub const CREDIT: usize = 512 * 1024;
/// Messages beside media that may wait; the real driver closes the link beyond.
pub const CONTROL_QUEUE: usize = 1024;
/// Written bytes are reported once they are this many: the real driver's.
const REPORT_BYTES: usize = 64 * 1024;
/// Fewer are reported this long after the writer has written them all.
const REPORT_AFTER: std::time::Duration = std::time::Duration::from_secs(2);
/// What is sent within this time meets the same queues on its way.
const BURST: std::time::Duration = std::time::Duration::from_millis(5);
/// What arrives on a link within this time is taken in together.
pub const TOGETHER: std::time::Duration = std::time::Duration::from_millis(1);
/// Bytes that the operating system takes in before it makes a writer wait.
const SOCKET_BYTES: u64 = 64 * 1024;
/// No message.
const NONE: u32 = u32::MAX;

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirIx {
    index: u32,
    generation: u32,
}

/// What travels.
#[derive(Debug)]
pub enum Parcel {
    /// A message.
    Message(Message),
    /// The end of the link.
    Close,
}

#[derive(Debug)]
struct Slot {
    parcel: Option<Parcel>,
    arrives: Time,
    next: u32,
}

/// See the module. There are many, and each message looks at some of them, so none is on
/// more lines of memory than it has to be.
#[derive(Debug)]
#[repr(align(64))]
pub struct Dir {
    /// Who sends.
    pub from: HostIx,
    /// Who receives.
    pub to: HostIx,
    /// The other direction.
    pub back: DirIx,
    /// The sender has it open.
    pub open: bool,
    /// What arrives is dropped: the receiver has closed it or is gone.
    pub deaf: bool,
    /// Requests of the receiver that the sender owes something.
    pub asks: Vec<Ask>,
    /// Checks what comes of hostile senders, as the real driver checks all.
    pub verifier: Option<Box<LinkVerifier>>,
    /// Bytes of media that were sent and whose credit is not given back.
    pub in_flight: usize,
    generation: u32,
    latency_us: u32,
    kbps: u32,
    busy: Time,
    last_arrival: Time,
    /// What queues on the way hold back at present, in microseconds.
    jitter_us: u32,
    /// Since when that is known.
    jitter_since: Time,
    head: u32,
    tail: u32,
    waiting: Option<Box<Waiting>>,
    unreported: u32,
    report_at: Option<Time>,
}

#[derive(Debug, Default)]
struct Waiting {
    classes: [VecDeque<Parcel>; 5],
    control: usize,
}

/// What has to be looked at again, and when.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The first message on the way arrives.
    pub arrival: Option<Time>,
    /// Credit is given back.
    pub report: Option<Time>,
    /// Waiting messages find room.
    pub drain: Option<Time>,
    /// More control messages wait than the real driver would let.
    pub overflow: bool,
}

/// What a sender's access line is busy with.
#[derive(Debug, Clone, Copy)]
pub struct Uplink {
    /// Until when.
    pub busy: Time,
    /// How fast it is, kbit/s.
    pub kbps: u64,
}

/// All links of a world.
#[derive(Debug, Default)]
pub struct Net {
    dirs: Vec<Dir>,
    free: Vec<u32>,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
}

impl Net {
    /// Makes a link; the directions from `a` and from `b`.
    pub fn link(
        &mut self,
        a: HostIx,
        b: HostIx,
        latency_us: u64,
        kbps: u64,
        now: Time,
    ) -> (DirIx, DirIx) {
        let there = self.take(a, b, latency_us, kbps, now);
        let back = self.take(b, a, latency_us, kbps, now);
        self.dirs[there.index as usize].back = back;
        self.dirs[back.index as usize].back = there;
        (there, back)
    }

    /// The direction, unless its link is gone.
    #[must_use]
    pub fn get(&self, dir: DirIx) -> Option<&Dir> {
        let found = self.dirs.get(dir.index as usize)?;
        (found.generation == dir.generation).then_some(found)
    }

    /// The direction, unless its link is gone.
    pub fn get_mut(&mut self, dir: DirIx) -> Option<&mut Dir> {
        let found = self.dirs.get_mut(dir.index as usize)?;
        (found.generation == dir.generation).then_some(found)
    }

    /// Reads what is looked at when something happens to a direction.
    #[must_use]
    pub fn peek(&self, dir: DirIx) -> u64 {
        self.dirs.get(dir.index as usize).map_or(0, |dir| {
            let first = u64::from(dir.generation) ^ u64::from(dir.head) ^ u64::from(dir.open);
            first ^ dir.busy.as_micros() ^ dir.asks.len() as u64 ^ dir.in_flight as u64
        })
    }

    /// Reads what comes next in a direction.
    #[must_use]
    pub fn peek_first(&self, dir: &Dir) -> u64 {
        let first = self.slots.get(dir.head as usize);
        first.map_or(0, |slot| {
            u64::from(slot.parcel.is_some()) ^ slot.arrives.as_micros()
        })
    }

    /// Every direction that there is.
    pub fn iter(&self) -> impl Iterator<Item = &Dir> {
        self.dirs.iter().filter(|dir| dir.open || !dir.deaf)
    }

    /// Sends something of `size` bytes, of which `cost` are charged to the credit.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a property of the message"
    )]
    pub fn send(
        &mut self,
        dir: DirIx,
        now: Time,
        parcel: Parcel,
        size: usize,
        cost: usize,
        priority: Priority,
        uplink: &mut Uplink,
        jitter: u64,
    ) -> Due {
        let mut due = Due::default();
        let Some(d) = self.get_mut(dir) else {
            return due;
        };
        d.in_flight += cost;
        let full = d.backlog(now, uplink) >= buffer_us(d.kbps().min(uplink.kbps));
        if full || d.waiting.is_some() {
            let idle = d.waiting.is_none();
            let waiting = d.waiting.get_or_insert_default();
            if priority <= Priority::Playlist {
                waiting.control += 1;
                due.overflow = waiting.control > CONTROL_QUEUE;
            }
            waiting.classes[priority as usize].push_back(parcel);
            if idle {
                due.drain = Some(d.next_drain(now, uplink));
            }
            return due;
        }
        self.commit(dir, now, parcel, size, cost, uplink, jitter, &mut due);
        due
    }

    /// Moves what waits into the socket buffer, most urgent first.
    pub fn drain(
        &mut self,
        dir: DirIx,
        now: Time,
        uplink: &mut Uplink,
        measure: impl Fn(&Parcel) -> (usize, usize),
        mut jitter: impl FnMut() -> u64,
    ) -> Due {
        let mut due = Due::default();
        loop {
            let Some(d) = self.get_mut(dir) else {
                return due;
            };
            let full = d.backlog(now, uplink) >= buffer_us(d.kbps().min(uplink.kbps));
            let Some(waiting) = &mut d.waiting else {
                return due;
            };
            let Some(class) = waiting.classes.iter().position(|class| !class.is_empty()) else {
                d.waiting = None;
                return due;
            };
            if full {
                due.drain = Some(d.next_drain(now, uplink));
                return due;
            }
            let Some(parcel) = waiting.classes[class].pop_front() else {
                return due;
            };
            if class <= Priority::Playlist as usize {
                waiting.control -= 1;
            }
            let (size, cost) = measure(&parcel);
            let jitter = jitter();
            self.commit(dir, now, parcel, size, cost, uplink, jitter, &mut due);
        }
    }

    /// Credit to give back to the sender now.
    pub fn report(&mut self, dir: DirIx, now: Time) -> usize {
        let Some(d) = self.get_mut(dir) else {
            return 0;
        };
        // An earlier report took its place, unless the sender was frozen when it was due.
        if d.report_at.is_none_or(|at| at > now) {
            return 0;
        }
        d.report_at = None;
        let credit = std::mem::take(&mut d.unreported) as usize;
        d.in_flight -= credit;
        credit
    }

    /// What arrives next, unless after `now`, and when something arrives after it.
    pub fn arrive(&mut self, dir: DirIx, now: Time) -> (Option<Parcel>, Option<Time>) {
        let Some(d) = self.get(dir) else {
            return (None, None);
        };
        let index = d.head;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return (None, None);
        };
        if slot.arrives > now {
            return (None, Some(slot.arrives));
        }
        let parcel = slot.parcel.take();
        let next = slot.next;
        self.free_slots.push(index);
        let after = self.slots.get(next as usize).map(|slot| slot.arrives);
        if let Some(d) = self.get_mut(dir) {
            d.head = next;
            if next == NONE {
                d.tail = NONE;
            }
        }
        (parcel, after)
    }

    /// The sender closes its direction and hears nothing on the other; what it sent
    /// before still arrives when `kept`. Returns when the end arrives, if it is next.
    pub fn close(&mut self, dir: DirIx, now: Time, kept: bool) -> Option<Time> {
        let d = self.get_mut(dir)?;
        if !d.open {
            return None;
        }
        d.open = false;
        let (back, latency) = (d.back, d.latency_us());
        d.waiting = None;
        let dead = d.deaf;
        if let Some(back) = self.get_mut(back) {
            back.deaf = true;
        }
        if !kept {
            self.drop_parcels(dir);
        }
        let other_open = self.get(back).is_some_and(|back| back.open);
        if dead && !other_open {
            self.free(dir);
            return None;
        }
        let d = self.get_mut(dir)?;
        let first = d.head == NONE;
        let arrives = d.last_arrival.max(now + micros(latency));
        self.append(dir, Parcel::Close, arrives);
        first.then_some(arrives)
    }

    /// The sender is gone without a word: it hears nothing, and nobody is told.
    pub fn silence(&mut self, dir: DirIx) {
        let Some(d) = self.get_mut(dir) else {
            return;
        };
        d.open = false;
        d.waiting = None;
        let (back, dead) = (d.back, d.deaf);
        if let Some(back) = self.get_mut(back) {
            back.deaf = true;
        }
        if dead {
            self.free(dir);
        }
    }

    /// Forgets both directions of a link that is closed on both sides.
    pub fn free(&mut self, dir: DirIx) {
        let Some(d) = self.get(dir) else {
            return;
        };
        for dir in [dir, d.back] {
            self.drop_parcels(dir);
            if let Some(d) = self.get_mut(dir) {
                d.generation += 1;
                d.open = false;
                d.deaf = true;
                d.asks = Vec::new();
                d.waiting = None;
                d.verifier = None;
                self.free.push(dir.index);
            }
        }
    }

    /// Directions in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dirs.len() - self.free.len()
    }

    /// Whether there is no link.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&mut self, from: HostIx, to: HostIx, latency_us: u64, kbps: u64, now: Time) -> DirIx {
        let fresh = |generation| Dir {
            from,
            to,
            back: DirIx {
                index: 0,
                generation: 0,
            },
            open: true,
            deaf: false,
            asks: Vec::new(),
            verifier: None,
            in_flight: 0,
            generation,
            latency_us: saturated(latency_us),
            kbps: saturated(kbps),
            busy: now,
            last_arrival: now,
            jitter_us: 0,
            jitter_since: Time::default(),
            head: NONE,
            tail: NONE,
            waiting: None,
            unreported: 0,
            report_at: None,
        };
        if let Some(index) = self.free.pop() {
            let generation = self.dirs[index as usize].generation;
            self.dirs[index as usize] = fresh(generation);
            return DirIx { index, generation };
        }
        let index = u32::try_from(self.dirs.len()).expect("a world has fewer links than 2^31");
        self.dirs.push(fresh(0));
        DirIx {
            index,
            generation: 0,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is a property of the message"
    )]
    fn commit(
        &mut self,
        dir: DirIx,
        now: Time,
        parcel: Parcel,
        size: usize,
        cost: usize,
        uplink: &mut Uplink,
        jitter: u64,
        due: &mut Due,
    ) {
        let Some(d) = self.get_mut(dir) else {
            return;
        };
        let bits = size as u64 * 8000;
        uplink.busy = uplink.busy.max(now) + micros(bits / uplink.kbps);
        let sent = (d.busy.max(now) + micros(bits / d.kbps())).max(uplink.busy);
        d.busy = sent;
        if cost > 0 {
            d.unreported += saturated(cost as u64);
            // What is in the socket buffer counts as written.
            let many = d.unreported as usize >= REPORT_BYTES;
            let at = if many { now } else { now + REPORT_AFTER };
            if d.report_at.is_none_or(|known| many && known > at) {
                d.report_at = Some(at);
                due.report = Some(due.report.map_or(at, |known| known.min(at)));
            }
        }
        // What is sent at once meets the same queues on its way.
        if now > d.jitter_since + BURST {
            d.jitter_since = now;
            d.jitter_us = saturated(jitter);
        }
        let arrives = d
            .last_arrival
            .max(sent + micros(d.latency_us() + u64::from(d.jitter_us)));
        let first = d.head == NONE;
        self.append(dir, parcel, arrives);
        if first {
            due.arrival = Some(arrives);
        }
    }

    fn append(&mut self, dir: DirIx, parcel: Parcel, arrives: Time) {
        let slot = Slot {
            parcel: Some(parcel),
            arrives,
            next: NONE,
        };
        let index = if let Some(index) = self.free_slots.pop() {
            self.slots[index as usize] = slot;
            index
        } else {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 messages are on the way")
        };
        let Some(d) = self.get_mut(dir) else {
            return;
        };
        d.last_arrival = arrives;
        let tail = std::mem::replace(&mut d.tail, index);
        if tail == NONE {
            d.head = index;
        } else {
            self.slots[tail as usize].next = index;
        }
    }

    fn drop_parcels(&mut self, dir: DirIx) {
        let Some(d) = self.get_mut(dir) else {
            return;
        };
        let mut index = std::mem::replace(&mut d.head, NONE);
        d.tail = NONE;
        while let Some(slot) = self.slots.get_mut(index as usize) {
            slot.parcel = None;
            self.free_slots.push(index);
            index = slot.next;
        }
    }
}

impl Dir {
    /// One way, without jitter.
    #[must_use]
    pub fn latency_us(&self) -> u64 {
        u64::from(self.latency_us)
    }

    fn kbps(&self) -> u64 {
        u64::from(self.kbps)
    }

    /// How long what is in the socket buffer takes, in microseconds.
    fn backlog(&self, now: Time, uplink: &Uplink) -> u64 {
        self.busy
            .max(uplink.busy)
            .as_micros()
            .saturating_sub(now.as_micros())
    }

    /// When half of the socket buffer is free.
    fn next_drain(&self, now: Time, uplink: &Uplink) -> Time {
        let half = buffer_us(self.kbps().min(uplink.kbps)) / 2;
        now + micros(self.backlog(now, uplink).saturating_sub(half).max(1))
    }
}

const fn buffer_us(kbps: u64) -> u64 {
    SOCKET_BYTES * 8000 / kbps
}

/// What a link is or has is kept in 32 bits: its latency stays below an hour, its rate below
/// 4 Tbit/s, and what it owes below 4 GiB.
fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const fn micros(micros: u64) -> std::time::Duration {
    std::time::Duration::from_micros(micros)
}
