//! Where others see this node: its address outside, and how its router maps (RFC 4787 §4.1).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::id::NodeId;
use crate::path::is_local;
use crate::probe::PortPlan;
use crate::record::Nat;

/// Observed addresses that we announce.
const OBSERVED_MAX: usize = 3;
/// How much older than the newest a sighting may be: two probes of an idle path, and some.
const FRESH_MS: u64 = 65_000;
/// The largest step from one mapped port to the next that still looks like a rule.
const STEP_MAX: i32 = 64;

/// Answers to what was sent in one burst come within this.
const OVERTAKEN_MS: u64 = 300;

/// Who saw this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vantage {
    /// A member, by a probe.
    Member(NodeId),
    /// A relay, at its address.
    Relay(SocketAddr),
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    /// Where it was seen.
    seen: SocketAddr,
    /// From where.
    by: SocketAddr,
    /// When that address was seen first, and last.
    first_ms: u64,
    last_ms: u64,
}

/// All sightings.
#[derive(Debug, Default)]
pub(super) struct Outside {
    sightings: BTreeMap<Vantage, Sighting>,
}

impl Outside {
    /// Remembers a sighting. Gives whether anything about it is new.
    pub(super) fn saw(&mut self, who: Vantage, by: SocketAddr, seen: SocketAddr, at: u64) -> bool {
        let known = self.sightings.get_mut(&who);
        match known.filter(|known| known.seen == seen && known.by == by) {
            Some(known) => {
                known.last_ms = at;
                false
            }
            None => {
                let sighting = Sighting {
                    seen,
                    by,
                    first_ms: at,
                    last_ms: at,
                };
                self.sightings.insert(who, sighting);
                true
            }
        }
    }

    /// Whether the same one saw this node elsewhere before.
    pub(super) fn is_elsewhere(&self, who: Vantage, by: SocketAddr, seen: SocketAddr) -> bool {
        let known = self.sightings.get(&who);
        known.is_some_and(|known| known.by == by && known.seen != seen)
    }

    pub(super) fn forget(&mut self, who: &Vantage) {
        self.sightings.remove(who);
    }

    pub(super) fn clear(&mut self) {
        self.sightings.clear();
    }

    fn fresh(&self) -> impl Iterator<Item = &Sighting> {
        let newest = self.sightings.values().map(|s| s.last_ms).max();
        let newest = newest.unwrap_or_default();
        let all = self.sightings.values();
        all.filter(move |sighting| sighting.last_ms + FRESH_MS >= newest)
    }

    /// Who saw this node where, lately.
    pub(super) fn sightings(&self) -> impl Iterator<Item = (Vantage, SocketAddr)> {
        let newest = self.sightings.values().map(|s| s.last_ms).max();
        let newest = newest.unwrap_or_default();
        let fresh = move |s: &Sighting| s.last_ms + FRESH_MS >= newest;
        let all = self.sightings.iter().filter(move |(_, s)| fresh(s));
        all.map(|(who, sighting)| (*who, sighting.seen))
    }

    /// The addresses that most saw lately, ascending.
    pub(super) fn observed(&self) -> Vec<SocketAddr> {
        let mut votes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for sighting in self.fresh().filter(|s| !is_local(&s.seen)) {
            *votes.entry(sighting.seen).or_default() += 1;
        }
        let mut addresses: Vec<_> = votes.into_iter().collect();
        addresses.sort_by_key(|(address, votes)| (std::cmp::Reverse(*votes), *address));
        addresses.truncate(OBSERVED_MAX);
        let mut addresses: Vec<_> = addresses.into_iter().map(|(address, _)| address).collect();
        addresses.sort_unstable();
        addresses
    }

    /// How the router maps the IPv4 port, by what was seen from at least two places, and which port comes next.
    pub(super) fn router(&self, own: &[IpAddr]) -> (Nat, PortPlan) {
        let fresh = self.fresh();
        let mut seen: Vec<_> = fresh
            .filter(|s| s.seen.is_ipv4() && !is_local(&s.seen))
            .collect();
        seen.sort_by_key(|sighting| (sighting.first_ms, sighting.by));
        sort_overtaken(&mut seen);
        // A machine that saw it twice, as a member and as a relay, is one place all the same, and the flow to it is as
        // old as its first word.
        let mut flows = BTreeSet::new();
        seen.retain(|sighting| flows.insert((sighting.by, sighting.seen)));
        let Some(last) = seen.last() else {
            return (Nat::Unknown, PortPlan::default());
        };
        let plan = PortPlan {
            last: last.seen.port(),
            step: 0,
        };
        if own.contains(&last.seen.ip()) {
            return (Nat::None, plan);
        }
        let mut places = BTreeSet::new();
        seen.reverse();
        seen.retain(|sighting| places.insert(sighting.by.ip()));
        seen.reverse();
        if places.len() < 2 {
            return (Nat::Unknown, plan);
        }
        // One that lies, or whose word is old, is outvoted by two that agree.
        let agree = |one: &&&Sighting| seen.iter().filter(|s| s.seen == one.seen).count();
        let most = seen.iter().max_by_key(agree).map_or(0, |one| agree(&one));
        let apart: Vec<_> = seen.iter().map(|s| i32::from(s.seen.port())).collect();
        if 2 * most > seen.len() {
            return (Nat::Independent, plan);
        }
        match step_of(&apart) {
            Some(step) => (Nat::Sequential, PortPlan { step, ..plan }),
            None => (Nat::Random, plan),
        }
    }
}

/// Puts in order what was asked in one burst and answered as the distances have it: routers that count do so upwards,
/// but for very few.
fn sort_overtaken(seen: &mut [&Sighting]) {
    for end in 1..seen.len() {
        for at in (1..=end).rev() {
            let [before, after] = [seen[at - 1], seen[at]];
            let gap = i32::from(before.seen.port()) - i32::from(after.seen.port());
            let together = before.first_ms + OVERTAKEN_MS > after.first_ms;
            if !together || !(1..=STEP_MAX).contains(&gap) {
                break;
            }
            seen.swap(at - 1, at);
        }
    }
}

/// The step by which ports follow one another, if they do: small, and all in one direction. The newest few count.
fn step_of(ports: &[i32]) -> Option<i16> {
    const NEWEST: usize = 4;
    let newest = &ports[ports.len().saturating_sub(NEWEST)..];
    let steps = newest.windows(2).map(|pair| pair[1] - pair[0]);
    let steps: Vec<_> = steps.filter(|step| *step != 0).collect();
    let smallest = steps.iter().copied().min_by_key(|step| step.abs())?;
    let follows = |step: &i32| step.abs() <= STEP_MAX && step.signum() == smallest.signum();
    let divides = |step: &i32| step % smallest == 0;
    // Of one gap alone nobody knows how many ports of others are in it.
    let step = if steps.len() > 1 && steps.iter().all(divides) {
        smallest
    } else {
        smallest.signum()
    };
    steps.iter().all(follows).then_some(step as i16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(number: u8) -> SocketAddr {
        ([198, 51, 100, number], 41_641).into()
    }

    fn seen_at(ports: &[u16]) -> Outside {
        let mut outside = Outside::default();
        for (number, port) in (1..).zip(ports) {
            let at = u64::from(number) * 1000;
            let seen = ([203, 0, 113, 9], *port).into();
            outside.saw(Vantage::Relay(from(number)), from(number), seen, at);
        }
        outside
    }

    #[test]
    fn the_router_is_known_by_what_two_places_see() {
        let router = |ports: &[u16]| seen_at(ports).router(&[]).0;
        assert_eq!(router(&[]), Nat::Unknown);
        assert_eq!(router(&[4000]), Nat::Unknown);
        assert_eq!(router(&[4000, 4000]), Nat::Independent);
        assert_eq!(router(&[4000, 4000, 9]), Nat::Independent);
        assert_eq!(router(&[4000, 4002]), Nat::Sequential);
        assert_eq!(router(&[4000, 4002, 4008]), Nat::Sequential);
        assert_eq!(router(&[4000, 3999, 3990]), Nat::Sequential);
        assert_eq!(router(&[4000, 4002, 3999]), Nat::Random);
        assert_eq!(router(&[4000, 40_000]), Nat::Random);
        let own = [IpAddr::from([203, 0, 113, 9])];
        assert_eq!(seen_at(&[4000]).router(&own).0, Nat::None);
    }

    #[test]
    fn the_plan_tells_the_newest_port_and_the_step() {
        let plan = |ports: &[u16]| seen_at(ports).router(&[]).1;
        let expected = |last, step| PortPlan { last, step };
        assert_eq!(plan(&[4000, 4004, 4010]), expected(4010, 1));
        assert_eq!(plan(&[4000, 4002, 4008]), expected(4008, 2));
        assert_eq!(plan(&[4000, 3998, 3996]), expected(3996, -2));
        // What lies between the only two may be flows to others.
        assert_eq!(plan(&[4000, 4002]), expected(4002, 1));
        assert_eq!(plan(&[4000, 40_000]), expected(40_000, 0));
    }

    #[test]
    fn answers_that_overtake_one_another_turn_no_router_around() {
        let mut outside = Outside::default();
        for (number, port, at) in [(1, 4002, 100), (2, 4000, 120), (3, 4001, 150)] {
            let seen = ([203, 0, 113, 9], port).into();
            outside.saw(Vantage::Relay(from(number)), from(number), seen, at);
        }
        let plan = PortPlan {
            last: 4002,
            step: 1,
        };
        assert_eq!(outside.router(&[]), (Nat::Sequential, plan));
    }

    #[test]
    fn a_machine_that_sees_as_member_and_as_relay_is_one_place() {
        // Else two words of one would outvote the other's.
        let mut outside = seen_at(&[4000, 4001]);
        let seen = ([203, 0, 113, 9], 4000).into();
        let node = NodeId::new(crate::identity::Secret::from_seed(&[1; 32]).public());
        outside.saw(Vantage::Member(node), from(1), seen, 3000);
        let plan = PortPlan {
            last: 4001,
            step: 1,
        };
        assert_eq!(outside.router(&[]), (Nat::Sequential, plan));
    }

    #[test]
    fn what_was_seen_long_before_the_newest_does_not_count() {
        let mut outside = seen_at(&[4000, 4000, 4000]);
        let late = 3000 + FRESH_MS;
        for number in [8, 9] {
            let seen = ([203, 0, 113, 77], 5000).into();
            let at = late + u64::from(number);
            outside.saw(Vantage::Relay(from(number)), from(number), seen, at);
        }
        assert_eq!(outside.observed(), [([203, 0, 113, 77], 5000).into()]);
        assert_eq!(outside.router(&[]).0, Nat::Independent);
    }
}
