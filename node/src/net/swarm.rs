//! The swarm's task: dials, finds relayers, and starts a task per link.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use headwater_proto::{AddressText, NodeId, Violation};
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
    Dial, NetConfig, NetError, NetEvent, NetHandle, Peers,
    backoff::{BackOff, chance},
    behaviour::LinksEvent,
    bootstrap::{self, Bootstraps},
    hearsay::Known,
    link::{self, LinkError, NewLink},
    lock,
    policy::{self, node_of, peer_of},
    transport::{self, Behaviour, BehaviourEvent, KAD, innermost},
};

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
/// Links that a relayer keeps to each bucket of its routing table.
const PER_BUCKET: usize = 2;

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
    let listen = transport::parse(&config.listen, "--listen", false)?;
    let external = transport::parse(&config.external, "--external-addr", false)?;
    let bootstrap = transport::parse(&config.bootstrap, "--bootstrap", true)?;
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
        searched: None,
        config,
    };
    // Those heard of last come first, and are to be remembered longest.
    for (node, addresses) in std::mem::take(&mut task.config.known).into_iter().rev() {
        task.add_relayer(node, &addresses, false);
    }
    tasks.spawn(task.run(ordered, heard));
    Ok((handle, incoming))
}

/// A neighbour's link: the task that lives it.
struct LinkTask {
    connection: ConnectionId,
    stop: CancellationToken,
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
    searched: Option<Instant>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Dial>, mut news: mpsc::Receiver<News>) {
        let mut tend = interval(TEND);
        tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ending = self.shared.ending.clone();
        loop {
            tokio::select! { biased;
                () = ending.cancelled() => break,
                Some(order) = orders.recv() => self.dial(order).await,
                Some(news) = news.recv() => self.news(news),
                _ = tend.tick() => self.tend().await,
                event = self.swarm.select_next_some() => self.event(event).await,
            }
        }
    }

    async fn dial(&mut self, order: Dial) {
        let dial = order.dial;
        let error = match peer_of(order.peer) {
            None => "the id is no valid key".to_owned(),
            Some(peer) => match self.attempt(peer, &order.addresses) {
                Err(error) => innermost(&error),
                Ok(attempt) => {
                    let until = Instant::now() + DIAL;
                    let pending = PendingDial {
                        peer,
                        attempt,
                        until,
                    };
                    self.dials.insert(dial, pending);
                    return;
                }
            },
        };
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
                    let listening = &self.handle.listening;
                    let mut all = listening.lock().unwrap_or_else(PoisonError::into_inner);
                    if !all.contains(&text) {
                        all.push(text);
                    }
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let text = address.to_string();
                let listening = &self.handle.listening;
                let mut all = listening.lock().unwrap_or_else(PoisonError::into_inner);
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
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })
                if info.protocols.contains(&KAD) =>
            {
                self.heard_of(peer_id, &info.listen_addrs, true);
            }
            BehaviourEvent::Overlay(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetClosestPeers(found),
                ..
            }) => {
                let peers = match found {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                for info in peers {
                    self.heard_of(info.peer_id, &info.addrs, false);
                }
            }
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

    async fn not_reached(&mut self, attempt: ConnectionId, peer: Option<PeerId>, error: String) {
        if !self.bootstraps.dialled(attempt, Some(&error)) {
            debug!(?peer, error, "node not reached");
        }
        if let Some(peer) = peer {
            self.avoid(peer);
            if let Some(node) = node_of(&peer) {
                let known = self.handle.known.lock();
                known.unwrap_or_else(PoisonError::into_inner).doubt(node);
            }
        }
        let failed = self
            .dials
            .iter()
            .find(|(_, pending)| pending.attempt == Some(attempt));
        if let Some(dial) = failed.map(|(dial, _)| *dial) {
            self.dials.remove(&dial);
            self.shared.tell(NetEvent::DialFailed { dial, error }).await;
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
                let new = NewLink {
                    peer: node,
                    streams: *streams,
                    address,
                    outbound,
                    dials,
                    predecessor,
                    stop: stop.clone(),
                };
                let task = self.spawn(peer, connection, new);
                let link = LinkTask {
                    connection,
                    stop,
                    task,
                    greeted: None,
                };
                self.links.insert(peer, link);
            }
            LinksEvent::Closed { peer, connection } => {
                let link = self.links.get(&peer);
                if let Some(link) = link.filter(|link| link.connection == connection) {
                    link.stop.cancel();
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

    fn news(&mut self, news: News) {
        match news {
            News::Greeted(peer, connection) => {
                if let Some(link) = self.links.get_mut(&peer)
                    && link.connection == connection
                {
                    link.greeted = Some(Instant::now());
                }
                self.bootstraps.reset();
            }
            News::Ended(peer, connection, reason) => self.ended(peer, connection, &reason),
            News::Resolved(index, Ok(addresses)) => {
                let now = Instant::now();
                let Some(options) = bootstrap::options(addresses) else {
                    return;
                };
                let attempt = options.connection_id();
                match self.swarm.dial(options) {
                    Ok(()) => self.bootstraps.dialling(index, attempt, now),
                    Err(error) => self.bootstraps.failed(index, &innermost(&error), now),
                }
            }
            News::Resolved(index, Err(reason)) => {
                self.bootstraps.failed(index, &reason, Instant::now());
            }
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

    /// Takes note of a relayer: itself or another node says that it is one.
    fn heard_of(&mut self, peer: PeerId, addresses: &[Multiaddr], first_hand: bool) {
        let Some(node) = node_of(&peer).filter(|node| *node != self.handle.node) else {
            return;
        };
        let texts = addresses
            .iter()
            .filter_map(|address| AddressText::new(&address.to_string()).ok())
            .collect::<Vec<_>>();
        self.add_relayer(node, &texts, first_hand);
    }

    fn add_relayer(&mut self, node: NodeId, addresses: &[AddressText], first_hand: bool) {
        let Some(peer) = peer_of(node) else {
            return;
        };
        let mut addresses = policy::filter(addresses, node, self.config.allow_private);
        addresses.truncate(headwater_proto::limits::MAX_ADDRESSES);
        let parsed: Vec<Multiaddr> = addresses
            .iter()
            .filter_map(|address| address.as_str().parse().ok())
            .collect();
        let known = self.handle.known.lock();
        let learned = known
            .unwrap_or_else(PoisonError::into_inner)
            .learn(node, addresses, first_hand);
        if !learned {
            return;
        }
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        // The routing table only ever adds addresses: the old ones go first.
        kad.remove_peer(&peer);
        for address in parsed {
            kad.add_address(&peer, address);
        }
    }

    async fn tend(&mut self) {
        let now = Instant::now();
        let late = self.dials.iter().filter(|(_, d)| d.until <= now);
        let late: Vec<_> = late.map(|(dial, _)| *dial).collect();
        for dial in late {
            self.dials.remove(&dial);
            let error = "no answer in time".to_owned();
            self.shared.tell(NetEvent::DialFailed { dial, error }).await;
        }
        self.avoid.retain(|_, avoid| !avoid.is_forgotten(now));
        let greeted = |link: &LinkTask| link.greeted.is_some();
        if !self.links.values().any(greeted) {
            self.dial_bootstraps(now);
        }
        let missing = self.dial_overlay(now);
        let span = if missing { SEARCH_SOON } else { SEARCH };
        if !self.links.is_empty() && self.searched.is_none_or(|at| at + span <= now) {
            self.searched = Some(now);
            self.search();
        }
    }

    /// Asks the overlay for the nodes nearest to this one, and a relayer also for those
    /// around a random place.
    fn search(&mut self) {
        let local = *self.swarm.local_peer_id();
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        kad.get_closest_peers(local);
        let mut place = [0; 32];
        if self.config.roles.relayer && getrandom::fill(&mut place).is_ok() {
            kad.get_closest_peers(place.to_vec());
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

    /// Dials the relayers that this node should be linked to; `true` when links are
    /// missing.
    fn dial_overlay(&mut self, now: Instant) -> bool {
        let wanted = self.wanted();
        let mut missing = wanted.len() < self.config.home_links;
        for peer in wanted {
            if self.links.contains_key(&peer) {
                continue;
            }
            missing = true;
            if self.avoid.get(&peer).is_some_and(|a| !a.is_over(now)) {
                continue;
            }
            let options = DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            if let Err(error) = self.swarm.dial(options) {
                debug!(%peer, %error, "relayer not dialled");
            }
        }
        missing
    }

    /// The nearest relayers; for a relayer also some of each bucket, those with a link
    /// first. With the nearest every greedy route ends at its goal, and with the others
    /// it takes few hops.
    fn wanted(&mut self) -> BTreeSet<PeerId> {
        let key = kad::KBucketKey::from(*self.swarm.local_peer_id());
        let kad = &mut self.swarm.behaviour_mut().overlay.kad;
        let nearest = kad.get_closest_local_peers(&key);
        let mut wanted: BTreeSet<PeerId> = nearest
            .map(kad::KBucketKey::into_preimage)
            .take(self.config.home_links)
            .collect();
        if self.config.roles.relayer {
            for bucket in kad.kbuckets() {
                let mut peers: Vec<PeerId> = bucket
                    .iter()
                    .map(|entry| *entry.node.key.preimage())
                    .collect();
                peers.sort_by_key(|peer| (!self.links.contains_key(peer), *peer));
                wanted.extend(peers.into_iter().take(PER_BUCKET));
            }
        }
        wanted
    }
}
