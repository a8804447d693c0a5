//! The daemon and the command line of meshnode: adapters around the pure core.

mod clock;
mod config;
mod control;
mod failure;
mod units;
