//! A deterministic world of thousands of nodes that run the real protocol core.
//!
//! Open [`scenario::Scenario`] for what can be asked, [`world::World`] for how it runs,
//! [`checks`] for what must hold, [`report::Report`] for what comes out.

#![forbid(unsafe_code)]

pub mod checks;
pub mod cli;
pub mod dice;
pub mod histogram;
pub mod host;
pub mod hostile;
pub mod measure;
pub mod media;
pub mod narrate;
pub mod net;
pub mod plot;
pub mod queue;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod topology;
pub mod wire;
pub mod world;
