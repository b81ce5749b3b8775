//! A thousand random schedules: one broadcaster, one transcoder, some relays, and
//! everything that can go wrong between them, or with the job: it is taken from the
//! transcoder and given back. Whatever does, the transcoder gets every part once or is told
//! of a gap, and in the end it is fed again.

use crate::common::run;
use headwater_protocol::Time;
use headwater_sim::{
    dice::Dice,
    scenario::{Distance, Scenario, Span},
    world::World,
};

/// Nothing goes wrong before this, in milliseconds ...
const FIRST_MS: u64 = 5_000;
/// ... and everything has gone wrong and was mended by then.
const LAST_MS: u64 = 16_000;
/// So long after that, everybody has what there is.
const QUIET_MS: u64 = 14_000;
/// What was published in the last so many milliseconds may still be on its way.
const GRACE_MS: u64 = 1_500;

/// The schedule with a number.
fn schedule(seed: u64) -> Scenario {
    let mut dice = Dice::new(seed, "schedule");
    let nodes = 8 + small(&mut dice, 6);
    let faults = 1 + dice.below(4);
    Scenario {
        seed,
        nodes,
        relayers: 50,
        transcoders: 1,
        viewers: Some(small(&mut dice, 3)),
        join: Span::from_millis(4_000),
        // Half of all transcoders can't be dialled.
        nat: if dice.percent(50) { 100 } else { 0 },
        late: Span::from_millis(u64::from(dice.percent(30)) * dice.below(4_000)),
        distance: [Distance::Lan, Distance::Fixed, Distance::Internet][dice.index(3)],
        bitrate: 200,
        part: Span::from_millis(400),
        duration: Span::from_millis(LAST_MS + QUIET_MS),
        faults: (0..faults)
            .map(|_| fault(&mut dice).parse().expect("a fault"))
            .collect(),
        ..Scenario::default()
    }
}

/// A number below `bound`.
fn small(dice: &mut Dice, bound: u64) -> u32 {
    u32::try_from(dice.below(bound)).expect("bounds are small")
}

/// Something goes wrong at some time, for some time.
fn fault(dice: &mut Dice) -> String {
    let at = FIRST_MS + dice.below(LAST_MS - FIRST_MS - 1_000);
    let lasting = 200 + dice.below((LAST_MS - at).min(4_000) - 200);
    match dice.below(12) {
        0 => format!("cut:{}%@{at}ms", 20 + dice.below(81)),
        1 | 2 => format!("direct:1@{at}ms"),
        3 => format!("crash:{}@{at}ms+{lasting}ms", 1 + dice.below(3)),
        4 => format!("vanish:{}@{at}ms+{lasting}ms", 1 + dice.below(3)),
        5 => format!("parent:1@{at}ms+{lasting}ms"),
        6 => format!("freeze:{}@{at}ms+{lasting}ms", 1 + dice.below(3)),
        7 => format!("partition:{}%@{at}ms+{lasting}ms", 20 + dice.below(41)),
        8 => format!("broadcaster:1@{at}ms+{lasting}ms"),
        9 => format!("withdraw:1@{at}ms+{lasting}ms"),
        10 => format!("revoke:1@{at}ms+{lasting}ms"),
        _ => format!("transcoder:1@{at}ms+{lasting}ms"),
    }
}

/// What is wrong about a world that has come to its end.
fn wrongs(world: &World) -> Vec<String> {
    let breaches = world.checks.kept.iter();
    let mut wrongs: Vec<_> = breaches.map(|breach| format!("{breach:?}")).collect();
    let transcoder = world.scenario.nodes - 1;
    let Some(session) = world.sessions.iter().rfind(|s| s.host.0 == transcoder) else {
        return vec!["there is no job".to_owned()];
    };
    let broadcast = &world.broadcasts[0];
    let late = Time::from_micros(world.now().as_micros() - GRACE_MS * 1_000);
    let due = |number: u64| broadcast.due(world.shape(), number) <= late;
    let owed = (0..=broadcast.published).take_while(|n| due(*n)).count() as u64;
    let next = session.range.map_or(0, |(_, next)| next);
    if next < owed {
        wrongs.push(format!("the transcoder has {next} of {owed} parts"));
    }
    wrongs
}

fn hold(seeds: impl IntoIterator<Item = u64>) {
    let mut failed = Vec::new();
    for seed in seeds {
        let scenario = schedule(seed);
        let command = scenario.command();
        let world = run(scenario);
        let wrongs = wrongs(&world);
        if !wrongs.is_empty() {
            failed.push(format!("{command}\n    {}", wrongs.join("\n    ")));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of them fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn schedules_beyond_the_thousand_that_failed_once_hold() {
    hold([2_389, 3_456, 4_269, 7_204, 56_462, 67_715]);
}

macro_rules! hundreds {
    ($($name:ident: $seeds:expr),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                hold($seeds);
            }
        )*
    };
}

hundreds! {
    a_transcoder_is_fed_through_schedules_1_to_125: 1..126,
    a_transcoder_is_fed_through_schedules_126_to_250: 126..251,
    a_transcoder_is_fed_through_schedules_251_to_375: 251..376,
    a_transcoder_is_fed_through_schedules_376_to_500: 376..501,
    a_transcoder_is_fed_through_schedules_501_to_625: 501..626,
    a_transcoder_is_fed_through_schedules_626_to_750: 626..751,
    a_transcoder_is_fed_through_schedules_751_to_875: 751..876,
    a_transcoder_is_fed_through_schedules_876_to_1000: 876..1001,
}
