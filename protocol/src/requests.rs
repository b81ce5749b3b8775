//! Requests that are routed to one node and answered once: status, probe, response,
//! receipts.
//!
//! Every request is answered: by its target, or by the first node that can't bring it
//! further. A node asks its best candidate, then alternates: at once when one refuses,
//! after [`crate::Config::request_patience`] when one is silent (a late answer still
//! counts). The whole takes [`crate::Config::request_timeout`] at the originator and a
//! margin less at each relay, so a relay's "timed out" comes before its asker's own.

use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{
    GetReceipts, JobProbe, JobProbeReply, MasterPlaylist, MasterPlaylistData, Message,
    NoRouteReason, NodeId, NodeStatus, NodeStatusData, NodeStatusReq, ReceiptList, Receipts,
    ReceiptsWanted, RenditionName, RequestId, Signed, StreamId, TranscodeResponse, TranscodeResult,
    limits::MAX_HOPS,
};

use crate::{
    cx::{Cx, Requester},
    lookups::Found,
    output::{CommandError, Failure, Priority, Reply},
    routing::Asker,
    time::Time,
    timers::Timer,
};

/// What is asked of a node.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Status(NodeId),
    Probe {
        transcoder: NodeId,
        stream: StreamId,
        renditions: Vec<RenditionName>,
    },
    Response(Signed<TranscodeResult>),
    Receipts(Signed<ReceiptsWanted>),
}

impl What {
    pub(crate) fn target(&self) -> NodeId {
        match self {
            Self::Status(node) => *node,
            Self::Probe { transcoder, .. } => *transcoder,
            Self::Response(body) => body.value().stream.node,
            Self::Receipts(body) => body.value().stream.node,
        }
    }

    fn message(&self, request: RequestId, hops_left: u8) -> Message {
        match self.clone() {
            Self::Status(node) => Message::NodeStatusReq(NodeStatusReq {
                request,
                node,
                hops_left,
            }),
            Self::Probe {
                transcoder,
                stream,
                renditions,
            } => Message::from(JobProbe {
                request,
                transcoder,
                stream,
                renditions,
                hops_left,
            }),
            Self::Response(body) => Message::TranscodeResponse(TranscodeResponse {
                request,
                hops_left,
                body,
            }),
            Self::Receipts(body) => Message::GetReceipts(GetReceipts {
                request,
                hops_left,
                body,
            }),
        }
    }

    /// Whether an outcome answers this.
    fn is_answered_by(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (_, Outcome::Failed(_)) | (Self::Probe { .. }, Outcome::Probe { .. }) => true,
            (Self::Status(node), Outcome::Status(body)) => body.value().node == *node,
            (Self::Response(body), Outcome::Master(master)) => {
                let (asked, manifest) = (&body.value().stream, master.value().manifest);
                manifest.node == asked.node && manifest.broadcast == asked.broadcast
            }
            (Self::Receipts(body), Outcome::Receipts(list)) => {
                let (wanted, list) = (body.value(), list.value());
                list.stream == wanted.stream
                    && list.job == wanted.job
                    && list.transcoder == wanted.transcoder
                    && list.from_segment == wanted.from_segment
            }
            (Self::Status(_) | Self::Response(_) | Self::Receipts(_), Outcome::Probe { .. })
            | (Self::Probe { .. } | Self::Response(_) | Self::Receipts(_), Outcome::Status(_))
            | (Self::Probe { .. } | Self::Status(_) | Self::Receipts(_), Outcome::Master(_))
            | (Self::Probe { .. } | Self::Status(_) | Self::Response(_), Outcome::Receipts(_)) => {
                false
            }
        }
    }
}

/// What came of a request.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Status(Signed<NodeStatus>),
    Probe { available: bool, load: u8 },
    Master(Signed<MasterPlaylist>),
    Receipts(Signed<ReceiptList>),
    Failed(Failure),
}

#[derive(Debug)]
struct Pending {
    what: What,
    requester: Requester,
    hops: u8,
    /// All that were asked.
    tried: BTreeSet<NodeId>,
    /// Those of them that have not answered.
    open: BTreeSet<NodeId>,
    deadline: Time,
    /// When an alternate is asked besides.
    patience: Option<Time>,
    failure: Option<Failure>,
    /// Somebody closer was looked for; until when it is waited for.
    looked: Option<Time>,
}

impl Pending {
    /// Takes leave of everybody that it concerned.
    fn close(&self, cx: &mut Cx, request: RequestId) {
        cx.timers.set(Timer::Request(request), None);
        if let Requester::Peer(peer, _) = self.requester
            && let Some(link) = cx.links.get_mut(&peer)
        {
            link.requests = link.requests.saturating_sub(1);
            link.used = cx.now;
        }
        // Their answers may still be under way.
        for peer in &self.tried {
            if let Some(link) = cx.links.get_mut(peer) {
                link.close(request, cx.now);
            }
        }
    }

    /// Whether another neighbour may be asked: for a stranger no more is sent than it
    /// has sent itself.
    fn may_go_on(&self, cx: &mut Cx, to: NodeId, message: &Message) -> bool {
        match self.requester {
            Requester::Peer(peer, _) => cx.spend(peer, message) && cx.may_pass_on(to),
            Requester::Command(_) | Requester::Job(_) => true,
        }
    }

    /// Whether somebody closer is being looked for.
    fn looks(&mut self, cx: &mut Cx) -> bool {
        if let Some(until) = self.looked {
            return until > cx.now;
        }
        let affordable = match self.requester {
            Requester::Peer(peer, _) => cx.spend_lookup(peer),
            Requester::Command(_) | Requester::Job(_) => true,
        };
        if !affordable || cx.look_up(self.what.target()) == Found::Nothing {
            return false;
        }
        self.looked = Some(cx.now + cx.config.lookup_patience);
        true
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    table: BTreeMap<RequestId, Pending>,
}

impl Requests {
    /// Sends a request towards its target, which is not this node.
    pub(crate) fn start(&mut self, cx: &mut Cx, what: What, requester: Requester, hops_left: u8) {
        let mut hops = hops_left.min(MAX_HOPS);
        if let Requester::Peer(peer, _) = requester {
            if !cx.config.roles.relayer {
                return refuse(cx, requester, NoRouteReason::NoCloserPeer);
            }
            if hops == 0 {
                return refuse(cx, requester, NoRouteReason::HopLimit);
            }
            let open = cx.links.get(&peer).map_or(0, |link| link.requests);
            if open >= cx.config.max_requests_per_peer {
                return refuse(cx, requester, NoRouteReason::Overloaded);
            }
            hops -= 1;
            cx.stats.requests_relayed += 1;
        }
        if self.table.len() >= cx.config.max_requests {
            return refuse(cx, requester, NoRouteReason::Overloaded);
        }
        let used = u32::from(MAX_HOPS - hops);
        let margin = cx.config.request_hop_margin.saturating_mul(used);
        let wait = cx.config.request_timeout.saturating_sub(margin);
        let pending = Pending {
            what,
            requester,
            hops,
            tried: BTreeSet::new(),
            open: BTreeSet::new(),
            deadline: cx.now + wait,
            patience: None,
            failure: None,
            looked: None,
        };
        let request = cx.request_id();
        if let Requester::Peer(peer, _) = requester
            && let Some(link) = cx.links.get_mut(&peer)
        {
            link.requests += 1;
        }
        self.table.insert(request, pending);
        self.ask_next(cx, request);
    }

    /// A new neighbour may be the closer one that was looked for.
    pub(crate) fn on_connected(&mut self, cx: &mut Cx, peer: NodeId) {
        let relayer = cx.links.get(&peer).is_some_and(|link| link.roles.relayer);
        let waits = |p: &Pending| {
            p.looked.is_some() && p.open.is_empty() && (relayer || p.what.target() == peer)
        };
        let waiting = self.table.iter().filter(|(_, p)| waits(p));
        for request in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.ask_next(cx, request);
        }
    }

    /// The driver has looked for somebody closer.
    pub(crate) fn on_lookup(&mut self, cx: &mut Cx, target: NodeId) {
        let waits = |p: &Pending| p.looked.is_some() && p.what.target() == target;
        let waiting = self.table.iter().filter(|(_, p)| waits(p));
        for request in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(pending) = self.table.get_mut(&request) {
                pending.looked = Some(cx.now);
            }
            self.ask_next(cx, request);
        }
    }

    /// Whether a neighbour was asked and has not answered.
    pub(crate) fn wait_for(&self, peer: &NodeId) -> bool {
        self.table.values().any(|p| p.open.contains(peer))
    }

    pub(crate) fn contains(&self, request: RequestId) -> bool {
        self.table.contains_key(&request)
    }

    /// An answer has come from a neighbour.
    pub(crate) fn on_answer(
        &mut self,
        cx: &mut Cx,
        from: NodeId,
        request: RequestId,
        outcome: Outcome,
    ) {
        let Some(pending) = self.table.get_mut(&request) else {
            return cx.unsolicited(from, request);
        };
        if !pending.tried.contains(&from) {
            return cx.violation(from, "unsolicited");
        }
        if !pending.what.is_answered_by(&outcome) {
            return cx.violation(from, "answer to another question");
        }
        pending.open.remove(&from);
        match outcome {
            Outcome::Failed(failure @ (Failure::NoRoute(_) | Failure::ParentLost)) => {
                pending.failure = Some(failure);
                self.ask_next(cx, request);
            }
            outcome @ (Outcome::Failed(Failure::NotFound | Failure::NoPeers)
            | Outcome::Status(_)
            | Outcome::Probe { .. }
            | Outcome::Master(_)
            | Outcome::Receipts(_)) => self.end(cx, request, outcome),
        }
    }

    pub(crate) fn on_disconnected(&mut self, cx: &mut Cx, peer: NodeId) {
        let from_peer = |p: &Pending| matches!(p.requester, Requester::Peer(p, _) if p == peer);
        let gone = self.table.iter().filter(|(_, p)| from_peer(p));
        for request in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(pending) = self.table.remove(&request) {
                pending.close(cx, request);
            }
        }
        let waiting = self.table.iter().filter(|(_, p)| p.open.contains(&peer));
        for request in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(pending) = self.table.get_mut(&request) {
                pending.open.remove(&peer);
                pending.failure = Some(Failure::ParentLost);
            }
            self.ask_next(cx, request);
        }
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Cx, request: RequestId) {
        let Some(pending) = self.table.get(&request) else {
            return;
        };
        if pending.deadline <= cx.now {
            let late = Failure::NoRoute(NoRouteReason::Timeout);
            self.end(cx, request, Outcome::Failed(late));
        } else {
            self.ask_next(cx, request);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn ask_next(&mut self, cx: &mut Cx, request: RequestId) {
        let Some(pending) = self.table.get_mut(&request) else {
            return;
        };
        let (asker, from) = match pending.requester {
            Requester::Peer(peer, _) => (Asker::Neighbour, Some(peer)),
            Requester::Command(_) | Requester::Job(_) => (Asker::Own, None),
        };
        let next = cx.candidates(&pending.what.target(), asker, |peer| {
            pending.tried.contains(peer) || Some(*peer) == from
        });
        let next = next.first().copied();
        let message = pending.what.message(request, pending.hops);
        match next.filter(|peer| pending.may_go_on(cx, *peer, &message)) {
            Some(peer) => {
                pending.tried.insert(peer);
                pending.open.insert(peer);
                pending.patience = Some(cx.now + cx.config.request_patience);
                cx.send(peer, message, Priority::Control);
            }
            None => pending.patience = None,
        }
        if pending.open.is_empty() && next.is_none() && pending.looks(cx) {
            let until = pending.looked.unwrap_or(pending.deadline);
            let due = until.min(pending.deadline);
            return cx.timers.set(Timer::Request(request), Some(due));
        }
        if pending.open.is_empty() {
            let failure = pending.failure.unwrap_or(cx.nobody());
            return self.end(cx, request, Outcome::Failed(failure));
        }
        let due = pending
            .patience
            .map_or(pending.deadline, |p| p.min(pending.deadline));
        cx.timers.set(Timer::Request(request), Some(due));
    }

    fn end(&mut self, cx: &mut Cx, request: RequestId, outcome: Outcome) {
        let Some(pending) = self.table.remove(&request) else {
            return;
        };
        pending.close(cx, request);
        answer(cx, pending.requester, outcome);
    }
}

/// Tells whoever asked what came of it.
pub(crate) fn answer(cx: &mut Cx, requester: Requester, outcome: Outcome) {
    match requester {
        Requester::Command(id) => cx.reply(
            id,
            match outcome {
                Outcome::Status(body) => Ok(Reply::Status(body)),
                Outcome::Probe { available, load } => Ok(Reply::Probe { available, load }),
                Outcome::Master(_) => Ok(Reply::Done),
                Outcome::Receipts(body) => Ok(Reply::Receipts(body)),
                Outcome::Failed(failure) => Err(CommandError::Failed(failure)),
            },
        ),
        Requester::Job(job) => {
            let done = matches!(outcome, Outcome::Master(_));
            cx.job_results.push((job, done));
        }
        Requester::Peer(peer, request) => {
            let message = match outcome {
                Outcome::Status(body) => Message::NodeStatusData(NodeStatusData { request, body }),
                Outcome::Probe { available, load } => Message::JobProbeReply(JobProbeReply {
                    request,
                    available,
                    load,
                }),
                Outcome::Master(body) => {
                    Message::MasterPlaylistData(MasterPlaylistData { request, body })
                }
                Outcome::Receipts(body) => Message::Receipts(Receipts { request, body }),
                Outcome::Failed(Failure::NotFound) => return cx.not_found(peer, request),
                Outcome::Failed(Failure::NoRoute(reason)) => {
                    return cx.no_route(peer, request, reason);
                }
                Outcome::Failed(Failure::ParentLost | Failure::NoPeers) => {
                    return cx.no_route(peer, request, NoRouteReason::NoCloserPeer);
                }
            };
            // A status can be long, and whoever asks may be anybody.
            if matches!(message, Message::NodeStatusData(_)) && !cx.spend(peer, &message) {
                return cx.no_route(peer, request, NoRouteReason::Overloaded);
            }
            cx.send(peer, message, Priority::Control);
        }
    }
}

fn refuse(cx: &mut Cx, requester: Requester, reason: NoRouteReason) {
    answer(cx, requester, Outcome::Failed(Failure::NoRoute(reason)));
}
