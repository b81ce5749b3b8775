//! The bodies that are signed, between their domain and wire types.

use bytes::Bytes;
use prost::Message as _;

use super::{
    values::{
        array, bounded, byte, manifest_in, manifest_out, node_in, node_out, position_in,
        position_out, present, printable, renditions_in, renditions_out, roles_in, roles_out,
        slot_in, slot_out, stream_in, stream_out,
    },
    wire,
};
use crate::{
    JobId, MasterPlaylist, MediaInfo, NodeId, NodeStatus, PartHeader, Slot, Statement, StreamEnd,
    StreamStatus, TranscodeResult,
    error::DecodeError,
    limits::{
        CHUNK_BYTES, MAX_AGENT_BYTES, MAX_PART_BYTES, MAX_SEGMENT, MAX_START, MAX_STATUS_STREAMS,
        MAX_UNIX_MS,
    },
};

const HASH_BYTES: usize = 32;

impl Statement for PartHeader {
    const CONTEXT: &'static str = "headwater 2026 v1 part header";

    fn author(&self) -> NodeId {
        self.stream.node
    }

    fn encode(&self) -> Bytes {
        let media = self.media.map(|media| wire::MediaInfo {
            init: media.init,
            start: media.start,
            duration: media.duration,
            program_date_time_ms: media.program_date_time_ms,
            discontinuity: media.discontinuity,
            independent: media.independent,
            last: media.last,
        });
        let header = wire::PartHeader {
            stream: Some(stream_out(&self.stream)),
            slot: Some(slot_out(self.slot)),
            media,
            size: self.size,
            hashes: self.hashes.concat().into(),
        };
        header.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let header = wire::PartHeader::decode(bytes)?;
        let slot = slot_in(header.slot)?;
        let media = match (slot, header.media) {
            (Slot::Init(_), None) => None,
            (Slot::Part(_), Some(media)) => Some(media_in(media)),
            (Slot::Init(_), Some(_)) | (Slot::Part(_), None) => {
                return Err(DecodeError::Missing("media"));
            }
        };
        check_times(slot, media.as_ref())?;
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        if size == 0 || size > MAX_PART_BYTES {
            return Err(DecodeError::OutOfBounds("size"));
        }
        if header.hashes.len() != size.div_ceil(CHUNK_BYTES) * HASH_BYTES {
            return Err(DecodeError::OutOfBounds("hashes"));
        }
        let hashes: Result<_, _> = header
            .hashes
            .chunks_exact(HASH_BYTES)
            .map(|hash| array(hash, "hashes"))
            .collect();
        Ok(Self {
            stream: stream_in(header.stream)?,
            slot,
            media,
            size: header.size,
            hashes: hashes?,
        })
    }
}

/// Keeps numbers where sums and products of them fit.
fn check_times(slot: Slot, media: Option<&MediaInfo>) -> Result<(), DecodeError> {
    if matches!(slot, Slot::Part(position) if position.segment > MAX_SEGMENT) {
        return Err(DecodeError::OutOfBounds("segment"));
    }
    let late =
        |media: &MediaInfo| media.start > MAX_START || media.program_date_time_ms > MAX_UNIX_MS;
    if media.is_some_and(late) {
        return Err(DecodeError::OutOfBounds("start"));
    }
    Ok(())
}

const fn media_in(media: wire::MediaInfo) -> MediaInfo {
    MediaInfo {
        init: media.init,
        start: media.start,
        duration: media.duration,
        program_date_time_ms: media.program_date_time_ms,
        discontinuity: media.discontinuity,
        independent: media.independent,
        last: media.last,
    }
}

impl Statement for StreamEnd {
    const CONTEXT: &'static str = "headwater 2026 v1 stream end";

    fn author(&self) -> NodeId {
        self.stream.node
    }

    fn encode(&self) -> Bytes {
        let end = wire::StreamEnd {
            stream: Some(stream_out(&self.stream)),
            last: self.last.map(position_out),
        };
        end.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let end = wire::StreamEnd::decode(bytes)?;
        Ok(Self {
            stream: stream_in(end.stream)?,
            last: end.last.map(position_in),
        })
    }
}

impl Statement for MasterPlaylist {
    const CONTEXT: &'static str = "headwater 2026 v1 master playlist";

    fn author(&self) -> NodeId {
        self.manifest.node
    }

    fn encode(&self) -> Bytes {
        let master = wire::MasterPlaylist {
            manifest: Some(manifest_out(&self.manifest)),
            version: self.version,
            ended: self.ended,
            renditions: renditions_out(&self.renditions),
        };
        master.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let master = wire::MasterPlaylist::decode(bytes)?;
        Ok(Self {
            manifest: manifest_in(master.manifest)?,
            version: master.version,
            ended: master.ended,
            renditions: renditions_in(master.renditions)?,
        })
    }
}

impl Statement for NodeStatus {
    const CONTEXT: &'static str = "headwater 2026 v1 node status";

    fn author(&self) -> NodeId {
        self.node
    }

    fn encode(&self) -> Bytes {
        let streams = self.streams.iter().map(|stream| wire::StreamStatus {
            stream: Some(stream_out(&stream.stream)),
            edge: stream.edge.map(position_out),
            parent: stream.parent.map_or_else(Bytes::new, node_out),
            children: stream.children,
        });
        let status = wire::NodeStatus {
            node: node_out(self.node),
            time_ms: self.time_ms,
            agent: self.agent.clone(),
            roles: Some(roles_out(self.roles)),
            uptime_s: self.uptime_s,
            peers: self.peers,
            load: u32::from(self.load),
            streams: streams.collect(),
        };
        status.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let status = wire::NodeStatus::decode(bytes)?;
        printable(&status.agent, MAX_AGENT_BYTES, "agent")?;
        bounded(status.streams.len(), MAX_STATUS_STREAMS, "streams")?;
        let streams: Result<_, _> = status.streams.into_iter().map(stream_status_in).collect();
        Ok(Self {
            node: node_in(&status.node)?,
            time_ms: status.time_ms,
            agent: status.agent,
            roles: roles_in(status.roles),
            uptime_s: status.uptime_s,
            peers: status.peers,
            load: byte(status.load, "load")?,
            streams: streams?,
        })
    }
}

fn stream_status_in(status: wire::StreamStatus) -> Result<StreamStatus, DecodeError> {
    let parent = (!status.parent.is_empty()).then(|| node_in(&status.parent));
    Ok(StreamStatus {
        stream: stream_in(status.stream)?,
        edge: status.edge.map(position_in),
        parent: parent.transpose()?,
        children: status.children,
    })
}

impl Statement for TranscodeResult {
    const CONTEXT: &'static str = "headwater 2026 v1 transcode result";

    fn author(&self) -> NodeId {
        self.transcoder
    }

    fn encode(&self) -> Bytes {
        let result = wire::TranscodeResult {
            stream: Some(stream_out(&self.stream)),
            job: self.job.0,
            transcoder: node_out(self.transcoder),
            sequence: self.sequence,
            renditions: renditions_out(&self.renditions),
        };
        result.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let result = wire::TranscodeResult::decode(bytes)?;
        Ok(Self {
            stream: stream_in(Some(present(result.stream, "stream")?))?,
            job: JobId(result.job),
            transcoder: node_in(&result.transcoder)?,
            sequence: result.sequence,
            renditions: renditions_in(result.renditions)?,
        })
    }
}
