//! What one viewer is handed: in order, each part once, gaps told, nothing forged.

use headwater_proto::Position;
use headwater_protocol::{Delivery, Time};

use super::Rule;
use crate::{host::HostIx, media::Shape};

/// One viewer's stay with one broadcast.
#[derive(Debug)]
pub struct Session {
    /// The viewer.
    pub host: HostIx,
    /// The broadcast.
    pub broadcast: u32,
    /// When it subscribed.
    pub from: Time,
    /// When it left or died.
    pub until: Option<Time>,
    /// When it was handed its first part.
    pub first: Option<Time>,
    /// When it was handed its last part.
    pub last: Time,
    /// Numbers of the first part it had and of the part it is to have next.
    pub range: Option<(u64, u64)>,
    /// Parts it was handed.
    pub parts: u64,
    /// Parts it was told are lost.
    pub lost: u64,
    /// It was told of the end.
    pub finished: bool,
    /// It is a job's, and has been fed directly.
    pub fed_directly: bool,
    /// It is a job's, and more than one node feeds it: since when.
    pub doubled: Option<Time>,
    /// A fault cut it off: when.
    pub cut_off: Option<Time>,
    /// It is a job's whose broadcast goes on after a pause: from when on.
    pub resumed: Option<Time>,
    /// It has an init.
    init: bool,
}

/// What a delivery was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A part with this number.
    Part(u64),
    /// Something else that is right.
    Other,
    /// Something wrong.
    Wrong(Rule, &'static str),
}

impl Session {
    /// A stay that begins.
    #[must_use]
    pub const fn new(host: HostIx, broadcast: u32, now: Time) -> Self {
        Self {
            host,
            broadcast,
            from: now,
            until: None,
            first: None,
            last: now,
            range: None,
            parts: 0,
            lost: 0,
            finished: false,
            fed_directly: false,
            doubled: None,
            cut_off: None,
            resumed: None,
            init: false,
        }
    }

    /// Takes a delivery and says whether it is right.
    pub fn take(&mut self, shape: &Shape, published: u64, now: Time, delivery: &Delivery) -> Taken {
        match delivery {
            Delivery::Init { .. } => {
                self.init = true;
                Taken::Other
            }
            Delivery::Part {
                position,
                media,
                chunks,
            } => {
                let number = shape.number(*position);
                if position.part >= shape.parts || number >= published {
                    return Taken::Wrong(Rule::Forgery, "a part that was never published");
                }
                if *media != shape.media(*position) || !shape.is_payload(*position, chunks) {
                    return Taken::Wrong(Rule::Forgery, "a part that is not as published");
                }
                if !self.init {
                    return Taken::Wrong(Rule::Order, "a part before its init");
                }
                if let Some(wrong) = self.step(number, number + 1) {
                    return wrong;
                }
                self.parts += 1;
                self.first.get_or_insert(now);
                self.last = now;
                Taken::Part(number)
            }
            Delivery::Gap { from, to } => {
                let (from, to) = (shape.number(*from), shape.number(normal(shape, *to)));
                if to <= from {
                    return Taken::Wrong(Rule::Order, "an empty gap");
                }
                if let Some(wrong) = self.step(from, to) {
                    return wrong;
                }
                self.lost += to - from;
                Taken::Other
            }
            Delivery::Finished => {
                if std::mem::replace(&mut self.finished, true) {
                    return Taken::Wrong(Rule::Order, "a second end");
                }
                Taken::Other
            }
            Delivery::Waiting(_) => Taken::Other,
        }
    }

    /// Goes from one number to another; wrong when it is somewhere else.
    fn step(&mut self, from: u64, to: u64) -> Option<Taken> {
        if self.finished {
            return Some(Taken::Wrong(Rule::Order, "something after the end"));
        }
        let (first, next) = self.range.unwrap_or((from, from));
        if from < next {
            return Some(Taken::Wrong(Rule::Order, "something for the second time"));
        }
        if from > next {
            return Some(Taken::Wrong(Rule::Order, "a hole without a gap"));
        }
        self.range = Some((first, to));
        None
    }
}

/// A position beyond the last part of its segment is the first of the next.
const fn normal(shape: &Shape, at: Position) -> Position {
    if at.part >= shape.parts {
        Position {
            segment: at.segment + 1,
            part: 0,
        }
    } else {
        at
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn shape() -> Shape {
        Shape::new(800, 200, 5)
    }

    fn session() -> Session {
        let mut session = Session::new(HostIx(0), 0, Time::default());
        let init = Delivery::Init {
            index: 0,
            chunks: Vec::new(),
        };
        assert_eq!(
            session.take(&shape(), 0, Time::default(), &init),
            Taken::Other
        );
        session
    }

    fn part(number: u64) -> Delivery {
        let shape = shape();
        let position = shape.position(number);
        Delivery::Part {
            position,
            media: shape.media(position),
            chunks: vec![Bytes::from(vec![0; shape.size(position)])],
        }
    }

    fn take(session: &mut Session, delivery: &Delivery) -> Taken {
        session.take(&shape(), 100, Time::from_millis(9), delivery)
    }

    #[test]
    fn parts_in_order_with_a_gap_are_right() {
        let mut session = session();
        let shape = shape();

        assert_eq!(take(&mut session, &part(5)), Taken::Part(5));
        assert_eq!(take(&mut session, &part(6)), Taken::Part(6));
        let gap = Delivery::Gap {
            from: shape.position(7),
            to: shape.position(10),
        };
        assert_eq!(take(&mut session, &gap), Taken::Other);
        assert_eq!(take(&mut session, &part(10)), Taken::Part(10));
        assert_eq!((session.parts, session.lost), (3, 3));
    }

    #[test]
    fn repeats_holes_and_forgeries_are_wrong() {
        let mut session = session();
        take(&mut session, &part(5));

        let again = take(&mut session, &part(5));
        assert!(matches!(again, Taken::Wrong(Rule::Order, _)), "{again:?}");
        let hole = take(&mut session, &part(8));
        assert!(matches!(hole, Taken::Wrong(Rule::Order, _)), "{hole:?}");
        let Delivery::Part {
            position, media, ..
        } = part(6)
        else {
            unreachable!()
        };
        let forged = Delivery::Part {
            position,
            media,
            chunks: vec![Bytes::from(vec![9; shape().size(position)])],
        };
        let forged = take(&mut session, &forged);
        assert!(
            matches!(forged, Taken::Wrong(Rule::Forgery, _)),
            "{forged:?}"
        );
        let unknown = take(&mut session, &part(100));
        assert!(
            matches!(unknown, Taken::Wrong(Rule::Forgery, _)),
            "{unknown:?}"
        );
    }
}
