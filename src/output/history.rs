//! The screens and objects of `log`, `export` and `import`.

use meshnode_protocol::export::Export;
use serde_json::{Value, json};

use super::table::Table;
use super::{Style, clean};
use crate::control::history::short;
use crate::control::{Imported, LogLine};
use crate::units;

/// The history as a table, newest last.
pub(crate) fn log(lines: &[&LogLine], style: Style, width: usize) -> String {
    let mut table = Table::new(&["OP", "SAID", "HEARD", "WHO", "ON AUTHORITY OF", "WHAT"]);
    for line in lines {
        let why = line.why_not.as_ref();
        let void = why.map_or_else(String::new, |why| {
            format!(" (does not count: {})", clean(why))
        });
        table.row(vec![
            short(&line.id),
            units::local_time(line.said),
            line.heard.map_or_else(|| "-".to_owned(), units::local_time),
            clean(&line.author.name),
            authority(line),
            format!("{}{void}", clean(&line.text)),
        ]);
    }
    if style.plain {
        table.plain()
    } else {
        table.render(width, &["HEARD", "OP", "ON AUTHORITY OF"])
    }
}

/// Who gave the right, and who gave it to them: `bob, nas, the recovery phrase`.
fn authority(line: &LogLine) -> String {
    let names: Vec<String> = line.chain.iter().map(|who| clean(&who.name)).collect();
    if names.is_empty() {
        return "-".to_owned();
    }
    names.join(", ")
}

/// One op as an object.
pub(crate) fn log_json(line: &LogLine) -> String {
    let chain = line.chain.iter();
    let subject = line.subject.as_ref();
    object(&json!({
        "id": line.id.to_string(),
        "kind": line.kind,
        "author": {"id": line.author.id.map(|id| id.to_string()), "name": line.author.name},
        "authority": line.authority.to_string(),
        "on_authority_of": chain
            .map(|who| json!({"id": who.id.map(|id| id.to_string()), "name": who.name}))
            .collect::<Vec<_>>(),
        "subject": subject.map(|subject| json!({"id": subject.id, "name": subject.name})),
        "text": line.text,
        "said_at": units::rfc3339(line.said),
        "heard_at": line.heard.map(units::rfc3339),
        "counts": line.why_not.is_none(),
        "why_not": line.why_not,
    }))
}

/// A file that was written.
pub(crate) fn exported_json(file: &str, bytes: usize, export: &Export<'_>) -> String {
    object(&json!({
        "schema": 1,
        "file": file,
        "size_bytes": bytes,
        "ops": export.ops.len(),
        "admits": export.admits.len(),
        "records": export.records.len(),
    }))
}

/// What was new in a file.
pub(crate) fn imported(new: &Imported) -> String {
    if (new.ops, new.admits, new.records) == (0, 0, 0) {
        return "Nothing new: this node has all that holds in the file.\n".to_owned();
    }
    format!(
        "New here: {} ops, {} admits, {} records. The other nodes hear of them.\n",
        new.ops, new.admits, new.records
    )
}

/// The same as an object.
pub(crate) fn imported_json(new: &Imported) -> String {
    object(&json!({
        "schema": 1,
        "new": {"ops": new.ops, "admits": new.admits, "records": new.records},
        "refused": new.refused,
    }))
}

fn object(value: &Value) -> String {
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::id::OpId;
    use meshnode_protocol::time::Timestamp;

    use super::*;
    use crate::control::history::{Subject, Who};

    fn line() -> LogLine {
        LogLine {
            id: OpId::new([7; 32]),
            kind: "revoke".to_owned(),
            author: Who {
                id: None,
                name: "nas\u{1b}[2J".to_owned(),
            },
            authority: OpId::ZERO,
            chain: vec![
                Who {
                    id: None,
                    name: "bob".to_owned(),
                },
                Who {
                    id: None,
                    name: "the recovery phrase".to_owned(),
                },
            ],
            subject: Some(Subject {
                id: "x".to_owned(),
                name: None,
            }),
            text: "put pi out: \u{202e}dlos".to_owned(),
            said: Timestamp::from_ms(1_795_284_240_500),
            heard: None,
            why_not: Some("its author was put out by bob (op 4K9Z)".to_owned()),
        }
    }

    #[test]
    fn a_line_says_who_on_whose_authority_and_why_it_does_not_count_and_steers_no_terminal() {
        let line = line();
        let text = log(&[&line], Style::default(), usize::MAX);
        let row = text.lines().nth(1).unwrap();
        assert!(
            row.contains("  nas[2J  bob, the recovery phrase  put pi out: dlos (does"),
            "{row}"
        );
        assert!(row.ends_with("put out by bob (op 4K9Z))"), "{row}");
    }

    #[test]
    fn a_line_has_every_field_of_the_contract_and_null_for_what_is_not_known() {
        let value: Value = serde_json::from_str(&log_json(&line())).unwrap();
        for field in [
            "id",
            "kind",
            "author",
            "authority",
            "subject",
            "text",
            "said_at",
            "heard_at",
            "counts",
            "why_not",
        ] {
            assert!(value.get(field).is_some(), "{field}");
        }
        assert_eq!(value["heard_at"], Value::Null);
        assert_eq!(value["counts"], false);
        assert_eq!(value["said_at"], "2026-11-21T18:04:00Z");
    }

    #[test]
    fn a_file_without_news_says_so() {
        assert!(imported(&Imported::default()).starts_with("Nothing new"));
        let new = Imported {
            records: 2,
            ..Imported::default()
        };
        assert!(imported(&new).starts_with("New here: 0 ops, 0 admits, 2 records"));
    }
}
