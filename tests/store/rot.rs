//! The files are not what was written.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use meshnode::store::{Opened, SledStore, Store, StoreError};
use meshnode_protocol::id::{AdmitId, Digest};
use meshnode_protocol::io::Write;

use crate::{membership, numbers, op, op_id};

const OPS: u64 = 120;
const MUTATIONS: u64 = 160;
/// An opening of so small a store takes milliseconds; sled's circles would take until the store's own limit.
const OPEN_MAX: Duration = Duration::from_secs(20);

#[test]
fn no_rot_in_any_file_makes_the_store_panic_hang_or_invent() {
    let original = tempfile::tempdir().unwrap();
    write_original(original.path());
    let files = files_below(original.path());
    let (mut whole, mut mended, mut damaged, mut keyless) = (0, 0, 0, 0);
    for seed in 0..MUTATIONS {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        let what = mutate(dir.path(), &files, seed);
        let before = now();
        let opened = SledStore::open(dir.path());
        assert!(before.elapsed() < OPEN_MAX, "seed {seed}: {what} hangs");
        let (mut store, opened) = match opened {
            Ok(opened) => opened,
            Err(StoreError::Keys { .. } | StoreError::Newer { .. }) if what.contains("keys") => {
                keyless += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {what}: {error}"),
        };
        let stored = store.load().unwrap();
        let found = numbers(&stored, OPS);
        assert!(
            stored
                .admits
                .iter()
                .all(|bytes| bytes.starts_with(b"admit"))
        );
        assert!(
            stored
                .records
                .iter()
                .all(|bytes| bytes.starts_with(b"record"))
        );
        match opened.clone() {
            Opened::Whole => {
                assert_eq!(found.len() as u64, OPS, "seed {seed}: {what}");
                whole += 1;
            }
            Opened::Mended(mend) => {
                let lost = OPS - found.len() as u64;
                assert!(
                    mend.heads_lost || lost == mend.missing,
                    "seed {seed}: {what}"
                );
                mended += 1;
            }
            Opened::Damaged { moved_to, .. } => {
                assert!(moved_to.exists());
                assert_eq!(stored.heads, vec![op_id(OPS - 1)]);
                damaged += 1;
            }
            Opened::Fresh => panic!("seed {seed}: {what}: a membership is forgotten"),
        }
        rebuild_and_reopen(
            dir.path(),
            store,
            &format!("seed {seed}: {what} {opened:?}"),
        );
    }
    assert!(whole > 0 && mended > 0 && damaged > 0 && keyless > 0);
}

/// What a member sends again is kept, whatever had happened to the files.
fn rebuild_and_reopen(dir: &Path, mut store: SledStore, what: &str) {
    store.write(&membership(OPS), true).expect(what);
    store
        .write(&[op(OPS), Write::Heads(vec![op_id(OPS)])], true)
        .expect(what);
    drop(store);
    let (mut store, opened) = SledStore::open(dir).expect(what);
    assert_eq!(opened, Opened::Whole, "{what}");
    let stored = store.load().expect(what);
    assert_eq!(numbers(&stored, OPS + 1).len() as u64, OPS + 1, "{what}");
}

/// Enough for a few of sled's segments, a snapshot and a blob.
fn write_original(dir: &Path) {
    for part in 0..3 {
        let (mut store, _) = SledStore::open(dir).unwrap();
        for number in part * OPS / 3..(part + 1) * OPS / 3 {
            let id = blake3::hash(&number.to_le_bytes());
            let admit = Write::Admit(AdmitId::new(*id.as_bytes()), b"admit and more".to_vec());
            let slot = Digest::new([(number % 20) as u8; 32]);
            let record = Write::Record(slot, [b"record".as_slice(), &[9; 900]].concat());
            store.write(&[op(number), admit, record], true).unwrap();
        }
        store
            .write(&membership((part + 1) * OPS / 3), true)
            .unwrap();
    }
}

fn mutate(dir: &Path, files: &[PathBuf], seed: u64) -> String {
    let mut random = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    let mut draw = |below: usize| {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % below.max(1) as u64) as usize
    };
    let file = &files[draw(files.len())];
    let path = dir.join(file);
    let mut bytes = fs::read(&path).unwrap();
    let at = draw(bytes.len());
    let what = match draw(5) {
        0 => {
            bytes.truncate(at);
            "cut"
        }
        1 => {
            for _ in 0..=draw(8) {
                let at = draw(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << draw(8);
                }
            }
            "bits flipped"
        }
        2 => {
            let end = bytes.len().min(at + 4096);
            bytes[at..end].fill(0);
            "a block of zeros"
        }
        3 => {
            let end = bytes.len().min(at + 4096);
            bytes[at..end]
                .iter_mut()
                .for_each(|byte| *byte = draw(256) as u8);
            "a block of noise"
        }
        _ => {
            // Bits in the first bytes: headers and lengths.
            let at = draw(bytes.len().min(64));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << draw(8);
            }
            "a bit of the header"
        }
    };
    fs::write(&path, bytes).unwrap();
    format!("{what} in {} at {at}", file.display())
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(dir).unwrap().to_path_buf());
            }
        }
    }
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(&file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(&file), target).unwrap();
    }
    fs::create_dir_all(to.join("store/blobs")).unwrap();
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test watches for a hang of the program"
)]
fn now() -> Instant {
    Instant::now()
}
