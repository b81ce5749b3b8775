//! Requests that are routed to a node and answered once: status, probes, results.

use std::collections::BTreeSet;

use headwater_proto::{
    JobProbe, JobProbeReply, ManifestId, MasterPlaylistData, Message, NoRoute, NoRouteReason,
    NodeId, NodeStatus, NodeStatusData, NodeStatusReq, NotFound, RenditionName, RequestId, Signed,
    StreamId, TranscodeResponse, TranscodeResult, limits::MAX_HOPS,
};

use super::{Asked, Node, Origin};
use crate::{
    input::CommandId,
    output::{CommandError, Failure, Output, Question, Reply},
    timers::Timer,
};

/// A request under way, by the id it has towards the next hop.
#[derive(Debug)]
pub(super) struct Pending {
    what: What,
    origin: Origin,
    hops_left: u8,
    /// Who has it now.
    hop: NodeId,
    tried: BTreeSet<NodeId>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) enum What {
    Status(NodeId),
    Probe(NodeId, StreamId, Vec<RenditionName>),
    Result(Signed<TranscodeResult>),
}

impl What {
    fn target(&self) -> NodeId {
        match self {
            Self::Status(node) | Self::Probe(node, ..) => *node,
            Self::Result(body) => body.value().stream.node,
        }
    }

    fn message(&self, request: RequestId, hops_left: u8) -> Message {
        match self.clone() {
            Self::Status(node) => Message::NodeStatusReq(NodeStatusReq {
                request,
                node,
                hops_left,
            }),
            Self::Probe(transcoder, stream, renditions) => Message::JobProbe(JobProbe {
                request,
                transcoder,
                stream,
                renditions,
                hops_left,
            }),
            Self::Result(body) => Message::TranscodeResponse(TranscodeResponse {
                request,
                hops_left,
                body,
            }),
        }
    }
}

impl Node {
    pub(super) fn request_status(&mut self, id: CommandId, node: NodeId) {
        let origin = Origin::Local(id);
        if node == self.id {
            self.ask(Asked::Answer(origin), Question::Status);
        } else {
            self.request(What::Status(node), origin, MAX_HOPS);
        }
    }

    pub(super) fn probe(
        &mut self,
        id: CommandId,
        transcoder: NodeId,
        stream: StreamId,
        renditions: Vec<RenditionName>,
    ) {
        let origin = Origin::Local(id);
        if transcoder == self.id {
            let question = Question::Probe { stream, renditions };
            self.ask(Asked::Answer(origin), question);
        } else {
            let what = What::Probe(transcoder, stream, renditions);
            self.request(what, origin, MAX_HOPS);
        }
    }

    pub(super) fn on_status_req(&mut self, from: NodeId, req: &NodeStatusReq) {
        let origin = Origin::Peer(from, req.request);
        if req.node == self.id {
            self.ask(Asked::Answer(origin), Question::Status);
        } else {
            self.pass_on(What::Status(req.node), origin, req.hops_left);
        }
    }

    pub(super) fn on_probe(&mut self, from: NodeId, probe: JobProbe) {
        let origin = Origin::Peer(from, probe.request);
        let (stream, renditions) = (probe.stream, probe.renditions);
        if probe.transcoder == self.id {
            let question = Question::Probe { stream, renditions };
            self.ask(Asked::Answer(origin), question);
        } else {
            let what = What::Probe(probe.transcoder, stream, renditions);
            self.pass_on(what, origin, probe.hops_left);
        }
    }

    pub(super) fn on_transcode_response(&mut self, from: NodeId, response: TranscodeResponse) {
        let origin = Origin::Peer(from, response.request);
        let body = response.body;
        if body.value().stream.node == self.id {
            let stream = &body.value().stream;
            let manifest = ManifestId {
                node: stream.node,
                broadcast: stream.broadcast,
            };
            let asked = Asked::CheckResult(origin, manifest);
            self.ask(asked, Question::CheckResult { body });
        } else {
            self.pass_on(What::Result(body), origin, response.hops_left);
        }
    }

    fn pass_on(&mut self, what: What, origin: Origin, hops_left: u8) {
        let Origin::Peer(from, _) = origin else {
            return;
        };
        let under_way = self
            .requests
            .values()
            .filter(|pending| matches!(pending.origin, Origin::Peer(peer, _) if peer == from));
        if under_way.count() >= self.config.max_requests_per_peer {
            self.request_failed(origin, Failure::NoRoute(NoRouteReason::Overloaded));
        } else if !self.config.roles.relayer {
            self.request_failed(origin, Failure::NoRoute(NoRouteReason::NoCloserPeer));
        } else if hops_left == 0 {
            self.request_failed(origin, Failure::NoRoute(NoRouteReason::HopLimit));
        } else {
            self.request(what, origin, hops_left - 1);
        }
    }

    pub(super) fn request(&mut self, what: What, origin: Origin, hops_left: u8) {
        self.try_next_hop(what, origin, hops_left, BTreeSet::new());
    }

    fn try_next_hop(
        &mut self,
        what: What,
        origin: Origin,
        hops_left: u8,
        mut tried: BTreeSet<NodeId>,
    ) {
        let previous = match origin {
            Origin::Peer(peer, _) => Some(peer),
            Origin::Local(_) | Origin::Job(_) => None,
        };
        let hops = self.next_hops(what.target(), previous);
        let Some(hop) = hops.into_iter().find(|hop| !tried.contains(hop)) else {
            let failure = if self.links.is_empty() {
                Failure::NoPeers
            } else {
                Failure::NoRoute(NoRouteReason::NoCloserPeer)
            };
            return self.request_failed(origin, failure);
        };
        tried.insert(hop);
        let request = self.fresh_request();
        self.send(hop, what.message(request, hops_left));
        // A hop nearer to the target gives up earlier, so that its answer still counts.
        let span = self.config.request_per_hop * (u32::from(hops_left) + 1);
        self.timers.set(Timer::Request(request), self.now + span);
        let pending = Pending {
            what,
            origin,
            hops_left,
            hop,
            tried,
        };
        self.requests.insert(request, pending);
    }

    /// Takes a request that `from` answers; anybody else's answer is none.
    pub(super) fn take_request(&mut self, from: NodeId, request: RequestId) -> Option<Origin> {
        if self.requests.get(&request)?.hop != from {
            return None;
        }
        self.timers.stop(&Timer::Request(request));
        Some(self.requests.remove(&request)?.origin)
    }

    /// Tries another hop after `from` could not bring the request on.
    pub(super) fn request_no_route(&mut self, from: NodeId, request: RequestId) -> bool {
        match self.requests.get(&request) {
            Some(pending) if pending.hop == from => {
                self.request_again(request);
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn request_timeout(&mut self, request: RequestId) {
        self.request_again(request);
    }

    pub(super) fn requests_lost_link(&mut self, peer: NodeId) {
        let from_it = |origin: &Origin| matches!(origin, Origin::Peer(p, _) if *p == peer);
        let gone: Vec<_> = self
            .requests
            .iter()
            .filter(|(_, pending)| from_it(&pending.origin))
            .map(|(id, _)| *id)
            .collect();
        for request in gone {
            self.timers.stop(&Timer::Request(request));
            self.requests.remove(&request);
        }
        self.asks.retain(|_, asked| match asked {
            Asked::Answer(origin) | Asked::CheckResult(origin, _) => !from_it(origin),
            Asked::Claim(_) | Asked::CheckClaim(..) => true,
        });
        let via: Vec<_> = self
            .requests
            .iter()
            .filter(|(_, pending)| pending.hop == peer)
            .map(|(id, _)| *id)
            .collect();
        for request in via {
            self.request_again(request);
        }
    }

    fn request_again(&mut self, request: RequestId) {
        self.timers.stop(&Timer::Request(request));
        if let Some(pending) = self.requests.remove(&request) {
            let Pending {
                what,
                origin,
                hops_left,
                tried,
                ..
            } = pending;
            self.try_next_hop(what, origin, hops_left, tried);
        }
    }

    pub(super) fn request_failed(&mut self, origin: Origin, failure: Failure) {
        match origin {
            Origin::Peer(peer, request) => match failure {
                Failure::NotFound => {
                    self.send(peer, Message::NotFound(NotFound { request }));
                }
                Failure::NoRoute(reason) => self.refuse(peer, request, reason),
                Failure::ParentLost | Failure::NoPeers => {
                    self.refuse(peer, request, NoRouteReason::NoCloserPeer);
                }
            },
            Origin::Local(id) => self.reply(id, Err(CommandError::Failed(failure))),
            Origin::Job(job) => self.result_failed(job),
        }
    }

    pub(super) fn refuse(&mut self, peer: NodeId, request: RequestId, reason: NoRouteReason) {
        *self.stats.refused.entry(reason).or_default() += 1;
        self.send(peer, Message::NoRoute(NoRoute { request, reason }));
    }

    pub(super) fn status_ready(&mut self, origin: Origin, body: Signed<NodeStatus>) {
        match origin {
            Origin::Peer(peer, request) => {
                self.send(
                    peer,
                    Message::NodeStatusData(NodeStatusData { request, body }),
                );
            }
            Origin::Local(id) => self.reply(id, Ok(Reply::Status(body))),
            Origin::Job(_) => {}
        }
    }

    pub(super) fn on_status_data(&mut self, from: NodeId, data: NodeStatusData) {
        // Only the node that was asked for can answer for itself.
        let right = self.requests.get(&data.request).is_some_and(
            |pending| matches!(pending.what, What::Status(node) if node == data.body.value().node),
        );
        if !right {
            return;
        }
        if let Some(origin) = self.take_request(from, data.request) {
            self.status_ready(origin, data.body);
        }
    }

    pub(super) fn probe_ready(&mut self, origin: Origin, available: bool) {
        let load = self.load();
        self.probe_answered(origin, available, load);
    }

    pub(super) fn on_probe_reply(&mut self, from: NodeId, reply: &JobProbeReply) {
        if let Some(origin) = self.take_request(from, reply.request) {
            self.probe_answered(origin, reply.available, reply.load);
        }
    }

    fn probe_answered(&mut self, origin: Origin, available: bool, load: u8) {
        match origin {
            Origin::Peer(peer, request) => {
                let reply = JobProbeReply {
                    request,
                    available,
                    load,
                };
                self.send(peer, Message::JobProbeReply(reply));
            }
            Origin::Local(id) => self.reply(id, Ok(Reply::Probe { available, load })),
            Origin::Job(_) => {}
        }
    }

    /// The driver looked at a transcoder's result.
    pub(super) fn result_checked(&mut self, origin: Origin, manifest: ManifestId, accepted: bool) {
        let Origin::Peer(peer, request) = origin else {
            return;
        };
        match self.masters.get(&manifest).and_then(|m| m.known.clone()) {
            Some(body) if accepted => {
                let data = MasterPlaylistData { request, body };
                self.send(peer, Message::MasterPlaylistData(data));
            }
            Some(_) | None => self.send(peer, Message::NotFound(NotFound { request })),
        }
    }

    /// An answer to a result, on its way back or arrived.
    pub(super) fn result_answered(&mut self, origin: Origin, data: MasterPlaylistData) {
        match origin {
            Origin::Peer(peer, request) => {
                let data = MasterPlaylistData { request, ..data };
                self.send(peer, Message::MasterPlaylistData(data));
            }
            Origin::Job(job) => self.result_accepted(job),
            Origin::Local(id) => {
                self.out.push_back(Output::Reply {
                    id,
                    result: Ok(Reply::Done),
                });
            }
        }
    }
}
