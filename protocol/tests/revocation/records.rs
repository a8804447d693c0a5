//! Device records: only the newest of a slot stays, and only its own device writes it.

use meshnode_protocol::id::Signature;
use meshnode_protocol::record::{Record, RecordBody, RecordError};
use meshnode_protocol::records::{RecordInserted, Records};

use crate::cast::{Cast, F, X};

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
