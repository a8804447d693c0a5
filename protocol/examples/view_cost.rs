//! Prints what a view costs: for networks of 100, 1 000 and 10 000 members of which 2 % were put out, after one change,
//! from scratch and followed, and for floods of 20 000 concurrent ops of one admin.
//!
//! Run with `cargo run --release -p meshnode-protocol --example view_cost`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measurement for people: it reads the clock and prints"
)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use meshnode_protocol::authority::Authority;
use meshnode_protocol::body::{
    Body, Caps, Cut, Genesis, Grant, Ipv4Range, Level, OpIds, Revoke, Tags,
};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{Digest, NodeId, OpId, RootKey};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::name::{NetworkName, NodeName};
use meshnode_protocol::op::{Draft, Op};
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::view::View;

const TIME: Timestamp = Timestamp::from_ms(1);

/// One device of so many was put out.
const REVOKED_ONE_IN: u32 = 50;
/// How often the same is measured; the quickest counts.
const RUNS: usize = 20;
const FLOOD: u32 = 20_000;

fn main() {
    for members in [100, 1_000, 10_000] {
        let mut authority = founded();
        let mut view = compute(&authority);
        let started = Instant::now();
        for number in 0..members {
            // One view serves a hundred grants: some collide, as in partitions.
            if number % 100 == 0 {
                view = compute(&authority);
            }
            let (body, parents) = (grant(number, &view), authority.heads());
            say(&mut authority, body, parents, number);
            if number % REVOKED_ONE_IN == 0 {
                let parents = authority.heads();
                say(&mut authority, revoke(number), parents, number);
            }
        }
        let filled = started.elapsed();
        report(&format!("{members} members"), &authority);
        println!("    said, checked and stored in {} ms", filled.as_millis());
        one_change(&mut authority, members);
    }
    flood("concurrent ops", |_| Body::Noop);
    flood("concurrent revocations of one device", |_| revoke(0));
    flood("concurrent revocations of as many", revoke);
}

/// A device more: its op is checked and stored, then followed; and one that leaves, and one that is put out.
fn one_change(authority: &mut Authority, members: u32) {
    let mut view = compute(authority);
    let (mut stored, mut granted) = (Duration::MAX, Duration::MAX);
    for number in members..members + RUNS as u32 {
        let (body, parents) = (grant(number, &view), authority.heads());
        let started = Instant::now();
        say(authority, body, parents, number);
        stored = stored.min(started.elapsed());
        granted = granted.min(follow(
            &mut view,
            authority,
            &BTreeSet::new(),
            Ways::Followed,
        ));
    }
    // The last one said was granted just now, and nobody asked for what it has.
    let left = BTreeSet::from([NodeId::new(secret(members + 1).public())]);
    let leaves = follow(&mut view, authority, &left, Ways::Followed);
    let parents = authority.heads();
    say(authority, revoke(members + 1), parents, members);
    let revoked = follow(&mut view, authority, &left, Ways::Anew);
    assert_eq!(
        view,
        View::compute(authority, &left, TIME),
        "both ways agree"
    );
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    println!(
        "    one granted {:.2} ms (stored in {:.2} ms), one leaves {:.2} ms, one revoked {:.1} ms",
        ms(granted),
        ms(stored),
        ms(leaves),
        ms(revoked)
    );
}

/// How a view gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    Followed,
    Anew,
}

fn follow(view: &mut View, authority: &Authority, left: &BTreeSet<NodeId>, way: Ways) -> Duration {
    let started = Instant::now();
    let turn = view.follow(authority, left, TIME);
    let took = started.elapsed();
    assert_eq!(turn.anew, way == Ways::Anew, "the way that is measured");
    took
}

fn flood(what: &str, body: impl Fn(u32) -> Body) {
    let mut authority = founded();
    let view = compute(&authority);
    let parents = authority.heads();
    say(&mut authority, grant(0, &view), parents, 0);
    let parents = authority.heads();
    for number in 0..FLOOD {
        say(&mut authority, body(number), parents.clone(), number);
    }
    report(&format!("{FLOOD} {what}"), &authority);
}

fn revoke(number: u32) -> Body {
    Body::Revoke(Box::new(Revoke {
        device: NodeId::new(secret(number + 1).public()),
        cut: Cut::Parents,
        spare: OpIds::default(),
        reason: String::new(),
        ext: Ext::NONE,
    }))
}

fn report(what: &str, authority: &Authority) {
    let mut took = Duration::MAX;
    for _ in 0..RUNS {
        let started = Instant::now();
        compute(authority);
        took = took.min(started.elapsed());
    }
    let view = compute(authority);
    let members = view.members().len();
    println!(
        "{what}: view of {members} in {:.1} ms",
        took.as_secs_f64() * 1e3
    );
}

fn compute(authority: &Authority) -> View {
    View::compute(authority, &BTreeSet::new(), TIME)
}

fn say(authority: &mut Authority, body: Body, parents: Vec<OpId>, number: u32) {
    let draft = Draft {
        network: authority.network(),
        authority: authority.realm().genesis,
        time: Timestamp::from_ms(number.into()),
        parents,
    };
    let op = Op::sign(body, draft, &secret(0));
    authority.insert_op(op.bytes()).unwrap();
}

fn grant(number: u32, view: &View) -> Body {
    let device = NodeId::new(secret(number + 1).public());
    let wished = NodeName::parse(&format!("node-{number}")).unwrap();
    Body::Grant(Box::new(Grant {
        device,
        level: Level::MEMBER,
        caps: Caps::NONE,
        may_tag: Tags::default(),
        owner: None,
        tags: Tags::default(),
        name: view.free_name(&wished, &device),
        ipv4: view.free_ipv4(&device),
        expires: None,
        claim: None,
        ext: Ext::NONE,
    }))
}

fn founded() -> Authority {
    let root = secret(u32::MAX);
    let genesis = Genesis {
        random: [1; 32],
        roots: vec![RootKey::new(root.public())],
        threshold: 1,
        name: NetworkName::parse("homelab").unwrap(),
        ipv4_range: Ipv4Range::DEFAULT,
        founder: NodeId::new(secret(0).public()),
        founder_name: NodeName::parse("nas").unwrap(),
        founder_ipv4: Ipv4Addr::new(100, 64, 1, 1),
        owner: None,
        epoch_commitment: Digest::ZERO,
        closed: false,
        ext: Ext::NONE,
    };
    let op = Op::found(genesis, TIME, &[root], &secret(0));
    let (op, realm) = Op::parse_genesis(op.bytes()).unwrap();
    Authority::found(op, realm)
}

fn secret(number: u32) -> Secret {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Secret::from_seed(&seed)
}
