//! Properties of the authority plane, each for random networks that hold liars too.
//!
//! `MESHNODE_CASES` raises the number of cases; a failing case prints the seed that repeats it.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first surprise, and looks for one kind among many"
)]

#[path = "properties/acts.rs"]
mod acts;
#[path = "properties/admission.rs"]
mod admission;
#[path = "properties/agreement.rs"]
mod agreement;
#[path = "properties/charter.rs"]
mod charter;
#[path = "properties/claims.rs"]
mod claims;
#[path = "properties/file.rs"]
mod file;
#[path = "properties/following.rs"]
mod following;
#[path = "properties/forgery.rs"]
mod forgery;
#[path = "properties/joins.rs"]
mod joins;
#[path = "properties/merge.rs"]
mod merge;
#[path = "properties/model.rs"]
mod model;
#[path = "properties/naming.rs"]
mod naming;
#[path = "properties/scenario.rs"]
mod scenario;
#[path = "properties/slips.rs"]
mod slips;
#[path = "properties/standing.rs"]
mod standing;
#[path = "properties/trial.rs"]
mod trial;

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
