//! One computer of a world: its node, its links, and what its people do.

use std::{collections::VecDeque, sync::Arc};

use headwater_proto::{NodeId, Roles, SigningKey};
use headwater_protocol::{Config, Node, Time};

use crate::{
    hostile::Hostile,
    net::{DirIx, Uplink},
    scenario::Scenario,
    topology::Member,
    world::Event,
};

/// Links beyond those of the plan that a node has room for.
const SPARE_PEERS: usize = 64;

/// Nodes named by Redirects that are remembered.
const NAMED_KEPT: usize = 256;

/// Names a host of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIx(pub u32);

impl HostIx {
    /// As an index.
    #[must_use]
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// What others have to know of a host again and again, and what never changes: apart from
/// the hosts, so that a look at it touches little memory.
#[derive(Debug, Clone, Copy)]
pub struct Badge {
    /// Who it is.
    pub id: NodeId,
    /// It keeps to the protocol.
    pub honest: bool,
}

/// Whether a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Up,
    /// It is stopped and will go on.
    Frozen,
    /// It is dead; dials to it are refused at once.
    Crashed,
    /// It is dead; dials to it run into a time-out.
    Vanished,
}

/// One open link of a host.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The first 64 bits of the neighbour's public key.
    tag: u64,
    /// The neighbour.
    pub peer: HostIx,
    /// Towards it.
    pub out: DirIx,
}

/// From whom a broadcast comes to a host.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Which.
    pub broadcast: u32,
    /// From whom.
    pub parent: HostIx,
    /// Since when.
    pub since: Time,
}

/// See the module.
#[derive(Debug)]
pub struct Host {
    /// Signs what it publishes.
    pub key: SigningKey,
    /// Who it is.
    pub id: NodeId,
    /// The first 64 bits of its routing key.
    pub prefix: u64,
    /// What it does for the network.
    pub roles: Roles,
    /// The real thing.
    pub node: Node,
    /// Whether it runs.
    pub health: Health,
    /// Others can dial it.
    pub dialable: bool,
    /// Which side of a partition it is on.
    pub side: bool,
    /// Set when it does not keep to the protocol.
    pub hostile: Option<Box<Hostile>>,
    /// What all its links share.
    pub uplink: Uplink,
    /// What happened while it was frozen.
    pub backlog: VecDeque<Event>,
    /// Sessions that are open.
    pub sessions: Vec<u32>,
    /// From whom broadcasts come.
    pub parents: Vec<Source>,
    /// The broadcast whose source it transcodes, and how often it has claimed it.
    pub job: Option<(u32, u64)>,
    /// The ledger has taken the job from it.
    pub revoked: bool,
    /// Transcoders whose claim its driver has granted.
    pub granted: Vec<NodeId>,
    /// Neighbours whose link is gone, of which its node will learn when it goes on.
    pub lost: Vec<NodeId>,
    /// Its driver will look after its links.
    pub maintenance_due: bool,
    /// Starts since the world began.
    pub starts: u64,
    /// What its node was last started with.
    pub seed: [u8; 32],
    /// What its node is configured with when it starts.
    pub config: Arc<Config>,
    lines: Vec<Line>,
    /// Neighbours to which its node wanted a link that its driver did not.
    pub sought: Vec<HostIx>,
    /// When its driver looks which of those are spare.
    pub spare_look: Option<Time>,
    /// Nodes that Redirects have named to it, the newest last.
    named: VecDeque<NodeId>,
}

impl Host {
    /// A host that has never run, with this many links to come. It shares its configuration
    /// with those in `configs` that have the same.
    #[must_use]
    pub fn new(
        member: &Member,
        scenario: &Scenario,
        links: usize,
        configs: &mut Vec<Arc<Config>>,
    ) -> Self {
        let id = member.key.node_id();
        let mut config = Config::for_roles(member.roles);
        let children = if member.roles.broadcaster {
            scenario.broadcaster_children
        } else {
            scenario.children
        };
        if let Some(children) = children {
            config.max_children = children as usize;
        }
        config.max_peers = config.max_peers.max(links + SPARE_PEERS);
        let config = match configs.iter().find(|known| ***known == config) {
            Some(known) => Arc::clone(known),
            None => {
                configs.push(Arc::new(config));
                Arc::clone(&configs[configs.len() - 1])
            }
        };
        Self {
            key: member.key.clone(),
            id,
            prefix: id.routing_key().prefix(),
            roles: member.roles,
            node: Node::new(id, Arc::clone(&config), [0; 32], Time::default()),
            health: Health::Up,
            dialable: true,
            side: false,
            hostile: None,
            uplink: Uplink {
                busy: Time::default(),
                kbps: scenario.uplink,
            },
            backlog: VecDeque::new(),
            sessions: Vec::new(),
            parents: Vec::new(),
            job: None,
            revoked: false,
            granted: Vec::new(),
            lost: Vec::new(),
            maintenance_due: false,
            starts: 0,
            seed: [0; 32],
            config,
            lines: Vec::new(),
            sought: Vec::new(),
            spare_look: None,
            named: VecDeque::new(),
        }
    }

    /// Starts its node anew; nothing of an earlier run is left.
    pub fn start(&mut self, seed: [u8; 32], now: Time) {
        self.node = Node::new(self.id, Arc::clone(&self.config), seed, now);
        self.health = Health::Up;
        self.starts += 1;
        self.seed = seed;
        self.backlog.clear();
        self.parents.clear();
        self.granted.clear();
        self.lost.clear();
        self.named.clear();
        self.spare_look = None;
    }

    /// Reads what is looked at when something happens to it.
    #[must_use]
    pub fn peek(&self) -> u64 {
        let stats = self.node.stats();
        let counted = stats.inputs ^ stats.parts_in ^ stats.late ^ stats.parts_delivered;
        let own = self.uplink.kbps ^ self.starts ^ self.prefix ^ self.sessions.len() as u64;
        counted ^ own ^ self.lines.len() as u64 ^ u64::from(self.is_up())
    }

    /// Whether inputs reach its node now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.health == Health::Up
    }

    /// Whether it is dead.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        matches!(self.health, Health::Crashed | Health::Vanished)
    }

    /// Whether it keeps to the protocol.
    #[must_use]
    pub const fn is_honest(&self) -> bool {
        self.hostile.is_none()
    }

    /// What others have to know of it.
    #[must_use]
    pub const fn badge(&self) -> Badge {
        Badge {
            id: self.id,
            honest: self.is_honest(),
        }
    }

    /// Its open links, by neighbour.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The link to a neighbour.
    #[must_use]
    pub fn line(&self, peer: &NodeId) -> Option<Line> {
        let tag = tag(peer);
        // Keys are spread evenly, so each is near its place in an even row.
        let guess = (u128::from(tag) * self.lines.len() as u128) >> u64::BITS;
        let (before, after) = self.lines.split_at(usize::try_from(guess).unwrap_or(0));
        let before = before.iter().rev().take_while(|line| line.tag >= tag);
        let after = after.iter().take_while(|line| line.tag <= tag);
        before.chain(after).find(|line| line.tag == tag).copied()
    }

    /// Adds a link; there is none to that neighbour yet.
    pub fn add_line(&mut self, id: &NodeId, peer: HostIx, out: DirIx) {
        let tag = tag(id);
        let place = self.lines.partition_point(|line| line.tag < tag);
        self.lines.insert(place, Line { tag, peer, out });
    }

    /// Removes the link to a neighbour.
    pub fn remove_line(&mut self, peer: &NodeId) -> Option<Line> {
        let tag = tag(peer);
        let found = self
            .lines
            .binary_search_by_key(&tag, |line| line.tag)
            .ok()?;
        let line = self.lines.remove(found);
        self.sought.retain(|sought| *sought != line.peer);
        Some(line)
    }

    /// Removes all links.
    pub fn take_lines(&mut self) -> Vec<Line> {
        self.sought.clear();
        std::mem::take(&mut self.lines)
    }

    /// A Redirect has named these to it.
    pub fn note_named(&mut self, nodes: impl Iterator<Item = NodeId>) {
        self.named.extend(nodes);
        let over = self.named.len().saturating_sub(NAMED_KEPT);
        self.named.drain(..over);
    }

    /// Whether a Redirect has named a node to it.
    #[must_use]
    pub fn was_named(&self, node: &NodeId) -> bool {
        self.named.contains(node)
    }

    /// From whom a broadcast comes.
    #[must_use]
    pub fn parent(&self, broadcast: u32) -> Option<HostIx> {
        self.source(broadcast).map(|source| source.parent)
    }

    /// From whom a broadcast comes, and since when.
    #[must_use]
    pub fn source(&self, broadcast: u32) -> Option<Source> {
        let mut sources = self.parents.iter();
        sources.find(|s| s.broadcast == broadcast).copied()
    }

    /// Notes from whom a broadcast comes now.
    pub fn set_parent(&mut self, broadcast: u32, parent: Option<HostIx>, now: Time) {
        if self.parent(broadcast) == parent {
            return;
        }
        self.parents.retain(|source| source.broadcast != broadcast);
        self.parents.extend(parent.map(|parent| Source {
            broadcast,
            parent,
            since: now,
        }));
    }
}

/// The first 64 bits of a node's public key. No two nodes of a world share them.
#[must_use]
pub fn tag(id: &NodeId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.public_key()[..8]);
    u64::from_be_bytes(first)
}
