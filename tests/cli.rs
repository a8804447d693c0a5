//! The real program from outside: help screens as snapshots, exit codes, every sentence of wrong usage.
//!
//! The snapshots are the plain files in `tests/cli/`; `MESHNODE_BLESS=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "cli/machine.rs"]
mod machine;
#[path = "cli/relay.rs"]
mod relay;
#[path = "cli/rules.rs"]
mod rules;
#[path = "cli/sandbox.rs"]
mod sandbox;
#[path = "cli/terminal.rs"]
mod terminal;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Runs the program without any of our variables, with `stdin` as its input.
fn meshnode_with(args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshnode"));
    command.args(args).env_clear();
    spawn(command, stdin)
}

fn meshnode(args: &[&str]) -> Output {
    meshnode_with(args, "")
}

fn spawn(mut command: Command, stdin: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A state directory of its own, and a daemon in it that is stopped at the end.
struct Machine {
    dir: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("main")
    }

    fn run(&self, args: &[&str]) -> Output {
        let state = self.state();
        let mut all = vec!["--state-dir", state.to_str().unwrap()];
        all.extend(args);
        meshnode(&all)
    }

    fn daemon_pid(&self) -> Option<String> {
        let pid = fs::read_to_string(self.state().join("lock")).ok()?;
        let pid = pid.trim().to_owned();
        Path::new("/proc").join(&pid).exists().then_some(pid)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon_pid() {
            let _ = Command::new("kill").arg(pid).status();
        }
    }
}

#[track_caller]
fn assert_snapshot(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli")
        .join(name);
    if std::env::var_os("MESHNODE_BLESS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "{} differs; MESHNODE_BLESS=1 takes it",
        path.display()
    );
}

const VERBS: [&str; 37] = [
    "init",
    "invite",
    "join",
    "status",
    "ping",
    "up",
    "down",
    "whois",
    "ip",
    "wait",
    "block",
    "unblock",
    "set",
    "get",
    "unset",
    "network",
    "pending",
    "approve",
    "deny",
    "revoke",
    "rename",
    "tag",
    "admin",
    "recovery",
    "rotate",
    "leave",
    "log",
    "verify",
    "export",
    "import",
    "policy",
    "relay",
    "netcheck",
    "daemon",
    "demo",
    "completions",
    "man",
];

#[test]
fn the_front_page_and_every_verb_explain_themselves_on_one_screen() {
    assert_snapshot("help.txt", &stdout(&meshnode(&["--help"])));
    for verb in VERBS {
        let help = meshnode(&[verb, "--help"]);
        assert_eq!(code(&help), 0, "{verb}");
        assert_eq!(stdout(&help), stdout(&meshnode(&[verb, "-h"])), "{verb}");
        assert_snapshot(&format!("help-{verb}.txt"), &stdout(&help));
    }
}

#[test]
fn the_front_page_names_exactly_the_verbs_that_exist() {
    let help = stdout(&meshnode(&["--help"]));
    for verb in VERBS {
        assert!(help.contains(verb), "{verb}");
    }
    for absent in ["doctor", "dns", "service", "guest"] {
        assert!(!help.contains(absent), "{absent}");
        assert_eq!(code(&meshnode(&[absent])), 2, "{absent}");
    }
}

/// What nobody means.
const WRONG: &[&[&str]] = &[
    &["stauts"],
    &["frobnicate"],
    &["login"],
    &["logout"],
    &["lock"],
    &["switch"],
    &["serve"],
    &["update"],
    &["status", "--whatever"],
    &["ping"],
    &["ping", "nas", "-c", "0"],
    &["ping", "nas", "-i", "1ms"],
    &["ping", "nas", "-i", "5 weeks"],
    &["invite", "--ttl", "soon"],
    &["invite", "--ttl", "0"],
    &["invite", "--uses", "0"],
    &["invite", "--uses", "5", "--no-approve"],
    &["revoke"],
    &["revoke", "nas", "--since", "yesterday"],
    &["rename", "nas"],
    &["rename", "nas", "no_good"],
    &["tag"],
    &["tag", "nas", "--add", "--"],
    &["policy", "--at", "yesterday"],
    &["policy", "check", "file", "--at", "v1"],
    &["policy", "diff", "v1", "v2", "--at", "v1"],
    &["policy", "set", "file", "--trial", "soon"],
    &["approve"],
    &["rotate", "--transport", "--network-key"],
    &["init", "--recovery", "3-of-2"],
    &["invite", "--name", "no_good"],
    &["invite", "--name", "gateway"],
    &["invite", "--tag", "--"],
    &[
        "invite",
        "--name",
        "ben",
        "--only",
        "nas:22",
        "--replace",
        "pi",
    ],
    &["invite", "--hint", "vps"],
    &["init", "--name", "main"],
    &["init", "--node-name", "123"],
    &["init", "--ipv4-range", "10.0.0.0"],
    &["join"],
    &["join", "file:/does/not/exist"],
    &["join", "-"],
    &["join", "M7K2Q-4XWPA-9TRB"],
    &["join", "M7K2Q-4XWPA-9TRB3-HZC6!"],
    &["join", "AAAAA-AAAAA-AAAAA-AAAAA"],
    &["join", "M7K2Q-4XWPA-9TRB3-HZC6D", "--timeout", "x"],
    &["down", "--for", "0"],
    &["daemon", "--tun-name", "much-too-long-a-name"],
    &["daemon", "--listen-port", "0"],
    &["daemon", "--log-format", "xml"],
    &["log", "--kind", "party"],
    &["log", "--since", "yesterday"],
    &["import"],
    &["set"],
    &["set", "mdns"],
    &["set", "mdns=perhaps"],
    &["set", "relay=perhaps"],
    &["set", "relay-rate=20"],
    &["set", "relay-rate=2Gbit/s"],
    &["set", "punch=hard"],
    &["set", "listen-port=65535"],
    &["get", "private"],
    &["unset"],
    &["unset", "private"],
    &["ip", "-4", "-6"],
    &["ip", "--assert", "nas"],
    &["whois", "nas", "vps"],
    &["block"],
    &["network", "delete"],
    &["relay", "frobnicate"],
    &["relay", "run", "--rate", "fast"],
    &["relay", "run", "--volume", "1TB/week"],
    &["relay", "run", "--pairs", "0"],
    &["relay", "run", "--listen", "relay:443"],
    &["relay", "run", "--public", "a:443"],
    &["relay", "run", "--allow", "me"],
    &["relay", "test", "relay.example.org:443"],
    &["relay", "service"],
    &["status", "-q", "-v"],
    &["completions"],
    &["completions", "basic"],
    &["man", "frobnicate"],
    &["-n", "../x", "init"],
    &["--color", "sometimes", "status"],
];

#[test]
fn wrong_usage_is_told_in_a_sentence_and_a_hint_with_exit_2() {
    let mut all = String::new();
    for args in WRONG {
        let output = meshnode(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
        all.push_str(&format!(
            "$ meshnode {}\n{}\n",
            args.join(" "),
            stderr(&output)
        ));
    }
    assert_snapshot("usage.txt", &all);
}

#[test]
fn a_failure_with_json_is_also_an_object_on_stdout() {
    let output = meshnode(&["frobnicate", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["schema"], 1);
    assert_eq!(value["error"]["exit"], 2);
    assert_eq!(value["error"]["text"], "meshnode has no verb frobnicate");
    assert!(stderr(&output).starts_with("error: "));
}

#[test]
fn a_machine_without_a_network_says_so_with_exit_5() {
    let machine = Machine::new();
    for args in [
        &["status"][..],
        &["invite"],
        &["ping", "nas"],
        &["up"],
        &["down"],
        &["leave"],
        &["whois", "nas"],
        &["ip"],
        &["wait"],
        &["block", "nas"],
        &["get"],
        &["set", "mdns=off"],
        &["network"],
    ] {
        let output = machine.run(args);
        assert_eq!(code(&output), 5, "{args:?}");
        assert_eq!(
            stderr(&output),
            "error: this machine is in no network\n\nhint: meshnode init, or meshnode join\n"
        );
    }
}

#[test]
fn a_network_without_its_daemon_says_how_to_start_it_with_exit_4() {
    let machine = Machine::new();
    fs::create_dir(machine.state()).unwrap();
    fs::write(machine.state().join("keys"), b"").unwrap();
    let output = machine.run(&["status"]);
    assert_eq!(code(&output), 4);
    let up = format!(
        "hint: sudo meshnode --state-dir {} up\n",
        machine.state().display()
    );
    assert!(stderr(&output).ends_with(&up), "{}", stderr(&output));
}

#[test]
fn a_socket_path_that_is_too_long_is_wrong_usage() {
    let long = format!("/tmp/{}", "x".repeat(110));
    let output = meshnode(&["--state-dir", &long, "status"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("hint: name a shorter one: --socket PATH"));
}

#[test]
fn a_state_directory_that_others_can_read_is_refused() {
    let machine = Machine::new();
    fs::create_dir(machine.state()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(machine.state(), mode).unwrap();
    let output = machine.run(&["daemon"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("others can read the state directory"));
}

#[test]
fn a_daemon_answers_and_a_second_one_is_told_its_process() {
    let machine = Machine::new();
    let mut first = Command::new(env!("CARGO_BIN_EXE_meshnode"))
        .args(["--state-dir", machine.state().to_str().unwrap(), "daemon"])
        .env_clear()
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for(&machine.state().join("meshnode.sock"));
    let second = machine.run(&["daemon"]);
    let pid = first.id();
    assert_eq!(code(&second), 1);
    assert!(
        stderr(&second).contains(&format!("is in use by process {pid}")),
        "{}",
        stderr(&second)
    );
    assert_eq!(code(&machine.run(&["status"])), 5);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn an_unknown_variable_of_ours_is_warned_about_and_others_are_not() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshnode"));
    command.args(["completions", "bash"]).env_clear();
    command.env("MESHNODE_SOKET", "x").env("OTHER", "y");
    let output = spawn(command, "");
    assert_eq!(
        stderr(&output),
        "warning: MESHNODE_SOKET means nothing to meshnode\n"
    );
}

#[test]
fn a_reader_that_has_enough_ends_it_silently() {
    let script = format!(
        "env -i {} completions bash | head -c 1",
        env!("CARGO_BIN_EXE_meshnode")
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(code(&output), 0);
    assert_eq!(stderr(&output), "");
}

#[test]
fn completions_and_pages_name_every_verb() {
    let bash = stdout(&meshnode(&["completions", "bash"]));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man1");
    assert_eq!(code(&meshnode(&["man", "--out", out.to_str().unwrap()])), 0);
    for verb in VERBS {
        assert!(bash.contains(&format!("meshnode,{verb})")), "{verb}");
        let page = fs::read_to_string(out.join(format!("meshnode-{verb}.1"))).unwrap();
        assert_eq!(page, stdout(&meshnode(&["man", verb])), "{verb}");
        assert!(page.contains(".SH SYNOPSIS"), "{verb}");
    }
    assert!(out.join("meshnode.1").exists());
}

#[test]
fn a_recovery_file_is_never_overwritten_and_nothing_is_started_then() {
    let machine = Machine::new();
    let file = machine.dir.path().join("phrase");
    fs::write(&file, b"mine").unwrap();
    let output = machine.run(&["init", "--recovery-file", file.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert!(!machine.state().exists());
}

fn wait_for(path: &Path) {
    for _ in 0..500 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} did not appear", path.display());
}
