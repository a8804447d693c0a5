//! Routers that give every destination another port: ports are foretold, or met by chance (`docs/protocol.md` §8.4).

use std::net::SocketAddr;

use rand_core::Rng;

use super::means::{Means, Punch};
use super::spray::{Order, Spray};
use super::{PathEvent, PeerPath, nonce};
use crate::io::Method;
use crate::peering::Path;
use crate::probe::{Call, PortPlan, Probe};
use crate::record::Nat;
use crate::time::Moment;

/// How long a search goes on before it comes to this.
const AFTER_MS: u64 = 600;
/// Between two runs for one peer.
const PAIR_MS: u64 = 600_000;
/// How long a run may take.
const RUN_MS: u64 = 10_000;
/// How long what a peer told of its router holds.
const TOLD_MS: u64 = 60_000;
/// Bytes within [`METER_MS`] that a relay has to carry before it is worth that: ten small packets.
const RELAYED_BYTES_MIN: u64 = 500;
const METER_MS: u64 = 5000;

/// The peer's router.
#[derive(Debug, Clone, Copy)]
struct Router {
    nat: Nat,
    plan: PortPlan,
    target: SocketAddr,
    told_ms: u64,
}

/// What there is to do about the two routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tactic {
    /// Nothing: plain probes do, or nothing does.
    Plain,
    /// Of no use: both give ports at random, or one at random and the other by a rule.
    Hopeless,
    /// The peer's ports are foretold.
    Foretell,
    /// The peer foretells: this end's plain probes open the way.
    Wait,
    /// Random ports of the peer's router are tried.
    Ports,
    /// Extra sockets take many ports of the own router.
    Sockets,
}

/// What is tried against routers.
#[derive(Debug, Default)]
pub(super) struct Punching {
    theirs: Option<Router>,
    /// Since when the peer's own half of a run goes on.
    asked_ms: Option<u64>,
    tried_ms: Option<u64>,
    spray: Option<Spray>,
    until_ms: Option<u64>,
    meter: (u64, u64),
}

impl Punching {
    pub(super) const fn runs(&self) -> bool {
        self.until_ms.is_some()
    }

    pub(super) fn their_nat(&self) -> Option<Nat> {
        self.theirs.map(|router| router.nat)
    }
}

/// What two routers leave to do.
pub(super) const fn tactic(own: Nat, theirs: Nat) -> Tactic {
    match (own, theirs) {
        (Nat::Unknown, _) | (_, Nat::Unknown) => Tactic::Plain,
        (Nat::None | Nat::Independent, Nat::None | Nat::Independent) => Tactic::Plain,
        (Nat::None | Nat::Independent | Nat::Sequential, Nat::Sequential) => Tactic::Foretell,
        (Nat::Sequential, Nat::None | Nat::Independent) => Tactic::Wait,
        (Nat::None | Nat::Independent, Nat::Random) => Tactic::Ports,
        (Nat::Random, Nat::None | Nat::Independent) => Tactic::Sockets,
        (Nat::Random, Nat::Sequential | Nat::Random) | (Nat::Sequential, Nat::Random) => {
            Tactic::Hopeless
        }
    }
}

impl PeerPath {
    /// Counts what a relay carries.
    pub(super) fn meter(&mut self, bytes: u64, now: Moment) {
        let at = now.uptime_ms();
        let relayed = self
            .active_path()
            .is_none_or(|path| path.remote().is_none());
        let meter = &mut self.effort().punching.meter;
        if meter.0 + METER_MS <= at {
            *meter = (at, 0);
        }
        if relayed {
            meter.1 = meter.1.saturating_add(bytes);
        }
    }

    /// Learns how the peer's router maps, and whether it begins its half of a run.
    pub(super) fn learn_router(&mut self, call: &Call, target: Option<SocketAddr>, now: Moment) {
        let at = now.uptime_ms();
        let punching = &mut self.effort().punching;
        punching.theirs = target.map(|target| Router {
            nat: call.nat,
            plan: call.plan,
            target,
            told_ms: at,
        });
        if call.run {
            punching.asked_ms = Some(at);
        }
    }

    pub(super) fn punch_on_time<R: Rng>(&mut self, means: &mut Means, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        if self.punch_ends(at) {
            self.end_run(means);
        } else if self.punch_is_due(at) {
            self.begin_run(means, now, rng);
        }
        let Some(effort) = self.effort.as_deref_mut() else {
            return;
        };
        let Some(spray) = &mut effort.punching.spray else {
            return;
        };
        for (txid, path) in spray.due(at) {
            let ping = Probe::Ping { txid, padding: 0 };
            let bytes = self.keys.seal(&ping, nonce(rng));
            self.events.push_back(PathEvent::Send(path, bytes));
        }
    }

    fn punch_ends(&self, at: u64) -> bool {
        let until_ms = self.effort.as_deref().and_then(|e| e.punching.until_ms);
        until_ms.is_some_and(|until| until <= at || self.is_direct())
    }

    fn end_run(&mut self, means: &mut Means) {
        let punching = &mut self.effort().punching;
        punching.until_ms = None;
        punching.spray = None;
        means.end_run(self.keys.tag_in());
        let found = self.is_direct();
        self.effort().attempts.end_run(found);
        self.close_extras();
    }

    /// Whether it is time for a run: as soon as a search went on for long enough, and there is a reason.
    fn punch_is_due(&self, at: u64) -> bool {
        self.punch_planned_ms().is_some_and(|due| due <= at) && self.is_worth_a_run(at)
    }

    fn punch_planned_ms(&self) -> Option<u64> {
        let effort = self.effort.as_deref()?;
        let punching = &effort.punching;
        let rested = punching.tried_ms.map_or(0, |ms| ms + PAIR_MS);
        if punching.runs() || self.is_direct() || punching.theirs.is_none() {
            return None;
        }
        Some(rested.max(effort.searched_ms? + AFTER_MS))
    }

    fn is_worth_a_run(&self, at: u64) -> bool {
        let Some(effort) = self.effort.as_deref() else {
            return false;
        };
        let punching = &effort.punching;
        let told = punching.theirs.is_some_and(|r| r.told_ms + TOLD_MS > at);
        let asked = punching.asked_ms.is_some_and(|ms| ms + RUN_MS > at);
        let (since, bytes) = punching.meter;
        let flows = since + METER_MS > at && bytes >= RELAYED_BYTES_MIN;
        told && (asked || flows || !effort.waiting.is_empty())
    }

    fn begin_run<R: Rng>(&mut self, means: &mut Means, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        let Some(router) = self.effort().punching.theirs else {
            return;
        };
        let asked = self.effort().punching.asked_ms.take().is_some();
        let tactic = tactic(means.nat, router.nat);
        let by_chance = matches!(tactic, Tactic::Ports | Tactic::Sockets);
        let allowed = match means.punch {
            Punch::Full => true,
            Punch::Gentle => !by_chance,
            Punch::Off => false,
        };
        self.effort().punching.tried_ms = Some(at);
        if !allowed || matches!(tactic, Tactic::Plain | Tactic::Hopeless) {
            self.effort().attempts.skip(tactic, allowed, at);
            return;
        }
        let tag = self.keys.tag_in();
        let sockets = tactic == Tactic::Sockets;
        let Some(sockets) = means.start_run(tag, sockets, at + RUN_MS) else {
            // Another peer has its run now; this one comes after it.
            self.effort().punching.tried_ms = Some((at + RUN_MS).saturating_sub(PAIR_MS));
            return;
        };
        let ip = router.target.ip();
        let spray = match tactic {
            Tactic::Foretell => {
                let order = match (means.nat, self.keys.is_low()) {
                    (Nat::Sequential, true) => Order::Up,
                    (Nat::Sequential, false) => Order::Down,
                    (Nat::Unknown | Nat::None | Nat::Independent | Nat::Random, _) => Order::Once,
                };
                Some(Spray::foretold(ip, router.plan, order, at, rng))
            }
            Tactic::Ports => Some(Spray::random(ip, at, rng)),
            Tactic::Sockets => Some(Spray::sockets(router.target, sockets, at, rng)),
            Tactic::Plain | Tactic::Hopeless | Tactic::Wait => None,
        };
        let method = if by_chance {
            Method::Birthday
        } else {
            Method::Prediction
        };
        let target = spray.as_ref().map_or_else(String::new, Spray::target);
        let effort = self.effort();
        effort.attempts.begin_run(method, target, at);
        effort.punching.spray = spray;
        effort.punching.until_ms = Some(at + RUN_MS);
        if !asked {
            self.call_to_run(now);
        }
        if tactic == Tactic::Wait || tactic == Tactic::Foretell {
            // The plain probes open the own router while the peer foretells.
            self.search_on(now);
        }
    }

    /// Takes an answer to a sprayed probe. Gives whether it was one.
    pub(super) fn sprayed(
        &mut self,
        txid: &[u8; 12],
        path: Path,
        means: &mut Means,
        now: Moment,
    ) -> bool {
        let at = now.uptime_ms();
        let spray = self
            .effort
            .as_deref()
            .and_then(|e| e.punching.spray.as_ref());
        if !spray.is_some_and(|spray| spray.asked(txid, &path)) {
            return false;
        }
        self.heard_ms = Some(at);
        self.add(path, None, now);
        let Some(known) = self.candidates.get_mut(&path) else {
            return true;
        };
        known.answered(None, at);
        if let Some(remote) = path.remote() {
            means.budget.answered(remote, self.keys.tag_in());
        }
        self.failures = 0;
        self.note_answer(&path, now);
        if self.better(&path, now) {
            self.activate(path, Some(at), now);
        }
        true
    }

    pub(super) fn punch_due_ms(&self) -> Option<u64> {
        let effort = self.effort.as_deref()?;
        let spray = effort.punching.spray.as_ref().and_then(Spray::due_ms);
        let until = effort.punching.until_ms;
        // Without a reason, the next word of the engine or the peer brings one.
        let planned = self.punch_planned_ms();
        let planned = planned.filter(|due| self.is_worth_a_run(*due));
        [spray, until, planned].into_iter().flatten().min()
    }
}
