//! The daemon and the command line of meshnode: adapters around the pure core.

use std::ffi::OsString;

pub mod carrier;
mod cli;
pub mod clock;
mod config;
mod control;
mod daemon;
pub mod demo;
pub mod endpoints;
mod failure;
pub mod host;
pub mod lab;
pub mod mapping;
mod output;
pub mod store;
pub mod swarm;
pub mod tunnel;
mod units;
mod volunteer;

/// Runs the command line with these arguments, the program's own name first; gives the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> u8 {
    cli::run(args)
}
