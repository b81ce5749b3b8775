//! What messages want of the node that gets them.

use headwater_proto::{Message, RequestId};

/// What a message wants of the node that gets it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asks {
    Nothing,
    Work,
    /// Work, and an answer to this request.
    Answer(RequestId),
}

pub(crate) fn asks(message: &Message) -> Asks {
    match message {
        Message::Sub(sub) => Asks::Answer(sub.request),
        Message::GetMasterPlaylist(get) => Asks::Answer(get.request),
        Message::NodeStatusReq(get) => Asks::Answer(get.request),
        Message::TranscodeResponse(response) => Asks::Answer(response.request),
        Message::JobProbe(probe) => Asks::Answer(probe.request),
        Message::GetReceipts(get) => Asks::Answer(get.request),
        Message::TranscodeSub(sub) if sub.branch => Asks::Answer(sub.request),
        Message::TranscodeSub(_) | Message::Ping(_) | Message::Nack(_) => Asks::Work,
        Message::Hello(_)
        | Message::Pong(_)
        | Message::SubAck(_)
        | Message::NotFound(_)
        | Message::NoRoute(_)
        | Message::Redirect(_)
        | Message::Cancel(_)
        | Message::Finish(_)
        | Message::Part(_)
        | Message::Chunk(_)
        | Message::Gap(_)
        | Message::MasterPlaylistData(_)
        | Message::NodeStatusData(_)
        | Message::JobProbeReply(_)
        | Message::Receipts(_) => Asks::Nothing,
    }
}
