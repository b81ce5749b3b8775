//! The command `headwater-sim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater_sim::cli::main()
}
