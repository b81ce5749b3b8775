//! Ids and small values between their domain and wire types. Reading one checks its form;
//! its bounds are the business of [`super::bounds`].

use bytes::Bytes;

use super::wire;
use crate::{
    AddressText, BroadcastId, ManifestId, NodeId, Position, Rendition, RenditionName, Roles, Slot,
    StreamId, error::DecodeError,
};

pub(super) fn present<T>(value: Option<T>, field: &'static str) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing(field))
}

pub(super) fn byte(value: u32, field: &'static str) -> Result<u8, DecodeError> {
    u8::try_from(value).map_err(|_| DecodeError::OutOfBounds(field))
}

pub(super) fn array<const N: usize>(
    bytes: &[u8],
    field: &'static str,
) -> Result<[u8; N], DecodeError> {
    bytes
        .try_into()
        .map_err(|_| DecodeError::OutOfBounds(field))
}

pub(super) fn node_out(node: NodeId) -> Bytes {
    Bytes::copy_from_slice(node.public_key())
}

pub(super) fn node_in(bytes: &[u8]) -> Result<NodeId, DecodeError> {
    Ok(NodeId::from_public_key(array(bytes, "node")?))
}

pub(super) fn stream_out(stream: &StreamId) -> wire::StreamId {
    wire::StreamId {
        node: node_out(stream.node),
        broadcast: Bytes::copy_from_slice(stream.broadcast.as_bytes()),
        rendition: stream.rendition.as_str().to_owned(),
    }
}

pub(super) fn stream_in(stream: Option<wire::StreamId>) -> Result<StreamId, DecodeError> {
    let stream = present(stream, "stream")?;
    Ok(StreamId {
        node: node_in(&stream.node)?,
        broadcast: BroadcastId::from_bytes(array(&stream.broadcast, "broadcast")?),
        rendition: stream.rendition.parse()?,
    })
}

pub(super) fn manifest_out(manifest: &ManifestId) -> wire::ManifestId {
    wire::ManifestId {
        node: node_out(manifest.node),
        broadcast: Bytes::copy_from_slice(manifest.broadcast.as_bytes()),
    }
}

pub(super) fn manifest_in(manifest: Option<wire::ManifestId>) -> Result<ManifestId, DecodeError> {
    let manifest = present(manifest, "manifest")?;
    Ok(ManifestId {
        node: node_in(&manifest.node)?,
        broadcast: BroadcastId::from_bytes(array(&manifest.broadcast, "broadcast")?),
    })
}

pub(super) const fn position_out(position: Position) -> wire::Position {
    wire::Position {
        segment: position.segment,
        part: position.part,
    }
}

pub(super) const fn position_in(position: wire::Position) -> Position {
    Position {
        segment: position.segment,
        part: position.part,
    }
}

pub(super) const fn slot_out(slot: Slot) -> wire::Slot {
    let kind = match slot {
        Slot::Init(index) => wire::slot::Kind::Init(index),
        Slot::Part(position) => wire::slot::Kind::Part(position_out(position)),
    };
    wire::Slot { kind: Some(kind) }
}

pub(super) fn slot_in(slot: Option<wire::Slot>) -> Result<Slot, DecodeError> {
    let kind = present(slot.and_then(|slot| slot.kind), "slot")?;
    Ok(match kind {
        wire::slot::Kind::Init(index) => Slot::Init(index),
        wire::slot::Kind::Part(position) => Slot::Part(position_in(position)),
    })
}

pub(super) const fn roles_out(roles: Roles) -> wire::Roles {
    wire::Roles {
        broadcaster: roles.broadcaster,
        relayer: roles.relayer,
        transcoder: roles.transcoder,
    }
}

/// Absent roles are an edge's.
pub(super) fn roles_in(roles: Option<wire::Roles>) -> Roles {
    let roles = roles.unwrap_or_default();
    Roles {
        broadcaster: roles.broadcaster,
        relayer: roles.relayer,
        transcoder: roles.transcoder,
    }
}

pub(super) fn addresses_out(addresses: &[AddressText]) -> Vec<String> {
    addresses
        .iter()
        .map(|address| address.as_str().to_owned())
        .collect()
}

pub(super) fn addresses_in(addresses: &[String]) -> Result<Vec<AddressText>, DecodeError> {
    let parsed: Result<_, _> = addresses
        .iter()
        .map(|text| AddressText::new(text))
        .collect();
    Ok(parsed?)
}

pub(super) fn names_in(names: &[String]) -> Result<Vec<RenditionName>, DecodeError> {
    let parsed: Result<_, _> = names.iter().map(|name| name.parse()).collect();
    Ok(parsed?)
}

pub(super) fn renditions_out(renditions: &[Rendition]) -> Vec<wire::Rendition> {
    renditions
        .iter()
        .map(|rendition| wire::Rendition {
            stream: Some(stream_out(&rendition.stream)),
            codecs: rendition.codecs.clone(),
            width: rendition.width,
            height: rendition.height,
            frame_rate_milli: rendition.frame_rate_milli,
            bandwidth: rendition.bandwidth,
            average_bandwidth: rendition.average_bandwidth,
            target_duration_ms: rendition.target_duration_ms,
            part_target_ms: rendition.part_target_ms,
        })
        .collect()
}

pub(super) fn renditions_in(
    renditions: Vec<wire::Rendition>,
) -> Result<Vec<Rendition>, DecodeError> {
    renditions.into_iter().map(rendition_in).collect()
}

fn rendition_in(rendition: wire::Rendition) -> Result<Rendition, DecodeError> {
    Ok(Rendition {
        stream: stream_in(rendition.stream)?,
        codecs: rendition.codecs,
        width: rendition.width,
        height: rendition.height,
        frame_rate_milli: rendition.frame_rate_milli,
        bandwidth: rendition.bandwidth,
        average_bandwidth: rendition.average_bandwidth,
        target_duration_ms: rendition.target_duration_ms,
        part_target_ms: rendition.part_target_ms,
    })
}
