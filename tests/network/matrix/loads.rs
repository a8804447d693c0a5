//! Cells that measure how much: bytes through the tunnel, and what a node costs that has nothing to do.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Stopwatch, World};

use super::outcome::{Bound, Outcome};
use super::scene::{Probes, Scene, VIA_MS, apart, end_of, home, is_linked};
use super::target::{Path, Target};
use super::{Cell, Company};
use crate::internet::Internet;
use crate::internet::plan::{Nat, Plan, WayOut};
use crate::internet::uplinks::Uplink;
use crate::lab;
use crate::node::{Node, agree, eventually};

/// Enough for a steady rate.
const COPY_BYTES: usize = 256 * 1024 * 1024;

/// The stream below which a path is upgraded: 100 Mbit/s, in parts of a millisecond. It warms up, then it is counted by
/// relay, and for as long after the direct path has opened.
const STREAM_PART: usize = 12_500;
const WARM_PARTS: u32 = 2_000;
const COUNTED_PARTS: u32 = 3_000;

/// Peers of an idle node, how long it may settle, and how long it is watched.
const PEERS: usize = 20;
const SETTLE: Duration = Duration::from_secs(60);
const WATCH: Duration = Duration::from_secs(60);

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn cells() -> Vec<Cell> {
    [
        Cell::new(
            "by relay at full speed",
            Target::other(Path::Relay),
            relay_speed,
        ),
        Cell::new(
            "by circuit at full speed",
            Target::other(Path::Relay),
            circuit_speed,
        ),
        Cell::new(
            "relay to direct at 100 Mbit/s",
            Target::other(Path::Direct),
            upgrade,
        ),
        Cell::in_world(
            "1400 bytes, black hole, a copy",
            Target::other(Path::Direct),
            black_hole,
        ),
        Cell::new("idle with 20 peers", Target::other(Path::Any), idle),
    ]
    .map(|cell| cell.with(Company::Alone))
    .into()
}

fn relay_speed(lab: &Lab, _: &Target) -> Outcome {
    let places = apart(Plan::of(Nat::Sym), Plan::of(Nat::Sym));
    let scene = Scene::new(lab, Uplink::IDEAL, places);
    let mut probes = Probes::start(&scene.ann, "ben");
    if probes.await_first(Stopwatch::start(), PATIENCE).is_none() {
        return Outcome::missed("no path by relay");
    }
    drop(probes);
    let mut outcome = Outcome::new(Vec::new());
    let rate = copy(&scene.ann, &scene.ben, COPY_BYTES);
    outcome.add("rate", "Mbit/s", Some(rate), Bound::AtLeast(600.0));
    outcome.end = Some(end_of(&scene.ann, "ben"));
    outcome
}

fn circuit_speed(lab: &Lab, _: &Target) -> Outcome {
    let places = apart(Plan::of(Nat::Port), Plan::of(Nat::Port));
    let mut scene = Scene::new(lab, Uplink::IDEAL, places);
    scene.separate();
    for site in [scene.here(), scene.there()] {
        site.change(|plan| plan.way_out = WayOut::Tcp443);
    }
    if scene.meet().is_none() {
        return Outcome::missed("not linked to the public member");
    }
    let mut probes = Probes::start(&scene.ann, "ben");
    if probes.await_first(Stopwatch::start(), PATIENCE).is_none() {
        return Outcome::missed("no path by circuit");
    }
    drop(probes);
    let mut outcome = Outcome::new(Vec::new());
    let rate = copy(&scene.ann, &scene.ben, COPY_BYTES);
    outcome.add("rate", "Mbit/s", Some(rate), Bound::AtLeast(300.0));
    outcome.end = Some(end_of(&scene.ann, "ben"));
    outcome
}

fn upgrade(lab: &Lab, _: &Target) -> Outcome {
    let places = apart(home(Nat::Port), home(Nat::Port));
    let mut scene = Scene::new(lab, Uplink::of_ms(VIA_MS), places);
    scene.separate();
    scene.internet.part(scene.here(), scene.there());
    if scene.meet().is_none() {
        return Outcome::missed("not linked to the public member");
    }
    let mut probes = Probes::start(&scene.ann, "ben");
    if probes.await_first(Stopwatch::start(), PATIENCE).is_none() {
        return Outcome::missed("no path by relay");
    }
    drop(probes);
    let (mut from, to) = connection(&scene.ann, &scene.ben);
    let reader = thread::spawn(move || drain(to));
    let watch = Stopwatch::start();
    let mut parts = 0;
    let mut stream = |more: u32| {
        for _ in 0..more {
            from.write_all(&[7; STREAM_PART]).unwrap();
            parts += 1;
            thread::sleep(Duration::from_millis(parts).saturating_sub(watch.elapsed()));
        }
        resent(scene.ann.machine())
    };
    let warm = stream(WARM_PARTS);
    let relayed = stream(COUNTED_PARTS);
    scene.internet.unite();
    let direct = stream(COUNTED_PARTS);
    drop(from);
    let arrived = reader.join().unwrap();
    let missing = STREAM_PART * (WARM_PARTS + 2 * COUNTED_PARTS) as usize - arrived;
    let mut outcome = Outcome::new(Vec::new());
    outcome.add("missing", "bytes", Some(missing as f64), Bound::AtMost(0.0));
    // A busy machine resends a little anyway.
    let before = relayed - warm;
    let more = (direct - relayed).saturating_sub(before);
    outcome.add(
        "resent by relay",
        "packets",
        Some(before as f64),
        Bound::Any,
    );
    outcome.add(
        "more resent",
        "packets",
        Some(more as f64),
        Bound::AtMost(0.0),
    );
    outcome.end = Some(end_of(&scene.ann, "ben"));
    outcome
}

fn black_hole(world: &World, _: &Target) -> Outcome {
    let narrow = Plan {
        mtu: Some(1400),
        black_hole: true,
        ..Plan::of(Nat::Port)
    };
    let mut rates = Vec::new();
    let mut end = String::new();
    for plan in [Plan::of(Nat::Port), narrow] {
        let places = apart(plan.clone(), plan);
        let lab = lab(world);
        let scene = Scene::new(&lab, Uplink::IDEAL, places);
        let mut probes = Probes::start(&scene.ann, "ben");
        if probes.await_direct(Stopwatch::start(), PATIENCE).is_none() {
            return Outcome::missed("no direct path to begin with");
        }
        drop(probes);
        rates.push(copy(&scene.ann, &scene.ben, COPY_BYTES));
        end = end_of(&scene.ann, "ben");
    }
    let mut outcome = Outcome::new(Vec::new());
    let share = rates[1] / rates[0] * 100.0;
    outcome.add("rate without", "Mbit/s", Some(rates[0]), Bound::Any);
    outcome.add("rate with", "Mbit/s", Some(rates[1]), Bound::Any);
    outcome.add("of the rate", "%", Some(share), Bound::AtLeast(80.0));
    outcome.end = Some(end);
    outcome
}

fn idle(lab: &Lab, _: &Target) -> Outcome {
    let internet = Internet::new(lab);
    let town = internet.site("town", Plan::of(Nat::Public));
    let house = internet.site("house", Plan::of(Nat::Port));
    let founder = Node::on(town.host(lab, "p1"));
    founder.init("matrix");
    let mut nodes = vec![founder];
    let ann = Node::on(house.host(lab, "ann"));
    ann.join(&nodes[0].invite(&[]));
    for number in 2..=PEERS {
        let node = Node::on(town.host(lab, &format!("p{number}")));
        node.join(&nodes[0].invite(&[]));
        nodes.push(node);
    }
    let all: Vec<&Node> = nodes.iter().chain([&ann]).collect();
    agree(&all, PEERS + 1);
    eventually("ann is linked to the founder", PATIENCE, || {
        is_linked(&ann, "p1")
    });
    thread::sleep(SETTLE);
    let (bytes, ticks) = (carried(ann.machine()), Cost::of(ann.machine()).ticks);
    thread::sleep(WATCH);
    let cost = Cost::of(ann.machine());
    let seconds = WATCH.as_secs_f64();
    let mut outcome = Outcome::new(Vec::new());
    let rate = (carried(ann.machine()) - bytes) as f64 * 8.0 / 1_000.0 / seconds;
    outcome.add("traffic", "kbit/s", Some(rate), Bound::AtMost(1.5));
    outcome.add(
        "memory",
        "MB",
        Some(cost.memory_kb as f64 / 1_000.0),
        Bound::AtMost(40.0),
    );
    // A hundred ticks a second.
    let share = (cost.ticks - ticks) as f64 / seconds;
    outcome.add("CPU", "%", Some(share), Bound::AtMost(0.5));
    outcome
}

/// Copies through the tunnel; Mbit/s.
fn copy(from: &Node, to: &Node, bytes: usize) -> f64 {
    let (mut from, to) = connection(from, to);
    let watch = Stopwatch::start();
    let reader = thread::spawn(move || drain(to));
    let part = vec![7; 64 * 1024];
    for _ in 0..bytes / part.len() {
        from.write_all(&part).unwrap();
    }
    drop(from);
    let arrived = reader.join().unwrap();
    arrived as f64 * 8.0 / 1e6 / watch.elapsed().as_secs_f64()
}

/// Both ends of a connection through the tunnel.
fn connection(from: &Node, to: &Node) -> (TcpStream, TcpStream) {
    let at = SocketAddr::new(to.addresses()[0], 5001);
    let listener = to.machine().inside(move || TcpListener::bind(at).unwrap());
    let stream = from
        .machine()
        .inside(move || TcpStream::connect_timeout(&at, PATIENCE).unwrap());
    (stream.unwrap(), listener.unwrap().accept().unwrap().0)
}

fn drain(mut stream: TcpStream) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut arrived = 0;
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        arrived += length;
    }
    arrived
}

/// TCP segments that a machine has sent more than once.
fn resent(machine: &Machine) -> u64 {
    let table = machine.inside(|| fs::read_to_string("/proc/thread-self/net/snmp"));
    let table = table.unwrap().unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("Tcp:"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let column = rows[0]
        .iter()
        .position(|name| *name == "RetransSegs")
        .unwrap();
    rows[1][column].parse().unwrap()
}

/// Bytes in and out of a machine's cable.
fn carried(machine: &Machine) -> u64 {
    let table = machine.inside(|| fs::read_to_string("/proc/thread-self/net/dev"));
    let table = table.unwrap().unwrap();
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"));
    let fields: Vec<u64> = line
        .unwrap()
        .split_whitespace()
        .map(|field| field.parse().unwrap())
        .collect();
    fields[0] + fields[8]
}

/// What the daemon of a machine has cost so far.
struct Cost {
    memory_kb: u64,
    ticks: u64,
}

impl Cost {
    fn of(machine: &Machine) -> Self {
        let network = machine.inside(|| fs::read_link("/proc/thread-self/ns/net"));
        let network = network.unwrap().unwrap();
        // The table of processes is the one from outside of the world.
        let processes = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        let mut inside = processes.filter(|path| {
            let same = fs::read_link(path.join("ns/net")).is_ok_and(|link| link == network);
            same && fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "meshnode\n")
        });
        let daemon = inside.next().expect("a daemon");
        let status = fs::read_to_string(daemon.join("status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|text| text.split_whitespace().next());
        let stat = fs::read_to_string(daemon.join("stat")).unwrap();
        // proc(5): after the name in brackets, the 12th and 13th field are time in user and kernel mode.
        let after: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks = |at: usize| after[at].parse::<u64>().unwrap();
        Self {
            memory_kb: memory.unwrap().parse().unwrap(),
            ticks: ticks(11) + ticks(12),
        }
    }
}
