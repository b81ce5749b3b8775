//! How a node behaves: one sans-I/O state machine.
//!
//! What is on the wire is the `headwater-proto` crate's.

#![forbid(unsafe_code)]

mod input;
mod output;
mod time;

pub use input::{Answer, AskId, Command, CommandId, DialId, Input, Link};
pub use output::{
    CommandError, Delivery, DisconnectReason, Event, Failure, Output, Priority, Question, Reply,
};
pub use time::{Deadline, Time};
