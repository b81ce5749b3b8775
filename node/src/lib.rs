//! The Headwater node: drivers and shells around the protocol, media and chain cores.

#![forbid(unsafe_code)]

pub mod clock;
pub mod driver;
pub mod net;
