//! Routers that give every destination another port: ports are foretold, or met by chance (`docs/protocol.md` §8.4).

use std::net::SocketAddr;

use rand_core::Rng;

use super::means::{Means, Punch};
use super::spray::{Order, Spray};
use super::{PathEvent, PeerPath, WANTED_MS, nonce};
use crate::io::Method;
use crate::peering::Path;
use crate::probe::{Call, PortPlan, Probe};
use crate::record::{Candidate, CandidateKind, Nat};
use crate::time::Moment;

/// How long a search goes on before ports are met by chance.
const AFTER_MS: u64 = 600;
/// The same before ports are foretold: that is two dozen probes, and plain ones had a round trip by then.
const FORETOLD_AFTER_MS: u64 = 150;
/// Between two runs for one peer that found nothing.
const PAIR_MS: u64 = 600_000;
/// The same after the first few in which ports were foretold: something else may have taken those ports.
const FORETOLD_AGAIN_MS: [u64; 3] = [1000, 5000, 60_000];
/// The same after one that found a path, which was lost since.
const FOUND_AGAIN_MS: u64 = 60_000;
/// How long a run may take.
const RUN_MS: u64 = 10_000;
/// The same where ports are foretold.
const FORETOLD_RUN_MS: u64 = 1500;
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
    own: Nat,
    theirs: Option<Router>,
    /// What the two routers leave to do, and since when that is known.
    tactic: Option<(Tactic, u64)>,
    /// Since when the peer's own half of a run goes on.
    asked_ms: Option<u64>,
    /// When the next run may begin.
    rested_ms: u64,
    /// Runs that found nothing, one after the other.
    vain: usize,
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

    /// Judges the two routers anew.
    fn judge(&mut self, at: u64) {
        let new = self.theirs.map(|theirs| tactic(self.own, theirs.nat));
        if self.tactic.map(|(known, _)| known) != new {
            self.tactic = new.map(|new| (new, at));
        }
    }
}

/// How a router maps, as well as can be told: where one place alone saw it, it is taken for one that keeps the port if
/// it kept this one, else for one that nobody foresees. Plain probes find out first if it is better than that.
pub(super) fn guess(nat: Nat, candidates: &[Candidate]) -> Nat {
    let of = |kind| candidates.iter().filter(move |c| c.kind == kind);
    let mut seen = of(CandidateKind::Observed).filter(|c| c.address.is_ipv4());
    match (nat, seen.next()) {
        (Nat::Unknown, Some(seen)) => {
            let kept = |host: &Candidate| host.address.port() == seen.address.port();
            if of(CandidateKind::Host).any(kept) {
                Nat::Independent
            } else {
                Nat::Random
            }
        }
        (Nat::Unknown, None) => Nat::Unknown,
        (Nat::None | Nat::Independent | Nat::Sequential | Nat::Random, _) => nat,
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
    pub(super) fn learn_router(
        &mut self,
        call: &Call,
        target: Option<SocketAddr>,
        means: &Means,
        now: Moment,
    ) {
        let at = now.uptime_ms();
        let punching = &mut self.effort().punching;
        punching.own = means.guess();
        punching.theirs = target.map(|target| Router {
            nat: guess(call.nat, &call.candidates),
            plan: call.plan,
            target,
            told_ms: at,
        });
        punching.judge(at);
        if call.run {
            punching.asked_ms = Some(at);
        }
        if matches!(punching.tactic, Some((Tactic::Hopeless, _))) {
            self.effort().attempts.skip(Tactic::Hopeless, true, at);
        }
    }

    /// Learns how the own router maps.
    pub(super) fn learn_own_router(&mut self, nat: Nat, now: Moment) {
        if let Some(effort) = &mut self.effort {
            effort.punching.own = nat;
            effort.punching.judge(now.uptime_ms());
        }
    }

    pub(super) fn punch_on_time<R: Rng>(&mut self, means: &mut Means, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        if self.punch_ends(at) {
            self.end_run(means, at);
        } else if self.punch_is_due(at) {
            self.begin_run(means, now, rng);
        } else if self.punch_wished_ms().is_some_and(|due| due <= at) {
            // There was a reason when it was due, and there is none any more.
            self.effort().punching.rested_ms = at + 1;
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

    fn end_run(&mut self, means: &mut Means, at: u64) {
        let punching = &mut self.effort().punching;
        punching.until_ms = None;
        punching.spray = None;
        means.end_run(self.keys.tag_in());
        let found = self.is_direct();
        let effort = self.effort();
        effort.attempts.end_run(found);
        if found {
            // The address is the peer's. It may be shared, though.
            let again = at + FOUND_AGAIN_MS;
            effort.punching.vain = 0;
            effort.punching.rested_ms = effort.punching.rested_ms.min(again);
        }
        self.close_extras();
    }

    /// Whether it is time for a run: as soon as a search for which both routers are known went on for long enough, and
    /// there is a reason.
    fn punch_is_due(&self, at: u64) -> bool {
        self.punch_planned_ms().is_some_and(|due| due <= at) && self.is_worth_a_run(at)
    }

    fn punch_planned_ms(&self) -> Option<u64> {
        let effort = self.effort.as_deref()?;
        let punching = &effort.punching;
        if punching.runs() || self.is_direct() {
            return None;
        }
        let (tactic, since_ms) = punching.tactic?;
        let after = match tactic {
            Tactic::Plain | Tactic::Hopeless => return None,
            Tactic::Foretell | Tactic::Wait => FORETOLD_AFTER_MS,
            Tactic::Ports | Tactic::Sockets => AFTER_MS,
        };
        let since_ms = since_ms.max(effort.sought_ms?);
        Some(punching.rested_ms.max(since_ms + after))
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
        let reason = match punching.tactic {
            Some((Tactic::Foretell | Tactic::Wait, _)) => {
                self.used_ms.is_some_and(|ms| ms + WANTED_MS > at)
            }
            Some((Tactic::Plain | Tactic::Hopeless | Tactic::Ports | Tactic::Sockets, _))
            | None => false,
        };
        told && (asked || flows || reason || !effort.waiting.is_empty())
    }

    fn begin_run<R: Rng>(&mut self, means: &mut Means, now: Moment, rng: &mut R) {
        let at = now.uptime_ms();
        let punching = &mut self.effort().punching;
        let (Some(router), Some((tactic, _))) = (punching.theirs, punching.tactic) else {
            return;
        };
        let asked = punching.asked_ms.take().is_some();
        let by_chance = matches!(tactic, Tactic::Ports | Tactic::Sockets);
        let allowed = match means.punch {
            Punch::Full => true,
            Punch::Gentle => !by_chance,
            Punch::Off => false,
        };
        punching.rested_ms = at + PAIR_MS;
        if !allowed {
            self.effort().attempts.skip(tactic, allowed, at);
            return;
        }
        let (method, run_ms) = if by_chance {
            (Method::Birthday, RUN_MS)
        } else {
            (Method::Prediction, FORETOLD_RUN_MS)
        };
        let tag = self.keys.tag_in();
        let sockets = tactic == Tactic::Sockets;
        let Some(sockets) = means.start_run(tag, sockets, at + run_ms) else {
            // Another peer has its run now; this one comes after it.
            self.effort().punching.rested_ms = means.run_ends_ms().unwrap_or(at + RUN_MS);
            return;
        };
        let spray = self.spray(tactic, &router, sockets, at, rng);
        let target = spray.as_ref().map_or_else(String::new, Spray::target);
        let effort = self.effort();
        effort.attempts.begin_run(method, target, at);
        let punching = &mut effort.punching;
        punching.spray = spray;
        punching.until_ms = Some(at + run_ms);
        let again = FORETOLD_AGAIN_MS.get(punching.vain).filter(|_| !by_chance);
        punching.rested_ms = at + again.map_or(PAIR_MS, |ms| run_ms + ms);
        punching.vain += 1;
        if !asked {
            self.call_to_run(now);
        }
        if !by_chance {
            // The plain probes open the own router while the peer foretells.
            self.search_on(now);
        }
    }

    /// This end's half of a run.
    fn spray<R: Rng>(
        &self,
        tactic: Tactic,
        router: &Router,
        sockets: Vec<u16>,
        at: u64,
        rng: &mut R,
    ) -> Option<Spray> {
        let ip = router.target.ip();
        match tactic {
            Tactic::Foretell => {
                let own = self.effort.as_deref()?.punching.own;
                let order = match (own, self.keys.is_low()) {
                    (Nat::Sequential, true) => Order::Up,
                    (Nat::Sequential, false) => Order::Down,
                    (Nat::Unknown | Nat::None | Nat::Independent | Nat::Random, _) => Order::Once,
                };
                let known = |port| {
                    let path = Path::to(SocketAddr::new(ip, port));
                    self.candidates.get(&path).is_some()
                };
                let mut plan = router.plan;
                if self.effort.as_deref()?.punching.vain % 2 == 1 {
                    // The gaps that were seen may be as wide for what else the peer sends.
                    plan.step = plan.step.signum();
                }
                Some(Spray::foretold(ip, plan, order, known, at, rng))
            }
            Tactic::Ports => Some(Spray::random(ip, at, rng)),
            Tactic::Sockets => Some(Spray::sockets(router.target, sockets, at, rng)),
            Tactic::Plain | Tactic::Hopeless | Tactic::Wait => None,
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
        [spray, until, self.punch_wished_ms()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When a run is due. Without a reason, the next word of the engine or the peer brings one.
    fn punch_wished_ms(&self) -> Option<u64> {
        let planned = self.punch_planned_ms();
        planned.filter(|due| self.is_worth_a_run(*due))
    }
}
