//! Requests on one direction of a link: who asked what, and whether it was answered.
//!
//! A request is noted when it is sent and counts for the answerer once it has arrived; a
//! subscription is over for its parent when Cancel has arrived or the parent has said no.

use headwater_proto::{Message, RequestId};
use headwater_protocol::Time;

use super::Rule;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskKind {
    /// A stream.
    Stream,
    /// A stream or only the owner's attention, by TranscodeSub without a branch.
    Claim,
    /// A master playlist and its changes.
    Master,
    /// One answer.
    Once,
}

/// How far a request has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Arrived(Time),
    Answered,
    /// Ended by the answerer; the asker has not heard it.
    Told,
    /// Ended by the asker; the answerer may know it.
    Ended {
        known: bool,
    },
}

/// One request that is not over.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    request: RequestId,
    kind: AskKind,
    /// A fingerprint of the stream that is asked for; 0 when it is none.
    stream: u64,
    state: State,
}

/// Requests that nobody owes anything any more and that are remembered, for each
/// direction.
const ENDED_KEPT: usize = 8;

/// What the answerer says.
enum Answer {
    /// Data or a sign of life of a stream; not the last.
    Stream,
    /// The last word.
    Last,
    /// The last word when it comes first; later an offer of another parent, which leaves
    /// the subscription as it is.
    Elsewhere,
    /// A master playlist, which may come again.
    Master,
}

/// Which side of a request a message is on.
enum Side {
    Asks(RequestId, AskKind),
    Ends(RequestId),
    Answers(RequestId, Answer),
    Neither,
}

fn side(message: &Message) -> Side {
    match message {
        Message::Sub(m) => Side::Asks(m.request, AskKind::Stream),
        Message::TranscodeSub(m) if m.branch => Side::Asks(m.request, AskKind::Stream),
        Message::TranscodeSub(m) => Side::Asks(m.request, AskKind::Claim),
        Message::GetMasterPlaylist(m) => Side::Asks(m.request, AskKind::Master),
        Message::NodeStatusReq(m) => Side::Asks(m.request, AskKind::Once),
        Message::TranscodeResponse(m) => Side::Asks(m.request, AskKind::Once),
        Message::JobProbe(m) => Side::Asks(m.request, AskKind::Once),
        Message::GetReceipts(m) => Side::Asks(m.request, AskKind::Once),
        Message::Cancel(m) => Side::Ends(m.request),
        Message::SubAck(m) => Side::Answers(m.request, Answer::Stream),
        Message::Part(m) => Side::Answers(m.request, Answer::Stream),
        Message::Chunk(m) => Side::Answers(m.request, Answer::Stream),
        Message::Gap(m) => Side::Answers(m.request, Answer::Stream),
        Message::Finish(m) => Side::Answers(m.request, Answer::Stream),
        Message::NotFound(m) => Side::Answers(m.request, Answer::Last),
        Message::NoRoute(m) => Side::Answers(m.request, Answer::Last),
        Message::Redirect(m) => Side::Answers(m.request, Answer::Elsewhere),
        Message::NodeStatusData(m) => Side::Answers(m.request, Answer::Last),
        Message::JobProbeReply(m) => Side::Answers(m.request, Answer::Last),
        Message::Receipts(m) => Side::Answers(m.request, Answer::Last),
        Message::MasterPlaylistData(m) => Side::Answers(m.request, Answer::Master),
        Message::Nack(_) | Message::Hello(_) | Message::Ping(_) | Message::Pong(_) => Side::Neither,
    }
}

/// Whose list of requests a message that is sent has to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The sender's.
    Own,
    /// The receiver's.
    Theirs,
    /// Nobody's.
    Nobodys,
}

/// See [`Whose`].
pub(super) fn whose(message: &Message) -> Whose {
    match side(message) {
        Side::Asks(..) | Side::Ends(_) => Whose::Own,
        Side::Answers(..) => Whose::Theirs,
        Side::Neither => Whose::Nobodys,
    }
}

/// See [`super::asks_again`].
pub(super) fn asks_again(asks: &[Ask], message: &Message) -> bool {
    let Side::Asks(_, AskKind::Stream) = side(message) else {
        return false;
    };
    let same = |ask: &&Ask| ask.kind == AskKind::Stream && ask.stream == stream(message);
    let over = |ask: &Ask| matches!(ask.state, State::Ended { .. });
    asks.iter().filter(same).any(|ask| !over(ask))
}

/// A message is sent; `asks` is the list that [`whose`] says. Returns what is wrong.
pub(super) fn sent(asks: &mut Vec<Ask>, message: &Message) -> Option<(Rule, &'static str)> {
    match side(message) {
        Side::Asks(request, kind) => {
            match find(asks, request) {
                None => asks.push(Ask {
                    request,
                    kind,
                    stream: stream(message),
                    state: State::Sent,
                }),
                // A subscription is moved or repeated under the same id.
                Some(ask) if kind == AskKind::Stream || kind == AskKind::Claim => ask.kind = kind,
                Some(_) => return Some((Rule::OneAnswer, "a request id for the second time")),
            }
            None
        }
        Side::Ends(request) => {
            match find(asks, request) {
                Some(ask) if ask.state == State::Told => asks.retain(|ask| ask.request != request),
                Some(ask) => ask.state = State::Ended { known: false },
                None => {}
            }
            None
        }
        Side::Answers(request, answer) => answered(asks, request, &answer),
        Side::Neither => None,
    }
}

fn answered(
    theirs: &mut Vec<Ask>,
    request: RequestId,
    answer: &Answer,
) -> Option<(Rule, &'static str)> {
    let closed = Some((Rule::OneAnswer, "an answer to no open request"));
    let Some(ask) = find(theirs, request) else {
        return closed;
    };
    match ask.state {
        State::Told => return closed,
        State::Ended { known: true } => {
            return Some((Rule::Cancelled, "an answer to a request that was cancelled"));
        }
        State::Sent => return Some((Rule::OneAnswer, "an answer before the request")),
        State::Ended { known: false } | State::Arrived(_) | State::Answered => {}
    }
    let last = match answer {
        Answer::Stream if ask.kind == AskKind::Stream || ask.kind == AskKind::Claim => false,
        Answer::Master if ask.kind == AskKind::Master => false,
        Answer::Master if ask.kind == AskKind::Once => true,
        Answer::Elsewhere => matches!(ask.state, State::Arrived(_)),
        Answer::Last => true,
        Answer::Stream | Answer::Master => {
            return Some((Rule::OneAnswer, "an answer of another kind"));
        }
    };
    if last && ask.kind == AskKind::Stream && ask.state != (State::Ended { known: false }) {
        ask.state = State::Told;
    } else if last {
        theirs.retain(|ask| ask.request != request);
    } else if let State::Arrived(_) = ask.state {
        ask.state = State::Answered;
    }
    None
}

/// A message has arrived at its receiver; `own` are the sender's requests.
pub(super) fn arrived(own: &mut Vec<Ask>, message: &Message, now: Time) {
    match side(message) {
        Side::Asks(request, kind) => {
            let stream = stream(message);
            match find(own, request) {
                // It may have been moved while the last word was on its way: that begins it
                // anew.
                Some(ask) if matches!(ask.state, State::Sent | State::Told) => {
                    ask.state = State::Arrived(now);
                }
                Some(_) => {}
                None => own.push(Ask {
                    request,
                    kind,
                    stream,
                    state: State::Arrived(now),
                }),
            }
            if kind == AskKind::Stream {
                // One node has one subscription to a stream at another: the last.
                own.retain(|ask| {
                    let same = ask.kind == kind && ask.stream == stream;
                    !same || ask.request == request || ask.state == State::Sent
                });
            }
        }
        Side::Ends(request) => {
            if let Some(ask) = find(own, request) {
                ask.state = State::Ended { known: true };
            }
            let over = |ask: &Ask| ask.state == State::Ended { known: true };
            if own.iter().filter(|ask| over(ask)).count() > ENDED_KEPT
                && let Some(oldest) = own.iter().position(over)
            {
                own.remove(oldest);
            }
        }
        Side::Answers(..) | Side::Neither => {}
    }
}

/// A message has arrived at its receiver; `own` are the receiver's requests.
pub(super) fn heard(own: &mut Vec<Ask>, message: &Message) {
    if let Side::Answers(request, Answer::Last | Answer::Elsewhere) = side(message) {
        own.retain(|ask| ask.request != request || ask.state != State::Told);
    }
}

fn stream(message: &Message) -> u64 {
    let stream = if let Message::Sub(sub) = message {
        &sub.stream
    } else if let Message::TranscodeSub(sub) = message {
        &sub.claim.stream
    } else {
        return 0;
    };
    let mut first = [0; 8];
    first.copy_from_slice(&stream.broadcast.as_bytes()[..8]);
    u64::from_le_bytes(first) ^ stream.rendition.as_str().len() as u64
}

fn find(asks: &mut [Ask], request: RequestId) -> Option<&mut Ask> {
    // The newest first: it is the most likely.
    asks.iter_mut().rev().find(|ask| ask.request == request)
}

/// What is owed on one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// The request.
    pub request: RequestId,
    /// What it asks for.
    pub kind: AskKind,
    /// When it arrived.
    pub since: Time,
}

/// The requests that have arrived and got no answer at all.
pub(super) fn owed(asks: &[Ask]) -> impl Iterator<Item = Owed> + '_ {
    asks.iter().filter_map(|ask| match ask.state {
        State::Arrived(since) => Some(Owed {
            request: ask.request,
            kind: ask.kind,
            since,
        }),
        State::Sent | State::Answered | State::Told | State::Ended { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use headwater_proto::{Cancel, Gap, NotFound, Position, Redirect, Sub};

    use super::*;
    use crate::media::tests::stream as published;

    const REQUEST: RequestId = RequestId(4);

    fn sub() -> Message {
        Message::from(Sub {
            request: REQUEST,
            stream: published(1).1,
            from: None,
            hops_left: 3,
        })
    }

    fn data() -> Message {
        let at = |part| Position { segment: 0, part };
        Message::Gap(Gap {
            request: REQUEST,
            from: at(0),
            to: at(1),
        })
    }

    fn refusal() -> Message {
        Message::NotFound(NotFound { request: REQUEST })
    }

    /// The requests of a child that has subscribed.
    fn subscribed() -> Vec<Ask> {
        let mut child = Vec::new();
        assert_eq!(sent(&mut child, &sub()), None);
        arrived(&mut child, &sub(), Time::from_millis(1));
        child
    }

    #[test]
    fn data_after_a_cancel_has_arrived_is_a_breach_and_before_it_is_not() {
        let mut child = subscribed();
        let cancel = Message::Cancel(Cancel { request: REQUEST });
        sent(&mut child, &cancel);

        assert_eq!(sent(&mut child, &data()), None);
        arrived(&mut child, &cancel, Time::from_millis(2));
        let breach = sent(&mut child, &data());
        assert_eq!(breach.map(|(rule, _)| rule), Some(Rule::Cancelled));
    }

    #[test]
    fn second_last_word_is_a_breach() {
        let mut child = subscribed();

        assert_eq!(sent(&mut child, &refusal()), None);
        let breach = sent(&mut child, &refusal());
        assert_eq!(breach.map(|(rule, _)| rule), Some(Rule::OneAnswer));
    }

    #[test]
    fn redirect_ends_a_subscription_only_as_its_first_answer() {
        let redirect = Message::Redirect(Redirect {
            request: REQUEST,
            nodes: Vec::new(),
        });
        let mut child = subscribed();
        sent(&mut child, &data());
        sent(&mut child, &redirect);
        assert_eq!(sent(&mut child, &data()), None);

        let mut child = subscribed();
        sent(&mut child, &redirect);
        assert!(sent(&mut child, &data()).is_some());
    }

    #[test]
    fn subscription_that_is_moved_while_it_is_refused_begins_anew() {
        let mut child = subscribed();
        sent(&mut child, &sub());
        sent(&mut child, &refusal());
        arrived(&mut child, &sub(), Time::from_millis(2));

        assert_eq!(owed(&child).count(), 1);
        assert_eq!(sent(&mut child, &data()), None);
    }

    #[test]
    fn subscription_that_is_refused_is_open_for_its_asker_until_it_hears_so() {
        let mut child = subscribed();
        sent(&mut child, &refusal());
        assert!(asks_again(&child, &sub()));

        heard(&mut child, &refusal());
        assert!(!asks_again(&child, &sub()));
    }

    #[test]
    fn newer_subscription_takes_the_place_of_an_older_one() {
        let mut child = subscribed();
        let newer = Message::from(Sub {
            request: RequestId(5),
            stream: published(1).1,
            from: None,
            hops_left: 3,
        });
        sent(&mut child, &newer);
        arrived(&mut child, &newer, Time::from_millis(2));

        assert_eq!(
            owed(&child).map(|o| o.request).collect::<Vec<_>>(),
            [RequestId(5)]
        );
        assert!(sent(&mut child, &data()).is_some(), "the older one is over");
    }

    #[test]
    fn request_without_any_answer_is_owed() {
        let mut child = subscribed();
        assert_eq!(owed(&child).count(), 1);

        sent(&mut child, &data());
        assert_eq!(owed(&child).count(), 0);
    }
}
