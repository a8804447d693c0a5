//! Who may reach whom: set on one node, in force on the others, and what programs notice of it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use meshnode::lab::{Stopwatch, World};

use crate::joining::{home, node_on};
use crate::lab;
use crate::node::{Node, PATIENCE, agree, carries, eventually, measured, ms, names, text};

/// A change that everybody is online for is in force everywhere within this time.
const IN_FORCE_LIMIT: Duration = Duration::from_secs(1);

/// What is refused is refused at once, not by a program's own patience.
const AT_ONCE: Duration = Duration::from_millis(500);

pub(crate) fn a_policy_is_in_force_everywhere_at_once_and_cuts_only_what_it_denies(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    pi.reaches("nas");
    let at = nas.addresses()[0];
    let [web, ssh] = [8080, 22].map(|port| listen(&nas, at, port));
    let mut kept = connect(&pi, at, 8080).unwrap();
    let (mut answering, _) = web.accept().unwrap();
    drop(connect(&pi, at, 22).unwrap());
    drop(ssh.accept().unwrap());
    assert_eq!(text(&pi.ask(&["policy"]), "/state"), "open");

    let file = write(&nas, &grant("pi", "nas", "tcp:8080"));
    let watch = Stopwatch::start();
    let set = nas.ask(&["policy", "set", &file]);
    assert_eq!(text(&set, "/op/kind"), "policy-base");
    assert_eq!(set["heard_n"], 1);
    let heard = set["heard"][0]["ms"].as_u64().unwrap();
    measured(
        "a policy set on one node is heard by the other",
        format!("{heard} ms"),
    );
    let all = watch.elapsed();
    measured("the same until the command is back", ms(all));
    assert!(Duration::from_millis(heard) < IN_FORCE_LIMIT, "{heard} ms");
    assert_eq!(text(&pi.ask(&["policy"]), "/state"), "in_force");

    let watch = Stopwatch::start();
    let refused = connect(&pi, at, 22).unwrap_err();
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    measured("a denied connection is refused", ms(watch.elapsed()));
    assert!(watch.elapsed() < AT_ONCE, "{}", ms(watch.elapsed()));
    kept.write_all(b"goes on").unwrap();
    let mut read = [0; 7];
    answering.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"goes on");
    drop(connect(&pi, at, 8080).unwrap());

    let explained = pi.ask(&["policy", "explain", "pi", "nas:8080"]);
    assert_eq!(text(&explained, "/verdict"), "allow");
    let denied = pi.run(&["policy", "explain", "pi", "nas:22"]);
    assert_eq!(denied.status.code(), Some(6), "{}", denied.stdout);
    assert!(
        denied.stdout.contains("\"verdict\":\"deny\""),
        "{}",
        denied.stdout
    );
}

pub(crate) fn only_an_admin_sets_a_policy_and_a_faulty_one_names_its_place(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    let file = write(&pi, &grant("pi", "nas", "tcp:8080"));
    let (code, said) = pi.refused(&["policy", "set", &file]);
    assert_eq!((code, said.as_str()), (6, "pi is no admin of home"));
    let file = write(
        &nas,
        "{\n  \"grants\": [\n    {\"src\": [\"nobody\"], \"dst\": [\"*\"], \"ip\": [\"*\"]}\n  ]\n}\n",
    );
    let (code, said) = nas.refused(&["policy", "set", &file]);
    assert_eq!(code, 1);
    assert!(
        said.contains("line 3, column 14: nobody is no node"),
        "{said}"
    );
    let checked = nas.run(&["policy", "check", &file]);
    assert_eq!(checked.status.code(), Some(1), "{}", checked.stdout);
    assert_eq!(
        text(&nas.ask(&["policy"]), "/state"),
        "open",
        "nothing was signed"
    );

    for port in ["tcp:80", "tcp:81"] {
        let file = write(&nas, &grant("pi", "nas", port));
        nas.ask(&["policy", "set", &file]);
    }
    let last = nas.ask(&["policy", "diff"]);
    assert_eq!(last["lines"].as_array().unwrap().len(), 2, "{last}");
    nas.ask(&["policy", "rollback", "v1"]);
    let versions = nas.ask(&["policy", "log"]);
    assert_eq!(
        versions["versions"].as_array().unwrap().len(),
        3,
        "{versions}"
    );
    eventually("pi has the first text again", PATIENCE, || {
        text(&pi.ask(&["policy"]), "/text").contains("tcp:80\"")
    });
}

fn grant(src: &str, dst: &str, ip: &str) -> String {
    format!(
        "{{\"grants\": [{{\"src\": [\"{src}\"], \"dst\": [\"{dst}\"], \"ip\": [\"{ip}\"]}}]}}\n"
    )
}

fn write(node: &Node, policy: &str) -> String {
    let path = node.machine().directory().join("policy.hujson");
    fs::write(&path, policy).unwrap();
    path.to_str().unwrap().to_owned()
}

fn listen(node: &Node, at: IpAddr, port: u16) -> TcpListener {
    let bound = node.machine().inside(move || TcpListener::bind((at, port)));
    bound.unwrap().unwrap()
}

#[expect(
    clippy::unwrap_in_result,
    reason = "a machine that cannot be entered ends the story"
)]
fn connect(node: &Node, at: IpAddr, port: u16) -> Result<TcpStream, ErrorKind> {
    let at = SocketAddr::new(at, port);
    let connected = node
        .machine()
        .inside(move || TcpStream::connect_timeout(&at, PATIENCE));
    connected.unwrap().map_err(|error| error.kind())
}

pub(crate) fn a_policy_on_trial_is_undone_on_every_node_even_after_a_kill(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    let good = write(&nas, &grant("pi", "nas", "tcp:8080"));
    nas.ask(&["policy", "set", &good]);
    let bad = write(&nas, &grant("nas", "pi", "tcp:9"));
    let tried = nas.ask(&["policy", "set", &bad, "--trial", "6s"]);
    assert_eq!(tried["heard_n"], 1, "{tried}");
    let explain = |port: &str| {
        let aim = format!("nas:{port}");
        let ended = pi.run(&["policy", "explain", "pi", &aim]);
        ended.status.code()
    };
    assert_eq!(explain("8080"), Some(6));
    let watch = Stopwatch::start();
    nas.kill();
    nas.switch_on();
    eventually(
        "what was on trial is undone at the other node",
        PATIENCE,
        || explain("8080") == Some(0),
    );
    measured(
        "a trial of 6 s, killed meanwhile: undone after",
        ms(watch.elapsed()),
    );
    let versions = pi.ask(&["policy", "log"]);
    assert_eq!(
        versions["versions"].as_array().unwrap().len(),
        3,
        "{versions}"
    );
    // Kept, it stays.
    nas.ask(&["policy", "set", &bad, "--trial", "3s"]);
    nas.ask(&["policy", "keep"]);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(explain("8080"), Some(6));
    assert_eq!(pi.ask(&["policy"])["version"], 4);
}

pub(crate) fn tags_and_a_first_policy_leave_everybody_reaching_everybody(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    pi.reaches("nas");
    let told = nas.ask(&["tag", "pi", "--add", "lab", "--owner", "ben"]);
    assert_eq!(text(&told, "/op/kind"), "policy-base");
    assert_eq!(told["heard_n"], 1, "{told}");
    let said = text(&pi.ask(&["policy"]), "/text");
    assert!(
        said.contains("\"pi\": {\"tags\": [\"tag:lab\"], \"owner\": \"ben\"}"),
        "{said}"
    );
    carries(&pi, &nas);
    carries(&nas, &pi);
    let rule = "{\"grants\": [{\"src\": [\"tag:lab\"], \"dst\": [\"nas\"], \"ip\": [\"tcp:80\"]}], \"nodes\": {\"pi\": {\"tags\": [\"tag:lab\"]}}}";
    let file = write(&nas, rule);
    nas.ask(&["policy", "set", &file]);
    assert_eq!(
        text(&pi.ask(&["policy", "explain", "pi", "nas:80"]), "/verdict"),
        "allow"
    );
    let (code, said) = pi.refused(&["tag", "nas", "--add", "lab"]);
    assert_eq!((code, said.as_str()), (6, "pi is no admin of home"));
}

pub(crate) fn a_renamed_node_is_known_by_its_new_name_everywhere(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    pi.reaches("nas");
    let addresses = pi.addresses();
    nas.ask(&["rename", "pi", "attic"]);
    for node in [&nas, &pi] {
        eventually("both know the new name", PATIENCE, || {
            names(&node.status()) == ["attic", "nas"].map(str::to_owned).into()
        });
    }
    assert_eq!(pi.addresses(), addresses);
    let known = nas.ask(&["ip", "attic"])["addresses"][0].clone();
    assert_eq!(known, addresses[0].to_string());
    nas.reaches("attic");
    let (code, _) = nas.refused(&["ip", "pi"]);
    assert_eq!(code, 2);
    let (code, said) = nas.refused(&["rename", "nas", "attic"]);
    assert_eq!((code, said.as_str()), (1, "another node is called attic"));
}

pub(crate) fn a_friend_reaches_one_service_and_everybody_else_what_they_did(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    let at = nas.addresses()[0];
    let [film, ssh] = [8096, 22].map(|port| listen(&nas, at, port));
    let words = [
        "invite", "--name", "ben", "--owner", "ben", "--only", "nas:8096",
    ];
    let dry: Vec<&str> = words.iter().chain(&["--dry-run"]).copied().collect();
    let dry = nas.ask(&dry);
    assert_eq!(dry["policy_change"]["version"], 1, "{dry}");
    assert!(
        dry["policy_change"]["lines"]
            .to_string()
            .contains("tcp:8096"),
        "{dry}"
    );
    assert_eq!(nas.ask(&["policy"])["exists"], false, "nothing is signed");
    let code = text(&nas.ask(&words), "/code");
    let ben = node_on(&lab, &lan, "box", 5);
    ben.join(&code);
    agree(&[&nas, &pi, &ben], 3);
    assert!(ben.reaches("nas") < PATIENCE);
    drop(connect(&ben, at, 8096).unwrap());
    drop(film.accept().unwrap());
    assert_eq!(
        connect(&ben, at, 22).unwrap_err(),
        ErrorKind::ConnectionRefused
    );
    drop(connect(&pi, at, 22).unwrap());
    drop(ssh.accept().unwrap());
    let theirs = pi.addresses()[0];
    let other = listen(&pi, theirs, 8096);
    assert_eq!(
        connect(&ben, theirs, 8096).unwrap_err(),
        ErrorKind::ConnectionRefused
    );
    drop(connect(&nas, theirs, 8096).unwrap());
    drop(other.accept().unwrap());
    let status = nas.status();
    let mut peers = status["peers"].as_array().unwrap().iter();
    let friend = peers.find(|peer| peer["name"] == "ben").unwrap();
    assert_eq!(friend["tags"], serde_json::json!(["ben"]));
    assert_eq!(friend["owner"], "ben");
    let (exit, said) = pi.refused(&words);
    assert_eq!((exit, said.as_str()), (6, "pi is no admin of home"));
    let (exit, said) = nas.refused(&["invite", "--only", "nas:22"]);
    assert_eq!(exit, 2, "{said}");
}
