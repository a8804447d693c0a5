//! The process dies at any moment.

use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use meshnode::store::{Opened, SledStore, Store};
use meshnode_protocol::io::Write;

use crate::{numbers, op, op_id, secrets};

const DIR: &str = "MESHNODE_TEST_CRASH_DIR";
const FIRST: &str = "MESHNODE_TEST_CRASH_FIRST";
const NAME: &str = "store::crash::every_acknowledged_op_survives_a_kill_at_a_random_moment";
const KEYS_NAME: &str = "store::crash::keys_on_the_disk_imply_every_op_of_their_batch";
const ROUNDS: u64 = 24;
/// Ops of one batch, the keys among them.
const BATCH: u64 = 40;

#[test]
fn every_acknowledged_op_survives_a_kill_at_a_random_moment() {
    if let Ok(dir) = env::var(DIR) {
        let first = env::var(FIRST).unwrap().parse().unwrap();
        write_until_killed(Path::new(&dir), first);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    let mut acknowledged_in_all = 0;
    for round in 0..ROUNDS {
        let seed = blake3::hash(&round.to_le_bytes());
        let delay = Duration::from_millis(u64::from(seed.as_bytes()[0]));
        let acknowledged = run_and_kill(NAME, dir.path(), next, delay);
        acknowledged_in_all += acknowledged.saturating_sub(next);

        let (mut store, opened) = SledStore::open(dir.path()).unwrap();
        assert!(
            matches!(opened, Opened::Whole | Opened::Fresh),
            "{opened:?}"
        );
        let stored = store.load().unwrap();
        let found = numbers(&stored, acknowledged + 100);
        let expected: Vec<_> = (0..acknowledged).collect();
        assert_eq!(found[..expected.len()], expected, "round {round}");
        for head in &stored.heads {
            assert!(found.iter().any(|number| op_id(*number) == *head));
        }
        if acknowledged_in_all > 0 {
            assert_eq!(stored.secrets.unwrap().len(), 700);
            assert!(!stored.heads.is_empty());
        }
        next = found.last().map_or(0, |last| last + 1);
    }
    assert!(
        acknowledged_in_all > ROUNDS,
        "the child wrote next to nothing"
    );
}

#[test]
fn keys_on_the_disk_imply_every_op_of_their_batch() {
    if let Ok(dir) = env::var(DIR) {
        write_batches_until_killed(Path::new(&dir));
    }
    let mut batches_in_all = 0;
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let seed = blake3::hash(&round.to_le_bytes());
        let delay = Duration::from_millis(u64::from(seed.as_bytes()[0]));
        run_and_kill(KEYS_NAME, dir.path(), 0, delay);

        let (mut store, _) = SledStore::open(dir.path()).unwrap();
        let stored = store.load().unwrap();
        let Some(keys) = stored.secrets.as_ref() else {
            continue;
        };
        let batches = u64::from_le_bytes(keys[..8].try_into().unwrap());
        let found = numbers(&stored, (batches + 2) * BATCH);
        let expected: Vec<_> = (0..batches * BATCH).collect();
        assert_eq!(found[..expected.len()], expected, "round {round}");
        batches_in_all += batches;
    }
    assert!(batches_in_all > ROUNDS, "the child wrote next to nothing");
}

/// The keys count the batches; nothing is acknowledged, so only the order of what is on the disk is tried.
fn write_batches_until_killed(dir: &Path) -> ! {
    let (mut store, _) = SledStore::open(dir).unwrap();
    for batch in 0.. {
        let first = batch * BATCH;
        let mut writes: Vec<_> = (first..first + BATCH / 2).map(op).collect();
        writes.push(secrets(&u64::to_le_bytes(batch + 1)));
        writes.extend((first + BATCH / 2..first + BATCH).map(op));
        store.write(&writes, batch % 2 == 0).unwrap();
    }
    unreachable!("it is killed before")
}

/// Runs a child that writes from `first` on; kills it; gives the number after the last acknowledged op.
fn run_and_kill(name: &str, dir: &Path, first: u64, delay: Duration) -> u64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        let lines = stdout.lines().map_while(Result::ok);
        let acks =
            lines.filter_map(|line| line.strip_prefix("ack ")?.strip_suffix('.')?.parse().ok());
        acks.last()
    });
    thread::sleep(Duration::from_millis(20) + delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let last: Option<u64> = reader.join().unwrap();
    last.map_or(first, |last| last + 1)
}

fn write_until_killed(dir: &Path, first: u64) -> ! {
    let (mut store, _) = SledStore::open(dir).unwrap();
    store.write(&[secrets(&[1; 700])], true).unwrap();
    let mut stdout = std::io::stdout();
    let mut number = first;
    loop {
        let flush = !number.is_multiple_of(3);
        let writes = [op(number), Write::Heads(vec![op_id(number)])];
        store.write(&writes, flush).unwrap();
        if number.is_multiple_of(10) {
            store.write(&[secrets(&[2; 700])], false).unwrap();
        }
        if flush {
            write!(stdout, "\nack {number}.\n").unwrap();
            stdout.flush().unwrap();
        }
        number += 1;
    }
}
