//! What a run counts.

use headwater_proto::Message;
use headwater_protocol::Stats;

use crate::{histogram::Histogram, host::HostIx, wire::is_media, world::Sample};

/// The trees of all broadcasts at one moment.
#[derive(Debug, Default, Clone)]
pub struct Tree {
    /// Links from the owner to each viewer that has an unbroken way.
    pub depth: Histogram,
    /// Nodes that have a parent, counted for each broadcast.
    pub members: u64,
    /// Those of them that have no viewer.
    pub unpaid: u64,
    /// Those of them whose way to the owner is broken.
    pub adrift: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Measure {
    /// Events that have happened.
    pub events: u64,
    /// Inputs given to nodes, by kind.
    pub inputs: [(&'static str, u64); 10],
    /// Milliseconds from a part's completion at its owner to its delivery.
    pub delay: Histogram,
    /// As `delay`, of the current second.
    pub second_delay: Histogram,
    /// Milliseconds from Subscribe to the first part.
    pub join: Histogram,
    /// Milliseconds from the start of a job to its first direct feed.
    pub direct: Histogram,
    /// Milliseconds from the first part of a broadcast that goes on after a pause until a
    /// part of it is delivered to a transcoder.
    pub resumed: Histogram,
    /// Links between owner and viewer when its first part came.
    pub hops: Histogram,
    /// Links that requests took which reached their target.
    pub route_hops: Histogram,
    /// Milliseconds from a fault until a part that was made after it is delivered to a
    /// viewer whom it had cut off.
    pub recovery: Histogram,
    /// Bytes of parts and chunks on links.
    pub media_bytes: u64,
    /// Bytes of everything else on links.
    pub control_bytes: u64,
    /// Bytes that hostile nodes sent to others.
    pub from_hostile: u64,
    /// Bytes that others sent to hostile nodes, without media.
    pub to_hostile: u64,
    /// Messages beside parts and chunks.
    pub control_messages: u64,
    /// Payload bytes that have arrived.
    pub arrived_bytes: u64,
    /// Bytes of parts and chunks that each host sent.
    pub media_from: Vec<u64>,
    /// Payload bytes that were there already, as nodes count them.
    pub duplicate_bytes: u64,
    /// Subscribers that were sent elsewhere.
    pub redirects: u64,
    /// Parents that were left because they were descendants.
    pub cycles: u64,
    /// Headers and chunks that were there already.
    pub duplicates: u64,
    /// Children that were moved ahead.
    pub children_skipped: u64,
    /// Parents that were lost or left.
    pub parents_lost: u64,
    /// Repairs that were asked for.
    pub nacks: u64,
    /// Links that cores have closed.
    pub disconnects: u64,
    /// Links that drivers closed because nothing used them.
    pub spare_links_closed: u64,
    /// Lookups that cores wanted.
    pub lookups: u64,
    /// Dials that cores wanted.
    pub dials: u64,
    /// Statuses that were asked for, and that came.
    pub status_asked: u64,
    /// See `status_asked`.
    pub statuses: u64,
    /// Commands that were refused.
    pub refused_commands: u64,
    /// What nodes counted as misbehaviour.
    pub violations: u64,
    /// Messages that hostile nodes made up.
    pub mischief: u64,
    /// Loops among parents that were seen when they arose.
    pub passing_loops: u64,
    /// The trees at the end.
    pub tree: Tree,
    /// The world at each second.
    pub samples: Vec<Sample>,
    /// Control messages of each host in the current second.
    second_control: Vec<u32>,
}

impl Measure {
    /// Nothing counted yet, for so many hosts.
    #[must_use]
    pub fn new(hosts: usize) -> Self {
        Self {
            second_control: vec![0; hosts],
            media_from: vec![0; hosts],
            ..Self::default()
        }
    }

    /// A node was given an input of this kind.
    pub const fn count_input(&mut self, kind: usize, name: &'static str) {
        self.inputs[kind].0 = name;
        self.inputs[kind].1 += 1;
    }

    /// A message of `size` bytes was put onto a link.
    pub fn sent(&mut self, from: HostIx, message: &Message, size: usize) {
        if is_media(message) {
            self.media_bytes += size as u64;
            self.media_from[from.at()] += size as u64;
        } else {
            self.control_bytes += size as u64;
            self.control_messages += 1;
            self.second_control[from.at()] += 1;
        }
    }

    /// A message has come to its receiver.
    pub fn received(&mut self, message: &Message) {
        if let Message::Chunk(chunk) = message {
            self.arrived_bytes += chunk.payload.len() as u64;
        }
    }

    /// Adds what a node has counted in its life.
    pub fn collect(&mut self, stats: &Stats) {
        self.duplicates += stats.duplicates;
        self.duplicate_bytes += stats.duplicate_bytes;
        self.redirects += stats.redirects_out;
        self.cycles += stats.cycles;
        self.children_skipped += stats.children_skipped;
        self.parents_lost += stats.parents_lost;
        self.nacks += stats.nacks_out;
    }

    /// Ends a second; the most control messages of one host in it.
    pub fn end_second(&mut self) -> u32 {
        let max = self.second_control.iter().copied().max().unwrap_or(0);
        self.second_control.fill(0);
        max
    }
}
