//! Cells that are no pair of NATs: where machines stand, and what may leave their sites.

use meshnode::lab::{Lab, Stopwatch};

use super::Cell;
use super::outcome::Outcome;
use super::scene::{Places, Scene, VIA_MS, apart, home};
use super::target::Target;
use crate::internet::igd::{self, Speaks};
use crate::internet::plan::{Nat, Plan, V6, WayOut};
use crate::internet::uplinks::Uplink;
use crate::internet::{Internet, Site};
use crate::roads::strict_router;

pub(crate) fn cells() -> Vec<Cell> {
    let direct = Target::direct;
    vec![
        Cell::new("one LAN, provider cut off", direct(300, 300), one_lan),
        Cell::new(
            "one carrier NAT, hairpin",
            direct(500, 1_500),
            |lab, target| one_carrier(lab, target, true),
        ),
        Cell::new("one carrier NAT", Target::relay(500), |lab, target| {
            one_carrier(lab, target, false)
        }),
        Cell::new(
            "sym x sym, one router maps ports",
            direct(500, 2_000),
            mapped,
        ),
        Cell::new("UDP blocked x port", Target::relay(1_500), |lab, target| {
            restricted(lab, target, |_| WayOut::NoUdp)
        }),
        Cell::new(
            "TCP 443 only x port",
            Target::relay(1_500),
            |lab, target| restricted(lab, target, |_| WayOut::Tcp443),
        ),
        Cell::new("TLS at 443 only x port", Target::relay(1_500), strict_tls),
        Cell::new(
            "relay host only x port",
            Target::relay(1_500),
            |lab, target| {
                restricted(lab, target, |scene| {
                    WayOut::Only(scene.via_addresses.clone())
                })
            },
        ),
        Cell::new(
            "relay host TCP 443 only x port",
            Target::relay(1_500),
            |lab, target| {
                restricted(lab, target, |scene| {
                    WayOut::Only443(scene.via_addresses.clone())
                })
            },
        ),
        Cell::new(
            "IPv6 only x port with IPv6",
            direct(500, 1_000),
            |lab, target| with_v6(lab, target, V6::Firewalled),
        ),
        Cell::new(
            "IPv6 only x IPv4 only",
            Target::relay(1_000),
            |lab, target| with_v6(lab, target, V6::Off),
        ),
        Cell::new("one network inside both", direct(500, 1_000), same_network),
        Cell::new("130 ms, 2 % lost, 20 Mbit/s", direct(1_500, 2_500), lossy),
    ]
}

/// The cell of a pair of NATs.
pub(crate) fn pair(one: Nat, other: Nat) -> Cell {
    let target = super::target::target(one, other);
    Cell::new(&format!("{one} x {other}"), target, move |lab, target| {
        let places = apart(home(one), home(other));
        Scene::new(lab, Uplink::of_ms(VIA_MS), places).reunite(target)
    })
}

fn one_lan(lab: &Lab, target: &Target) -> Outcome {
    let mut scene = Scene::new(lab, Uplink::of_ms(VIA_MS), |internet, lab| {
        let site = internet.site("here", home(Nat::Port));
        Places {
            ann: site.host(lab, "ann"),
            ben: site.host(lab, "ben"),
            sites: vec![site],
        }
    });
    scene.separate();
    scene.sites[0].unplug();
    scene.ann.switch_on();
    scene.ben.switch_on();
    scene.measure(Stopwatch::start(), target)
}

fn one_carrier(lab: &Lab, target: &Target, hairpin: bool) -> Outcome {
    let place = |internet: &Internet<'_>, lab: &Lab| {
        let carrier = Plan {
            lan: Some([100, 64, 1]),
            hairpin,
            ..home(Nat::PortRand)
        };
        let carrier = internet.site("carrier", carrier);
        let [here, there] =
            ["here", "there"].map(|name| internet.site_behind(&carrier, name, Plan::of(Nat::Port)));
        Places {
            ann: here.host(lab, "ann"),
            ben: there.host(lab, "ben"),
            sites: vec![carrier, here, there],
        }
    };
    Scene::new(lab, Uplink::of_ms(VIA_MS), place).reunite(target)
}

fn mapped(lab: &Lab, target: &Target) -> Outcome {
    let places = apart(home(Nat::Sym), home(Nat::Sym));
    let mut scene = Scene::new(lab, Uplink::of_ms(VIA_MS), places);
    scene.separate();
    let igd = igd::serve_site(scene.here(), Speaks::All);
    let outcome = meet_and_measure(&mut scene, target);
    drop(igd);
    outcome
}

/// They join before the site closes; that strict sites let a newcomer join is another story.
fn restricted(lab: &Lab, target: &Target, way_out: fn(&Scene<'_>) -> WayOut) -> Outcome {
    let places = apart(home(Nat::Port), home(Nat::Port));
    let mut scene = Scene::new(lab, Uplink::of_ms(VIA_MS), places);
    scene.separate();
    let way_out = way_out(&scene);
    scene.here().change(|plan| plan.way_out = way_out);
    meet_and_measure(&mut scene, target)
}

/// A middlebox before one of the two cuts what is no TLS.
fn strict_tls(lab: &Lab, target: &Target) -> Outcome {
    let places = apart(home(Nat::Port), home(Nat::Port));
    let mut scene = Scene::new(lab, Uplink::of_ms(VIA_MS), places);
    scene.separate();
    scene.here().change(|plan| plan.way_out = WayOut::Tcp443);
    let middlebox = strict_router(scene.here());
    let outcome = meet_and_measure(&mut scene, target);
    drop(middlebox);
    outcome
}

fn with_v6(lab: &Lab, target: &Target, other: V6) -> Outcome {
    let alone = Plan {
        v4: false,
        v6: V6::Firewalled,
        ..home(Nat::Port)
    };
    let other = Plan {
        v6: other,
        ..home(Nat::Port)
    };
    Scene::new(lab, Uplink::of_ms(VIA_MS), apart(alone, other)).reunite(target)
}

fn same_network(lab: &Lab, target: &Target) -> Outcome {
    let plan = || Plan {
        lan: Some([192, 168, 1]),
        ..home(Nat::Port)
    };
    let mut scene = Scene::new(lab, Uplink::of_ms(VIA_MS), apart(plan(), plan()));
    // Somebody else is in ann's LAN where ben is in his own.
    let site: &Site = scene.here();
    let stranger = site.host(lab, "stranger");
    let outcome = scene.reunite(target);
    drop(stranger);
    outcome
}

fn lossy(lab: &Lab, target: &Target) -> Outcome {
    let uplink = |delay_ms| Uplink {
        delay_ms,
        jitter_ms: 5,
        loss_percent: 1,
        rate_mbit: Some(20),
    };
    let plan = |delay_ms| Plan {
        uplink: uplink(delay_ms),
        ..Plan::of(Nat::Port)
    };
    // Twice 25 + 40 ms; each packet between the two passes two uplinks.
    Scene::new(lab, Uplink::of_ms(VIA_MS), apart(plan(25), plan(40))).reunite(target)
}

fn meet_and_measure(scene: &mut Scene<'_>, target: &Target) -> Outcome {
    match scene.meet() {
        Some(watch) => scene.measure(watch, target),
        None => Outcome::missed("not linked to the public member"),
    }
}
