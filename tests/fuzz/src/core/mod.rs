//! Bytes as a list of things that happen to one node.

mod act;
mod say;

use arbitrary::{Arbitrary as _, Unstructured};
use headwater_proto::Roles;

use crate::bed::{Bed, Tape, config};
use act::Step;

/// Makes the bytes into inputs of one node, with times, and gives them to it.
///
/// # Panics
/// When the node does what no correct node does: see `bed.rs` and `viewer.rs`.
pub fn core(data: &[u8]) {
    drop(run(data, None));
}

/// As [`core()`], and returns a recording of it.
///
/// # Panics
/// As [`core()`].
#[must_use]
pub fn recorded(data: &[u8]) -> Vec<u8> {
    let tape = Tape::default();
    drop(run(data, Some(tape.clone())));
    tape.take()
}

fn run(data: &[u8], tape: Option<Tape>) -> Bed {
    let mut choices = Unstructured::new(data);
    let roles = choices.arbitrary().unwrap_or(0_u8);
    let roles = Roles {
        relayer: roles & 1 != 0,
        broadcaster: roles & 2 != 0,
        transcoder: roles & 4 != 0,
    };
    let mut bed = Bed::new(config(roles), tape);
    while !choices.is_empty() {
        let Ok(step) = Step::arbitrary(&mut choices) else {
            break;
        };
        step.apply(&mut bed);
    }
    bed
}
