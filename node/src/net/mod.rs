//! Links to other nodes over libp2p. Nothing outside this folder knows libp2p.
//!
//! A link is one connection with four substreams of ours: control, and one for each class
//! of parts and chunks. The swarm's task only keeps account of connections; each link has
//! a task of its own that reads, verifies and writes, and tells the driver of all that
//! happens on it, in order.

mod address;
mod backoff;
mod behaviour;
mod bootstrap;
mod handler;
mod hearsay;
mod link;
mod lookups;
mod muxer;
mod newcomers;
pub mod policy;
mod swarm;
mod transport;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use headwater_proto::{AddressText, Checked, Message, NodeId, Roles, SigningKey, Violation};
use headwater_protocol::Priority;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use address::{Purpose, check_address};
pub use swarm::start;

use crate::mutex::lock;

/// A link that this node has dialled is closed when nothing has used it for this long and
/// the overlay does not need it.
pub const SPARE_AFTER: Duration = Duration::from_mins(1);

/// How a node links to others.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// The node's key; its PeerId comes from it.
    pub key: SigningKey,
    /// Told to neighbours.
    pub roles: Roles,
    /// Program name and version, told to neighbours.
    pub agent: String,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs under which others reach this node, when it cannot know them.
    pub external: Vec<String>,
    /// Multiaddrs of nodes to begin with.
    pub bootstrap: Vec<String>,
    /// Relayers known from earlier runs, the most useful first.
    pub known: Vec<(NodeId, Vec<AddressText>)>,
    /// Dial private and loopback addresses that others tell us of.
    pub allow_private: bool,
    /// Links to keep to the relayers nearest to this node.
    pub home_links: usize,
    /// Links at most.
    pub max_links: u32,
}

/// Why the network part did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A multiaddr cannot be read, or has a transport that is not spoken here.
    #[error("{flag} {address}: {reason}")]
    Address {
        /// Where it came from.
        flag: &'static str,
        /// The text.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// A socket cannot be had.
    #[error("cannot listen on {address} (--listen): {reason}")]
    Listen {
        /// The multiaddr.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// libp2p does not start.
    #[error("starting the network: {0}")]
    Start(String),
}

/// What happens on links.
#[derive(Debug)]
pub enum NetEvent {
    /// A link is up, and both sides have said Hello.
    Connected {
        /// The neighbour.
        peer: NodeId,
        /// What it does.
        roles: Roles,
        /// Bytes of parts and chunks that may be sent at first.
        credit: usize,
        /// The dial that made it.
        dial: Option<u64>,
        /// This node has dialled. The other side does so too when it wants the link.
        outbound: bool,
    },
    /// Where others can dial a neighbour, as it says itself and as policy allows.
    Addresses {
        /// The neighbour.
        peer: NodeId,
        /// Not all of them need be reachable.
        addresses: Vec<AddressText>,
    },
    /// The link is gone.
    Disconnected {
        /// The neighbour.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// A dial led nowhere.
    DialFailed {
        /// Which.
        dial: u64,
        /// Why.
        error: String,
    },
    /// A verified message.
    Received {
        /// From whom.
        from: NodeId,
        /// The message.
        message: Checked<Message>,
    },
    /// A message that was thrown away.
    Violation {
        /// From whom.
        from: NodeId,
        /// What was wrong.
        violation: Violation,
    },
    /// Parts and chunks were written; as much more may be sent.
    Writable {
        /// To whom.
        peer: NodeId,
        /// Bytes.
        credit: usize,
    },
}

/// One neighbour, for status pages.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The neighbour.
    pub peer: NodeId,
    /// What it does.
    pub roles: Roles,
    /// Its program.
    pub agent: String,
    /// Where it is.
    pub address: String,
    /// This node dialled it.
    pub outbound: bool,
    /// When the link came up, in milliseconds since 1970.
    pub since_ms: u64,
    /// The way there and back, once it was measured.
    pub round_trip: Option<Duration>,
    /// Bytes of messages that came.
    pub bytes_in: u64,
    /// Bytes of messages that went.
    pub bytes_out: u64,
    /// Messages that came and are of kinds that this program does not know.
    pub skipped: u64,
}

/// The network has too much to do to take an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many dials at once")]
pub struct Busy;

/// What the driver asks of the swarm's task.
#[derive(Debug)]
enum Order {
    Dial {
        dial: u64,
        peer: NodeId,
        addresses: Vec<AddressText>,
    },
    LookUp {
        target: NodeId,
        done: oneshot::Sender<()>,
    },
    CloseSpare {
        peers: Vec<NodeId>,
    },
    FindTranscoders {
        done: oneshot::Sender<Vec<NodeId>>,
    },
}

/// A neighbour's queues.
#[derive(Debug)]
struct Peer {
    info: PeerInfo,
    queues: link::Queues,
    counters: Arc<link::Counters>,
    stop: CancellationToken,
}

type Peers = Arc<Mutex<BTreeMap<NodeId, Peer>>>;

/// Sends to neighbours; cheap to clone.
#[derive(Debug, Clone)]
pub struct NetHandle {
    node: NodeId,
    peers: Peers,
    orders: mpsc::Sender<Order>,
    listening: Arc<Mutex<Vec<AddressText>>>,
    external: Arc<[AddressText]>,
    known: Arc<Mutex<hearsay::Known>>,
}

impl NetHandle {
    /// This node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Queues a message for a neighbour. A neighbour whose control queue is full is
    /// disconnected: it has not read for a long time.
    pub fn send(&self, to: NodeId, message: Message, priority: Priority) {
        let sent = match lock(&self.peers).get(&to) {
            Some(peer) => peer.queues.push(message, priority),
            // The link has just closed; Disconnected is on its way.
            None => true,
        };
        if !sent {
            tracing::warn!(
                peer = to.fmt_short(),
                "neighbour does not read; closing the link"
            );
            self.disconnect(to);
        }
    }

    /// Connects to a node at exactly these addresses, or without any where the overlay
    /// says that it is; ends in [`NetEvent::Connected`] or [`NetEvent::DialFailed`] with
    /// the same number.
    ///
    /// # Errors
    /// When too many dials wait already; then nothing follows.
    pub fn dial(&self, dial: u64, peer: NodeId, addresses: Vec<AddressText>) -> Result<(), Busy> {
        let order = Order::Dial {
            dial,
            peer,
            addresses,
        };
        self.orders.try_send(order).map_err(|_| Busy)
    }

    /// Walks the overlay towards a node and links to it, or to whoever is nearest to it
    /// and nearer than this node. Returns when a link has come of it or nothing can.
    pub async fn look_up(&self, target: NodeId) {
        let (done, ended) = oneshot::channel();
        let order = Order::LookUp { target, done };
        if self.orders.try_send(order).is_ok() {
            // The swarm's task drops the sender when it stops, which ends the wait too.
            drop(ended.await);
        }
    }

    /// Transcoders that have announced themselves to the overlay, at most 64. Anybody can
    /// announce himself; ask them.
    pub async fn find_transcoders(&self) -> Vec<NodeId> {
        let (done, found) = oneshot::channel();
        match self.orders.try_send(Order::FindTranscoders { done }) {
            Ok(()) => found.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Closes the link to a node, and every connection to it.
    pub fn disconnect(&self, peer: NodeId) {
        if let Some(peer) = lock(&self.peers).get(&peer) {
            peer.stop.cancel();
        }
    }

    /// Closes those of the links to these nodes, which nothing uses, that the overlay does
    /// not need either.
    ///
    /// # Errors
    /// When too many orders wait already; then nothing happens.
    pub fn close_spare(&self, peers: Vec<NodeId>) -> Result<(), Busy> {
        let order = Order::CloseSpare { peers };
        self.orders.try_send(order).map_err(|_| Busy)
    }

    /// The neighbours.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        let info = |peer: &Peer| {
            let mut info = peer.info.clone();
            peer.counters.fill(&mut info);
            info
        };
        lock(&self.peers).values().map(info).collect()
    }

    /// Where this node listens, without its id.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<AddressText> {
        lock(&self.listening).clone()
    }

    /// Where others are told to dial this node: the addresses its operator named, or else
    /// those it listens on.
    #[must_use]
    pub fn advertised(&self) -> Vec<AddressText> {
        if self.external.is_empty() {
            self.listen_addresses()
        } else {
            self.external.to_vec()
        }
    }

    /// Relayers that are known, to be dialled in a later run; the most useful first:
    /// those that spoke for themselves before hearsay, and the latest before the others.
    #[must_use]
    pub fn known_relayers(&self) -> Vec<(NodeId, Vec<AddressText>)> {
        lock(&self.known).newest_first()
    }
}
