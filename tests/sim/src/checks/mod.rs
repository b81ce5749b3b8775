//! What must hold at every step. A breach is a fault of the core, or of this world.

mod delivery;
mod requests;
mod routes;

use std::collections::BTreeMap;

use headwater_proto::{Message, NodeId};
use headwater_protocol::Time;
use serde::Serialize;

use crate::host::HostIx;

pub use delivery::{Session, Taken};
pub use requests::{Ask, AskKind, Owed, Whose};
pub use routes::{Passing, goes_closer};

/// Breaches that are kept in full; all are counted.
const KEPT: usize = 20;

/// What can be breached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A stream's parts come in order, and every one or a gap.
    Order,
    /// What is delivered is what was published.
    Forgery,
    /// A request goes to a node strictly closer to its target.
    StrictDecrease,
    /// Nobody is his own parent's descendant for long.
    Loop,
    /// A request has fewer hops left where it is passed on than where it came from.
    HopLimit,
    /// A request has one answer, and an answer a request.
    OneAnswer,
    /// Every request is answered.
    Answered,
    /// A child that cancelled is told nothing more.
    Cancelled,
    /// Credit is never exceeded.
    Credit,
    /// Queues keep their bounds.
    Queues,
    /// What is sent is within the bounds of the wire.
    WireBounds,
    /// What is sent goes to a neighbour with an open link.
    OpenLink,
    /// A node does not wake up again and again without time passing.
    BusyLoop,
    /// Each command has one reply.
    OneReply,
    /// A correct neighbour is not said to misbehave.
    FalseAccusation,
    /// Only what a claim that holds allows is dialled.
    Dial,
    /// The feed of a job goes from stage to stage as the table of stages says, and the claims
    /// of a transcoder from state to state as that of grants says.
    Stage,
    /// Nobody is fed for a job that is not its.
    Feed,
    /// Two nodes feed a transcoder no longer than it takes to choose one.
    TwoFeeds,
}

/// One breach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// Microseconds since the world began.
    pub at_us: u64,
    /// At which host.
    pub host: u32,
    /// What was breached.
    pub rule: Rule,
    /// What was seen.
    pub seen: String,
}

/// The breaches of one run.
#[derive(Debug, Default)]
pub struct Checks {
    /// The first of them.
    pub kept: Vec<Breach>,
    /// All of them.
    pub count: u64,
    /// All of them, by rule.
    pub by_rule: BTreeMap<Rule, u64>,
}

impl Checks {
    /// Notes a breach.
    pub fn breach(&mut self, at: Time, host: HostIx, rule: Rule, seen: impl FnOnce() -> String) {
        self.count += 1;
        *self.by_rule.entry(rule).or_default() += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Breach {
                at_us: at.as_micros(),
                host: host.0,
                rule,
                seen: seen(),
            });
        }
    }
}

/// Whose requests a message has to do with.
pub(crate) fn whose(message: &Message) -> Whose {
    requests::whose(message)
}

/// Notes a message that is sent in the list that [`whose`] says, and returns what is
/// wrong about it.
pub(crate) fn sent(asks: &mut Vec<Ask>, message: &Message) -> Option<(Rule, &'static str)> {
    requests::sent(asks, message)
}

/// Whether a subscription asks for a stream that its sender has asked for already; `own` are
/// its sender's requests.
pub(crate) fn asks_again(own: &[Ask], message: &Message) -> bool {
    requests::asks_again(own, message)
}

/// Notes that a message has arrived; `own` are its sender's requests.
pub(crate) fn arrived(own: &mut Vec<Ask>, message: &Message, now: Time) {
    requests::arrived(own, message, now);
}

/// Notes that a message has arrived; `own` are its receiver's requests.
pub(crate) fn heard(own: &mut Vec<Ask>, message: &Message) {
    requests::heard(own, message);
}

/// Requests that have arrived and have no answer.
pub(crate) fn owed(asks: &[Ask]) -> impl Iterator<Item = Owed> + '_ {
    requests::owed(asks)
}

/// What is wrong about where a routed message is sent.
pub(crate) fn route(
    from: &NodeId,
    strict: bool,
    to: &NodeId,
    message: &Message,
    passing: Option<&Passing>,
) -> Option<(Rule, &'static str)> {
    routes::check(from, strict, to, message, passing)
}

/// A routed message's target and remaining hops; `None` when it is not routed.
pub(crate) fn target(message: &Message) -> Option<(NodeId, u8)> {
    routes::target(message)
}
