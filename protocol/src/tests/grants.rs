//! The claims of one transcoder to one job, as the table in `feed::grant` has them.

use std::collections::BTreeSet;

use headwater_proto::Message;

use super::desk::{Claim, Desk, address, id};
use crate::{AskId, Config, DialId, Event, Grant, Input, Output, Priority, cx::ASK_PATIENCE};

const ALL: [Grant; 5] = [
    Grant::None,
    Grant::Asked,
    Grant::Held,
    Grant::Renewed,
    Grant::Past,
];

/// A broadcaster with two open streams, linked to a relay (1) and another (2).
fn desk() -> Desk {
    let mut desk = Desk::new(Config::default());
    for peer in [1, 2] {
        desk.connect(peer, None);
    }
    for stream in [0, 1] {
        desk.publish(stream);
    }
    desk
}

/// The claim of transcoder 3 to job 1 with a sequence.
fn claim(sequence: u64) -> Claim {
    Claim {
        transcoder: 3,
        job: 1,
        stream: 0,
        sequence,
        address: 1,
        forged: false,
    }
}

/// What the outputs ask to be checked.
fn checks(outputs: &[Output]) -> Vec<(AskId, Claim)> {
    let check = |output: &Output| match output {
        Output::Ask { ask, question } => Some((*ask, Desk::asked(question)?)),
        _ => None,
    };
    outputs.iter().filter_map(check).collect()
}

fn check(outputs: &[Output]) -> AskId {
    let checks = checks(outputs);
    assert_eq!(checks.len(), 1, "{outputs:?}");
    checks[0].0
}

fn changes(outputs: &[Output]) -> Vec<(Grant, Grant)> {
    let change = |output: &Output| match output {
        Output::Observe(Event::GrantChanged { from, to, .. }) => Some((*from, *to)),
        _ => None,
    };
    outputs.iter().filter_map(change).collect()
}

fn dials(outputs: &[Output]) -> Vec<DialId> {
    let dial = |output: &Output| match output {
        Output::Dial { dial, .. } => Some(*dial),
        _ => None,
    };
    outputs.iter().filter_map(dial).collect()
}

/// Who is sent parts, and in which class.
fn fed(outputs: &[Output]) -> Vec<(u8, Priority)> {
    let part = |output: &Output| match output {
        Output::Send {
            to,
            message: Message::Part(part),
            priority,
        } if part.header.value().media.is_some() => Some((super::desk::number(to), *priority)),
        _ => None,
    };
    outputs.iter().filter_map(part).collect()
}

fn turned_away(outputs: &[Output]) -> Vec<u8> {
    let refused = |output: &Output| match output {
        Output::Send {
            to,
            message: Message::NotFound(_),
            ..
        } => Some(super::desk::number(to)),
        _ => None,
    };
    outputs.iter().filter_map(refused).collect()
}

#[test]
fn every_change_that_the_table_lists_happens() {
    let mut seen = BTreeSet::new();
    let mut see = |outputs: Vec<Output>| {
        for (from, to) in changes(&outputs) {
            assert!(from.leads_to(to), "{from:?} does not lead to {to:?}");
            seen.insert((from, to));
        }
        checks(&outputs).first().map(|(ask, _)| *ask)
    };
    let config = Config {
        max_claims: 1,
        ..Config::default()
    };
    let mut desk = Desk::new(config);
    desk.connect(1, None);
    desk.publish(0);
    // Refused; then granted, refreshed twice, and revoked.
    let ask = see(desk.claim(1, claim(1), true).1).unwrap();
    see(desk.answer(ask, None));
    let ask = see(desk.claim(1, claim(2), true).1).unwrap();
    see(desk.answer(ask, Some(1)));
    let ask = see(desk.claim(1, claim(3), false).1).unwrap();
    see(desk.answer(ask, Some(1)));
    let ask = see(desk.claim(1, claim(4), false).1).unwrap();
    see(desk.answer(ask, None));
    see(desk.revoke(3, 1));
    // Asked for again: refused, revoked, and granted, refreshed and revoked in between.
    let ask = see(desk.claim(1, claim(5), true).1).unwrap();
    see(desk.answer(ask, None));
    see(desk.claim(1, claim(6), true).1).unwrap();
    see(desk.revoke(3, 1));
    let ask = see(desk.claim(1, claim(7), true).1).unwrap();
    see(desk.answer(ask, Some(1)));
    see(desk.claim(1, claim(8), true).1).unwrap();
    see(desk.revoke(3, 1));
    // Two at once.
    let ask = see(desk.claim(1, claim(9), true).1).unwrap();
    see(desk.claim(1, claim(10), false).1).unwrap();
    see(desk.answer(ask, Some(1)));
    see(desk.revoke(3, 1));
    // Another needs its place.
    let other = Claim {
        transcoder: 4,
        ..claim(1)
    };
    see(desk.claim(1, other, true).1);

    let listed = ALL.iter().flat_map(|from| {
        let to = ALL.iter().filter(|to| from.leads_to(**to));
        to.map(|to| (*from, *to))
    });
    assert_eq!(seen, listed.collect());
}

#[test]
fn the_answer_to_a_check_of_before_the_revocation_counts_for_nothing() {
    let mut desk = desk();
    let first = check(&desk.claim(1, claim(1), true).1);
    assert_eq!(turned_away(&desk.revoke(3, 1)), [1]);
    let second = check(&desk.claim(1, claim(2), true).1);

    let late = desk.answer(first, Some(1));

    assert_eq!(changes(&late), []);
    assert_eq!(dials(&late), []);
    assert_eq!(fed(&desk.append(0)), []);
    let granted = desk.answer(second, Some(1));
    assert_eq!(changes(&granted), [(Grant::Asked, Grant::Held)]);
    assert_eq!(dials(&granted).len(), 1);
    assert_eq!(fed(&desk.append(0)), [(1, Priority::Feed)]);
}

#[test]
fn the_end_of_the_stream_ends_its_checks_and_grants() {
    let mut desk = desk();
    let ask = check(&desk.claim(1, claim(1), true).1);
    desk.append(0);
    assert_eq!(turned_away(&desk.finish(0)), [1]);
    assert_eq!(changes(&desk.answer(ask, Some(1))), []);

    desk.publish(0);
    let ask = check(&desk.claim(1, claim(2), true).1);
    desk.answer(ask, Some(1));
    let stream = desk.stream(0);
    let over = desk.command(crate::Command::Unpublish { stream });
    assert_eq!(turned_away(&over), [1]);
    assert_eq!(changes(&over), [(Grant::Held, Grant::Past)]);
}

#[test]
fn the_end_of_a_stream_ends_nothing_of_another_that_its_job_is_fed_with() {
    let mut desk = desk();
    let other = Claim {
        stream: 1,
        ..claim(2)
    };
    let ask = check(&desk.claim(1, claim(1), true).1);
    let late = check(&desk.claim(2, other, false).1);
    desk.answer(ask, Some(1));

    let over = desk.finish(1);

    assert_eq!(changes(&over), [(Grant::Renewed, Grant::Held)]);
    assert_eq!(changes(&desk.answer(late, Some(1))), []);
    assert_eq!(fed(&desk.append(0)), [(1, Priority::Feed)]);
    assert_eq!(turned_away(&desk.revoke(3, 1)), [1]);
}

#[test]
fn a_replay_is_told_from_the_same_claim_by_another_way() {
    let mut desk = desk();
    let ask = check(&desk.claim(1, claim(5), true).1);
    desk.answer(ask, Some(1));

    let (_, again) = desk.claim(2, claim(5), true);
    assert_eq!(checks(&again), []);
    assert_eq!(
        fed(&desk.append(0)),
        [(1, Priority::Feed), (2, Priority::Feed)]
    );

    for (sequence, address) in [(4, 1), (5, 2)] {
        let old = Claim {
            address,
            ..claim(sequence)
        };
        let stale = desk.node.stats().stale_claims;
        let (_, replayed) = desk.claim(2, old, true);
        assert_eq!(checks(&replayed), [], "{old:?}");
        assert_eq!(desk.node.stats().stale_claims, stale + 1);
    }
    // One that was caught on its way is of no use for long.
    desk.pass(10_001);
    let stale = desk.node.stats().stale_claims;
    desk.claim(2, claim(5), true);
    assert_eq!(desk.node.stats().stale_claims, stale + 1);
    // Nor is any of those that held of use when the job was revoked.
    desk.revoke(3, 1);
    assert_eq!(checks(&desk.claim(2, claim(5), true).1), []);
    check(&desk.claim(2, claim(6), true).1);
}

#[test]
fn nobody_is_fed_on_a_claim_that_was_not_his() {
    let mut desk = desk();
    let true_one = check(&desk.claim(1, claim(1), true).1);
    let forged = Claim {
        forged: true,
        ..claim(2)
    };
    let false_one = check(&desk.claim(2, forged, true).1);

    desk.answer(true_one, Some(1));

    assert_eq!(fed(&desk.append(0)), [(1, Priority::Feed)]);
    let refused = desk.answer(false_one, None);
    assert_eq!(turned_away(&refused), [2]);
    assert_eq!(changes(&refused), [(Grant::Renewed, Grant::Held)]);
    assert_eq!(fed(&desk.append(0)), [(1, Priority::Feed)]);
}

/// Checks of claims that were made up take as long as they like, and more come all the
/// while.
#[test]
fn claims_that_were_made_up_delay_no_other() {
    let mut desk = desk();
    let made_up = |sequence| Claim {
        forged: true,
        ..claim(u64::MAX - sequence)
    };
    for sequence in 0..50 {
        let branch = sequence % 2 == 0;
        desk.claim(2, made_up(sequence), branch);
        // Also by way of the relay that the true one comes from, but not so fast.
        if sequence % 10 == 0 {
            desk.claim(1, made_up(sequence + 100), false);
        }
    }

    let ask = check(&desk.claim(1, claim(1), true).1);
    let granted = desk.answer(ask, Some(1));

    assert_eq!(changes(&granted), [(Grant::Asked, Grant::Renewed)]);
    assert_eq!(dials(&granted).len(), 1);
    assert_eq!(fed(&desk.append(0)), [(1, Priority::Feed)]);
    desk.claim(2, made_up(200), false);
    let ask = check(&desk.claim(1, claim(2), false).1);
    assert_eq!(changes(&desk.answer(ask, Some(1))), []);
}

#[test]
fn one_neighbour_has_few_claims_checked_at_a_time_whosever_they_are() {
    let mut desk = desk();
    let of_others = |number: u64| Claim {
        transcoder: 3 + u8::try_from(number % 5).unwrap(),
        job: number,
        ..claim(1)
    };
    let mut open = Vec::new();
    for number in 0..40 {
        open.extend(checks(&desk.claim(1, of_others(number), false).1));
    }
    assert_eq!(open.len(), 16);
    let (_, outputs) = desk.claim(1, of_others(40), true);
    let refused = |output: &Output| match output {
        Output::Send {
            message: Message::NoRoute(answer),
            ..
        } => Some(answer.reason),
        _ => None,
    };
    let refused: Vec<_> = outputs.iter().filter_map(refused).collect();
    assert_eq!(refused, [headwater_proto::NoRouteReason::Overloaded]);

    desk.answer(open[3].0, None);

    check(&desk.claim(1, of_others(40), true).1);
    check(&desk.claim(2, of_others(41), true).1);
}

#[test]
fn a_claim_that_holds_after_a_newer_one_did_is_a_replay() {
    let mut desk = desk();
    let older = check(&desk.claim(1, claim(1), true).1);
    let newer = check(&desk.claim(2, claim(2), true).1);
    desk.answer(newer, Some(1));

    let stale = desk.node.stats().stale_claims;
    let late = desk.answer(older, Some(1));

    assert_eq!(turned_away(&late), [1]);
    assert_eq!(dials(&late), []);
    assert_eq!(desk.node.stats().stale_claims, stale + 1);
    assert_eq!(fed(&desk.append(0)), [(2, Priority::Feed)]);
}

#[test]
fn a_transcoder_that_is_linked_is_fed_while_its_newer_claim_is_checked() {
    let mut desk = desk();
    let ask = check(&desk.claim(1, claim(1), true).1);
    desk.answer(ask, Some(1));
    desk.connect(3, None);

    let (_, outputs) = desk.claim(3, claim(2), true);

    assert_eq!(checks(&outputs).len(), 1);
    let both = [(1, Priority::Feed), (3, Priority::Feed)];
    assert_eq!(fed(&desk.append(0)), both);
}

#[test]
fn a_refreshed_claim_is_dialled_where_it_says() {
    let mut desk = desk();
    let ask = check(&desk.claim(1, claim(1), true).1);
    let dial = dials(&desk.answer(ask, Some(1)))[0];
    desk.give(Input::DialFailed { dial });
    let moved = Claim {
        address: 2,
        ..claim(2)
    };

    let ask = check(&desk.claim(1, moved, false).1);
    let outputs = desk.answer(ask, Some(2));

    let to = |output: &Output| match output {
        Output::Dial {
            peer, addresses, ..
        } => Some((*peer, addresses.clone())),
        _ => None,
    };
    let dialled: Vec<_> = outputs.iter().filter_map(to).collect();
    assert_eq!(dialled, [(id(3), vec![address(2)])]);
}

#[test]
fn dials_of_a_job_are_few_even_when_it_is_revoked_in_between() {
    let mut desk = desk();
    let mut count = 0;
    for sequence in 1..=10 {
        let ask = check(&desk.claim(1, claim(sequence), true).1);
        for dial in dials(&desk.answer(ask, Some(1))) {
            count += 1;
            desk.give(Input::DialFailed { dial });
        }
        desk.revoke(3, 1);
        desk.pass(1000);
    }
    assert_eq!(count, 3);

    desk.pass(60_000);
    let ask = check(&desk.claim(1, claim(11), true).1);
    assert_eq!(dials(&desk.answer(ask, Some(1))).len(), 1);
}

#[test]
fn nothing_is_dialled_while_a_dial_is_under_way_or_the_transcoder_is_linked() {
    let mut desk = desk();
    let ask = check(&desk.claim(1, claim(1), true).1);
    let dial = dials(&desk.answer(ask, Some(1)))[0];
    let ask = check(&desk.claim(1, claim(2), false).1);
    assert_eq!(dials(&desk.answer(ask, Some(2))), []);

    desk.connect(3, Some(dial));
    let ask = check(&desk.claim(1, claim(3), false).1);
    assert_eq!(dials(&desk.answer(ask, Some(2))), []);

    desk.disconnect(3);
    let ask = check(&desk.claim(1, claim(4), false).1);
    assert_eq!(dials(&desk.answer(ask, Some(2))).len(), 1);
}

#[test]
fn what_holds_is_not_forgotten_for_claims_of_others() {
    let config = Config {
        max_claims: 3,
        ..Config::default()
    };
    let mut desk = Desk::new(config);
    desk.connect(1, None);
    desk.publish(0);
    let ask = check(&desk.claim(1, claim(1), true).1);
    desk.answer(ask, Some(1));
    for transcoder in 4..10 {
        let of_others = Claim {
            transcoder,
            ..claim(1)
        };
        desk.claim(1, of_others, false);
    }

    assert_eq!(turned_away(&desk.revoke(3, 1)), [1]);
    assert_eq!(fed(&desk.append(0)), []);
}

#[test]
fn a_check_that_the_driver_never_answers_ends() {
    let mut desk = Desk::new(Config {
        max_asks: 1,
        ..Config::default()
    });
    for peer in [1, 2] {
        desk.connect(peer, None);
    }
    desk.publish(0);
    let patience = u64::try_from(ASK_PATIENCE.as_millis()).unwrap();
    let unanswered = check(&desk.claim(1, claim(1), true).1);
    let other = Claim { job: 2, ..claim(1) };
    assert!(checks(&desk.claim(2, other, true).1).is_empty(), "no room");
    assert_eq!(turned_away(&desk.pass(patience - 1)), []);

    let outputs = desk.pass(1);

    assert_eq!(turned_away(&outputs), [1]);
    assert_eq!(changes(&outputs), [(Grant::Asked, Grant::None)]);
    let late = desk.answer(unanswered, Some(1));
    assert!(changes(&late).is_empty() && dials(&late).is_empty());
    let checked = check(&desk.claim(2, other, true).1);
    let held = desk.answer(checked, Some(1));
    assert_eq!(changes(&held), [(Grant::Asked, Grant::Held)]);
    assert_eq!(desk.node.open_questions(), 0);
}
