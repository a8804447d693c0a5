//! Replays the committed fuzz corpus through the functions that the fuzzer runs.

use std::fs;
use std::path::Path;

use super::packets;

#[test]
fn no_seed_makes_cutting_or_merging_panic_and_each_is_taken_or_not_as_its_name_says() {
    let targets = [
        ("cut", packets::cut as fn(&[u8]) -> bool),
        ("merge", packets::merge),
    ];
    for (name, target) in targets {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzz/corpus")
            .join(name);
        let mut seeds = 0;
        for entry in fs::read_dir(corpus).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            let taken = target(&fs::read(&path).unwrap());
            seeds += 1;
            if file.starts_with("valid-") {
                assert!(taken, "{name} refused {file}");
            }
            if file.starts_with("bad-") {
                assert!(!taken, "{name} took {file}");
            }
        }
        assert!(seeds >= 5, "{name} has hardly any seeds");
    }
}
