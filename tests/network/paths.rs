//! By which way nodes reach each other: through two NATs, after a move, and where only IPv6 is.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use meshnode::lab::{Lab, Router, Stopwatch, Switch, World};
use serde_json::Value;

use crate::joining::home;
use crate::lab;
use crate::node::{Node, PATIENCE, agree, carries, eventually, measured, ms, text};

/// After so long connections count as old.
const SETTLED: Duration = Duration::from_secs(3);

/// Datagrams of the transfer that must not pass the introducer, and bytes in each.
const DATAGRAMS: usize = 2000;
const DATAGRAM_BYTES: usize = 1000;

/// What the introducer may hear while two others transfer 2 MB: a twentieth of it.
const INTRODUCER_BYTES_MAX: u64 = 100_000;

pub(crate) fn two_sites_behind_nats_talk_directly_and_go_on_without_the_introducer(world: &World) {
    let lab = lab(world);
    let mut town = Town::new(&lab);
    let watch = Stopwatch::start();
    let through = |line: &Value, router: &str| {
        let endpoint = text(line, "/path/endpoint");
        text(line, "/path/kind") == "direct" && endpoint.starts_with(&format!("{router}:"))
    };
    eventually(
        "nas reaches pi directly, through both NATs",
        PATIENCE,
        || {
            town.nas
                .ping("pi")
                .is_some_and(|line| through(&line, "203.0.113.3"))
        },
    );
    measured(
        "direct path through two NATs, after the second join",
        ms(watch.elapsed()),
    );
    eventually("pi reaches nas directly, too", PATIENCE, || {
        town.pi
            .ping("nas")
            .is_some_and(|line| through(&line, "203.0.113.2"))
    });
    carries(&town.nas, &town.pi);
    carries(&town.pi, &town.nas);
    let before = received_bytes(&town.vps);
    let arrived = transfer(&town.nas, &town.pi);
    let heard = received_bytes(&town.vps) - before;
    measured(
        "bytes at the introducer during 2 MB between two others",
        heard,
    );
    assert!(
        arrived > DATAGRAMS / 2,
        "{arrived} of {DATAGRAMS} datagrams arrived"
    );
    assert!(heard < INTRODUCER_BYTES_MAX, "{heard}");
    for peer in town.vps.status()["peers"].as_array().unwrap() {
        let through = ["rx_bytes", "tx_bytes"].map(|field| peer[field].as_u64().unwrap());
        assert!(
            through.iter().all(|bytes| *bytes < INTRODUCER_BYTES_MAX),
            "{peer}"
        );
    }
    town.vps.switch_off();
    carries(&town.nas, &town.pi);
    let line = town
        .pi
        .ping("nas")
        .expect("an answer without the introducer");
    assert!(through(&line, "203.0.113.2"), "{line}");
}

pub(crate) fn netcheck_says_what_others_see_and_who_was_spoken_to(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    town.nas.reaches("vps");
    let mut told = Value::Null;
    eventually(
        "somebody saw nas, and measures it as a relay",
        PATIENCE,
        || {
            told = town.nas.ask(&["netcheck"]);
            let relays = told["relays"].as_array().map_or(0, Vec::len);
            relays > 0 && told["ipv4"]["mapped"].is_string()
        },
    );
    let mapped = text(&told, "/ipv4/mapped");
    assert!(mapped.starts_with("203.0.113.2:"), "{told}");
    assert_eq!(told["udp"], true, "{told}");
    assert!(
        ["good", "fair"].contains(&told["verdict"].as_str().unwrap()),
        "{told}"
    );
    let contacts = told["contacts"].as_array().unwrap();
    let whom = |kind: &str| -> Vec<String> {
        let those = contacts.iter().filter(|contact| contact["kind"] == kind);
        those.map(|contact| text(contact, "/who")).collect()
    };
    assert!(whom("member").contains(&"vps".to_owned()), "{told}");
    assert!(whom("relay").is_empty(), "{told}");
    // Nobody stands in the list who is not of this network, but the router.
    let routers = whom("router");
    assert!(
        routers.iter().all(|router| router == "192.168.1.1"),
        "{told}"
    );
    let vps = town.vps.ask(&["netcheck"]);
    assert_eq!(vps["ipv4"]["mapping"], "none", "{vps}");
}

pub(crate) fn a_node_that_gets_another_address_is_found_again(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    nas.reaches("pi");
    carries(&nas, &pi);
    pi.machine().detach("eth0").unwrap();
    pi.machine().attach(&lan, "192.168.1.77/24", None).unwrap();
    let gap = nas.reaches("pi");
    measured(
        "a node's LAN address changes: until the next answered ping",
        ms(gap),
    );
    eventually("the path leads to the new address", PATIENCE, || {
        let line = nas.ping("pi");
        line.is_some_and(|line| text(&line, "/path/endpoint").starts_with("192.168.1.77:"))
    });
    carries(&nas, &pi);
    carries(&pi, &nas);
}

pub(crate) fn a_node_that_moves_behind_another_nat_is_found_again(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    town.nas.reaches("pi");
    carries(&town.nas, &town.pi);
    // Nobody moves in the second in which it joined.
    std::thread::sleep(SETTLED);
    let cafe = site(&lab, &town.inet, "cafe", "203.0.113.4/24", "192.168.3.1/24");
    let pi = town.pi.machine();
    pi.detach("eth0").unwrap();
    pi.attach(cafe.lan(), "192.168.3.20/24", Some("192.168.3.1"))
        .unwrap();
    let gap = town.nas.reaches("pi");
    measured(
        "a node moves behind another NAT: until the next answered ping",
        ms(gap),
    );
    eventually("the path leads through the new router", PATIENCE, || {
        let line = town.nas.ping("pi");
        line.is_some_and(|line| text(&line, "/path/endpoint").starts_with("203.0.113.4:"))
    });
    carries(&town.nas, &town.pi);
    carries(&town.pi, &town.nas);
}

pub(crate) fn two_nodes_meet_where_only_ipv6_is(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let [nas, pi] = [("nas", 1), ("pi", 2)].map(|(name, host)| {
        let machine = lab.machine(name).unwrap();
        machine
            .attach(&inet, &format!("2001:db8::{host}/64"), None)
            .unwrap();
        Node::on(machine)
    });
    nas.init("home");
    let port = nas.status()["self"]["port"].as_u64().unwrap();
    let code = nas.invite(&["--hint", &format!("[2001:db8::1]:{port}")]);
    let watch = Stopwatch::start();
    pi.join(&code);
    pi.reaches("nas");
    measured(
        "join to first answered ping over IPv6 alone",
        ms(watch.elapsed()),
    );
    let line = nas.ping("pi").expect("an answer the other way");
    assert!(
        text(&line, "/path/endpoint").starts_with("[2001:db8::2]:"),
        "{line}"
    );
    carries(&nas, &pi);
    carries(&pi, &nas);
    agree(&[&nas, &pi], 2);
}

/// A public machine that made the network, and two that joined from behind a NAT each.
pub(crate) struct Town {
    pub(crate) vps: Node,
    pub(crate) nas: Node,
    pub(crate) pi: Node,
    inet: Switch,
    _routers: [Router; 2],
}

impl Town {
    pub(crate) fn new(lab: &Lab) -> Self {
        let inet = lab.switch("inet").unwrap();
        let vps = lab.machine("vps").unwrap();
        vps.attach(&inet, "203.0.113.1/24", None).unwrap();
        let vps = Node::on(vps);
        vps.init("home");
        let house = site(lab, &inet, "house", "203.0.113.2/24", "192.168.1.1/24");
        let cabin = site(lab, &inet, "cabin", "203.0.113.3/24", "192.168.2.1/24");
        let sites = [("nas", &house, "192.168.1"), ("pi", &cabin, "192.168.2")];
        let [nas, pi] = sites.map(|(name, router, net)| {
            let machine = lab.machine(name).unwrap();
            let (address, gateway) = (format!("{net}.10/24"), format!("{net}.1"));
            machine
                .attach(router.lan(), &address, Some(&gateway))
                .unwrap();
            let node = Node::on(machine);
            let code = vps.invite(&[]);
            assert!(
                code.contains("@203.0.113.1:"),
                "a code leads to the public machine"
            );
            node.join(&code);
            node
        });
        Self {
            vps,
            nas,
            pi,
            inet,
            _routers: [house, cabin],
        }
    }
}

fn site(lab: &Lab, inet: &Switch, name: &str, wan: &str, lan: &str) -> Router {
    lab.router(name).wan(inet, wan).lan(lan).build().unwrap()
}

/// Sends datagrams through the tunnel; how many arrive.
fn transfer(from: &Node, to: &Node) -> usize {
    let (IpAddr::V4(ours), IpAddr::V4(theirs)) = (from.addresses()[0], to.addresses()[0]) else {
        panic!("both have IPv4");
    };
    let sender = from
        .machine()
        .inside(move || UdpSocket::bind((ours, 0)).unwrap());
    let receiver = to
        .machine()
        .inside(move || UdpSocket::bind((theirs, 0)).unwrap());
    let (sender, receiver) = (sender.unwrap(), receiver.unwrap());
    receiver
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let at = receiver.local_addr().unwrap();
    let counter = std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        let mut arrived = 0;
        while arrived < DATAGRAMS && receiver.recv_from(&mut buffer).is_ok() {
            arrived += 1;
        }
        arrived
    });
    for sent in 0..DATAGRAMS {
        sender.send_to(&[7; DATAGRAM_BYTES], at).unwrap();
        if sent % 10 == 9 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    counter.join().unwrap()
}

/// Bytes that came to the machine's outer side since it was made.
fn received_bytes(node: &Node) -> u64 {
    let table = node
        .machine()
        .inside(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
    let table = table.unwrap().unwrap();
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"));
    let first = line.and_then(|line| line.split_whitespace().next());
    first
        .and_then(|bytes| bytes.parse().ok())
        .expect("a counter of eth0")
}
