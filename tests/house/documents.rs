//! Documents that lead nowhere are worse than none.

use std::collections::BTreeSet;
use std::fs;

use crate::{assert_none, check, check_files, documents, root, sources};

#[test]
fn every_relative_link_resolves() {
    let faults = check_files(&documents(), |file, faults| {
        let folder = root().join(file.path.parent().unwrap());
        for (number, link) in links(&file.text) {
            let target = link.split('#').next().unwrap();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !elsewhere && !folder.join(target).exists() {
                faults.push(format!("line {number}: {target} does not exist"));
            }
        }
    });
    assert_none(&faults);
}

#[test]
fn every_document_named_in_code_exists() {
    let faults = check(|file, faults| {
        for (number, line) in file.lines() {
            for after in line.split(concat!("`doc", "s/")).skip(1) {
                let name = after.split('`').next().unwrap();
                if !root().join("docs").join(name).exists() {
                    faults.push(format!("line {number}: docs/{name} does not exist"));
                }
            }
        }
    });
    assert_none(&faults);
}

#[test]
fn every_section_cited_in_code_is_a_heading_of_the_protocol() {
    let protocol = fs::read_to_string(root().join("docs/protocol.md"))
        .expect("docs/protocol.md holds the sections that the code cites");
    let headings: BTreeSet<_> = protocol.lines().filter_map(heading_number).collect();
    let faults = check(|file, faults| {
        for (number, line) in file.lines() {
            for section in sections_cited(line) {
                if !headings.contains(section) {
                    faults.push(format!("line {number}: there is no §{section}"));
                }
            }
        }
    });
    assert_none(&faults);
}

#[test]
fn citations_are_told_from_those_of_standards() {
    let line = "see `docs/protocol.md` §3.1, §4 and §7.5/§7.6; RFC 8445 §7.3.1.4, not §9.";
    let cited: Vec<_> = sections_cited(line).collect();
    assert_eq!(cited, ["3.1", "4", "7.5", "7.6", "9"]);
    assert_eq!(heading_number("### 3.1 Envelope"), Some("3.1"));
    assert_eq!(heading_number("## §4. Claim"), Some("4"));
    assert_eq!(heading_number("## Claim 4"), None);
}

/// The sections of our own protocol that a line cites: `§` with a number, unless an RFC stands before it.
fn sections_cited(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices('§').filter_map(|(at, sign)| {
        let before = line[..at].trim_end();
        let word = before.rsplit(' ').next().unwrap_or_default();
        let standard = before.ends_with(|c: char| c.is_ascii_digit())
            && before[..before.len() - word.len()]
                .trim_end()
                .ends_with("RFC");
        let after = &line[at + sign.len()..];
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '.');
        let section = after[..end.unwrap_or(after.len())].trim_end_matches('.');
        (!standard && !section.is_empty()).then_some(section)
    })
}

fn heading_number(line: &str) -> Option<&str> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').trim_start();
    let number = title.trim_start_matches('§').split(' ').next()?;
    let number = number.trim_end_matches('.');
    let starts = number.starts_with(|c: char| c.is_ascii_digit());
    starts.then_some(number)
}

/// Targets of the Markdown links outside of code blocks, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if !in_code {
            let targets = line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next());
            links.extend(targets.map(|target| (number, target)));
        }
    }
    links
}

#[test]
fn every_test_that_the_security_document_names_exists() {
    let document = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut declared = BTreeSet::new();
    for file in sources() {
        for (_, line) in file.lines() {
            if let Some(after) = line.trim_start().split("fn ").nth(1) {
                declared.insert(after.split(['(', '<']).next().unwrap().to_owned());
            }
        }
    }
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let named: BTreeSet<_> = rows
        .filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(
        named.len() > 30,
        "the tables of threats and bad input were not found"
    );
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !declared.contains(**name))
        .collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
}
