//! Prints what a policy costs: compiled and filtered for networks of 100, 1 000 and 10 000 nodes, and its bytes.
//!
//! Run with `cargo run --release -p meshnode-protocol --example policy_cost`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measurement for people: it reads the clock and prints"
)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Instant;

use meshnode_protocol::access::Filter;
use meshnode_protocol::address::ipv6;
use meshnode_protocol::body::Ipv4Range;
use meshnode_protocol::id::{NodeId, OpId};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::name::{NodeName, Owner, Tag};
use meshnode_protocol::policy::{
    Directory, Document, Listing, Policy, Proposal, Reach, Troubles, read,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const GENESIS: OpId = OpId::new([7; 32]);

fn main() {
    for nodes in [100, 1_000, 10_000] {
        let directory = directory(nodes);
        let policy = policy(500, &directory);
        let started = Instant::now();
        let reach = Reach::compile(&policy, &directory);
        let compiled = started.elapsed();
        let node = *directory.listings().keys().next().unwrap();
        let started = Instant::now();
        let filter = reach.filter(&node);
        let filtered = started.elapsed();
        let Filter::Closed(peers) = filter else {
            panic!("a policy closes");
        };
        println!(
            "{nodes} nodes, {} rules: compiled in {:.1} ms, filter of one node in {:.1} ms ({} peers)",
            policy.rules.len(),
            compiled.as_secs_f64() * 1e3,
            filtered.as_secs_f64() * 1e3,
            peers.len()
        );
    }
    bytes(&directory(1_000));
}

/// What the document takes on the wire, and how long it is read.
fn bytes(directory: &Directory) {
    let author = *directory.listings().keys().next().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut count = 100;
    while let Ok(base) = Document::base_for(&policy(count, directory), &author, &mut rng) {
        let started = Instant::now();
        let document = Document::from_base(&base, &author).unwrap();
        let loaded = started.elapsed();
        let started = Instant::now();
        let mut wanted = document.read().policy;
        let reading = started.elapsed();
        wanted.rules.remove(count / 2);
        let started = Instant::now();
        let edit = document.propose(&wanted, Troubles::Settle, &author, &mut rng);
        let proposed = started.elapsed();
        let Ok(Proposal::Edit(edit)) = edit else {
            panic!("a rule less is an edit");
        };
        println!(
            "{count} rules: base {} bytes, loaded in {:.1} ms, read in {:.1} ms; edit of one {} bytes in {:.1} ms",
            base.len(),
            loaded.as_secs_f64() * 1e3,
            reading.as_secs_f64() * 1e3,
            edit.len(),
            proposed.as_secs_f64() * 1e3
        );
        count += 200;
    }
    println!("{count} rules: larger than a base may be");
}

fn directory(nodes: u32) -> Directory {
    let listings = (0..nodes).map(|number| {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        let id = NodeId::new(Secret::from_seed(&seed).public());
        let tag = Tag::parse(&format!("tag-{}", number % 40)).unwrap();
        let tagged = number % 3 == 0;
        Listing {
            id,
            name: NodeName::parse(&format!("node-{number}")).unwrap(),
            owner: Some(Owner::parse(&format!("owner-{}", number % 100)).unwrap()),
            tags: if tagged {
                BTreeSet::from([tag])
            } else {
                BTreeSet::new()
            },
            admin: number < 3,
            ipv4: Some(Ipv4Addr::from(0x6440_0100 + number)),
            ipv6: ipv6(&GENESIS, &id),
        }
    });
    Directory::new(&GENESIS, Ipv4Range::DEFAULT, listings)
}

/// Rules of every kind; one in fifty means everybody.
fn policy(rules: usize, directory: &Directory) -> Policy {
    let mut text = String::from("{\n");
    text.push_str("\"groups\": {\n");
    for number in 0..20 {
        text.push_str(&format!(
            "\"group:g-{number}\": [\"owner:owner-{number}\", \"owner:owner-{}\"],\n",
            number + 40
        ));
    }
    text.push_str("},\n\"grants\": [\n");
    for number in 0..rules {
        let src = match number % 5 {
            0 => format!("group:g-{}", number % 20),
            1 => format!("owner:owner-{}", number % 100),
            2 => "autogroup:member".to_owned(),
            3 if number % 50 == 3 => "*".to_owned(),
            _ => format!("tag:tag-{}", number % 40),
        };
        let dst = match number % 4 {
            0 => format!("node-{}", number % 100),
            1 if number % 50 == 3 => "*".to_owned(),
            _ => format!("tag:tag-{}", (number * 7) % 40),
        };
        let port = 1 + number % 1000;
        text.push_str(&format!(
            "{{\"src\": [\"{src}\"], \"dst\": [\"{dst}\"], \"ip\": [\"tcp:{port}\", \"icmp\"]}},\n"
        ));
    }
    text.push_str("]}");
    read(&text, directory).unwrap().policy
}
