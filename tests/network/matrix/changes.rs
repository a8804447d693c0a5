//! Cells in which something changes below two nodes that talk.

use std::thread;
use std::time::Duration;

use meshnode::lab::{Lab, Stopwatch};

use super::outcome::{Bound, Outcome};
use super::scene::{HOME_MS, Probes, Scene, VIA_MS, apart, card, end_of, home, millis};
use super::target::{Path, Target};
use super::{Cell, Company};
use crate::internet::plan::{Nat, Plan, WayOut};
use crate::internet::uplinks::Uplink;

/// How long a change may silence two nodes before the cell gives up.
const GAP_LIMIT: Duration = Duration::from_secs(30);

/// How long two nodes may take to find each other before anything changes.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// How long they talk before it does.
const SETTLED: Duration = Duration::from_secs(3);

/// How long nobody says anything where mappings are short.
const IDLE: Duration = Duration::from_secs(600);

pub(crate) fn cells() -> Vec<Cell> {
    let target = Target::other(Path::Direct);
    vec![
        Cell::new("UDP blocked for a while", target, udp_blocked),
        Cell::new("machine moves to another site", target, |lab, _| {
            change(lab, [1_500, 3_000], |scene| {
                let cafe = scene.internet.site("cafe", home(Nat::Port));
                cafe.take_in(scene.ben.machine());
                scene.sites.push(cafe);
            })
        }),
        Cell::new("machine gets another address", target, |lab, _| {
            change(lab, [1_500, 3_000], |scene| {
                scene.there().take_in(scene.ben.machine());
            })
        }),
        Cell::new("router gets another address", target, |lab, _| {
            change(lab, [1_500, 3_000], |scene| {
                scene.there().renumber();
            })
        }),
        Cell::new("cable out for 5 s", target, |lab, _| {
            change(lab, [1_500, 3_000], |scene| {
                scene.ben.machine().unplug("eth0").unwrap();
                thread::sleep(Duration::from_secs(5));
                scene.ben.machine().plug("eth0").unwrap();
            })
        }),
        Cell::new("router reboots for 2 s", target, |lab, _| {
            change(lab, [3_000, 4_000], |scene| {
                scene.there().reboot(Duration::from_secs(2));
            })
        }),
        Cell::new("mappings of 10 s, idle for 10 min", target, idle).with(Company::First),
        Cell::new(
            "relay dies, another is there",
            Target::other(Path::Relay),
            relay_dies,
        ),
    ]
}

/// Two nodes that talk directly, port-restricted NATs between them; nothing when they do not.
fn talking(lab: &Lab, plan: Plan) -> Option<(Scene<'_>, Probes)> {
    let places = apart(plan, home(Nat::Port));
    let scene = Scene::new(lab, Uplink::of_ms(VIA_MS), places);
    let mut probes = Probes::start(&scene.ann, "ben");
    probes.await_direct(Stopwatch::start(), SETTLE_LIMIT)?;
    thread::sleep(SETTLED);
    Some((scene, probes))
}

const NEVER: &str = "no direct path to begin with";

/// After a change: how long no answer comes, and how long none by a direct path. The change is over when `act` is.
fn change(lab: &Lab, [gap_ms, direct_ms]: [u32; 2], act: impl FnOnce(&mut Scene<'_>)) -> Outcome {
    let Some((mut scene, mut probes)) = talking(lab, home(Nat::Port)) else {
        return Outcome::missed(NEVER);
    };
    act(&mut scene);
    let mut outcome = Outcome::new(Vec::new());
    add_return(&mut outcome, &mut probes, [gap_ms, direct_ms]);
    drop(probes);
    outcome.end = Some(end_of(&scene.ann, "ben"));
    outcome
}

fn add_return(outcome: &mut Outcome, probes: &mut Probes, [gap_ms, direct_ms]: [u32; 2]) {
    let watch = Stopwatch::start();
    let asked = probes.asked();
    let later = |line: &serde_json::Value| line["seq"].as_u64() > asked;
    let gap = probes.await_answer(watch, GAP_LIMIT, later);
    outcome.add("gap", "ms", gap.map(millis), Bound::AtMost(gap_ms.into()));
    let direct = probes.await_answer(watch, GAP_LIMIT, |line| {
        later(line) && line["path"]["kind"] == "direct"
    });
    outcome.add(
        "direct",
        "ms",
        direct.map(millis),
        Bound::AtMost(direct_ms.into()),
    );
}

fn udp_blocked(lab: &Lab, _: &Target) -> Outcome {
    let Some((scene, mut probes)) = talking(lab, home(Nat::Port)) else {
        return Outcome::missed(NEVER);
    };
    let mut outcome = Outcome::new(Vec::new());
    scene.here().change(|plan| plan.way_out = WayOut::NoUdp);
    let gap = probes.gap(GAP_LIMIT);
    outcome.add(
        "gap, blocked",
        "ms",
        gap.map(millis),
        Bound::AtMost(3_000.0),
    );
    scene.here().change(|plan| plan.way_out = WayOut::All);
    add_return(&mut outcome, &mut probes, [3_000, 15_000]);
    drop(probes);
    outcome.end = Some(end_of(&scene.ann, "ben"));
    outcome
}

/// Both have nothing to say for a long time, and routers forget quickly.
fn idle(lab: &Lab, _: &Target) -> Outcome {
    let short = Plan {
        udp_seconds: Some(10),
        ..home(Nat::Port)
    };
    let Some((scene, probes)) = talking(lab, short.clone()) else {
        return Outcome::missed(NEVER);
    };
    scene
        .there()
        .change(|plan| plan.udp_seconds = short.udp_seconds);
    drop(probes);
    thread::sleep(IDLE);
    let mut probes = Probes::start(&scene.ann, "ben");
    let first = probes.await_first(Stopwatch::start(), GAP_LIMIT);
    let line = probes.answers().into_iter().next().unwrap_or_default();
    drop(probes);
    // The probe itself knows its round trip; the watch also counts the start of the program.
    let trip = line["rtt_ms"].as_f64().filter(|_| line["seq"] == 1);
    let mut outcome = Outcome::new(Vec::new());
    let best = f64::from(4 * HOME_MS);
    outcome.add("first probe", "ms", trip, Bound::AtMost(best + 50.0));
    outcome.add("first answer", "ms", first.map(millis), Bound::Any);
    outcome.end = Some(end_of(&scene.ann, "ben"));
    outcome
}

fn relay_dies(lab: &Lab, _: &Target) -> Outcome {
    let places = apart(home(Nat::Sym), home(Nat::Sym));
    let mut scene = Scene::new(lab, Uplink::of_ms(VIA_MS), places);
    let mut other = scene.second_via("second");
    let mut probes = Probes::start(&scene.ann, "ben");
    if probes
        .await_first(Stopwatch::start(), SETTLE_LIMIT)
        .is_none()
    {
        return Outcome::missed("no path by relay to begin with");
    }
    thread::sleep(SETTLED);
    let path = card(&scene.ann, "ben").unwrap_or_default();
    match path["path"]["via"].as_str() {
        Some("via") => scene.via.kill(),
        Some("second") => other.kill(),
        Some(_) | None => return Outcome::missed("status names no relay"),
    }
    let gap = probes.gap(GAP_LIMIT);
    drop(probes);
    let mut outcome = Outcome::new(Vec::new());
    outcome.add("gap", "ms", gap.map(millis), Bound::AtMost(3_000.0));
    outcome.end = Some(end_of(&scene.ann, "ben"));
    outcome
}
