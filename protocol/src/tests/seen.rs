//! What a world has seen: deliveries, messages and views of its hosts.

use std::collections::BTreeSet;

use headwater_proto::{Message, Position, StreamId};

use super::world::{PARTS, World, at, payload};
use crate::{Delivery, Failure};

impl World {
    /// The positions delivered to a host, after checking every payload and that inits
    /// come first.
    pub(crate) fn delivered(&self, host: usize, stream: &StreamId) -> Vec<Position> {
        let mut inits = BTreeSet::new();
        let mut positions = Vec::new();
        for (id, delivery) in &self.hosts[host].deliveries {
            if id != stream {
                continue;
            }
            match delivery {
                Delivery::Init { index, .. } => {
                    inits.insert(*index);
                }
                Delivery::Part {
                    position,
                    media,
                    chunks,
                } => {
                    assert!(inits.contains(&media.init), "init before its parts");
                    assert_eq!(
                        chunks.concat(),
                        payload(*position),
                        "payload of {position:?}"
                    );
                    positions.push(*position);
                }
                Delivery::Gap { .. } | Delivery::Finished | Delivery::Waiting(_) => {}
            }
        }
        positions
    }

    /// How many parts a host was delivered.
    pub(crate) fn count_parts(&self, host: usize) -> usize {
        let all = self.hosts[host].deliveries.iter();
        all.filter(|(_, d)| matches!(d, Delivery::Part { .. }))
            .count()
    }

    /// Asserts that a host got exactly these segments: in order, whole, each part once.
    #[track_caller]
    pub(crate) fn assert_whole(
        &self,
        host: usize,
        stream: &StreamId,
        segments: std::ops::Range<u64>,
    ) {
        let expected: Vec<_> = segments
            .flat_map(|segment| (0..PARTS).map(move |part| at(segment, part)))
            .collect();
        assert_eq!(self.delivered(host, stream), expected, "host {host}");
        assert_eq!(self.gaps(host), [], "host {host}");
    }

    pub(crate) fn gaps(&self, host: usize) -> Vec<(Position, Position)> {
        let gap = |delivery: &Delivery| match delivery {
            Delivery::Gap { from, to } => Some((*from, *to)),
            _ => None,
        };
        let all = self.hosts[host].deliveries.iter();
        all.filter_map(|(_, delivery)| gap(delivery)).collect()
    }

    pub(crate) fn finishes(&self, host: usize) -> usize {
        let all = self.hosts[host].deliveries.iter();
        all.filter(|(_, d)| *d == Delivery::Finished).count()
    }

    pub(crate) fn waits(&self, host: usize) -> Vec<Failure> {
        let failure = |delivery: &Delivery| match delivery {
            Delivery::Waiting(failure) => Some(*failure),
            _ => None,
        };
        let all = self.hosts[host].deliveries.iter();
        all.filter_map(|(_, delivery)| failure(delivery)).collect()
    }

    /// How many messages of a kind a host has sent to another.
    pub(crate) fn sent(&self, from: usize, to: usize, which: impl Fn(&Message) -> bool) -> usize {
        let to = self.id(to);
        let all = self.hosts[from].sent.iter();
        all.filter(|(target, message)| *target == to && which(message))
            .count()
    }

    /// From whom a stream comes at a host.
    pub(crate) fn parent(&self, host: usize, stream: &StreamId) -> Option<usize> {
        let view = self.hosts[host]
            .node
            .streams()
            .find(|s| s.stream == *stream)?;
        self.find(view.parent?)
    }

    /// To whom a stream goes at a host.
    pub(crate) fn children(&self, host: usize, stream: &StreamId) -> Vec<usize> {
        let view = self.hosts[host]
            .node
            .streams()
            .find(|s| s.stream == *stream);
        let children = view.map(|view| view.children).unwrap_or_default();
        children.iter().filter_map(|id| self.find(*id)).collect()
    }
}
