//! Replays the committed fuzz corpus through the functions that the fuzzer runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/targets.rs"]
#[expect(
    unreachable_pub,
    reason = "the same file is the library of the fuzz crate"
)]
mod targets;

#[test]
fn no_seed_makes_a_parser_panic_and_each_is_accepted_or_refused_as_its_name_says() {
    for (name, target) in targets::ALL {
        let seeds = files(&corpus().join(name));
        for seed in &seeds {
            let accepted = target(&fs::read(seed).unwrap());
            let file = seed.file_name().unwrap().to_string_lossy();
            if file.starts_with("valid-") {
                assert!(accepted, "{name} refused {file}");
            }
            if file.starts_with("bad-") {
                assert!(!accepted, "{name} accepted {file}");
            }
        }
        assert!(seeds.len() >= 5, "{name} has hardly any seeds");
    }
}

#[test]
fn every_target_has_a_binary_and_a_corpus_and_nothing_else_is_there() {
    let targets: BTreeSet<String> = targets::ALL
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let stems = |directory: &Path| -> BTreeSet<String> {
        files(directory)
            .iter()
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(stems(&corpus()), targets);
    assert_eq!(stems(&corpus().with_file_name("fuzz_targets")), targets);
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the directory is committed")
        .map(|entry| entry.expect("a directory that can be read").path())
        .collect();
    files.sort();
    files
}
