//! What is done to the world: parts are published, viewers come and go, things break.

use std::time::Duration;

use headwater_proto::JobId;
use headwater_protocol::{Command, Priority, Time};

use super::{Event, World};
use crate::{
    checks::Session,
    host::{Health, HostIx},
    hostile::TURN_MS,
    scenario::Workload,
    schedule::Deed,
    wire,
};

/// A slow uplink has this part of its bandwidth.
const SLOW: u64 = 10;
/// Neighbours that a hostile node turns to each time.
const MISCHIEF_NEIGHBOURS: usize = 2;

impl World {
    // ---- broadcasts ----------------------------------------------------------------

    pub(super) fn publish(&mut self, broadcast: u32) {
        let Some(owner) = self.owner(broadcast) else {
            return;
        };
        let number = self.broadcasts[broadcast as usize].published;
        let early = self.broadcasts[broadcast as usize].due(self.shape(), number) > self.now();
        let withdrawn = self.broadcasts[broadcast as usize].withdrawn;
        if early || withdrawn || !self.hosts[owner.at()].is_up() {
            // Its owner has gone on with a later part since, or will.
            return;
        }
        let stream = self.broadcasts[broadcast as usize].stream.clone();
        if !std::mem::replace(&mut self.broadcasts[broadcast as usize].open, true) {
            self.command(owner, Command::Publish { stream });
            let (header, chunks) = self.broadcasts[broadcast as usize].init();
            let bytes = wire::media_bytes(&header, &chunks);
            self.broadcasts[broadcast as usize].media_bytes += bytes;
            self.command(owner, Command::Append { header, chunks });
        }
        let part = self.broadcasts[broadcast as usize].part(self.shape(), number);
        // What is published counts before anybody can be handed it.
        self.broadcasts[broadcast as usize].published += 1;
        let (header, chunks) = part;
        let bytes = wire::media_bytes(&header, &chunks);
        self.broadcasts[broadcast as usize].media_bytes += bytes;
        self.command(owner, Command::Append { header, chunks });
        if self.scenario.workload != Workload::Route {
            let next = self.broadcasts[broadcast as usize].due(self.shape(), number + 1);
            self.events.push(next, Event::Part(broadcast));
        }
    }

    // ---- the schedule --------------------------------------------------------------

    pub(super) fn deed(&mut self, number: u32) {
        let deed = self.schedule[number as usize].1.clone();
        self.note(HostIx(number), 0x30, 0);
        match deed {
            Deed::Subscribe { host, broadcast } => self.subscribe(host, broadcast),
            Deed::Unsubscribe { host, broadcast } => self.unsubscribe(host, broadcast),
            Deed::StartJob { host, broadcast } => {
                self.hosts[host.at()].job = Some((broadcast, 0));
                self.start_job(host, broadcast);
            }
            Deed::AskStatus { host, of } => {
                let node = self.hosts[of.at()].id;
                self.measure.status_asked += 1;
                self.command(host, Command::RequestStatus { node });
            }
            Deed::Crash(hosts) => self.kill(&hosts, Health::Crashed),
            Deed::Vanish(hosts) => self.kill(&hosts, Health::Vanished),
            Deed::CrashParents {
                count,
                choice,
                back,
            } => self.crash_parents(count, choice, back),
            Deed::Start(hosts) => self.start_hosts(&hosts),
            Deed::Freeze(hosts) => {
                for host in hosts {
                    if self.hosts[host.at()].is_up() {
                        self.hosts[host.at()].health = Health::Frozen;
                        self.frozen += 1;
                    }
                }
                self.cut_off();
            }
            Deed::Thaw(hosts) => self.thaw(&hosts),
            Deed::Slow(hosts) => self.set_uplinks(&hosts, (self.scenario.uplink / SLOW).max(1)),
            Deed::Hasten(hosts) => self.set_uplinks(&hosts, self.scenario.uplink),
            Deed::Partition(hosts) => self.partition(&hosts),
            Deed::Heal => {
                self.partitioned = false;
                for host in &mut self.hosts {
                    host.side = false;
                }
                for host in (0..).map(HostIx).take(self.hosts.len()) {
                    self.maintain_soon(host);
                }
            }
            Deed::Cut(links) => {
                for link in links {
                    let (a, b) = self.plan_links[link];
                    self.reset(a, b);
                }
                self.cut_off();
            }
            Deed::CutDirect(transcoders) => {
                for host in transcoders {
                    let job = self.hosts[host.at()].job;
                    if let Some(owner) = job.and_then(|(broadcast, _)| self.owner(broadcast)) {
                        self.reset(host, owner);
                    }
                }
                self.cut_off();
            }
            Deed::Withdraw(owners) => owners.into_iter().for_each(|owner| self.withdraw(owner)),
            Deed::Republish(owners) => {
                for owner in owners {
                    let withdrawn = &mut self.broadcasts[owner.at()].withdrawn;
                    if std::mem::take(withdrawn) && self.hosts[owner.at()].is_up() {
                        self.resume(owner);
                    }
                }
            }
            Deed::Revoke(transcoders) => self.assign(&transcoders, false),
            Deed::Assign(transcoders) => self.assign(&transcoders, true),
        }
    }

    /// A broadcaster makes its stream no more for the time being.
    fn withdraw(&mut self, owner: HostIx) {
        let broadcast = &mut self.broadcasts[owner.at()];
        broadcast.withdrawn = true;
        if std::mem::take(&mut broadcast.open) && self.hosts[owner.at()].is_up() {
            let stream = broadcast.stream.clone();
            self.command(owner, Command::Unpublish { stream });
        }
    }

    /// A broadcaster goes on with its stream. Broadcasts are numbered as their owners are.
    fn resume(&mut self, owner: HostIx) {
        let Some(broadcast) = self.broadcasts.get_mut(owner.at()) else {
            return;
        };
        let next = broadcast.resume(&self.shape, self.now);
        self.events.push(next, Event::Part(owner.0));
        let open = self.sessions.iter_mut().filter(|s| s.until.is_none());
        for session in open.filter(|s| s.broadcast == owner.0) {
            let job = self.hosts[session.host.at()].job;
            session.resumed = job.map(|_| next);
        }
    }

    fn subscribe(&mut self, host: HostIx, broadcast: u32) {
        if !self.hosts[host.at()].is_up() {
            return;
        }
        self.open_session(host, broadcast);
        let stream = self.broadcasts[broadcast as usize].stream.clone();
        self.command(host, Command::Subscribe { stream, from: None });
    }

    pub(super) fn start_job(&mut self, host: HostIx, broadcast: u32) {
        if !self.hosts[host.at()].is_up() {
            return;
        }
        self.open_session(host, broadcast);
        let stream = self.broadcasts[broadcast as usize].stream.clone();
        let (job, from) = (JobId(u64::from(host.0)), None);
        self.command(host, Command::StartJob { job, stream, from });
    }

    fn open_session(&mut self, host: HostIx, broadcast: u32) {
        let number = super::index32(self.sessions.len());
        let session = Session::new(host, broadcast, self.now());
        self.sessions.push(session);
        self.hosts[host.at()].sessions.push(number);
    }

    fn unsubscribe(&mut self, host: HostIx, broadcast: u32) {
        if !self.hosts[host.at()].is_up() {
            return;
        }
        let stream = self.broadcasts[broadcast as usize].stream.clone();
        self.command(host, Command::Unsubscribe { stream });
        self.close_session(host, broadcast);
    }

    pub(super) fn close_session(&mut self, host: HostIx, broadcast: u32) {
        let now = self.now();
        let sessions = &mut self.sessions;
        self.hosts[host.at()].sessions.retain(|number| {
            let session = &mut sessions[*number as usize];
            if session.broadcast == broadcast {
                session.until = Some(now);
            }
            session.broadcast != broadcast
        });
    }

    fn kill(&mut self, hosts: &[HostIx], how: Health) {
        for &host in hosts {
            if self.hosts[host.at()].is_down() {
                continue;
            }
            self.frozen -= usize::from(self.hosts[host.at()].health == Health::Frozen);
            self.hosts[host.at()].health = how;
            self.measure.collect(self.hosts[host.at()].node.stats());
            self.hosts[host.at()].backlog.clear();
            for number in std::mem::take(&mut self.hosts[host.at()].sessions) {
                self.sessions[number as usize].until = Some(self.now());
            }
            for line in self.hosts[host.at()].take_lines() {
                if how == Health::Crashed {
                    self.close(host, line.out, false);
                } else {
                    self.net.silence(line.out);
                }
            }
        }
        let all = &self.hosts;
        self.open_commands
            .retain(|_, (host, _)| !all[host.at()].is_down());
        self.cut_off();
    }

    fn crash_parents(&mut self, count: usize, choice: u64, back: Option<Duration>) {
        let mut feeding: Vec<_> = self
            .hosts
            .iter()
            .filter(|host| host.is_up())
            .flat_map(|host| host.parents.iter().map(|source| source.parent))
            .filter(|parent| self.hosts[parent.at()].is_up())
            .filter(|parent| parent.0 >= self.scenario.broadcasters)
            .collect();
        feeding.sort_unstable();
        feeding.dedup();
        crate::dice::Dice::new(choice, "parents").shuffle(&mut feeding);
        feeding.truncate(count);
        self.kill(&feeding, Health::Crashed);
        if let Some(back) = back {
            let number = super::index32(self.returns.len());
            self.returns.push(feeding);
            self.events.push(self.now() + back, Event::Return(number));
        }
    }

    pub(super) fn start_hosts(&mut self, hosts: &[HostIx]) {
        for &host in hosts {
            if !self.hosts[host.at()].is_down() {
                continue;
            }
            let (seed, now) = (self.life_dice.seed(), self.now());
            self.hosts[host.at()].start(seed, now);
            self.wakes[host.at()] = super::Wake {
                planned: None,
                wanted: None,
            };
            if let Some(recorder) = &mut self.recorder {
                let h = &self.hosts[host.at()];
                recorder.start(host.0, &h.id, &h.config, seed, now);
            }
            self.hosts[host.at()].maintenance_due = false;
            self.maintain_soon(host);
            if self.broadcasts.get(host.at()).is_some_and(|b| !b.withdrawn) {
                self.resume(host);
            }
            // Its job, or its viewer, comes back with it.
            if let Some((broadcast, _)) = self.hosts[host.at()].job {
                if !self.hosts[host.at()].revoked {
                    self.start_job(host, broadcast);
                }
                continue;
            }
            let watched = self.sessions.iter().rev().find(|s| s.host == host);
            if let Some(broadcast) = watched.map(|session| session.broadcast) {
                self.subscribe(host, broadcast);
            }
        }
    }

    fn thaw(&mut self, hosts: &[HostIx]) {
        for &host in hosts {
            let h = &mut self.hosts[host.at()];
            if h.health == Health::Frozen {
                h.health = Health::Up;
                self.frozen -= 1;
                for event in std::mem::take(&mut h.backlog) {
                    self.events.push(self.now, event);
                }
            }
        }
    }

    fn set_uplinks(&mut self, hosts: &[HostIx], kbps: u64) {
        for host in hosts {
            self.hosts[host.at()].uplink.kbps = kbps;
        }
    }

    fn partition(&mut self, hosts: &[HostIx]) {
        self.partitioned = true;
        for host in hosts {
            self.hosts[host.at()].side = true;
        }
        let mut across = Vec::new();
        for (ix, host) in (0..)
            .map(HostIx)
            .zip(&self.hosts)
            .filter(|(_, host)| host.side)
        {
            let others = host.lines().iter().map(|line| line.peer);
            let others = others.filter(|peer| !self.hosts[peer.at()].side);
            across.extend(others.map(|peer| (ix, peer)));
        }
        for (a, b) in across {
            self.reset(a, b);
        }
        self.cut_off();
    }

    // ---- hostile hosts -------------------------------------------------------------

    pub(super) fn mischief(&mut self, host: HostIx) {
        let next: Time = self.now + Duration::from_millis(TURN_MS);
        self.events.push(next, Event::Mischief(host));
        if !self.hosts[host.at()].is_up() {
            return;
        }
        let lines: Vec<_> = self.hosts[host.at()].lines().to_vec();
        let start = self.life_dice.index(lines.len());
        let turn = lines.iter().cycle().skip(start).take(lines.len());
        for line in turn.take(MISCHIEF_NEIGHBOURS) {
            let h = &mut self.hosts[host.at()];
            let Some(hostile) = &mut h.hostile else {
                return;
            };
            for message in hostile.mischief(&h.key) {
                self.measure.mischief += 1;
                self.put_on_line(line.out, message, Priority::Control);
            }
        }
    }

    /// Marks the viewers that a fault has cut off from their broadcaster.
    fn cut_off(&mut self) {
        let now = self.now();
        for number in 0..self.sessions.len() {
            let session = &self.sessions[number];
            let playing = session.until.is_none() && session.first.is_some();
            if playing && self.way(session.host, session.broadcast).is_none() {
                self.sessions[number].cut_off.get_or_insert(now);
            }
        }
    }
}
