//! A home router: translates UDP ports and lets in only who was called.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// How long a flow is remembered without a packet.
const FLOW_US: u64 = 30_000_000;

/// How a router maps a port (RFC 4787 §4.1). All let in only the very address that was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// To one port, whoever is called.
    #[default]
    Independent,
    /// To another port for everybody, as if by chance.
    Random,
}

/// A NAT with address and port dependent filtering.
#[derive(Debug, Default)]
pub(crate) struct Nat {
    mapping: Mapping,
    /// By who is inside and, where it matters, whom it calls.
    ports: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    inside: BTreeMap<u16, SocketAddr>,
    /// Outer port and far end: when the last packet passed.
    flows: BTreeMap<(u16, SocketAddr), u64>,
    next: u16,
}

impl Nat {
    pub(crate) fn new(mapping: Mapping) -> Self {
        Self {
            mapping,
            ..Self::default()
        }
    }

    /// A packet leaves: gives the address that the far end sees.
    pub(crate) fn outbound(
        &mut self,
        public: Ipv4Addr,
        from: SocketAddr,
        to: SocketAddr,
        now_us: u64,
    ) -> SocketAddr {
        let called = match self.mapping {
            Mapping::Independent => None,
            Mapping::Random => Some(to),
        };
        let port = match self.ports.get(&(from, called)) {
            Some(port) if self.is_alive(*port, now_us) => *port,
            Some(_) | None => {
                let port = self.free_port();
                if let Some(old) = self.ports.insert((from, called), port) {
                    self.inside.remove(&old);
                }
                self.inside.insert(port, from);
                port
            }
        };
        self.flows.insert((port, to), now_us);
        (public, port).into()
    }

    /// A packet arrives: gives who inside it is for, if its sender was called lately.
    pub(crate) fn inbound(
        &mut self,
        port: u16,
        from: SocketAddr,
        now_us: u64,
    ) -> Option<SocketAddr> {
        let last = self.flows.get_mut(&(port, from))?;
        if *last + FLOW_US < now_us {
            return None;
        }
        *last = now_us;
        self.inside.get(&port).copied()
    }

    fn free_port(&mut self) -> u16 {
        loop {
            self.next = self.next.wrapping_add(1);
            let number = match self.mapping {
                Mapping::Independent => self.next,
                // Odd, so that every number comes once before any comes again; nobody guesses the next.
                Mapping::Random => self.next.wrapping_mul(40_503),
            };
            let port = 20_000 + number % 40_000;
            if !self.inside.contains_key(&port) {
                return port;
            }
        }
    }

    fn is_alive(&self, port: u16, now_us: u64) -> bool {
        let low = SocketAddr::from(([0, 0, 0, 0], 0));
        self.flows
            .range((port, low)..)
            .take_while(|((p, _), _)| *p == port)
            .any(|(_, last)| *last + FLOW_US >= now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_called_lately_gets_in() {
        let mut nat = Nat::default();
        let inside = SocketAddr::from(([192, 168, 1, 2], 41_640));
        let (called, stranger) = (
            SocketAddr::from(([5, 0, 0, 1], 41_640)),
            SocketAddr::from(([5, 0, 0, 2], 41_640)),
        );
        let outer = nat.outbound(Ipv4Addr::new(6, 0, 0, 1), inside, called, 0);
        assert_eq!(nat.inbound(outer.port(), called, 1), Some(inside));
        assert_eq!(nat.inbound(outer.port(), stranger, 1), None);
        assert_eq!(nat.inbound(outer.port(), called, FLOW_US + 2), None);
    }

    #[test]
    fn all_far_ends_see_one_port_while_the_mapping_lives() {
        let mut nat = Nat::default();
        let inside = SocketAddr::from(([192, 168, 1, 2], 41_640));
        let public = Ipv4Addr::new(6, 0, 0, 1);
        let one = nat.outbound(public, inside, SocketAddr::from(([5, 0, 0, 1], 1)), 0);
        let two = nat.outbound(public, inside, SocketAddr::from(([5, 0, 0, 2], 1)), 10);
        assert_eq!(one, two);
        let late = nat.outbound(
            public,
            inside,
            SocketAddr::from(([5, 0, 0, 2], 1)),
            3 * FLOW_US,
        );
        assert_ne!(one, late);
    }

    #[test]
    fn a_hard_router_shows_everybody_another_port_and_lets_in_only_who_was_called() {
        let mut nat = Nat::new(Mapping::Random);
        let inside = SocketAddr::from(([192, 168, 1, 2], 41_640));
        let public = Ipv4Addr::new(6, 0, 0, 1);
        let far = |port| SocketAddr::from(([5, 0, 0, 1], port));
        let [one, two, three] = [1, 2, 3].map(|port| nat.outbound(public, inside, far(port), 0));
        assert!(one != two && two != three && one != three);
        let steps = [(one, two), (two, three)];
        let steps = steps.map(|(a, b)| i32::from(b.port()) - i32::from(a.port()));
        assert!(steps.iter().all(|step| step.abs() > 64), "{steps:?}");
        assert_eq!(nat.outbound(public, inside, far(1), 5), one);
        assert_eq!(nat.inbound(one.port(), far(1), 9), Some(inside));
        assert_eq!(nat.inbound(one.port(), far(2), 9), None);
    }
}
