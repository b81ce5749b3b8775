//! The bounds on values, which hold in both directions: what a peer would refuse is not
//! sent, and what is out of bounds is not read.

use crate::{
    Chunk, MasterPlaylist, MediaInfo, Message, NodeStatus, PartHeader, Position, ReceiptList,
    ReceiptsWanted, Rendition, Signed, Slot, Statement, StreamEnd, StreamStatus, TranscodeClaim,
    TranscodeResult,
    error::OutOfBounds,
    limits::{
        CHUNK_BYTES, MAX_ADDRESSES, MAX_AGENT_BYTES, MAX_CHUNKS, MAX_CODECS_BYTES, MAX_HOPS,
        MAX_INIT, MAX_PART_BYTES, MAX_PARTS, MAX_PATH, MAX_RECEIPTS, MAX_REDIRECT_NODES,
        MAX_RENDITIONS, MAX_SEGMENT, MAX_START, MAX_STATUS_STREAMS, MAX_UNIX_MS,
    },
};

type Result = std::result::Result<(), OutOfBounds>;

pub(super) fn message(message: &Message) -> Result {
    match message {
        Message::Hello(hello) => printable(&hello.agent, MAX_AGENT_BYTES, "agent"),
        Message::Sub(sub) => {
            optional(sub.from, "from")?;
            hops(sub.hops_left)
        }
        Message::SubAck(ack) => {
            if let crate::SubState::Live(edge) = ack.state {
                optional(edge, "edge")?;
            }
            within(ack.path.len() <= MAX_PATH, "path")
        }
        Message::Redirect(redirect) => {
            within(redirect.nodes.len() <= MAX_REDIRECT_NODES, "nodes")?;
            let few = |node: &crate::NodeAddresses| node.addresses.len() <= MAX_ADDRESSES;
            within(redirect.nodes.iter().all(few), "addresses")
        }
        Message::Finish(finish) => signed(&finish.body),
        Message::Part(part) => signed(&part.header),
        Message::Chunk(chunk) => whole_chunk(chunk),
        Message::Nack(nack) => {
            slot(nack.slot)?;
            within(nack.chunks.len() <= MAX_CHUNKS, "chunks")?;
            nack.chunks.iter().try_for_each(|index| chunk_index(*index))
        }
        Message::Gap(gap) => {
            position(gap.from, "from")?;
            position(gap.to, "to")?;
            within(gap.from < gap.to, "to")
        }
        Message::GetMasterPlaylist(get) => hops(get.hops_left),
        Message::MasterPlaylistData(data) => signed(&data.body),
        Message::NodeStatusReq(req) => hops(req.hops_left),
        Message::NodeStatusData(data) => signed(&data.body),
        Message::TranscodeSub(sub) => {
            optional(sub.from, "from")?;
            hops(sub.hops_left)?;
            claim(&sub.claim)
        }
        Message::TranscodeResponse(response) => {
            hops(response.hops_left)?;
            signed(&response.body)
        }
        Message::JobProbe(probe) => {
            within(probe.renditions.len() <= MAX_RENDITIONS, "renditions")?;
            hops(probe.hops_left)
        }
        Message::GetReceipts(get) => {
            hops(get.hops_left)?;
            signed(&get.body)
        }
        Message::Receipts(receipts) => signed(&receipts.body),
        Message::Ping(_)
        | Message::Pong(_)
        | Message::NotFound(_)
        | Message::NoRoute(_)
        | Message::Cancel(_)
        | Message::JobProbeReply(_) => Ok(()),
    }
}

fn signed<T: Statement>(body: &Signed<T>) -> Result {
    body.value().check()
}

fn whole_chunk(chunk: &Chunk) -> Result {
    chunk_place(chunk.slot, chunk.index)?;
    let len = chunk.payload.len();
    within((1..=CHUNK_BYTES).contains(&len), "payload_bytes")
}

/// Where a chunk belongs, which is known before its payload.
pub(super) fn chunk_place(at: Slot, index: u16) -> Result {
    slot(at)?;
    chunk_index(index)
}

fn claim(claim: &TranscodeClaim) -> Result {
    within(claim.addresses.len() <= MAX_ADDRESSES, "addresses")?;
    let both = claim.sealed.is_some() && !claim.addresses.is_empty();
    within(!both, "addresses")?;
    within(claim.expires_ms <= MAX_UNIX_MS, "expires_ms")
}

pub(super) fn part_header(header: &PartHeader) -> Result {
    slot(header.slot)?;
    match (header.slot, &header.media) {
        (Slot::Init(_), None) => {}
        (Slot::Part(_), Some(info)) => media(info)?,
        (Slot::Init(_), Some(_)) | (Slot::Part(_), None) => return Err(OutOfBounds("media")),
    }
    let size = usize::try_from(header.size).unwrap_or(usize::MAX);
    within((1..=MAX_PART_BYTES).contains(&size), "size")?;
    within(header.hashes.len() == size.div_ceil(CHUNK_BYTES), "hashes")
}

/// Keeps numbers where sums and products of them fit.
fn media(media: &MediaInfo) -> Result {
    within(media.init <= MAX_INIT, "init")?;
    within(media.start <= MAX_START, "start")?;
    let wall_clock = media.program_date_time_ms;
    within(wall_clock <= MAX_UNIX_MS, "program_date_time_ms")?;
    within(media.discontinuity <= MAX_INIT, "discontinuity")
}

pub(super) fn stream_end(end: &StreamEnd) -> Result {
    optional(end.last, "last")
}

pub(super) fn master_playlist(master: &MasterPlaylist) -> Result {
    renditions(&master.renditions)
}

pub(super) fn node_status(status: &NodeStatus) -> Result {
    within(status.time_ms <= MAX_UNIX_MS, "time_ms")?;
    printable(&status.agent, MAX_AGENT_BYTES, "agent")?;
    within(status.uptime_s <= MAX_UNIX_MS / 1000, "uptime_s")?;
    within(status.streams.len() <= MAX_STATUS_STREAMS, "streams")?;
    let edge = |stream: &StreamStatus| optional(stream.edge, "edge");
    status.streams.iter().try_for_each(edge)
}

pub(super) fn transcode_result(result: &TranscodeResult) -> Result {
    renditions(&result.renditions)
}

pub(super) fn receipts_wanted(wanted: &ReceiptsWanted) -> Result {
    within(wanted.from_segment <= MAX_SEGMENT, "from_segment")
}

pub(super) fn receipt_list(list: &ReceiptList) -> Result {
    within(list.from_segment <= MAX_SEGMENT, "from_segment")?;
    within(list.receipts.len() <= MAX_RECEIPTS, "receipts")?;
    let numbers = || list.receipts.iter().map(|receipt| receipt.segment);
    within(numbers().is_sorted_by(|a, b| a < b), "segment")?;
    let wanted = list.from_segment..=MAX_SEGMENT;
    within(numbers().all(|number| wanted.contains(&number)), "segment")
}

fn renditions(renditions: &[Rendition]) -> Result {
    within(renditions.len() <= MAX_RENDITIONS, "renditions")?;
    // They end up between quotes in a playlist.
    let plain = |b: u8| b.is_ascii_graphic() && b != b'"';
    let codecs = |text: &str| text.len() <= MAX_CODECS_BYTES && text.bytes().all(plain);
    within(renditions.iter().all(|r| codecs(&r.codecs)), "codecs")
}

/// Text that is shown to people: nothing in it may steer a terminal.
fn printable(text: &str, max: usize, field: &'static str) -> Result {
    within(
        text.len() <= max && !text.chars().any(char::is_control),
        field,
    )
}

fn slot(slot: Slot) -> Result {
    match slot {
        Slot::Init(index) => within(index <= MAX_INIT, "slot"),
        Slot::Part(at) => position(at, "slot"),
    }
}

fn optional(at: Option<Position>, field: &'static str) -> Result {
    at.map_or(Ok(()), |at| position(at, field))
}

fn position(at: Position, field: &'static str) -> Result {
    within(at.segment <= MAX_SEGMENT && at.part < MAX_PARTS, field)
}

fn chunk_index(index: u16) -> Result {
    within(usize::from(index) < MAX_CHUNKS, "index")
}

fn hops(left: u8) -> Result {
    within(left <= MAX_HOPS, "hops_left")
}

fn within(fits: bool, field: &'static str) -> Result {
    if fits {
        Ok(())
    } else {
        Err(OutOfBounds(field))
    }
}
