//! Honest viewers get everything, and nothing forged, among hostile nodes.

use crate::common::{report, small};
use headwater_sim::{
    report::Report,
    scenario::{Hostility, Scenario},
};

fn among(way: Hostility) -> Report {
    share(way, 20)
}

fn share(way: Hostility, percent: u8) -> Report {
    let report = report(Scenario {
        relayers: 50,
        hostile: percent,
        hostility: vec![way],
        ..small()
    });
    assert_eq!(report.never_played, 0);
    assert_eq!(report.gap_parts, 0);
    assert!(
        (report.delivered_ratio - 1.0).abs() < f64::EPSILON,
        "{report:#?}"
    );
    report
}

#[test]
fn among_those_who_withhold_honest_viewers_get_every_part() {
    among(Hostility::Drop);
}

#[test]
fn among_those_who_delay_honest_viewers_get_every_part() {
    among(Hostility::Delay);
}

#[test]
fn among_forgers_honest_viewers_get_every_part_and_notice() {
    assert!(among(Hostility::Forge).violations > 0);
}

#[test]
fn among_replayers_honest_viewers_get_every_part() {
    assert!(among(Hostility::Replay).violations > 0);
}

#[test]
fn among_flooders_honest_viewers_get_every_part_and_answer_less_than_they_are_sent() {
    let report = share(Hostility::Flood, 5);

    assert!(report.hostile_answer_ratio < 1.0, "{report:#?}");
}

#[test]
fn among_liars_honest_viewers_get_every_part() {
    among(Hostility::Lie);
}
