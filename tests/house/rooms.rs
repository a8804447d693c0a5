//! Who may know whom: the core knows nobody, adapters do not know each other.

use std::collections::BTreeSet;
use std::fs;

use crate::{assert_none, check, root};

/// All that the core stands on.
const PROTOCOL_DEPENDENCIES: [&str; 15] = [
    "argon2",
    "automerge",
    "bip39",
    "blake3",
    "chacha20poly1305",
    "ed25519-dalek",
    "jsonc-parser",
    "postcard",
    "rand_chacha",
    "rand_core",
    "serde",
    "subtle",
    "thiserror",
    "x25519-dalek",
    "zeroize",
];

/// What would bring the world into the core.
const PROTOCOL_BANNED: [&str; 16] = [
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::io",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "tokio",
    "HashMap",
    "HashSet",
    "thread_rng",
];

/// Rooms around the core that know the outside world, and none of their sisters.
const ADAPTERS: [&str; 10] = [
    "control",
    "endpoints",
    "host",
    "lab",
    "mapping",
    "nameserver",
    "store",
    "swarm",
    "tunnel",
    "demo",
];

/// Who may name which adapter besides itself; `daemon` ties them all together.
const ARROWS: [(&str, &str); 10] = [
    ("endpoints", "host"),
    ("cli", "control"),
    ("cli", "demo"),
    ("volunteer", "swarm"),
    ("volunteer", "tunnel"),
    ("demo", "control"),
    ("demo", "lab"),
    ("output", "control"),
    ("failure", "control"),
    ("main", "lab"),
];

#[test]
fn the_core_stands_on_the_listed_crates_alone() {
    let manifest = fs::read_to_string(root().join("protocol/Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let named: BTreeSet<_> = section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect();
    assert_eq!(named, BTreeSet::from(PROTOCOL_DEPENDENCIES));
}

#[test]
fn the_core_has_no_clock_socket_file_thread_or_unordered_map() {
    let faults = check(|file, faults| {
        if !file.path.starts_with("protocol/src") {
            return;
        }
        for (number, line) in file.lines() {
            let code = line.split("//").next().unwrap();
            for word in PROTOCOL_BANNED.iter().filter(|word| code.contains(**word)) {
                faults.push(format!("line {number} names {word}"));
            }
        }
    });
    assert_none(&faults);
}

#[test]
fn simulations_know_the_core_alone() {
    let manifest = fs::read_to_string(root().join("simulations/Cargo.toml")).unwrap();
    for dependency in [
        "meshnode =",
        "meshnode.workspace",
        "libp2p",
        "tokio",
        "boringtun",
    ] {
        let named = manifest.lines().any(|line| line.starts_with(dependency));
        assert!(!named, "simulations depends on {dependency}");
    }
}

#[test]
fn no_adapter_names_a_sister() {
    let faults = check(|file, faults| {
        let Ok(path) = file.path.strip_prefix("src") else {
            return;
        };
        let first = path.iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs");
        if room == "daemon" || room == "lib" {
            return;
        }
        for (number, line) in file.lines() {
            let code = line.split("//").next().unwrap();
            for named in rooms_named(code) {
                let sister = ADAPTERS.contains(&named) && named != room;
                if sister && !ARROWS.contains(&(room, named)) {
                    faults.push(format!("line {number}: {room} names {named}"));
                }
            }
        }
    });
    assert_none(&faults);
}

#[test]
fn one_line_may_name_several_rooms() {
    let named = rooms_named("use crate::{store::Store, swarm}; crate::tunnel::start(self.x)");
    assert_eq!(named, ["store", "swarm", "tunnel"]);
}

/// The rooms behind each `crate::` of a line.
fn rooms_named(code: &str) -> Vec<&str> {
    let mut named = Vec::new();
    for after in code.split("crate::").skip(1) {
        let names = match after.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap().split(',').collect(),
            None => vec![after],
        };
        for name in names {
            let end = name.trim().find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = name.trim();
            named.push(&name[..end.unwrap_or(name.len())]);
        }
    }
    named
}
