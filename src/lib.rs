//! The daemon and the command line of meshnode: adapters around the pure core.

pub mod demo;
pub mod lab;
