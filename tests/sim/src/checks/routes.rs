//! Whether a routed message goes towards its target.

use std::mem::{Discriminant, discriminant};

use headwater_proto::{Message, NodeId};

use super::Rule;

/// A routed message's target and remaining hops; `None` when it is not routed.
pub(super) fn target(message: &Message) -> Option<(NodeId, u8)> {
    match message {
        Message::Sub(m) => Some((m.stream.node, m.hops_left)),
        Message::TranscodeSub(m) => Some((m.claim.stream.node, m.hops_left)),
        Message::GetMasterPlaylist(m) => Some((m.manifest.node, m.hops_left)),
        Message::NodeStatusReq(m) => Some((m.node, m.hops_left)),
        Message::TranscodeResponse(m) => Some((m.body.value().stream.node, m.hops_left)),
        Message::JobProbe(m) => Some((m.transcoder, m.hops_left)),
        Message::GetReceipts(m) => Some((m.body.value().stream.node, m.hops_left)),
        Message::Hello(_)
        | Message::Ping(_)
        | Message::Pong(_)
        | Message::SubAck(_)
        | Message::NotFound(_)
        | Message::NoRoute(_)
        | Message::Redirect(_)
        | Message::Cancel(_)
        | Message::Finish(_)
        | Message::Part(_)
        | Message::Chunk(_)
        | Message::Nack(_)
        | Message::Gap(_)
        | Message::MasterPlaylistData(_)
        | Message::NodeStatusData(_)
        | Message::JobProbeReply(_)
        | Message::Receipts(_) => None,
    }
}

/// Whether `to` is the target or strictly closer to it than `from`.
#[must_use]
pub fn goes_closer(from: &NodeId, to: &NodeId, target: &NodeId) -> bool {
    let goal = target.routing_key();
    to == target || to.routing_key().distance(&goal) < from.routing_key().distance(&goal)
}

/// A routed request that a node has been given and not yet dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passing {
    kind: Discriminant<Message>,
    target: NodeId,
    hops_left: u8,
}

impl Passing {
    /// What is to be known of a message; `None` when it is not routed.
    pub(crate) fn of(message: &Message) -> Option<Self> {
        let (target, hops_left) = target(message)?;
        Some(Self {
            kind: discriminant(message),
            target,
            hops_left,
        })
    }

    /// Whether `next`, sent at once, is the same request with no hop taken off.
    fn is_unspent_in(&self, next: &Self) -> bool {
        self.kind == next.kind && self.target == next.target && next.hops_left >= self.hops_left
    }
}

/// What is wrong about sending a routed message; `strict` says that the sender is bound
/// to go closer: it is a relayer, and nobody has told it where to go. `passing` is what
/// the sender is dealing with.
pub(super) fn check(
    from: &NodeId,
    strict: bool,
    to: &NodeId,
    message: &Message,
    passing: Option<&Passing>,
) -> Option<(Rule, &'static str)> {
    let next = Passing::of(message)?;
    if passing.is_some_and(|passing| passing.is_unspent_in(&next)) {
        return Some((
            Rule::HopLimit,
            "a request that was passed on with all its hops",
        ));
    }
    if strict && !goes_closer(from, to, &next.target) {
        return Some((
            Rule::StrictDecrease,
            "a request that goes away from its target",
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use headwater_proto::{RequestId, Sub};

    use super::*;
    use crate::media::tests::stream;

    #[test]
    fn a_relayer_may_only_go_closer_and_an_originator_anywhere() {
        let (owner, stream_id) = stream(1);
        let mut ids: Vec<_> = (2..5).map(|n| stream(n).0.node_id()).collect();
        let goal = owner.node_id().routing_key();
        ids.sort_by_key(|id| id.routing_key().distance(&goal));
        let sub = Message::from(Sub {
            request: RequestId(1),
            stream: stream_id,
            from: None,
            hops_left: 3,
        });
        let owner = owner.node_id();
        let rule = |from, relayer, to| check(from, relayer, to, &sub, None).map(|(rule, _)| rule);

        assert_eq!(rule(&ids[2], true, &ids[0]), None);
        assert_eq!(rule(&ids[0], true, &owner), None);
        assert_eq!(rule(&ids[0], true, &ids[2]), Some(Rule::StrictDecrease));
        assert_eq!(rule(&ids[0], false, &ids[2]), None);
    }

    #[test]
    fn a_request_that_is_passed_on_has_a_hop_less() {
        let (owner, stream_id) = stream(1);
        let sub = |hops_left| {
            Message::from(Sub {
                request: RequestId(1),
                stream: stream_id.clone(),
                from: None,
                hops_left,
            })
        };
        let (from, to) = (stream(2).0.node_id(), owner.node_id());
        let given = Passing::of(&sub(5)).unwrap();
        let rule = |hops| check(&from, true, &to, &sub(hops), Some(&given)).map(|(rule, _)| rule);

        assert_eq!(rule(4), None);
        assert_eq!(rule(5), Some(Rule::HopLimit));
        assert_eq!(rule(6), Some(Rule::HopLimit));
    }
}
