//! `docs/protocol.md` names what the code has: limits, contexts, sections; and its links lead somewhere.
#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use meshnode_protocol::{limits, wire};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    fs::read_to_string(root().join("docs/protocol.md")).unwrap()
}

/// Every source file below a directory of the repository, tests left out.
fn sources(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
}

fn all_sources() -> Vec<String> {
    let mut found = Vec::new();
    for room in ["protocol/src", "src"] {
        sources(&root().join(room), &mut found);
    }
    found
}

macro_rules! values {
    ($($room:ident::$name:ident),* $(,)?) => {
        vec![$((stringify!($name), u64::try_from($room::$name).unwrap())),*]
    };
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list")]
fn the_table_of_limits_is_what_the_code_has() {
    let values = values![
        limits::PARENTS_MAX,
        limits::HEADS_REPORTED_MAX,
        limits::OP_BYTES_MAX,
        limits::OP_POLICY_BYTES_MAX,
        limits::OP_POLICY_BASE_BYTES_MAX,
        limits::SPARE_MAX,
        limits::REASON_BYTES_MAX,
        limits::ADMIT_BYTES_MAX,
        limits::RECORD_BYTES_MAX,
        limits::RECORD_SEQ_MAX,
        limits::EXT_ENTRIES_MAX,
        limits::EXT_BYTES_MAX,
        limits::TAGS_MAX,
        limits::ROOT_KEYS_MAX,
        limits::ADMITS_PER_INVITE_MAX,
        limits::FOREIGN_RECORDS_MAX,
        limits::INVITE_USES_MAX,
        limits::ORPHAN_BYTES_MAX,
        limits::ORPHAN_SHARE,
        limits::AUTHOR_BYTES_MAX,
        limits::SENIOR_BYTES_MAX,
        limits::AUTHOR_BYTES_PER_HOUR,
        limits::AUTHOR_BASES_MAX,
        limits::AUTHOR_OPS_PER_HOUR,
        limits::SERVED_BYTES_PER_MINUTE,
        limits::IDLE_BYTES_MAX,
        limits::EXPORT_BYTES_MAX,
        limits::CANDIDATES_MAX,
        limits::HOMES_MAX,
        limits::OVERLAY_MTU,
        limits::RELAY_ADDRESSES_MAX,
        limits::RELAY_BINDINGS_MAX,
        limits::RELAY_PAIRS_MAX,
        limits::RELAY_SOURCES_MAX,
        limits::RELAY_SOURCE_BINDINGS_MAX,
        limits::RELAY_BINDS_PER_SECOND,
        limits::RELAY_SOURCE_BINDS_PER_SECOND,
        limits::MESSAGE_BYTES_MAX,
        limits::GOSSIP_BYTES_MAX,
        limits::LOCATOR_BYTES,
        limits::JOIN_BYTES_MAX,
        limits::PUSH_BYTES_MAX,
        limits::POLICY_TEXT_BYTES_MAX,
        limits::POLICY_RULES_MAX,
        limits::POLICY_TESTS_MAX,
        limits::POLICY_NOTE_BYTES_MAX,
        limits::POLICY_TRIAL_MS_MIN,
        limits::POLICY_TRIAL_MS_MAX,
        limits::POLICY_EDIT_BYTES_MAX,
        limits::POLICY_BASE_BYTES_MAX,
        limits::POLICY_EDIT_ROWS_MAX,
        limits::POLICY_BASE_ROWS_MAX,
        limits::POLICY_HISTORY_BYTES_DUE,
        wire::EPOCHS_SENT_MAX,
        wire::KEYS_SENT_MAX,
        wire::KEYS_ASKED_MAX,
        wire::ITEMS_BYTES_MAX,
    ];
    let document = document();
    for (name, value) in &values {
        let row = format!("| `{name}` | {value} |");
        assert!(document.contains(&row), "{row} is not in the document");
    }
    let declared: usize = ["limits", "wire"]
        .map(|room| root().join("protocol/src").join(room).with_extension("rs"))
        .map(|file| {
            fs::read_to_string(file)
                .unwrap()
                .matches("\npub const ")
                .count()
        })
        .iter()
        .sum();
    assert_eq!(declared, values.len(), "a limit is not in this test");
}

#[test]
fn every_context_of_the_code_is_in_the_document() {
    let document = document();
    let mut contexts = BTreeSet::new();
    for source in all_sources() {
        let source = source.split("#[cfg(test)]").next().unwrap().to_owned();
        for literal in source.split('"').skip(1).step_by(2) {
            let numbered = literal.ends_with(" 1") || literal.ends_with(" v1");
            if literal.starts_with("meshnode ") && numbered {
                contexts.insert(literal.to_owned());
            }
            if let Some(name) = literal
                .strip_prefix("meshnode/")
                .and_then(|rest| rest.strip_suffix("/1\\0"))
            {
                contexts.insert(format!("`{name}`"));
            }
        }
    }
    assert!(contexts.len() > 35, "the search finds hardly any");
    for context in contexts {
        // Contexts that differ in one word share a row, where the others begin with an ellipsis.
        let short = context
            .splitn(3, ' ')
            .nth(2)
            .map(|rest| format!("… {rest}`"));
        let named = document.contains(&context) || short.is_some_and(|s| document.contains(&s));
        assert!(named, "{context} is not in the document");
    }
}

#[test]
fn every_section_that_the_code_cites_exists() {
    let document = document();
    for source in all_sources() {
        for cited in source.split("docs/protocol.md` ").skip(1) {
            let line = cited.split([')', '\n']).next().unwrap();
            for section in line.split('§').skip(1) {
                let number: String = section
                    .chars()
                    .take_while(|symbol| symbol.is_ascii_digit() || *symbol == '.')
                    .collect();
                let number = number.trim_end_matches('.');
                let heading = |level| format!("\n{level} {number} ");
                let exists =
                    document.contains(&heading("##")) || document.contains(&heading("###"));
                assert!(exists, "§{number} is not in the document");
            }
        }
    }
}

#[test]
fn every_section_that_the_document_cites_and_every_file_it_links_exists() {
    let document = document();
    for section in document.split('§').skip(1) {
        let number: String = section
            .chars()
            .take_while(|symbol| symbol.is_ascii_digit() || *symbol == '.')
            .collect();
        let number = number.trim_end_matches('.');
        // References to other documents stand behind a link.
        let starts = |level| format!("\n{level} {number} ");
        let step = format!("**{number} ");
        let ours = document.contains(&starts("##")) || document.contains(&starts("###"));
        let theirs = ["5", "5.1.7", "5.4", "2.3"].contains(&number);
        assert!(ours || theirs || document.contains(&step), "§{number}");
    }
    for link in document.split("](").skip(1) {
        let target = link.split(')').next().unwrap();
        if !target.starts_with("https://") {
            let path = root().join("docs").join(target);
            assert!(path.exists(), "{target} does not exist");
        }
    }
}
