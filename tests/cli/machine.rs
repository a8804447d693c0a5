//! The verbs for this machine: several networks, settings, rights, being down.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::sandbox::{PROGRAM, Person, Sandbox, eventually};
use super::{code, stderr, stdout};

/// A machine in two networks: `homelab`, here `main`, and `acme`, here `work`.
fn two_networks() -> Sandbox {
    let machine = Sandbox::new();
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    machine.done(&[
        "-n",
        "work",
        "init",
        "--name",
        "acme",
        "--node-name",
        "desk",
    ]);
    machine
}

#[test]
fn two_networks_on_one_machine_have_their_own_folders_sockets_and_devices() {
    let machine = two_networks();
    for (local_name, name) in [("main", "homelab"), ("work", "acme")] {
        assert!(
            machine
                .path(&format!("/var/lib/meshnode/{local_name}/keys"))
                .exists()
        );
        assert!(
            machine
                .path(&format!("/run/meshnode/{local_name}/meshnode.sock"))
                .exists()
        );
        let device = format!("mn-{local_name}");
        assert_eq!(code(&machine.inside(&["ip", "link", "show", &device])), 0);
        let status = machine.ask(&["-n", local_name, "status"]);
        assert_eq!(status["network"]["name"], name);
        assert_eq!(status["network"]["local_name"], local_name);
        assert_eq!(status["network"]["tun"], device.as_str());
    }
    let listed = machine.ask(&["network"]);
    let names = |field: &str| -> Vec<String> {
        let all = listed["networks"].as_array().unwrap().iter();
        all.map(|one| one[field].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("local_name"), ["main", "work"]);
    assert_eq!(names("name"), ["homelab", "acme"]);
    assert_eq!(names("tun"), ["mn-main", "mn-work"]);
    assert_eq!(
        names("state_dir"),
        ["/var/lib/meshnode/main", "/var/lib/meshnode/work"]
    );
    assert_eq!(listed, machine.ask(&["net", "list"]));
    let table = machine.done(&["network"]);
    assert!(table.starts_with("HERE  NETWORK  STATE    DEVICE\nmain  homelab  running  mn-main\n"));
    let again = machine.refused(1, &["init"]);
    assert!(
        again.contains("already in homelab (main)") && again.contains("-n NAME"),
        "{again}"
    );
}

#[test]
fn with_two_networks_a_verb_covers_both_or_wants_to_know_which() {
    let machine = two_networks();
    let both = machine.done(&["status"]);
    assert!(
        both.contains("homelab: running") && both.contains("acme: running"),
        "{both}"
    );
    let which = "error: this machine is in several networks; say which one\n\n\
                 hint: -n main, or -n work\n";
    for words in [
        &["invite"][..],
        &["down"],
        &["ip"],
        &["get"],
        &["whoami"],
        &["leave", "--yes"],
    ] {
        assert_eq!(machine.refused(2, words), which, "{words:?}");
    }
    assert!(
        machine
            .refused(2, &["status", "--json"])
            .ends_with("hint: --all for all of them\n")
    );
    let all = machine.ask(&["status", "--all"]);
    assert_eq!(all["networks"][0]["network"]["name"], "homelab");
    assert_eq!(all["networks"][1]["self"]["name"], "desk");
    // A node's name, a network's name, the begin of its id and a variable each tell which.
    let address = machine.done(&["ip", "desk", "-4"]);
    assert_eq!(machine.done(&["-n", "acme", "ip", "-4"]), address);
    let id = all["networks"][1]["network"]["id"].as_str().unwrap();
    assert_eq!(machine.done(&["-n", &id[..6], "ip", "-4"]), address);
    let by_variable = machine.inside(&["env", "MESHNODE_NETWORK=work", PROGRAM, "ip", "-4"]);
    assert_eq!(stdout(&by_variable), address);
    let by_folder = ["--state-dir", "/var/lib/meshnode/work", "ip", "-4"];
    assert_eq!(machine.done(&by_folder), address);
    let unknown = machine.refused(2, &["-n", "elsewhere", "status"]);
    assert!(
        unknown.ends_with("hint: -n main, or -n work\n"),
        "{unknown}"
    );
    machine.done(&["-n", "work", "leave", "--yes"]);
    assert_eq!(machine.ask(&["status"])["network"]["name"], "homelab");
    machine.done(&["invite"]);
}

#[test]
fn a_network_whose_daemon_is_off_is_listed_and_does_not_hide_the_other() {
    let machine = two_networks();
    machine.stop("work");
    let listed = machine.ask(&["network"]);
    assert_eq!(listed["networks"][1]["local_name"], "work");
    assert_eq!(listed["networks"][1]["state"], Value::Null);
    let all = machine.ask(&["status", "--all"]);
    assert_eq!(all["networks"][1]["error"]["exit"], 4);
    assert_eq!(machine.done(&["ip", "nas", "-4"]).lines().count(), 1);
    machine.refused(1, &["status", "--check"]);
    machine.done(&["-n", "work", "up"]);
    assert!(
        machine
            .done(&["network"])
            .contains("work  acme     running")
    );
}

#[test]
fn what_is_set_holds_at_once_and_after_a_restart_and_unset_undoes_it() {
    let machine = Sandbox::new();
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    let first = machine.ask(&["status"])["self"]["port"].clone();
    machine.done(&["set", "listen-port=4321", "tun-name=mesh"]);
    let holds = || {
        let status = machine.ask(&["status"]);
        assert_eq!(status["self"]["port"], 4321);
        assert_eq!(status["network"]["tun"], "mesh");
        assert_eq!(code(&machine.inside(&["ip", "link", "show", "mesh"])), 0);
        assert_ne!(code(&machine.inside(&["ip", "link", "show", "mn-main"])), 0);
    };
    holds();
    machine.stop("main");
    machine.done(&["up"]);
    holds();
    assert_eq!(machine.done(&["get", "listen-port"]), "4321\n");
    assert!(
        machine
            .done(&["get"])
            .contains("\nmdns          on           default\n")
    );
    machine.done(&["unset", "listen-port", "tun-name"]);
    assert_eq!(machine.ask(&["status"])["self"]["port"], first);
    assert_eq!(machine.ask(&["status"])["network"]["tun"], "mn-main");
}

#[test]
fn a_port_that_somebody_has_is_refused_and_the_network_goes_on_as_before() {
    let machine = two_networks();
    let taken = machine.ask(&["-n", "work", "status"])["self"]["port"].to_string();
    let before = machine.ask(&["-n", "main", "status"])["self"]["port"].clone();
    let wish = format!("listen-port={taken}");
    let said = machine.refused(1, &["-n", "main", "set", &wish]);
    assert!(
        said.contains(&format!("cannot listen at port {taken}")),
        "{said}"
    );
    let after = machine.ask(&["-n", "main", "status"]);
    assert_eq!(
        (&after["self"]["port"], &after["state"]),
        (&before, &Value::from("running"))
    );
    let from = &machine.ask(&["-n", "main", "get", "listen-port"])["settings"][0]["from"];
    assert_eq!(from, "default");
}

#[test]
fn a_key_that_etc_fixes_is_refused_with_its_line_and_read_again_on_sighup() {
    let machine = Sandbox::new();
    let file = machine.path("/etc/meshnode/main.toml");
    fs::write(&file, "# by hand\nlisten-port = 4000\n").unwrap();
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    let port = || machine.ask(&["status"])["self"]["port"].clone();
    assert_eq!(port(), 4000);
    let said = machine.refused(1, &["set", "listen-port=4001"]);
    let fixed = "error: listen-port is fixed in /etc/meshnode/main.toml, line 2\n";
    assert!(said.starts_with(fixed), "{said}");
    let from = &machine.ask(&["get", "listen-port"])["settings"][0]["from"];
    assert_eq!(from, "/etc/meshnode/main.toml:2");
    fs::write(&file, "listen-port = 4002\n").unwrap();
    machine.signal("main", "-HUP");
    eventually("the new port is used", || port() == 4002);
    fs::write(&file, "listen-port = never\n").unwrap();
    machine.signal("main", "-HUP");
    machine.done(&["set", "mdns=off"]);
    assert_eq!(port(), 4002, "a wrong file changes nothing");
}

#[test]
fn the_operator_needs_no_sudo_the_group_may_use_and_others_are_told_what_to_type() {
    let machine = Sandbox::new();
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    let may = |person, words: &[&str]| code(&machine.run_as(person, words));
    assert_eq!(may(Person::Alice, &["status"]), 0);
    assert_eq!(may(Person::Alice, &["invite"]), 0);
    assert_eq!(may(Person::Bob, &["status"]), 0);
    assert_eq!(may(Person::Bob, &["set", "mdns=off"]), 0);
    assert_eq!(may(Person::Bob, &["invite"]), 6);
    assert_eq!(may(Person::Bob, &["set", "mdns=on", "operator=bob"]), 6);
    assert_eq!(
        machine.done(&["get", "mdns"]),
        "off\n",
        "nothing of it was done"
    );
    assert_eq!(may(Person::Mallory, &["status"]), 6);
    let said = stderr(&machine.run_as(Person::Mallory, &["ip"]));
    assert!(
        said.contains("mallory may not ask the daemon of main"),
        "{said}"
    );
    assert!(
        said.contains("hint: type it again with sudo in front"),
        "{said}"
    );
    assert_eq!(may(Person::Alice, &["set", "group-rights=look"]), 0);
    assert_eq!(may(Person::Bob, &["status"]), 0);
    assert_eq!(may(Person::Bob, &["set", "mdns=on"]), 6);
    machine.done(&["set", "group-rights=none", "operator=mallory"]);
    assert_eq!(may(Person::Bob, &["status"]), 6);
    assert_eq!(may(Person::Alice, &["status"]), 6);
    assert_eq!(may(Person::Mallory, &["invite"]), 0);
    machine.done(&["unset", "operator"]);
    assert_eq!(may(Person::Alice, &["invite"]), 0);
}

#[test]
fn a_network_that_is_down_still_says_who_it_is_also_after_a_restart() {
    let machine = Sandbox::new();
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    let address = machine.done(&["ip", "-4"]);
    machine.done(&["down"]);
    let down = format!(
        "homelab: down, until meshnode up. You are nas (admin), {}\n",
        address.trim()
    );
    assert_eq!(machine.done(&["status"]), down);
    machine.stop("main");
    // With its daemon off it cannot be asked; with the daemon on again it is down still.
    machine.refused(4, &["status"]);
    let mut command = Command::new("nsenter");
    command.args([
        "--target",
        &machine.inner,
        "--mount",
        "--net",
        "--uts",
        "--pid",
        "--",
    ]);
    let daemon = command
        .args([PROGRAM, "daemon"])
        .env_clear()
        .stderr(Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    let socket = machine.path("/run/meshnode/main/meshnode.sock");
    eventually("the daemon answers", || socket.exists());
    assert_eq!(machine.done(&["status"]), down);
    assert_eq!(machine.ask(&["status"])["state"], "down");
    machine.refused(1, &["status", "--check", "-q"]);
    machine.refused(7, &["wait", "--timeout", "0"]);
    machine.done(&["down", "--for", "2h"]);
    let status = machine.done(&["status"]);
    assert!(
        status.starts_with("homelab: down for 2 h more, or until meshnode up."),
        "{status}"
    );
    machine.done(&["down", "--for", "1s"]);
    machine.done(&["wait", "--timeout", "20s"]);
    assert_eq!(machine.done(&["ip", "-4"]), address);
    machine.signal("main", "-TERM");
    daemon.wait().unwrap();
}

#[test]
fn addresses_are_printed_one_a_line_and_can_be_asserted() {
    let machine = Sandbox::new();
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    let both = machine.done(&["ip"]);
    let lines: Vec<&str> = both.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(machine.done(&["ip", "nas", "-4"]).trim(), lines[0]);
    assert_eq!(machine.done(&["ip", "-6"]).trim(), lines[1]);
    assert_eq!(machine.done(&["ip", "--assert", lines[0]]), "");
    let said = machine.refused(1, &["ip", "--assert", "192.0.2.1"]);
    assert!(
        said.starts_with("error: 192.0.2.1 is no address of nas\n"),
        "{said}"
    );
    machine.refused(2, &["ip", "elsewhere"]);
    let card = machine.done(&["whois", &format!("{}:22", lines[0])]);
    assert!(card.starts_with("nas  admin, this machine\n"), "{card}");
    assert!(
        card.contains("let in by      nobody: it founded the network\n"),
        "{card}"
    );
    assert_eq!(card, machine.done(&["whoami"]));
    assert_eq!(machine.ask(&["whoami"])["let_in_by"]["founder"], true);
    assert!(
        machine
            .refused(2, &["block", "nas"])
            .starts_with("error: nas is this machine\n")
    );
}

#[test]
fn verbose_adds_reasons_and_log_lines_and_leaves_stdout_as_it_is() {
    let machine = Sandbox::new();
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    let quiet = machine.run(&["ip"]);
    assert_eq!(stderr(&quiet), "");
    let reasons = machine.run(&["ip", "-v"]);
    assert_eq!(stdout(&reasons), stdout(&quiet));
    assert!(
        stderr(&reasons).contains("network here: main\n"),
        "{}",
        stderr(&reasons)
    );
    assert!(stderr(&reasons).contains("asking /run/meshnode/main/meshnode.sock\n"));
    let along = machine.run(&["-vv", "set", "tun-name=mesh"]);
    let log = stderr(&along);
    assert!(
        log.lines().any(|line| line.starts_with("daemon: ")),
        "{log}"
    );
    assert_eq!(stdout(&along), "");
    assert_eq!(code(&machine.run(&["-v", "-q", "ip"])), 2);
}
