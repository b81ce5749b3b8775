//! The command: what is asked for, progress while it runs, and what is said at the end.

mod args;
mod run;
mod text;

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::Parser as _;

use crate::{
    host::HostIx,
    scenario::Scenario,
    shrink::{self, Failure, shrink},
    topology::Plan,
    world::World,
};
use args::Args;
use run::Runs;

/// Runs the command; 0 when every rule held, 1 when not, 2 when it could not run.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    match command(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn command(args: &Args) -> anyhow::Result<bool> {
    if let Some(file) = &args.replay {
        return run::replay(file);
    }
    let scenario = scenario(args)?;
    if args.list {
        list(&scenario)?;
        return Ok(true);
    }
    let runs = Runs {
        scenario: scenario.clone(),
        seeds: args.seeds,
        keep_going: args.keep_going,
        progress: !args.quiet,
        record: args.record.clone(),
        record_nodes: args.record_nodes.clone(),
        narrate: args.narrate.clone(),
    };
    let outcome = runs.run()?;
    if let Some(dir) = &args.plots {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let last = outcome.reports.last().context("no run")?;
        for file in crate::plot::all(last, dir)? {
            say(&format!("drew {}", file.display()));
        }
    }
    let text = if args.json {
        outcome.json()?
    } else {
        outcome.text()
    };
    print(&text)?;
    match outcome.failed {
        None => Ok(true),
        Some((failed, failure)) => {
            explain(&failed, &failure, !args.no_shrink);
            Ok(false)
        }
    }
}

fn scenario(args: &Args) -> anyhow::Result<Scenario> {
    let mut scenario = Scenario::default();
    if let Some(file) = &args.scenario_file {
        let reading = || format!("reading {}", file.display());
        let text = std::fs::read_to_string(file).with_context(reading)?;
        scenario = Scenario::from_toml(&text).with_context(reading)?;
    }
    args.scenario.clone().apply(&mut scenario);
    scenario.check()?;
    Ok(scenario)
}

/// Says what failed, how to repeat it, and the smallest run that still does.
fn explain(scenario: &Scenario, failure: &Failure, smaller: bool) {
    say(&format!("failed: {failure}"));
    say(&format!("again:  {}", scenario.command()));
    if !smaller {
        return;
    }
    say("looking for a smaller run that fails alike ...");
    let shrunk = shrink(scenario, failure, shrink::run, |left| {
        say(&format!("        {left} of the scheduled deeds are enough"));
    });
    if shrunk == *scenario {
        say("        none was found");
    } else {
        say(&format!("small:  {}", shrunk.command()));
    }
}

fn list(scenario: &Scenario) -> anyhow::Result<()> {
    let world = World::new(scenario.clone());
    let mut text = String::new();
    let bound = Plan::hop_bound(scenario.topology, scenario.nodes);
    text.push_str(&format!("bound on hops: {bound}\n"));
    for (number, (at, deed)) in world.schedule.iter().enumerate() {
        let ms = at.as_micros() / 1000;
        text.push_str(&format!("{number:>6} {ms:>8} ms  {deed:?}\n"));
    }
    let hostile = (0..).map(HostIx).zip(&world.hosts);
    for (ix, host) in hostile {
        if let Some(hostile) = &host.hostile {
            text.push_str(&format!("host {} is hostile: {:?}\n", ix.0, hostile.way));
        }
    }
    print(text.trim_end())
}

/// To stdout, for whoever reads results.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        // Whoever reads may have seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to stdout"),
    }
}

/// To stderr, for people.
#[expect(clippy::print_stderr, reason = "the one place that talks to people")]
fn say(text: &str) {
    eprintln!("{text}");
}
