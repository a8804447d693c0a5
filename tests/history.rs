//! What happened in a network, proved by two readers: this program, and a second one in another language that knows
//! `docs/protocol.md` alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use meshnode_protocol::body::{Body, Caps, Grant, Level, Tags};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::export::{Export, assemble, write};
use meshnode_protocol::name::NodeName;
use meshnode_protocol::op::{Draft, Op};
use meshnode_protocol::time::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use self::story::Story;

#[path = "history/story.rs"]
mod story;

/// Networks that both readers read.
const STORIES: u64 = 16;
/// Acts of each.
const STEPS: usize = 60;
/// Files with one wrong bit that both readers refuse, of one network.
const WRONG_BITS: usize = 40;

struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name).with_extension("mesh");
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// This program's word on a file.
fn ours(file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshnode"));
    command.arg("verify").arg(file).arg("--json").env_clear();
    command.output().unwrap()
}

/// The second reader's words on files, one each.
fn theirs(files: &[PathBuf]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder/verify_export.py");
    let mut reader = Command::new("python3");
    let output = reader.arg("-B").arg(script).args(files).output();
    let output = output.expect("python3 with python3-cryptography, as .ci/run installs them");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "the second reader fell");
    let lines = String::from_utf8(output.stdout).unwrap();
    let words = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let words: Vec<Value> = words.collect();
    assert_eq!(words.len(), files.len());
    words
}

#[track_caller]
fn word(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What both readers must say alike.
fn common(mut value: Value) -> Value {
    let keep = [
        "network", "ops", "admits", "records", "heads", "epoch", "epoch_op", "policy", "members",
        "revoked", "void",
    ];
    let object = value.as_object_mut().unwrap();
    object.retain(|key, _| keep.contains(&key.as_str()));
    for member in object["members"].as_array_mut().unwrap() {
        member
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key != "role" && key != "expires_at");
    }
    for void in object["void"].as_array_mut().unwrap() {
        void.as_object_mut()
            .unwrap()
            .retain(|key, _| key == "id" || key == "kind");
    }
    for out in object["revoked"].as_array_mut().unwrap() {
        out.as_object_mut().unwrap().retain(|key, _| key != "name");
    }
    value
}

#[track_caller]
fn both_refuse(files: &[PathBuf]) {
    for (file, theirs) in files.iter().zip(theirs(files)) {
        let name = file.display();
        assert_eq!(ours(file).status.code(), Some(1), "{name}: meshnode verify");
        assert!(theirs["error"].is_string(), "{name}: the second reader");
    }
}

#[test]
fn two_readers_agree_on_who_is_in_whatever_happened() {
    let desk = Desk::new();
    let (mut revoked, mut void) = (0, 0);
    let mut files = Vec::new();
    for seed in 0..STORIES {
        let story = Story::tell(seed, STEPS);
        files.push(desk.file(&format!("seed-{seed}"), &write(&story.ledger)));
    }
    for (file, theirs) in files.iter().zip(theirs(&files)) {
        let ours = common(word(&ours(file)));
        assert_eq!(ours, common(theirs), "{}", file.display());
        revoked += ours["revoked"].as_array().unwrap().len();
        void += ours["void"].as_array().unwrap().len();
    }
    assert!(
        revoked > 5 && void > 20,
        "the stories are tame: {revoked} out, {void} void"
    );
}

#[test]
fn a_forged_op_at_the_end_is_refused_by_both_readers() {
    let desk = Desk::new();
    let story = Story::tell(1, 20);
    let authority = &story.ledger.authority;
    let file = write(&story.ledger);
    let export = Export::parse(&file).unwrap();
    let genesis = authority.realm().genesis;
    // A device that nobody ever made an admin cites the founder's right for itself.
    let liar = &story.keys[11];
    let grant = Grant {
        device: story.node(11),
        level: Level(2),
        caps: Caps::ALL,
        may_tag: Tags::default(),
        owner: None,
        tags: Tags::default(),
        name: NodeName::parse("mallory").unwrap(),
        ipv4: [10, 7, 0, 90].into(),
        expires: None,
        claim: None,
        ext: Ext::NONE,
    };
    let draft = Draft {
        network: authority.network(),
        authority: genesis,
        time: Timestamp::from_ms(1),
        parents: authority.heads().into_iter().take(16).collect(),
    };
    let forged = Op::sign(Body::Grant(Box::new(grant)), draft, &liar.device);
    let ops: Vec<&[u8]> = export
        .ops
        .iter()
        .copied()
        .chain([&**forged.bytes()])
        .collect();
    let path = desk.file("forged", &assemble(&ops, &export.admits, &export.records));
    both_refuse(std::slice::from_ref(&path));
    let said = String::from_utf8(ours(&path).stderr).unwrap();
    let named = format!(
        "op {} is bad: the cited op confers nothing on the author",
        ops.len()
    );
    assert!(said.contains(&named), "{said}");
}

#[test]
fn a_file_with_a_wrong_bit_in_any_region_is_refused_by_both_readers() {
    let desk = Desk::new();
    let story = Story::tell(3, 12);
    let file = write(&story.ledger);
    let stride = file.len() / WRONG_BITS;
    // Head, hash, and places all over the items.
    let ends = [0, 8, 10, 14, 18, 22, file.len() - 32, file.len() - 1];
    let places = (0..WRONG_BITS)
        .map(|step| step * stride + step % stride.max(1))
        .chain(ends);
    let mut files = Vec::new();
    for at in places.filter(|at| *at < file.len()) {
        let mut wrong = file.clone();
        wrong[at] ^= 1 << (at % 8);
        files.push(desk.file(&format!("byte-{at}"), &wrong));
        // Whoever changes a file makes its hash anew.
        if let Ok(export) = Export::parse(&wrong) {
            let anew = assemble(&export.ops, &export.admits, &export.records);
            if anew != file {
                files.push(desk.file(&format!("byte-{at}-hash-anew"), &anew));
            }
        }
    }
    assert!(files.len() > WRONG_BITS);
    both_refuse(&files);
}

#[test]
fn a_file_that_lacks_or_repeats_or_misplaces_an_item_is_refused_by_both_readers() {
    let desk = Desk::new();
    let story = Story::tell(5, 30);
    let file = write(&story.ledger);
    let export = Export::parse(&file).unwrap();
    let (ops, admits, records) = (export.ops, export.admits, export.records);
    assert!(ops.len() > 4 && !admits.is_empty() && records.len() > 2);
    let without = |at: usize| [&ops[..at], &ops[at + 1..]].concat();
    let twice = [&records[..1], &records[..]].concat();
    let last = ops.len() - 1;
    let mut files = vec![
        ("no genesis", assemble(&without(0), &admits, &records)),
        (
            "the second op is missing",
            assemble(&without(1), &admits, &records),
        ),
        (
            "an op twice",
            assemble(&[&ops[..], &ops[last..]].concat(), &admits, &records),
        ),
        ("a record twice", assemble(&ops, &admits, &twice)),
        ("admits alone", assemble(&ops[..1], &admits, &[])),
        ("records of strangers", assemble(&ops[..1], &[], &records)),
        ("nothing", assemble(&[], &[], &[])),
        ("cut off", file[..file.len() / 2].to_vec()),
        ("longer", [&file[..], &[0]].concat()),
        ("an op as a record", assemble(&ops[..1], &[], &ops[..1])),
    ];
    let mut swapped = ops.clone();
    swapped.swap(1, 2);
    files.push(("two ops swapped", assemble(&swapped, &admits, &records)));
    let files = files.iter().map(|(what, bytes)| desk.file(what, bytes));
    both_refuse(&files.collect::<Vec<_>>());
}
