//! Each rule is broken once, to see that the check notices.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a saboteur changes one kind of output and leaves the rest"
)]

use crate::common::small;
use std::collections::BTreeSet;

use bytes::Bytes;
use headwater_proto::{
    JobId, Message, NodeId, Position, Sub, SubAck,
    limits::{MAX_HOPS, MAX_PATH},
};
use headwater_protocol::{Delivery, DialId, DisconnectReason, Event, Output, Time};
use headwater_sim::{
    checks::Rule,
    host::HostIx,
    scenario::{Scenario, Workload},
    schedule::Deed,
    shrink::{Failure, shrink},
    world::{Saboteur, World},
};

/// The rules that are breached in a world in which outputs are changed.
fn breach(
    scenario: Scenario,
    change: impl FnMut(HostIx, Output) -> Vec<Output> + 'static,
) -> BTreeSet<Rule> {
    let mut world = World::new(scenario);
    world.saboteur = Some(Saboteur::Outputs(Box::new(change)));
    broken(world)
}

/// The rules that are breached by the end of a world.
fn broken(mut world: World) -> BTreeSet<Rule> {
    let end = world.end();
    world.run(end, true);
    world.checks.by_rule.keys().copied().collect()
}

/// Adds one output to those of a host, once, when it has links.
fn once(
    from: HostIx,
    mut extra: impl FnMut() -> Output + 'static,
) -> impl FnMut(HostIx, Output) -> Vec<Output> {
    let mut wait = 20;
    move |host, output| {
        if host != from || wait == 0 {
            return vec![output];
        }
        wait -= 1;
        if wait > 0 {
            vec![output]
        } else {
            vec![output, extra()]
        }
    }
}

/// The ids of hosts in the small world.
fn id_of(scenario: &Scenario, host: u32) -> NodeId {
    World::new(scenario.clone()).hosts[host as usize].id
}

/// What becomes of the parts that one host is handed.
fn tampered_part(change: fn(Position, Delivery) -> Vec<Delivery>) -> BTreeSet<Rule> {
    breach(small(), move |host, output| match output {
        Output::Deliver {
            stream,
            delivery:
                Delivery::Part {
                    position,
                    media,
                    chunks,
                },
        } if host == HostIx(9) && position.part == 4 => {
            let part = Delivery::Part {
                position,
                media,
                chunks,
            };
            let stream = move |delivery| Output::Deliver {
                stream: stream.clone(),
                delivery,
            };
            change(position, part).into_iter().map(stream).collect()
        }
        other => vec![other],
    })
}

#[test]
fn part_that_is_delivered_twice_is_noticed() {
    let rules = tampered_part(|_, part| vec![part.clone(), part]);

    assert!(rules.contains(&Rule::Order), "{rules:?}");
}

#[test]
fn part_that_is_left_out_is_noticed() {
    let rules = tampered_part(|_, _| Vec::new());

    assert!(rules.contains(&Rule::Order), "{rules:?}");
}

#[test]
fn gap_over_what_was_delivered_is_noticed() {
    let rules = tampered_part(|position, part| {
        let to = Position {
            part: position.part + 1,
            ..position
        };
        let from = position;
        vec![part, Delivery::Gap { from, to }]
    });

    assert!(rules.contains(&Rule::Order), "{rules:?}");
}

#[test]
fn forged_payload_is_noticed() {
    let rules = tampered_part(|_, part| {
        let Delivery::Part {
            position,
            media,
            chunks,
        } = part
        else {
            return vec![part];
        };
        let chunks = chunks
            .iter()
            .map(|c| Bytes::from(vec![7; c.len()]))
            .collect();
        vec![Delivery::Part {
            position,
            media,
            chunks,
        }]
    });

    assert!(rules.contains(&Rule::Forgery), "{rules:?}");
}

#[test]
fn message_to_one_who_cancelled_is_noticed() {
    let zapping = Scenario {
        workload: Workload::Zap,
        broadcasters: 3,
        ..small()
    };
    // Every host goes on to acknowledge what it has acknowledged once.
    let mut acks = std::collections::BTreeMap::new();
    let rules = breach(zapping, move |host, output| {
        let Output::Send {
            to,
            message,
            priority,
        } = output
        else {
            return vec![output];
        };
        let again = acks.get(&(host, to)).cloned();
        if let Message::SubAck(_) = message {
            acks.insert((host, to), message.clone());
        }
        let send = |message| Output::Send {
            to,
            message,
            priority,
        };
        again.into_iter().chain([message]).map(send).collect()
    });

    assert!(rules.contains(&Rule::Cancelled), "{rules:?}");
}

#[test]
fn second_refusal_is_noticed() {
    let full = Scenario {
        topology: headwater_sim::scenario::Topology::Star,
        ..small()
    };
    let rules = breach(full, |_, output| match &output {
        Output::Send {
            message: Message::Redirect(_),
            ..
        } => vec![output.clone(), output],
        _ => vec![output],
    });

    assert!(rules.contains(&Rule::OneAnswer), "{rules:?}");
}

#[test]
fn request_without_an_answer_is_noticed() {
    let asking = Scenario {
        workload: Workload::Status,
        ..small()
    };
    let rules = breach(asking, |host, output| match &output {
        Output::Send {
            message: Message::NodeStatusData(_),
            ..
        } if host == HostIx(9) => Vec::new(),
        _ => vec![output],
    });

    assert!(rules.contains(&Rule::Answered), "{rules:?}");
}

#[test]
fn request_that_goes_away_from_its_target_is_noticed() {
    let line = Scenario {
        topology: headwater_sim::scenario::Topology::Line,
        ..small()
    };
    // Host 20 sends its Sub to the neighbour on the far side.
    let away = World::new(line.clone()).hosts[21].id;
    let rules = breach(line, move |host, output| match output {
        Output::Send {
            message: Message::Sub(sub),
            priority,
            ..
        } if host == HostIx(20) => vec![Output::Send {
            to: away,
            message: Message::Sub(sub),
            priority,
        }],
        other => vec![other],
    });

    assert!(rules.contains(&Rule::StrictDecrease), "{rules:?}");
}

#[test]
fn message_to_a_stranger_is_noticed() {
    let rules = breach(small(), |_, output| match output {
        Output::Send {
            message, priority, ..
        } => {
            let to = NodeId::from_public_key([1; 32]);
            vec![Output::Send {
                to,
                message,
                priority,
            }]
        }
        other => vec![other],
    });

    assert!(rules.contains(&Rule::OpenLink), "{rules:?}");
}

#[test]
fn more_than_the_credit_is_noticed() {
    let rules = breach(small(), |host, output| match &output {
        Output::Send {
            message: Message::Chunk(_),
            ..
        } if host.0 == 0 => vec![output; 200],
        _ => vec![output],
    });

    assert!(rules.contains(&Rule::Credit), "{rules:?}");
}

#[test]
fn feed_that_is_never_left_is_noticed() {
    let job = Scenario {
        transcoders: 1,
        viewers: Some(0),
        ..small()
    };
    let transcoder = HostIx(job.nodes - 1);
    // It cancels nothing, nor makes its old parent a standby, which would do the same.
    let rules = breach(job, move |host, output| match output {
        Output::Send {
            message: Message::Cancel(_),
            ..
        } if host == transcoder => Vec::new(),
        Output::Send {
            message: Message::Sub(sub),
            ..
        } if host == transcoder && sub.hops_left == 0 => Vec::new(),
        other => vec![other],
    });

    assert!(rules.contains(&Rule::TwoFeeds), "{rules:?}");
}

#[test]
fn dial_without_a_claim_is_noticed() {
    let stranger = World::new(small()).hosts[30].id;
    let rules = breach(small(), move |host, output| match output {
        Output::Reply { .. } if host == HostIx(0) => {
            let dial = Output::Dial {
                dial: DialId(1 << 40),
                peer: stranger,
                addresses: Vec::new(),
            };
            vec![output, dial]
        }
        other => vec![other],
    });

    assert!(rules.contains(&Rule::Dial), "{rules:?}");
}

#[test]
fn second_reply_is_noticed() {
    let rules = breach(small(), |_, output| match &output {
        Output::Reply { .. } => vec![output.clone(), output],
        _ => vec![output],
    });

    assert!(rules.contains(&Rule::OneReply), "{rules:?}");
}

#[test]
fn reply_that_never_comes_is_noticed() {
    let rules = breach(small(), |host, output| match &output {
        Output::Reply { .. } if host == HostIx(9) => Vec::new(),
        _ => vec![output],
    });

    assert!(rules.contains(&Rule::OneReply), "{rules:?}");
}

#[test]
fn request_that_is_passed_on_with_all_its_hops_is_noticed() {
    let line = Scenario {
        topology: headwater_sim::scenario::Topology::Line,
        ..small()
    };
    let rules = breach(line, |_, output| match output {
        Output::Send {
            to,
            message: Message::Sub(sub),
            priority,
        } => vec![Output::Send {
            to,
            message: Message::from(Sub {
                hops_left: MAX_HOPS,
                ..*sub
            }),
            priority,
        }],
        other => vec![other],
    });

    assert_eq!(rules, [Rule::HopLimit].into());
}

#[test]
fn loop_of_parents_that_lasts_is_noticed() {
    // Each of two hosts says, whatever it does, that the other is its parent.
    let ids = [20, 21].map(|host| id_of(&small(), host));
    let rules = breach(small(), move |host, output| match (host.0, output) {
        (
            20 | 21,
            Output::Observe(Event::ParentChanged {
                stream,
                from,
                to: Some(_),
            }),
        ) => {
            let other = ids[usize::from(host.0 == 20)];
            vec![Output::Observe(Event::ParentChanged {
                stream,
                from,
                to: Some(other),
            })]
        }
        (_, output) => vec![output],
    });

    assert_eq!(rules, [Rule::Loop].into());
}

#[test]
fn message_beyond_the_bounds_of_the_wire_is_noticed() {
    let rules = breach(small(), |_, output| match output {
        Output::Send {
            to,
            message: Message::SubAck(ack),
            priority,
        } => vec![Output::Send {
            to,
            message: Message::SubAck(SubAck {
                path: vec![1; MAX_PATH + 1],
                ..ack
            }),
            priority,
        }],
        other => vec![other],
    });

    assert!(rules.contains(&Rule::WireBounds), "{rules:?}");
}

#[test]
fn queue_of_control_messages_without_end_is_noticed() {
    let mut many = 10_000;
    let slow = Scenario {
        uplink: 2_000,
        ..small()
    };
    let rules = breach(slow, move |_, output| match &output {
        Output::Send {
            message: Message::SubAck(_),
            ..
        } => vec![output; std::mem::replace(&mut many, 1)],
        _ => vec![output],
    });

    assert!(rules.contains(&Rule::Queues), "{rules:?}");
}

#[test]
fn ring_beyond_its_bound_is_noticed() {
    let mut world = World::new(small());
    // The nodes run already, with the bounds of before.
    for host in &mut world.hosts {
        std::sync::Arc::make_mut(&mut host.config).ring_bytes = 1000;
    }

    assert_eq!(broken(world), [Rule::Queues].into());
}

#[test]
fn waking_up_again_and_again_is_noticed() {
    let mut world = World::new(small());
    let never_late = |host, wanted: Option<_>| match wanted {
        Some(_) if host == HostIx(9) => Some(Time::default()),
        _ => wanted,
    };
    world.saboteur = Some(Saboteur::Deadlines(Box::new(never_late)));

    assert!(broken(world).contains(&Rule::BusyLoop));
}

#[test]
fn accusation_of_a_correct_neighbour_is_noticed() {
    let peer = id_of(&small(), 12);
    let accuse = move || {
        let what = "nothing at all";
        Output::Observe(Event::Misbehaved { peer, what })
    };
    let rules = breach(small(), once(HostIx(9), accuse));

    assert_eq!(rules, [Rule::FalseAccusation].into());
}

#[test]
fn link_that_is_closed_for_nothing_is_noticed() {
    let peer = id_of(&small(), 12);
    let close = move || {
        let reason = DisconnectReason::Violations;
        Output::Disconnect { peer, reason }
    };
    let rules = breach(small(), once(HostIx(9), close));

    assert!(rules.contains(&Rule::FalseAccusation), "{rules:?}");
}

#[test]
fn dial_of_one_whom_nobody_has_named_is_noticed() {
    let peer = id_of(&small(), 33);
    let dial = move || Output::Dial {
        dial: DialId(u64::MAX),
        peer,
        addresses: Vec::new(),
    };
    let rules = breach(small(), once(HostIx(0), dial));

    assert_eq!(rules, [Rule::Dial].into());
}

#[test]
fn feed_of_one_whose_claim_does_not_hold_is_noticed() {
    let transcoder = id_of(&small(), 33);
    let feed = move || {
        Output::Observe(Event::FeedStarted {
            job: JobId(33),
            transcoder,
            direct: true,
        })
    };
    let rules = breach(small(), once(HostIx(0), feed));

    assert_eq!(rules, [Rule::Feed].into());
}

#[test]
fn a_failing_run_shrinks_to_the_deeds_that_matter() {
    // Host 9 repeats a part: its own viewer is all that it takes.
    let run = |scenario: &Scenario| {
        let mut world = World::new(scenario.clone());
        world.saboteur = Some(Saboteur::Outputs(Box::new(|host, output| match &output {
            Output::Deliver {
                delivery: Delivery::Part { .. },
                ..
            } if host == HostIx(9) => {
                vec![output.clone(), output]
            }
            _ => vec![output],
        })));
        let end = world.end();
        world.run(end, false);
        Failure::of(&world)
    };
    let scenario = Scenario {
        nodes: 20,
        duration: "8s".parse().unwrap(),
        ..small()
    };
    let failure = run(&scenario).expect("it fails");

    let shrunk = shrink(&scenario, &failure, run, |_| {});

    let deeds = World::new(shrunk.clone()).schedule;
    let only = shrunk.only.expect("it got smaller");
    let left: Vec<_> = deeds
        .iter()
        .enumerate()
        .filter(|(number, _)| only.contains(*number))
        .map(|(_, (_, deed))| deed.clone())
        .collect();
    let viewer = Deed::Subscribe {
        host: HostIx(9),
        broadcast: 0,
    };
    assert_eq!(left, [viewer]);
}
