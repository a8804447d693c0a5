//! x

pub mod swarm;
