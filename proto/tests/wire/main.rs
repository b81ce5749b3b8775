//! The wire against its golden bytes, against whatever fits a message, and against bytes
//! that mean it ill.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made has failed its test"
)]

mod examples;
mod frames;
mod generated;
mod hostile;
mod ids;
mod registry;
mod seal;
mod verifier;
