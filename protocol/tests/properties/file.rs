//! A network in a file is the network, and a file with one wrong bit is none.

use meshnode_protocol::codec::CodecError;
use meshnode_protocol::export::{Export, ExportError, assemble, write};
use meshnode_protocol::ledger::{Change, Ledger};
use meshnode_protocol::op::Op;
use meshnode_protocol::record::{Record, RecordBody};
use meshnode_protocol::view::View;
use proptest::prelude::*;

use crate::cases;
use crate::scenario::{NOW, Scenario};

/// Everything of a scenario as one node holds it; who left said so.
fn ledger(scenario: &Scenario) -> Ledger {
    let realm = scenario.authority.realm().clone();
    let genesis = scenario.authority.op(&realm.genesis).unwrap().clone();
    let mut ledger = Ledger::new(genesis, realm);
    let mut change = Change::default();
    for bytes in &scenario.ops {
        ledger.insert_op(bytes, &mut change);
    }
    for bytes in &scenario.admits {
        ledger.insert_admit(bytes, &mut change);
    }
    let network = scenario.authority.network();
    for keys in &scenario.keys {
        if scenario.left.contains(&keys.node()) {
            let record = Record::sign(network, 1, RecordBody::Left, &keys.device);
            ledger.insert_record(record.bytes(), &mut change);
        }
    }
    ledger
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_file_holds_the_stored_set_and_its_view_and_nothing_else(seed: u64) {
        let scenario = Scenario::random(seed);
        let ledger = ledger(&scenario);
        let file = write(&ledger);
        let export = Export::parse(&file).unwrap();
        let verified = export.verify(|_| {}).unwrap();
        prop_assert_eq!(&assemble(&export.ops, &export.admits, &export.records), &file);
        let ours: Vec<_> = ledger.authority.ops().map(Op::id).collect();
        let theirs: Vec<_> = verified.authority.ops().map(Op::id).collect();
        prop_assert_eq!(ours, theirs);
        let ours = View::compute(&ledger.authority, &ledger.records.left(), NOW);
        let theirs = View::compute(&verified.authority, &verified.records.left(), NOW);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn whoever_stored_the_same_in_another_order_writes_the_same_file(seed: u64) {
        let mut scenario = Scenario::random(seed);
        let file = write(&ledger(&scenario));
        let passed: Vec<_> = scenario.authority.ops().map(|op| op.bytes().to_vec()).collect();
        scenario.ops = passed;
        scenario.admits.reverse();
        prop_assert_eq!(write(&ledger(&scenario)), file);
    }

    #[test]
    fn a_file_with_one_wrong_bit_is_refused_even_if_its_hash_is_made_anew(
        seed: u64,
        at: prop::sample::Index,
        bit in 0..8,
    ) {
        let file = write(&ledger(&Scenario::random(seed)));
        let mut wrong = file.clone();
        wrong[at.index(file.len())] ^= 1u8 << bit;
        let refused = |bytes: &[u8]| Export::parse(bytes).and_then(|e| e.verify(|_| {})).is_err();
        prop_assert!(refused(&wrong));
        if let Ok(export) = Export::parse(&wrong) {
            let anew = assemble(&export.ops, &export.admits, &export.records);
            prop_assert!(anew == file || refused(&anew));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_files_panic(bytes: Vec<u8>) {
        let headed = [b"mesh-set\x01\0".as_slice(), &bytes].concat();
        for bytes in [&bytes, &headed] {
            let read = Export::parse(bytes).and_then(|export| export.verify(|_| {}).map(drop));
            prop_assert!(read.is_err());
        }
    }
}

#[test]
fn a_bad_item_is_named_with_its_place() {
    let scenario = Scenario::random(7);
    let file = write(&ledger(&scenario));
    let export = Export::parse(&file).unwrap();
    let mut short = export.ops.clone();
    let last = short.len() - 1;
    short[last] = &short[last][..40];
    let file = assemble(&short, &export.admits, &export.records);
    let error = Export::parse(&file).unwrap().verify(|_| {}).unwrap_err();
    let words = format!("op {} is bad: {}", last + 1, CodecError::Malformed);
    assert_eq!(error.to_string(), words);
    let none = Export::parse(b"meshkeys").unwrap_err();
    assert_eq!(none, ExportError::Magic);
}
