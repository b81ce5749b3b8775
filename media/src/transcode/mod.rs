//! One stream into a ladder of renditions: decoded once, encoded for every rung.

mod ladder;
mod rung;
mod worker;

pub use ladder::{Ladder, LadderError, RungPlan, plan};
pub use worker::{Output, Transcoder, TranscoderInput, TranscoderStats};
