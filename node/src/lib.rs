//! The Headwater node: drivers and shells around the protocol, media and chain cores.

#![forbid(unsafe_code)]

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod driver;
pub mod http;
pub mod jobs;
pub mod ledger;
mod mutex;
pub mod net;
pub mod pipeline;
pub mod receipts;
pub mod secret;
pub mod status;
pub mod store;
pub mod telemetry;
