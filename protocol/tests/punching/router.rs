//! Routers as small pure machines (RFC 4787): how they map, and whom they let in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

/// How long a flow is remembered without a packet.
const FLOW_US: u64 = 30_000_000;

/// What stands between a node and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Nothing.
    Public,
    /// A firewall that lets in who was called.
    PubFw,
    /// One port for all, and all may come.
    FullCone,
    /// One port for all; whose address was called may come.
    Addr,
    /// The same with address and port, and the port is kept.
    Port,
    /// The same with another port.
    PortRand,
    /// A random port for each address.
    SymAddr,
    /// The next port for each address and port.
    SymSeq,
    /// A random port for each address and port.
    Sym,
    /// Like [`Self::Port`], but what comes unasked takes the port away from who asks later.
    Early,
}

impl Kind {
    /// The nine that the matrix is of.
    pub(crate) const ALL: [Self; 9] = [
        Self::Public,
        Self::PubFw,
        Self::FullCone,
        Self::Addr,
        Self::Port,
        Self::PortRand,
        Self::SymAddr,
        Self::SymSeq,
        Self::Sym,
    ];

    pub(crate) const fn is_public(self) -> bool {
        matches!(self, Self::Public | Self::PubFw)
    }
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    inside: u16,
    /// Of the far end, as far as the mapping depends on it.
    ip: Option<IpAddr>,
    port: Option<u16>,
}

#[derive(Debug)]
pub(crate) struct Router {
    kind: Kind,
    pub(crate) public: Ipv4Addr,
    mapped: BTreeMap<Flow, u16>,
    inside: BTreeMap<u16, u16>,
    /// Outer port and far end: when the last packet left.
    called: BTreeMap<(u16, SocketAddr), u64>,
    /// What came unasked: it has the port until it is forgotten.
    unasked: BTreeMap<(u16, SocketAddr), u64>,
    next: u16,
}

impl Router {
    pub(crate) fn new(kind: Kind, public: Ipv4Addr) -> Self {
        Self {
            kind,
            public,
            mapped: BTreeMap::new(),
            inside: BTreeMap::new(),
            called: BTreeMap::new(),
            unasked: BTreeMap::new(),
            next: 20_000,
        }
    }

    /// Forgets everything.
    pub(crate) fn reboot(&mut self) {
        let next = self.next;
        *self = Self::new(self.kind, self.public);
        self.next = next;
    }

    /// A packet leaves by an inner port: gives where the far end sees it come from.
    pub(crate) fn leave(
        &mut self,
        inside: u16,
        to: SocketAddr,
        now_us: u64,
        rng: &mut ChaCha20Rng,
    ) -> SocketAddr {
        let port = if self.kind.is_public() {
            inside
        } else {
            self.map(inside, to, now_us, rng)
        };
        self.called.insert((port, to), now_us);
        (self.public, port).into()
    }

    fn map(&mut self, inside: u16, to: SocketAddr, now_us: u64, rng: &mut ChaCha20Rng) -> u16 {
        let (ip, far) = match self.kind {
            Kind::SymAddr => (Some(to.ip()), None),
            Kind::SymSeq | Kind::Sym => (Some(to.ip()), Some(to.port())),
            _ => (None, None),
        };
        let flow = Flow {
            inside,
            ip,
            port: far,
        };
        if let Some(port) = self.mapped.get(&flow).copied() {
            if self.lives(port, now_us) {
                return port;
            }
            self.inside.remove(&port);
        }
        let taken = self.unasked.get(&(inside, to));
        let taken = taken.is_some_and(|at| at + FLOW_US > now_us);
        let mut port = match self.kind {
            Kind::SymSeq => {
                self.next = self.next.wrapping_add(1).max(1024);
                self.next
            }
            Kind::Port | Kind::Addr | Kind::Early if !taken => inside,
            _ => 0,
        };
        while port < 1024 || self.inside.contains_key(&port) {
            port = rng.next_u32() as u16;
        }
        self.mapped.insert(flow, port);
        self.inside.insert(port, inside);
        port
    }

    fn lives(&self, port: u16, now_us: u64) -> bool {
        let low = SocketAddr::from(([0, 0, 0, 0], 0));
        let flows = self.called.range((port, low)..);
        let mut flows = flows.take_while(|((outer, _), _)| *outer == port);
        flows.any(|(_, last)| *last + FLOW_US >= now_us)
    }

    /// A packet arrives at an outer port: gives the inner one, if it is let in.
    pub(crate) fn arrive(&mut self, port: u16, from: SocketAddr, now_us: u64) -> Option<u16> {
        let fresh = |last: &u64| *last + FLOW_US >= now_us;
        let asked = self.called.get(&(port, from)).is_some_and(fresh);
        let address = self.called.iter();
        let mut address =
            address.filter(|((outer, far), _)| *outer == port && far.ip() == from.ip());
        let passes = match self.kind {
            Kind::Public => return Some(port),
            Kind::FullCone => self.lives(port, now_us),
            Kind::Addr => address.any(|(_, last)| fresh(last)),
            _ => asked,
        };
        if !passes {
            if self.kind == Kind::Early {
                self.unasked.insert((port, from), now_us);
            }
            return None;
        }
        if asked {
            self.called.insert((port, from), now_us);
        }
        if self.kind.is_public() {
            return Some(port);
        }
        self.inside.get(&port).copied()
    }
}
