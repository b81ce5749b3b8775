//! Gives a recording to fresh nodes and compares what they do.

mod bytes;
mod config;
mod input;

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read},
};

use ::bytes::Bytes;
use headwater_proto::NodeId;

pub use self::bytes::Damaged;
use super::{INPUT, MAGIC, OUTPUT, START, output};
use crate::{Input, Node, Output, Time};

/// The latest time, in microseconds: sums with it stay far from the end of time, at which
/// every wake-up is due again at once.
const LATEST_US: u64 = 1 << 60;

/// The longest input: an append of the largest part.
const LONGEST_INPUT: u32 = 16 << 20;

/// Why a recording could not be replayed to its end.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is none, or of another version.
    #[error("this is no recording of version 1")]
    NoRecording,
    /// It is not as it was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A node did something before it was started.
    #[error("node {0} is used before its start")]
    NotStarted(u32),
}

/// The first thing that was not as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which node.
    pub node: u32,
    /// When, in microseconds.
    pub at_us: u64,
    /// The input before it.
    pub input: String,
    /// What was recorded.
    pub recorded: String,
    /// What happened.
    pub happened: String,
}

/// What came of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Nodes.
    pub nodes: usize,
    /// Inputs that were given.
    pub inputs: u64,
    /// Outputs that were the same.
    pub outputs: u64,
    /// Where it ended, if not at its end.
    pub difference: Option<Difference>,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nodes,
            inputs,
            outputs,
            difference,
        } = self;
        write!(
            f,
            "{nodes} nodes, {inputs} inputs, {outputs} outputs the same"
        )?;
        match difference {
            None => write!(f, ", no difference"),
            Some(d) => write!(
                f,
                "; then node {} at {} ms, after {}:\n  recorded {}\n  happened {}",
                d.node,
                d.at_us / 1000,
                d.input,
                d.recorded,
                d.happened
            ),
        }
    }
}

struct Running {
    node: Node,
    at: Time,
    last: String,
}

/// See the module.
///
/// # Errors
/// When the recording can't be read.
pub fn replay(mut from: impl Read) -> Result<Replayed, RecordingError> {
    let mut magic = [0; MAGIC.len()];
    match from.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => {}
        Ok(()) => return Err(RecordingError::NoRecording),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(RecordingError::NoRecording);
        }
        Err(error) => return Err(error.into()),
    }
    let mut nodes: BTreeMap<u32, Running> = BTreeMap::new();
    let mut replayed = Replayed::default();
    while let Some(tag) = next_tag(&mut from)? {
        let number = u32::from_le_bytes(array(&mut from)?);
        if tag == START {
            nodes.insert(number, start(&mut from)?);
            continue;
        }
        let running = nodes
            .get_mut(&number)
            .ok_or(RecordingError::NotStarted(number))?;
        match tag {
            INPUT => {
                running.take(&mut from)?;
                replayed.inputs += 1;
            }
            OUTPUT => {
                let recorded = (array::<1>(&mut from)?[0], array(&mut from)?);
                let happened = running.node.poll_output();
                if happened.as_ref().map(output::digest) == Some(recorded) {
                    replayed.outputs += 1;
                } else {
                    let recorded = name(recorded.0).to_owned();
                    replayed.difference = Some(running.differs(number, recorded, happened));
                    break;
                }
            }
            _ => return Err(Damaged.into()),
        }
    }
    replayed.nodes = nodes.len();
    if replayed.difference.is_none() {
        replayed.difference = nodes.iter_mut().find_map(|(number, running)| {
            let more = running.node.poll_output()?;
            Some(running.differs(*number, "nothing more".to_owned(), Some(more)))
        });
    }
    Ok(replayed)
}

impl Running {
    fn take(&mut self, from: &mut impl Read) -> Result<(), RecordingError> {
        self.at = time(from)?;
        let len = u32::from_le_bytes(array(from)?);
        if len > LONGEST_INPUT {
            return Err(Damaged.into());
        }
        // Memory is taken for what is there, whatever length is claimed.
        let mut bytes = Vec::new();
        let there = from.take(len.into()).read_to_end(&mut bytes)?;
        if there < len as usize {
            return Err(Damaged.into());
        }
        let mut bytes = Bytes::from(bytes);
        let given = input::input(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(Damaged.into());
        }
        self.last = describe(&given);
        self.node.handle(self.at, given);
        Ok(())
    }

    fn differs(&self, node: u32, recorded: String, happened: Option<Output>) -> Difference {
        let happened = happened.map_or("nothing".to_owned(), |output| {
            let mut text = format!("{output:?}");
            let end = text
                .char_indices()
                .nth(400)
                .map_or(text.len(), |(at, _)| at);
            text.truncate(end);
            text
        });
        Difference {
            node,
            at_us: self.at.as_micros(),
            input: self.last.clone(),
            recorded,
            happened,
        }
    }
}

/// The name of an input, and of its message.
fn describe(input: &Input) -> String {
    let text = match input {
        Input::Received { message, .. } => format!("Received {:?}", **message),
        Input::Command { command, .. } => format!("Command {command:?}"),
        Input::Connected { .. }
        | Input::Disconnected { .. }
        | Input::DialFailed { .. }
        | Input::Violation { .. }
        | Input::Writable { .. }
        | Input::Answer { .. }
        | Input::Addresses { .. }
        | Input::Timeout => format!("{input:?}"),
    };
    let end = text.find(['(', '{']).unwrap_or(text.len());
    text[..end].trim_end().to_owned()
}

fn start(from: &mut impl Read) -> Result<Running, RecordingError> {
    let id = NodeId::from_public_key(array(from)?);
    let seed = array(from)?;
    let now = time(from)?;
    let mut bytes = vec![0; config::len()];
    from.read_exact(&mut bytes)?;
    let config = config::config(&mut Bytes::from(bytes))?;
    Ok(Running {
        node: Node::new(id, config, seed, now),
        at: now,
        last: "its start".to_owned(),
    })
}

fn time(from: &mut impl Read) -> Result<Time, RecordingError> {
    match u64::from_le_bytes(array(from)?) {
        micros @ ..=LATEST_US => Ok(Time::from_micros(micros)),
        _ => Err(Damaged.into()),
    }
}

fn next_tag(from: &mut impl Read) -> Result<Option<u8>, RecordingError> {
    let mut tag = [0];
    match from.read(&mut tag)? {
        0 => Ok(None),
        _ => Ok(Some(tag[0])),
    }
}

fn array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], RecordingError> {
    let mut array = [0; N];
    from.read_exact(&mut array)?;
    Ok(array)
}

/// What a kind is called.
const fn name(kind: u8) -> &'static str {
    const NAMES: [&str; 9] = [
        "Send",
        "Dial",
        "Disconnect",
        "Deliver",
        "Master",
        "MasterMissing",
        "Ask",
        "Reply",
        "Observe",
    ];
    if (kind as usize) < NAMES.len() {
        NAMES[kind as usize]
    } else {
        "unknown"
    }
}

#[cfg(test)]
mod tests {
    use ::bytes::BufMut as _;
    use headwater_proto::Roles;

    use super::*;
    use crate::{Command, CommandId, Config, Link, record::Recorder};

    /// Where a recording goes that is looked at afterwards.
    #[derive(Clone, Default)]
    struct Shared(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().put_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A node that is linked and subscribes, recorded.
    fn recording() -> Vec<u8> {
        let shared = Shared::default();
        let mut recorder = Recorder::new(shared.clone()).unwrap();
        let owner = headwater_proto::SigningKey::from_bytes(&[3; 32]);
        let stream = headwater_proto::ManifestId {
            node: owner.node_id(),
            broadcast: headwater_proto::BroadcastId::from_bytes([3; 16]),
        }
        .source();
        let me = NodeId::from_public_key([9; 32]);
        let config = Config::default();
        let mut now = Time::from_millis(5);
        recorder.start(4, &me, &config, [1; 32], now);
        let mut node = Node::new(me, config, [1; 32], now);
        let link = Link {
            roles: Roles::default(),
            credit: 1000,
            dial: None,
        };
        let peer = owner.node_id();
        let subscribe = Input::Command {
            id: CommandId(1),
            command: Command::Subscribe {
                stream: stream.clone(),
                from: None,
            },
        };
        let wanted = headwater_proto::ReceiptsWanted {
            stream: stream.clone(),
            job: headwater_proto::JobId(1),
            transcoder: me,
            from_segment: 7,
        };
        let ask = Input::Command {
            id: CommandId(2),
            command: Command::GetReceipts {
                body: headwater_proto::Signed::sign(wanted, &owner),
            },
        };
        for given in [
            Input::Connected { peer, link },
            subscribe,
            ask,
            Input::Timeout,
        ] {
            now = now + std::time::Duration::from_millis(100);
            recorder.input(4, now, &given);
            node.handle(now, given);
            while let Some(wanted) = node.poll_output() {
                recorder.output(4, &wanted);
            }
        }
        recorder.finish().unwrap();
        std::mem::take(&mut *shared.0.lock().unwrap())
    }

    #[test]
    fn a_recording_is_replayed_without_a_difference() {
        let replayed = replay(&recording()[..]).unwrap();

        assert_eq!(replayed.difference, None);
        assert_eq!((replayed.nodes, replayed.inputs), (1, 4));
        assert!(replayed.outputs >= 2);
    }

    #[test]
    fn what_a_node_does_not_do_any_more_is_a_difference() {
        let mut bytes = recording();
        bytes.extend([OUTPUT, 4, 0, 0, 0, 3]);
        bytes.extend([0; 8]);
        let difference = replay(&bytes[..]).unwrap().difference.unwrap();

        assert_eq!((difference.node, &difference.recorded[..]), (4, "Deliver"));
        assert_eq!(difference.happened, "nothing");
    }

    #[test]
    fn what_a_node_does_beyond_its_recording_is_a_difference() {
        let bytes = recording();
        let last_output = bytes
            .windows(6)
            .rposition(|w| w[..5] == [OUTPUT, 4, 0, 0, 0]);
        let difference = replay(&bytes[..last_output.unwrap()]).unwrap().difference;

        assert_eq!(difference.unwrap().recorded, "nothing more");
    }

    #[test]
    fn the_end_of_time_and_pauses_of_nothing_are_damage() {
        let bytes = recording();
        // Tag and node, id, seed: then the time of the start, and the configuration.
        let time = MAGIC.len() + 5 + 32 + 32;
        let mut late = bytes.clone();
        late[time..time + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(replay(&late[..]), Err(RecordingError::Damaged(_))));

        let ping_after = Config::default().ping_after.as_micros() as u64;
        let ping_after = ping_after.to_le_bytes();
        let at = bytes.windows(8).position(|window| window == ping_after);
        let mut restless = bytes;
        restless[at.unwrap()..][..8].fill(0);
        assert!(matches!(
            replay(&restless[..]),
            Err(RecordingError::Damaged(_))
        ));
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let bytes = recording();
        assert!(matches!(
            replay(&b"something else entirely"[..]),
            Err(RecordingError::NoRecording)
        ));
        for end in MAGIC.len() + 1..bytes.len() {
            // Cutting between two records leaves a shorter recording.
            drop(replay(&bytes[..end]));
        }
        let mut wrong = bytes;
        wrong[MAGIC.len()] = 77;
        assert!(replay(&wrong[..]).is_err());
    }
}
