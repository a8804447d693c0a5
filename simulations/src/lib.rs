//! The shipped core of meshnode, many nodes, virtual time, one seed.
//!
//! A [`World`](world::World) drives real [`Node`](meshnode_protocol::node::Node)s the way the daemon does: it hands in
//! what happens, drains what they want, and carries that out on simulated disks, links, routers and clocks. Everything
//! that happens by chance follows from one number, so a run that breaks an invariant can be had again.

mod chance;
mod charter;
mod circuits;
mod control;
mod datagrams;
mod disk;
pub mod film;
pub mod growth;
mod invariants;
mod liar;
mod library;
mod machine;
mod nat;
mod network;
mod packets;
mod people;
pub mod picture;
mod relaying;
pub mod report;
mod rumours;
pub mod scenarios;
pub mod trace;
pub mod world;
