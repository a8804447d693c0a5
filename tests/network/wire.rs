//! What somebody outside a network sees of it, and how members find each other when all addresses changed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Switch, World};

use crate::capture::{
    Needle, Record, Recorder, base58, forms, of_code, of_membership, secrets, text_forms,
};
use crate::joining::home;
use crate::lab;
use crate::node::{Node, PATIENCE, agree, carries, eventually, measured, ms, text};

/// Names that no other program would send by chance.
const NETWORK: &str = "heliotrope-home";
const NODES: [&str; 3] = ["quartzite-nas", "obsidian-pi", "feldspar-box"];
const GIVEN: &str = "tourmaline-box";
const TAG: &str = "porphyry-tag";
const OWNER: &str = "rhyolite@olivine";

/// How long two that both moved may need: failed calls, then the locator.
const FOUND_LIMIT: Duration = Duration::from_secs(90);

/// A network lives a life; nothing of it is on any wire, and what is planted there is found.
pub(crate) fn wire_has_no_ids(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let mut host = 0;
    let mut recorders = Vec::new();
    let [mut nas, pi, guest] = NODES.map(|name| {
        host += 1;
        let machine = on(&lab, &lan, name, &format!("192.168.1.{host}/24"));
        recorders.push(Recorder::on(&machine));
        Node::on(machine)
    });
    let made = nas.init(NETWORK);
    let mut needles = text_forms("network", NETWORK);
    needles.extend(text_forms("network id", &text(&made, "/network/id")));
    needles.extend(words(&text(&made, "/recovery_phrase")));
    let flags = ["--tag", TAG, "--owner", OWNER, "--name", GIVEN];
    for (joiner, flags) in [(&pi, &[][..]), (&guest, &flags[..])] {
        let code = nas.invite(flags);
        joiner.join(&code);
        needles.extend(of_code(&code));
    }
    agree(&[&nas, &pi, &guest], 3);
    carries(&nas, &pi);
    pi.reaches(GIVEN);
    nas.kill();
    nas.switch_on();
    agree(&[&nas, &pi, &guest], 3);
    for node in [&nas, &pi, &guest] {
        let custody = secrets(node);
        needles.extend(of_membership(node.name(), &custody));
        let status = node.status();
        needles.extend(text_forms("a device", &text(&status, "/self/id")));
        for field in ["/self/ipv4", "/self/ipv6"] {
            needles.extend(text_forms("an address inside", &text(&status, field)));
        }
    }
    let genesis = meshnode_protocol::op::Op::parse_genesis(&secrets(&nas).genesis);
    let (_, realm) = genesis.unwrap();
    needles.extend(forms("genesis id", realm.genesis.as_bytes()));
    needles.extend(forms("network id", &realm.genesis.as_bytes()[..16]));
    for name in NODES.iter().chain(&[GIVEN, TAG, OWNER]) {
        needles.extend(text_forms("a name, tag or owner", name));
    }
    let announced = peer_id(&nas);
    guest.ask(&["leave", "--yes"]);
    agree(&[&nas, &pi], 2);
    let frames = recorders.into_iter().flat_map(Recorder::stop).collect();
    let record = Record::new(frames);
    measured("bytes recorded on all wires", record.bytes());
    measured("TCP streams among them", record.streams());
    measured("needles, each in its forms", needles.len());
    // It hears all: what is told in the open by design is there.
    assert!(record.shows(announced.as_bytes()), "mDNS tells the peer id");
    assert!(record.shows(b"/multistream/1.0.0") && record.streams() >= 4);
    let seen: Vec<_> = needles.iter().filter(|n| record.shows(&n.bytes)).collect();
    let seen: Vec<_> = seen.iter().map(|needle| &needle.what).collect();
    assert!(seen.is_empty(), "on the wire: {seen:?}");
    control(nas.machine(), pi.machine(), &needles);
}

/// The same search finds what is really there: every needle, in a datagram or over two segments of a stream.
fn control(from: &Machine, to: &Machine, needles: &[Needle]) {
    let recorder = Recorder::on(to);
    let listener = to.inside(|| TcpListener::bind("0.0.0.0:4321").unwrap());
    let listener = listener.unwrap();
    let planted: Vec<_> = needles.iter().map(|needle| needle.bytes.clone()).collect();
    let sender = from.inside(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut stream = TcpStream::connect("192.168.1.2:4321").unwrap();
        stream.set_nodelay(true).unwrap();
        for (number, needle) in planted.iter().enumerate() {
            if number.is_multiple_of(2) {
                socket.send_to(needle, "192.168.1.2:4321").unwrap();
            } else {
                let (front, back) = needle.split_at(needle.len() / 2);
                stream.write_all(front).unwrap();
                stream.write_all(back).unwrap();
            }
        }
    });
    sender.unwrap();
    let heard = to.inside(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        heard.len()
    });
    assert!(heard.unwrap() > 0);
    let record = Record::new(recorder.stop());
    let missed = needles.iter().filter(|needle| !record.shows(&needle.bytes));
    let missed: Vec<_> = missed.map(|needle| &needle.what).collect();
    assert!(missed.is_empty(), "planted and not seen: {missed:?}");
}

/// Both members moved while they could not hear each other. The founder of another network, a stranger to both, has a
/// public address that both met once; it keeps their locators.
pub(crate) fn two_that_both_moved_find_each_other_by_a_strangers_dht(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let stranger = Node::on(on(&lab, &inet, "stranger", "203.0.113.9/24"));
    stranger.init("elsewhere");
    let nas = Node::on(on(&lab, &inet, "nas", "203.0.113.1/24"));
    let pi = Node::on(on(&lab, &inet, "pi", "203.0.113.2/24"));
    nas.init("home");
    pi.join(&nas.invite(&[]));
    agree(&[&nas, &pi], 2);
    nas.reaches("pi");
    // Both are nowhere for a while, and come back at other places: one in the open, one behind a NAT, where no
    // announcement of a LAN leads from one to the other.
    for node in [&nas, &pi] {
        node.machine().detach("eth0").unwrap();
    }
    let state = |node: &Node| text(&node.status(), "/state");
    eventually("both say that they are isolated", FOUND_LIMIT, || {
        state(&nas) == "isolated" && state(&pi) == "isolated"
    });
    let cafe = lab
        .router("cafe")
        .wan(&inet, "203.0.113.77/24")
        .lan("192.168.3.1/24")
        .build()
        .unwrap();
    let [nas_there, pi_there] = [nas.machine(), pi.machine()];
    nas_there.attach(&inet, "203.0.113.51/24", None).unwrap();
    pi_there
        .attach(cafe.lan(), "192.168.3.20/24", Some("192.168.3.1"))
        .unwrap();
    let found = eventually("pi reaches nas where it is now", FOUND_LIMIT, || {
        pi.ping("nas").is_some()
    });
    measured("two that both moved, until the first ping", ms(found));
    carries(&pi, &nas);
    assert_eq!(
        stranger.status()["peers"].as_array().map(Vec::len),
        Some(0),
        "it is a member of nothing but its own network"
    );
}

/// A member is off while everything else gets another address; it finds the others, and what was decided.
pub(crate) fn a_member_that_was_off_finds_all_at_other_addresses_and_catches_up(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, mut pi, mut box_] = home(&lab, &lan, ["nas", "pi", "box"]);
    agree(&[&nas, &pi, &box_], 3);
    pi.switch_off();
    // Meanwhile somebody comes in, and every machine that pi knows gets another address.
    let mut late = Node::on(on(&lab, &lan, "late", "192.168.1.4/24"));
    late.join(&nas.invite(&[]));
    agree(&[&nas, &box_, &late], 3 + 1);
    for (node, host) in [(&mut nas, 101), (&mut box_, 102), (&mut late, 103)] {
        node.switch_off();
        node.machine().detach("eth0").unwrap();
        let address = format!("192.168.1.{host}/24");
        node.machine().attach(&lan, &address, None).unwrap();
        node.switch_on();
    }
    agree(&[&nas, &box_, &late], 4);
    pi.switch_on();
    let took = agree(&[&nas, &pi, &box_, &late], 4);
    measured("back after all others moved, until all agree", ms(took));
    // Whom it never met while it was off it reaches, too.
    pi.reaches("late");
    carries(&pi, &late);
    eventually("it is isolated no longer", PATIENCE, || {
        text(&pi.status(), "/state") != "isolated"
    });
}

fn on(lab: &Lab, switch: &Switch, name: &str, address: &str) -> Machine {
    let machine = lab.machine(name).unwrap();
    machine.attach(switch, address, None).unwrap();
    machine
}

/// The peer id of a node's transport key, as mDNS writes it.
fn peer_id(node: &Node) -> String {
    let key = secrets(node).keys().transport.public();
    // A multihash of kind identity over the key in protobuf.
    base58(
        &[
            &[0x00, 0x24, 0x08, 0x01, 0x12, 0x20],
            key.as_bytes().as_slice(),
        ]
        .concat(),
    )
}

/// The phrase, and all pairs of words that follow each other in it.
fn words(phrase: &str) -> Vec<Needle> {
    let words: Vec<_> = phrase.split_whitespace().collect();
    assert_eq!(words.len(), 12);
    let mut needles = text_forms("recovery phrase", phrase);
    for pair in words.windows(2) {
        needles.extend(text_forms("recovery words", &pair.join(" ")));
    }
    needles
}
