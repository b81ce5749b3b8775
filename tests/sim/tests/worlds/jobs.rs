//! Transcoders are fed: directly where that is possible, over the relays where not, and
//! again after what happens to either.

use crate::common::{report, run, small};
use headwater_sim::{
    histogram::{Histogram, Summary},
    report::Report,
    scenario::Scenario,
};

/// Ten jobs, no viewers.
fn jobs(faults: &[&str], nat: u8) -> Report {
    report(Scenario {
        transcoders: 10,
        viewers: Some(0),
        nat,
        duration: "30s".parse().expect("a span"),
        faults: faults.iter().map(|f| f.parse().expect("a fault")).collect(),
        ..small()
    })
}

#[test]
fn transcoders_are_soon_fed_directly_and_miss_nothing() {
    let report = jobs(&[], 0);

    assert_eq!(report.sessions, 10);
    assert_eq!(report.direct_ms.count, 10);
    assert_eq!(report.gap_parts, 0);
    assert!(
        (report.delivered_ratio - 1.0).abs() < f64::EPSILON,
        "{report:#?}"
    );
}

#[test]
fn transcoders_that_can_not_be_dialled_are_fed_by_relays() {
    let report = jobs(&[], 100);

    // One whose way leads it to the broadcaster itself may have dialled out.
    assert!(report.direct_ms.count < 5, "{report:#?}");
    assert!(
        (report.delivered_ratio - 1.0).abs() < f64::EPSILON,
        "{report:#?}"
    );
}

#[test]
fn jobs_outlive_dying_relays_and_reset_links() {
    let report = jobs(&["crash:20%@10s+5s", "cut:50%@20s"], 30);

    assert_eq!(report.never_played, 0);
    assert_eq!(report.recovery_ms.lost, 0, "{report:#?}");
}

#[test]
fn viewers_and_jobs_share_a_stream() {
    let report = report(Scenario {
        transcoders: 5,
        ..small()
    });

    assert_eq!(report.direct_ms.count, 5);
    assert!(
        (report.delivered_ratio - 1.0).abs() < f64::EPSILON,
        "{report:#?}"
    );
}

/// How soon jobs of three worlds have a part again whose broadcaster was away for a while.
fn away(how: &str, nat: u8) -> Summary {
    let mut all = Histogram::default();
    for seed in 1..=3 {
        let world = run(Scenario {
            seed,
            transcoders: 20,
            viewers: Some(10),
            nat,
            duration: "60s".parse().expect("a span"),
            faults: vec![how.parse().expect("a fault")],
            ..small()
        });
        let breaches = &world.checks.kept;
        assert!(breaches.is_empty(), "{breaches:#?}");
        all.merge(&world.measure.resumed);
    }
    all.summary()
}

#[test]
fn jobs_are_fed_again_soon_after_their_broadcaster_goes_on() {
    for how in [
        "broadcaster:1@10s+3s",
        "broadcaster:1@10s+30s",
        "withdraw:1@10s+30s",
    ] {
        for nat in [0, 100] {
            let again = away(how, nat);

            assert_eq!(again.count, 60, "{how}");
            let soon = again.p50 <= 1_300 && again.p99 <= 2_300;
            assert!(soon, "{how}, {nat} % behind NAT: {again:?}");
        }
    }
}

#[test]
fn nodes_that_look_for_broadcasters_that_are_away_keep_to_the_rules() {
    // Relays that lost the same stream ask each other over and over: loops come and go, and
    // each renews what it asked for when another asks it for more.
    for (seed, nodes, broadcasters, transcoders) in [(1, 180, 10, 60), (30, 60, 6, 30)] {
        let world = run(Scenario {
            seed,
            nodes,
            broadcasters,
            transcoders,
            viewers: Some(if nodes == 60 { 20 } else { 40 }),
            nat: 30,
            duration: "14s".parse().expect("a span"),
            faults: vec!["broadcaster:100%@5s+20s".parse().expect("a fault")],
            ..Scenario::default()
        });

        let breaches = &world.checks.kept;
        assert!(breaches.is_empty(), "{breaches:#?}");
    }
}

#[test]
fn jobs_that_are_taken_and_given_back_are_fed_again() {
    let report = jobs(&["revoke:100%@10s+5s", "revoke:50%@18s+200ms"], 30);

    // Those that heard of it have begun anew.
    assert!(report.sessions >= 20, "{}", report.sessions);
    assert_eq!(report.never_played, 0);
    assert!(
        (report.delivered_ratio - 1.0).abs() < f64::EPSILON,
        "{report:#?}"
    );
}
