//! What a run is: everything that decides it besides the code.

mod fault;
mod select;
mod span;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use fault::{Amount, Fault, FaultError, FaultKind};
pub use select::{Selection, SelectionError};
pub use span::{Span, SpanError};

/// How nodes are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// One after the other, the broadcaster first.
    Line,
    /// All others at the broadcaster.
    Star,
    /// A circle.
    Ring,
    /// Four below each.
    Tree,
    /// Two Kademlia networks with one link between them.
    Islands,
    /// Relayers keep 2 links for each bucket and to the 8 nearest; others to the 8
    /// relayers nearest to themselves.
    Kademlia,
    /// New nodes link to three others, more likely to those with many links.
    PowerLaw,
    /// All at one relayer, the boot node.
    Boot,
}

/// What viewers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// They join one after the other, over [`Scenario::join`], and stay.
    Watch,
    /// They all join within a second, a third into the run.
    Flash,
    /// They go to another broadcast every [`Scenario::zap`].
    Zap,
    /// Every node has a stream of its own with a single part, and subscribes to that of
    /// another node: what is measured is the way of the Sub.
    Route,
    /// Every node asks another for its status.
    Status,
}

/// How far apart nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// 200 µs one way.
    Lan,
    /// 20 ms one way, always.
    Fixed,
    /// 3 to 200 ms one way, half of all links below 25 ms, with jitter.
    Internet,
}

/// What hostile nodes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Hostility {
    /// Withhold a third of what they should send, and of the rest nothing.
    Drop,
    /// Send media two seconds late.
    Delay,
    /// Change payloads and headers, and end streams of others.
    Forge,
    /// Send again what they have seen.
    Replay,
    /// Send requests as fast as they can.
    Flood,
    /// Say they are idle, live and next to the owner, and send nothing.
    Lie,
}

/// See the module. Times are simulated time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Decides every random choice.
    pub seed: u64,
    /// Nodes, at least 2.
    pub nodes: u32,
    /// Length of the run.
    pub duration: Span,
    /// How they are linked.
    pub topology: Topology,
    /// Share of relayers in percent; in [`Topology::Line`] and the like all are.
    pub relayers: u8,
    /// Broadcasts, each of a node of its own.
    pub broadcasters: u32,
    /// Viewers; `None` makes every node one that neither broadcasts nor is hostile.
    pub viewers: Option<u32>,
    /// Nodes that hold a job each: the source of a broadcast, by TranscodeSub. They come
    /// out of those that do not relay, in Kademlia networks only.
    pub transcoders: u32,
    /// Broadcasts begin so much later than links are up; viewers and jobs do not wait.
    pub late: Span,
    /// What viewers do.
    pub workload: Workload,
    /// Viewers join within this time.
    pub join: Span,
    /// See [`Workload::Zap`].
    pub zap: Span,
    /// Bitrate of a stream in kbit/s.
    pub bitrate: u64,
    /// Length of a part.
    pub part: Span,
    /// Length of a segment; a whole number of parts.
    pub segment: Span,
    /// How far apart nodes are.
    pub distance: Distance,
    /// Bandwidth of a link in each direction, kbit/s.
    pub link: u64,
    /// Bandwidth of all that a node sends, kbit/s.
    pub uplink: u64,
    /// Children of a broadcaster's stream, instead of the core's default.
    pub broadcaster_children: Option<u32>,
    /// Children of a stream elsewhere, instead of the core's default.
    pub children: Option<u32>,
    /// Share of nodes in percent that can't be dialled. Relayers always can.
    pub nat: u8,
    /// Share of nodes in percent that are hostile.
    pub hostile: u8,
    /// What hostile nodes do; each does one of these.
    pub hostility: Vec<Hostility>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Only these of the scheduled deeds happen; a shrunk run names them.
    pub only: Option<Selection>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 1000,
            duration: Span::from_millis(60_000),
            topology: Topology::Kademlia,
            relayers: 20,
            broadcasters: 1,
            viewers: None,
            transcoders: 0,
            late: Span::from_millis(0),
            workload: Workload::Watch,
            join: Span::from_millis(10_000),
            zap: Span::from_millis(5_000),
            bitrate: 300,
            part: Span::from_millis(200),
            segment: Span::from_millis(2_000),
            distance: Distance::Internet,
            link: 200_000,
            uplink: 200_000,
            broadcaster_children: None,
            children: None,
            nat: 0,
            hostile: 0,
            hostility: vec![
                Hostility::Drop,
                Hostility::Delay,
                Hostility::Forge,
                Hostility::Replay,
                Hostility::Flood,
                Hostility::Lie,
            ],
            faults: Vec::new(),
            only: None,
        }
    }
}

/// Why a scenario can't be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// A number is out of its range.
    #[error("{what} must be {range}, not {got}")]
    Range {
        /// Which setting.
        what: &'static str,
        /// What it may be.
        range: &'static str,
        /// What it is.
        got: String,
    },
    /// A TOML file can't be read as one.
    #[error("{0}")]
    Toml(String),
}

impl Scenario {
    /// Reads a scenario from TOML; what is not in it has its default.
    ///
    /// # Errors
    /// When it is no TOML, or has an unknown key or a value of another kind.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        toml::from_str(text).map_err(|error| ScenarioError::Toml(error.to_string()))
    }

    /// Parts of a segment.
    #[must_use]
    pub fn parts(&self) -> u32 {
        let parts = self.segment.millis() / self.part.millis().max(1);
        u32::try_from(parts).unwrap_or(u32::MAX)
    }

    /// Checks that the settings make sense together.
    ///
    /// # Errors
    /// When one is out of its range.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let wrong = |what, range, got: &dyn ToString| {
            Err(ScenarioError::Range {
                what,
                range,
                got: got.to_string(),
            })
        };
        if !(2..=200_000).contains(&self.nodes) {
            return wrong("nodes", "2 to 200000", &self.nodes);
        }
        if self.broadcasters == 0 || self.broadcasters >= self.nodes {
            return wrong("broadcasters", "1 to nodes - 1", &self.broadcasters);
        }
        let edges = u64::from(self.nodes) * u64::from(100 - self.relayers.min(100)) / 100;
        let kademlia = self.topology == Topology::Kademlia;
        if self.transcoders > 0
            && (!kademlia || u64::from(self.transcoders + self.broadcasters) > edges)
        {
            let range = "at most the nodes that do not relay, in a Kademlia network";
            return wrong("transcoders", range, &self.transcoders);
        }
        for (what, percent) in [
            ("relayers", self.relayers),
            ("nat", self.nat),
            ("hostile", self.hostile),
        ] {
            if percent > 100 {
                return wrong(what, "a percentage", &percent);
            }
        }
        let (part, segment) = (self.part.millis(), self.segment.millis());
        if part == 0 || !segment.is_multiple_of(part) || self.parts() > 1000 || segment == 0 {
            let range = "1 to 1000 whole parts";
            return wrong("segment", range, &self.segment);
        }
        if !(1..=200_000).contains(&self.bitrate) {
            return wrong("bitrate", "1 to 200000 kbit/s", &self.bitrate);
        }
        if self.link < 10 {
            return wrong("link", "at least 10 kbit/s", &self.link);
        }
        if self.uplink < 10 {
            return wrong("uplink", "at least 10 kbit/s", &self.uplink);
        }
        if self.duration.millis() < 1000 {
            return wrong("duration", "at least 1s", &self.duration);
        }
        if self.zap.millis() == 0 {
            return wrong("zap", "more than 0s", &self.zap);
        }
        if self.hostile > 0 && self.hostility.is_empty() {
            return wrong("hostility", "at least one, when nodes are hostile", &"none");
        }
        Ok(())
    }

    /// The command that runs exactly this.
    #[must_use]
    pub fn command(&self) -> String {
        let mut words = vec!["headwater-sim".to_owned()];
        let (mine, plain) = (self.as_table(), Self::default().as_table());
        for (key, value) in &mine {
            if plain.get(key) != Some(value) {
                words.push(format!("--{key} {}", flag_value(value)));
            }
        }
        words.join(" ")
    }

    fn as_table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("every setting has a form in TOML")
    }
}

fn flag_value(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(flag_value).collect::<Vec<_>>().join(","),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_)
        | toml::Value::Table(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_the_same_after_a_round_through_toml() {
        let scenario = Scenario {
            topology: Topology::PowerLaw,
            faults: vec!["crash:25%@20s".parse().unwrap()],
            viewers: Some(7),
            only: Some("0-3,9".parse().unwrap()),
            ..Scenario::default()
        };
        let text = toml::to_string(&scenario).unwrap();

        assert_eq!(Scenario::from_toml(&text), Ok(scenario));
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        let unknown = Scenario::from_toml("noodles = 3").unwrap_err().to_string();
        assert!(unknown.contains("noodles"), "{unknown}");

        let scenario = Scenario {
            segment: Span::from_millis(2_050),
            ..Scenario::default()
        };
        let error = scenario.check().unwrap_err().to_string();
        assert!(error.starts_with("segment must be"), "{error}");
    }

    #[test]
    fn the_command_names_what_differs_from_the_defaults() {
        let scenario = Scenario {
            seed: 9,
            topology: Topology::Boot,
            faults: vec![
                "crash:25%@20s".parse().unwrap(),
                "cut:1@2s".parse().unwrap(),
            ],
            ..Scenario::default()
        };

        assert_eq!(
            scenario.command(),
            "headwater-sim --faults crash:25%@20s,cut:1@2s --seed 9 --topology boot"
        );
    }
}
