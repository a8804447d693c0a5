//! The daemon and the command line of meshnode: adapters around the pure core.

mod control;
mod failure;
mod units;
