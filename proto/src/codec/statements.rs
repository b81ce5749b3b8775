//! The bodies that are signed, between their domain and wire types.

use bytes::Bytes;
use prost::Message as _;

use super::{
    bounds,
    scan::{self, Shape},
    values::{
        array, byte, manifest_in, manifest_out, node_in, node_out, position_in, position_out,
        renditions_in, renditions_out, roles_in, roles_out, slot_in, slot_out, stream_in,
        stream_out,
    },
    wire,
};
use crate::{
    JobId, MasterPlaylist, MediaInfo, NodeId, NodeStatus, PartHeader, ReceiptList, ReceiptsWanted,
    SegmentReceipt, Statement, StreamEnd, StreamStatus, TranscodeResult,
    error::{DecodeError, OutOfBounds},
};

const HASH_BYTES: usize = 32;

/// Builds a wire type from bytes that have its shape.
fn read<T: prost::Message + Default>(bytes: Bytes, shape: &Shape) -> Result<T, DecodeError> {
    scan::scan(&bytes, shape)?;
    Ok(T::decode(bytes)?)
}

fn checked<T: Statement>(statement: T) -> Result<T, DecodeError> {
    statement.check()?;
    Ok(statement)
}

impl Statement for PartHeader {
    const CONTEXT: &'static str = "headwater 2026 v1 part header";

    fn author(&self) -> NodeId {
        self.stream.node
    }

    fn check(&self) -> Result<(), OutOfBounds> {
        bounds::part_header(self)
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
        let header = read::<wire::PartHeader>(bytes, &scan::PART_HEADER)?;
        let hashes: Result<_, _> = header
            .hashes
            .chunks(HASH_BYTES)
            .map(|hash| array(hash, "hashes"))
            .collect();
        checked(Self {
            stream: stream_in(header.stream)?,
            slot: slot_in(header.slot)?,
            media: header.media.map(media_in),
            size: header.size,
            hashes: hashes?,
        })
    }
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

    fn check(&self) -> Result<(), OutOfBounds> {
        bounds::stream_end(self)
    }

    fn encode(&self) -> Bytes {
        let end = wire::StreamEnd {
            stream: Some(stream_out(&self.stream)),
            last: self.last.map(position_out),
        };
        end.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let end = read::<wire::StreamEnd>(bytes, &scan::STREAM_END)?;
        checked(Self {
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

    fn check(&self) -> Result<(), OutOfBounds> {
        bounds::master_playlist(self)
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
        let master = read::<wire::MasterPlaylist>(bytes, &scan::MASTER_PLAYLIST)?;
        checked(Self {
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

    fn check(&self) -> Result<(), OutOfBounds> {
        bounds::node_status(self)
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
        let status = read::<wire::NodeStatus>(bytes, &scan::NODE_STATUS)?;
        let streams: Result<_, _> = status.streams.into_iter().map(stream_status_in).collect();
        checked(Self {
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

    fn check(&self) -> Result<(), OutOfBounds> {
        bounds::transcode_result(self)
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
        let result = read::<wire::TranscodeResult>(bytes, &scan::TRANSCODE_RESULT)?;
        checked(Self {
            stream: stream_in(result.stream)?,
            job: JobId(result.job),
            transcoder: node_in(&result.transcoder)?,
            sequence: result.sequence,
            renditions: renditions_in(result.renditions)?,
        })
    }
}

impl Statement for ReceiptsWanted {
    const CONTEXT: &'static str = "headwater 2026 v1 receipts wanted";

    fn author(&self) -> NodeId {
        self.transcoder
    }

    fn check(&self) -> Result<(), OutOfBounds> {
        bounds::receipts_wanted(self)
    }

    fn encode(&self) -> Bytes {
        let wanted = wire::ReceiptsWanted {
            stream: Some(stream_out(&self.stream)),
            job: self.job.0,
            transcoder: node_out(self.transcoder),
            from_segment: self.from_segment,
        };
        wanted.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let wanted = read::<wire::ReceiptsWanted>(bytes, &scan::RECEIPTS_WANTED)?;
        checked(Self {
            stream: stream_in(wanted.stream)?,
            job: JobId(wanted.job),
            transcoder: node_in(&wanted.transcoder)?,
            from_segment: wanted.from_segment,
        })
    }
}

impl Statement for ReceiptList {
    const CONTEXT: &'static str = "headwater 2026 v1 receipt list";

    fn author(&self) -> NodeId {
        self.stream.node
    }

    fn check(&self) -> Result<(), OutOfBounds> {
        bounds::receipt_list(self)
    }

    fn encode(&self) -> Bytes {
        let receipts = self.receipts.iter().map(|receipt| wire::SegmentReceipt {
            segment: receipt.segment,
            source_hash: Bytes::copy_from_slice(&receipt.source_hash),
            signature: Bytes::copy_from_slice(&receipt.signature),
        });
        let list = wire::ReceiptList {
            stream: Some(stream_out(&self.stream)),
            job: self.job.0,
            transcoder: node_out(self.transcoder),
            from_segment: self.from_segment,
            receipts: receipts.collect(),
        };
        list.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let list = read::<wire::ReceiptList>(bytes, &scan::RECEIPT_LIST)?;
        let receipts: Result<_, _> = list.receipts.iter().map(receipt_in).collect();
        checked(Self {
            stream: stream_in(list.stream)?,
            job: JobId(list.job),
            transcoder: node_in(&list.transcoder)?,
            from_segment: list.from_segment,
            receipts: receipts?,
        })
    }
}

fn receipt_in(receipt: &wire::SegmentReceipt) -> Result<SegmentReceipt, DecodeError> {
    Ok(SegmentReceipt {
        segment: receipt.segment,
        source_hash: array(&receipt.source_hash, "source_hash")?,
        signature: array(&receipt.signature, "signature")?,
    })
}
