//! Links to other nodes over libp2p. Nothing outside this folder knows libp2p.
//!
//! A link is one connection with four substreams of ours: control, and one for each class
//! of parts and chunks. The swarm's task only keeps account of connections; each link has
//! a task of its own that reads, verifies and writes.

mod address;
mod behaviour;
mod handler;
mod known;
mod link;
pub mod policy;
mod swarm;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headwater_proto::{AddressText, Checked, Message, NodeId, Roles, SigningKey, Violation};
use headwater_protocol::Priority;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use address::{Purpose, check_address};
pub use swarm::start;

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
#[expect(
    clippy::large_enum_variant,
    reason = "messages are the common case; boxing each would cost more than it saves"
)]
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
}

/// What a node asks of its swarm.
#[derive(Debug)]
enum Order {
    Dial {
        dial: u64,
        peer: NodeId,
        addresses: Vec<AddressText>,
    },
    Disconnect(NodeId),
}

/// A neighbour's queues.
#[derive(Debug)]
struct Peer {
    info: PeerInfo,
    queues: link::Queues,
}

type Peers = Arc<Mutex<BTreeMap<NodeId, Peer>>>;

fn lock(peers: &Peers) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
    peers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends to neighbours; cheap to clone.
#[derive(Debug, Clone)]
pub struct NetHandle {
    node: NodeId,
    peers: Peers,
    orders: mpsc::Sender<Order>,
    listening: Arc<Mutex<Vec<AddressText>>>,
    external: Arc<[AddressText]>,
    known: Arc<Mutex<known::Known>>,
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

    /// Connects to a node at exactly these addresses; ends in
    /// [`NetEvent::Connected`] or [`NetEvent::DialFailed`] with the same number.
    pub fn dial(&self, dial: u64, peer: NodeId, addresses: Vec<AddressText>) {
        self.order(Order::Dial {
            dial,
            peer,
            addresses,
        });
    }

    /// Closes all connections to a node.
    pub fn disconnect(&self, peer: NodeId) {
        self.order(Order::Disconnect(peer));
    }

    /// The neighbours.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        lock(&self.peers)
            .values()
            .map(|peer| peer.info.clone())
            .collect()
    }

    /// Where this node listens, without its id.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<AddressText> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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

    /// Relayers that are known, to be dialled in a later run; the most useful first.
    #[must_use]
    pub fn known_relayers(&self) -> Vec<(NodeId, Vec<AddressText>)> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ranked()
    }

    fn order(&self, order: Order) {
        // The queue is as long as a node can have orders under way; beyond that the
        // dial times out where it was asked for.
        if let Err(error) = self.orders.try_send(order) {
            tracing::warn!(%error, "network order dropped");
        }
    }
}

/// Ends everything in a [`start`]ed network.
pub type Stop = CancellationToken;
