//! Every crate that is built may be shipped under MIT OR Apache-2.0; the list of licences is the one in `deny.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::{assert_none, root};

#[test]
fn every_crate_that_is_built_has_an_allowed_licence() {
    let allowed = allowed_licences();
    let metadata = metadata();
    let mut faults = BTreeSet::new();
    for package in packages_reached(&metadata) {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("no licence");
        if !is_allowed(licence, &allowed) {
            faults.insert(format!("{name}: {licence}"));
        }
    }
    assert_none(&faults);
}

#[test]
fn every_crate_comes_from_crates_io_or_this_repository() {
    let metadata = metadata();
    let mut faults = BTreeSet::new();
    for package in packages_reached(&metadata) {
        let source = package["source"].as_str();
        if source.is_some_and(|source| !source.contains("github.com/rust-lang/crates.io-index")) {
            faults.insert(format!("{}: {source:?}", package["name"]));
        }
    }
    assert_none(&faults);
}

#[test]
fn no_licence_is_allowed_that_nothing_needs() {
    let metadata = metadata();
    let packages = packages_reached(&metadata);
    let texts: Vec<_> = packages
        .iter()
        .filter_map(|package| package["license"].as_str())
        .collect();
    for licence in allowed_licences() {
        let mut fewer = allowed_licences();
        fewer.remove(&licence);
        let needed = texts.iter().any(|text| !is_allowed(text, &fewer));
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

fn metadata() -> Value {
    let environment = if cfg!(target_env = "musl") {
        "musl"
    } else {
        "gnu"
    };
    let platform = format!("{ARCH}-unknown-linux-{environment}");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The packages that the workspace reaches; the lock file names more.
fn packages_reached(metadata: &Value) -> Vec<&Value> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<_, _> = nodes
        .iter()
        .map(|node| (node["id"].as_str(), node))
        .collect();
    let members = metadata["workspace_members"].as_array().unwrap();
    let mut waiting: Vec<_> = members.iter().map(Value::as_str).collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if reached.insert(id) {
            let dependencies = nodes[&id]["dependencies"].as_array().unwrap();
            waiting.extend(dependencies.iter().map(Value::as_str));
        }
    }
    let packages = metadata["packages"].as_array().unwrap().iter();
    let packages: Vec<_> = packages
        .filter(|found| reached.contains(&found["id"].as_str()))
        .collect();
    assert!(packages.len() > 100, "the walk found next to nothing");
    packages
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
