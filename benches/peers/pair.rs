//! Two machines with a cable between them, and what their processes cost.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use meshnode::lab::{Ended, Lab, Machine, Process, World};

/// The ends of the cable.
pub(crate) const OUTSIDE: [&str; 2] = ["10.99.0.1", "10.99.0.2"];
/// The addresses inside the tunnel, where the product does not choose its own.
pub(crate) const INSIDE: [&str; 2] = ["10.98.0.1", "10.98.0.2"];
/// Processes that measure and are not measured.
const OURS: [&str; 3] = ["iperf3", "ping", "sh"];
const LIMIT: Duration = Duration::from_secs(60);

/// Whether the cable takes packets that are to be cut later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offloads {
    On,
    Off,
}

impl Offloads {
    pub(crate) fn parse(word: &str) -> Result<Self, String> {
        match word {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            other => Err(format!("--offloads is on or off, not {other}")),
        }
    }
}

/// The two machines; the first sends.
pub(crate) struct Pair {
    machines: [Machine; 2],
    _lab: Lab,
}

impl Pair {
    pub(crate) fn new(world: &World, offloads: Offloads) -> Self {
        let lab = Lab::new(world).unwrap();
        let switch = lab.switch("cable").unwrap();
        let machines = ["left", "right"].map(|name| lab.machine(name).unwrap());
        for (machine, address) in machines.iter().zip(OUTSIDE) {
            machine
                .attach(&switch, &format!("{address}/24"), None)
                .unwrap();
            if offloads == Offloads::Off {
                // What leaves a machine is at most as long as its MTU, as with a card that cuts nothing.
                let cuts = "ethtool -K eth0 tso off gso off tx-udp-segmentation off gro on";
                shell(machine, cuts);
            }
        }
        Self {
            machines,
            _lab: lab,
        }
    }

    pub(crate) const fn machines(&self) -> &[Machine; 2] {
        &self.machines
    }

    pub(crate) const fn left(&self) -> &Machine {
        &self.machines[0]
    }

    pub(crate) const fn right(&self) -> &Machine {
        &self.machines[1]
    }

    /// Processor time of the product's processes so far, in seconds, and the largest memory they had, in kB.
    pub(crate) fn cost(&self) -> (f64, f64) {
        let places: Vec<u64> = self.machines.iter().map(inode).collect();
        let (mut seconds, mut kilobytes) = (0.0, 0.0);
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(place) = fs::metadata(entry.path().join("ns/net")) else {
                continue;
            };
            let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let name = read("comm");
            if !places.contains(&place.ino()) || OURS.contains(&name.trim_end()) {
                continue;
            }
            seconds += processor_seconds(&read("stat"));
            kilobytes += peak_kilobytes(&read("status"));
        }
        (seconds, kilobytes)
    }
}

/// The number of a machine's network namespace.
fn inode(machine: &Machine) -> u64 {
    let inside = machine.inside(|| fs::metadata("/proc/thread-self/ns/net").unwrap().ino());
    inside.unwrap()
}

/// The busy time of the whole machine, in seconds.
pub(crate) fn busy_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let line = stat.lines().next().unwrap();
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    let idle = ticks[3] + ticks[4];
    (ticks.iter().take(8).sum::<f64>() - idle) / TICKS_PER_SECOND
}

/// The kernel's `USER_HZ`, the same on every Linux that this builds for.
const TICKS_PER_SECOND: f64 = 100.0;

fn processor_seconds(stat: &str) -> f64 {
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = |place: usize| -> f64 {
        let field = fields.split(' ').nth(place);
        field.and_then(|field| field.parse().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

fn peak_kilobytes(status: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Runs a line that must succeed.
pub(crate) fn shell(machine: &Machine, line: &str) -> String {
    let ended = try_shell(machine, line);
    assert!(ended.status.success(), "{line}: {ended}\n{}", ended.stderr);
    ended.stdout
}

/// Runs a line.
pub(crate) fn try_shell(machine: &Machine, line: &str) -> Ended {
    let program = machine.command("sh").args(["-c", line]);
    program.output(LIMIT).unwrap()
}

/// Starts a line that goes on.
pub(crate) fn start(machine: &Machine, line: &str) -> Process {
    let exec = format!("exec {line}");
    machine.command("sh").args(["-c", &exec]).start().unwrap()
}
