//! The command line, and how it changes a scenario.

use std::path::PathBuf;

use clap::Parser;

use crate::scenario::{Distance, Fault, Hostility, Scenario, Selection, Span, Topology, Workload};

/// Runs a network of simulated nodes, each with the protocol core of a real one.
///
/// The same scenario and seed give the same run, to the bit. Exits with 1 when a rule
/// was breached; then the command that repeats the run is printed, and a smaller one that
/// still fails.
#[derive(Debug, Parser)]
#[command(name = "headwater-sim", version, max_term_width = 92)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) scenario: ScenarioArgs,
    /// A scenario in TOML, with the names of the flags below; flags override it.
    #[arg(long, value_name = "FILE")]
    pub(super) scenario_file: Option<PathBuf>,
    /// Runs so many seeds, from --seed on, and sums up.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(super) seeds: u64,
    /// Prints one JSON object on stdout.
    #[arg(long)]
    pub(super) json: bool,
    /// Shows no progress.
    #[arg(long)]
    pub(super) quiet: bool,
    /// Goes on after a breach, to count them all.
    #[arg(long)]
    pub(super) keep_going: bool,
    /// Does not look for a smaller run that still fails.
    #[arg(long)]
    pub(super) no_shrink: bool,
    /// Draws depth, delay, viewers and recovery as SVG files into a directory.
    #[arg(long, value_name = "DIR")]
    pub(super) plots: Option<PathBuf>,
    /// Lists what is done to the world and when, with the numbers --only takes, and ends.
    #[arg(long)]
    pub(super) list: bool,
    /// Records the inputs and outputs of nodes.
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// Which nodes are recorded, by number: 0-3,9. All, unless given.
    #[arg(long, value_name = "NODES", requires = "record")]
    pub(super) record_nodes: Option<Selection>,
    /// Tells on stderr what these nodes are given and do, by number: 0-3,9.
    #[arg(long, value_name = "NODES")]
    pub(super) narrate: Option<Selection>,
    /// Gives a recording to fresh nodes and compares what they do, instead of a run.
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub(super) replay: Option<PathBuf>,
}

/// Each flag is one setting of [`Scenario`].
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Scenario")]
pub(super) struct ScenarioArgs {
    /// Decides every random choice [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    /// Nodes, at least 2 [default: 1000]
    #[arg(long)]
    nodes: Option<u32>,
    /// Simulated length of the run [default: 60s]
    #[arg(long)]
    duration: Option<Span>,
    /// How nodes are linked [default: kademlia]
    #[arg(long)]
    topology: Option<Topology>,
    /// Percent of nodes that relay [default: 20]
    #[arg(long)]
    relayers: Option<u8>,
    /// Broadcasts, each of a node of its own [default: 1]
    #[arg(long)]
    broadcasters: Option<u32>,
    /// Viewers [default: every other node]
    #[arg(long)]
    viewers: Option<u32>,
    /// Nodes that hold a transcoding job each [default: 0]
    #[arg(long)]
    transcoders: Option<u32>,
    /// Broadcasts begin so much later than links are up [default: 0s]
    #[arg(long)]
    late: Option<Span>,
    /// What viewers do [default: watch]
    #[arg(long)]
    workload: Option<Workload>,
    /// Viewers join within this time [default: 10s]
    #[arg(long)]
    join: Option<Span>,
    /// How long a zapping viewer stays with a broadcast [default: 5s]
    #[arg(long)]
    zap: Option<Span>,
    /// Bitrate of a stream, kbit/s [default: 300]
    #[arg(long)]
    bitrate: Option<u64>,
    /// Length of a part [default: 200ms]
    #[arg(long)]
    part: Option<Span>,
    /// Length of a segment [default: 2s]
    #[arg(long)]
    segment: Option<Span>,
    /// How far apart nodes are [default: internet]
    #[arg(long)]
    distance: Option<Distance>,
    /// Bandwidth of a link, kbit/s [default: 200000]
    #[arg(long)]
    link: Option<u64>,
    /// Bandwidth of all that a node sends, kbit/s [default: 200000]
    #[arg(long)]
    uplink: Option<u64>,
    /// Children of a broadcaster's stream [default: the core's]
    #[arg(long)]
    broadcaster_children: Option<u32>,
    /// Children of a stream elsewhere [default: the core's]
    #[arg(long)]
    children: Option<u32>,
    /// Percent of nodes that can't be dialled [default: 0]
    #[arg(long)]
    nat: Option<u8>,
    /// Percent of nodes that are hostile [default: 0]
    #[arg(long)]
    hostile: Option<u8>,
    /// What hostile nodes do, each one of these [default: all]
    #[arg(long, value_delimiter = ',')]
    hostility: Vec<Hostility>,
    /// KIND:AMOUNT@TIME[+LASTING][/EVERY]; KIND is crash, vanish, parent, freeze, slow,
    /// partition, cut, broadcaster, transcoder, direct, withdraw or revoke
    #[arg(long, value_delimiter = ',', visible_alias = "fault")]
    faults: Vec<Fault>,
    /// Only these of the things that --list shows
    #[arg(long)]
    only: Option<Selection>,
}

impl ScenarioArgs {
    /// Overrides what was given.
    pub(super) fn apply(self, scenario: &mut Scenario) {
        fn set<T>(place: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *place = given;
            }
        }
        set(&mut scenario.seed, self.seed);
        set(&mut scenario.nodes, self.nodes);
        set(&mut scenario.duration, self.duration);
        set(&mut scenario.topology, self.topology);
        set(&mut scenario.relayers, self.relayers);
        set(&mut scenario.broadcasters, self.broadcasters);
        set(&mut scenario.viewers, self.viewers.map(Some));
        set(&mut scenario.transcoders, self.transcoders);
        set(&mut scenario.late, self.late);
        set(&mut scenario.workload, self.workload);
        set(&mut scenario.join, self.join);
        set(&mut scenario.zap, self.zap);
        set(&mut scenario.bitrate, self.bitrate);
        set(&mut scenario.part, self.part);
        set(&mut scenario.segment, self.segment);
        set(&mut scenario.distance, self.distance);
        set(&mut scenario.link, self.link);
        set(&mut scenario.uplink, self.uplink);
        let children = self.broadcaster_children.map(Some);
        set(&mut scenario.broadcaster_children, children);
        set(&mut scenario.children, self.children.map(Some));
        set(&mut scenario.nat, self.nat);
        set(&mut scenario.hostile, self.hostile);
        if !self.hostility.is_empty() {
            scenario.hostility = self.hostility;
        }
        if !self.faults.is_empty() {
            scenario.faults = self.faults;
        }
        set(&mut scenario.only, self.only.map(Some));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Scenario {
        let args = Args::try_parse_from(words.split_whitespace()).unwrap();
        let mut scenario = Scenario::default();
        args.scenario.apply(&mut scenario);
        scenario
    }

    #[test]
    fn the_command_of_a_scenario_is_parsed_back_to_it() {
        let mut scenario = Scenario {
            seed: 3,
            nodes: 77,
            duration: Span::from_millis(30_500),
            topology: Topology::PowerLaw,
            relayers: 50,
            broadcasters: 4,
            viewers: Some(12),
            transcoders: 2,
            late: Span::from_millis(1_500),
            workload: Workload::Zap,
            join: Span::from_millis(1),
            zap: Span::from_millis(2_000),
            bitrate: 2_000,
            part: Span::from_millis(100),
            segment: Span::from_millis(1_000),
            distance: Distance::Lan,
            link: 1_000,
            uplink: 2_000,
            broadcaster_children: Some(3),
            children: Some(4),
            nat: 10,
            hostile: 20,
            hostility: vec![Hostility::Lie, Hostility::Drop],
            faults: Vec::new(),
            only: Some("1-4,7".parse().unwrap()),
        };
        scenario.faults = vec![
            "crash:25%@20s".parse().unwrap(),
            "parent:1@1s/2s".parse().unwrap(),
        ];

        assert_eq!(parsed(&scenario.command()), scenario);
    }

    #[test]
    fn a_mistyped_value_is_refused_with_what_it_may_be() {
        let words = ["headwater-sim", "--topology", "donut"];
        let error = Args::try_parse_from(words).unwrap_err().to_string();

        assert!(error.contains("power-law"), "{error}");
    }
}
