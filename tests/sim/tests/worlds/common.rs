//! Small worlds for tests.

use headwater_sim::{report::Report, scenario::Scenario, world::World};

/// Twenty simulated seconds of sixty nodes, all of which come within two seconds.
pub(crate) fn small() -> Scenario {
    Scenario {
        nodes: 60,
        duration: "20s".parse().expect("a span"),
        join: "2s".parse().expect("a span"),
        ..Scenario::default()
    }
}

/// Runs a scenario to its end, breaches or not.
pub(crate) fn run(scenario: Scenario) -> World {
    scenario.check().expect("the scenario makes sense");
    let mut world = World::new(scenario);
    let end = world.end();
    world.run(end, true);
    world
}

/// Runs a scenario that must not breach any rule.
pub(crate) fn report(scenario: Scenario) -> Report {
    let world = run(scenario);
    let report = Report::new(&world, 0.0);
    assert!(
        report.first_breaches.is_empty(),
        "{:#?}\nagain: {}",
        report.first_breaches,
        report.command
    );
    report
}
