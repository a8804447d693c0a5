//! The relays where this node is reachable: reservations are made, and made anew when they are lost.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::transport::ListenerId;
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::link::LinkInput;
use meshnode_protocol::record::ControlAddress;
use tokio::time::Instant;

use super::address;
use super::state::State;

/// The homes, and what is under way with each.
#[derive(Default)]
pub(super) struct Homes {
    all: BTreeMap<PeerId, Home>,
}

struct Home {
    key: TransportKey,
    addresses: Vec<ControlAddress>,
    /// Whether the core wants it. What it does not want any more stays until its connection ends: a reservation costs
    /// nothing, and libp2p does not take every end of one well.
    wanted: bool,
    stage: Stage,
    /// Attempts that failed since it last stood.
    tries: u32,
    /// When the next thing is to be done.
    due: Instant,
    /// Since when, and how often, the relay had the reservation renewed.
    renewals: (Instant, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is under way.
    Away,
    /// A connection to the relay is.
    Reaching,
    /// The relay was asked.
    Asking(ListenerId),
    /// The reservation stands.
    Standing(ListenerId),
}

impl Home {
    fn again(&mut self, now: Instant) {
        self.stage = Stage::Away;
        self.due = now + pause(self.tries);
        self.tries += 1;
    }
}

/// After the first loss a second, then twice as long each time.
fn pause(tries: u32) -> Duration {
    PAUSE_MAX.min(PAUSE_MIN * 2u32.saturating_pow(tries.min(16)))
}

impl Homes {
    /// When something is to be done next.
    pub(super) fn due(&self) -> Option<Instant> {
        let is_waiting =
            |home: &&Home| home.wanted && matches!(home.stage, Stage::Away | Stage::Reaching);
        self.all
            .values()
            .filter(is_waiting)
            .map(|home| home.due)
            .min()
    }

    /// Whether a peer is a home that the core wants.
    pub(super) fn has(&self, peer: &PeerId) -> bool {
        self.all.get(peer).is_some_and(|home| home.wanted)
    }

    fn by_listener(&mut self, listener: ListenerId) -> Option<(PeerId, &mut Home)> {
        self.all.iter_mut().find_map(|(peer, home)| {
            let is_its = [Stage::Asking(listener), Stage::Standing(listener)].contains(&home.stage);
            is_its.then_some((*peer, home))
        })
    }
}

impl State {
    /// Takes the whole list of homes.
    pub(super) fn set_homes(&mut self, homes: Vec<(TransportKey, Vec<ControlAddress>)>) {
        let now = Instant::now();
        for home in self.homes.all.values_mut() {
            home.wanted = false;
        }
        for (key, addresses) in homes.into_iter().take(HOMES_MAX) {
            let Some(peer) = address::peer_id(&key) else {
                continue;
            };
            // The core calls members by itself; a connection of its own is as good.
            let is_direct = self.swarm.behaviour().guard.is_direct(&peer);
            let home = self.homes.all.entry(peer).or_insert_with(|| Home {
                key,
                addresses: Vec::new(),
                wanted: false,
                stage: Stage::Away,
                tries: 0,
                due: if is_direct { now } else { now + GRACE },
                renewals: (now, 0),
            });
            home.wanted = true;
            home.addresses = addresses;
            if matches!(home.stage, Stage::Standing(_)) {
                let (relay, stands) = (key, true);
                self.happened
                    .push_back(LinkInput::Reserved { relay, stands });
            }
        }
        self.homes.all.retain(|_, home| {
            home.wanted || matches!(home.stage, Stage::Asking(_) | Stage::Standing(_))
        });
        self.tend_homes(now);
    }

    /// Does what is due.
    pub(super) fn tend_homes(&mut self, now: Instant) {
        let due: Vec<_> = self
            .homes
            .all
            .iter()
            .filter(|(_, home)| home.wanted && home.due <= now)
            .map(|(peer, home)| (*peer, home.stage))
            .collect();
        for (peer, stage) in due {
            match stage {
                Stage::Away if self.direct_link(&peer).is_some() => self.reserve(peer, now),
                Stage::Away => {
                    let Some(home) = self.homes.all.get_mut(&peer) else {
                        continue;
                    };
                    home.stage = Stage::Reaching;
                    home.due = now + REACH_TIME_MAX;
                    let addresses = home.addresses.clone();
                    self.reach(peer, &addresses);
                }
                Stage::Reaching => self.on_home_unreachable(&peer, now),
                // Both end by themselves.
                Stage::Asking(_) | Stage::Standing(_) => {}
            }
        }
    }

    /// A connection to a peer stands that leads by no relay.
    pub(super) fn on_home_reached(&mut self, peer: PeerId, now: Instant) {
        let home = self.homes.all.get(&peer).filter(|home| home.wanted);
        if home.is_some_and(|home| matches!(home.stage, Stage::Away | Stage::Reaching)) {
            self.reserve(peer, now);
        }
    }

    /// No connection to a relay came about.
    pub(super) fn on_home_unreachable(&mut self, peer: &PeerId, now: Instant) {
        let home = self.homes.all.get_mut(peer);
        if let Some(home) = home.filter(|home| home.stage == Stage::Reaching) {
            home.again(now);
        }
    }

    fn reserve(&mut self, peer: PeerId, now: Instant) {
        let Some(at) = self.direct_link(&peer).map(|link| link.remote) else {
            return;
        };
        let listener = self.swarm.listen_on(address::home(&at, peer));
        let Some(home) = self.homes.all.get_mut(&peer) else {
            return;
        };
        match listener {
            Ok(listener) => home.stage = Stage::Asking(listener),
            Err(error) => {
                tracing::warn!(%error, "A reservation cannot be asked for");
                home.again(now);
            }
        }
    }

    /// A relay granted a reservation, or a longer one.
    pub(super) fn on_reserved(&mut self, peer: &PeerId, now: Instant) {
        let Some(home) = self.homes.all.get_mut(peer) else {
            return;
        };
        if let Stage::Asking(listener) = home.stage {
            home.stage = Stage::Standing(listener);
            home.tries = 0;
            home.renewals = (now, 0);
            let (relay, stands) = (home.key, true);
            tracing::info!("A relay keeps a reservation");
            self.happened
                .push_back(LinkInput::Reserved { relay, stands });
            return;
        }
        let (since, count) = &mut home.renewals;
        if now.duration_since(*since) >= RENEWALS_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > RENEWALS_MAX {
            tracing::debug!(reason = "renewed too often", "A relay is left");
            home.tries = TRIES_OF_A_LIAR;
            if self.swarm.disconnect_peer_id(*peer).is_err() {
                tracing::debug!(reason = "not connected", "There is nobody to leave");
            }
        }
    }

    /// A listener ended; if it was a reservation, that one is lost.
    pub(super) fn on_listener_closed(&mut self, listener: ListenerId) {
        let Some((peer, home)) = self.homes.by_listener(listener) else {
            return;
        };
        let stood = matches!(home.stage, Stage::Standing(_));
        home.again(Instant::now());
        let (relay, wanted) = (home.key, home.wanted);
        if !wanted {
            self.homes.all.remove(&peer);
        }
        if stood {
            tracing::info!("A relay keeps no reservation any more");
            let stands = false;
            self.happened
                .push_back(LinkInput::Reserved { relay, stands });
        }
    }
}

/// Homes at a time: a member has one or two.
const HOMES_MAX: usize = 8;
/// How long the core may take to begin to connect by itself.
const GRACE: Duration = Duration::from_millis(300);
/// How long a connection to a relay may take.
const REACH_TIME_MAX: Duration = Duration::from_secs(20);
/// The first pause.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// An honest relay has a reservation renewed once in minutes or never.
const RENEWALS_MAX: u32 = 10;
/// The time in which that many may be.
const RENEWALS_WINDOW: Duration = Duration::from_secs(60);
/// So many that the longest pause follows.
const TRIES_OF_A_LIAR: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_a_second_to_a_minute() {
        let seconds: Vec<_> = (0..8).map(|tries| pause(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
        assert_eq!(pause(TRIES_OF_A_LIAR), PAUSE_MAX);
    }
}
