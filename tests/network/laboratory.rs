//! The laboratory proves itself: what it builds behaves like cables and machines, and leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use meshnode::lab::{Entry, Lab, World};

use crate::node::{PATIENCE, eventually};
use crate::traffic::{arrives, is_lost, listen, socket};
use crate::{lab, say};

/// As first argument: become a world with one machine, say who you are, and wait to be killed.
pub(crate) const HOLD: &str = "--hold-a-world";

pub(crate) fn machines_on_one_switch_reach_each_other(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let (a, b) = (lab.machine("a").unwrap(), lab.machine("b").unwrap());
    a.attach(&inet, "203.0.113.1/24", None).unwrap();
    b.attach(&inet, "203.0.113.2/24", None).unwrap();
    let (from, to) = (socket(&a, 0), socket(&b, 4000));
    assert!(arrives(&from, "203.0.113.2:4000", &to));
}

pub(crate) fn a_machine_without_a_gateway_reaches_its_own_network_only(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let a = lab.machine("a").unwrap();
    a.attach(&inet, "203.0.113.1/24", None).unwrap();
    let error = socket(&a, 0).send_to(b"x", "198.51.100.1:9").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NetworkUnreachable);
}

pub(crate) fn a_machine_has_its_own_host_name_and_loopback(world: &World) {
    let lab = lab(world);
    let (a, b) = (lab.machine("anton").unwrap(), lab.machine("berta").unwrap());
    let said = a
        .command("hostname")
        .output(PATIENCE)
        .map(|ended| ended.stdout);
    let name = said.unwrap_or_else(|_| a.inside(|| read("/proc/sys/kernel/hostname")).unwrap());
    assert_eq!(name.trim(), "anton");
    // One port on both: two loopbacks.
    let own = |machine: &meshnode::lab::Machine| {
        machine
            .inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 4000)))
            .unwrap()
            .unwrap()
    };
    let (in_a, in_b) = (own(&a), own(&b));
    listen(&in_b);
    assert!(arrives(&in_a, "127.0.0.1:4000", &in_a));
    assert!(is_lost(&in_a, "127.0.0.1:4000", &in_b));
}

pub(crate) fn an_unplugged_machine_hears_nothing_until_it_is_plugged_in_again(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let (a, b) = (lab.machine("a").unwrap(), lab.machine("b").unwrap());
    a.attach(&inet, "203.0.113.1/24", None).unwrap();
    b.attach(&inet, "203.0.113.2/24", None).unwrap();
    let (from, to) = (socket(&a, 0), socket(&b, 4000));
    b.unplug("eth0").unwrap();
    assert!(is_lost(&from, "203.0.113.2:4000", &to));
    b.plug("eth0").unwrap();
    // The kernel tells its neighbours about a link a moment after it is up.
    eventually("packets flow again", PATIENCE, || {
        arrives(&from, "203.0.113.2:4000", &to)
    });
}

pub(crate) fn a_machine_can_move_to_another_switch(world: &World) {
    let lab = lab(world);
    let (here, there) = (lab.switch("here").unwrap(), lab.switch("there").unwrap());
    let (roamer, friend) = (
        lab.machine("roamer").unwrap(),
        lab.machine("friend").unwrap(),
    );
    roamer.attach(&here, "192.168.1.10/24", None).unwrap();
    friend.attach(&there, "192.168.7.1/24", None).unwrap();
    // One socket for the whole journey, as a daemon has.
    let (from, to) = (socket(&roamer, 7000), socket(&friend, 4000));
    roamer.detach("eth0").unwrap();
    assert!(from.send_to(b"x", "192.168.7.1:4000").is_err());
    roamer.attach(&there, "192.168.7.10/24", None).unwrap();
    assert!(arrives(&from, "192.168.7.1:4000", &to));
}

pub(crate) fn both_address_families_work_at_once(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let (a, b) = (lab.machine("a").unwrap(), lab.machine("b").unwrap());
    a.attach(&inet, "203.0.113.1/24", None).unwrap();
    b.attach(&inet, "203.0.113.2/24", None).unwrap();
    a.add_address("eth0", "2001:db8::1/64").unwrap();
    b.add_address("eth0", "2001:db8::2/64").unwrap();
    let bind = || UdpSocket::bind("[::]:4000").unwrap();
    let (from, to) = (a.inside(bind).unwrap(), b.inside(bind).unwrap());
    listen(&to);
    assert!(arrives(&from, "[2001:db8::2]:4000", &to));
    assert!(arrives(&socket(&a, 0), "203.0.113.2:4000", &to));
}

pub(crate) fn multicast_stays_in_its_own_lan(world: &World) {
    let lab = lab(world);
    let (one, other) = (lab.switch("one").unwrap(), lab.switch("other").unwrap());
    let [a, b, c] = ["a", "b", "c"].map(|name| lab.machine(name).unwrap());
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let listeners = [(&a, &one, 1), (&b, &one, 2), (&c, &other, 3)].map(|(machine, lan, last)| {
        machine
            .attach(lan, &format!("192.168.1.{last}/24"), Some("192.168.1.254"))
            .unwrap();
        let own = Ipv4Addr::new(192, 168, 1, last);
        let socket = machine
            .inside(|| UdpSocket::bind("0.0.0.0:5353").unwrap())
            .unwrap();
        socket.join_multicast_v4(&group, &own).unwrap();
        listen(&socket);
        socket
    });
    assert!(arrives(&listeners[0], "224.0.0.251:5353", &listeners[1]));
    assert!(is_lost(&listeners[0], "224.0.0.251:5353", &listeners[2]));
}

pub(crate) fn a_program_ends_with_its_machine_even_when_detached(world: &World) {
    let lab = lab(world);
    let machine = lab.machine("a").unwrap();
    let script = "setsid sleep 1000 >/dev/null 2>&1 & sleep 0.3";
    let ended = machine
        .command("sh")
        .args(["-c", script])
        .output(PATIENCE)
        .unwrap();
    assert!(ended.status.success(), "{ended} {}", ended.stderr);
    let network = machine.inside(own_network).unwrap();
    assert!(
        networks().contains(&network),
        "the sleeper lives in the machine"
    );
    drop(machine);
    eventually("the sleeper is gone", PATIENCE, || {
        !networks().contains(&network)
    });
}

pub(crate) fn a_program_stops_when_asked(world: &World) {
    let lab = lab(world);
    let machine = lab.machine("a").unwrap();
    let sleeper = machine.command("sleep").arg("1000").start().unwrap();
    let status = sleeper.stop(PATIENCE).unwrap();
    assert_eq!(
        status.signal(),
        Some(15),
        "SIGTERM reaches it and is not held back"
    );
}

pub(crate) fn nothing_is_left_when_a_laboratory_is_dropped(world: &World) {
    let files_before = open_files();
    let threads_before = threads();
    {
        let lab = lab(world);
        let inet = lab.switch("inet").unwrap();
        let home = lab
            .router("home")
            .wan(&inet, "203.0.113.2/24")
            .lan("192.168.1.1/24")
            .build();
        let home = home.unwrap();
        let nas = lab.machine("nas").unwrap();
        nas.attach(home.lan(), "192.168.1.10/24", Some("192.168.1.1"))
            .unwrap();
        let _runs = nas.command("sleep").arg("1000").start().unwrap();
        assert!(threads() > threads_before);
    }
    eventually("every keeper has ended", PATIENCE, || {
        threads() == threads_before
    });
    assert_eq!(open_files(), files_before);
    assert_eq!(fs::read_dir(world.home()).unwrap().count(), 0);
    eventually("every process has ended", PATIENCE, || {
        own_networks()
            .iter()
            .all(|network| *network == own_network())
    });
}

pub(crate) fn nothing_is_left_after_kill_9(_: &World) {
    let (mut outer, network) = start_holder();
    assert!(
        networks().contains(&network),
        "the machine of the other world has a process"
    );
    outer.kill().unwrap();
    outer.wait().unwrap();
    eventually("the other world is gone", PATIENCE, || {
        !networks().contains(&network)
    });
}

pub(crate) fn an_interrupted_world_ends_with_130(_: &World) {
    let (mut outer, network) = start_holder();
    let id = nix::unistd::Pid::from_raw(outer.id().cast_signed());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(outer.wait().unwrap().code(), Some(130));
    eventually("the other world is gone", PATIENCE, || {
        !networks().contains(&network)
    });
}

/// Starts another world inside this one; gives its outer process and the network namespace of its machine.
fn start_holder() -> (std::process::Child, String) {
    let mut outer = Command::new(std::env::current_exe().unwrap())
        .arg(HOLD)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(outer.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("net:["), "it says which network: {line}");
    (outer, line.trim().to_owned())
}

/// What the other world does.
pub(crate) fn hold() -> ExitCode {
    let world = match World::enter() {
        Ok(Entry::Inside(world)) => world,
        Ok(Entry::Over(code)) => return ExitCode::from(code),
        Err(error) => {
            say(&format!("{error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let lab = Lab::new(&world).expect("a laboratory can be made in a world");
    let machine = lab.machine("held").expect("a machine can be made");
    let _runs = machine
        .command("sleep")
        .arg("1000")
        .start()
        .expect("sleep starts");
    let network = machine.inside(own_network).expect("the keeper lives");
    eventually("the sleeper runs", PATIENCE, || {
        networks().contains(&network)
    });
    say(&format!("{network}\n"));
    thread::park();
    ExitCode::SUCCESS
}

/// The network namespace of the calling thread, as `/proc` writes it.
fn own_network() -> String {
    let link = fs::read_link("/proc/thread-self/ns/net").expect("a thread has a network");
    link.to_string_lossy().into_owned()
}

/// The network namespaces in which a process of this very world lives; other worlds may be busy beside it.
fn own_networks() -> BTreeSet<String> {
    let world = fs::read_link("/proc/self/ns/pid").expect("a process has a world");
    let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let ours = processes
        .map(|entry| entry.path())
        .filter(|path| fs::read_link(path.join("ns/pid")).is_ok_and(|link| link == world));
    let links = ours.filter_map(|path| fs::read_link(path.join("ns/net")).ok());
    links
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

/// The network namespaces in which a process lives that this world may look at and that lives in a world like this:
/// its own ones and those of worlds inside it.
fn networks() -> BTreeSet<String> {
    let depth = |path: &Path| {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let line = status
            .lines()
            .find(|line| line.starts_with("NSpid:"))
            .map(str::to_owned);
        line.unwrap_or_default().split_whitespace().count()
    };
    let own = depth(Path::new("/proc/self"));
    let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let inside = processes
        .map(|entry| entry.path())
        .filter(|path| depth(path) >= own);
    let links = inside.filter_map(|path| fs::read_link(path.join("ns/net")).ok());
    links
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd")
        .expect("there is a /proc")
        .count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task")
        .expect("there is a /proc")
        .count()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
