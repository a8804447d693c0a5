//! The policy on one machine: names and tags, changes on trial, the past.

use std::fs;

use serde_json::Value;

use super::sandbox::{Sandbox, eventually};

fn founded() -> Sandbox {
    let machine = Sandbox::new();
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    machine
}

/// Writes a file of the machine; gives its name inside.
fn file(machine: &Sandbox, name: &str, text: &str) -> String {
    let inside = format!("/run/{name}");
    fs::write(machine.path(&inside), text).unwrap();
    inside
}

fn grant(port: u16) -> String {
    format!(
        "{{\"grants\": [{{\"src\": [\"*\"], \"dst\": [\"nas\"], \"ip\": [\"tcp:{port}\"]}}]}}\n"
    )
}

fn text_of(shown: &Value) -> &str {
    shown["text"].as_str().unwrap()
}

#[test]
fn a_rename_writes_a_first_policy_that_leaves_reach_as_it_is() {
    let machine = founded();
    let dry = machine.ask(&["rename", "nas", "attic", "--dry-run"]);
    assert_eq!(dry["dry_run"], true);
    assert_eq!(
        machine.ask(&["policy"])["exists"],
        false,
        "nothing is signed"
    );
    let done = machine.ask(&["rename", "nas", "attic"]);
    assert_eq!(done["op"]["kind"], "policy-base");
    let shown = machine.ask(&["policy"]);
    assert!(text_of(&shown).contains("{\"name\": \"attic\"}"), "{shown}");
    assert!(
        text_of(&shown).contains("{\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"*\"]}"),
        "{shown}"
    );
    machine.refused(2, &["rename", "nobody", "attic"]);
}

#[test]
fn tags_are_shown_added_and_removed() {
    let machine = founded();
    assert_eq!(machine.done(&["tag", "nas"]), "");
    let said = machine.run(&["tag", "nas", "--add", "tag:server", "--owner", "ben"]);
    let said = super::stderr(&said);
    assert!(said.contains("+ ") && said.contains("tag:server"), "{said}");
    let shown = machine.ask(&["policy"]);
    let pinned = "{\"tags\": [\"tag:server\"], \"owner\": \"ben\"}";
    assert!(text_of(&shown).contains(pinned), "{shown}");
    machine.done(&["tag", "nas", "--remove", "server"]);
    let shown = machine.ask(&["policy"]);
    assert!(!text_of(&shown).contains("tag:server"), "{shown}");
    let both = machine.refused(2, &["tag", "nas", "--add", "a", "--remove", "tag:a"]);
    assert!(
        both.contains("both to be added and to be removed"),
        "{both}"
    );
}

#[test]
fn a_policy_on_trial_outlives_no_kill_and_stays_when_it_is_kept() {
    let machine = founded();
    let [a, b] = [22, 80].map(|port| file(&machine, &format!("{port}.hujson"), &grant(port)));
    machine.done(&["policy", "set", &a]);
    machine.done(&["policy", "set", &b, "--trial", "4s"]);
    let shown = machine.ask(&["policy"]);
    assert!(text_of(&shown).contains("tcp:80") && shown["trial_s"].as_u64().unwrap() <= 4);
    let refused = machine.refused(1, &["policy", "set", &a]);
    assert!(
        refused.contains("on trial") && refused.contains("policy keep"),
        "{refused}"
    );
    machine.kill("main");
    machine.done(&["up"]);
    eventually("it is undone", || {
        text_of(&machine.ask(&["policy"])).contains("tcp:22")
    });
    let versions = machine.ask(&["policy", "log"]);
    assert_eq!(versions["versions"].as_array().unwrap().len(), 3);
    let late = machine.refused(1, &["policy", "keep"]);
    assert!(late.contains("nothing is on trial"), "{late}");
    machine.done(&["policy", "set", &b, "--trial", "2s"]);
    assert_eq!(machine.ask(&["policy", "keep"])["kept"], true);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let shown = machine.ask(&["policy"]);
    assert!(text_of(&shown).contains("tcp:80") && shown["trial_s"].is_null());
}

#[test]
fn the_past_of_a_policy_is_shown_explained_compared_and_blamed() {
    let machine = founded();
    let [a, b] = [22, 80].map(|port| file(&machine, &format!("{port}.hujson"), &grant(port)));
    machine.done(&["policy", "set", &a]);
    let both = grant(80).replace(
        "\"tcp:80\"]}",
        "\"tcp:22\"]}, {\"src\": [\"nas\"], \"dst\": [\"*\"], \"ip\": [\"udp:53\"]}",
    );
    let both = file(&machine, "both.hujson", &both);
    machine.done(&["policy", "set", &both]);
    for shown in [
        machine.ask(&["policy", "--at", "v1"]),
        machine.ask(&["policy", "show", "--at", "1"]),
    ] {
        assert!(!text_of(&shown).contains("udp:53"), "{shown}");
        assert_eq!(shown["version"], 1);
    }
    machine.refused(6, &["policy", "explain", "nas", "nas:80", "--at", "v1"]);
    machine.done(&["policy", "explain", "nas", "nas:22", "--at", "v1"]);
    let older = machine.refused(2, &["policy", "show", "--at", "2001-01-01"]);
    assert!(older.contains("there was no policy at"), "{older}");
    machine.refused(2, &["policy", "show", "--at", "v9"]);
    machine.done(&["policy", "test", "--at", "v1"]);
    machine.done(&["policy", "check", "--at", "v2"]);
    let changes = |words: &[&str]| {
        let mut all = vec!["policy", "diff"];
        all.extend(words);
        let lines = machine.ask(&all)["lines"].as_array().unwrap().clone();
        let line = |line: &Value| format!("{} {}", line["change"], line["text"]);
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let last = changes(&[]);
    assert!(last.contains("\"added\"") && last.contains("udp:53") && !last.contains("removed"));
    assert_eq!(changes(&["v1", "v2"]), last);
    assert_eq!(changes(&["v1"]), last);
    assert_eq!(changes(&["--at", "v2"]), last);
    assert!(changes(&["v2", "v1"]).contains("\"removed\""));
    assert_eq!(changes(&[&a, "v1"]), "");
    assert!(changes(&[&b, "--at", "v1"]).contains("tcp:80"));
    let blame = machine.ask(&["policy", "blame"]);
    let lines = blame["lines"].as_array().unwrap();
    let version = |text: &str| {
        let said = |line: &&Value| line["text"].as_str().unwrap().contains(text);
        lines.iter().find(said).unwrap()["version"].clone()
    };
    assert_eq!((version("tcp:22"), version("udp:53")), (1.into(), 2.into()));
    assert!(
        machine
            .done(&["policy", "blame"])
            .starts_with("LINE  VERSION  WHO  ")
    );
}

#[test]
fn a_policy_of_almost_its_greatest_size_is_set_and_shown() {
    let machine = founded();
    let rules = (1..=500).map(|port| {
        let margin = " ".repeat(1800);
        format!("{margin}{{\"src\": [\"*\"], \"dst\": [\"nas\"], \"ip\": [\"tcp:{port}\"]}}")
    });
    let rules: Vec<String> = rules.collect();
    let text = format!("{{\"grants\": [\n{}\n]}}\n", rules.join(",\n"));
    assert!(text.len() > 900 * 1024, "{}", text.len());
    let large = file(&machine, "large.hujson", &text);
    machine.done(&["policy", "check", &large]);
    machine.done(&["policy", "set", &large]);
    let shown = machine.ask(&["policy"]);
    assert!(text_of(&shown).contains("tcp:500\""));
}

#[test]
fn an_init_on_trial_makes_nothing() {
    let machine = Sandbox::new();
    let would = machine.ask(&[
        "init",
        "--name",
        "homelab",
        "--node-name",
        "nas",
        "--dry-run",
    ]);
    assert_eq!(would["network"]["name"], "homelab");
    assert_eq!(would["dry_run"], true);
    assert!(!machine.path("/var/lib/meshnode").exists());
    assert!(!machine.path("/run/meshnode").exists());
    machine.done(&["init", "--name", "homelab", "--node-name", "nas"]);
    machine.refused(1, &["init", "--dry-run"]);
}

#[test]
fn with_two_networks_a_hint_says_which_one_its_command_means() {
    let machine = founded();
    let alone = machine.refused(1, &["policy", "keep"]);
    assert!(alone.contains("hint: meshnode policy log"), "{alone}");
    machine.done(&[
        "-n",
        "work",
        "init",
        "--name",
        "acme",
        "--node-name",
        "desk",
    ]);
    let told = machine.refused(1, &["-n", "work", "policy", "keep"]);
    assert!(told.contains("hint: meshnode -n work policy log"), "{told}");
}

#[test]
fn a_new_network_takes_the_rules_of_an_old_one_and_no_key() {
    let machine = founded();
    let text = "{\"groups\": {\"group:family\": [\"owner:alice\", \"nas\"]},\n\
                \"grants\": [{\"src\": [\"group:family\"], \"dst\": [\"*\"], \"ip\": [\"tcp:22\"]},\n\
                {\"src\": [\"*\"], \"dst\": [\"nas\"], \"ip\": [\"tcp:80\"]}]}";
    let rules = file(&machine, "rules.hujson", text);
    machine.done(&["policy", "set", &rules]);
    machine.done(&["tag", "nas", "--add", "server", "--owner", "ben"]);
    machine.done(&["export", "--out", "/run/old.mesh"]);
    let old = machine.ask(&["status"])["network"]["id"].clone();
    let would = machine.ask(&["-n", "new", "init", "--from", "/run/old.mesh", "--dry-run"]);
    assert_eq!(would["network"]["name"], "homelab");
    let made = machine.run(&[
        "-n",
        "new",
        "init",
        "--from",
        "/run/old.mesh",
        "--node-name",
        "box",
    ]);
    let said = super::stderr(&made);
    assert_eq!(super::code(&made), 0, "{said}");
    assert!(
        said.contains("meshnode invite --name nas --owner ben --tag server"),
        "{said}"
    );
    assert!(
        said.contains("tcp:80") && said.contains("group:family"),
        "left out: {said}"
    );
    let status = machine.ask(&["-n", "new", "status"]);
    assert_eq!(status["network"]["name"], "homelab");
    assert_ne!(status["network"]["id"], old);
    let shown = machine.ask(&["-n", "new", "policy"]);
    let text = text_of(&shown);
    assert!(
        text.contains("tcp:22") && text.contains("[\"owner:alice\"]"),
        "{text}"
    );
    assert!(!text.contains("tcp:80") && !text.contains("nas"), "{text}");
    machine.refused(1, &["-n", "third", "init", "--from", "/run/rules.hujson"]);
    assert!(!machine.path("/var/lib/meshnode/third").exists());
}

#[test]
fn a_name_that_a_node_has_already_and_an_owner_of_nothing_sign_nothing() {
    let machine = founded();
    let same = machine.refused(1, &["rename", "nas", "nas"]);
    assert!(same.contains("nas is called so already"), "{same}");
    let missing = machine.refused(2, &["rename"]);
    assert!(missing.contains("NODE is missing"), "{missing}");
    let nobody = machine.refused(2, &["revoke", "--owner", "nobody"]);
    assert!(nobody.contains("no such node"), "{nobody}");
    assert_eq!(machine.done(&["policy"]), "", "there is none still");
}

#[test]
fn tags_and_an_owner_that_a_node_has_already_sign_nothing() {
    let machine = founded();
    for idle in [
        &["tag", "nas", "--remove", "lab"][..],
        &["tag", "nas", "--remove", "lab", "--dry-run"],
    ] {
        let same = machine.refused(1, idle);
        assert!(
            same.contains("nas has these tags and this owner already"),
            "{same}"
        );
    }
    assert_eq!(machine.done(&["policy"]), "", "there is none still");
    machine.done(&["tag", "nas", "--add", "lab", "--owner", "ben"]);
    let first = machine.done(&["policy"]);
    assert!(
        first.contains("tag:lab") && first.contains("ben"),
        "{first}"
    );
    machine.refused(1, &["tag", "nas", "--add", "lab", "--owner", "ben"]);
    assert_eq!(machine.done(&["policy"]), first);
    machine.done(&["tag", "nas", "--add", "lab", "--add", "attic"]);
    assert_ne!(machine.done(&["policy"]), first);
}

#[test]
fn a_version_without_its_v_is_told_how_versions_are_written() {
    let machine = founded();
    machine.done(&["tag", "nas", "--add", "lab"]);
    let said = machine.refused(2, &["policy", "diff", "1", "7"]);
    assert!(said.contains("versions are written v1"), "{said}");
    let said = machine.refused(2, &["policy", "diff", "v1", "7"]);
    assert!(said.contains("versions are written v7"), "{said}");
}
