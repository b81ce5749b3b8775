//! Transcoders are fed: directly where that is possible, over the relays where not, and
//! again after what happens to either.

use crate::common::{report, small};
use headwater_sim::{report::Report, scenario::Scenario};

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
