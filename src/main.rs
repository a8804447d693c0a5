//! Parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(meshnode::run(std::env::args_os().collect()))
}
