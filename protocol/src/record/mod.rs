//! Recordings: every input of some nodes with what they did, so that a run can be
//! repeated without its world, and a fault of a real node in front of a debugger.
//!
//! Whoever drives a node calls
//! [`Recorder::start`], then [`Recorder::input`] before each `handle` and
//! [`Recorder::output`] after each `poll_output`. A recording holds addresses, claims and
//! all media that passed: it is as private as the node's traffic.
//!
//! A file is the line `headwater recording 1`, then records: a tag, the node's number,
//! and
//!
//! | tag | then |
//! |---|---|
//! | 1 start | node id, seed, time, configuration |
//! | 2 input | time, length, input |
//! | 3 output | kind, first eight bytes of the BLAKE3 of the output |
//!
//! Numbers are little-endian. Messages stand in their wire form.

mod bytes;
mod config;
mod input;
mod output;
#[cfg(any(test, feature = "replay"))]
mod read;

use std::io::{self, Write};

use headwater_proto::NodeId;

use crate::{Config, Input, Output, Time};
use bytes::Put;
#[cfg(any(test, feature = "replay"))]
pub use read::{Damaged, Difference, RecordingError, Replayed, replay};

/// The first line of a recording.
const MAGIC: &[u8] = b"headwater recording 1\n";

const START: u8 = 1;
const INPUT: u8 = 2;
const OUTPUT: u8 = 3;

/// Takes down what nodes are given and do.
pub struct Recorder {
    out: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    error: Option<io::Error>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recording; `out` should be buffered.
    ///
    /// # Errors
    /// When nothing can be written.
    pub fn new(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Self {
            out: Box::new(out),
            buffer: Vec::new(),
            error: None,
        })
    }

    /// A node starts, as `Node::new` is told.
    pub fn start(&mut self, node: u32, id: &NodeId, config: &Config, seed: [u8; 32], now: Time) {
        self.record(START, node, |buffer| {
            buffer.bytes(id.public_key());
            buffer.bytes(&seed);
            buffer.u64(now.as_micros());
            config::put(buffer, config);
        });
    }

    /// A node is about to be given an input.
    pub fn input(&mut self, node: u32, now: Time, input: &Input) {
        self.record(INPUT, node, |buffer| {
            buffer.u64(now.as_micros());
            let start = buffer.len();
            buffer.u32(0);
            input::put(buffer, input);
            let len = u32::try_from(buffer.len() - start - 4).unwrap_or(u32::MAX);
            buffer[start..start + 4].copy_from_slice(&len.to_le_bytes());
        });
    }

    /// A node has wanted something.
    pub fn output(&mut self, node: u32, output: &Output) {
        self.record(OUTPUT, node, |buffer| {
            let (kind, digest) = output::digest(output);
            buffer.u8(kind);
            buffer.bytes(&digest);
        });
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// When something of it could not be written.
    pub fn finish(mut self) -> io::Result<()> {
        match self.error {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    fn record(&mut self, tag: u8, node: u32, body: impl FnOnce(&mut Vec<u8>)) {
        if self.error.is_some() {
            return;
        }
        self.buffer.clear();
        self.buffer.u8(tag);
        self.buffer.u32(node);
        body(&mut self.buffer);
        self.error = self.out.write_all(&self.buffer).err();
    }
}
