//! Small worlds of real nodes, with the real codec and verification between them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks at the kinds that concern it"
)]

mod amplification;
mod claims;
mod commands;
mod delivery;
mod desk;
mod failover;
mod fuzz;
mod grant_model;
mod grants;
mod hostile;
mod idle;
mod lookups;
mod masters;
mod model;
mod receipts;
mod repair;
mod routes;
mod seen;
mod stages;
mod strangers;
mod transcode;
mod trees;
mod unpublish;
mod wire;
mod world;

/// How many random cases a test tries; `PROPTEST_CASES` makes it more.
fn cases(usual: u32) -> u32 {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(usual)
}
