//! How long routers remember a flow: between two probes of an idle path, learned for each local network.

use std::net::IpAddr;

/// Between two probes on a path that is idle, milliseconds: the first is below the 30 s after which routers usually
/// forget a UDP flow; the others are for those that forget sooner.
const STEPS_MS: [u64; 4] = [25_000, 12_000, 6000, 5000];
/// After which a longer gap is tried again.
const RETRY_MS: u64 = 24 * 3600 * 1000;
/// Least time between two steps down: many paths notice one loss.
const SETTLE_MS: u64 = 3000;
/// Local networks remembered.
const NETWORKS_MAX: usize = 8;

#[derive(Debug)]
struct Learned {
    network: Vec<IpAddr>,
    step: usize,
    changed_ms: u64,
}

/// What was learned of the local networks that this machine was in; the newest last.
#[derive(Debug)]
pub(super) struct Keepalive(Vec<Learned>);

impl Default for Keepalive {
    fn default() -> Self {
        let mut new = Self(Vec::new());
        new.enter(Vec::new(), 0);
        new
    }
}

impl Keepalive {
    /// The machine has these addresses now.
    pub(super) fn enter(&mut self, network: Vec<IpAddr>, at: u64) {
        let known = self.0.iter().position(|known| known.network == network);
        let entry = match known {
            Some(place) => self.0.remove(place),
            None => Learned {
                network,
                step: 0,
                changed_ms: at,
            },
        };
        if self.0.len() >= NETWORKS_MAX {
            self.0.remove(0);
        }
        self.0.push(entry);
    }

    fn here(&self) -> &Learned {
        self.0.last().expect("a network was entered at the start")
    }

    /// Between two probes on an idle path.
    pub(super) fn gap_ms(&self) -> u64 {
        STEPS_MS[self.here().step]
    }

    /// A path that was idle for so long was gone, and there again after new probes: a router had forgotten it.
    pub(super) fn forgotten(&mut self, idle_ms: u64, at: u64) {
        let gap_ms = self.gap_ms();
        let here = self
            .0
            .last_mut()
            .expect("a network was entered at the start");
        let settled = here.step == 0 || here.changed_ms + SETTLE_MS <= at;
        if idle_ms + SETTLE_MS >= gap_ms && settled {
            here.step = (here.step + 1).min(STEPS_MS.len() - 1);
            here.changed_ms = at;
        }
    }

    /// Tries a longer gap when this one is a day old.
    pub(super) fn on_time(&mut self, at: u64) {
        let here = self
            .0
            .last_mut()
            .expect("a network was entered at the start");
        if here.step > 0 && here.changed_ms + RETRY_MS <= at {
            here.step -= 1;
            here.changed_ms = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_forgets_is_asked_more_often_and_each_network_has_its_own_gap() {
        let mut keepalive = Keepalive::default();
        let home: Vec<IpAddr> = vec![[192, 168, 1, 2].into()];
        keepalive.enter(home.clone(), 0);
        keepalive.forgotten(25_000, 25_000);
        // What several paths notice at once is one loss; a path that was not idle says nothing.
        keepalive.forgotten(25_000, 25_500);
        keepalive.forgotten(5000, 60_000);
        assert_eq!(keepalive.gap_ms(), 12_000);
        keepalive.enter(vec![[10, 0, 0, 2].into()], 70_000);
        assert_eq!(keepalive.gap_ms(), 25_000);
        keepalive.enter(home, 80_000);
        keepalive.forgotten(12_000, 90_000);
        keepalive.forgotten(6000, 100_000);
        keepalive.forgotten(5000, 110_000);
        assert_eq!(keepalive.gap_ms(), 5000);
        keepalive.on_time(100_000 + RETRY_MS + 10_000);
        assert_eq!(keepalive.gap_ms(), 6000);
    }
}
