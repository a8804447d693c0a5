//! For tests: one node that founded a network, and what others sign into its stored set.

use std::net::Ipv4Addr;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::{Founded, Founding, Node, Setup};
use crate::body::{
    Body, Caps, Cut, Grant, Invite, InviteTerms, Ipv4Range, Level, OpIds, Revoke, Tags, net_fields,
};
use crate::claim::{Admit, AdmitTerms, Claim, ClaimTerms};
use crate::codec::Ext;
use crate::custody::Custody;
use crate::id::{Digest, InviteKey, NodeId, OpId, TransportKey};
use crate::identity::{Context, Keys, Secret};
use crate::io::{Input, Notice, Output, Stored};
use crate::ledger::Change;
use crate::link::{LinkId, LinkInput, LinkOutput, Service};
use crate::name::{NetworkName, NodeName};
use crate::op::{Draft, Op};
use crate::path::Punch;
use crate::record::{ControlAddress, NodeRecord, Record, RecordBody, Tip, Transport};
use crate::time::{Moment, Timestamp};

/// When the network was founded.
pub(super) const FOUNDED_MS: u64 = 1_767_225_600_000;

/// So long after the founding, by a clock that is right.
pub(super) fn at(ms: u64) -> Moment {
    Moment {
        uptime_us: ms * 1000,
        wall: Timestamp::from_ms(FOUNDED_MS + ms),
    }
}

pub(super) fn founded() -> Founded {
    let founding = Founding {
        network: NetworkName::parse("home").unwrap(),
        node: NodeName::parse("nas").unwrap(),
        ipv4_range: Ipv4Range::DEFAULT,
        owner: None,
        phrases: 1,
        threshold: 1,
    };
    Node::found(founding, setup(), [7; 32], at(0))
}

pub(super) fn setup() -> Setup {
    Setup {
        tunnel_port: 41641,
        os: "test".to_owned(),
        version: "1".to_owned(),
        punch: Punch::default(),
    }
}

/// The keys of a number.
pub(super) fn keys(number: u8) -> Keys {
    Keys::generate(&mut ChaCha20Rng::from_seed([number; 32]))
}

/// The transport key by which a number is connected.
pub(super) fn transport(number: u8) -> TransportKey {
    TransportKey::new(Secret::from_seed(&[number; 32]).public())
}

/// Somebody is connected, by the same address as all.
pub(super) fn connect(node: &mut Node, peer: TransportKey, link: u64, now: Moment) {
    let address = (Ipv4Addr::new(198, 51, 100, 7), 1).into();
    let up = LinkInput::Up {
        link: LinkId(link),
        peer,
        remote: ControlAddress {
            transport: Transport::Tcp,
            address,
        },
        dial: None,
        by: None,
    };
    node.handle(Input::Link(up), now);
}

/// A connected peer has proved to be a device.
pub(super) fn prove(node: &mut Node, peer: TransportKey, device: NodeId, now: Moment) {
    node.proven(peer, device, now);
    node.handle(Input::Timeout, now);
}

/// All that a node wants done.
pub(super) fn drain(node: &mut Node) -> Vec<Output> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

/// The questions among outputs.
pub(super) fn asked(outputs: &[Output], service: Service) -> Vec<Vec<u8>> {
    let questions = outputs.iter().filter_map(|output| {
        let Output::Link(LinkOutput::Ask {
            service: to, bytes, ..
        }) = output
        else {
            return None;
        };
        (*to == service).then(|| bytes.clone())
    });
    questions.collect()
}

/// The log lines among outputs.
pub(super) fn notices(outputs: &[Output]) -> Vec<&Notice> {
    let notices = outputs.iter().filter_map(|output| {
        let Output::Notice(notice) = output else {
            return None;
        };
        Some(notice)
    });
    notices.collect()
}

/// The node of a device, over all that a founder has.
pub(super) fn resumed(founder: &Node, keys: &Keys, now: Moment) -> Node {
    let mut custody = Custody::new(keys);
    custody.genesis.clone_from(&founder.custody.genesis);
    custody.epochs.clone_from(&founder.custody.epochs);
    custody.joined = true;
    let ledger = founder.net.as_ref().unwrap().ledger.clone();
    let stored = Stored {
        secrets: Some(custody.to_bytes()),
        ..Stored::default()
    };
    Node::resume_over(ledger, &stored, setup(), [8; 32], now).unwrap()
}

/// What an op stands on when its author has heard everything.
pub(super) fn draft(node: &Node, authority: OpId) -> Draft {
    let stored = node.net.as_ref().unwrap().authority();
    let mut parents = stored.heads();
    parents.truncate(crate::limits::PARENTS_MAX);
    Draft {
        network: stored.network(),
        authority,
        time: at(0).wall,
        parents,
    }
}

pub(super) fn genesis(node: &Node) -> OpId {
    node.net.as_ref().unwrap().authority().realm().genesis
}

/// An op enters the stored set of a node.
pub(super) fn store(node: &mut Node, op: &Op, now: Moment) {
    let net = node.net.as_mut().unwrap();
    let mut change = Change::default();
    net.ledger.insert_op(op.bytes(), &mut change);
    assert_eq!((change.writes.len(), change.refused), (1, 0));
    net.dirty = true;
    node.handle(Input::Timeout, now);
}

/// The founder says something.
pub(super) fn say(node: &mut Node, body: Body, now: Moment) -> Op {
    let op = Op::sign(body, draft(node, genesis(node)), &node.keys.device.clone());
    store(node, &op, now);
    op
}

/// What a device says of its keys.
pub(super) fn node_record(node: &Node, keys: &Keys) -> RecordBody {
    let network = node.net.as_ref().unwrap().authority().network();
    RecordBody::Node(Box::new(NodeRecord {
        transport: keys.transport_binding(&network),
        tunnel: keys.tunnel_binding(&network),
        tunnel_next: None,
        os: "test".to_owned(),
        version: "1".to_owned(),
        ext: Ext::NONE,
    }))
}

/// What a grant says that gives an admin all caps.
pub(super) fn grant(device: NodeId, level: u8, name: &str, expires: Option<Timestamp>) -> Grant {
    let level = Level(level);
    Grant {
        device,
        level,
        caps: if level.is_admin() {
            Caps::ALL
        } else {
            Caps::NONE
        },
        may_tag: Tags::default(),
        owner: None,
        tags: Tags::default(),
        name: NodeName::parse(name).unwrap(),
        ipv4: Ipv4Addr::new(100, 71, 9, level.0.wrapping_add(device.as_bytes()[0]) | 1),
        expires,
        claim: None,
        ext: Ext::NONE,
    }
}

pub(super) fn revoke(device: NodeId) -> Body {
    Body::Revoke(Box::new(Revoke {
        device,
        cut: Cut::Parents,
        spare: OpIds::default(),
        reason: "stolen".to_owned(),
        ext: Ext::NONE,
    }))
}

/// An invite by an issuer under an authority; what it says can be changed first.
pub(super) fn invite(
    node: &mut Node,
    (issuer, authority): (&Secret, OpId),
    seed: u8,
    change: impl FnOnce(&mut InviteTerms),
) -> (OpId, Secret) {
    let secret = Secret::from_seed(&[seed; 32]);
    let mut terms = InviteTerms {
        key: InviteKey::new(secret.public()),
        rendezvous: [seed; 32],
        psk: [seed; 32],
        uses: 1,
        not_after: at(1_000_000).wall,
        approve: false,
        ephemeral: false,
        owner: None,
        tags: Tags::default(),
        name: None,
        replaces: None,
        member_for_ms: None,
        ext: Ext::NONE,
    };
    change(&mut terms);
    let fields = net_fields(&genesis(node), &NodeId::new(issuer.public()), &terms);
    let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
    let net_signature = secret.sign(Context::Net, &fields);
    let body = Invite {
        terms,
        net_signature,
    };
    let op = Op::sign(Body::Invite(Box::new(body)), draft(node, authority), issuer);
    store(node, &op, at(2));
    (op.id(), secret)
}

/// What a joiner claims under an invite at this node.
pub(super) fn claim(node: &Node, invite: OpId, secret: &Secret, joiner: &Keys) -> Claim {
    let network = node.net.as_ref().unwrap().authority().network();
    let terms = ClaimTerms {
        version: 1,
        network,
        invite,
        device: joiner.node(),
        transport: joiner.transport_binding(&network),
        tunnel: joiner.tunnel_binding(&network),
        name: NodeName::parse("guest").unwrap(),
        time: at(1).wall,
        witness: node.id(),
        transcript: Digest::ZERO,
        ext: Ext::NONE,
    };
    Claim::sign(terms, secret, &joiner.device)
}

/// This node lets a joiner in as a witness.
pub(super) fn admit(node: &mut Node, claim: Claim) {
    let network = node.net.as_ref().unwrap().authority().network();
    let terms = AdmitTerms {
        version: 1,
        network,
        claim,
        heads: Vec::new(),
        ext: Ext::NONE,
    };
    let admit = Admit::sign(terms, &node.keys.device);
    let net = node.net.as_mut().unwrap();
    let mut change = Change::default();
    net.ledger.insert_admit(admit.bytes(), &mut change);
    assert_eq!(change.writes.len(), 1);
    net.dirty = true;
}

/// A device tells the time.
pub(super) fn tip(node: &mut Node, device: &Secret, time: Timestamp, now: Moment) {
    tip_of(node, device, Vec::new(), time, now);
}

/// A device tells what it knows, and the time.
pub(super) fn tip_of(
    node: &mut Node,
    device: &Secret,
    heads: Vec<OpId>,
    time: Timestamp,
    now: Moment,
) {
    let stored = node.net.as_ref().unwrap().authority();
    let tip = Tip {
        heads,
        ops: 1,
        root: stored.realm().genesis,
        policy_base: None,
        epoch: 0,
        time,
        ext: Ext::NONE,
    };
    let body = RecordBody::Tip(Box::new(tip));
    let held = node.net.as_ref().unwrap().ledger.records.iter();
    let seq = held.map(Record::seq).max().unwrap_or(0) + 1;
    let record = Record::sign(stored.network(), seq, body, device);
    node.take_record(record.bytes());
    node.net.as_mut().unwrap().dirty = true;
    node.handle(Input::Timeout, now);
}
