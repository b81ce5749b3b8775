//! How a node behaves: one sans-I/O state machine.
//!
//! Open [`Node`] first, then [`Input`] and [`Output`]. What is on the wire is the
//! `headwater-proto` crate's; sockets, clocks, media and ledgers are the driver's.

#![forbid(unsafe_code)]

mod asks;
mod config;
mod cx;
mod dials;
mod feed;
mod input;
mod jobs;
mod links;
mod liveness;
mod lookups;
mod master;
mod node;
mod output;
mod receipts;
pub mod record;
mod requests;
mod routing;
mod stats;
mod streams;
#[cfg(test)]
mod tests;
mod time;
mod timers;
mod view;

pub use config::{Backoff, Config};
pub use feed::Grant;
pub use input::{Answer, AskId, Command, CommandId, DialId, Input, Link};
pub use node::Node;
pub use output::{
    CommandError, Delivery, DisconnectReason, Event, Failure, Output, Priority, Question, Reply,
    message_cost,
};
pub use stats::Stats;
pub use streams::Stage;
pub use time::{Deadline, Time};
pub use view::{PeerView, StreamView};
