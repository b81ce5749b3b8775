//! What an operator may decide, and every bound of the core.

use std::time::Duration;

use headwater_proto::Roles;

/// Limits and intervals of one node. The defaults suit a node on the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What this node does for the network. Only a relayer passes requests on.
    pub roles: Roles,
    /// Open links. For one more, one that carries nothing is closed, or else the new one.
    /// Default 256.
    pub max_peers: usize,
    /// Streams that are owned, carried or subscribed to at once. Default 256.
    pub max_streams: usize,
    /// Subscriptions that one neighbour may hold here. Default 128.
    pub max_subs_per_peer: usize,
    /// Nodes that one stream goes to. Default 32 at a relayer, 8 elsewhere (see
    /// [`Config::for_roles`]); at 0 nothing is served. An eighth of it is kept for nodes
    /// that lost their parent; the others are sent to the children when it is full.
    pub max_children: usize,
    /// Transcoders with a claim that one stream goes to besides. Default 8.
    pub max_feeds: usize,
    /// Dials for nodes that are said to have a stream, under way. Default 16.
    pub max_dials: usize,
    /// The same within a minute. Default 120.
    pub max_stream_dials_per_minute: usize,
    /// Searches for somebody closer that the driver does at a time. Default 8.
    pub max_lookups: usize,
    /// Routed requests under way. Default 1024.
    pub max_requests: usize,
    /// Routed requests under way for one neighbour. Default 64.
    pub max_requests_per_peer: usize,
    /// Requests of one neighbour in a second; more are refused, and four times as many are
    /// violations. Also what is passed on to one neighbour in a second. Default 200.
    pub max_requests_per_second: u32,
    /// Broadcasts whose master playlist is kept. Default 256.
    pub max_masters: usize,
    /// Neighbours that are told of changes to one master playlist. Default 256.
    pub max_followers: usize,
    /// Jobs that this transcoder works on at once. Default 64.
    pub max_jobs: usize,
    /// Transcoders' claims that are remembered. Default 256.
    pub max_claims: usize,
    /// Unanswered questions to the driver. Default 256.
    pub max_asks: usize,
    /// Segments kept of each stream, at least 2. Default 8.
    pub ring_segments: usize,
    /// Payload bytes kept of each stream, at least two parts of the largest size.
    /// Default 32 MiB.
    pub ring_bytes: usize,
    /// Payload bytes kept of all streams. Default 512 MiB.
    pub total_ring_bytes: usize,
    /// A child this many bytes behind, and past [`Config::lag_age`] after joining, jumps
    /// to the newest segment. Default 16 MiB.
    pub lag_bytes: usize,
    /// A child that has not caught up for this long jumps to the newest segment.
    /// Default 4 s.
    pub lag_age: Duration,
    /// Silence of a parent after which the stream is asked for elsewhere. Default
    /// 750 ms; must be well above [`headwater_proto::limits::SUB_ACK_INTERVAL_MS`].
    pub parent_silence: Duration,
    /// How long a parent may say Pending before the stream is asked for elsewhere.
    /// Default 2.5 s.
    pub pending_patience: Duration,
    /// While nothing has come to life, another neighbour is asked besides after this long
    /// by a node that has lost its parent. Default 300 ms.
    pub hedge_after: Duration,
    /// The same for a node that has not had the stream before. Default 1.2 s.
    pub join_patience: Duration,
    /// Whether a second neighbour that has the stream is asked to stand by, so that a
    /// lost parent is replaced at once. It costs one SubAck a second. Default true.
    pub standby: bool,
    /// First and longest pause between searches for a standby. Default 1 s, 30 s.
    pub standby_retry: Backoff,
    /// A standby that is silent for this long is given up. Default 3.5 s.
    pub standby_silence: Duration,
    /// First and longest pause without data after which a parent that says it is live is
    /// doubted, and another is tried besides. Default 2 s, 30 s.
    pub stall: Backoff,
    /// How long two parents may feed a stream at the same time until one is left.
    /// Default 2 s.
    pub rival_window: Duration,
    /// Chunks after which the broadcaster's own link and the relays are compared, if that
    /// is earlier. Default 40.
    pub rival_chunks: u32,
    /// A direct link that was slower than the relays is tried again after this long.
    /// Default 30 s.
    pub direct_again: Duration,
    /// First and longest pause between introductions of an only child to the parent of
    /// a relay that nobody watches at. Default 5 s, 5 min.
    pub introduce: Backoff,
    /// First and longest pause between claims of a transcoder that is fed by relays.
    /// Default 2 s, 60 s.
    pub claim_refresh: Backoff,
    /// How long a request waits for the driver to find somebody closer. Default 3 s.
    pub lookup_patience: Duration,
    /// A target that was looked up is not looked up again for this long. Default 5 s.
    pub lookup_pause: Duration,
    /// A stream that could not be had is refused at once for this long. Default 500 ms.
    pub negative_cache: Duration,
    /// A child is told Pending when it has waited this long. Default 100 ms.
    pub pending_ack_after: Duration,
    /// First and longest pause between attempts of a subscriber. Default 250 ms, 2 s.
    pub retry: Backoff,
    /// First and longest pause between TranscodeSubs and between TranscodeResponses. The
    /// longest is also how soon a job is fed whose broadcaster is back after a long time.
    /// Default 500 ms, 1 s.
    pub job_retry: Backoff,
    /// A result that was acknowledged is repeated after this long, so that the
    /// broadcaster notices when it no longer comes. Default 3 s.
    pub respond_heartbeat: Duration,
    /// A stream nobody wants any more is kept this long. Default 3 s.
    pub linger: Duration,
    /// A stream that ended is kept this long for late subscribers. Default 30 s.
    pub keep_finished: Duration,
    /// A stream that ended waits this long for what is still missing. Default 3 s.
    pub finish_grace: Duration,
    /// A hole is asked for (Nack) after this long. Default 150 ms.
    pub nack_after: Duration,
    /// A hole is given up after this long, and while somebody is asked for it up to
    /// [`Config::parent_silence`] later. Default 2 s.
    pub gap_after: Duration,
    /// How long the originator of a routed request waits in all. A relay waits
    /// [`Config::request_hop_margin`] less for each hop so far, so that its "timed out"
    /// still finds its asker waiting. Default 4 s.
    pub request_timeout: Duration,
    /// See [`Config::request_timeout`]. Default 150 ms.
    pub request_hop_margin: Duration,
    /// An alternate is asked besides when a neighbour has not answered after this long;
    /// a late answer still counts. Default 1.2 s.
    pub request_patience: Duration,
    /// A link idle this long is pinged, by the side with the smaller id; by the other after
    /// a quarter more. Default 15 s: parents show much earlier that they are there, and a
    /// request that meets a dead link goes to an alternate.
    pub ping_after: Duration,
    /// A link whose Pong takes this long is closed. Default 10 s.
    pub pong_within: Duration,
    /// Violations within [`Config::violation_window`] after which a link is closed.
    /// Default 16.
    pub max_violations: u32,
    /// See [`Config::max_violations`]. Default 60 s.
    pub violation_window: Duration,
    /// Dials towards one transcoder's job within a minute. Default 3.
    pub max_dials_per_minute: usize,
    /// Shortest time between two TranscodeSubs of one neighbour and job that a relay
    /// passes on. Default 400 ms.
    pub claim_interval: Duration,
}

/// Pauses that double from `first` to `cap`, each varied by up to a quarter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Config {
    /// The defaults for a node with these roles.
    #[must_use]
    pub fn for_roles(roles: Roles) -> Self {
        Self {
            roles,
            max_children: if roles.relayer && !roles.broadcaster {
                32
            } else {
                8
            },
            ..Self::default()
        }
    }

    /// Of [`Config::max_children`], those kept for nodes that play already.
    #[must_use]
    pub const fn reserved(&self) -> usize {
        self.max_children / 8
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roles: Roles::default(),
            max_peers: 256,
            max_streams: 256,
            max_subs_per_peer: 128,
            max_children: 8,
            max_feeds: 8,
            max_dials: 16,
            max_stream_dials_per_minute: 120,
            max_lookups: 8,
            max_requests: 1024,
            max_requests_per_peer: 64,
            max_requests_per_second: 200,
            max_masters: 256,
            max_followers: 256,
            max_jobs: 64,
            max_claims: 256,
            max_asks: 256,
            ring_segments: 8,
            ring_bytes: 32 << 20,
            total_ring_bytes: 512 << 20,
            lag_bytes: 16 << 20,
            lag_age: Duration::from_secs(4),
            parent_silence: Duration::from_millis(750),
            pending_patience: Duration::from_millis(2500),
            hedge_after: Duration::from_millis(300),
            join_patience: Duration::from_millis(1200),
            standby: true,
            standby_retry: Backoff {
                first: Duration::from_secs(1),
                cap: Duration::from_secs(30),
            },
            standby_silence: Duration::from_millis(3500),
            stall: Backoff {
                first: Duration::from_secs(2),
                cap: Duration::from_secs(30),
            },
            rival_window: Duration::from_secs(2),
            rival_chunks: 40,
            direct_again: Duration::from_secs(30),
            introduce: Backoff {
                first: Duration::from_secs(5),
                cap: Duration::from_secs(300),
            },
            claim_refresh: Backoff {
                first: Duration::from_secs(2),
                cap: Duration::from_secs(60),
            },
            lookup_patience: Duration::from_secs(3),
            lookup_pause: Duration::from_secs(5),
            negative_cache: Duration::from_millis(500),
            pending_ack_after: Duration::from_millis(100),
            retry: Backoff {
                first: Duration::from_millis(250),
                cap: Duration::from_secs(2),
            },
            job_retry: Backoff {
                first: Duration::from_millis(500),
                cap: Duration::from_secs(1),
            },
            respond_heartbeat: Duration::from_secs(3),
            linger: Duration::from_secs(3),
            keep_finished: Duration::from_secs(30),
            finish_grace: Duration::from_secs(3),
            nack_after: Duration::from_millis(150),
            gap_after: Duration::from_secs(2),
            request_timeout: Duration::from_secs(4),
            request_hop_margin: Duration::from_millis(150),
            request_patience: Duration::from_millis(1200),
            ping_after: Duration::from_secs(15),
            pong_within: Duration::from_secs(10),
            max_violations: 16,
            violation_window: Duration::from_secs(60),
            max_dials_per_minute: 3,
            claim_interval: Duration::from_millis(400),
        }
    }
}
