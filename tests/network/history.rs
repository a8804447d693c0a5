//! What happened, told and proved: the log, a network in a file, and the way back from one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use meshnode::lab::World;
use serde_json::Value;

use crate::joining::{home, node_on};
use crate::lab;
use crate::node::{Node, PATIENCE, agree, eventually, text};

pub(crate) fn a_member_exports_what_two_readers_verify_and_its_log_tells_who_let_it_in(
    world: &World,
) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, mut pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    let file = export(&pi);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    holds_no_key(&pi, &file);

    let verified = verify(&pi, &file);
    let status = pi.status();
    assert_eq!(verified["view"], status["network"]["view"]);
    assert_eq!(verified["ops"], status["network"]["ops"]);
    let second = second_reader(&file);
    for field in [
        "network", "ops", "admits", "records", "heads", "epoch", "void",
    ] {
        assert_eq!(verified[field], second[field], "{field}");
    }
    let cards = |value: &Value| -> Vec<String> {
        let members = value["members"].as_array().unwrap().iter();
        let fields = ["id", "name", "level", "standing", "ipv4", "ipv6"];
        members
            .map(|m| fields.map(|field| m[field].to_string()).join(" "))
            .collect()
    };
    assert_eq!(cards(&verified), cards(&second));
    assert_eq!(cards(&verified).len(), 2);

    let lines = pi.lines(&["log"]);
    assert_eq!(lines.len() as u64, verified["ops"].as_u64().unwrap());
    let grant = lines.iter().find(|line| line["kind"] == "grant").unwrap();
    assert!(text(grant, "/text").starts_with("let pi in by invite "));
    assert_eq!(text(grant, "/author/name"), "nas");
    assert_eq!(text(grant, "/subject/name"), "pi");
    assert_eq!(
        text(grant, "/on_authority_of/0/name"),
        "the recovery phrase"
    );
    assert_eq!(grant["counts"], true);
    text(grant, "/heard_at");
    assert_eq!(
        &pi.lines(&["log", "--node", "pi"]),
        std::slice::from_ref(grant)
    );
    assert_eq!(pi.refused(&["log", "--node", "nobody"]).0, 2);
    pi.switch_off();
    pi.switch_on();
    assert_eq!(
        pi.lines(&["log"]),
        lines,
        "a restart does not change when it was heard"
    );
}

pub(crate) fn a_node_that_lost_its_store_has_it_back_from_a_file_alone(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, mut pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    let file = export(&nas);
    pi.switch_off();
    nas.switch_off();
    fs::remove_dir_all(nas.state_dir().join("store")).unwrap();
    nas.switch_on();
    assert_eq!(
        text(&nas.status(), "/state"),
        "starting",
        "it knows that ops are lost"
    );
    let ops = verify(&nas, &file)["ops"].as_u64().unwrap();
    let new = import(&nas, &file);
    assert_eq!(
        new["new"]["ops"].as_u64().unwrap(),
        ops - 1,
        "it still had the genesis"
    );
    eventually("it is whole again", PATIENCE, || {
        text(&nas.status(), "/state") == "isolated"
    });
    let late = node_on(&lab, &lan, "late", 9);
    late.join(&nas.invite(&[]));
    assert_eq!(
        import(&nas, &file)["new"]["ops"],
        0,
        "all of it is known by now"
    );
}

pub(crate) fn a_file_of_another_network_or_with_a_wrong_bit_is_not_taken(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, other, nowhere] = [("nas", 1), ("other", 2), ("nowhere", 3)]
        .map(|(name, host)| node_on(&lab, &lan, name, host));
    nas.init("homelab");
    other.init("elsewhere");
    let file = export(&nas);
    let path = file.to_str().unwrap();
    let (code, said) = other.refused(&["import", path]);
    assert_eq!(code, 1);
    assert!(said.starts_with("the file is of the network"), "{said}");
    assert_eq!(nowhere.refused(&["import", path]).0, 5);
    assert_eq!(
        nowhere.ask(&["verify", path])["ok"],
        true,
        "anybody may check a file"
    );
    let mut wrong = fs::read(&file).unwrap();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    fs::write(&file, wrong).unwrap();
    assert_eq!(nas.refused(&["import", path]).0, 1);
    let (code, said) = nas.refused(&["verify", path]);
    assert_eq!(code, 1);
    assert!(said.contains(" is bad: "), "{said}");
}

fn export(node: &Node) -> PathBuf {
    let file = node.machine().directory().join("net.mesh");
    let made = node.ask(&["export", "--out", file.to_str().unwrap()]);
    let size = fs::metadata(&file).unwrap().len();
    assert_eq!(made["size_bytes"].as_u64(), Some(size));
    file
}

fn import(node: &Node, file: &Path) -> Value {
    node.ask(&["import", file.to_str().unwrap()])
}

fn verify(node: &Node, file: &Path) -> Value {
    node.ask(&["verify", file.to_str().unwrap()])
}

fn second_reader(file: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder/verify_export.py");
    let output = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg(file)
        .output();
    let output = output.expect("python3 with python3-cryptography, as .ci/run installs them");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the second reader: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// None of the seeds in the secrets file, nor an epoch key behind them, is in the file.
fn holds_no_key(node: &Node, file: &Path) {
    let bytes = fs::read(file).unwrap();
    let keys = fs::read(node.state_dir().join("keys")).unwrap();
    // Magic, version and length, then the version of the content: the seeds of D, T and W.
    for at in [1, 33, 65].map(|at| 14 + at) {
        let seed = &keys[at..at + 32];
        assert!(
            !bytes.windows(32).any(|window| window == seed),
            "a private key is in the file"
        );
    }
}
