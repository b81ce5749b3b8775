//! What can happen to a node, from a few choices each.

use arbitrary::Arbitrary;
use headwater_proto::{Chunk, JobId, Message, Part, RequestId, Roles, StreamId};
use headwater_protocol::{Answer, Command, DialId, Input, Question};

use super::say::{
    At, Claim, Said, Which, end, made, master, peer, receipts, result, status, wanted,
};
use crate::{
    bed::{self, Bed},
    material::address,
};

/// One thing that happens, after a while.
#[derive(Debug, Clone, Arbitrary)]
pub(super) struct Step {
    /// How long after the one before, up to some seconds.
    after: u8,
    act: Act,
}

#[derive(Debug, Clone, Arbitrary)]
enum Act {
    Connect {
        peer: u8,
        relayer: bool,
    },
    Disconnect {
        peer: u8,
    },
    Dialled {
        dial: u8,
    },
    DialFailed {
        dial: u8,
    },
    Addresses {
        peer: u8,
        count: u8,
    },
    Written {
        peer: u8,
        bytes: u16,
    },
    Ask(Wish),
    Answer {
        question: u8,
        with: Verdict,
    },
    /// A neighbour says something of its own.
    Say {
        peer: u8,
        request: u8,
        said: Said,
    },
    /// A neighbour answers one of the node's latest requests.
    Reply {
        request: u8,
        said: Said,
    },
    /// A parent sends a part with all its chunks.
    Feed {
        request: u8,
        at: At,
        version: u8,
    },
    /// The driver was told of a violation by the link's reader.
    Violate {
        peer: u8,
    },
    Timeout,
}

/// What the program wants.
#[derive(Debug, Clone, Arbitrary)]
enum Wish {
    Publish(Which),
    Append(Which, At, u8),
    Finish(Which, Option<At>),
    Unpublish(Which),
    SetMaster(Which, u8, bool),
    Subscribe(Which, Option<At>),
    Unsubscribe(Which),
    Follow(Which),
    Unfollow(Which),
    Status(u8),
    Probe(u8, Which),
    StartJob(u8, Which, Option<At>),
    StopJob(u8),
    Revoke(u8, u8),
    Respond(Which, u8, u8),
    GetReceipts(Which, u8),
}

/// What the driver answers.
#[derive(Debug, Clone, Arbitrary)]
enum Verdict {
    /// As a driver does that grants all.
    Grant(Claim),
    /// As a driver does that refuses all.
    Refuse,
    /// Something else.
    Else(u8),
}

impl Step {
    pub(super) fn apply(self, bed: &mut Bed) {
        let after = match self.after {
            short @ 0..128 => u64::from(short),
            long => u64::from(long - 127) * 50,
        };
        bed.pass(bed.now + std::time::Duration::from_millis(after));
        self.act.apply(bed);
    }
}

impl Act {
    fn apply(self, bed: &mut Bed) {
        match self {
            Self::Connect {
                peer: number,
                relayer,
            } => {
                let roles = Roles {
                    relayer,
                    ..Roles::default()
                };
                bed.connect(peer(number), roles, None);
            }
            Self::Disconnect { peer: number } => bed.disconnect(peer(number)),
            Self::Dialled { dial } => {
                if let Some((dial, to)) = take(&mut bed.dials, dial) {
                    bed.connect(to, Roles::default(), Some(dial));
                }
            }
            Self::DialFailed { dial } => {
                let unknown = (DialId(u64::from(dial)), peer(0));
                let (dial, _) = take(&mut bed.dials, dial).unwrap_or(unknown);
                bed.give(Input::DialFailed { dial });
            }
            Self::Addresses {
                peer: number,
                count,
            } => {
                let (peer, addresses) = (peer(number), vec![address(); usize::from(count % 7)]);
                bed.give(Input::Addresses { peer, addresses });
            }
            Self::Written {
                peer: number,
                bytes,
            } => bed.write(peer(number), usize::from(bytes)),
            Self::Ask(wish) => bed.command(wish.command()),
            Self::Answer { question, with } => {
                if let Some((ask, question)) = take(&mut bed.questions, question) {
                    let answer = with.answer(question, bed);
                    bed.give(Input::Answer { ask, answer });
                }
            }
            Self::Say {
                peer: number,
                request,
                said,
            } => {
                let request = RequestId(u64::from(request % 8));
                let message = said.message(request, which(number));
                bed.arrive(peer(number), &message);
            }
            Self::Reply { request, said } => {
                if let Some((to, request, stream)) = latest(bed, request) {
                    bed.arrive(to, &said.message(request, stream));
                }
            }
            Self::Feed {
                request,
                at,
                version,
            } => {
                if let Some((to, request, stream)) = latest(bed, request) {
                    feed(bed, to, request, stream, at, version);
                }
            }
            Self::Violate { peer: number } => {
                let from = peer(number);
                if bed.is_linked(&from) {
                    let violation = headwater_proto::Violation::Malformed;
                    bed.give(Input::Violation { from, violation });
                }
            }
            Self::Timeout => {
                bed.give(Input::Timeout);
            }
        }
    }
}

fn feed(
    bed: &mut Bed,
    from: headwater_proto::NodeId,
    request: RequestId,
    stream: Which,
    at: At,
    version: u8,
) {
    let (header, chunks) = made(stream, at, version);
    let slot = header.value().slot;
    bed.arrive(from, &Message::Part(Part { request, header }));
    for (index, payload) in (0..).zip(chunks) {
        let chunk = Chunk {
            request,
            slot,
            index,
            payload,
        };
        bed.arrive(from, &Message::Chunk(chunk));
    }
}

/// One of the latest requests of the node: to whom, its id and what it is for.
fn latest(bed: &Bed, choice: u8) -> Option<(headwater_proto::NodeId, RequestId, Which)> {
    let count = bed.asked.len().max(1);
    let asked = bed.asked.get(usize::from(choice) % count)?;
    let stream = asked.stream.as_ref().map_or_else(|| which(choice), of);
    Some((asked.to, asked.request, stream))
}

/// A stream by a number.
fn which(number: u8) -> Which {
    Which::new(number, false, false)
}

/// The choices that give a stream.
fn of(stream: &StreamId) -> Which {
    let owner = bed::owner(stream).unwrap_or(0);
    let other = stream.broadcast.as_bytes()[0] == 1;
    Which::new(owner, other, stream.rendition.as_str() != "source")
}

fn take<T>(from: &mut Vec<T>, choice: u8) -> Option<T> {
    let count = from.len();
    (count > 0).then(|| from.remove(usize::from(choice) % count))
}

impl Wish {
    fn command(self) -> Command {
        match self {
            Self::Publish(which) => Command::Publish {
                stream: which.own().stream(),
            },
            Self::Append(which, at, version) => {
                let (header, chunks) = made(which.own(), at, version);
                Command::Append { header, chunks }
            }
            Self::Finish(which, last) => Command::Finish {
                body: end(which.own(), last),
            },
            Self::Unpublish(which) => Command::Unpublish {
                stream: which.own().stream(),
            },
            Self::SetMaster(which, version, full) => Command::SetMaster {
                body: master(which.own(), version, full),
            },
            Self::Subscribe(which, from) => Command::Subscribe {
                stream: which.stream(),
                from: from.map(At::position),
            },
            Self::Unsubscribe(which) => Command::Unsubscribe {
                stream: which.stream(),
            },
            Self::Follow(which) => Command::FollowMaster {
                manifest: which.manifest(),
            },
            Self::Unfollow(which) => Command::UnfollowMaster {
                manifest: which.manifest(),
            },
            Self::Status(of) => Command::RequestStatus { node: peer(of) },
            Self::Probe(of, which) => Command::Probe {
                transcoder: peer(of),
                stream: which.stream(),
                renditions: Vec::new(),
            },
            Self::StartJob(job, which, from) => Command::StartJob {
                job: JobId(u64::from(job % 3)),
                stream: which.stream(),
                from: from.map(At::position),
            },
            Self::StopJob(job) => Command::StopJob {
                job: JobId(u64::from(job % 3)),
            },
            Self::Revoke(of, job) => Command::RevokeClaim {
                transcoder: peer(of),
                job: JobId(u64::from(job % 3)),
            },
            Self::GetReceipts(which, job) => Command::GetReceipts {
                body: wanted(which, job, 0),
            },
            Self::Respond(which, job, sequence) => Command::Respond {
                body: result(which, job, sequence, 0),
            },
        }
    }
}

impl Verdict {
    fn answer(self, question: Question, bed: &Bed) -> Answer {
        match (self, question) {
            (Self::Grant(claim), Question::Claim { job }) => {
                let stream = bed.stream_of(job);
                Answer::Claim(stream.map(|stream| Box::new((claim.own(job, stream), [0; 65]))))
            }
            (Self::Grant(_), Question::CheckClaim { claim, .. }) => Answer::ClaimGranted {
                addresses: claim.addresses,
            },
            (Self::Grant(_), Question::CheckResult { .. }) => Answer::Result { accepted: true },
            (Self::Grant(claim), Question::Receipts { .. }) => {
                let list = receipts(which(0), claim.job(), claim.job());
                Answer::Receipts(Some(list))
            }
            (Self::Refuse, Question::Receipts { .. }) => Answer::Receipts(None),
            (Self::Grant(_) | Self::Refuse, Question::Status) => Answer::Status(status(0)),
            (Self::Grant(_) | Self::Refuse, Question::Lookup { .. }) => Answer::Lookup,
            (Self::Grant(_), Question::Probe { .. }) => Answer::Probe { available: true },
            (Self::Refuse, Question::Claim { .. }) => Answer::Claim(None),
            (Self::Refuse, Question::CheckClaim { .. }) => Answer::ClaimRefused,
            (Self::Refuse, Question::CheckResult { .. }) => Answer::Result { accepted: false },
            (Self::Refuse, Question::Probe { .. }) => Answer::Probe { available: false },
            (Self::Else(choice), _) => match choice % 4 {
                0 => Answer::Lookup,
                1 => Answer::ClaimGranted {
                    addresses: vec![address()],
                },
                2 => Answer::Status(status(choice % 12)),
                _ => Answer::Claim(None),
            },
        }
    }
}
