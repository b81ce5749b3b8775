//! A recording of some of a world's nodes.

use std::io;

use headwater_proto::NodeId;
use headwater_protocol::{Config, Input, Output, Time, record::Recorder};

use crate::scenario::Selection;

/// Takes down what chosen nodes are given and do.
#[derive(Debug)]
pub struct Recording {
    recorder: Recorder,
    /// All when `None`.
    nodes: Option<Selection>,
}

impl Recording {
    /// Records these nodes; all when `None`.
    #[must_use]
    pub const fn new(recorder: Recorder, nodes: Option<Selection>) -> Self {
        Self { recorder, nodes }
    }

    fn of(&mut self, node: u32) -> Option<&mut Recorder> {
        let chosen = self.nodes.as_ref();
        chosen
            .is_none_or(|nodes| nodes.contains(node as usize))
            .then_some(&mut self.recorder)
    }

    pub(super) fn start(
        &mut self,
        node: u32,
        id: &NodeId,
        config: &Config,
        seed: [u8; 32],
        now: Time,
    ) {
        if let Some(recorder) = self.of(node) {
            recorder.start(node, id, config, seed, now);
        }
    }

    pub(super) fn input(&mut self, node: u32, now: Time, input: &Input) {
        if let Some(recorder) = self.of(node) {
            recorder.input(node, now, input);
        }
    }

    pub(super) fn output(&mut self, node: u32, output: &Output) {
        if let Some(recorder) = self.of(node) {
            recorder.output(node, output);
        }
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// When something of it could not be written.
    pub fn finish(self) -> io::Result<()> {
        self.recorder.finish()
    }
}
