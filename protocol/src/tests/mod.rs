//! Small worlds of real nodes, with the real codec and verification between them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks at the kinds that concern it"
)]

mod claims;
mod commands;
mod delivery;
mod failover;
mod fuzz;
mod hostile;
mod lookups;
mod masters;
mod model;
mod repair;
mod routes;
mod seen;
mod strangers;
mod transcode;
mod trees;
mod wire;
mod world;
