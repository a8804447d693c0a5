//! Prints what one received item costs a whole node, outputs drained, in networks of 100, 1 000 and 10 000 members
//! that all said which keys they have: for a member, and for the founder, who watches over more.
//!
//! Run with `cargo run --release -p meshnode-protocol --example node_cost`.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measurement for people: it reads the clock and prints"
)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Instant;

use meshnode_protocol::body::{
    Body, Caps, Cut, Genesis, Grant, Ipv4Range, Level, OpIds, Revoke, Tags,
};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::custody::Custody;
use meshnode_protocol::id::{Digest, RootKey};
use meshnode_protocol::identity::{Keys, Secret};
use meshnode_protocol::io::{Command, CommandId, Input, Stored};
use meshnode_protocol::ledger::{Change, Ledger};
use meshnode_protocol::name::{NetworkName, NodeName};
use meshnode_protocol::node::{Node, Setup};
use meshnode_protocol::op::{Draft, Op, Realm};
use meshnode_protocol::path::Punch;
use meshnode_protocol::record::{NodeRecord, Record, RecordBody};
use meshnode_protocol::time::{Moment, Timestamp};
use meshnode_protocol::view::View;
use meshnode_protocol::wire::Items;

const STARTED: Timestamp = Timestamp::from_ms(1_790_000_000_000);
/// How often the same is measured; the quickest counts.
const RUNS: u32 = 10;

fn main() {
    for members in [100, 1_000, 10_000] {
        let mut world = World::new(members);
        for who in [1, 0] {
            world.measure(who);
        }
    }
}

/// A network as one replica has it.
struct World {
    genesis: Op,
    realm: Realm,
    ledger: Ledger,
    view: View,
    members: u32,
}

impl World {
    fn new(members: u32) -> Self {
        let (genesis, realm) = founded();
        let ledger = Ledger::new(genesis.clone(), realm.clone());
        let left = BTreeSet::new();
        let view = View::compute(&ledger.authority, &left, STARTED);
        let mut world = Self {
            genesis,
            realm,
            ledger,
            view,
            members,
        };
        let founder = world.record(0);
        let mut change = Change::default();
        world.ledger.insert_record(&founder, &mut change);
        for number in 1..=members {
            let op = world.granted(number);
            world.tell(&op);
            let record = world.record(number);
            world.ledger.insert_record(&record, &mut change);
        }
        world
    }

    /// Signs over everything that was said, as the founder.
    fn say(&self, body: Body) -> Vec<u8> {
        let draft = Draft {
            network: self.ledger.authority.network(),
            authority: self.realm.genesis,
            time: STARTED,
            parents: self.ledger.authority.heads(),
        };
        Op::sign(body, draft, &keys(0).device).bytes().to_vec()
    }

    fn tell(&mut self, op: &[u8]) {
        self.ledger.insert_op(op, &mut Change::default());
        let left = self.ledger.records.left();
        self.view.follow(&self.ledger.authority, &left, STARTED);
    }

    fn granted(&self, number: u32) -> Vec<u8> {
        let device = keys(number).node();
        let wished = NodeName::parse(&format!("node-{number}")).unwrap();
        self.say(Body::Grant(Box::new(Grant {
            device,
            level: Level::MEMBER,
            caps: Caps::NONE,
            may_tag: Tags::default(),
            owner: None,
            tags: Tags::default(),
            name: self.view.free_name(&wished, &device),
            ipv4: self.view.free_ipv4(&device),
            expires: None,
            claim: None,
            ext: Ext::NONE,
        })))
    }

    fn revoked(&self, number: u32) -> Vec<u8> {
        self.say(Body::Revoke(Box::new(Revoke {
            device: keys(number).node(),
            cut: Cut::Parents,
            spare: OpIds::default(),
            reason: String::new(),
            ext: Ext::NONE,
        })))
    }

    fn record(&self, number: u32) -> Vec<u8> {
        let network = self.ledger.authority.network();
        let keys = keys(number);
        let node = NodeRecord {
            transport: keys.transport_binding(&network),
            tunnel: keys.tunnel_binding(&network),
            tunnel_next: None,
            os: "linux".to_owned(),
            version: "0".to_owned(),
            ext: Ext::NONE,
        };
        let body = RecordBody::Node(Box::new(node));
        Record::sign(network, 1, body, &keys.device)
            .bytes()
            .to_vec()
    }

    fn left(&self, number: u32) -> Vec<u8> {
        let network = self.ledger.authority.network();
        let record = Record::sign(network, 1, RecordBody::Left, &keys(number).device);
        record.bytes().to_vec()
    }

    /// Boots a node over what is stored, and gives it one thing after the other.
    fn measure(&mut self, who: u32) {
        let mut custody = Custody::new(&keys(who));
        custody.genesis = self.genesis.bytes().to_vec();
        custody.joined = true;
        let stored = Stored {
            secrets: Some(custody.to_bytes()),
            ..Stored::default()
        };
        let setup = Setup {
            tunnel_port: 7000,
            os: "linux".to_owned(),
            version: "0".to_owned(),
            punch: Punch::default(),
        };
        let started = Instant::now();
        let ledger = self.ledger.clone();
        let node = Node::resume_over(ledger, &stored, setup, [7; 32], moment(0)).unwrap();
        let mut desk = Desk { node, at_ms: 0 };
        desk.drain();
        let booted = started.elapsed().as_millis();
        let (mut granted, mut left, mut revoked) = (f64::MAX, f64::MAX, f64::MAX);
        let idle = (0..RUNS).map(|_| desk.hear(Items::default()));
        let idle = idle.fold(f64::MAX, f64::min);
        let first = self.members + 1 + who * 3 * RUNS;
        for number in first..first + RUNS {
            let op = self.granted(number);
            self.tell(&op);
            granted = granted.min(desk.hear(ops(op)));
            // One that was there all the time goes.
            let goes = number - self.members + 1;
            let record = self.left(goes);
            self.ledger.insert_record(&record, &mut Change::default());
            let records = vec![record];
            left = left.min(desk.hear(Items {
                records,
                ..Items::default()
            }));
            let op = self.revoked(goes);
            self.tell(&op);
            revoked = revoked.min(desk.hear(ops(op)));
        }
        let role = if who == 0 { "founder" } else { "member" };
        println!(
            "{} members, {role}: booted in {booted} ms; an input without news {idle:.2} ms, one granted \
             {granted:.2} ms, one leaves {left:.2} ms, one revoked {revoked:.1} ms",
            self.members
        );
    }
}

fn ops(op: Vec<u8>) -> Items {
    Items {
        ops: vec![op],
        ..Items::default()
    }
}

/// A node and its driver.
struct Desk {
    node: Node,
    at_ms: u64,
}

impl Desk {
    /// Gives the node items, and counts the milliseconds until it has said everything.
    fn hear(&mut self, items: Items) -> f64 {
        // Not long enough for anything else to be due.
        self.at_ms += 1;
        let command = Command::Import(Box::new(items));
        let input = Input::Command(CommandId(self.at_ms), command);
        let started = Instant::now();
        self.node.handle(input, moment(self.at_ms));
        self.drain();
        started.elapsed().as_secs_f64() * 1e3
    }

    fn drain(&mut self) {
        while self.node.poll_output().is_some() {}
    }
}

const fn moment(at_ms: u64) -> Moment {
    Moment {
        uptime_us: at_ms * 1000,
        wall: Timestamp::from_ms(STARTED.ms() + at_ms),
    }
}

fn founded() -> (Op, Realm) {
    let root = Secret::from_seed(&[200; 32]);
    let genesis = Genesis {
        random: [1; 32],
        roots: vec![RootKey::new(root.public())],
        threshold: 1,
        name: NetworkName::parse("homelab").unwrap(),
        ipv4_range: Ipv4Range::DEFAULT,
        founder: keys(0).node(),
        founder_name: NodeName::parse("nas").unwrap(),
        founder_ipv4: Ipv4Addr::new(100, 64, 1, 1),
        owner: None,
        epoch_commitment: Digest::ZERO,
        closed: false,
        ext: Ext::NONE,
    };
    let op = Op::found(genesis, STARTED, &[root], &keys(0).device);
    Op::parse_genesis(op.bytes()).unwrap()
}

fn keys(number: u32) -> Keys {
    let secret = |kind: u8| {
        let mut seed = [kind; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        Secret::from_seed(&seed)
    };
    Keys {
        device: secret(1),
        transport: secret(2),
        tunnel: secret(3),
    }
}
