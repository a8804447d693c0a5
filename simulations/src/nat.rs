//! A home router: translates UDP ports and lets in only who was called.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// How long a flow is remembered without a packet.
const FLOW_US: u64 = 30_000_000;

/// A port restricted NAT (RFC 4787: endpoint independent mapping, address and port dependent filtering).
#[derive(Debug, Default)]
pub(crate) struct PortRestricted {
    ports: BTreeMap<SocketAddr, u16>,
    inside: BTreeMap<u16, SocketAddr>,
    /// Outer port and far end: when the last packet passed.
    flows: BTreeMap<(u16, SocketAddr), u64>,
    next: u16,
}

impl PortRestricted {
    /// A packet leaves: gives the address that the far end sees.
    pub(crate) fn outbound(
        &mut self,
        public: Ipv4Addr,
        from: SocketAddr,
        to: SocketAddr,
        now_us: u64,
    ) -> SocketAddr {
        let port = match self.ports.get(&from) {
            Some(port) if self.is_alive(*port, now_us) => *port,
            Some(_) | None => {
                self.next = self.next.wrapping_add(1);
                let port = 20_000 + self.next % 40_000;
                if let Some(old) = self.ports.insert(from, port) {
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
        let mut nat = PortRestricted::default();
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
        let mut nat = PortRestricted::default();
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
}
