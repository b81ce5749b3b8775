//! TranscodeSub at the broadcaster: how far the claims of one transcoder to one job have
//! come, and what it gets for them.
//!
//! | state | claims | who is fed | dials |
//! |---|---|---|---|
//! | [`Grant::None`] | none has come, or none that held | nobody | none |
//! | [`Grant::Asked`] | the driver checks some: signature, expiry and assignment | nobody: who subscribed with one is told Pending | none |
//! | [`Grant::Held`] | one has held. The same again, by another way, needs no check for [`REPEATED`] | who came with that claim, and the transcoder over a link of its own | of the claim's addresses when it is granted, while the transcoder is not linked and no dial is under way, at most [`crate::Config::max_dials_per_minute`] |
//! | [`Grant::Renewed`] | one has held, and the driver checks newer ones: for fresh addresses, or by another way | as in Held; others who came with a newer one are told Pending | one that is under way goes on |
//! | [`Grant::Past`] | one has held, and its job is not the transcoder's any more, or the stream is over; its sequence and the dials of the last minute are remembered | nobody | none |
//!
//! | from | to | when |
//! |---|---|---|
//! | None | Asked | a claim to an open stream of this node comes |
//! | Past | Asked | the same, with a sequence above that of the one that had held |
//! | Asked | Held, Renewed | one holds: who waits for it is fed, its addresses are dialled |
//! | Asked | None, Past | the last that was checked does not hold; the job is revoked or the stream is over, so that its checks count for nothing |
//! | Held | Renewed | one with a greater sequence comes |
//! | Renewed | Held | the last that was checked holds and takes the old one's place, and its addresses are dialled; or it does not hold, and the old one stays |
//! | Held, Renewed | Past | the job is revoked, or the stream is over |
//! | Past | None | there is no room for all that are remembered, and it is the one longest ago |
//!
//! A claim that is not newer than the last that held is a replay: it is dropped and
//! counted, and nothing is checked, fed or dialled for it. Anybody can make one up that does
//! not hold, with any sequence, so nothing follows from a claim before its check has come
//! out: all that are new are checked side by side, [`CHECKS`] for each neighbour that they
//! come from. While one holds, a claim to another
//! stream does not: a job has one. What holds is never forgotten to
//! make room. A grant does not expire as its claim does: it lasts as long as the job, which
//! the driver ends with [`crate::Command::RevokeClaim`].

use std::{collections::VecDeque, time::Duration};

use headwater_proto::{NodeId, StreamId, TranscodeClaim};

use crate::{input::DialId, streams::SignedClaim, time::Time};

/// For so long the claim that has held may come again by another way.
pub(super) const REPEATED: Duration = Duration::from_secs(10);
/// Claims that came from one neighbour and are being checked, at most. A relay brings those
/// of many; whoever makes claims up fills the room of the neighbours that he has.
pub(super) const CHECKS: usize = 16;
/// Dials are counted over this long.
const DIAL_WINDOW: Duration = Duration::from_secs(60);

/// How far the claims of one transcoder to one job have come at their broadcaster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// None has come, or none that held is remembered.
    #[default]
    None,
    /// Some are being checked, none holds.
    Asked,
    /// One has held: the transcoder is fed.
    Held,
    /// One has held, and newer ones are being checked.
    Renewed,
    /// One has held, and does no more.
    Past,
}

impl Grant {
    /// Whether the transcoder may be fed.
    #[must_use]
    pub const fn is_fed(self) -> bool {
        match self {
            Self::Held | Self::Renewed => true,
            Self::None | Self::Asked | Self::Past => false,
        }
    }

    /// Whether one state may change to another at once.
    #[must_use]
    pub const fn leads_to(self, to: Self) -> bool {
        match self {
            Self::None => matches!(to, Self::Asked),
            Self::Asked => matches!(to, Self::None | Self::Held | Self::Renewed | Self::Past),
            Self::Held => matches!(to, Self::Renewed | Self::Past),
            Self::Renewed => matches!(to, Self::Held | Self::Past),
            Self::Past => matches!(to, Self::None | Self::Asked),
        }
    }
}

/// Names a claim that came, towards its check and those who subscribed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClaimId(pub(crate) u64);

/// A claim that is being checked.
#[derive(Debug)]
pub(super) struct Unchecked {
    pub(super) id: ClaimId,
    pub(super) claim: SignedClaim,
    /// The neighbour that it came from.
    pub(super) from: NodeId,
}

#[derive(Debug)]
enum State {
    /// None has held.
    New,
    Held {
        claim: TranscodeClaim,
        /// Since when it holds.
        since: Time,
        dialling: Option<DialId>,
    },
    Past {
        /// Sequence of the one that held.
        last: u64,
    },
}

/// One transcoder and job of which a claim came.
#[derive(Debug)]
pub(super) struct Entry {
    state: State,
    /// What the driver checks.
    checks: Vec<Unchecked>,
    /// When it was dialled in the last minute.
    dials: VecDeque<Time>,
    /// When a claim held last, or did so no more.
    pub(super) touched: Time,
}

/// What a claim is, next to those known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has held.
    Held,
    /// It is being checked.
    Unchecked(ClaimId),
    /// It is not newer than one that has held.
    Replayed,
    /// It is to another stream than the one that holds, and a job has one.
    Other,
    /// It is new.
    New,
}

impl Entry {
    /// No claim has come.
    pub(super) const fn new(now: Time) -> Self {
        Self {
            state: State::New,
            checks: Vec::new(),
            dials: VecDeque::new(),
            touched: now,
        }
    }

    pub(super) const fn grant(&self) -> Grant {
        match (&self.state, self.checks.is_empty()) {
            (State::New, true) => Grant::None,
            (State::New | State::Past { .. }, false) => Grant::Asked,
            (State::Held { .. }, true) => Grant::Held,
            (State::Held { .. }, false) => Grant::Renewed,
            (State::Past { .. }, true) => Grant::Past,
        }
    }

    /// The stream that it is fed with.
    pub(super) fn fed(&self) -> Option<&StreamId> {
        match &self.state {
            State::Held { claim, .. } => Some(&claim.stream),
            State::New | State::Past { .. } => None,
        }
    }

    /// The claims that are being checked.
    pub(super) fn unchecked(&self) -> &[Unchecked] {
        &self.checks
    }

    /// Sequence of the last claim that held.
    const fn last(&self) -> Option<u64> {
        match &self.state {
            State::New => None,
            State::Held { claim, .. } => Some(claim.sequence),
            State::Past { last } => Some(*last),
        }
    }

    /// What a claim is that has come.
    pub(super) fn knows(&self, claim: &SignedClaim, now: Time) -> Known {
        if let State::Held {
            claim: held, since, ..
        } = &self.state
            && *held == claim.0
            && now.since(*since) <= REPEATED
        {
            return Known::Held;
        }
        if self.last().is_some_and(|last| claim.0.sequence <= last) {
            return Known::Replayed;
        }
        if self.fed().is_some_and(|fed| *fed != claim.0.stream) {
            return Known::Other;
        }
        let known = self.checks.iter().find(|one| one.claim == *claim);
        known.map_or(Known::New, |known| Known::Unchecked(known.id))
    }

    /// The driver has been asked about a claim.
    pub(super) fn check(&mut self, claim: Unchecked) {
        self.checks.push(claim);
    }

    /// The driver's answer about a claim: which one that is, and whether it holds now.
    /// `None` when nobody waits for the answer any more.
    pub(super) fn answered(
        &mut self,
        id: ClaimId,
        holds: bool,
        now: Time,
    ) -> Option<(Unchecked, bool)> {
        let index = self.checks.iter().position(|one| one.id == id)?;
        let checked = self.checks.remove(index);
        // Another may have held meanwhile.
        let holds = holds && self.knows(&checked.claim, now) == Known::New;
        if holds {
            let dialling = match &self.state {
                State::Held { dialling, .. } => *dialling,
                State::New | State::Past { .. } => None,
            };
            self.state = State::Held {
                claim: checked.claim.0.clone(),
                since: now,
                dialling,
            };
            self.touched = now;
        }
        Some((checked, holds))
    }

    /// Nothing is fed or checked any more; returns what was being checked.
    pub(super) fn end(&mut self, now: Time) -> Vec<Unchecked> {
        if let Some(last) = self.last() {
            self.state = State::Past { last };
            self.touched = now;
        }
        std::mem::take(&mut self.checks)
    }

    /// Nothing of a stream is fed or checked any more; returns what was being checked of it.
    pub(super) fn over(&mut self, stream: &StreamId, now: Time) -> Vec<Unchecked> {
        let of_it = |one: &mut Unchecked| one.claim.0.stream == *stream;
        let over = self.checks.extract_if(.., of_it).collect();
        if let State::Held { claim, .. } = &self.state
            && claim.stream == *stream
        {
            let last = claim.sequence;
            self.state = State::Past { last };
            self.touched = now;
        }
        over
    }

    /// Whether the transcoder may be dialled now.
    pub(super) fn may_dial(&mut self, most: usize, now: Time) -> bool {
        while (self.dials.front()).is_some_and(|at| now.since(*at) > DIAL_WINDOW) {
            self.dials.pop_front();
        }
        let rests = match &self.state {
            State::Held { dialling, .. } => dialling.is_none(),
            State::New | State::Past { .. } => false,
        };
        rests && self.dials.len() < most
    }

    /// The transcoder is dialled.
    pub(super) fn dial(&mut self, dial: DialId, now: Time) {
        if let State::Held { dialling, .. } = &mut self.state {
            *dialling = Some(dial);
            self.dials.push_back(now);
        }
    }

    /// A dial has ended.
    pub(super) fn dialled(&mut self, dial: DialId) {
        if let State::Held { dialling, .. } = &mut self.state
            && *dialling == Some(dial)
        {
            *dialling = None;
        }
    }
}
