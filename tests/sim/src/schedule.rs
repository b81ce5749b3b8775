//! What is done to a world and when: viewers that come and go, faults. The list is made
//! before the run, so that a run can be repeated with a part of it.

use std::time::Duration;

use headwater_protocol::Time;

use crate::{
    dice::Dice,
    host::HostIx,
    scenario::{Fault, FaultKind, Scenario, Workload},
};

/// When broadcasts begin: links are up by then.
pub const BEGIN: Time = Time::from_millis(2_000);
/// When the first viewers come.
const FIRST_VIEWER: Time = Time::from_millis(3_000);

/// Jobs are told to transcoders from so long before broadcasts begin ...
const JOBS_BEFORE_MS: u64 = 500;
/// ... for so long, in milliseconds.
const JOBS_MS: u64 = 3_000;

/// One thing that is done to a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A viewer comes.
    Subscribe {
        /// Who.
        host: HostIx,
        /// To which broadcast.
        broadcast: u32,
    },
    /// A viewer leaves.
    Unsubscribe {
        /// Who.
        host: HostIx,
        /// Which broadcast.
        broadcast: u32,
    },
    /// A transcoder begins with its job.
    StartJob {
        /// Who.
        host: HostIx,
        /// Of which broadcast.
        broadcast: u32,
    },
    /// A node asks for the status of another.
    AskStatus {
        /// Who.
        host: HostIx,
        /// Of whom.
        of: HostIx,
    },
    /// These die; their links are reset.
    Crash(Vec<HostIx>),
    /// These lose power.
    Vanish(Vec<HostIx>),
    /// So many nodes that feed others die; those that come back do so after a while.
    CrashParents {
        /// How many.
        count: usize,
        /// Chooses among those that feed others.
        choice: u64,
        /// When they start anew.
        back: Option<Duration>,
    },
    /// These start anew, if they are dead.
    Start(Vec<HostIx>),
    /// These stop.
    Freeze(Vec<HostIx>),
    /// These go on.
    Thaw(Vec<HostIx>),
    /// The uplinks of these get slow.
    Slow(Vec<HostIx>),
    /// The uplinks of these are as they were.
    Hasten(Vec<HostIx>),
    /// These are cut off from all others.
    Partition(Vec<HostIx>),
    /// All can reach each other again.
    Heal,
    /// These links are reset, by their numbers in the plan.
    Cut(Vec<usize>),
    /// The links of these transcoders to the broadcaster of their job are reset.
    CutDirect(Vec<HostIx>),
    /// These broadcasters make their stream no more.
    Withdraw(Vec<HostIx>),
    /// These broadcasters go on with their stream.
    Republish(Vec<HostIx>),
    /// The ledger takes their jobs from these transcoders.
    Revoke(Vec<HostIx>),
    /// The ledger gives their jobs back to these transcoders.
    Assign(Vec<HostIx>),
}

/// The deeds of a run, in order of time.
#[must_use]
pub fn schedule(scenario: &Scenario, viewers: &[HostIx], links: usize) -> Vec<(Time, Deed)> {
    let mut deeds = Vec::new();
    watch(scenario, viewers, &mut deeds);
    let mut dice = Dice::new(scenario.seed, "jobs");
    for host in (scenario.nodes - scenario.transcoders..scenario.nodes).map(HostIx) {
        // Some are told of their job before its broadcast has begun.
        let begin = BEGIN.as_micros() / 1000 - JOBS_BEFORE_MS;
        let at = Time::from_millis(begin + dice.below(JOBS_MS));
        let broadcast = below(&mut dice, scenario.broadcasters);
        deeds.push((at, Deed::StartJob { host, broadcast }));
    }
    let mut dice = Dice::new(scenario.seed, "faults");
    for fault in &scenario.faults {
        let mut at = fault.at;
        loop {
            go_wrong(scenario, fault, at.millis(), links, &mut dice, &mut deeds);
            let Some(every) = fault.every else { break };
            at = crate::scenario::Span::from_millis(at.millis() + every.millis());
            if at >= scenario.duration {
                break;
            }
        }
    }
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

fn watch(scenario: &Scenario, viewers: &[HostIx], deeds: &mut Vec<(Time, Deed)>) {
    let mut dice = Dice::new(scenario.seed, "viewers");
    let (first, window) = match scenario.workload {
        Workload::Flash => {
            let third = Time::from_millis(scenario.duration.millis() / 3);
            (third.max(FIRST_VIEWER), Duration::from_secs(1))
        }
        Workload::Watch | Workload::Zap | Workload::Route | Workload::Status => {
            (FIRST_VIEWER, scenario.join.duration())
        }
    };
    let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
    let end = Time::from_millis(scenario.duration.millis());
    // Everybody asks for somebody else's, and nobody is asked for twice.
    let shift = 1 + below(&mut dice, scenario.nodes - 1);
    let other = |host: HostIx| (host.0 + shift) % scenario.nodes;
    for &host in viewers {
        let mut at = first + Duration::from_micros(dice.below(window + 1));
        match scenario.workload {
            Workload::Watch | Workload::Flash => {
                let broadcast = below(&mut dice, scenario.broadcasters);
                deeds.push((at, Deed::Subscribe { host, broadcast }));
            }
            Workload::Zap => {
                let mut broadcast = below(&mut dice, scenario.broadcasters);
                while at < end {
                    deeds.push((at, Deed::Subscribe { host, broadcast }));
                    at = at + scenario.zap.duration();
                    deeds.push((at, Deed::Unsubscribe { host, broadcast }));
                    // Another one, where there is another.
                    let step = 1 + below(&mut dice, scenario.broadcasters.saturating_sub(1));
                    broadcast = (broadcast + step) % scenario.broadcasters;
                }
            }
            Workload::Route => {
                let broadcast = other(host);
                deeds.push((at, Deed::Subscribe { host, broadcast }));
            }
            Workload::Status => {
                let of = HostIx(other(host));
                deeds.push((at, Deed::AskStatus { host, of }));
            }
        }
    }
}

fn go_wrong(
    scenario: &Scenario,
    fault: &Fault,
    at: u64,
    links: usize,
    dice: &mut Dice,
    deeds: &mut Vec<(Time, Deed)>,
) {
    let from = Time::from_millis(at);
    let back = fault.lasting.map(|lasting| from + lasting.duration());
    let mut hosts = || {
        let all = concerned(scenario, fault.kind);
        let mut all: Vec<_> = all.map(HostIx).collect();
        dice.shuffle(&mut all);
        all.truncate(fault.amount.of(all.len()));
        all.sort_unstable();
        all
    };
    let (deed, undone) = match fault.kind {
        FaultKind::Crash | FaultKind::Broadcaster | FaultKind::Transcoder => {
            let hosts = hosts();
            (Deed::Crash(hosts.clone()), Deed::Start(hosts))
        }
        FaultKind::Vanish => {
            let hosts = hosts();
            (Deed::Vanish(hosts.clone()), Deed::Start(hosts))
        }
        FaultKind::Freeze => {
            let hosts = hosts();
            (Deed::Freeze(hosts.clone()), Deed::Thaw(hosts))
        }
        FaultKind::Slow => {
            let hosts = hosts();
            (Deed::Slow(hosts.clone()), Deed::Hasten(hosts))
        }
        FaultKind::Partition => (Deed::Partition(hosts()), Deed::Heal),
        FaultKind::Withdraw => {
            let hosts = hosts();
            (Deed::Withdraw(hosts.clone()), Deed::Republish(hosts))
        }
        FaultKind::Revoke => {
            let hosts = hosts();
            (Deed::Revoke(hosts.clone()), Deed::Assign(hosts))
        }
        FaultKind::Direct => return deeds.push((from, Deed::CutDirect(hosts()))),
        FaultKind::Parent => {
            let count = fault.amount.of(scenario.nodes as usize);
            let back = fault.lasting.map(crate::scenario::Span::duration);
            let choice = dice.draw();
            deeds.push((
                from,
                Deed::CrashParents {
                    count,
                    choice,
                    back,
                },
            ));
            return;
        }
        FaultKind::Cut => {
            let mut all: Vec<_> = (0..links).collect();
            dice.shuffle(&mut all);
            all.truncate(fault.amount.of(all.len()));
            deeds.push((from, Deed::Cut(all)));
            return;
        }
    };
    deeds.push((from, deed));
    deeds.extend(back.map(|back| (back, undone)));
}

/// The nodes out of which a fault chooses, by number.
const fn concerned(scenario: &Scenario, kind: FaultKind) -> std::ops::Range<u32> {
    match kind {
        FaultKind::Broadcaster | FaultKind::Withdraw => 0..scenario.broadcasters,
        FaultKind::Transcoder | FaultKind::Direct | FaultKind::Revoke => {
            scenario.nodes - scenario.transcoders..scenario.nodes
        }
        FaultKind::Crash
        | FaultKind::Vanish
        | FaultKind::Parent
        | FaultKind::Freeze
        | FaultKind::Slow
        | FaultKind::Partition
        | FaultKind::Cut => scenario.broadcasters..scenario.nodes,
    }
}

fn below(dice: &mut Dice, bound: u32) -> u32 {
    u32::try_from(dice.below(u64::from(bound))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(faults: &[&str]) -> Vec<(Time, Deed)> {
        let scenario = Scenario {
            nodes: 100,
            faults: faults.iter().map(|f| f.parse().unwrap()).collect(),
            ..Scenario::default()
        };
        schedule(&scenario, &[], 300)
    }

    #[test]
    fn a_fault_for_a_while_is_undone_for_the_same_nodes() {
        let deeds = of(&["freeze:10%@5s+3s"]);
        let [(from, Deed::Freeze(frozen)), (to, Deed::Thaw(thawed))] = &deeds[..] else {
            panic!("{deeds:?}");
        };

        assert_eq!(
            (*from, *to),
            (Time::from_millis(5_000), Time::from_millis(8_000))
        );
        assert_eq!(frozen, thawed);
        assert_eq!(frozen.len(), 9);
        assert!(!frozen.contains(&HostIx(0)), "broadcasters go on");
    }

    #[test]
    fn a_job_is_given_back_to_the_transcoder_it_was_taken_from() {
        let scenario = Scenario {
            nodes: 100,
            transcoders: 4,
            faults: vec!["revoke:2@5s+3s".parse().unwrap()],
            ..Scenario::default()
        };
        let deeds = schedule(&scenario, &[], 300);
        let faults = deeds
            .iter()
            .filter(|(_, deed)| !matches!(deed, Deed::StartJob { .. }));
        let faults: Vec<_> = faults.map(|(_, deed)| deed.clone()).collect();
        let [Deed::Revoke(taken), Deed::Assign(given)] = &faults[..] else {
            panic!("{faults:?}");
        };

        assert_eq!(taken, given);
        assert_eq!(taken.len(), 2);
        assert!(taken.iter().all(|host| host.0 >= 96));
    }

    #[test]
    fn a_repeated_fault_happens_until_the_end() {
        let deeds = of(&["crash:1@50s/4s"]);

        let times: Vec<_> = deeds
            .iter()
            .map(|(at, _)| at.as_micros() / 1_000_000)
            .collect();
        assert_eq!(times, [50, 54, 58]);
    }

    #[test]
    fn zapping_viewers_are_at_one_broadcast_at_a_time() {
        let scenario = Scenario {
            workload: Workload::Zap,
            broadcasters: 4,
            ..Scenario::default()
        };
        let deeds = schedule(&scenario, &[HostIx(9)], 0);
        for pair in deeds.windows(2) {
            match (&pair[0].1, &pair[1].1) {
                (Deed::Subscribe { broadcast: a, .. }, Deed::Unsubscribe { broadcast: b, .. }) => {
                    assert_eq!(a, b)
                }
                (Deed::Unsubscribe { broadcast: a, .. }, Deed::Subscribe { broadcast: b, .. }) => {
                    assert_ne!(a, b)
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(deeds.len() > 10);
    }
}
