//! The broadcaster's side of a job: checking claims, feeding transcoders, dialling them.

use std::{collections::VecDeque, time::Duration};

use headwater_proto::{
    AddressText, JobId, Message, NodeId, NotFound, RequestId, StreamId, TranscodeSub,
};

use super::{Asked, Node};
use crate::{
    input::DialId,
    output::{Event, Failure, Output, Question},
    stream::Child,
    time::Time,
};

/// What is known of one transcoder's claim to one job.
#[derive(Debug)]
pub(super) struct Feed {
    stream: StreamId,
    /// Highest sequence seen.
    sequence: u64,
    state: FeedState,
    dials: VecDeque<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FeedState {
    Checking,
    Granted,
    Refused,
}

/// Claims remembered; a flood of forged ones pushes out refused ones first.
const MAX_FEEDS: usize = 1024;

impl Node {
    /// The job by which a neighbour is entitled to be fed a stream.
    pub(super) fn granted_job(&self, peer: NodeId, id: &StreamId) -> Option<JobId> {
        let of_peer = (peer, JobId(0))..=(peer, JobId(u64::MAX));
        let mut feeds = self.feeds.range(of_peer);
        let granted = |feed: &Feed| feed.state == FeedState::Granted && feed.stream == *id;
        feeds
            .find(|(_, feed)| granted(feed))
            .map(|((_, job), _)| *job)
    }

    pub(super) fn on_transcode_sub(&mut self, from: NodeId, sub: TranscodeSub) {
        if sub.claim.stream.node == self.id {
            self.claimed(from, &sub);
        } else {
            self.relay_claim(from, sub);
        }
    }

    /// A relay on the way treats it as a Sub, and passes the claim on in any case: the
    /// broadcaster has to see it to dial.
    fn relay_claim(&mut self, from: NodeId, sub: TranscodeSub) {
        let id = sub.claim.stream.clone();
        if !sub.branch {
            return self.forward_claim(from, sub);
        }
        let fresh = !self.streams.contains_key(&id);
        if let Err(refusal) = self.admit(from, sub.request, &id, sub.hops_left) {
            return self.turn_away(from, sub.request, refusal);
        }
        let child = Child::new(sub.from, self.now);
        let request = sub.request;
        if fresh {
            // Our own subscription carries the claim.
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.claim = Some((sub.claim, sub.signature));
            }
        } else {
            self.forward_claim(from, sub);
        }
        self.add_child(from, request, &id, child);
    }

    fn forward_claim(&mut self, from: NodeId, sub: TranscodeSub) {
        let hop = self
            .next_hops(sub.claim.stream.node, Some(from))
            .into_iter()
            .next();
        let Some((hop, hops_left)) = hop.zip(sub.hops_left.checked_sub(1)) else {
            return;
        };
        if !self.config.roles.relayer {
            return;
        }
        let request = self.fresh_request();
        let forwarded = TranscodeSub {
            request,
            branch: false,
            from: None,
            hops_left,
            ..sub
        };
        self.send(hop, Message::TranscodeSub(forwarded));
    }

    /// A claim on a stream of this node.
    fn claimed(&mut self, from: NodeId, sub: &TranscodeSub) {
        let (id, request, branch) = (sub.claim.stream.clone(), sub.request, sub.branch);
        let open = self
            .streams
            .get(&id)
            .is_some_and(|s| s.owned && s.finish.is_none());
        if !open {
            if branch {
                self.send(from, Message::NotFound(NotFound { request }));
            }
            return;
        }
        let (transcoder, job) = (sub.claim.transcoder, sub.claim.job);
        let known = self.feeds.get(&(transcoder, job));
        let known = known.map(|feed| (feed.sequence, feed.state));
        let state = match known {
            Some((sequence, _)) if sub.claim.sequence < sequence => {
                self.stats.claims_replayed += 1;
                FeedState::Refused
            }
            // The same claim by another way, or repeated by the transcoder.
            Some((sequence, state)) if sub.claim.sequence == sequence => state,
            Some(_) | None => self.check_claim(sub),
        };
        if !branch {
            return;
        }
        if state == FeedState::Refused {
            return self.send(from, Message::NotFound(NotFound { request }));
        }
        let mut child = Child::new(sub.from, self.now);
        child.feed = Some(job);
        child.held = state == FeedState::Checking;
        self.add_child(from, request, &id, child);
    }

    fn check_claim(&mut self, sub: &TranscodeSub) -> FeedState {
        let key = (sub.claim.transcoder, sub.claim.job);
        if self.feeds.len() >= MAX_FEEDS && !self.feeds.contains_key(&key) {
            let idle = self
                .feeds
                .iter()
                .find(|(_, f)| f.state == FeedState::Refused);
            let Some(idle) = idle.map(|(key, _)| *key) else {
                return FeedState::Refused;
            };
            self.feeds.remove(&idle);
        }
        let granted = self
            .feeds
            .get(&key)
            .is_some_and(|f| f.state == FeedState::Granted);
        let feed = self.feeds.entry(key).or_insert_with(|| Feed {
            stream: sub.claim.stream.clone(),
            sequence: 0,
            state: FeedState::Checking,
            dials: VecDeque::new(),
        });
        feed.sequence = sub.claim.sequence;
        feed.stream = sub.claim.stream.clone();
        // A renewal does not interrupt a feed that goes on while it is checked.
        if !granted {
            feed.state = FeedState::Checking;
        }
        let question = Question::CheckClaim {
            claim: sub.claim.clone(),
            signature: sub.signature,
        };
        self.ask(Asked::CheckClaim(key.0, key.1), question);
        FeedState::Checking
    }

    pub(super) fn claim_granted(
        &mut self,
        transcoder: NodeId,
        job: JobId,
        addresses: Vec<AddressText>,
    ) {
        let Some(feed) = self.feeds.get_mut(&(transcoder, job)) else {
            return;
        };
        feed.state = FeedState::Granted;
        self.stats.claims_granted += 1;
        let id = feed.stream.clone();
        for (peer, request) in self.held_children(&id, job) {
            let child = self.streams.get_mut(&id);
            if let Some(child) = child.and_then(|s| s.children.get_mut(&(peer, request))) {
                child.held = false;
            }
            self.feed_started(peer, job, &id);
            self.send_sub_ack(&id, peer, request);
        }
        self.flow(&id);
        self.dial_transcoder(transcoder, job, addresses);
    }

    fn dial_transcoder(&mut self, peer: NodeId, job: JobId, addresses: Vec<AddressText>) {
        let now = self.now;
        let busy = self.dials.values().any(|target| *target == (peer, job));
        let max = self.config.max_dials_per_minute;
        let Some(feed) = self.feeds.get_mut(&(peer, job)) else {
            return;
        };
        feed.dials
            .retain(|at| now.since(*at) < Duration::from_secs(60));
        let spent = feed.dials.len() >= max;
        if addresses.is_empty() || busy || spent || self.links.contains_key(&peer) {
            return;
        }
        feed.dials.push_back(now);
        let dial = DialId(self.fresh());
        self.dials.insert(dial, (peer, job));
        self.stats.dials += 1;
        self.out.push_back(Output::Dial {
            dial,
            peer,
            addresses,
        });
    }

    pub(super) fn claim_refused(&mut self, transcoder: NodeId, job: JobId) {
        let Some(feed) = self.feeds.get_mut(&(transcoder, job)) else {
            return;
        };
        feed.state = FeedState::Refused;
        self.stats.claims_refused += 1;
        let id = feed.stream.clone();
        for (peer, request) in self.held_children(&id, job) {
            self.turn_away(peer, request, Failure::NotFound);
            self.remove_child(&id, peer, request);
        }
    }

    fn held_children(&self, id: &StreamId, job: JobId) -> Vec<(NodeId, RequestId)> {
        let Some(stream) = self.streams.get(id) else {
            return Vec::new();
        };
        let children = stream.children.iter();
        let held = children.filter(|(_, child)| child.held && child.feed == Some(job));
        held.map(|(key, _)| *key).collect()
    }

    pub(super) fn feed_started(&mut self, peer: NodeId, job: JobId, id: &StreamId) {
        if self.streams.get(id).is_none_or(|stream| !stream.owned) {
            return;
        }
        if let Some((transcoder, direct)) = self.feed_path(peer, job) {
            self.out.push_back(Output::Observe(Event::FeedStarted {
                job,
                transcoder,
                direct,
            }));
        }
    }

    pub(super) fn feed_ended(&mut self, peer: NodeId, job: JobId) {
        if let Some((transcoder, direct)) = self.feed_path(peer, job) {
            self.out.push_back(Output::Observe(Event::FeedEnded {
                job,
                transcoder,
                direct,
            }));
        }
    }

    /// Which transcoder a neighbour takes a feed for, and whether it is the neighbour.
    fn feed_path(&self, peer: NodeId, job: JobId) -> Option<(NodeId, bool)> {
        let mut feeds = self.feeds.keys().filter(|(_, of)| *of == job);
        if self.feeds.contains_key(&(peer, job)) {
            return Some((peer, true));
        }
        feeds
            .next()
            .map(|(transcoder, _)| (*transcoder, *transcoder == peer))
    }
}
