//! The policy: its language, its document under hostile bytes and any order, and who reaches whom.
//!
//! `MESHNODE_CASES` raises the number of cases; a failing case prints the seed that repeats it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "policy/bombs.rs"]
mod bombs;
#[path = "policy/chunks.rs"]
mod chunks;
#[path = "policy/language.rs"]
mod language;
#[path = "policy/merging.rs"]
mod merging;
#[path = "policy/orphans.rs"]
mod orphans;
#[path = "policy/reaching.rs"]
mod reaching;
#[path = "policy/world.rs"]
mod world;

use proptest::test_runner::Config;

/// How many cases each property runs.
fn cases() -> Config {
    let cases = std::env::var("MESHNODE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(16);
    Config {
        cases,
        // A found seed becomes a named test, not a file.
        failure_persistence: None,
        ..Config::default()
    }
}
