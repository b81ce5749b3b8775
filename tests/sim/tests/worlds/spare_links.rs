//! Links that nodes wanted for a while are not kept for ever.

use crate::common::small;
use headwater_protocol::Time;
use headwater_sim::{
    report::Report,
    scenario::{Scenario, Topology, Workload},
    topology::Plan,
    world::World,
};

/// The links that there are, each counted once.
fn links(world: &World) -> usize {
    world.net.len() / 2
}

/// Statuses of others than the one towards whom the shape routes are found by lookups, so
/// each leaves a link that nobody needs any more.
fn lookups_leave_no_links(topology: Topology) {
    let scenario = Scenario {
        topology,
        workload: Workload::Status,
        duration: "200s".parse().expect("a span"),
        ..small()
    };
    let planned = Plan::new(&scenario).links.len();
    let mut world = World::new(scenario);

    world.run(Time::from_millis(60_000), true);
    assert!(links(&world) >= planned + 40, "{} links", links(&world));
    world.run(Time::from_millis(80_000), true);
    assert_eq!(links(&world), planned);
    let closed = world.measure.spare_links_closed;
    world.run(world.end(), true);

    // Nobody has made one of them again.
    assert_eq!(links(&world), planned);
    assert_eq!(world.measure.spare_links_closed, closed);
    let report = Report::new(&world, 0.0);
    assert_eq!(closed, report.lookups);
    assert_eq!(report.dials, 0);
    assert!((report.answered_ratio - 1.0).abs() < f64::EPSILON);
    assert_eq!(report.breaches, 0, "{:#?}", report.first_breaches);
}

#[test]
fn after_a_minute_of_quiet_a_ring_has_the_links_of_its_plan() {
    lookups_leave_no_links(Topology::Ring);
}

#[test]
fn after_a_minute_of_quiet_a_star_has_the_links_of_its_plan() {
    lookups_leave_no_links(Topology::Star);
}

/// Viewers that are sent from node to node dial many; only links that feed somebody, or
/// that drivers make, are left.
#[test]
fn viewers_that_were_sent_elsewhere_leave_no_links() {
    let scenario = Scenario {
        children: Some(2),
        broadcaster_children: Some(2),
        duration: "150s".parse().expect("a span"),
        ..small()
    };
    let mut world = World::new(scenario);
    world.run(Time::from_millis(50_000), true);
    let before = links(&world);
    world.run(Time::from_millis(100_000), true);
    let after = links(&world);
    let closed = world.measure.spare_links_closed;
    world.run(world.end(), true);

    assert!(after < before, "{before} links, then {after}");
    // Links come back only where the other side's driver wants them, and once.
    assert!(world.measure.spare_links_closed <= closed + 2);
    let report = Report::new(&world, 0.0);
    assert!((report.delivered_ratio - 1.0).abs() < f64::EPSILON);
    assert_eq!((report.gap_parts, report.breaches), (0, 0));
}
