//! Makes a failing run smaller: delta debugging on the list of scheduled deeds.

use std::{fmt, panic};

use crate::{
    checks::Rule,
    scenario::{Scenario, Selection},
    world::World,
};

/// Runs that are tried at most.
const TRIES: usize = 120;

/// How a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A rule was breached; what was seen is said for people.
    Breach(Rule, String),
    /// A node or the world panicked.
    Panic(String),
}

impl Failure {
    /// How a world has failed; `None` when it has not.
    #[must_use]
    pub fn of(world: &World) -> Option<Self> {
        let first = world.checks.kept.first()?;
        let seen = format!(
            "host {} at {} ms: {}",
            first.host,
            first.at_us / 1000,
            first.seen
        );
        Some(Self::Breach(first.rule, seen))
    }

    /// Whether two runs failed for the same reason, as far as one can tell.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Breach(a, _), Self::Breach(b, _)) => a == b,
            (Self::Panic(a), Self::Panic(b)) => a == b,
            (Self::Breach(..), Self::Panic(_)) | (Self::Panic(_), Self::Breach(..)) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breach(rule, seen) => write!(f, "{rule:?}: {seen}"),
            Self::Panic(what) => write!(f, "panic: {what}"),
        }
    }
}

/// Runs something, and makes a panic a failure.
pub fn watched<T>(work: impl FnOnce() -> T) -> (Option<T>, Option<Failure>) {
    match panic::catch_unwind(panic::AssertUnwindSafe(work)) {
        Ok(value) => (Some(value), None),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
            let what = text.unwrap_or_else(|| "without a message".to_owned());
            (None, Some(Failure::Panic(what)))
        }
    }
}

/// Runs a scenario to its first failure.
#[must_use]
pub fn run(scenario: &Scenario) -> Option<Failure> {
    let (world, panicked) = watched(|| {
        let mut world = World::new(scenario.clone());
        let end = world.end();
        world.run(end, false);
        world
    });
    world.as_ref().and_then(Failure::of).or(panicked)
}

/// A scenario with as few deeds as were found to fail in the same way, by `run`.
/// `progress` is told how many are left, each time they get fewer.
#[must_use]
pub fn shrink(
    scenario: &Scenario,
    failure: &Failure,
    mut run: impl FnMut(&Scenario) -> Option<Failure>,
    mut progress: impl FnMut(usize),
) -> Scenario {
    let all = World::new(scenario.clone()).schedule.len();
    let chosen = |number: &usize| {
        let only = scenario.only.as_ref();
        only.is_none_or(|only| only.contains(*number))
    };
    let deeds: Vec<usize> = (0..all).filter(chosen).collect();
    let with = |deeds: &[usize]| Scenario {
        only: Some(Selection::of(deeds.iter().copied())),
        ..scenario.clone()
    };
    let mut tries = 0;
    let left = minimize(deeds, |deeds| {
        tries += 1;
        if tries > TRIES {
            return false;
        }
        let fails = run(&with(deeds)).is_some_and(|got| got.is_like(failure));
        if fails {
            progress(deeds.len());
        }
        fails
    });
    if left.len() == all {
        return scenario.clone();
    }
    with(&left)
}

/// The ddmin algorithm: a part of a list that still fails, of which no tried piece can
/// be left out.
fn minimize(mut list: Vec<usize>, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut pieces = 2;
    while list.len() >= 2 {
        let size = list.len().div_ceil(pieces);
        let found = list.chunks(size).enumerate().find_map(|(index, piece)| {
            let start = index * size;
            let rest = [&list[..start], &list[start + piece.len()..]].concat();
            let alone = pieces > 2 || index == 0;
            if alone && fails(piece) {
                Some((piece.to_vec(), 2))
            } else if fails(&rest) {
                Some((rest, pieces.saturating_sub(1).max(2)))
            } else {
                None
            }
        });
        match found {
            Some((smaller, next)) => {
                list = smaller;
                pieces = next;
            }
            None if pieces >= list.len() => break,
            None => pieces = (pieces * 2).min(list.len()),
        }
    }
    if list.len() == 1 && fails(&[]) {
        list.clear();
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimizing_finds_the_deeds_that_matter() {
        let mut tries = 0;
        let left = minimize((0..200).collect(), |deeds| {
            tries += 1;
            deeds.contains(&17) && deeds.contains(&140)
        });

        assert_eq!(left, [17, 140]);
        assert!(tries < 120, "{tries}");
    }

    #[test]
    fn a_run_that_fails_without_any_deed_shrinks_to_nothing() {
        assert_eq!(minimize((0..50).collect(), |_| true), Vec::<usize>::new());
    }
}
