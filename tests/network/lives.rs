//! What nodes live through: power cuts, neighbours of another network, leaving, being down, a clock in 1970.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use meshnode::lab::{Process, Stopwatch, World};

use crate::joining::{home, machine_on, node_on};
use crate::lab;
use crate::node::{
    COMMAND_LIMIT, Node, PATIENCE, PROGRAM, agree, carries, eventually, measured, ms, names,
    symbols, text, truth,
};

/// The figure to reach is 1 s; on a machine that does something else besides a test must not fail for that.
const BOOT_LIMIT: Duration = Duration::from_secs(5);

/// How long a goodbye may take to be obeyed by everybody.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// Power cuts in one story.
const CUTS: u64 = 15;

/// Where the packages of this system keep the library that fakes clocks.
const FAKE_CLOCKS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

pub(crate) fn a_node_boots_alone_with_its_addresses_and_can_invite(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, mut pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    let addresses = nas.addresses();
    pi.switch_off();
    nas.switch_off();
    assert!(
        !addresses.iter().any(|address| nas.owns(*address)),
        "no daemon, no addresses"
    );
    let watch = Stopwatch::start();
    nas.switch_on();
    eventually("its own addresses answer", BOOT_LIMIT, || {
        addresses
            .iter()
            .all(|address| answers_itself(&nas, *address))
    });
    measured(
        "cold start, every other node off: own addresses answer",
        ms(watch.elapsed()),
    );
    let state = || text(&nas.status(), "/state");
    eventually("it says that it is isolated", PATIENCE, || {
        state() == "isolated"
    });
    let code = nas.invite(&[]);
    let late = node_on(&lab, &lan, "late", 9);
    late.join(&code);
    pi.switch_on();
    agree(&[&nas, &pi, &late], 3);
}

pub(crate) fn nothing_acknowledged_is_lost_by_fifteen_power_cuts(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    let mut dice = Dice(0x6d65_7368);
    let mut invited = BTreeSet::from(["nas".to_owned(), "pi".to_owned()]);
    let (mut codes, mut spent, mut newcomers) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..CUTS {
        let mut acts: Vec<Process> = Vec::new();
        for _ in 0..2 {
            acts.push(nas.command(&["invite"]).start().unwrap());
        }
        if round % 4 == 1 && !codes.is_empty() {
            let code: String = codes.swap_remove(0);
            let host = u8::try_from(20 + round).unwrap();
            let newcomer = node_on(&lab, &lan, &format!("m{host}"), host);
            let join = newcomer.command(&["join", &code]).start().unwrap();
            spent.push(code);
            invited.insert(newcomer.name().to_owned());
            newcomers.push((newcomer, join));
        }
        thread::sleep(Duration::from_millis(dice.below(800)));
        nas.kill();
        codes.extend(acts.into_iter().filter_map(acknowledged));
        nas.switch_on();
        let members = names(&nas.status());
        assert_eq!(devices(&nas), 1, "no device of the dead is left over");
        assert!(
            members.is_subset(&invited),
            "nobody came in by himself: {members:?}"
        );
    }
    for (newcomer, join) in &mut newcomers {
        let ended = join.wait(COMMAND_LIMIT).unwrap().expect("a join ends");
        assert!(
            ended.success(),
            "{}: {}{}",
            newcomer.name(),
            join.stdout(),
            join.stderr()
        );
    }
    let mut everybody = vec![&nas, &pi];
    everybody.extend(newcomers.iter().map(|(newcomer, _)| newcomer));
    let took = agree(&everybody, invited.len());
    assert_eq!(names(&nas.status()), invited);
    measured(
        "invites acknowledged over 15 power cuts",
        codes.len() + spent.len(),
    );
    measured("machines that joined meanwhile", newcomers.len());
    measured("one view on all after the last cut", ms(took));
    assert!(codes.len() > 5, "some acts were through before the cut");
    for node in [&nas, &pi] {
        for code in codes.iter().chain(&spent) {
            // A node that is in says whether it knows a code.
            let answer = node.ask(&["join", code]);
            assert_eq!(answer["already"], true, "{} knows every code", node.name());
        }
    }
    let last = node_on(&lab, &lan, "last", 9);
    last.join(&codes[0]);
}

pub(crate) fn two_networks_on_one_lan_keep_to_themselves(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    let (boss, desk) = (
        node_on(&lab, &lan, "boss", 11),
        node_on(&lab, &lan, "desk", 12),
    );
    boss.init("work");
    desk.join(&boss.invite(&[]));
    agree(&[&nas, &pi], 2);
    agree(&[&boss, &desk], 2);
    nas.reaches("pi");
    desk.reaches("boss");
    let set = |names: [&str; 2]| BTreeSet::from(names.map(str::to_owned));
    for (node, expected) in [(&pi, set(["nas", "pi"])), (&boss, set(["boss", "desk"]))] {
        assert_eq!(names(&node.status()), expected);
        assert!(!node.status().to_string().contains(if node.name() == "pi" {
            "desk"
        } else {
            "nas"
        }));
    }
    let code = nas.invite(&[]);
    agree(&[&nas, &pi], 2);
    // Nobody of the code's network is on, but two machines of the other one are.
    nas.switch_off();
    let mut pi = pi;
    pi.switch_off();
    let newcomer = node_on(&lab, &lan, "newcomer", 20);
    let (exit, said) = newcomer.refused(&["join", &code, "--timeout", "3s"]);
    assert_eq!(exit, 7, "{said}");
    assert_eq!(names(&boss.status()).len(), 2);
    nas.switch_on();
    assert_eq!(text(&newcomer.join(&code), "/network/name"), "home");
}

pub(crate) fn two_daemons_on_one_machine_do_not_fight(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let both = lab.machine("both").unwrap();
    both.attach(&lan, "192.168.1.1/24", None).unwrap();
    let both = Rc::new(both);
    let mut private = Node::beside(&both, "private", &["--tun-name", "mn-private"]);
    let mut office = Node::beside(&both, "office", &["--tun-name", "mn-office"]);
    let (nas, boss) = (
        node_on(&lab, &lan, "nas", 2),
        node_on(&lab, &lan, "boss", 3),
    );
    for (place, friend, network) in [(&mut private, &nas, "home"), (&mut office, &boss, "work")] {
        place.switch_on();
        place.init(network);
        friend.join(&place.invite(&[]));
    }
    assert_eq!(devices(&private), 2);
    for _ in 0..2 {
        carries(&private, &nas);
        carries(&office, &boss);
        carries(&nas, &private);
        carries(&boss, &office);
        // The second time after a restart of one, while the other one runs.
        private.switch_off();
        boss.reaches("both");
        private.switch_on();
    }
    // A third daemon on a directory in use is told whose it is.
    let third = both
        .command(PROGRAM)
        .arg("--state-dir")
        .arg(office.state_dir());
    let ended = third.arg("daemon").output(COMMAND_LIMIT).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(" is in use by process "),
        "{}",
        ended.stderr
    );
    assert!(office.runs() && private.runs());
}

pub(crate) fn who_leaves_is_gone_everywhere_within_two_seconds(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi, tablet] = home(&lab, &lan, ["nas", "pi", "tablet"]);
    agree(&[&nas, &pi, &tablet], 3);
    carries(&tablet, &pi);
    let addresses = tablet.addresses();
    let (exit, said) = tablet.refused(&["leave"]);
    assert_eq!(exit, 2, "it asks, and nobody can answer here: {said}");
    assert!(tablet.state_dir().join("keys").exists());
    let watch = Stopwatch::start();
    let left = tablet.ask(&["leave", "--yes"]);
    let said = watch.elapsed();
    let gone = |node: &Node| !names(&node.status()).contains("tablet");
    eventually("the leaver is gone everywhere", PATIENCE, || {
        gone(&nas) && gone(&pi)
    });
    let took = watch.elapsed();
    measured("leave: said", ms(said));
    measured("leave: gone on all", ms(took));
    assert!(took < LEAVE_LIMIT, "{took:?}");
    assert!(
        left["heard_n"].as_u64().is_some_and(|heard| heard >= 1),
        "{left}"
    );
    assert_eq!(key_files(&tablet.state_dir()), Vec::<String>::new());
    assert_eq!(devices(&tablet), 0);
    assert!(!addresses.iter().any(|address| tablet.owns(*address)));
    assert_eq!(
        tablet.run(&["status"]).status.code(),
        Some(5),
        "in no network"
    );
    agree(&[&nas, &pi], 2);
    // It may come back, as somebody new.
    tablet.join(&nas.invite(&[]));
    assert_ne!(tablet.addresses()[1], addresses[1]);
}

pub(crate) fn the_only_admin_leaves_by_force_only(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    // A person at a terminal, who says yes to the question.
    let typed = format!(
        "(sleep 0.5; echo y; sleep 1) | script -qec '{PROGRAM} --state-dir {} --socket {} leave' /dev/null",
        nas.state_dir().display(),
        nas.socket().display()
    );
    let shell = nas.machine().command("sh").args(["-c", &typed]);
    let ended = shell.output(COMMAND_LIMIT).unwrap();
    assert_eq!(
        ended.status.code(),
        Some(1),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    assert!(
        ended.stdout.contains("nas is the only admin of home"),
        "{}",
        ended.stdout
    );
    assert_eq!(names(&nas.status()).len(), 2);
    nas.reaches("pi");
    nas.ask(&["leave", "--yes"]);
    assert_eq!(nas.run(&["status"]).status.code(), Some(5));
    eventually("the member is alone", PATIENCE, || {
        names(&pi.status()).len() == 1
    });
}

pub(crate) fn down_survives_a_restart_and_up_undoes_it(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, mut pi] = home(&lab, &lan, ["nas", "pi"]);
    pi.reaches("nas");
    let (addresses, before) = (pi.addresses(), names(&nas.status()));
    let is_down = |pi: &Node| {
        assert_eq!(text(&pi.status(), "/state"), "down");
        assert_eq!(devices(pi), 0);
        assert!(!addresses.iter().any(|address| pi.owns(*address)));
        assert_eq!(pi.refused(&["ping", "nas"]).0, 1);
    };
    pi.ask(&["down"]);
    is_down(&pi);
    pi.switch_off();
    pi.switch_on();
    is_down(&pi);
    pi.kill();
    pi.switch_on();
    is_down(&pi);
    assert_eq!(names(&nas.status()), before, "down is not gone");
    let watch = Stopwatch::start();
    pi.ask(&["up"]);
    pi.reaches("nas");
    measured("up to first answered ping", ms(watch.elapsed()));
    assert_eq!(pi.addresses(), addresses);
    carries(&nas, &pi);
    pi.ask(&["down", "--for", "1s"]);
    is_down(&pi);
    let state = || text(&pi.status(), "/state");
    eventually("it comes back by itself", PATIENCE, || state() != "down");
    nas.reaches("pi");
}

pub(crate) fn a_member_works_with_its_clock_in_1970(world: &World) {
    let clock = clock_of_1970();
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, mut pi, tv] = home(&lab, &lan, ["nas", "pi", "tv"]);
    agree(&[&nas, &pi, &tv], 3);
    let (truth_before, addresses) = (truth(&nas.status()).2, pi.addresses());
    pi.switch_off();
    pi.set(&clock);
    let watch = Stopwatch::start();
    pi.switch_on();
    let took = pi.reaches("nas");
    measured(
        "member with its clock in 1970: start to first answered ping",
        ms(watch.elapsed()),
    );
    assert!(took < PATIENCE);
    carries(&pi, &nas);
    carries(&nas, &pi);
    assert_eq!(pi.addresses(), addresses);
    assert_eq!(
        truth(&nas.status()).2,
        truth_before,
        "the same nodes stand as before"
    );
    // It hears what is signed now, and so does an admin whose clock is off write nothing wrong.
    let code = nas.invite(&[]);
    node_on(&lab, &lan, "late", 9).join(&code);
    eventually("it learns of the newcomer", PATIENCE, || {
        names(&pi.status()).contains("late")
    });
    // The admin's own clock, too.
    nas.switch_off();
    nas.set(&clock);
    nas.switch_on();
    nas.reaches("pi");
    carries(&nas, &tv);
    agree(&[&nas, &pi, &tv], 4);
}

pub(crate) fn a_joiner_with_its_clock_in_1970_is_told_and_costs_no_invite(world: &World) {
    let clock = clock_of_1970();
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let nas = node_on(&lab, &lan, "nas", 1);
    nas.init("home");
    let code = nas.invite(&[]);
    let before = truth(&nas.status());
    let mut pi = machine_on(&lab, &lan, "pi", 2);
    pi.set(&clock);
    pi.switch_on();
    let (exit, said) = pi.refused(&["join", &code]);
    assert_eq!(exit, 1, "{said}");
    let begin = "this machine's clock says 1970-01-01; the network's says 20";
    assert!(said.starts_with(begin), "{said}");
    assert_eq!(truth(&nas.status()), before);
    pi.switch_off();
    pi.set(&[]);
    pi.switch_on();
    pi.join(symbols(&code));
    agree(&[&nas, &pi], 2);
}

/// Whether a datagram that a program sends to the machine's own address comes out there.
fn answers_itself(node: &Node, address: IpAddr) -> bool {
    let heard = node.machine().inside(move || {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send_to(b"me", socket.local_addr()?)?;
        socket.recv_from(&mut [0; 8]).map(|(length, _)| length == 2)
    });
    heard.unwrap().unwrap_or(false)
}

/// The code that an `invite` printed before it was over; none when the cut came first.
fn acknowledged(mut act: Process) -> Option<String> {
    let ended = act.wait(COMMAND_LIMIT).ok().flatten();
    assert!(ended.is_some(), "an act ends");
    let object: serde_json::Value = serde_json::from_str(act.stdout().lines().last()?).ok()?;
    let code = object["code"].as_str().map(str::to_owned);
    let succeeded = ended.is_some_and(|status| status.success());
    assert_eq!(succeeded, code.is_some());
    code
}

/// How many tunnel devices there are on the machine.
fn devices(node: &Node) -> usize {
    let count = node.machine().inside(|| {
        let all = nix::net::if_::if_nameindex().unwrap();
        let names = all
            .iter()
            .map(|link| link.name().to_string_lossy().into_owned());
        names
            .filter(|name| name != "lo" && !name.starts_with("eth"))
            .count()
    });
    count.unwrap()
}

/// What is left of keys in a state directory.
fn key_files(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("key")).collect()
}

/// The settings under which a program believes that it is 1970.
fn clock_of_1970() -> [String; 3] {
    let library = FAKE_CLOCKS.iter().find(|path| Path::new(path).exists());
    let library = library.expect("libfaketime is installed (apt install libfaketime)");
    // Only the wall clock: the time since boot goes on as it is.
    [
        format!("LD_PRELOAD={library}"),
        "FAKETIME=@1970-01-01 00:01:00".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ]
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's multiplier; the upper bits are good enough for moments.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}
