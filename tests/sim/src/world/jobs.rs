//! Jobs: claims as transcoders' drivers sign them, and as broadcasters' drivers check them.
//!
//! The ledger is this world: every transcoder holds the job with its own number. A claim's
//! signature is a hash that only [`World::claim`] makes, so one that was changed on its
//! way does not hold.

use std::time::Duration;

use headwater_proto::{JobId, NodeId, TranscodeClaim};
use headwater_protocol::{Answer, Command};

use super::{Event, World};
use crate::{checks::Rule, host::HostIx};

/// How long a claim holds, in milliseconds.
const VALID_MS: u64 = 60_000;
/// Time between two looks at who feeds transcoders.
const FEEDS: Duration = Duration::from_millis(250);
/// Nodes hear of what the ledger says within this time, in milliseconds.
const HEARD_MS: u64 = 1_500;
/// A feed that was left may go on for so long until it is told.
const LEAVING: Duration = Duration::from_secs(1);

impl World {
    /// A fresh claim for a job that a transcoder holds.
    pub(super) fn claim(&mut self, host: HostIx, job: JobId) -> Option<(TranscodeClaim, [u8; 65])> {
        let (broadcast, claims) = self.hosts[host.at()].job.as_mut()?;
        *claims += 1;
        let (broadcast, sequence) = (*broadcast, *claims);
        let claim = TranscodeClaim {
            stream: self.broadcasts[broadcast as usize].stream.clone(),
            job,
            transcoder: self.hosts[host.at()].id,
            addresses: vec![self.address.clone()],
            sealed: None,
            sequence,
            expires_ms: self.now.as_micros() / 1000 + VALID_MS,
        };
        let signature = signature(&claim);
        Some((claim, signature))
    }

    /// Whether a claim holds, as the ledger says.
    pub(super) fn check_claim(
        &mut self,
        host: HostIx,
        claim: &TranscodeClaim,
        signed: &[u8; 65],
    ) -> Answer {
        let holder = u32::try_from(claim.job.0).ok().map(HostIx);
        let holder = holder.and_then(|holder| self.hosts.get(holder.at()));
        let assigned = holder.is_some_and(|holder| {
            let stream = holder.job.map(|(b, _)| &self.broadcasts[b as usize].stream);
            holder.id == claim.transcoder && stream == Some(&claim.stream) && !holder.revoked
        });
        let fresh = claim.expires_ms > self.now.as_micros() / 1000;
        if !assigned || !fresh || signature(claim) != *signed {
            return Answer::ClaimRefused;
        }
        self.hosts[host.at()].granted.push(claim.transcoder);
        let addresses = claim.addresses.clone();
        Answer::ClaimGranted { addresses }
    }

    /// The ledger takes jobs from transcoders, or gives them back. They and their
    /// broadcasters hear of it each at its own time.
    pub(super) fn assign(&mut self, transcoders: &[HostIx], held: bool) {
        for &transcoder in transcoders {
            self.hosts[transcoder.at()].revoked = !held;
            let Some((broadcast, _)) = self.hosts[transcoder.at()].job else {
                continue;
            };
            for host in [Some(transcoder), self.owner(broadcast)]
                .into_iter()
                .flatten()
            {
                let after = Duration::from_millis(self.life_dice.below(HEARD_MS));
                let heard = Event::Heard { host, transcoder };
                self.events.push(self.now + after, heard);
            }
        }
    }

    /// A node looks at what the ledger says of a transcoder's job: what was taken and given
    /// back meanwhile, it never knew.
    pub(super) fn heard(&mut self, host: HostIx, transcoder: HostIx) {
        let of = &self.hosts[transcoder.at()];
        let (id, revoked, idle) = (of.id, of.revoked, of.sessions.is_empty());
        let Some((broadcast, _)) = of.job.filter(|_| self.hosts[host.at()].is_up()) else {
            return;
        };
        let job = JobId(u64::from(transcoder.0));
        if host != transcoder {
            if revoked {
                self.hosts[host.at()]
                    .granted
                    .retain(|granted| *granted != id);
                let transcoder = id;
                self.command(host, Command::RevokeClaim { transcoder, job });
            }
        } else if revoked && !idle {
            self.command(host, Command::StopJob { job });
            self.close_session(host, broadcast);
        } else if !revoked && idle {
            self.start_job(host, broadcast);
        }
    }

    /// A core may dial whom a Redirect has named, and whose claim was granted.
    pub(super) fn check_dial(&mut self, host: HostIx, peer: &NodeId) {
        let h = &self.hosts[host.at()];
        if !h.was_named(peer) && !h.granted.contains(peer) && h.is_honest() {
            let name = self.name(peer);
            let seen = || format!("dials {name}, whom nobody has named");
            self.checks.breach(self.now, host, Rule::Dial, seen);
        }
    }

    /// A transcoder may be fed by two for as long as it takes to choose, and no longer.
    pub(super) fn check_feeds(&mut self) {
        let next = self.now + FEEDS;
        self.events.push(next, Event::CheckFeeds);
        for number in 0..self.sessions.len() {
            let (host, broadcast) = (self.sessions[number].host, self.sessions[number].broadcast);
            if self.sessions[number].until.is_some() || self.hosts[host.at()].job.is_none() {
                continue;
            }
            let feeders = self.feeders(host, broadcast);
            let doubled = &mut self.sessions[number].doubled;
            if feeders.len() < 2 {
                *doubled = None;
                continue;
            }
            let since = *doubled.get_or_insert(self.now);
            let window = self.hosts[host.at()].config.rival_window + LEAVING;
            if since + window < self.now {
                *doubled = Some(self.now);
                let feeders: Vec<_> = feeders.iter().map(|feeder| feeder.0).collect();
                let seen = || format!("has been fed by {feeders:?} for {window:?}");
                self.checks.breach(self.now, host, Rule::TwoFeeds, seen);
            }
        }
    }

    /// Whoever feeds a host besides from now on does so for another reason.
    pub(super) fn feeders_changed(&mut self, host: HostIx) {
        for number in &self.hosts[host.at()].sessions {
            self.sessions[*number as usize].doubled = None;
        }
    }

    /// Who has a transcoder as a child and something to send to it.
    fn feeders(&self, host: HostIx, broadcast: u32) -> Vec<HostIx> {
        let h = &self.hosts[host.at()];
        let stream = &self.broadcasts[broadcast as usize].stream;
        let feeds = |peer: HostIx| {
            let other = &self.hosts[peer.at()];
            let linked = other.is_up() && other.line(&h.id).is_some();
            let mut views = other.node.streams();
            linked
                && views.any(|view| {
                    view.stream == *stream && view.live && view.children.contains(&h.id)
                })
        };
        let peers = h.lines().iter().map(|line| line.peer);
        peers.filter(|peer| h.is_up() && feeds(*peer)).collect()
    }

    /// A transcoder is fed.
    pub(super) fn feed_started(&mut self, host: HostIx, transcoder: &NodeId, direct: bool) {
        if !self.hosts[host.at()].granted.contains(transcoder) {
            let name = self.name(transcoder);
            let seen = || format!("feeds {name}, whose claim does not hold");
            self.checks.breach(self.now, host, Rule::Feed, seen);
        }
        let session = self.find(transcoder).and_then(|host| {
            let number = self.hosts[host.at()].sessions.first()?;
            self.sessions.get_mut(*number as usize)
        });
        if let Some(session) = session.filter(|session| direct && !session.fed_directly) {
            session.fed_directly = true;
            let since = session.from.as_micros();
            let took = self.now.as_micros().saturating_sub(since) / 1000;
            self.measure.direct.add(took);
        }
    }
}

/// What only the holder's driver makes.
fn signature(claim: &TranscodeClaim) -> [u8; 65] {
    let mut hasher = blake3::Hasher::new_derive_key("headwater simulator 2026 claim");
    hasher.update(claim.transcoder.public_key());
    hasher.update(claim.stream.node.public_key());
    for number in [claim.job.0, claim.sequence, claim.expires_ms] {
        hasher.update(&number.to_le_bytes());
    }
    for address in &claim.addresses {
        hasher.update(address.as_str().as_bytes());
    }
    let mut signature = [0; 65];
    hasher.finalize_xof().fill(&mut signature);
    signature
}
