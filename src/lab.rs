//! The laboratory: machines, switches and NAT routers made of Linux namespaces, for the demo and the network tests.
//!
//! Everything is made by netlink from here; no `ip`, no `nft`, nothing of the machine's own network is touched. A
//! process first enters a [`World`]: user (when not root), mount, network and process namespaces of its own. Then
//! it builds a [`Lab`] that reads aloud:
//!
//! ```no_run
//! # use meshnode::lab::{Entry, Lab, World};
//! # fn main() -> Result<(), meshnode::lab::Error> {
//! let Entry::Inside(world) = World::enter()? else { return Ok(()) };
//! let lab = Lab::new(&world)?;
//! let inet = lab.switch("inet")?;
//! let vps = lab.machine("vps")?;
//! vps.attach(&inet, "203.0.113.1/24", None)?;
//! let home = lab.router("home").wan(&inet, "203.0.113.2/24").lan("192.168.1.1/24").build()?;
//! let nas = lab.machine("nas")?;
//! nas.attach(home.lan(), "192.168.1.10/24", Some("192.168.1.1"))?;
//! # Ok(())
//! # }
//! ```
//!
//! It is no measuring bench: there is no delay and no loss, and a NAT is what Linux makes of `masquerade`
//! (port-preserving mapping, port-restricted filtering).

mod error;
mod link;
mod machine;
mod namespace;
mod nat;
mod process;
mod router;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub use error::Error;
pub use link::Prefix;
pub use machine::Machine;
pub use process::{Ended, Process, Program, Stopwatch};
pub use router::{Router, RouterPlan};
pub use world::{Entry, World, require_tun};

use namespace::Namespace;

/// One laboratory: a place for switches, machines and routers that vanish with it.
#[derive(Debug)]
pub struct Lab {
    wires: Arc<Wires>,
    directory: PathBuf,
}

impl Lab {
    /// Makes an empty laboratory inside `world`.
    ///
    /// # Errors
    /// When the kernel refuses a namespace or the world's memory file system is full.
    pub fn new(world: &World) -> Result<Self, Error> {
        let directory = world.fresh_directory()?;
        let wires = Arc::new(Wires {
            namespace: Namespace::new("wires")?,
            next: AtomicU32::new(0),
        });
        Ok(Self { wires, directory })
    }

    /// Makes a switch: what is attached to it shares one Ethernet.
    ///
    /// # Errors
    /// When the kernel has no bridges or refuses one.
    pub fn switch(&self, name: &str) -> Result<Switch, Error> {
        Switch::new(&self.wires, name)
    }

    /// Makes a machine with this host name and no cable in it.
    ///
    /// # Errors
    /// When the kernel refuses a namespace, or the machine's directory cannot be made.
    pub fn machine(&self, name: &str) -> Result<Machine, Error> {
        Machine::new(name, self.directory.join(name))
    }

    /// Plans a NAT router; [`RouterPlan::build`] makes it.
    #[must_use]
    pub fn router(&self, name: &str) -> RouterPlan {
        RouterPlan::new(Arc::clone(&self.wires), name, self.directory.join(name))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What stays behind is in memory and goes with the world, so a failure here costs nothing.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The room where the cables run: one namespace that holds every switch of a laboratory.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) namespace: Namespace,
    next: AtomicU32,
}

impl Wires {
    /// A name that no other link in the room has; within the kernel's 15 bytes.
    pub(crate) fn fresh_name(&self, kind: &str) -> String {
        format!("{kind}{}", self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// A switch: a bridge in the room of the cables.
#[derive(Clone, Debug)]
pub struct Switch {
    pub(crate) wires: Arc<Wires>,
    pub(crate) bridge: String,
    name: String,
}

impl Switch {
    pub(crate) fn new(wires: &Arc<Wires>, name: &str) -> Result<Self, Error> {
        let bridge = wires.fresh_name("bridge");
        let added = bridge.clone();
        wires.namespace.run(move || link::add_bridge(&added))??;
        Ok(Self {
            wires: Arc::clone(wires),
            bridge,
            name: name.to_owned(),
        })
    }

    /// What it was called when it was made.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}
