//! Each message between its domain and wire types.

use bytes::Bytes;

use super::{
    values::{
        addresses_in, addresses_out, array, byte, manifest_in, manifest_out, names_in, node_in,
        node_out, position_in, position_out, present, roles_in, roles_out, slot_in, slot_out,
        stream_in, stream_out,
    },
    wire::{self, envelope::Body},
};
use crate::{
    Cancel, Finish, Gap, GetMasterPlaylist, GetReceipts, Hello, JobId, JobProbe, JobProbeReply,
    MasterPlaylistData, Message, Nack, NoRoute, NoRouteReason, NodeAddresses, NodeStatusData,
    NodeStatusReq, NotFound, Part, Ping, Receipts, Redirect, RequestId, SealedAddresses, Signed,
    Statement, Sub, SubAck, SubState, TranscodeClaim, TranscodeResponse, TranscodeSub,
    error::DecodeError,
};

pub(super) fn out(message: &Message) -> Body {
    match message {
        Message::Hello(hello) => Body::Hello(wire::Hello {
            roles: Some(roles_out(hello.roles)),
            agent: hello.agent.clone(),
        }),
        Message::Ping(ping) => Body::Ping(wire::Ping { nonce: ping.nonce }),
        Message::Pong(ping) => Body::Pong(wire::Ping { nonce: ping.nonce }),
        Message::Sub(sub) => Body::Sub(wire::Sub {
            request: sub.request.0,
            stream: Some(stream_out(&sub.stream)),
            from: sub.from.map(position_out),
            hops_left: u32::from(sub.hops_left),
        }),
        Message::SubAck(ack) => Body::SubAck(sub_ack_out(ack)),
        Message::NotFound(not_found) => Body::NotFound(wire::NotFound {
            request: not_found.request.0,
        }),
        Message::NoRoute(no_route) => Body::NoRoute(wire::NoRoute {
            request: no_route.request.0,
            reason: reason_out(no_route.reason),
        }),
        Message::Redirect(redirect) => Body::Redirect(redirect_out(redirect)),
        Message::Cancel(cancel) => Body::Cancel(wire::Cancel {
            request: cancel.request.0,
        }),
        Message::Finish(finish) => Body::Finish(reply_out(finish.request, &finish.body)),
        Message::Part(part) => Body::Part(reply_out(part.request, &part.header)),
        Message::Chunk(chunk) => Body::Chunk(wire::Chunk {
            request: chunk.request.0,
            slot: Some(slot_out(chunk.slot)),
            index: u32::from(chunk.index),
            payload_bytes: u32::try_from(chunk.payload.len()).unwrap_or(u32::MAX),
        }),
        Message::Nack(nack) => Body::Nack(wire::Nack {
            request: nack.request.0,
            slot: Some(slot_out(nack.slot)),
            chunks: nack.chunks.iter().copied().map(u32::from).collect(),
        }),
        Message::Gap(gap) => Body::Gap(wire::Gap {
            request: gap.request.0,
            from: Some(position_out(gap.from)),
            to: Some(position_out(gap.to)),
        }),
        Message::GetMasterPlaylist(get) => Body::GetMasterPlaylist(wire::GetMasterPlaylist {
            request: get.request.0,
            manifest: Some(manifest_out(&get.manifest)),
            hops_left: u32::from(get.hops_left),
        }),
        Message::MasterPlaylistData(data) => {
            Body::MasterPlaylistData(reply_out(data.request, &data.body))
        }
        Message::NodeStatusReq(req) => Body::NodeStatusReq(wire::NodeStatusReq {
            request: req.request.0,
            node: node_out(req.node),
            hops_left: u32::from(req.hops_left),
        }),
        Message::NodeStatusData(data) => Body::NodeStatusData(reply_out(data.request, &data.body)),
        Message::TranscodeSub(sub) => Body::TranscodeSub(transcode_sub_out(sub)),
        Message::TranscodeResponse(response) => {
            let (request, hops_left) = (response.request, response.hops_left);
            Body::TranscodeResponse(request_out(request, hops_left, &response.body))
        }
        Message::JobProbe(probe) => Body::JobProbe(wire::JobProbe {
            request: probe.request.0,
            transcoder: node_out(probe.transcoder),
            stream: Some(stream_out(&probe.stream)),
            renditions: probe.renditions.iter().map(ToString::to_string).collect(),
            hops_left: u32::from(probe.hops_left),
        }),
        Message::JobProbeReply(reply) => Body::JobProbeReply(wire::JobProbeReply {
            request: reply.request.0,
            available: reply.available,
            load: u32::from(reply.load),
        }),
        Message::GetReceipts(get) => {
            Body::GetReceipts(request_out(get.request, get.hops_left, &get.body))
        }
        Message::Receipts(receipts) => Body::Receipts(reply_out(receipts.request, &receipts.body)),
    }
}

fn reply_out<T>(request: RequestId, body: &Signed<T>) -> wire::SignedReply {
    wire::SignedReply {
        request: request.0,
        body: body.bytes().clone(),
        signature: Bytes::copy_from_slice(body.signature()),
    }
}

fn request_out<T>(request: RequestId, hops_left: u8, body: &Signed<T>) -> wire::SignedRequest {
    wire::SignedRequest {
        request: request.0,
        hops_left: u32::from(hops_left),
        body: body.bytes().clone(),
        signature: Bytes::copy_from_slice(body.signature()),
    }
}

fn sub_ack_out(ack: &SubAck) -> wire::SubAck {
    let (pending, edge) = match ack.state {
        SubState::Pending => (true, None),
        SubState::Live(edge) => (false, edge.map(position_out)),
    };
    wire::SubAck {
        request: ack.request.0,
        pending,
        edge,
        load: u32::from(ack.load),
        path: ack.path.clone(),
    }
}

const fn reason_out(reason: NoRouteReason) -> u32 {
    match reason {
        NoRouteReason::NoCloserPeer => 1,
        NoRouteReason::HopLimit => 2,
        NoRouteReason::Timeout => 3,
        NoRouteReason::Overloaded => 4,
    }
}

fn redirect_out(redirect: &Redirect) -> wire::Redirect {
    let nodes = redirect.nodes.iter().map(|node| wire::NodeAddresses {
        node: node_out(node.node),
        addresses: addresses_out(&node.addresses),
    });
    wire::Redirect {
        request: redirect.request.0,
        nodes: nodes.collect(),
    }
}

fn transcode_sub_out(sub: &TranscodeSub) -> wire::TranscodeSub {
    let claim = wire::TranscodeClaim {
        stream: Some(stream_out(&sub.claim.stream)),
        job: sub.claim.job.0,
        transcoder: node_out(sub.claim.transcoder),
        addresses: addresses_out(&sub.claim.addresses),
        sequence: sub.claim.sequence,
        expires_ms: sub.claim.expires_ms,
        sealed: (sub.claim.sealed.as_ref()).map_or_else(Bytes::new, |sealed| {
            Bytes::copy_from_slice(sealed.as_bytes())
        }),
    };
    wire::TranscodeSub {
        request: sub.request.0,
        branch: sub.branch,
        from: sub.from.map(position_out),
        hops_left: u32::from(sub.hops_left),
        claim: Some(claim),
        signature: Bytes::copy_from_slice(&sub.signature),
    }
}

pub(super) fn read(body: Body) -> Result<Message, DecodeError> {
    Ok(match body {
        Body::Hello(hello) => Message::Hello(Hello {
            roles: roles_in(hello.roles),
            agent: hello.agent,
        }),
        Body::Ping(ping) => Message::Ping(Ping { nonce: ping.nonce }),
        Body::Pong(ping) => Message::Pong(Ping { nonce: ping.nonce }),
        Body::Sub(sub) => Message::from(Sub {
            request: RequestId(sub.request),
            stream: stream_in(sub.stream)?,
            from: sub.from.map(position_in),
            hops_left: byte(sub.hops_left, "hops_left")?,
        }),
        Body::SubAck(ack) => Message::SubAck(sub_ack_in(ack)?),
        Body::NotFound(not_found) => Message::NotFound(NotFound {
            request: RequestId(not_found.request),
        }),
        Body::NoRoute(no_route) => Message::NoRoute(NoRoute {
            request: RequestId(no_route.request),
            reason: reason_in(no_route.reason)?,
        }),
        Body::Redirect(redirect) => Message::Redirect(redirect_in(&redirect)?),
        Body::Cancel(cancel) => Message::Cancel(Cancel {
            request: RequestId(cancel.request),
        }),
        Body::Finish(reply) => Message::Finish(Finish {
            request: RequestId(reply.request),
            body: signed(reply)?,
        }),
        Body::Part(reply) => Message::Part(Part {
            request: RequestId(reply.request),
            header: signed(reply)?,
        }),
        // Its payload is outside: `super::decode_header` takes it.
        Body::Chunk(_) => return Err(DecodeError::UnknownMessage),
        Body::Nack(nack) => Message::Nack(nack_in(nack)?),
        Body::Gap(gap) => Message::Gap(Gap {
            request: RequestId(gap.request),
            from: position_in(present(gap.from, "from")?),
            to: position_in(present(gap.to, "to")?),
        }),
        Body::GetMasterPlaylist(get) => Message::GetMasterPlaylist(GetMasterPlaylist {
            request: RequestId(get.request),
            manifest: manifest_in(get.manifest)?,
            hops_left: byte(get.hops_left, "hops_left")?,
        }),
        Body::MasterPlaylistData(reply) => Message::MasterPlaylistData(MasterPlaylistData {
            request: RequestId(reply.request),
            body: signed(reply)?,
        }),
        Body::NodeStatusReq(req) => Message::NodeStatusReq(NodeStatusReq {
            request: RequestId(req.request),
            node: node_in(&req.node)?,
            hops_left: byte(req.hops_left, "hops_left")?,
        }),
        Body::NodeStatusData(reply) => Message::NodeStatusData(NodeStatusData {
            request: RequestId(reply.request),
            body: signed(reply)?,
        }),
        Body::TranscodeSub(sub) => Message::from(transcode_sub_in(sub)?),
        Body::TranscodeResponse(request) => Message::TranscodeResponse(TranscodeResponse {
            request: RequestId(request.request),
            hops_left: byte(request.hops_left, "hops_left")?,
            body: Signed::from_wire(request.body, &request.signature)?,
        }),
        Body::JobProbe(probe) => Message::from(JobProbe {
            request: RequestId(probe.request),
            transcoder: node_in(&probe.transcoder)?,
            stream: stream_in(probe.stream)?,
            renditions: names_in(&probe.renditions)?,
            hops_left: byte(probe.hops_left, "hops_left")?,
        }),
        Body::JobProbeReply(reply) => Message::JobProbeReply(JobProbeReply {
            request: RequestId(reply.request),
            available: reply.available,
            load: byte(reply.load, "load")?,
        }),
        Body::GetReceipts(request) => Message::GetReceipts(GetReceipts {
            request: RequestId(request.request),
            hops_left: byte(request.hops_left, "hops_left")?,
            body: Signed::from_wire(request.body, &request.signature)?,
        }),
        Body::Receipts(reply) => Message::Receipts(Receipts {
            request: RequestId(reply.request),
            body: signed(reply)?,
        }),
    })
}

fn signed<T: Statement>(reply: wire::SignedReply) -> Result<Signed<T>, DecodeError> {
    Signed::from_wire(reply.body, &reply.signature)
}

pub(super) fn chunk_index(value: u32) -> Result<u16, DecodeError> {
    u16::try_from(value).map_err(|_| DecodeError::OutOfBounds("index"))
}

fn sub_ack_in(ack: wire::SubAck) -> Result<SubAck, DecodeError> {
    let state = match (ack.pending, ack.edge) {
        (true, None) => SubState::Pending,
        (true, Some(_)) => return Err(DecodeError::Missing("edge")),
        (false, edge) => SubState::Live(edge.map(position_in)),
    };
    Ok(SubAck {
        request: RequestId(ack.request),
        state,
        load: byte(ack.load, "load")?,
        path: ack.path,
    })
}

const fn reason_in(reason: u32) -> Result<NoRouteReason, DecodeError> {
    Ok(match reason {
        1 => NoRouteReason::NoCloserPeer,
        2 => NoRouteReason::HopLimit,
        3 => NoRouteReason::Timeout,
        4 => NoRouteReason::Overloaded,
        0 => return Err(DecodeError::Missing("reason")),
        // A later version's; whatever it is, there is no way on.
        _ => NoRouteReason::NoCloserPeer,
    })
}

fn redirect_in(redirect: &wire::Redirect) -> Result<Redirect, DecodeError> {
    let nodes: Result<_, _> = redirect
        .nodes
        .iter()
        .map(|node| {
            Ok::<_, DecodeError>(NodeAddresses {
                node: node_in(&node.node)?,
                addresses: addresses_in(&node.addresses)?,
            })
        })
        .collect();
    Ok(Redirect {
        request: RequestId(redirect.request),
        nodes: nodes?,
    })
}

fn nack_in(nack: wire::Nack) -> Result<Nack, DecodeError> {
    let chunks: Result<_, _> = nack.chunks.into_iter().map(chunk_index).collect();
    Ok(Nack {
        request: RequestId(nack.request),
        slot: slot_in(nack.slot)?,
        chunks: chunks?,
    })
}

fn transcode_sub_in(sub: wire::TranscodeSub) -> Result<TranscodeSub, DecodeError> {
    let claim = present(sub.claim, "claim")?;
    let sealed = (!claim.sealed.is_empty())
        .then(|| array(&claim.sealed, "sealed").map(SealedAddresses::from_bytes))
        .transpose()?;
    Ok(TranscodeSub {
        request: RequestId(sub.request),
        branch: sub.branch,
        from: sub.from.map(position_in),
        hops_left: byte(sub.hops_left, "hops_left")?,
        claim: TranscodeClaim {
            stream: stream_in(claim.stream)?,
            job: JobId(claim.job),
            transcoder: node_in(&claim.transcoder)?,
            addresses: addresses_in(&claim.addresses)?,
            sealed,
            sequence: claim.sequence,
            expires_ms: claim.expires_ms,
        },
        signature: array(&sub.signature, "signature")?,
    })
}
