//! How machines come in: on a LAN without internet, while the maker of the code is off, by wrong codes, in a crowd.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use meshnode::lab::{Lab, Stopwatch, Switch, World};

use crate::lab;
use crate::node::{
    COMMAND_LIMIT, Node, PATIENCE, PROGRAM, agree, carries, eventually, measured, ms, names,
    spread, symbols, text,
};

/// The figure to reach is 2 s; a test on a machine that does something else besides must not fail for that.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// Machines of the crowd.
const CROWD: usize = 30;

/// A machine on the LAN, without gateway: its routes end at the LAN's edge.
pub(crate) fn machine_on(lab: &Lab, lan: &Switch, name: &str, host: u8) -> Node {
    let machine = lab.machine(name).unwrap();
    machine
        .attach(lan, &format!("192.168.1.{host}/24"), None)
        .unwrap();
    Node::new(machine)
}

/// As [`machine_on`], with its daemon on.
pub(crate) fn node_on(lab: &Lab, lan: &Switch, name: &str, host: u8) -> Node {
    let mut node = machine_on(lab, lan, name, host);
    node.switch_on();
    node
}

/// A network `home` on a LAN: `names[0]` made it, the others joined it.
pub(crate) fn home<const N: usize>(lab: &Lab, lan: &Switch, names: [&str; N]) -> [Node; N] {
    let mut host = 0;
    let nodes = names.map(|name| {
        host += 1;
        node_on(lab, lan, name, host)
    });
    nodes[0].init("home");
    for node in &nodes[1..] {
        node.join(&nodes[0].invite(&[]));
    }
    nodes
}

pub(crate) fn a_machine_joins_on_a_lan_without_internet_and_pings_within_ten_seconds(
    world: &World,
) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let founder = node_on(&lab, &lan, "founder", 1);
    founder.init("home");
    let (mut joins, mut pings, mut newcomers) = (Vec::new(), Vec::new(), Vec::new());
    for host in 2..12 {
        let code = founder.invite(&[]);
        assert!(!code.contains('@'), "a LAN has no address worth telling");
        // The daemon is started by the command, as on a fresh machine.
        let newcomer = machine_on(&lab, &lan, &format!("m{host}"), host);
        let watch = Stopwatch::start();
        let joined = newcomer.join(&code);
        joins.push(watch.elapsed());
        newcomer.reaches("founder");
        pings.push(watch.elapsed());
        // By the admin, or by a member that was quicker: it works either way.
        let standing = text(&joined, "/standing");
        assert!(
            ["settled", "provisional"].contains(&standing.as_str()),
            "{standing}"
        );
        newcomers.push(newcomer);
    }
    let slowest = pings.iter().max().copied().unwrap_or_default();
    measured("join on a LAN, no internet (10 joins)", spread(joins));
    measured("join to first answered ping (10 joins)", spread(pings));
    assert!(slowest < JOIN_LIMIT, "{slowest:?}");
}

pub(crate) fn a_code_redeems_at_any_member_while_its_maker_is_off(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut vps, nas] = home(&lab, &lan, ["vps", "nas"]);
    let code = vps.invite(&[]);
    agree(&[&vps, &nas], 2);
    vps.switch_off();
    let late = node_on(&lab, &lan, "late", 9);
    let joined = late.join(&code);
    assert_eq!(text(&joined, "/standing"), "provisional");
    assert_eq!(text(&joined, "/witness"), text(&nas.status(), "/self/id"));
    carries(&late, &nas);
    carries(&nas, &late);
    let before = (text(&late.status(), "/self/name"), late.addresses());
    vps.switch_on();
    let settled = |node: &Node, field: &str| {
        let status = node.status();
        let peers = status["peers"].as_array().unwrap();
        let card = match field {
            "self" => Some(&status["self"]),
            name => peers.iter().find(|peer| peer["name"] == name),
        };
        card.is_some_and(|card| card["standing"] == "settled")
    };
    let took = eventually("an admin settles it by itself", PATIENCE, || {
        settled(&late, "self") && settled(&nas, "late") && settled(&vps, "late")
    });
    measured(
        "provisional node settled on all, after the admin's return",
        ms(took),
    );
    assert_eq!(
        (text(&late.status(), "/self/name"), late.addresses()),
        before
    );
    agree(&[&vps, &nas, &late], 3);
    late.reaches("vps");
}

pub(crate) fn a_code_for_one_machine_lets_no_second_one_in(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [founder, first] = home(&lab, &lan, ["founder", "first"]);
    let second = node_on(&lab, &lan, "second", 9);
    let code = founder.invite(&[]);
    second.join(&code);
    let third = node_on(&lab, &lan, "third", 10);
    let (exit, said) = third.refused(&["join", &code]);
    assert_eq!(exit, 8, "{said}");
    let begin = "this invite is used up: it was for one machine and second took it ";
    assert!(said.starts_with(begin), "{said}");
    assert_eq!(names(&founder.status()).len(), 3);
    assert_eq!(names(&first.status()).len(), 3);
    // Refused is not broken: a good code works on the same machine.
    third.join(&founder.invite(&[]));
}

pub(crate) fn an_expired_code_lets_nobody_in(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let founder = node_on(&lab, &lan, "founder", 1);
    founder.init("home");
    let code = founder.invite(&["--ttl", "1s"]);
    let late = node_on(&lab, &lan, "late", 2);
    thread::sleep(Duration::from_millis(1200));
    let (exit, said) = late.refused(&["join", &code]);
    assert_eq!(exit, 8, "{said}");
    assert!(said.starts_with("this invite expired "), "{said}");
    assert_eq!(names(&founder.status()).len(), 1);
}

pub(crate) fn fake_network_rejected(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let ours = node_on(&lab, &lan, "ours", 1);
    ours.init("ours");
    let mut theirs = node_on(&lab, &lan, "theirs", 2);
    theirs.init("theirs");
    let code = theirs.invite(&[]);
    theirs.switch_off();
    let newcomer = node_on(&lab, &lan, "newcomer", 3);
    let (exit, said) = newcomer.refused(&["join", &code, "--timeout", "3s"]);
    assert_eq!(exit, 7, "{said}");
    assert!(
        said.starts_with("nobody answered for this code in "),
        "{said}"
    );
    let port = ours.status()["self"]["port"].as_u64().unwrap();
    let led = format!("{code}@192.168.1.1:{port}");
    let (exit, said) = newcomer.refused(&["join", &led, "--timeout", "3s"]);
    assert_eq!(exit, 1, "{said}");
    let sentence = format!(
        "somebody answered at 192.168.1.1:{port} but could not prove to be the network of this code"
    );
    assert_eq!(said, sentence);
    let (exit, said) = ours.refused(&["join", &code]);
    assert_eq!(exit, 1, "{said}");
    assert!(
        said.starts_with("this machine is already in ours"),
        "{said}"
    );
    assert!(
        said.ends_with("and the code is for another network"),
        "{said}"
    );
    assert_eq!(names(&ours.status()).len(), 1);
}

pub(crate) fn a_code_comes_by_stdin_and_a_second_join_does_nothing(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let founder = node_on(&lab, &lan, "founder", 1);
    founder.init("home");
    let code = founder.invite(&[]);
    let newcomer = node_on(&lab, &lan, "newcomer", 2);
    let by_stdin = |code: &str| {
        let script = format!(
            "printf '%s\\n' {code} | {PROGRAM} --state-dir {} --socket {} join -",
            newcomer.state_dir().display(),
            newcomer.socket().display()
        );
        let shell = newcomer.machine().command("sh").args(["-c", &script]);
        shell.output(COMMAND_LIMIT).unwrap()
    };
    let ended = by_stdin(&code);
    assert!(ended.status.success(), "{ended} {}", ended.stderr);
    assert!(
        ended.stderr.contains("Joined home as newcomer"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout, "", "talk is no data");
    let ops = founder.status()["network"]["ops"].clone();
    let unused = founder.invite(&[]);
    let again = eventually(
        "the newcomer has heard of the second code",
        PATIENCE,
        || newcomer.run(&["join", &unused]).status.success(),
    );
    assert!(again < PATIENCE);
    let ended = by_stdin(&unused);
    let sentence = "Already in home as newcomer. Nothing to do; the invite was not used.";
    assert!(ended.stderr.contains(sentence), "{}", ended.stderr);
    assert_eq!(ended.status.code(), Some(0));
    let after = founder.status()["network"]["ops"].clone();
    assert_eq!(
        after.as_u64(),
        ops.as_u64().map(|ops| ops + 1),
        "one op: the invite"
    );
    let other = node_on(&lab, &lan, "other", 3);
    other.join(&unused);
}

pub(crate) fn a_taken_name_gets_a_suffix_and_a_given_name_wins(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let founder = node_on(&lab, &lan, "founder", 1);
    founder.init("home");
    let first = node_on(&lab, &lan, "first", 2);
    let second = node_on(&lab, &lan, "second", 3);
    let third = node_on(&lab, &lan, "third", 4);
    first.ask(&["join", &founder.invite(&[]), "--name", "pi"]);
    let joined = second.ask(&["join", &founder.invite(&[]), "--name", "pi"]);
    let name = text(&joined, "/self/name");
    assert!(name.starts_with("pi-"), "{name}");
    let code = founder.invite(&["--name", "tablet"]);
    let joined = third.ask(&["join", &code, "--name", "pi"]);
    assert_eq!(text(&joined, "/self/name"), "tablet");
    agree(&[&founder, &first, &second, &third], 4);
    let expected = ["founder", "pi", &name, "tablet"].map(str::to_owned);
    assert_eq!(names(&first.status()), BTreeSet::from(expected));
}

pub(crate) fn thirty_machines_join_one_after_another_and_all_hold_the_same(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let founder = node_on(&lab, &lan, "founder", 1);
    founder.init("home");
    let watch = Stopwatch::start();
    let codes: Vec<String> = (1..CROWD).map(|_| founder.invite(&[])).collect();
    measured("29 invites", ms(watch.elapsed()));
    let mut nodes = vec![founder];
    let (mut joins, mut witnesses) = (Vec::new(), BTreeSet::new());
    for (at, code) in codes.iter().enumerate() {
        let host = u8::try_from(at + 2).unwrap();
        let node = node_on(&lab, &lan, &format!("m{host}"), host);
        let join = Stopwatch::start();
        let joined = node.join(symbols(code));
        joins.push(join.elapsed());
        witnesses.insert(text(&joined, "/witness"));
        nodes.push(node);
    }
    let joined = watch.elapsed();
    let nodes: Vec<&Node> = nodes.iter().collect();
    let agreed = agree(&nodes, CROWD);
    measured("thirty nodes joined one after another", ms(joined));
    measured("each of these joins", spread(joins));
    measured("from the last join to one view on thirty", ms(agreed));
    measured("different witnesses of these joins", witnesses.len());
    assert!(witnesses.len() > 1, "members let machines in, too");
    let status = nodes[0].status();
    let all = || {
        status["peers"]
            .as_array()
            .unwrap()
            .iter()
            .chain([&status["self"]])
    };
    for field in ["name", "ipv4", "ipv6"] {
        let values: BTreeSet<String> = all().map(|node| node[field].to_string()).collect();
        assert_eq!(values.len(), CROWD, "{field}: no two are equal");
    }
}
