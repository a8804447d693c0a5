//! Device records: only the newest of a slot stays, and only its own device writes it.

use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::Signature;
use meshnode_protocol::identity::Keys;
use meshnode_protocol::io::Write;
use meshnode_protocol::ledger::{Change, Ledger};
use meshnode_protocol::limits::ADMITS_PER_INVITE_MAX;
use meshnode_protocol::record::{NodeRecord, Record, RecordBody, RecordError};
use meshnode_protocol::records::{RecordInserted, Records};

use crate::cast::{Cast, F, X, actor};

fn left(cast: &Cast, device: usize, seq: u64) -> Record {
    let network = cast.authority.network();
    Record::sign(network, seq, RecordBody::Left, &cast.keys[device].device)
}

#[test]
fn stale_record_ignored() {
    let cast = Cast::founded();
    let network = cast.authority.network();
    let (old, new) = (left(&cast, X, 1), left(&cast, X, 2));
    for order in [[&old, &new], [&new, &old]] {
        let mut records = Records::default();
        for record in order {
            records.insert(record.bytes(), &network).unwrap();
        }
        let again = records.insert(old.bytes(), &network);
        assert_eq!(again, Ok(RecordInserted::Stale));
        let kept: Vec<u64> = records.iter().map(Record::seq).collect();
        assert_eq!(kept, [2]);
    }
}

/// Two replicas hear the same admits; only one hears a record of a device while its admit is stored.
#[test]
fn records_go_with_the_last_admit_that_names_their_device() {
    let mut cast = Cast::founded();
    let invite = cast.invite(F, 1, false);
    let network = cast.authority.network();
    let joiners: Vec<_> = (0..2 * ADMITS_PER_INVITE_MAX as u8)
        .map(|number| actor(64 + number))
        .collect();
    let admits: Vec<_> = joiners
        .iter()
        .map(|keys| cast.admit_of(cast.claim_of(invite, keys, network, F), F))
        .collect();
    let record = |keys: &Keys| Record::sign(network, 1, RecordBody::Left, &keys.device);
    let realm = cast.authority.realm().clone();
    let genesis = cast.authority.op(&realm.genesis).unwrap();
    let empty = Ledger::new(genesis.clone(), realm);
    let [mut early, mut late] = [empty.clone(), empty];
    let mut change = Change::default();
    for ledger in [&mut early, &mut late] {
        let op = cast.authority.op(&invite).unwrap();
        ledger.insert_op(op.bytes(), &mut change);
    }
    for (admit, keys) in admits.iter().zip(&joiners) {
        early.insert_admit(admit.bytes(), &mut change);
        early.insert_record(record(keys).bytes(), &mut change);
        late.insert_admit(admit.bytes(), &mut change);
    }
    for keys in &joiners {
        late.insert_record(record(keys).bytes(), &mut change);
    }
    assert_eq!(early.records.iter().count(), ADMITS_PER_INVITE_MAX);
    assert_eq!(early.summary().roots, late.summary().roots);
    let dropped = change.writes.iter();
    let dropped = dropped.filter(|write| matches!(write, Write::DropRecord(_)));
    assert!(dropped.count() > 0, "the disk forgets them, too");
}

#[test]
fn rec_foreign_signer_rejected() {
    let cast = Cast::founded();
    let network = cast.authority.network();
    let sound = left(&cast, X, 1);
    let others = left(&cast, F, 1);
    let length = sound.bytes().len() - size_of::<Signature>();
    let forged = [&sound.bytes()[..length], &others.bytes()[length..]].concat();
    let refused = Records::default().insert(&forged, &network);
    assert!(
        matches!(refused, Err(RecordError::Signature(_))),
        "{refused:?}"
    );
}

/// A device says that another's tunnel key, or transport key, is its own.
#[test]
fn foreign_wg_key_refused() {
    let cast = Cast::founded();
    let network = cast.authority.network();
    let (own, other) = (&cast.keys[X], &cast.keys[F]);
    let sound = NodeRecord {
        transport: own.transport_binding(&network),
        tunnel: own.tunnel_binding(&network),
        tunnel_next: None,
        os: "test".to_owned(),
        version: "1".to_owned(),
        ext: Ext::NONE,
    };
    let stolen = [
        NodeRecord {
            tunnel: other.tunnel_binding(&network),
            ..sound.clone()
        },
        NodeRecord {
            tunnel_next: Some(other.tunnel_binding(&network)),
            ..sound.clone()
        },
        NodeRecord {
            transport: other.transport_binding(&network),
            ..sound.clone()
        },
    ];
    let takes = |body: NodeRecord| {
        let body = RecordBody::Node(Box::new(body));
        let record = Record::sign(network, 1, body, &own.device);
        Records::default().insert(record.bytes(), &network).is_ok()
    };
    assert!(takes(sound));
    assert!(!stolen.into_iter().any(takes));
}
