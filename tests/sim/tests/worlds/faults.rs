//! Viewers whom a fault cuts off come back.

use crate::common::{report, small};
use headwater_sim::{report::Report, scenario::Scenario};

fn with(fault: &str) -> Report {
    let report = report(Scenario {
        nodes: 100,
        duration: "30s".parse().expect("a span"),
        faults: vec![fault.parse().expect("a fault")],
        ..small()
    });
    let recovery = &report.recovery_ms;
    assert!(
        recovery.times.count > 0,
        "the fault hit nobody: {report:#?}"
    );
    assert_eq!(recovery.lost, 0, "not back: {:?}", recovery.lost_hosts);
    report
}

#[test]
fn a_quarter_crashes_and_the_living_play_again_within_five_seconds() {
    let report = with("crash:25%@12s");

    assert!(report.recovery_ms.within_5s > 0.99);
    assert_eq!(report.gap_parts, 0);
}

#[test]
fn a_quarter_loses_power_and_the_living_play_again_within_five_seconds() {
    let report = with("vanish:25%@12s");

    assert!(report.recovery_ms.within_5s > 0.99);
}

#[test]
fn a_single_parent_dies_and_nothing_is_lost() {
    let report = with("parent:1@12s/3s");

    assert!(report.recovery_ms.times.p99 <= 2_500, "{report:#?}");
    assert!((report.delivered_ratio - 1.0).abs() < f64::EPSILON);
    assert_eq!(report.gap_parts, 0);
}

#[test]
fn nodes_that_stop_for_a_while_are_left_and_catch_up() {
    with("freeze:20%@12s+4s");
}

#[test]
fn reset_links_are_replaced() {
    let report = with("cut:50%@12s");

    assert!(report.recovery_ms.within_5s > 0.99);
}

#[test]
fn what_started_anew_plays_again() {
    let report = with("crash:25%@10s+5s");

    assert!(
        report.sessions > 99,
        "the restarted come back as new viewers"
    );
    assert_eq!(report.never_played, 0);
}

#[test]
fn a_partition_heals_without_a_storm() {
    let report = with("partition:30%@10s+6s");

    assert!(
        report.control_messages_per_second_max < 1_000,
        "{report:#?}"
    );
}

#[test]
fn nodes_that_can_not_be_dialled_are_served_too() {
    let report = report(Scenario { nat: 80, ..small() });

    assert_eq!(report.never_played, 0);
    assert!((report.delivered_ratio - 1.0).abs() < f64::EPSILON);
}
