//! Networks in a file, for the target `export`.

use meshnode_protocol::body::Body;
use meshnode_protocol::export::assemble;
use meshnode_protocol::op::Op;
use meshnode_protocol::record::{Record, RecordBody};

use crate::{admit, draft, grant, joiner, targets};

/// Whole files: a founder alone, and one that let somebody in.
pub(crate) fn good() -> Vec<(&'static str, Vec<u8>)> {
    let genesis: &[u8] = targets::NETWORK.0.bytes();
    let Body::Grant(mut grant) = grant() else {
        unreachable!("a grant is a grant")
    };
    grant.claim = None;
    let grant = Op::sign(Body::Grant(grant), draft(), &targets::founder());
    let left = Record::sign(targets::network(), 10, RecordBody::Left, &joiner().device);
    vec![
        ("genesis", assemble(&[genesis], &[], &[])),
        (
            "member-left",
            assemble(&[genesis, grant.bytes()], &[], &[left.bytes()]),
        ),
    ]
}

/// Files in which one thing is wrong.
pub(crate) fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let genesis: &[u8] = targets::NETWORK.0.bytes();
    let noop = Op::sign(Body::Noop, draft(), &targets::founder());
    let stranger = Record::sign(targets::network(), 10, RecordBody::Left, &joiner().device);
    let whole = assemble(&[genesis], &[], &[]);
    let mut unsound = whole.clone();
    *unsound.last_mut().expect("a file has bytes") ^= 1;
    vec![
        ("hash", unsound),
        ("empty", assemble(&[], &[], &[])),
        ("genesis-late", assemble(&[noop.bytes(), genesis], &[], &[])),
        (
            "twice",
            assemble(&[genesis, noop.bytes(), noop.bytes()], &[], &[]),
        ),
        ("stranger", assemble(&[genesis], &[], &[stranger.bytes()])),
        ("admit-alone", assemble(&[genesis], &[admit().bytes()], &[])),
        ("counts", [&whole[..14], &[0xFF; 8], &whole[22..]].concat()),
    ]
}
