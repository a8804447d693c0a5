//! The daemon and the command line: adapters around the core.

pub mod store;
