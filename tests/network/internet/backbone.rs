//! A small internet: a backbone, and sites around it, each with a router of its kind and machines behind.
//!
//! Site number n has the outer address 25.0.n.2 at 25.0.n.1, and inside 192.168.n.0/24 (25.1.n.0/24 when it does
//! not translate), and of IPv6 2a10:ffff:n::/48. The ranges look like real ones on purpose: what is reserved for
//! documentation is refused by programs that map ports, and by filters for global addresses.

pub(crate) mod igd;
pub(crate) mod plan;
mod rules;
pub(crate) mod tools;
pub(crate) mod uplinks;
pub(crate) mod vantage;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Switch};

use self::plan::{Plan, V6};
use self::rules::{LAN, WAN};
use self::uplinks::{Uplink, Uplinks};

/// The first machine of a site.
const FIRST_HOST: u8 = 10;

/// The first outer address of a router that stands behind another.
const FIRST_INNER_ROUTER: u8 = 200;

/// What the backbone knows of, and the machines in it.
pub(crate) struct Internet<'lab> {
    lab: &'lab Lab,
    backbone: Rc<Machine>,
    sites: Cell<u8>,
    cables: Cell<u8>,
    uplinks: OnceCell<Uplinks>,
}

impl<'lab> Internet<'lab> {
    pub(crate) fn new(lab: &'lab Lab) -> Self {
        let backbone = lab.machine("backbone").unwrap();
        forwards(&backbone);
        Self {
            lab,
            backbone: Rc::new(backbone),
            sites: Cell::new(0),
            cables: Cell::new(0),
            uplinks: OnceCell::new(),
        }
    }

    /// A site at the backbone.
    pub(crate) fn site(&self, name: &str, plan: Plan) -> Site {
        let number = self.next_number();
        let outside = self.lab.switch(name).unwrap();
        let link = format!("eth{}", self.cables.replace(self.cables.get() + 1));
        let (v4, v6) = (format!("25.0.{number}"), v6_of(number));
        let mut near = Vec::from_iter(plan.v4.then(|| format!("{v4}.1/24")));
        near.extend((plan.v6 != V6::Off).then(|| format!("{v6}:ff::1/64")));
        attach(&self.backbone, &outside, &link, &near, &[]);
        let plug = Plug {
            addresses: Vec::from_iter(plan.v4.then(|| format!("{v4}.2"))),
            gateways: Vec::from_iter(plan.v4.then(|| format!("{v4}.1"))),
        };
        if plan.v4 && !plan.nat.translates() {
            let lan = text(lan_of(&plan, number));
            tools::ip(&self.backbone, &format!("route add {lan}.0/24 via {v4}.2"));
        }
        if let Some(mtu) = plan.mtu {
            tools::ip(&self.backbone, &format!("link set {link} mtu {mtu}"));
        }
        let uplink = plan.uplink;
        let site = Site::new(self.lab, name, number, plan, &outside, plug);
        if site.plan.borrow().v6 != V6::Off {
            let route = format!("route add {v6}::/48 via {v6}:ff::2");
            tools::ip_of(&self.backbone, "-6", &route);
        }
        self.set_uplink(&site, uplink);
        site
    }

    /// A site whose router is a machine of another site: two NATs in a row. IPv4 alone, and no uplink of its own.
    pub(crate) fn site_behind(&self, outer: &Site, name: &str, plan: Plan) -> Site {
        assert!(plan.v4 && plan.v6 == V6::Off && plan.uplink == Uplink::IDEAL);
        let number = self.next_number();
        let lan = text(lan_of(&outer.plan.borrow(), outer.number));
        let host = FIRST_INNER_ROUTER + number;
        let plug = Plug {
            addresses: vec![format!("{lan}.{host}")],
            gateways: vec![format!("{lan}.1")],
        };
        Site::new(self.lab, name, number, plan, &outer.lan, plug)
    }

    /// Changes a site's uplink from now on.
    pub(crate) fn set_uplink(&self, site: &Site, uplink: Uplink) {
        if uplink != Uplink::IDEAL || self.uplinks.get().is_some() {
            let uplinks = self.uplinks.get_or_init(|| Uplinks::start(&self.backbone));
            uplinks.set(site.number, uplink);
        }
    }

    /// Lets nothing pass between two sites.
    pub(crate) fn part(&self, one: &Site, other: &Site) {
        let nets = |site: &Site| {
            let number = site.number;
            format!("{{ 25.0.{number}.0/24, 25.1.{number}.0/24 }}")
        };
        let (one, other) = (nets(one), nets(other));
        let rules = format!(
            "table ip parted {{
                chain forward {{
                    type filter hook forward priority 0
                    ip saddr {one} ip daddr {other} drop
                    ip saddr {other} ip daddr {one} drop
                }}
            }}\n"
        );
        tools::nft(&self.backbone, &rules);
    }

    /// Lets everything pass again.
    pub(crate) fn unite(&self) {
        tools::nft(&self.backbone, "delete table ip parted");
    }

    fn next_number(&self) -> u8 {
        self.sites.set(self.sites.get() + 1);
        self.sites.get()
    }
}

/// A router and the switch behind it.
pub(crate) struct Site {
    number: u8,
    router: Machine,
    lan: Switch,
    plan: RefCell<Plan>,
    /// The outer address, when there is one of IPv4.
    wan: RefCell<Option<String>>,
    hosts: Cell<u8>,
    /// How often the router has lost its memory.
    lives: Cell<u32>,
}

/// The outer side of a router, of IPv4.
struct Plug {
    addresses: Vec<String>,
    gateways: Vec<String>,
}

impl Site {
    fn new(lab: &Lab, name: &str, number: u8, plan: Plan, outside: &Switch, plug: Plug) -> Self {
        let router = lab.machine(&format!("{name}-router")).unwrap();
        let lan = lab.switch(&format!("{name}-lan")).unwrap();
        let v6 = (plan.v6 != V6::Off).then(|| v6_of(number));
        let wan = plug.addresses.first().cloned();
        let mut outer: Vec<String> = plug
            .addresses
            .iter()
            .map(|own| format!("{own}/24"))
            .collect();
        let mut inner = Vec::from_iter(
            plan.v4
                .then(|| format!("{}.1/24", text(lan_of(&plan, number)))),
        );
        let mut gateways = plug.gateways;
        if let Some(v6) = v6 {
            outer.push(format!("{v6}:ff::2/64"));
            inner.push(format!("{v6}:1::1/64"));
            gateways.push(format!("{v6}:ff::1"));
        }
        attach(&router, outside, WAN, &outer, &gateways);
        attach(&router, &lan, LAN, &inner, &[]);
        if let Some(mtu) = plan.mtu {
            tools::ip(&router, &format!("link set {WAN} mtu {mtu}"));
        }
        let site = Self {
            number,
            router,
            lan,
            plan: RefCell::new(plan),
            wan: RefCell::new(wan),
            hosts: Cell::new(FIRST_HOST),
            lives: Cell::new(0),
        };
        site.guard();
        site.translate();
        // Last, so that nothing passes before the rules stand.
        forwards(&site.router);
        site
    }

    pub(crate) fn router(&self) -> &Machine {
        &self.router
    }

    /// The router's outer address.
    pub(crate) fn wan(&self) -> IpAddr {
        let wan = self.wan.borrow();
        wan.as_ref().expect("a site with IPv4").parse().unwrap()
    }

    /// The network inside as `192.168.1.0/24`.
    pub(crate) fn network(&self) -> String {
        format!("{}.0/24", text(lan_of(&self.plan.borrow(), self.number)))
    }

    /// A new machine inside.
    pub(crate) fn host(&self, lab: &Lab, name: &str) -> Machine {
        let machine = lab.machine(name).unwrap();
        self.connect(&machine);
        machine
    }

    /// Lays the cable of a machine that has none, and gives it the next addresses here; which.
    pub(crate) fn connect(&self, machine: &Machine) -> Vec<IpAddr> {
        let host = self.hosts.replace(self.hosts.get() + 1);
        let plan = self.plan.borrow();
        let (lan, v6) = (text(lan_of(&plan, self.number)), v6_of(self.number));
        let mut addresses = Vec::from_iter(plan.v4.then(|| format!("{lan}.{host}/24")));
        let mut gateways = Vec::from_iter(plan.v4.then(|| format!("{lan}.1")));
        if plan.v6 != V6::Off {
            addresses.push(format!("{v6}:1::{host}/64"));
            gateways.push(format!("{v6}:1::1"));
        }
        attach(machine, &self.lan, WAN, &addresses, &gateways);
        let bare = |address: &String| address.split('/').next().unwrap().parse().unwrap();
        addresses.iter().map(bare).collect()
    }

    /// Moves a machine with all that runs on it here, from another site or from another address of this one.
    pub(crate) fn take_in(&self, machine: &Machine) -> Vec<IpAddr> {
        machine.detach(WAN).unwrap();
        self.connect(machine)
    }

    /// Changes the plan. What is established keeps its mapping, unless the change is one of the NAT itself.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Plan)) {
        let before = self.plan.borrow().clone();
        change(&mut self.plan.borrow_mut());
        let now = self.plan.borrow().clone();
        self.guard();
        if (now.nat, now.hairpin) != (before.nat, before.hairpin) {
            self.forget();
        }
    }

    /// The router loses all mappings; new ones get other ports.
    pub(crate) fn forget(&self) {
        self.lives.set(self.lives.get() + 1);
        self.guard();
        self.translate();
    }

    /// The router is off for a while, and has forgotten everything afterwards.
    pub(crate) fn reboot(&self, pause: Duration) {
        for link in [WAN, LAN] {
            self.router.unplug(link).unwrap();
        }
        thread::sleep(pause);
        self.forget();
        for link in [LAN, WAN] {
            self.router.plug(link).unwrap();
        }
    }

    /// The provider gives the router another address.
    pub(crate) fn renumber(&self) -> IpAddr {
        let old = self.wan.borrow().clone().expect("a site with IPv4");
        let (net, host) = old.rsplit_once('.').unwrap();
        let new = format!("{net}.{}", host.parse::<u8>().unwrap() + 1);
        let lines = format!(
            "address del {old}/24 dev {WAN}\naddress add {new}/24 dev {WAN}\n\
             route replace default via {net}.1"
        );
        tools::ip(&self.router, &lines);
        *self.wan.borrow_mut() = Some(new);
        self.forget();
        self.wan()
    }

    /// Cuts the provider off.
    pub(crate) fn unplug(&self) {
        self.router.unplug(WAN).unwrap();
    }

    /// Brings the provider back.
    pub(crate) fn plug(&self) {
        self.router.plug(WAN).unwrap();
    }

    fn translate(&self) {
        let plan = self.plan.borrow();
        let seed = u32::from(self.number) * 7919 + self.lives.get() * 104_729 + 1;
        for rules in rules::translation(&plan, self.wan.borrow().as_deref(), seed) {
            tools::nft(&self.router, &rules);
        }
        // Last: a connection that began while the rules were half there would stay as it began.
        tools::forget_connections(&self.router);
    }

    fn guard(&self) {
        let plan = self.plan.borrow();
        tools::nft(
            &self.router,
            &rules::gate(&plan, self.wan.borrow().as_deref()),
        );
        if let Some(seconds) = plan.udp_seconds {
            for state in ["udp_timeout", "udp_timeout_stream"] {
                let name = format!("netfilter/nf_conntrack_{state}");
                tools::set(&self.router, &name, seconds);
            }
        }
    }
}

/// The site that an address belongs to.
fn site_of(address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [25, 0 | 1, site, _] => Some(site),
            _ => None,
        },
        IpAddr::V6(address) => match address.segments() {
            [0x2a10, 0xffff, site, ..] => u8::try_from(site).ok(),
            _ => None,
        },
    }
}

fn v6_of(site: u8) -> String {
    format!("2a10:ffff:{site:x}")
}

fn lan_of(plan: &Plan, site: u8) -> [u8; 3] {
    let own = if plan.nat.translates() {
        [192, 168, site]
    } else {
        [25, 1, site]
    };
    plan.lan.unwrap_or(own)
}

fn text([a, b, c]: [u8; 3]) -> String {
    format!("{a}.{b}.{c}")
}

/// Lays a cable with addresses of both families, and the ways to everywhere.
fn attach(machine: &Machine, to: &Switch, link: &str, addresses: &[String], gateways: &[String]) {
    let (first, others) = addresses.split_first().expect("a family at least");
    machine.attach(to, first, None).unwrap();
    for address in others {
        machine.add_address(link, address).unwrap();
    }
    for gateway in gateways {
        let family = if gateway.contains(':') { "-6" } else { "-4" };
        tools::ip_of(
            machine,
            family,
            &format!("route add default via {gateway} dev {link}"),
        );
    }
}

/// Makes a machine pass on what is not for it, by routes alone.
fn forwards(machine: &Machine) {
    for link in ["all", "default"] {
        tools::set(machine, &format!("ipv4/conf/{link}/rp_filter"), 0);
        tools::set(machine, &format!("ipv4/conf/{link}/send_redirects"), 0);
        tools::set(machine, &format!("ipv6/conf/{link}/forwarding"), 1);
    }
    tools::set(machine, "ipv4/ip_forward", 1);
}
