//! The style of the house as tests: what a reviewer would otherwise have to say again and again (`docs/style.md`).

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

mod house {
    mod documents;
    mod licences;
    mod rooms;
}

/// The longest file: what is longer has two subjects.
const FILE_LINES_MAX: usize = 500;
/// rustfmt breaks code at 100 columns; this is for what it does not break, prose in comments.
const LINE_CHARS_MAX: usize = 120;
/// Names that say nothing about what lives there.
const MODULE_NAMES_BANNED: [&str; 10] = [
    "common", "data", "helper", "helpers", "info", "manager", "misc", "shared", "util", "utils",
];

#[test]
fn no_file_is_longer_than_a_subject() {
    let faults = check(|file, faults| {
        // Tests inside a file may follow its 500 lines.
        let body = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = body.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{lines} lines, at most {FILE_LINES_MAX}"));
        }
    });
    assert_none(&faults);
}

#[test]
fn no_line_of_prose_is_longer_than_the_eye_likes() {
    let faults = check(|file, faults| {
        for (number, line) in file.lines() {
            // A long text in quotes cannot be broken without changing it.
            if line.chars().count() > LINE_CHARS_MAX && !line.contains('"') {
                faults.push(format!("line {number} is longer than {LINE_CHARS_MAX}"));
            }
        }
    });
    assert_none(&faults);
}

#[test]
fn every_file_opens_with_what_it_is() {
    let faults = check(|file, faults| {
        if !file.text.starts_with("//! ") {
            faults.push("does not open with //!".to_owned());
        }
    });
    assert_none(&faults);
}

#[test]
fn no_module_is_a_junk_drawer() {
    let faults = check(|file, faults| {
        let stem = file.path.file_stem().unwrap().to_str().unwrap();
        let folders = file.path.parent().unwrap().iter();
        let names = folders.map(|name| name.to_str().unwrap()).chain([stem]);
        for name in names {
            if MODULE_NAMES_BANNED.contains(&name) {
                faults.push(format!("the name {name} says nothing"));
            }
        }
    });
    assert_none(&faults);
}

#[test]
fn nothing_is_left_for_later() {
    // In halves, so that this file does not accuse itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("// XX", "X"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("place", "holder"),
        concat!("coming ", "soon"),
        concat!("not implemented ", "yet"),
        concat!("lorem ", "ipsum"),
    ];
    let look = |file: &SourceFile, faults: &mut Vec<String>| {
        for (number, line) in file.lines() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("line {number} says {word}"));
            }
        }
    };
    assert_none(&check(look));
    assert_none(&check_files(&documents(), look));
}

#[test]
fn unsafe_code_is_expected_with_a_reason_or_absent() {
    let faults = check(|file, faults| {
        let uses = file.lines().any(|(_, line)| {
            let code = line.split("//").next().unwrap();
            code.contains(concat!("unsafe", " {")) || code.contains(concat!("unsafe", " fn"))
        });
        let expected = file.text.contains("unsafe_code,") && file.text.contains("reason = ");
        if uses && !expected {
            faults.push("unsafe code without #[expect(unsafe_code, reason = ..)]".to_owned());
        }
    });
    assert_none(&faults);
}

/// A text file of the project, its path from the root.
struct SourceFile {
    path: PathBuf,
    text: String,
}

impl SourceFile {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of the project.
fn sources() -> Vec<SourceFile> {
    let folders = [
        "src",
        "protocol",
        "simulations",
        "tests",
        "benches",
        "examples",
    ];
    let mut files = Vec::new();
    for folder in folders {
        files.extend(read_below(Path::new(folder), "rs"));
    }
    assert!(files.len() > 20, "the walk found next to nothing");
    files
}

/// All documents of the project.
fn documents() -> Vec<SourceFile> {
    let mut files = read_below(Path::new("docs"), "md");
    let readme = root().join("README.md");
    if let Ok(text) = fs::read_to_string(readme) {
        let path = PathBuf::from("README.md");
        files.push(SourceFile { path, text });
    }
    assert!(!files.is_empty());
    files
}

fn read_below(folder: &Path, extension: &str) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root().join(&folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                if entry.file_name() != "target" && entry.file_name() != "corpus" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(root().join(&path)).unwrap();
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn check(rule: impl Fn(&SourceFile, &mut Vec<String>)) -> BTreeSet<String> {
    check_files(&sources(), rule)
}

fn check_files(
    files: &[SourceFile],
    rule: impl Fn(&SourceFile, &mut Vec<String>),
) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for file in files {
        let mut faults = Vec::new();
        rule(file, &mut faults);
        let place = file.path.display();
        all.extend(faults.iter().map(|fault| format!("{place}: {fault}")));
    }
    all
}

fn assert_none(faults: &BTreeSet<String>) {
    let list: Vec<_> = faults.iter().map(String::as_str).collect();
    assert!(faults.is_empty(), "\n{}\n", list.join("\n"));
}
