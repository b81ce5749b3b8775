//! TranscodeSub at the transcoder: how far the feed of a stream's jobs has come, and what
//! is done about it.
//!
//! | stage | who feeds | what goes on |
//! |---|---|---|
//! | [`Stage::Idle`] | nobody | no job takes the stream, or it has ended and all of it is here |
//! | [`Stage::Searching`] | nobody | a claim is made, somebody is looked for, or it is the pause before the next attempt ([`crate::Config::job_retry`], jittered) |
//! | [`Stage::Asked`] | nobody | a TranscodeSub is out; a fresh claim renews it while its answer is Pending ([`crate::Config::job_retry`]); the broadcaster is asked besides when its own link comes up |
//! | [`Stage::Relayed`] | relays | claims go beside the subscription until the broadcaster has dialled ([`crate::Config::claim_refresh`]) |
//! | [`Stage::Offered`] | relays | the broadcaster's own link is up, and it is asked over it besides |
//! | [`Stage::Both`] | both | what each brings first is counted, for at most [`crate::Config::rival_window`] |
//! | [`Stage::Passed`] | relays | the link is up, but was slower or failed; it is tried again after [`crate::Config::direct_again`] |
//! | [`Stage::Direct`] | the broadcaster | nothing |
//!
//! | from | to | when |
//! |---|---|---|
//! | Idle | Searching | a job begins |
//! | Idle | Relayed, Direct | a job begins at a node that has the stream already |
//! | Searching | Asked | the claim is made and somebody is there to ask |
//! | Asked | Searching | refused, silent, gone, or Pending for [`crate::Config::pending_patience`], and nobody else is asked |
//! | Asked | Relayed, Direct | the first of those asked is live |
//! | Asked | Offered | relays that had lost the stream have it again, and the broadcaster was asked before |
//! | Relayed | Offered | the broadcaster's link comes up; also when the time of Passed is over |
//! | Offered | Both | it is live |
//! | Offered | Passed | it refuses or is silent for [`crate::Config::parent_silence`] |
//! | Both | Direct | it brought two of five chunks first, or more |
//! | Both | Passed | it did not, or fell silent |
//! | Both, Offered | Direct | the relays are lost, or asked to be left |
//! | Relayed, Passed | Direct | the relays asked to be left for the broadcaster, or brought nothing, and it was tried besides for that |
//! | Direct | Passed | no part came ([`crate::Config::stall`]) and another that was tried besides brought one |
//! | Direct, Relayed, Passed | Asked, Searching | whoever feeds is lost; claims are made anew at once when the direct link is |
//! | Offered, Both, Passed | Relayed | the broadcaster's link is lost |
//! | any | Idle | the last job stops, or the stream has ended and all of it is here |
//!
//! Other changes are two of these at the same instant, by way of a stage that lasts no
//! time: [`Stage::leads_to`] has them all.
//!
//! The stage is not kept beside the parents and told of what happens to them, for then
//! each change would have to be told, and one forgotten would leave the two at odds for
//! good. It is read off the parents and the links whenever the stream is settled, and
//! what has to be done follows from the stage alone: a link that came up while something
//! else was tried is not forgotten. A part is taken from anybody and each once, so the
//! ring needs to know nothing of stages. The broadcaster's half is in `feed`.

use super::{
    stream::{Source, Stream},
    upstream::{Rivalry, Role, close_up},
};
use crate::{cx::Cx, output::Event, time::Time};

/// Who feeds the jobs of a stream, and what is tried besides.
///
/// The broadcaster is preferred, and it takes over without a break: relays go on until it
/// has shown that it is no slower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// No job takes the stream, or all of it is here.
    #[default]
    Idle,
    /// Nobody feeds it and nobody has been asked to.
    Searching,
    /// Nobody feeds it; somebody has been asked to.
    Asked,
    /// Relays feed it.
    Relayed,
    /// Relays feed it; the broadcaster has been asked over a link of its own.
    Offered,
    /// Relays and the broadcaster feed it.
    Both,
    /// Relays feed it, for the broadcaster's own link was slower or failed.
    Passed,
    /// The broadcaster feeds it over a link of its own.
    Direct,
}

impl Stage {
    /// Whether somebody feeds the jobs.
    #[must_use]
    pub const fn is_fed(self) -> bool {
        match self {
            Self::Relayed | Self::Offered | Self::Both | Self::Passed | Self::Direct => true,
            Self::Idle | Self::Searching | Self::Asked => false,
        }
    }

    /// Whether a node's stage may change to another one at once.
    #[must_use]
    pub const fn leads_to(self, to: Self) -> bool {
        match self {
            Self::Idle => matches!(
                to,
                Self::Searching | Self::Asked | Self::Relayed | Self::Passed | Self::Direct
            ),
            Self::Searching => {
                matches!(to, Self::Idle | Self::Asked | Self::Relayed | Self::Direct)
            }
            Self::Asked => matches!(
                to,
                Self::Idle | Self::Searching | Self::Relayed | Self::Offered | Self::Direct
            ),
            Self::Relayed => matches!(
                to,
                Self::Idle | Self::Searching | Self::Asked | Self::Offered | Self::Direct
            ),
            Self::Offered => matches!(
                to,
                Self::Idle
                    | Self::Searching
                    | Self::Asked
                    | Self::Relayed
                    | Self::Both
                    | Self::Passed
                    | Self::Direct
            ),
            Self::Both => matches!(
                to,
                Self::Idle
                    | Self::Searching
                    | Self::Asked
                    | Self::Relayed
                    | Self::Passed
                    | Self::Direct
            ),
            Self::Passed => matches!(
                to,
                Self::Idle
                    | Self::Searching
                    | Self::Asked
                    | Self::Relayed
                    | Self::Offered
                    | Self::Direct
            ),
            Self::Direct => {
                matches!(
                    to,
                    Self::Idle | Self::Searching | Self::Asked | Self::Passed
                )
            }
        }
    }
}

impl Stream {
    /// How far the feed of its jobs has come.
    fn stage_now(&self, cx: &Cx) -> Stage {
        let Source::Remote(up) = &self.source else {
            return Stage::Idle;
        };
        if self.local.jobs.is_empty() || self.has_all() {
            return Stage::Idle;
        }
        let Some(feeder) = up.live() else {
            let asked = up.parents.iter().any(|p| p.role == Role::Feed);
            return if asked {
                Stage::Asked
            } else {
                Stage::Searching
            };
        };
        if feeder.peer == self.id.node {
            return Stage::Direct;
        }
        let rival = up.rival().map(|index| &up.parents[index]);
        match rival.filter(|p| p.role == Role::Rival(Rivalry::Direct)) {
            Some(direct) if direct.is_live() => Stage::Both,
            Some(_) => Stage::Offered,
            None if up.direct_at.is_some() && cx.links.contains(&self.id.node) => Stage::Passed,
            None => Stage::Relayed,
        }
    }

    /// Does what the present stage asks for.
    pub(crate) fn feed_jobs(&mut self, cx: &mut Cx) {
        if self.local.jobs.is_empty() && self.stage == Stage::Idle {
            return;
        }
        self.note_stage(cx);
        match self.stage {
            Stage::Relayed | Stage::Passed => self.ask_owner(cx),
            Stage::Both => self.judge_direct(cx),
            Stage::Asked => {
                // The relays have nothing any more, and the owner may have been asked besides.
                self.judge_direct(cx);
                self.ask_owner_too(cx);
            }
            Stage::Idle | Stage::Searching | Stage::Offered | Stage::Direct => {}
        }
        self.note_stage(cx);
    }

    /// Notes how far it has come, and what that means for the claims.
    fn note_stage(&mut self, cx: &mut Cx) {
        let linked = cx.links.contains(&self.id.node);
        let mut to = self.stage_now(cx);
        if to == self.stage {
            return;
        }
        if let Source::Remote(up) = &mut self.source {
            if !to.is_fed() || to == Stage::Direct || !linked {
                up.direct_at = None;
            } else if self.stage == Stage::Direct {
                // It stalled, and its link is still up.
                up.direct_at = Some(cx.now + cx.config.direct_again);
                to = Stage::Passed;
            }
        }
        let from = std::mem::replace(&mut self.stage, to);
        if !from.is_fed() && to.is_fed() {
            cx.jobs_fed.extend(&self.local.jobs);
        }
        match (from.is_fed(), to.is_fed()) {
            (_, true) if to == Stage::Direct || !from.is_fed() => self.claims_fed(cx),
            (_, false) => self.claims.unfed(cx, to),
            (true | false, true) => {}
        }
        cx.observe(Event::StageChanged {
            stream: self.id.clone(),
            from,
            to,
        });
    }

    /// Subscribes straight at the owner besides the present parent.
    fn ask_owner(&mut self, cx: &mut Cx) {
        let from = self.resume_from();
        let owner = self.id.node;
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let wait = up.direct_at.is_some_and(|at| at > cx.now);
        if wait || !cx.links.contains(&owner) || up.rival().is_some() {
            return;
        }
        match up.parents.iter().position(|p| p.peer == owner) {
            Some(index) if up.parents[index].is_standby() => {
                self.activate(cx, index, Rivalry::Direct);
            }
            // It was asked to feed when another one was.
            Some(_) => {}
            None => {
                let role = Role::Rival(Rivalry::Direct);
                up.subscribe(cx, self.key, &self.id, owner, from, role);
            }
        }
    }

    /// Asks the owner besides those who have nothing yet: whoever comes first feeds.
    fn ask_owner_too(&mut self, cx: &mut Cx) {
        let from = self.resume_from();
        let owner = self.id.node;
        let Source::Remote(up) = &self.source else {
            return;
        };
        let asked = up.has_parent(&owner) || up.tried.contains(&owner);
        if !asked && !up.is_live() && cx.links.contains(&owner) {
            self.subscribe(cx, owner, from);
        }
    }

    /// Decides between the owner's own link and the relays once it is clear.
    pub(crate) fn judge_direct(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let Some(index) = up.rival() else { return };
        let rival = &up.parents[index];
        if rival.role != Role::Rival(Rivalry::Direct) || !rival.is_live() {
            return;
        }
        let (direct, request) = (rival.firsts, rival.request);
        let Some(relayed) = up.live().map(|p| p.firsts) else {
            return self.promote(cx, index);
        };
        let total = direct.saturating_add(relayed);
        let over = rival.since + cx.config.rival_window <= cx.now;
        if total < cx.config.rival_chunks && !over {
            return;
        }
        // Two of five are enough for the direct link: it spares the relays.
        if u64::from(direct) * 5 >= u64::from(total) * 2 {
            return self.promote(cx, index);
        }
        let peer = self.id.node;
        up.parents.remove(index);
        close_up(cx, peer, request, true);
        self.pass_direct(cx.now + cx.config.direct_again);
    }

    /// A job has stopped. When it was the last, nobody chooses between the owner's own link
    /// and the relays any more, and who feeds goes on.
    pub(crate) fn end_measuring(&mut self, cx: &mut Cx) {
        let Source::Remote(up) = &mut self.source else {
            return;
        };
        let direct = |index: &usize| up.parents[*index].role == Role::Rival(Rivalry::Direct);
        if let Some(index) = up.rival().filter(direct)
            && self.local.jobs.is_empty()
        {
            let rival = up.parents.remove(index);
            close_up(cx, rival.peer, rival.request, true);
        }
    }

    /// The owner's own link is not tried again before that time.
    pub(super) fn pass_direct(&mut self, until: Time) {
        if let Source::Remote(up) = &mut self.source {
            up.direct_at = Some(until);
        }
    }
}
