//! HTTP of whole nodes over real sockets: what players and operators get, and what they
//! are refused.

#![expect(
    clippy::unwrap_used,
    reason = "a node that does not start has failed its test"
)]

mod admin;
mod playback;
mod refusals;
mod support;
