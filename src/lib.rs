//! The daemon and the command line of meshnode: adapters around the pure core.

pub mod clock;
pub mod endpoints;
pub mod host;
pub mod lab;
pub mod store;
pub mod swarm;
pub mod tunnel;
