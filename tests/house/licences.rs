//! Every crate that is built may be shipped under MIT OR Apache-2.0; the list of licences is the one in `deny.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::{assert_none, root};

#[test]
fn every_crate_that_is_built_has_an_allowed_licence() {
    let allowed = allowed_licences();
    let mut faults = BTreeSet::new();
    for Crate { name, licence } in crates_built() {
        if !is_allowed(&licence, &allowed) {
            faults.insert(format!("{name}: {licence}"));
        }
    }
    assert_none(&faults);
}

#[test]
fn every_crate_comes_from_crates_io_or_this_repository() {
    let mut faults = BTreeSet::new();
    for Crate { name, .. } in crates_built() {
        // cargo names the origin behind the version, unless it is crates.io.
        let origin = name
            .split('(')
            .skip(1)
            .map(|text| text.trim_end().trim_end_matches(')'));
        let here = root().to_str().unwrap();
        for origin in origin.filter(|origin| *origin != "proc-macro" && !origin.starts_with(here)) {
            faults.insert(format!("{name}: {origin}"));
        }
    }
    assert_none(&faults);
}

#[test]
fn no_licence_is_allowed_that_nothing_needs() {
    let crates = crates_built();
    for licence in allowed_licences() {
        let mut fewer = allowed_licences();
        fewer.remove(&licence);
        let needed = crates
            .iter()
            .any(|found| !is_allowed(&found.licence, &fewer));
        assert!(needed, "deny.toml allows {licence} for nothing");
    }
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for (text, verdict) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("GPL-3.0 OR MIT AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(text, &allowed), verdict, "{text}");
    }
}

/// A crate as `cargo tree` prints it: name, version, origin.
struct Crate {
    name: String,
    licence: String,
}

/// What is built for this machine, tests included. `cargo metadata` would name crates that no feature turns on.
fn crates_built() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--offline",
            "--locked",
            "--no-dedupe",
        ])
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: BTreeSet<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 100, "the walk found next to nothing");
    let split = lines.iter().filter_map(|line| line.split_once('|'));
    split
        .map(|(name, licence)| Crate {
            name: name.to_owned(),
            licence: licence.to_owned(),
        })
        .collect()
}

fn allowed_licences() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    let section = text.split("[licenses]").nth(1).unwrap();
    let list = section.split("allow = [").nth(1).unwrap();
    let list = list.split(']').next().unwrap();
    let lines = list.lines().map(|line| line.split('#').next().unwrap());
    let names = lines.flat_map(|line| line.split(','));
    names
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Reads an SPDX expression, or cargo's older form with a stroke for OR.
fn is_allowed(text: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = text
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words: Vec<_> = spaced.split_whitespace().rev().collect();
    any_of(&mut words, allowed) == Some(true) && words.is_empty()
}

fn any_of(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut verdict = all_of(words, allowed)?;
    while words.pop_if(|word| *word == "OR").is_some() {
        verdict |= all_of(words, allowed)?;
    }
    Some(verdict)
}

fn all_of(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Option<bool> {
    let mut verdict = one(words, allowed)?;
    while words.pop_if(|word| *word == "AND").is_some() {
        verdict &= one(words, allowed)?;
    }
    Some(verdict)
}

fn one(words: &mut Vec<&str>, allowed: &BTreeSet<String>) -> Option<bool> {
    let word = words.pop()?;
    if word == "(" {
        let verdict = any_of(words, allowed)?;
        return (words.pop()? == ")").then_some(verdict);
    }
    let name = match words.pop_if(|word| *word == "WITH") {
        Some(_) => format!("{word} WITH {}", words.pop()?),
        None => word.to_owned(),
    };
    Some(allowed.contains(&name))
}
