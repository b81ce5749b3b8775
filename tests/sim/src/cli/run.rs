//! One or several runs, with progress.

use std::{fs::File, io::BufWriter, path::PathBuf, time::Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::text;
use headwater_protocol::record::Recorder;

use crate::{
    histogram::Summary,
    narrate::Narrator,
    report::Report,
    scenario::{Scenario, Selection},
    shrink::{Failure, watched},
    world::{Recording, World},
};

/// Simulated time between two steps of the progress bar, in milliseconds.
const STEP_MS: u64 = 250;

/// What is to be run.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) scenario: Scenario,
    pub(super) seeds: u64,
    pub(super) keep_going: bool,
    pub(super) progress: bool,
    pub(super) record: Option<PathBuf>,
    pub(super) record_nodes: Option<Selection>,
    pub(super) narrate: Option<Selection>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) reports: Vec<Report>,
    pub(super) failed: Option<(Scenario, Failure)>,
}

/// Several runs in one object.
#[derive(Debug, Serialize)]
struct Together<'a> {
    seeds: usize,
    breaches: u64,
    delivered_ratio_min: f64,
    hops_mean_max: f64,
    hops_p99_max: u64,
    depth_p99_max: u64,
    recovery_p50_max: u64,
    recovery_p99_max: u64,
    runs: &'a [Report],
}

impl Runs {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let mut reports = Vec::new();
        for seed in self.scenario.seed..self.scenario.seed.saturating_add(self.seeds) {
            let scenario = Scenario {
                seed,
                ..self.scenario.clone()
            };
            let (report, failure) = self.one(&scenario)?;
            reports.extend(report);
            if let Some(failure) = failure {
                let failed = Some((scenario, failure));
                return Ok(Outcome { reports, failed });
            }
        }
        let failed = None;
        Ok(Outcome { reports, failed })
    }

    fn one(&self, scenario: &Scenario) -> anyhow::Result<(Option<Report>, Option<Failure>)> {
        let started = Instant::now();
        let recorder = match &self.record {
            Some(file) => {
                let out =
                    File::create(file).with_context(|| format!("writing {}", file.display()))?;
                let recorder = Recorder::new(BufWriter::new(out))?;
                Some(Recording::new(recorder, self.record_nodes.clone()))
            }
            None => None,
        };
        let bar = self.bar(scenario);
        let (world, failure) = watched(|| {
            let mut world = World::new(scenario.clone());
            if let Some(recorder) = recorder {
                world.record(recorder);
            }
            world.narrator = self.narrate.clone().map(Narrator::new);
            let mut at = 0;
            while world.now() < world.end() && (world.checks.count == 0 || self.keep_going) {
                at += STEP_MS;
                world.run(headwater_protocol::Time::from_millis(at), self.keep_going);
                bar.set_position(at);
            }
            world
        });
        bar.finish_and_clear();
        let Some(mut world) = world else {
            return Ok((None, failure));
        };
        for line in world.narrator.iter().flat_map(Narrator::lines) {
            super::say(line);
        }
        if let Some(recorder) = world.recorder.take() {
            recorder.finish().context("writing the recording")?;
        }
        let failure = Failure::of(&world);
        Ok((
            Some(Report::new(&world, started.elapsed().as_secs_f64())),
            failure,
        ))
    }

    fn bar(&self, scenario: &Scenario) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(scenario.duration.millis());
        let template = "{msg} {wide_bar} {percent}% {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(format!("seed {}", scenario.seed));
        bar
    }
}

impl Outcome {
    /// One object: the report of the one run, or of all.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        let text = match &self.reports[..] {
            [one] => serde_json::to_string(one),
            all => serde_json::to_string(&together(all)),
        };
        text.context("writing JSON")
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let reports: Vec<_> = self.reports.iter().map(text::report).collect();
        let mut text = reports.join("\n\n");
        if self.reports.len() > 1 {
            let all = together(&self.reports);
            text.push_str(&format!(
                "\n\nall {} seeds: delivered at least {:.4}, hops mean at most {} and p99 {}, \
                 depth p99 {}, recovery p50 {} ms and p99 {} ms, {} breaches",
                all.seeds,
                all.delivered_ratio_min,
                all.hops_mean_max,
                all.hops_p99_max,
                all.depth_p99_max,
                all.recovery_p50_max,
                all.recovery_p99_max,
                all.breaches,
            ));
        }
        text
    }
}

fn together(reports: &[Report]) -> Together<'_> {
    let most = |of: fn(&Report) -> u64| reports.iter().map(of).max().unwrap_or(0);
    let floats = |of: fn(&Report) -> f64| reports.iter().map(of);
    let recovery = |r: &Report| -> Summary { r.recovery_ms.times };
    Together {
        seeds: reports.len(),
        breaches: reports.iter().map(|r| r.breaches).sum(),
        delivered_ratio_min: floats(|r| r.delivered_ratio).fold(1.0, f64::min),
        hops_mean_max: floats(|r| r.hops.mean).fold(0.0, f64::max),
        hops_p99_max: most(|r| r.hops.p99),
        depth_p99_max: most(|r| r.depth.p99),
        recovery_p50_max: reports.iter().map(|r| recovery(r).p50).max().unwrap_or(0),
        recovery_p99_max: reports.iter().map(|r| recovery(r).p99).max().unwrap_or(0),
        runs: reports,
    }
}

/// Replays a recording; true when every node did what it had done.
pub(super) fn replay(file: &std::path::Path) -> anyhow::Result<bool> {
    let reading = || format!("reading {}", file.display());
    let input = File::open(file).with_context(reading)?;
    let replayed =
        headwater_protocol::record::replay(std::io::BufReader::new(input)).with_context(reading)?;
    super::print(&replayed.to_string())?;
    Ok(replayed.difference.is_none())
}
