//! Every knob and bound of a node's behaviour.

use std::time::Duration;

use headwater_proto::Roles;

/// How a node behaves. The defaults are what a real node runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the node does for the network.
    pub roles: Roles,
    /// Children of one stream of its own; more are turned away.
    pub max_children_own: usize,
    /// Children of one stream it relays.
    pub max_children_relayed: usize,
    /// Links; more are closed.
    pub max_links: usize,
    /// Streams it carries at once.
    pub max_streams: usize,
    /// Requests it has under way for one neighbour.
    pub max_requests_per_peer: usize,
    /// Master playlists it remembers.
    pub max_masters: usize,
    /// Bytes of one stream's ring. A larger one serves later joiners and slower
    /// children.
    pub ring_bytes: usize,
    /// Segments of one stream's ring.
    pub ring_segments: usize,
    /// A parent that is silent for longer has failed.
    pub silence: Duration,
    /// A parent that said it has no data itself is given this long.
    pub pending: Duration,
    /// A neighbour that does not answer a Sub at all is given this long.
    pub ask: Duration,
    /// How long a hole in a stream may stay before it is asked for.
    pub repair: Duration,
    /// How long a stream without consumers is kept coming, for those who zap back.
    pub linger: Duration,
    /// How long an ended stream is still served.
    pub keep_finished: Duration,
    /// First wait before a failed subscription is tried again.
    pub retry_min: Duration,
    /// Longest such wait.
    pub retry_max: Duration,
    /// Time a request may take per hop that it may still go.
    pub request_per_hop: Duration,
    /// A quiet link is asked for a sign of life after this long, and closed after twice
    /// as long.
    pub keep_alive: Duration,
    /// A transcoder repeats its result this often, so that it can be missed.
    pub respond_interval: Duration,
    /// Dials of one transcoder for one job within a minute.
    pub max_dials_per_minute: usize,
    /// Bad messages within ten seconds that close a link.
    pub max_violations: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roles: Roles::default(),
            max_children_own: 8,
            max_children_relayed: 32,
            max_links: 512,
            max_streams: 1024,
            max_requests_per_peer: 256,
            max_masters: 1024,
            ring_bytes: 32 * 1024 * 1024,
            ring_segments: 6,
            silence: Duration::from_millis(750),
            pending: Duration::from_millis(2500),
            ask: Duration::from_millis(1000),
            repair: Duration::from_millis(300),
            linger: Duration::from_secs(3),
            keep_finished: Duration::from_secs(30),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(2),
            request_per_hop: Duration::from_millis(250),
            keep_alive: Duration::from_secs(5),
            respond_interval: Duration::from_secs(3),
            max_dials_per_minute: 3,
            max_violations: 8,
        }
    }
}
