//! The command `headwater-sim`, and where its memory comes from.
//!
//! Thousands of nodes touch hundreds of megabytes in no order, so that much of a run is spent waiting for page
//! tables. All memory is therefore in huge pages and is never given back before the end, which the
//! system's allocator does only when its environment says so.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What the allocator reads when it starts, as a C string: a reference to an array is a plain pointer.
#[expect(
    unsafe_code,
    reason = "the allocator finds its settings by this name only"
)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static SETTINGS: &[u8; 77] =
    b"thp:always,metadata_thp:always,narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:-1\0";

fn main() -> ExitCode {
    headwater_sim::cli::main()
}
