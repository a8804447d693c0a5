//! What the stored sets keep and tell.

use std::net::Ipv4Addr;

use super::*;
use crate::body::{Body, Genesis, Ipv4Range, Policy};
use crate::codec::Ext;
use crate::id::{NodeId, RootKey};
use crate::identity::Secret;
use crate::name::{NetworkName, NodeName};
use crate::op::Draft;
use crate::record::{Record, RecordBody, RecordKind};
use crate::time::Timestamp;

fn founded(founder: &Secret) -> Ledger {
    let root = Secret::from_seed(&[9; 32]);
    let genesis = Genesis {
        random: [7; 32],
        roots: vec![RootKey::new(root.public())],
        threshold: 1,
        name: NetworkName::parse("home").unwrap(),
        ipv4_range: Ipv4Range::DEFAULT,
        founder: NodeId::new(founder.public()),
        founder_name: NodeName::parse("nas").unwrap(),
        founder_ipv4: Ipv4Addr::new(100, 71, 4, 2),
        owner: None,
        epoch_commitment: Digest::ZERO,
        closed: false,
        ext: Ext::NONE,
    };
    let op = Op::found(genesis, Timestamp::from_ms(1), &[root], founder);
    let (op, realm) = Op::parse_genesis(op.bytes()).unwrap();
    Ledger::new(op, realm)
}

#[test]
fn a_record_of_a_stranger_is_not_kept() {
    let (founder, stranger) = (Secret::from_seed(&[1; 32]), Secret::from_seed(&[2; 32]));
    let mut ledger = founded(&founder);
    let network = ledger.authority.network();
    let mut change = Change::default();
    for device in [&stranger, &founder] {
        let record = Record::sign(network, 1, RecordBody::Left, device);
        ledger.insert_record(record.bytes(), &mut change);
    }
    assert_eq!(change.writes.len(), 1);
    let kept = |key: &Secret| {
        let device = NodeId::new(key.public());
        ledger.records.of(&device, RecordKind::LEFT).is_some()
    };
    assert!(kept(&founder) && !kept(&stranger));
}

#[test]
fn foreign_records_of_one_device_are_few_whatever_their_order() {
    let founder = Secret::from_seed(&[1; 32]);
    let network = founded(&founder).authority.network();
    let kinds = 100..100 + crate::limits::FOREIGN_RECORDS_MAX as u16 + 20;
    let records: Vec<_> = kinds
        .map(|kind| Record::sign(network, 1, RecordBody::Opaque(RecordKind(kind)), &founder))
        .collect();
    let (mut a, mut b) = (founded(&founder), founded(&founder));
    let mut change = Change::default();
    for (one, other) in records.iter().zip(records.iter().rev()) {
        a.insert_record(other.bytes(), &mut change);
        b.insert_record(one.bytes(), &mut Change::default());
    }
    assert_eq!(a.records.iter().count(), crate::limits::FOREIGN_RECORDS_MAX);
    assert_eq!(a.summary().roots, b.summary().roots);
    // A store that does what it is told holds what the replicas hold.
    let mut disk = BTreeSet::new();
    for write in change.writes {
        match write {
            Write::Record(key, _) => drop(disk.insert(key)),
            Write::DropRecord(key) => assert!(disk.remove(&key)),
            Write::Op(..)
            | Write::Admit(..)
            | Write::DropAdmit(_)
            | Write::Secrets(_)
            | Write::Heads(_)
            | Write::Heard(..)
            | Write::Blocked(_)
            | Write::Trial(_) => panic!("records alone were said"),
        }
    }
    let kept: BTreeSet<_> = a.records.iter().map(|record| record.slot().key()).collect();
    assert_eq!(disk, kept);
}

/// Who has the stub alone must be seen to lack the body; who has both has the same as who never saw the stub.
#[test]
fn a_stub_is_another_item_than_its_op_until_the_body_comes() {
    let founder = Secret::from_seed(&[1; 32]);
    let (mut whole, mut stubbed) = (founded(&founder), founded(&founder));
    let body = Body::Policy(Policy {
        base: OpId::ZERO,
        change: b"a change".to_vec(),
        ext: Ext::NONE,
    });
    let genesis = whole.authority.realm().genesis;
    let draft = Draft {
        network: whole.authority.network(),
        authority: genesis,
        time: Timestamp::from_ms(2),
        parents: vec![genesis],
    };
    let op = Op::sign(body, draft, &founder);
    let length = usize::try_from(op.header().body_len).unwrap();
    let stub = &op.bytes()[..op.bytes().len() - length];
    let mut change = Change::default();
    whole.insert_op(op.bytes(), &mut change);
    stubbed.insert_op(stub, &mut change);
    assert_ne!(whole.summary().roots[0], stubbed.summary().roots[0]);
    stubbed.insert_op(op.bytes(), &mut change);
    assert_eq!(whole.summary().roots[0], stubbed.summary().roots[0]);
    assert_eq!(change.writes.len(), 3);
}

/// Nothing that anybody can send takes away what another said: no message deletes, and nobody speaks in another's
/// place.
#[test]
fn no_delete_api() {
    let (founder, thief) = (Secret::from_seed(&[1; 32]), Secret::from_seed(&[2; 32]));
    let mut ledger = founded(&founder);
    let network = ledger.authority.network();
    let genesis = ledger.authority.entries()[0].op.bytes().to_vec();
    let node = |seq| Record::sign(network, seq, RecordBody::Opaque(RecordKind(100)), &founder);
    ledger.insert_record(node(5).bytes(), &mut Change::default());
    let before = ledger.summary().roots;
    let forged = Record::sign(network, 9, RecordBody::Left, &thief);
    let mut in_its_place = forged.bytes().to_vec();
    let at = in_its_place
        .windows(32)
        .position(|part| part == thief.public().as_bytes());
    let at = at.expect("a record says whose it is");
    in_its_place[at..at + 32].copy_from_slice(founder.public().as_bytes());
    let mut sent = vec![
        in_its_place,
        forged.bytes().to_vec(),
        node(4).bytes().to_vec(),
    ];
    for original in [genesis, node(9).bytes().to_vec()] {
        sent.extend((0..original.len()).map(|at| {
            let mut bytes = original.clone();
            bytes[at] ^= 1;
            bytes
        }));
    }
    for bytes in sent {
        let mut change = Change::default();
        ledger.insert_op(&bytes, &mut change);
        ledger.insert_admit(&bytes, &mut change);
        ledger.insert_record(&bytes, &mut change);
        assert!(change.writes.is_empty());
    }
    assert_eq!(ledger.summary().roots, before);
}
