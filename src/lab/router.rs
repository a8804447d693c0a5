//! A home router: one side in the world, one switch of its own inside, NAT in between.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Error, Machine, Prefix, Switch, Wires, nat};

const WAN: &str = "wan";
const LAN: &str = "lan";

/// What a router should be; [`RouterPlan::build`] makes it.
#[derive(Debug)]
pub struct RouterPlan {
    wires: Arc<Wires>,
    name: String,
    directory: PathBuf,
    wan: Option<(Switch, String)>,
    lan: Option<String>,
}

impl RouterPlan {
    pub(crate) fn new(wires: Arc<Wires>, name: &str, directory: PathBuf) -> Self {
        Self {
            wires,
            name: name.to_owned(),
            directory,
            wan: None,
            lan: None,
        }
    }

    /// The outer side: at which switch, with which address (`203.0.113.2/24`).
    #[must_use]
    pub fn wan(mut self, switch: &Switch, address: &str) -> Self {
        self.wan = Some((switch.clone(), address.to_owned()));
        self
    }

    /// The address on the inner side, at a switch of its own.
    #[must_use]
    pub fn lan(mut self, address: &str) -> Self {
        self.lan = Some(address.to_owned());
        self
    }

    /// Makes the router.
    ///
    /// # Errors
    /// When a side is missing, an address does not parse, or the kernel refuses or has no nf_tables.
    pub fn build(self) -> Result<Router, Error> {
        let (Some((outside, wan)), Some(lan)) = (self.wan, self.lan) else {
            return Err(Error::HalfRouter(self.name));
        };
        let (wan, lan): (Prefix, Prefix) = (wan.parse()?, lan.parse()?);
        let inside = Switch::new(&self.wires, &self.name)?;
        let machine = Machine::new(&self.name, self.directory)?;
        machine.attach_as(WAN, &outside, wan)?;
        machine.attach_as(LAN, &inside, lan)?;
        machine.inside(|| {
            nat::masquerade(WAN)?;
            // Last, so that nothing passes before the rules stand.
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
                .map_err(|error| Error::system("let a router forward", error))
        })??;
        Ok(Router { machine, inside })
    }
}

/// A home router: port-preserving mapping, port-restricted filtering, no hairpin, no port mapping protocol.
#[derive(Debug)]
pub struct Router {
    machine: Machine,
    inside: Switch,
}

impl Router {
    /// The switch on its inner side.
    #[must_use]
    pub const fn lan(&self) -> &Switch {
        &self.inside
    }

    /// The router itself, as a machine; its links are `wan` and `lan`.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Cuts the provider off.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unplug(&self) -> Result<(), Error> {
        self.machine.unplug(WAN)
    }

    /// Brings the provider back.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn plug(&self) -> Result<(), Error> {
        self.machine.plug(WAN)
    }
}
