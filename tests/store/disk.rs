//! The disk refuses.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use meshnode::store::{Opened, SledStore, Store, StoreError};
use meshnode_protocol::io::Write;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::{membership, numbers, op, op_id};

const DIR: &str = "MESHNODE_TEST_DISK_DIR";
const SCRIPT: &str = r#"trap '' XFSZ
[ "$(id -u)" = 0 ] && exec "$0" "$@"
exec unshare --user --map-root-user --mount "$0" "$@""#;

#[test]
fn a_full_disk_loses_nothing_and_space_brings_the_store_back() {
    let name = "store::disk::a_full_disk_loses_nothing_and_space_brings_the_store_back";
    let Some(dir) = again_in_a_process_of_its_own(name) else {
        return;
    };
    let dir = Path::new(&dir);
    small_tmpfs(dir);
    let (mut store, _) = SledStore::open(dir).unwrap();
    store.write(&membership(1), true).unwrap();
    fs::write(dir.join("ballast"), vec![1; 2 * 1024 * 1024]).unwrap();

    let mut next = 1;
    let error = loop {
        match store.write(&[op(next), Write::Heads(vec![op_id(next)])], true) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    let StoreError::Full { path, free_bytes } = error else {
        panic!("{error}");
    };
    assert_eq!(path, dir);
    assert!(free_bytes < 2 * 1024 * 1024);
    assert!(next > 100, "only {next} ops fitted");
    // The disk stays full: reading works, another write is refused the same way.
    assert_eq!(numbers(&store.load().unwrap(), next + 1).len() as u64, next);
    let again = store.write(&[op(next + 1)], true);
    assert!(matches!(again, Err(StoreError::Full { .. })));

    fs::remove_file(dir.join("ballast")).unwrap();
    store.write(&[], true).unwrap();
    drop(store);
    let (mut store, opened) = SledStore::open(dir).unwrap();
    assert_eq!(opened, Opened::Whole);
    assert_eq!(
        numbers(&store.load().unwrap(), next + 2),
        (0..next + 2).collect::<Vec<_>>()
    );
}

#[test]
fn a_store_on_a_disk_that_was_filled_by_others_opens_or_says_full_and_is_not_moved_aside() {
    let name = "store::disk::a_store_on_a_disk_that_was_filled_by_others_opens_or_says_full_and_is_not_moved_aside";
    let Some(dir) = again_in_a_process_of_its_own(name) else {
        return;
    };
    let dir = Path::new(&dir);
    small_tmpfs(dir);
    let (mut store, _) = SledStore::open(dir).unwrap();
    store.write(&membership(50), true).unwrap();
    drop(store);
    let mut ballast = fs::File::create(dir.join("ballast")).unwrap();
    let filled = std::io::copy(&mut std::io::repeat(1), &mut ballast);
    assert!(filled.is_err());
    drop(ballast);

    match SledStore::open(dir) {
        Ok((mut store, opened)) => {
            assert_eq!(opened, Opened::Whole);
            assert_eq!(numbers(&store.load().unwrap(), 50).len(), 50);
        }
        Err(StoreError::Full { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    fs::remove_file(dir.join("ballast")).unwrap();
    let (mut store, opened) = SledStore::open(dir).unwrap();
    assert_eq!(opened, Opened::Whole);
    assert_eq!(numbers(&store.load().unwrap(), 50).len(), 50);
}

#[test]
fn after_a_fault_inside_sled_the_next_write_opens_it_again_and_repeats() {
    let name = "store::disk::after_a_fault_inside_sled_the_next_write_opens_it_again_and_repeats";
    let Some(dir) = again_in_a_process_of_its_own(name) else {
        return;
    };
    let dir = Path::new(&dir);
    let (mut store, _) = SledStore::open(dir).unwrap();
    store.write(&membership(1), true).unwrap();
    // Files may not grow: what a broken disk or a quota looks like to sled.
    setrlimit(Resource::RLIMIT_FSIZE, 600 * 1024, RLIM_INFINITY).unwrap();
    let mut next = 1;
    let error = loop {
        match store.write(&[op(next), Write::Heads(vec![op_id(next)])], true) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Broken { .. }), "{error}");
    assert!(store.write(&[op(next + 1)], true).is_err());

    setrlimit(Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY).unwrap();
    store.write(&[op(next + 2)], true).unwrap();
    let expected: Vec<_> = (0..next + 3).collect();
    assert_eq!(numbers(&store.load().unwrap(), next + 3), expected);
    drop(store);
    let (mut store, opened) = SledStore::open(dir).unwrap();
    assert_eq!(opened, Opened::Whole);
    assert_eq!(numbers(&store.load().unwrap(), next + 3), expected);
}

/// Runs the test with this name in a child process, and gives that child the directory to work in.
fn again_in_a_process_of_its_own(name: &str) -> Option<String> {
    if let Ok(dir) = env::var(DIR) {
        return Some(dir);
    }
    let dir = tempfile::tempdir().unwrap();
    // The shell makes the child ignore the signal that a file limit sends; without root, a user namespace may mount.
    let child = Command::new("sh")
        .args(["-c", SCRIPT])
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "{text}");
    None
}

/// Mounts 6 MiB of memory at `dir`, seen by this thread and those it starts; it goes with the process.
fn small_tmpfs(dir: &Path) {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(
        Some("tmpfs"),
        dir,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=6m"),
    )
    .unwrap();
}
