//! TranscodeSub at the broadcaster: how far the claims of one transcoder to one job have
//! come, and what it gets for them.
//!
//! | state | claims | who is fed | dials |
//! |---|---|---|---|
//! | [`Grant::None`] | none has come, or none that held | nobody | none |
//! | [`Grant::Asked`] | the driver checks one, signature, expiry and assignment; the newest of those that came since waits for its turn | nobody: who subscribed with one is told Pending | none |
//! | [`Grant::Held`] | one has held. The same again, by another way, needs no check for [`REPEATED`] | who came with that claim, and the transcoder over a link of its own | of the claim's addresses when it is granted, while the transcoder is not linked and no dial is under way, at most [`crate::Config::max_dials_per_minute`] |
//! | [`Grant::Renewed`] | one has held, and the driver checks a newer one: for fresh addresses, or by another way | as in Held; others who came with the newer one are told Pending | one that is under way goes on |
//! | [`Grant::Past`] | one has held, and its job is not the transcoder's any more, or the stream is over; its sequence and the dials of the last minute are remembered | nobody | none |
//!
//! | from | to | when |
//! |---|---|---|
//! | None | Asked | a claim to an open stream of this node comes |
//! | Past | Asked | the same, with a sequence above that of the one that had held |
//! | Asked | Held | it holds: who waits for it is fed, its addresses are dialled |
//! | Asked | None, Past | it does not hold, and none waits; the job is revoked or the stream is over, so that its check counts for nothing |
//! | Held | Renewed | one with a greater sequence comes |
//! | Renewed | Held | it holds and takes the old one's place, and its addresses are dialled; or it does not hold, and the old one stays |
//! | Held, Renewed | Past | the job is revoked, or the stream is over |
//! | Past | None | there is no room for all that are remembered, and it is the one longest ago |
//!
//! A claim that is not newer than the last that held is a replay: it is dropped and
//! counted, and nothing is checked, fed or dialled for it. While one holds, a claim to another
//! stream does not: a job has one. What holds is never forgotten to
//! make room. A grant does not expire as its claim does: it lasts as long as the job, which
//! the driver ends with [`crate::Command::RevokeClaim`].

use std::{collections::VecDeque, time::Duration};

use headwater_proto::{StreamId, TranscodeClaim};

use crate::{input::DialId, streams::SignedClaim, time::Time};

/// For so long the claim that has held may come again by another way.
pub(super) const REPEATED: Duration = Duration::from_secs(10);
/// Dials are counted over this long.
const DIAL_WINDOW: Duration = Duration::from_secs(60);

/// How far the claims of one transcoder to one job have come at their broadcaster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// None has come, or none that held is remembered.
    #[default]
    None,
    /// The first is being checked.
    Asked,
    /// One has held: the transcoder is fed.
    Held,
    /// One has held, and a newer one is being checked.
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
            Self::Asked => matches!(to, Self::None | Self::Held | Self::Past),
            Self::Held => matches!(to, Self::Renewed | Self::Past),
            Self::Renewed => matches!(to, Self::Held | Self::Past),
            Self::Past => matches!(to, Self::None | Self::Asked),
        }
    }
}

/// Names a claim that came, towards its check and those who subscribed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClaimId(pub(crate) u64);

/// A claim that has not been checked.
#[derive(Debug)]
pub(super) struct Unchecked {
    pub(super) id: ClaimId,
    pub(super) claim: SignedClaim,
}

/// What the driver checks.
#[derive(Debug)]
pub(super) struct Check {
    now: Unchecked,
    /// The newest that came since.
    next: Option<Unchecked>,
}

impl Check {
    pub(super) const fn new(now: Unchecked) -> Self {
        Self { now, next: None }
    }

    fn all(&self) -> impl Iterator<Item = &Unchecked> {
        std::iter::once(&self.now).chain(&self.next)
    }

    fn find(&self, claim: &SignedClaim) -> Option<ClaimId> {
        let mut all = self.all();
        all.find(|known| known.claim == *claim)
            .map(|known| known.id)
    }

    /// Lets a claim wait for its turn, or gives it back when a newer one waits already. What
    /// it takes the place of is given back too.
    fn queue(&mut self, claim: Unchecked) -> Option<Unchecked> {
        match &self.next {
            Some(next) if next.claim.0.sequence >= claim.claim.0.sequence => Some(claim),
            Some(_) | None => self.next.replace(claim),
        }
    }
}

#[derive(Debug)]
enum State {
    Asked {
        check: Check,
        /// Sequence of the one that held before.
        last: Option<u64>,
    },
    Held {
        claim: TranscodeClaim,
        /// Since when it holds.
        since: Time,
        dialling: Option<DialId>,
        check: Option<Check>,
    },
    Past {
        last: u64,
    },
}

/// One transcoder and job of which a claim came.
#[derive(Debug)]
pub(super) struct Entry {
    state: State,
    /// When it was dialled in the last minute.
    dials: VecDeque<Time>,
    /// When a new claim came last.
    pub(super) touched: Time,
}

/// What a claim is, next to those known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has held.
    Held,
    /// It is being checked, or waits for it.
    Unchecked(ClaimId),
    /// It is not newer than one that has held.
    Replayed,
    /// It is to another stream than the one that holds, and a job has one.
    Other,
    /// It is new.
    New,
}

/// What came of the answer to a check.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What it is now; `None` when nothing is to be remembered.
    pub(super) entry: Option<Entry>,
    /// What was checked.
    pub(super) checked: Unchecked,
    /// What is to be checked next.
    pub(super) next: Option<Unchecked>,
}

impl Entry {
    /// The first claim is checked.
    pub(super) const fn asked(claim: Unchecked, now: Time) -> Self {
        Self {
            state: State::Asked {
                check: Check::new(claim),
                last: None,
            },
            dials: VecDeque::new(),
            touched: now,
        }
    }

    pub(super) const fn grant(&self) -> Grant {
        match &self.state {
            State::Asked { .. } => Grant::Asked,
            State::Held { check: None, .. } => Grant::Held,
            State::Held { check: Some(_), .. } => Grant::Renewed,
            State::Past { .. } => Grant::Past,
        }
    }

    /// The stream that it is fed with.
    pub(super) fn fed(&self) -> Option<&StreamId> {
        match &self.state {
            State::Held { claim, .. } => Some(&claim.stream),
            State::Asked { .. } | State::Past { .. } => None,
        }
    }

    const fn check(&self) -> Option<&Check> {
        match &self.state {
            State::Asked { check, .. } => Some(check),
            State::Held { check, .. } => check.as_ref(),
            State::Past { .. } => None,
        }
    }

    /// The claims that have not been checked.
    pub(super) fn unchecked(&self) -> impl Iterator<Item = &Unchecked> {
        self.check().into_iter().flat_map(Check::all)
    }

    /// Whether it has to do with a stream.
    pub(super) fn concerns(&self, stream: &StreamId) -> bool {
        let mut unchecked = self.unchecked();
        self.fed() == Some(stream) || unchecked.any(|one| one.claim.0.stream == *stream)
    }

    /// Sequence of the last claim that held.
    const fn last(&self) -> Option<u64> {
        match &self.state {
            State::Asked { last, .. } => *last,
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
        let known = self.check().and_then(|check| check.find(claim));
        known.map_or(Known::New, Known::Unchecked)
    }

    /// Whether the driver is asked about one already.
    pub(super) const fn is_checking(&self) -> bool {
        self.check().is_some()
    }

    /// The driver has been asked about a newer claim.
    pub(super) fn renew(&mut self, claim: Unchecked) {
        let last = self.last();
        match &mut self.state {
            State::Held { check, .. } => *check = Some(Check::new(claim)),
            State::Asked { .. } | State::Past { .. } => {
                let check = Check::new(claim);
                self.state = State::Asked { check, last };
            }
        }
    }

    /// A newer claim waits for its turn; returns which one does not.
    pub(super) fn queue(&mut self, claim: Unchecked) -> Option<Unchecked> {
        match &mut self.state {
            State::Asked { check, .. }
            | State::Held {
                check: Some(check), ..
            } => check.queue(claim),
            State::Held { check: None, .. } | State::Past { .. } => Some(claim),
        }
    }

    /// The driver's answer about a claim. One that nobody waits for any more changes
    /// nothing: the entry comes back.
    pub(super) fn answered(
        mut self,
        id: ClaimId,
        holds: bool,
        now: Time,
    ) -> Result<Outcome, Box<Self>> {
        let (check, state) = match self.state {
            State::Asked { check, last } if check.now.id == id => {
                (check, last.map(|last| State::Past { last }))
            }
            State::Held {
                claim,
                since,
                dialling,
                check: Some(check),
            } if check.now.id == id => {
                let held = State::Held {
                    claim,
                    since,
                    dialling,
                    check: None,
                };
                (check, Some(held))
            }
            state @ (State::Asked { .. } | State::Held { .. } | State::Past { .. }) => {
                self.state = state;
                return Err(Box::new(self));
            }
        };
        let Check { now: checked, next } = check;
        let dialling = match &state {
            Some(State::Held { dialling, .. }) => *dialling,
            Some(State::Asked { .. } | State::Past { .. }) | None => None,
        };
        let state = if holds {
            Some(State::Held {
                claim: checked.claim.0.clone(),
                since: now,
                dialling,
                check: None,
            })
        } else {
            state
        };
        let (dials, touched) = (self.dials, self.touched);
        let entry = state.map(|state| Self {
            state,
            dials,
            touched,
        });
        Ok(Outcome {
            entry,
            checked,
            next,
        })
    }

    /// Nothing is fed or checked any more; `None` when there is nothing to remember.
    pub(super) fn end(self) -> Option<Self> {
        let last = self.last()?;
        Some(Self {
            state: State::Past { last },
            ..self
        })
    }

    /// Whether the transcoder may be dialled now.
    pub(super) fn may_dial(&mut self, most: usize, now: Time) -> bool {
        while (self.dials.front()).is_some_and(|at| now.since(*at) > DIAL_WINDOW) {
            self.dials.pop_front();
        }
        let rests = match &self.state {
            State::Held { dialling, .. } => dialling.is_none(),
            State::Asked { .. } | State::Past { .. } => false,
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
