//! Real processes on loopback: nodes, encoders, a browser. Everything that is started here
//! ends with the value that holds it.

mod chain;
mod cluster;
mod node;
mod playlist;
mod wait;

pub use chain::{account, chain};
pub use cluster::{Cluster, Publisher};
pub use node::Node;
pub use playlist::{playlist_beyond, segments, unbroken};
pub use wait::{eventually, get, get_text};
