//! The store keeps what it acknowledged, through kills, rot and full disks, and never gives back what was not written.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use meshnode::store::{Mended, Opened, SledStore, Store, StoreError};
use meshnode_protocol::id::{AdmitId, Digest, NodeId, OpId};
use meshnode_protocol::identity::Secret;
use meshnode_protocol::io::{Stored, Write};
use zeroize::Zeroizing;

mod store {
    mod crash;
    mod disk;
    mod rot;
}

#[test]
fn a_new_directory_is_fresh_and_after_a_write_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, opened) = SledStore::open(dir.path()).unwrap();
    assert_eq!(opened, Opened::Fresh);
    store.write(&membership(5), true).unwrap();
    drop(store);

    let (mut store, opened) = SledStore::open(dir.path()).unwrap();
    assert_eq!(opened, Opened::Whole);
    let stored = store.load().unwrap();
    assert_eq!(&*stored.secrets.unwrap(), b"secret bytes");
    assert_eq!(sorted(stored.ops), sorted((0..5).map(op_bytes).collect()));
    assert_eq!(stored.admits, vec![b"admit".to_vec()]);
    assert_eq!(stored.records, vec![b"record".to_vec()]);
    assert_eq!(stored.heads, vec![op_id(4)]);
}

#[test]
fn a_record_replaces_the_one_in_its_slot_and_what_was_dropped_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(1), true).unwrap();
    let slot = Digest::new([7; 32]);
    let newer = Write::Record(slot, b"newer record".to_vec());
    let dropped = Write::DropAdmit(AdmitId::new([6; 32]));
    let other = Digest::new([8; 32]);
    let evicted = Write::Record(other, b"evicted record".to_vec());
    let writes = [newer, dropped, evicted, Write::DropRecord(other)];
    store.write(&writes, true).unwrap();

    let stored = store.load().unwrap();
    assert_eq!(stored.records, vec![b"newer record".to_vec()]);
    assert_eq!(stored.admits, Vec::<Vec<u8>>::new());
}

#[test]
fn a_list_of_blocked_nodes_survives_a_restart_and_is_erased_with_the_membership() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(1), true).unwrap();
    assert_eq!(store.load().unwrap().blocked, []);
    let blocked = vec![node(1), node(2)];
    store
        .write(&[Write::Blocked(blocked.clone())], true)
        .unwrap();
    drop(store);
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    assert_eq!(store.load().unwrap().blocked, blocked);
    store.write(&[Write::Blocked(Vec::new())], true).unwrap();
    assert_eq!(store.load().unwrap().blocked, []);
    store.write(&[Write::Blocked(blocked)], true).unwrap();
    store.erase().unwrap();
    assert!(!dir.path().join("blocked").exists());
}

#[test]
fn a_damaged_list_of_blocked_nodes_unblocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(1), true).unwrap();
    store.write(&[Write::Blocked(vec![node(1)])], true).unwrap();
    let path = dir.path().join("blocked");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut rotten = whole.clone();
        rotten[at] ^= 1;
        fs::write(&path, rotten).unwrap();
        let error = store.load().unwrap_err();
        assert!(error.to_string().contains("blocked"), "byte {at}: {error}");
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(store.load().unwrap().blocked, [node(1)]);
}

fn node(seed: u8) -> NodeId {
    NodeId::new(Secret::from_seed(&[seed; 32]).public())
}

#[test]
fn what_was_not_flushed_is_written_when_the_store_closes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(3), false).unwrap();
    drop(store);
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    assert_eq!(store.load().unwrap().heads, vec![op_id(2)]);
}

#[test]
fn directories_are_0700_and_keys_and_heads_0600() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(1), true).unwrap();
    let mode = |name: &str| {
        let meta = fs::metadata(dir.path().join(name)).unwrap();
        meta.permissions().mode() & 0o777
    };
    assert_eq!(mode("."), 0o700);
    assert_eq!(mode("store"), 0o700);
    assert_eq!(mode("keys"), 0o600);
    assert_eq!(mode("heads"), 0o600);
}

#[test]
fn a_second_store_in_one_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = SledStore::open(dir.path()).unwrap();
    let second = SledStore::open(dir.path());
    assert!(matches!(second, Err(StoreError::InUse { .. })));
    drop(store);
    SledStore::open(dir.path()).unwrap();
}

#[test]
fn erasing_leaves_an_empty_directory_that_opens_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(3), true).unwrap();
    fs::create_dir(dir.path().join("store.damaged-1")).unwrap();
    store.erase().unwrap();
    assert_eq!(names(dir.path()), Vec::<String>::new());
    drop(store);
    let (mut store, opened) = SledStore::open(dir.path()).unwrap();
    assert_eq!(opened, Opened::Fresh);
    assert!(store.load().unwrap().ops.is_empty());
}

#[test]
fn an_erased_store_takes_a_new_membership_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(3), true).unwrap();
    store.erase().unwrap();
    store.write(&membership(1), true).unwrap();
    assert_eq!(store.load().unwrap().ops, vec![op_bytes(0)]);
}

#[test]
fn an_erasure_that_was_cut_short_after_the_keys_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(3), true).unwrap();
    drop(store);
    fs::remove_file(dir.path().join("keys")).unwrap();
    fs::remove_file(dir.path().join("heads")).unwrap();
    let (mut store, opened) = SledStore::open(dir.path()).unwrap();
    assert_eq!(opened, Opened::Fresh);
    assert!(store.load().unwrap().ops.is_empty());
}

#[test]
fn lost_keys_are_an_error_that_tells_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(1), true).unwrap();
    drop(store);
    fs::remove_file(dir.path().join("keys")).unwrap();
    let error = SledStore::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("join again"), "{error}");
    assert!(dir.path().join("store").exists());
}

#[test]
fn damaged_keys_fall_back_to_the_copy_from_before_the_change() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(1), true).unwrap();
    drop(store);
    let keys = dir.path().join("keys");
    fs::copy(&keys, dir.path().join("keys.old")).unwrap();
    fs::write(&keys, b"meshkeys and nonsense").unwrap();
    let (mut store, opened) = SledStore::open(dir.path()).unwrap();
    let keys_from_old = true;
    let mended = Mended {
        keys_from_old,
        ..Mended::default()
    };
    assert_eq!(opened, Opened::Mended(mended));
    let secrets = store.load().unwrap().secrets.unwrap();
    assert_eq!(&*secrets, b"secret bytes");
}

#[test]
fn the_copy_of_the_keys_is_gone_once_the_new_ones_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    for round in 0..3 {
        store.write(&[secrets(&[round; 40])], true).unwrap();
    }
    assert_eq!(names(dir.path()), ["keys", "store"]);
    let secrets = store.load().unwrap().secrets.unwrap();
    assert_eq!(*secrets, [2; 40]);
}

#[test]
fn a_keys_file_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = SledStore::open(dir.path()).unwrap();
    store.write(&membership(1), true).unwrap();
    drop(store);
    let path = dir.path().join("keys");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let content = bytes.len() - 32;
    let sum = blake3::derive_key("meshnode store file 1", &bytes[..content]);
    bytes[content..].copy_from_slice(&sum);
    fs::write(&path, &bytes).unwrap();
    let error = SledStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 2, .. }));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// Bytes of the op with this number: 100 to 4 000 of them, the same at every call.
fn op_bytes(number: u64) -> Vec<u8> {
    let mut reader = blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof();
    let mut length = [0; 2];
    reader.fill(&mut length);
    let mut bytes = vec![0; 100 + usize::from(u16::from_le_bytes(length) % 3900)];
    reader.fill(&mut bytes);
    bytes
}

fn op_id(number: u64) -> OpId {
    OpId::new(*blake3::hash(&op_bytes(number)).as_bytes())
}

fn op(number: u64) -> Write {
    Write::Op(op_id(number), op_bytes(number))
}

fn secrets(bytes: &[u8]) -> Write {
    Write::Secrets(Zeroizing::new(bytes.to_vec()).into())
}

/// A small membership with so many ops.
fn membership(ops: u64) -> Vec<Write> {
    let mut writes = vec![secrets(b"secret bytes")];
    writes.extend((0..ops).map(op));
    writes.push(Write::Admit(AdmitId::new([6; 32]), b"admit".to_vec()));
    writes.push(Write::Record(Digest::new([7; 32]), b"record".to_vec()));
    writes.push(Write::Heads(vec![op_id(ops - 1)]));
    writes
}

fn sorted(mut list: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    list.sort();
    list
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The numbers below `end` whose ops are stored. Fails on an op that is none of them.
fn numbers(stored: &Stored, end: u64) -> Vec<u64> {
    let known: std::collections::BTreeMap<_, _> = (0..end).map(|n| (op_bytes(n), n)).collect();
    let mut numbers: Vec<_> = stored.ops.iter().map(|bytes| known[bytes]).collect();
    numbers.sort_unstable();
    numbers
}
