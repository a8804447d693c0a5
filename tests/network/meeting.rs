//! Where no member can be called: newcomers find one by a relay that is a member of nothing.

use std::fs;
use std::time::Duration;

use meshnode::lab::{Machine, Process, Stopwatch, World};

use crate::circuits::{start, status};
use crate::internet::Internet;
use crate::internet::plan::{Nat, Plan, V6};
use crate::lab;
use crate::node::{Node, carries, eventually, measured, ms, symbols, text};

/// How long nodes may take to be at home at a relay, and known to be.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn a_newcomer_finds_a_member_by_a_relay_that_learns_no_name(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let middle = internet.site("middle", Plan::of(Nat::Public));
    let relay = lab.machine("relay").unwrap();
    let at = format!("{}:443", middle.connect(&relay)[0]);
    let program = start(&relay);
    let key = text(&status(&relay), "/key");
    let sym = |name: &str| {
        let v6 = V6::Off;
        let site = internet.site(
            &format!("{name}-site"),
            Plan {
                v6,
                ..Plan::of(Nat::Sym)
            },
        );
        let node = Node::on(site.host(&lab, name));
        (site, node)
    };
    let (_attic_site, attic) = sym("attic");
    attic.init("granary");
    assert!(!attic.invite(&[]).contains('@'), "nobody can be called");
    attic.ask(&[
        "relay",
        "add",
        &format!("{}@{at}", &key[..10]),
        "--name",
        "oak",
    ]);
    at_home(&relay, 1);
    let code = attic.invite(&[]);
    assert!(code.contains(&format!("@{at}/")), "{code}");
    let (_cellar_site, cellar) = sym("cellar");
    let watch = Stopwatch::start();
    cellar.join(&code);
    measured("join by a relay, both sites symmetric", ms(watch.elapsed()));
    by_relay(&cellar, &attic);
    measured("to a ping by that relay", ms(watch.elapsed()));
    carries(&cellar, &attic);
    carries(&attic, &cellar);
    knows_nothing(&relay, &program, &[&cellar], symbols(&code));
}

/// So many are reachable by a relay.
fn at_home(relay: &Machine, count: u64) {
    eventually("members are reachable by the relay", LONG, || {
        status(relay)["clients_n"].as_u64() >= Some(count)
    });
}

fn by_relay(from: &Node, to: &Node) {
    eventually("they talk by the relay", LONG, || {
        let line = from.ping(to.name());
        line.is_some_and(|line| text(&line, "/path/tier") == "udp-relay")
    });
}

/// Neither what a relay keeps nor what it says of itself holds a name, an id or a code.
fn knows_nothing(relay: &Machine, program: &Process, nodes: &[&Node], code: &str) {
    let mut held = format!("{}{}{}", status(relay), program.stdout(), program.stderr());
    for file in fs::read_dir(relay.directory().join("relay")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap_or_default();
        held.push_str(&String::from_utf8_lossy(&bytes));
    }
    let mut needles = vec!["granary".to_owned(), "attic".to_owned(), code.to_owned()];
    for node in nodes {
        let status = node.status();
        needles.push(node.name().to_owned());
        needles.extend(["/network/id", "/self/id", "/self/ipv6"].map(|at| text(&status, at)));
    }
    for needle in needles {
        assert!(!held.contains(&needle), "the relay holds {needle}");
    }
}
