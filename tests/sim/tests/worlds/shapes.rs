//! Every shape of network delivers everything, within its bound on hops.

use crate::common::{report, small};
use headwater_sim::{
    report::Report,
    scenario::{Scenario, Topology, Workload},
    topology::Plan,
};

fn of(topology: Topology) -> Report {
    report(Scenario {
        topology,
        // So that no node is too full for the shape's bound to hold.
        children: Some(100),
        broadcaster_children: Some(100),
        ..small()
    })
}

fn delivers_everything_within_its_bound(topology: Topology) {
    let report = of(topology);

    assert_eq!(report.never_played, 0);
    assert!(
        (report.delivered_ratio - 1.0).abs() < f64::EPSILON,
        "{report:#?}"
    );
    assert_eq!(report.gap_parts, 0);
    let bound = Plan::hop_bound(topology, 60);
    assert!(
        report.hops.max <= bound,
        "{} hops, bound {bound}",
        report.hops.max
    );
}

#[test]
fn line_delivers_everything_within_its_bound() {
    delivers_everything_within_its_bound(Topology::Line);
}

#[test]
fn star_delivers_everything_within_its_bound() {
    delivers_everything_within_its_bound(Topology::Star);
}

#[test]
fn ring_delivers_everything_within_its_bound() {
    delivers_everything_within_its_bound(Topology::Ring);
}

#[test]
fn tree_delivers_everything_within_its_bound() {
    delivers_everything_within_its_bound(Topology::Tree);
}

#[test]
fn islands_deliver_everything_within_their_bound() {
    delivers_everything_within_its_bound(Topology::Islands);
}

#[test]
fn kademlia_delivers_everything_within_its_bound() {
    delivers_everything_within_its_bound(Topology::Kademlia);
}

#[test]
fn power_law_delivers_everything_within_its_bound() {
    delivers_everything_within_its_bound(Topology::PowerLaw);
}

#[test]
fn boot_node_star_delivers_everything_within_its_bound() {
    delivers_everything_within_its_bound(Topology::Boot);
}

#[test]
fn full_star_sends_newcomers_down_and_spares_the_broadcaster() {
    let report = report(Scenario {
        topology: Topology::Star,
        ..small()
    });

    assert!((report.delivered_ratio - 1.0).abs() < f64::EPSILON);
    assert!(report.redirects > 0);
    let copies = report.broadcaster_uplink_ratio;
    assert!(copies > 4.0 && copies <= 8.0, "{report:#?}");
}

#[test]
fn subscriptions_to_many_owners_all_arrive() {
    let report = report(Scenario {
        workload: Workload::Route,
        relayers: 100,
        duration: "10s".parse().unwrap(),
        ..small()
    });

    assert_eq!(report.sessions, 60);
    assert!((report.delivered_ratio - 1.0).abs() < f64::EPSILON);
}

#[test]
fn statuses_that_are_asked_for_all_come() {
    let report = report(Scenario {
        workload: Workload::Status,
        ..small()
    });

    assert!((report.answered_ratio - 1.0).abs() < f64::EPSILON);
    assert!(report.hops.count >= 60);
}

#[test]
fn zapping_viewers_get_each_broadcast_they_come_to() {
    let report = report(Scenario {
        workload: Workload::Zap,
        broadcasters: 4,
        ..small()
    });

    assert_eq!(report.never_played, 0);
    assert!((report.delivered_ratio - 1.0).abs() < f64::EPSILON);
}
