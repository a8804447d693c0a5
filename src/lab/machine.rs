//! A machine: a namespace with a host name, cables into switches, a directory of its own and programs in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::namespace::Namespace;
use super::process::{self, Program};
use super::{Error, Prefix, Switch, Wires, link};

/// A machine of the laboratory; everything that runs in it ends with it.
#[derive(Debug)]
pub struct Machine {
    name: String,
    namespace: Namespace,
    directory: PathBuf,
    cables: Mutex<BTreeMap<String, Cable>>,
}

/// The other end of a cable: in the room of the cables, under this name.
#[derive(Debug)]
struct Cable {
    wires: Arc<Wires>,
    near: String,
}

impl Machine {
    pub(crate) fn new(name: &str, directory: PathBuf) -> Result<Self, Error> {
        std::fs::create_dir_all(&directory)
            .map_err(|error| Error::system("make a machine's directory", error))?;
        let namespace = Namespace::new(name)?;
        let cables = Mutex::new(BTreeMap::new());
        Ok(Self {
            name: name.to_owned(),
            namespace,
            directory,
            cables,
        })
    }

    /// Its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own directory, in memory; removed with the laboratory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Lays a cable to `switch`: the next of `eth0`, `eth1`.. gets `address` (`192.168.1.10/24`), is up, and is the
    /// way to everywhere when there is a `gateway`.
    ///
    /// # Errors
    /// When an address does not parse or the kernel refuses.
    pub fn attach(
        &self,
        switch: &Switch,
        address: &str,
        gateway: Option<&str>,
    ) -> Result<(), Error> {
        let interface = format!("eth{}", self.cables().len());
        self.attach_as(&interface, switch, address.parse()?)?;
        let Some(gateway) = gateway else {
            return Ok(());
        };
        let gateway: IpAddr = gateway
            .parse()
            .map_err(|_| Error::Address(gateway.to_owned()))?;
        self.namespace
            .run(move || link::add_default_route(&interface, gateway))?
    }

    pub(crate) fn attach_as(
        &self,
        interface: &str,
        switch: &Switch,
        prefix: Prefix,
    ) -> Result<(), Error> {
        let near = switch.wires.fresh_name("cable");
        let far = self.namespace.raw_fd();
        let (bridge, near_end, far_end) =
            (switch.bridge.clone(), near.clone(), interface.to_owned());
        switch
            .wires
            .namespace
            .run(move || link::add_cable(&bridge, &near_end, &far_end, far))??;
        let cable = Cable {
            wires: Arc::clone(&switch.wires),
            near,
        };
        self.cables().insert(interface.to_owned(), cable);
        let interface = interface.to_owned();
        self.namespace.run(move || {
            link::add_address(&interface, prefix)?;
            link::bring_up(&interface)
        })?
    }

    /// Gives `interface` one more address, of either family.
    ///
    /// # Errors
    /// When the address does not parse or the kernel refuses.
    pub fn add_address(&self, interface: &str, address: &str) -> Result<(), Error> {
        let (interface, prefix) = (interface.to_owned(), address.parse()?);
        self.namespace
            .run(move || link::add_address(&interface, prefix))?
    }

    /// Pulls the cable of `interface` out of the switch; addresses and routes stay, as on a real machine.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn unplug(&self, interface: &str) -> Result<(), Error> {
        self.at_the_switch(interface, link::take_down)
    }

    /// Puts the cable of `interface` back.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn plug(&self, interface: &str) -> Result<(), Error> {
        self.at_the_switch(interface, link::bring_up)?;
        self.at_the_switch(interface, link::await_forwarding)
    }

    /// Removes `interface` with its addresses, routes and cable: the first half of moving elsewhere.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn detach(&self, interface: &str) -> Result<(), Error> {
        self.at_the_switch(interface, link::remove)?;
        self.cables().remove(interface);
        Ok(())
    }

    /// Runs `act` inside the machine, on its keeper's thread: sockets opened there stay there.
    ///
    /// # Errors
    /// [`Error::Gone`] when the keeper has ended.
    ///
    /// # Panics
    /// When `act` panics, with its words.
    pub fn inside<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.namespace.run(act)
    }

    /// A program to be started inside the machine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Program<'_> {
        Program::new(self, program.as_ref())
    }

    /// The open namespace, in the numbering of this process.
    pub(crate) fn network_fd(&self) -> RawFd {
        self.namespace.raw_fd()
    }

    fn at_the_switch(
        &self,
        interface: &str,
        act: fn(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (wires, near) = {
            let cables = self.cables();
            let cable = cables
                .get(interface)
                .ok_or_else(|| Error::Gone(interface.to_owned()))?;
            (Arc::clone(&cable.wires), cable.near.clone())
        };
        wires.namespace.run(move || act(&near))?
    }

    fn cables(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Cable>> {
        self.cables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        process::kill_all_in(self.namespace.inode());
    }
}
