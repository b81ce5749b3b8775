//! What must hold of whatever comes from outside, as functions of bytes.
//!
//! Each target takes any bytes, makes of them what an enemy could send, and panics when
//! something does not hold. `fuzz_targets/` has libFuzzer drive them (`scripts/fuzz`);
//! `tests/replay.rs` gives them the corpus, the seeds and some thousand seeded mutations
//! on every change.

mod bed;
mod core;
mod decode;
mod link;
mod material;
pub mod memory;
pub mod mutate;
pub mod seeds;
mod text;
mod trace;
mod viewer;

pub use self::core::{core, recorded};
pub use decode::decode;
pub use link::link;
pub use text::text;
pub use trace::trace;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called: its program, and the folder of its corpus.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// Bytes of an input; more teach nothing new.
    pub longest: usize,
    /// Bytes of the heap that a run may hold at a time, whatever the input.
    pub memory: usize,
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target {
        name: "decode",
        run: decode,
        longest: 4096,
        memory: 1 << 20,
    },
    Target {
        name: "link",
        run: link,
        longest: 64 << 10,
        memory: 8 << 20,
    },
    Target {
        name: "core",
        run: core,
        longest: 4096,
        memory: 8 << 20,
    },
    Target {
        name: "trace",
        run: trace,
        longest: 64 << 10,
        memory: 8 << 20,
    },
    Target {
        name: "text",
        run: text,
        longest: 2048,
        memory: 1 << 20,
    },
];
