//! How a node behaves: one sans-I/O state machine.
//!
//! What is on the wire is the `headwater-proto` crate's.

#![forbid(unsafe_code)]

mod config;
mod input;
mod node;
mod output;
mod ring;
mod stats;
mod stream;
mod time;
mod timers;
mod view;

pub use config::Config;
pub use input::{Answer, AskId, Command, CommandId, DialId, Input, Link};
pub use node::Node;
pub use output::{
    CommandError, Delivery, DisconnectReason, Event, Failure, Output, Priority, Question, Reply,
    message_cost,
};
pub use stats::Stats;
pub use time::{Deadline, Time};
pub use view::{PeerView, StreamView};
