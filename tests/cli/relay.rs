//! A volunteer's relay on a machine of its own.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::sandbox::{Person, Sandbox, eventually};
use super::{code, stderr};

const DIR: &str = "/var/lib/meshnode-relay";

/// Starts a relay and waits until it tells how it does.
fn start(machine: &Sandbox, words: &str) {
    let line = format!("/run/program relay run {words} >/run/relay.log 2>&1 &");
    assert_eq!(code(&machine.inside(&["sh", "-c", &line])), 0);
    eventually("the relay answers", || {
        code(&machine.run(&["relay", "status"])) == 0
    });
}

fn pid(machine: &Sandbox) -> String {
    let lock = machine.path(&format!("{DIR}/lock"));
    fs::read_to_string(lock).unwrap().trim().to_owned()
}

fn said(machine: &Sandbox) -> String {
    fs::read_to_string(machine.path("/run/relay.log")).unwrap()
}

fn stop(machine: &Sandbox) {
    assert_eq!(code(&machine.inside(&["kill", &pid(machine)])), 0);
    let socket = machine.path(&format!("{DIR}/relay.sock"));
    eventually("the relay is gone", || !socket.exists());
    machine.await_end(&pid(machine));
}

#[test]
fn a_relay_says_its_address_and_its_limits_and_is_tested_by_it() {
    let machine = Sandbox::new();
    machine.refused(4, &["relay"]);
    start(&machine, "--public 127.0.0.1 --rate 20Mbit/s --pairs 9");
    let shown = machine.ask(&["relay", "status"]);
    let address = shown["address"].as_str().unwrap().to_owned();
    assert!(address.ends_with("@127.0.0.1:443"), "{address}");
    let said = said(&machine);
    assert!(
        said.contains(&format!("meshnode relay add {address}\n")),
        "{said}"
    );
    assert!(
        said.contains("Limits: 20 Mbit/s in all, 10 Mbit/s a pair, 1 TB a month, 9 pairs."),
        "{said}"
    );
    assert_eq!(shown["budget"]["rate_bps"], 20_000_000);
    assert_eq!(
        (&shown["pairs_n"], &shown["clients_n"]),
        (&0.into(), &0.into())
    );
    assert!(
        machine
            .done(&["relay"])
            .starts_with(&format!("{address}, up "))
    );
    let tested = machine.ask(&["relay", "test", &address]);
    assert_eq!(tested["circuits"], true);
    assert!(
        tested["tcp_ms"].is_u64() && tested["quic_ms"].is_u64(),
        "{tested}"
    );
    assert_eq!(tested["key"], shown["key"]);
    assert!(tested["udp_ms"].is_u64(), "{tested}");
    let seen = tested["seen_as"].as_str().unwrap();
    assert!(seen.starts_with("127.0.0.1:"), "{tested}");
    let wrong = format!("0000000000{}", &address[10..]);
    let refused = machine.refused(1, &["relay", "test", &wrong]);
    assert!(refused.contains("another relay answers"), "{refused}");
    let nobody = machine.refused(7, &["relay", "test", &address.replace("443", "444")]);
    assert!(
        nobody.contains("no relay answers at 127.0.0.1:444"),
        "{nobody}"
    );
}

#[test]
fn a_relay_keeps_its_key_for_itself_and_over_a_restart() {
    let machine = Sandbox::new();
    start(&machine, "");
    let key = machine.ask(&["relay", "status"])["key"].clone();
    assert!(said(&machine).contains("@HOST:443\n"), "{}", said(&machine));
    let file = fs::metadata(machine.path(&format!("{DIR}/key"))).unwrap();
    assert_eq!(file.mode() & 0o777, 0o600);
    let dir = fs::metadata(machine.path(DIR)).unwrap();
    assert_eq!(dir.mode() & 0o777, 0o700);
    let stranger = machine.run_as(Person::Mallory, &["relay", "status"]);
    assert_eq!(code(&stranger), 6, "{}", stderr(&stranger));
    let second = machine.refused(1, &["relay", "run"]);
    assert!(second.contains("is in use by process"), "{second}");
    stop(&machine);
    machine.refused(4, &["relay", "status"]);
    assert!(machine.path(&format!("{DIR}/month")).exists());
    start(&machine, "");
    assert_eq!(machine.ask(&["relay", "status"])["key"], key);
}

#[test]
fn a_relays_file_is_obeyed_and_a_mistake_in_it_is_named() {
    let machine = Sandbox::new();
    let file = machine.path("/etc/meshnode/relay.toml");
    fs::write(&file, "volume = \"500GB\"\nspeed = 3\n").unwrap();
    let refused = machine.refused(1, &["relay", "run"]);
    let wanted = "/etc/meshnode/relay.toml, line 2: speed means nothing here";
    assert!(refused.contains(wanted), "{refused}");
    fs::write(&file, "volume = \"500GB\"\nlisten = \":4711\"\n").unwrap();
    start(&machine, "--public relay.example.org");
    let shown = machine.ask(&["relay", "status"]);
    assert_eq!(shown["budget"]["month_bytes"], 500_000_000_000_u64);
    let address = shown["address"].as_str().unwrap();
    assert!(address.ends_with("@relay.example.org:4711"), "{address}");
}

#[test]
fn a_service_without_systemd_is_refused_with_the_way_to_go_without() {
    let machine = Sandbox::new();
    let refused = machine.refused(1, &["relay", "service", "install"]);
    assert!(
        refused.contains("systemd does not run") && refused.contains("meshnode relay run"),
        "{refused}"
    );
    let stranger = machine.run_as(Person::Mallory, &["relay", "service", "install"]);
    assert_eq!(code(&stranger), 6);
}
