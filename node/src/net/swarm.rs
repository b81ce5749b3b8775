//! The swarm's task: listens, dials, finds relayers, and starts a task per link.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use headwater_proto::{AddressText, Hello, NodeId, Violation};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    connection_limits::{self, ConnectionLimits},
    identify, identity, kad,
    multiaddr::Protocol,
    noise, ping,
    swarm::{
        ConnectionId, NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{
    NetConfig, NetError, NetEvent, NetHandle, Order, Peer, PeerInfo, Peers,
    address::{self, Purpose},
    behaviour::{Links, LinksEvent},
    known::Known,
    link, lock,
    policy::{self, check_multiaddr, node_of, peer_of},
};

/// Events of links that may wait for the driver; more make the links wait.
const EVENTS: usize = 1024;
/// Orders of the driver that may wait.
const ORDERS: usize = 1024;
/// How often links are looked after.
const TEND: Duration = Duration::from_secs(1);
/// How often relayers are looked for, while there are enough links.
const SEARCH: Duration = Duration::from_secs(30);
/// A dial that has not led to a link by then has failed.
const DIAL: Duration = Duration::from_secs(5);
/// A node that could not be reached is left alone for this long at first.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    links: Links,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// Who said where a relayer is.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// It itself, over a connection of its own.
    Its,
    /// Somebody else.
    Others,
}

/// From tasks of links back to the swarm's.
enum LinkNews {
    /// The link reads nothing until the last field says that the driver knows of it.
    Greeted(
        PeerId,
        ConnectionId,
        Box<PeerInfo>,
        link::Queues,
        oneshot::Sender<()>,
    ),
    Ended(PeerId, ConnectionId, String),
}

/// Starts listening and linking; everything ends with `stop`.
///
/// # Errors
/// When an address cannot be read or listened on.
pub async fn start(
    config: NetConfig,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<(NetHandle, mpsc::Receiver<NetEvent>), NetError> {
    let listen = parse(&config.listen, "--listen", Purpose::Listen)?;
    let external = parse(&config.external, "--external-addr", Purpose::Reach)?;
    let bootstrap = parse(&config.bootstrap, "--bootstrap", Purpose::Reach)?;
    let node = config.key.node_id();
    let mut swarm = build(&config)?;
    for address in external {
        swarm.add_external_address(address);
    }
    let listening = bind(&mut swarm, listen).await?;
    let (events, incoming) = mpsc::channel(EVENTS);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (news, heard) = mpsc::channel(EVENTS);
    let peers = Peers::default();
    let known = Known::of_earlier_run(&config.known);
    let handle = NetHandle {
        node,
        peers: peers.clone(),
        orders,
        listening: Arc::new(Mutex::new(listening)),
        external: config
            .external
            .iter()
            .filter_map(|a| AddressText::new(a).ok())
            .collect(),
        known: Arc::new(Mutex::new(known)),
    };
    for (node, addresses) in &config.known {
        for address in policy::filter(addresses, *node, config.allow_private) {
            if let (Some(peer), Ok(address)) = (peer_of(*node), address.as_str().parse()) {
                swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
    }
    let task = Task {
        swarm,
        config,
        node,
        bootstrap,
        handle: handle.clone(),
        peers,
        events,
        news,
        tasks: tasks.clone(),
        stop,
        links: BTreeMap::new(),
        dials: BTreeMap::new(),
        avoid: BTreeMap::new(),
        searched: None,
    };
    tasks.spawn(task.run(ordered, heard));
    Ok((handle, incoming))
}

fn parse(
    texts: &[String],
    flag: &'static str,
    purpose: Purpose,
) -> Result<Vec<Multiaddr>, NetError> {
    let one = |text: &String| {
        address::parse(text, purpose).map_err(|reason| NetError::Address {
            flag,
            address: text.clone(),
            reason,
        })
    };
    texts.iter().map(one).collect()
}

fn build(config: &NetConfig) -> Result<Swarm<Behaviour>, NetError> {
    let failed = |error: &dyn std::fmt::Display| NetError::Start(error.to_string());
    let key = identity::Keypair::ed25519_from_bytes(config.key.to_bytes())
        .map_err(|error| failed(&error))?;
    let relayer = config.roles.relayer;
    let limits = ConnectionLimits::default()
        .with_max_established_per_peer(Some(4))
        .with_max_established(Some(config.max_links * 2))
        .with_max_pending_incoming(Some(64));
    let agent = config.agent.clone();
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .map_err(|error| failed(&error))?
        .with_quic_config(|mut quic| {
            // Worst case memory is links times max_connection_data.
            quic.max_stream_data = 4 * 1024 * 1024;
            quic.max_connection_data = 8 * 1024 * 1024;
            quic.max_concurrent_stream_limit = 64;
            quic
        })
        .with_behaviour(|key| {
            let local = key.public().to_peer_id();
            let mut kad_config = kad::Config::new(libp2p::StreamProtocol::new("/headwater/kad/1"));
            kad_config
                .set_query_timeout(Duration::from_secs(5))
                .set_periodic_bootstrap_interval(None)
                .set_kbucket_inserts(kad::BucketInserts::Manual)
                .set_record_filtering(kad::StoreInserts::FilterBoth);
            let store = kad::store::MemoryStore::new(local);
            let mut kad = kad::Behaviour::with_config(local, store, kad_config);
            // Relayers are the routing table; others only ask it.
            kad.set_mode(Some(if relayer {
                kad::Mode::Server
            } else {
                kad::Mode::Client
            }));
            // Addresses that others tell of are kept by us, after the policy has seen them.
            let identify = identify::Config::new("/headwater/1".into(), key.public())
                .with_agent_version(agent)
                .with_cache_size(0);
            Behaviour {
                limits: connection_limits::Behaviour::new(limits),
                links: Links::new(local),
                kad,
                identify: identify::Behaviour::new(identify),
                ping: ping::Behaviour::default(),
            }
        })
        .map_err(|error| failed(&error))?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(10)))
        .build();
    Ok(swarm)
}

/// Listens on every address; returns those the system gave.
async fn bind(
    swarm: &mut Swarm<Behaviour>,
    listen: Vec<Multiaddr>,
) -> Result<Vec<AddressText>, NetError> {
    let mut waiting = BTreeMap::new();
    for address in listen {
        let failed = |reason: String| NetError::Listen {
            address: address.to_string(),
            reason,
        };
        match swarm.listen_on(address.clone()) {
            Ok(listener) => {
                waiting.insert(format!("{listener:?}"), address);
            }
            Err(error) => return Err(failed(innermost(&error))),
        }
    }
    let mut listening = Vec::new();
    // Several addresses may come from one listener, for all interfaces: those that come
    // at once are waited for.
    let mut ready = BTreeSet::new();
    while ready.len() < waiting.len() {
        let event = timeout(Duration::from_secs(10), swarm.select_next_some()).await;
        let Ok(event) = event else {
            return Err(NetError::Start("the sockets did not open in 10 s".into()));
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "nothing else can happen that matters before there is a link"
        )]
        match event {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                ready.insert(format!("{listener_id:?}"));
                listening.extend(AddressText::new(&address.to_string()));
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason: Err(error),
                ..
            } => {
                let address = waiting.get(&format!("{listener_id:?}"));
                return Err(NetError::Listen {
                    address: address.map(ToString::to_string).unwrap_or_default(),
                    reason: error.to_string(),
                });
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                let address = waiting.get(&format!("{listener_id:?}"));
                return Err(NetError::Listen {
                    address: address.map(ToString::to_string).unwrap_or_default(),
                    reason: error.to_string(),
                });
            }
            _ => {}
        }
    }
    Ok(listening)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Tells the driver. It always takes events, so this never waits for long.
async fn tell(events: &mpsc::Sender<NetEvent>, event: NetEvent) {
    if events.send(event).await.is_err() {
        debug!("nobody listens to the network any more");
    }
}

struct LinkTask {
    connection: ConnectionId,
    stop: CancellationToken,
    greeted: bool,
}

struct Avoid {
    until: Instant,
    span: Duration,
}

struct PendingDial {
    peer: NodeId,
    until: Instant,
}

struct Task {
    swarm: Swarm<Behaviour>,
    config: NetConfig,
    node: NodeId,
    bootstrap: Vec<Multiaddr>,
    handle: NetHandle,
    peers: Peers,
    events: mpsc::Sender<NetEvent>,
    news: mpsc::Sender<LinkNews>,
    tasks: TaskTracker,
    stop: CancellationToken,
    links: BTreeMap<PeerId, LinkTask>,
    /// The driver's dials that have not led to a link yet.
    dials: BTreeMap<u64, PendingDial>,
    avoid: BTreeMap<PeerId, Avoid>,
    searched: Option<Instant>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut news: mpsc::Receiver<LinkNews>) {
        let mut tend = interval(TEND);
        tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        loop {
            tokio::select! { biased;
                () = stop.cancelled() => break,
                Some(order) = orders.recv() => self.order(order).await,
                Some(news) = news.recv() => self.news(news).await,
                _ = tend.tick() => self.tend().await,
                event = self.swarm.select_next_some() => self.event(event).await,
            }
        }
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Dial {
                dial,
                peer,
                addresses,
            } => self.dial(dial, peer, &addresses).await,
            Order::Disconnect(node) => {
                // An error says that there is no connection, which is what is wanted.
                let gone = peer_of(node).map(|peer| self.swarm.disconnect_peer_id(peer));
                debug!(?gone, "disconnected on request");
            }
        }
    }

    async fn dial(&mut self, dial: u64, node: NodeId, addresses: &[AddressText]) {
        let parsed = addresses
            .iter()
            .filter_map(|a| a.as_str().parse().ok())
            .collect();
        let failed = match peer_of(node) {
            None => Some("the id is no valid key".to_owned()),
            Some(peer) => {
                let options = DialOpts::peer_id(peer)
                    .condition(PeerCondition::Disconnected)
                    .addresses(parsed)
                    .build();
                self.swarm
                    .dial(options)
                    .err()
                    .map(|error| innermost(&error))
            }
        };
        match failed {
            Some(error) => tell(&self.events, NetEvent::DialFailed { dial, error }).await,
            None => {
                let until = Instant::now() + DIAL;
                self.dials.insert(dial, PendingDial { peer: node, until });
            }
        }
    }

    async fn dial_failed(&mut self, peer: PeerId, error: String) {
        let back_off = self
            .avoid
            .get(&peer)
            .map_or(BACK_OFF, |avoid| avoid.span * 2);
        let span = back_off.min(BACK_OFF_MAX);
        let until = Instant::now() + span;
        self.avoid.insert(peer, Avoid { until, span });
        let node = node_of(&peer);
        let failed = self.dials.iter().filter(|(_, d)| Some(d.peer) == node);
        let failed: Vec<_> = failed.map(|(dial, _)| *dial).collect();
        for dial in failed {
            self.dials.remove(&dial);
            let error = error.clone();
            tell(&self.events, NetEvent::DialFailed { dial, error }).await;
        }
    }

    async fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the library's enum has many events that need no action"
        )]
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Links(event)) => self.links_event(event).await,
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => self.identified(peer_id, info),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::RoutablePeer {
                peer,
                address,
            })) => self.add_relayer(peer, [address], Word::Others),
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetClosestPeers(Ok(found)),
                ..
            })) => {
                for info in found.peers {
                    self.add_relayer(info.peer_id, info.addrs, Word::Others);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer),
                error,
                ..
            } => {
                debug!(%peer, %error, "dial failed");
                self.dial_failed(peer, innermost(&error)).await;
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                debug!(%error, "dial of a bootstrap address failed");
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Ok(text) = AddressText::new(&address.to_string()) {
                    let listening = &self.handle.listening;
                    let mut all = listening.lock().unwrap_or_else(PoisonError::into_inner);
                    if !all.contains(&text) {
                        all.push(text);
                    }
                }
            }
            _ => {}
        }
    }

    async fn links_event(&mut self, event: LinksEvent) {
        match event {
            LinksEvent::Ready {
                peer,
                connection,
                address,
                outbound,
                streams,
            } => {
                let Some(node) = node_of(&peer) else {
                    warn!(%peer, "neighbour's key is not Ed25519");
                    self.swarm.close_connection(connection);
                    return;
                };
                // The one that opens links replaced an old link: it ends first.
                self.end_link(peer, "replaced by another connection").await;
                let stop = self.stop.child_token();
                let task = LinkTask {
                    connection,
                    stop: stop.clone(),
                    greeted: false,
                };
                self.links.insert(peer, task);
                let hello = Hello {
                    roles: self.config.roles,
                    agent: self.config.agent.clone(),
                };
                let (news, events) = (self.news.clone(), self.events.clone());
                self.tasks.spawn(async move {
                    let open = tokio::select! {
                        () = stop.cancelled() => Err(link::LinkError::Closed),
                        open = link::greet(*streams, hello) => open,
                    };
                    let reason = match open {
                        Err(error) => error,
                        Ok(open) => {
                            let info = PeerInfo {
                                peer: node,
                                roles: open.hello.roles,
                                agent: open.hello.agent.clone(),
                                address: address.to_string(),
                                outbound,
                            };
                            let (queues, outgoing) = link::queues();
                            let (go, known) = oneshot::channel();
                            let info = Box::new(info);
                            let greeted = LinkNews::Greeted(peer, connection, info, queues, go);
                            if news.send(greeted).await.is_err() || known.await.is_err() {
                                return;
                            }
                            link::run(node, open, outgoing, events, stop).await
                        }
                    };
                    let ended = LinkNews::Ended(peer, connection, reason.to_string());
                    // The swarm's task is gone only when the node stops.
                    drop(news.send(ended).await);
                });
            }
            LinksEvent::Closed { peer } => self.end_link(peer, "connection closed").await,
            LinksEvent::TooManyStreams { peer } => {
                if let Some(from) = node_of(&peer) {
                    let violation = Violation::TooManyStreams;
                    tell(&self.events, NetEvent::Violation { from, violation }).await;
                }
            }
        }
    }

    async fn news(&mut self, news: LinkNews) {
        match news {
            LinkNews::Greeted(peer, connection, info, queues, go) => {
                let link = self.links.get_mut(&peer);
                let Some(link) = link.filter(|link| link.connection == connection) else {
                    return;
                };
                link.greeted = true;
                self.avoid.remove(&peer);
                let node = info.peer;
                let roles = info.roles;
                info!(
                    peer = node.fmt_short(),
                    address = info.address,
                    agent = info.agent,
                    "linked"
                );
                let entry = Peer {
                    info: *info,
                    queues,
                };
                lock(&self.peers).insert(node, entry);
                let dial = self
                    .dials
                    .iter()
                    .find(|(_, d)| d.peer == node)
                    .map(|(d, _)| *d);
                if let Some(dial) = dial {
                    self.dials.remove(&dial);
                }
                let connected = NetEvent::Connected {
                    peer: node,
                    roles,
                    credit: link::CREDIT,
                    dial,
                };
                tell(&self.events, connected).await;
                // A link that has ended meanwhile does not wait any more.
                let _gone = go.send(());
            }
            LinkNews::Ended(peer, connection, reason) => {
                if self
                    .links
                    .get(&peer)
                    .is_some_and(|l| l.connection == connection)
                {
                    self.end_link(peer, &reason).await;
                    self.swarm.close_connection(connection);
                }
            }
        }
    }

    async fn end_link(&mut self, peer: PeerId, reason: &str) {
        let Some(link) = self.links.remove(&peer) else {
            return;
        };
        link.stop.cancel();
        if let (true, Some(node)) = (link.greeted, node_of(&peer)) {
            lock(&self.peers).remove(&node);
            info!(peer = node.fmt_short(), reason, "link ended");
            let event = NetEvent::Disconnected {
                peer: node,
                reason: reason.to_owned(),
            };
            tell(&self.events, event).await;
        }
    }

    /// A neighbour said what it speaks and where it listens: relayers are remembered.
    fn identified(&mut self, peer: PeerId, info: identify::Info) {
        let kad = libp2p::StreamProtocol::new("/headwater/kad/1");
        if info.protocols.contains(&kad) {
            self.add_relayer(peer, info.listen_addrs, Word::Its);
        }
    }

    fn add_relayer(
        &mut self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = Multiaddr>,
        word: Word,
    ) {
        let Some(node) = node_of(&peer).filter(|node| *node != self.node) else {
            return;
        };
        let allow = self.config.allow_private;
        let mut kept = Vec::new();
        for address in addresses {
            if check_multiaddr(&address, Some(node), allow).is_ok() {
                kept.extend(AddressText::new(&address.to_string()));
                self.swarm.behaviour_mut().kad.add_address(&peer, address);
            }
        }
        if kept.is_empty() {
            return;
        }
        kept.truncate(headwater_proto::limits::MAX_ADDRESSES);
        let known = self.handle.known.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        match word {
            Word::Its => known.met(node, kept),
            Word::Others => known.heard_of(node, kept),
        }
    }

    /// Keeps links to the relayers nearest to this node, and finds more of them.
    async fn tend(&mut self) {
        let now = Instant::now();
        let late = self.dials.iter().filter(|(_, d)| d.until <= now);
        let late: Vec<_> = late.map(|(dial, _)| *dial).collect();
        for dial in late {
            self.dials.remove(&dial);
            let error = "no answer in time".to_owned();
            tell(&self.events, NetEvent::DialFailed { dial, error }).await;
        }
        self.avoid
            .retain(|_, avoid| avoid.until + BACK_OFF_MAX > now);
        self.dial_bootstraps();
        self.dial_home();
        let few = self.links.len() < self.config.home_links;
        let span = if few { SEARCH / 6 } else { SEARCH };
        if !self.links.is_empty() && self.searched.is_none_or(|at| at + span <= now) {
            self.searched = Some(now);
            let local = *self.swarm.local_peer_id();
            self.swarm.behaviour_mut().kad.get_closest_peers(local);
        }
    }

    fn dial_bootstraps(&mut self) {
        if !self.links.is_empty() {
            return;
        }
        for address in self.bootstrap.clone() {
            let options = match address.iter().last() {
                Some(Protocol::P2p(peer)) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .addresses(vec![address])
                    .build(),
                _ => DialOpts::unknown_peer_id().address(address).build(),
            };
            if let Err(error) = self.swarm.dial(options) {
                debug!(%error, "bootstrap address not dialled");
            }
        }
    }

    fn dial_home(&mut self) {
        let now = Instant::now();
        let key = kad::KBucketKey::from(*self.swarm.local_peer_id());
        let nearest: Vec<_> = self
            .swarm
            .behaviour_mut()
            .kad
            .get_closest_local_peers(&key)
            .map(|key| key.into_preimage())
            .take(self.config.home_links)
            .collect();
        for peer in nearest {
            let avoided = self.avoid.get(&peer).is_some_and(|avoid| avoid.until > now);
            if avoided || self.links.contains_key(&peer) {
                continue;
            }
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            if let Err(error) = self.swarm.dial(options) {
                debug!(%peer, %error, "relayer not dialled");
            }
        }
    }
}
