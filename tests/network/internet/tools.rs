//! The programs of the distribution that the sites are made with: `ip`, `nft`, `conntrack`, inside a machine.

use std::fs;
use std::time::Duration;

use meshnode::lab::Machine;

/// None of them takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(20);

/// Uplinks of `ip`, without the word itself.
pub(crate) fn ip(machine: &Machine, lines: &str) {
    ip_of(machine, "-4", lines);
}

/// The same of one address family: `-4` or `-6`.
pub(crate) fn ip_of(machine: &Machine, family: &str, lines: &str) {
    let file = machine.directory().join("ip.batch");
    fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap().to_owned();
    run(machine, "ip", &[family, "-batch", &file]);
}

/// A file of `nft`: all of it or nothing.
pub(crate) fn nft(machine: &Machine, rules: &str) {
    let file = machine.directory().join("rules.nft");
    fs::write(&file, rules).unwrap();
    let file = file.to_str().unwrap().to_owned();
    run(machine, "nft", &["-f", &file]);
}

/// Makes a router forget every connection.
pub(crate) fn forget_connections(machine: &Machine) {
    run(machine, "conntrack", &["-F"]);
}

/// A value of `/proc/sys/net`.
pub(crate) fn set(machine: &Machine, name: &str, value: impl ToString) {
    let (path, value) = (format!("/proc/sys/net/{name}"), value.to_string());
    let written = machine.inside(move || fs::write(&path, value).map_err(|error| (path, error)));
    written.unwrap().unwrap();
}

fn run(machine: &Machine, program: &str, words: &[&str]) {
    let ended = machine.command(program).args(words).output(LIMIT);
    let ended = ended.unwrap_or_else(|error| {
        panic!("{error}; `.ci/run` lists the packages that tests need");
    });
    assert!(
        ended.status.success(),
        "{}: {program} {words:?}: {ended} {}",
        machine.name(),
        ended.stderr
    );
}
