//! The swarm's task: dials, and starts a task per link.

mod overlay;
pub(super) mod registry;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use headwater_proto::{AddressText, Violation};
use libp2p::{
    Multiaddr, PeerId, Swarm, identify, kad, ping,
    swarm::{
        ConnectionId, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    NetConfig, NetError, NetEvent, NetHandle, Order, Peers, SPARE_AFTER,
    address::Purpose,
    backoff::{BackOff, chance},
    behaviour::LinksEvent,
    bootstrap::{self, Bootstraps},
    hearsay::Known,
    link::{self, LinkError, NewLink},
    lookups::{Errand, Lookups},
    policy::{self, node_of, peer_of},
    transport::{self, Behaviour, BehaviourEvent, KAD, innermost},
};
use crate::mutex::lock;

/// Events of links that may wait for the driver; more make the links wait.
const EVENTS: usize = 1024;
/// Dials of the driver that may wait.
const ORDERS: usize = 1024;
/// How often links are looked after.
const TEND: Duration = Duration::from_secs(1);
/// How often relayers are looked for, while there are enough links.
const SEARCH: Duration = Duration::from_secs(30);
/// How often while there are too few.
const SEARCH_SOON: Duration = Duration::from_secs(5);
/// A dial that has not led to a link by then has failed.
const DIAL: Duration = Duration::from_secs(5);
/// A node that could not be reached is left alone for this long at first.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// A link that ends sooner counts as a failed dial.
const STEADY: Duration = Duration::from_secs(10);
const _: () = assert!(
    STEADY.as_secs() < SPARE_AFTER.as_secs(),
    "a node whose link was not used any more can be dialled again at once"
);

/// From tasks back to the swarm's.
enum News {
    Greeted(PeerId, ConnectionId),
    Ended(PeerId, ConnectionId, LinkError),
    Resolved(usize, Result<Vec<Multiaddr>, String>),
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
    let listen = transport::parse(&config.listen, "--listen", Purpose::Listen)?;
    let external = transport::parse(&config.external, "--external-addr", Purpose::External)?;
    let bootstrap = transport::parse(&config.bootstrap, "--bootstrap", Purpose::Bootstrap)?;
    let mut swarm = transport::build(&config)?;
    let advertised = external
        .iter()
        .filter_map(|address| AddressText::new(&address.to_string()).ok())
        .collect();
    for address in external {
        swarm.add_external_address(address);
    }
    let listening = transport::bind(&mut swarm, listen).await?;
    let (events, incoming) = mpsc::channel(EVENTS);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let (news, heard) = mpsc::channel(EVENTS);
    let shared = link::Shared {
        roles: config.roles,
        agent: config.agent.clone(),
        peers: Peers::default(),
        events,
        ending: stop,
    };
    let handle = NetHandle {
        node: config.key.node_id(),
        peers: shared.peers.clone(),
        orders,
        listening: Arc::new(Mutex::new(listening)),
        external: advertised,
        known: Arc::new(Mutex::new(Known::default())),
    };
    let mut task = Task {
        swarm,
        bootstraps: Bootstraps::new(bootstrap),
        handle: handle.clone(),
        shared,
        news,
        tasks: tasks.clone(),
        links: BTreeMap::new(),
        dials: BTreeMap::new(),
        avoid: BTreeMap::new(),
        said: BTreeMap::new(),
        lookups: Lookups::default(),
        searched: None,
        announced: None,
        searches: HashMap::new(),
        config,
    };
    // Those heard of last come first, and are to be remembered longest.
    for (node, addresses) in std::mem::take(&mut task.config.known).into_iter().rev() {
        task.add_relayer(node, &addresses, false);
    }
    tasks.spawn(task.run(ordered, heard));
    Ok((handle, incoming))
}

fn texts(addresses: &[Multiaddr]) -> Vec<AddressText> {
    addresses
        .iter()
        .filter_map(|address| AddressText::new(&address.to_string()).ok())
        .collect()
}

/// A neighbour's link: the task that lives it.
struct LinkTask {
    connection: ConnectionId,
    stop: CancellationToken,
    /// Tells the task that the connection has ended.
    gone: CancellationToken,
    task: JoinHandle<()>,
    /// When both sides had said Hello.
    greeted: Option<Instant>,
}

/// A dial of the driver that has not led to a link yet.
struct PendingDial {
    peer: PeerId,
    /// The attempt; none while a connection waits to become a link.
    attempt: Option<ConnectionId>,
    until: Instant,
}

struct Task {
    swarm: Swarm<Behaviour>,
    config: NetConfig,
    bootstraps: Bootstraps,
    handle: NetHandle,
    shared: link::Shared,
    news: mpsc::Sender<News>,
    tasks: TaskTracker,
    links: BTreeMap<PeerId, LinkTask>,
    dials: BTreeMap<u64, PendingDial>,
    avoid: BTreeMap<PeerId, BackOff>,
    /// Where those with a connection say they can be dialled.
    said: BTreeMap<PeerId, Vec<AddressText>>,
    lookups: Lookups,
    searched: Option<Instant>,
    /// When a transcoder announces itself next.
    announced: Option<Instant>,
    searches: HashMap<kad::QueryId, registry::Search>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut news: mpsc::Receiver<News>) {
        let mut tend = interval(TEND);
        tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ending = self.shared.ending.clone();
        loop {
            tokio::select! { biased;
                () = ending.cancelled() => break,
                Some(order) = orders.recv() => self.order(order).await,
                Some(news) = news.recv() => self.news(news).await,
                _ = tend.tick() => self.tend().await,
                event = self.swarm.select_next_some() => self.event(event).await,
            }
        }
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::LookUp { target, done } => match peer_of(target) {
                Some(peer) => self.walk(peer, Errand::Near(target, done)),
                None => drop(done.send(())),
            },
            Order::CloseSpare { peers } => self.close_spare(&peers),
            Order::FindTranscoders { done } => self.find_transcoders(done),
            Order::Dial {
                dial,
                peer,
                addresses,
            } => match peer_of(peer) {
                // Nothing is known of it yet.
                Some(id) if addresses.is_empty() && !self.swarm.is_connected(&id) => {
                    self.walk(id, Errand::Dial(dial, peer));
                }
                Some(id) => self.dial(dial, id, &addresses).await,
                None => {
                    self.dial_failed(dial, "the id is no valid key".into())
                        .await
                }
            },
        }
    }

    async fn dial(&mut self, dial: u64, peer: PeerId, addresses: &[AddressText]) {
        let node = node_of(&peer);
        let allow = self.config.allow_private;
        let addresses = node.map(|node| policy::filter(addresses, node, allow));
        let addresses = &addresses.unwrap_or_default();
        if addresses.is_empty() && !self.swarm.is_connected(&peer) {
            let error = "no address that may be dialled".to_owned();
            return self.dial_failed(dial, error).await;
        }
        match self.attempt(peer, addresses) {
            Err(error) => self.dial_failed(dial, innermost(&error)).await,
            Ok(attempt) => {
                let until = Instant::now() + DIAL;
                let pending = PendingDial {
                    peer,
                    attempt,
                    until,
                };
                self.dials.insert(dial, pending);
            }
        }
    }

    async fn dial_failed(&mut self, dial: u64, error: String) {
        self.shared.tell(NetEvent::DialFailed { dial, error }).await;
    }

    /// Dials; `None` when a connection is there and only has to become a link.
    fn attempt(
        &mut self,
        peer: PeerId,
        addresses: &[AddressText],
    ) -> Result<Option<ConnectionId>, DialError> {
        if self.swarm.is_connected(&peer) {
            let linked = self.links.get(&peer);
            return if linked.is_some_and(|link| link.greeted.is_some()) {
                Err(DialError::DialPeerConditionFalse(
                    PeerCondition::Disconnected,
                ))
            } else {
                Ok(None)
            };
        }
        let addresses = addresses
            .iter()
            .filter_map(|address| address.as_str().parse().ok())
            .collect();
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(addresses)
            .build();
        let attempt = options.connection_id();
        self.swarm.dial(options)?;
        Ok(Some(attempt))
    }

    async fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the library's enum has many events that need no action"
        )]
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour(event).await,
            SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                self.bootstraps.dialled(connection_id, None);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                ..
            } => {
                self.said.remove(&peer_id);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
                ..
            } => {
                self.not_reached(connection_id, peer_id, innermost(&error))
                    .await;
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Ok(text) = AddressText::new(&address.to_string()) {
                    let mut all = lock(&self.handle.listening);
                    if !all.contains(&text) {
                        all.push(text);
                    }
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let text = address.to_string();
                let mut all = lock(&self.handle.listening);
                all.retain(|known| known.as_str() != text);
            }
            _ => {}
        }
    }

    async fn behaviour(&mut self, event: BehaviourEvent) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the library's enum has many events that need no action"
        )]
        match event {
            BehaviourEvent::Links(event) => self.links_event(event).await,
            // A neighbour said what it speaks and where it listens: relayers are
            // remembered.
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                if info.protocols.contains(&KAD) {
                    self.heard_of(peer_id, &info.listen_addrs, true);
                }
                self.identified(peer_id, &info.listen_addrs).await;
            }
            BehaviourEvent::Overlay(kad::Event::OutboundQueryProgressed {
                id,
                result: kad::QueryResult::GetClosestPeers(found),
                step,
                ..
            }) => {
                let peers = match found {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                for info in &peers {
                    self.heard_of(info.peer_id, &info.addrs, false);
                }
                if step.last
                    && let Some(errand) = self.lookups.ended(id)
                {
                    self.walked(errand, peers).await;
                }
            }
            BehaviourEvent::Overlay(kad::Event::OutboundQueryProgressed {
                id,
                result: kad::QueryResult::GetProviders(found),
                step,
                ..
            }) => self.found_transcoders(id, found, step.last),
            BehaviourEvent::Overlay(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::StartProviding(ended),
                stats,
                ..
            }) => {
                let taken = ended.is_ok() && stats.num_successes() > 0;
                self.announcement_ended(taken, Instant::now());
            }
            BehaviourEvent::Overlay(kad::Event::InboundRequest {
                request:
                    kad::InboundRequest::AddProvider {
                        record: Some(record),
                    },
            }) => self.announced_to(record),
            BehaviourEvent::Ping(ping::Event {
                peer,
                result: Ok(round_trip),
                ..
            }) => {
                let peers = lock(&self.shared.peers);
                if let Some(peer) = node_of(&peer).and_then(|node| peers.get(&node)) {
                    peer.counters.measured(round_trip);
                }
            }
            _ => {}
        }
    }

    /// A neighbour says where it listens.
    async fn identified(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let Some(node) = node_of(&peer) else {
            return;
        };
        let mut addresses = policy::filter(&texts(addresses), node, self.config.allow_private);
        addresses.truncate(headwater_proto::limits::MAX_ADDRESSES);
        let before = self.said.insert(peer, addresses.clone());
        let linked = self.links.get(&peer).is_some_and(|l| l.greeted.is_some());
        if linked && before.as_ref() != Some(&addresses) {
            self.shared
                .tell(NetEvent::Addresses {
                    peer: node,
                    addresses,
                })
                .await;
        }
    }

    async fn not_reached(&mut self, attempt: ConnectionId, peer: Option<PeerId>, error: String) {
        if !self.bootstraps.dialled(attempt, Some(&error)) {
            debug!(?peer, error, "node not reached");
        }
        if let Some(peer) = peer {
            self.avoid(peer);
            self.lookups.not_reached(peer);
            if let Some(node) = node_of(&peer) {
                lock(&self.handle.known).doubt(node);
            }
        }
        let failed = self
            .dials
            .iter()
            .find(|(_, pending)| pending.attempt == Some(attempt));
        if let Some(dial) = failed.map(|(dial, _)| *dial) {
            self.dials.remove(&dial);
            self.dial_failed(dial, error).await;
        }
    }

    fn avoid(&mut self, peer: PeerId) {
        let fresh = || BackOff::new(BACK_OFF, BACK_OFF_MAX);
        let back_off = self.avoid.entry(peer).or_insert_with(fresh);
        back_off.fail(Instant::now(), chance());
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
                let predecessor = self.links.remove(&peer).map(|old| {
                    old.stop.cancel();
                    old.task
                });
                let mut dials = Vec::new();
                self.dials.retain(|dial, pending| {
                    let answered = pending.peer == peer;
                    if answered {
                        dials.push(*dial);
                    }
                    !answered
                });
                let stop = self.shared.ending.child_token();
                let gone = CancellationToken::new();
                let new = NewLink {
                    peer: node,
                    streams: *streams,
                    address,
                    outbound,
                    dials,
                    predecessor,
                    stop: stop.clone(),
                    gone: gone.clone(),
                };
                let task = self.spawn(peer, connection, new);
                let link = LinkTask {
                    connection,
                    stop,
                    gone,
                    task,
                    greeted: None,
                };
                self.links.insert(peer, link);
            }
            LinksEvent::Closed { peer, connection } => {
                let link = self.links.get(&peer);
                if let Some(link) = link.filter(|link| link.connection == connection) {
                    link.gone.cancel();
                }
            }
            LinksEvent::Surplus { peer } => {
                if let Some(from) = node_of(&peer) {
                    let violation = Violation::TooManyStreams;
                    self.shared
                        .tell(NetEvent::Violation { from, violation })
                        .await;
                }
            }
        }
    }

    fn spawn(&self, peer: PeerId, connection: ConnectionId, new: NewLink) -> JoinHandle<()> {
        let (news, shared) = (self.news.clone(), self.shared.clone());
        self.tasks.spawn(async move {
            // When the swarm's task is gone the node stops, and nobody needs the news.
            let greeted = async || drop(news.send(News::Greeted(peer, connection)).await);
            let reason = link::live(new, shared, greeted).await;
            drop(news.send(News::Ended(peer, connection, reason)).await);
        })
    }

    async fn news(&mut self, news: News) {
        match news {
            News::Greeted(peer, connection) => self.greeted(peer, connection).await,
            News::Ended(peer, connection, reason) => self.ended(peer, connection, &reason),
            News::Resolved(index, Ok(addresses)) => {
                let now = Instant::now();
                let Some(options) = bootstrap::options(addresses) else {
                    return;
                };
                let attempt = options.connection_id();
                match self.swarm.dial(options) {
                    Ok(()) => self.bootstraps.dialling(index, attempt, now),
                    // It is known from an earlier run, and the overlay was faster.
                    Err(DialError::DialPeerConditionFalse(_)) => self.bootstraps.spared(index, now),
                    Err(DialError::NoAddresses) => {
                        let reason = "this node itself listens there";
                        self.bootstraps.failed(index, reason, now);
                    }
                    Err(error) => self.bootstraps.failed(index, &innermost(&error), now),
                }
            }
            News::Resolved(index, Err(reason)) => {
                self.bootstraps.failed(index, &reason, Instant::now());
            }
        }
    }

    async fn greeted(&mut self, peer: PeerId, connection: ConnectionId) {
        let link = self.links.get_mut(&peer);
        let Some(link) = link.filter(|link| link.connection == connection) else {
            return;
        };
        link.greeted = Some(Instant::now());
        self.bootstraps.reset();
        self.lookups.linked(peer);
        if let (Some(addresses), Some(peer)) = (self.said.get(&peer), node_of(&peer)) {
            let addresses = addresses.clone();
            self.shared
                .tell(NetEvent::Addresses { peer, addresses })
                .await;
        }
    }

    fn ended(&mut self, peer: PeerId, connection: ConnectionId, reason: &LinkError) {
        let ended = self.links.get(&peer);
        let Some(greeted) = ended
            .filter(|link| link.connection == connection)
            .map(|link| link.greeted)
        else {
            // Another link has replaced it.
            return;
        };
        self.links.remove(&peer);
        if greeted.is_some_and(|since| since.elapsed() >= STEADY) {
            self.avoid.remove(&peer);
        } else {
            self.avoid(peer);
        }
        if matches!(reason, LinkError::Told) {
            // It may be gone already, which is what is wanted.
            let gone = self.swarm.disconnect_peer_id(peer);
            debug!(%peer, ?gone, "disconnected");
        } else {
            self.swarm.close_connection(connection);
        }
    }

    async fn tend(&mut self) {
        let now = Instant::now();
        let late = self.dials.iter().filter(|(_, d)| d.until <= now);
        let late: Vec<_> = late.map(|(dial, _)| *dial).collect();
        for dial in late {
            self.dials.remove(&dial);
            self.dial_failed(dial, "no answer in time".to_owned()).await;
        }
        self.lookups.expire(now);
        self.avoid.retain(|_, avoid| !avoid.is_forgotten(now));
        let greeted = |link: &LinkTask| link.greeted.is_some();
        if !self.links.values().any(greeted) {
            self.dial_bootstraps(now);
        }
        self.announce(now);
        let missing = self.dial_overlay(now);
        let span = if missing { SEARCH_SOON } else { SEARCH };
        if !self.links.is_empty() && self.searched.is_none_or(|at| at + span <= now) {
            self.searched = Some(now);
            self.search();
        }
    }

    fn dial_bootstraps(&mut self, now: Instant) {
        for (index, address) in self.bootstraps.due(now) {
            let (news, ending) = (self.news.clone(), self.shared.ending.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    resolved = bootstrap::resolve(address) => {
                        // Only a stopping node does not take the news.
                        drop(news.send(News::Resolved(index, resolved)).await);
                    }
                    () = ending.cancelled() => {}
                }
            });
        }
    }
}
