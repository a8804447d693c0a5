//! What admins do to nodes: revoked ones are cut, joiners are approved or refused, the phrase brings a network back.

use std::fs;
use std::thread;
use std::time::Duration;

use meshnode::lab::{Ended, Lab, Stopwatch, Switch, World};
use serde_json::Value;

use crate::joining::{home, node_on};
use crate::lab;
use crate::node::{
    COMMAND_LIMIT, Node, PATIENCE, PROGRAM, agree, carries, eventually, measured, names, spread,
    text,
};
use crate::stream::Stream;

/// How long live traffic of a revoked node may go on at a node that is reachable.
const CUT_LIMIT: Duration = Duration::from_secs(2);
/// How many nodes are revoked one after the other, unless `MESHNODE_RUNS` says more.
const RUNS: usize = 2;
/// How many nodes the network has beside the revoked one, unless `MESHNODE_NODES` says more.
const NODES: usize = 3;

/// A number of the environment, for who measures more than a test needs.
fn wished(name: &str, usual: usize) -> usize {
    let wished = std::env::var(name).ok();
    wished
        .and_then(|number| number.parse().ok())
        .unwrap_or(usual)
}

/// A verb of `recovery` with a phrase on stdin.
fn typed(node: &Node, words: &str, phrase: &str) -> Ended {
    let file = node.machine().directory().join("typed");
    fs::write(&file, phrase).unwrap();
    let line = format!(
        "{PROGRAM} --state-dir {} --socket {} --json --yes recovery {words} < {}",
        node.state_dir().display(),
        node.socket().display(),
        file.display()
    );
    let program = node.machine().command("sh").args(["-c", &line]);
    program.output(COMMAND_LIMIT).unwrap()
}

pub(crate) fn a_revocation_cuts_live_traffic_within_two_seconds(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    let mut nodes = vec![nas, pi];
    for host in nodes.len() + 1..=wished("MESHNODE_NODES", NODES) {
        let node = node_on(
            &lab,
            &lan,
            &format!("desk-{host}"),
            u8::try_from(host).unwrap(),
        );
        node.join(&nodes[0].invite(&[]));
        nodes.push(node);
    }
    let runs = wished("MESHNODE_RUNS", RUNS);
    let mut cuts = Vec::new();
    for run in 0..runs {
        let name = format!("guest-{run}");
        let guest = node_on(&lab, &lan, &name, u8::try_from(run + 100).unwrap());
        cuts.push(live_traffic_is_cut(&nodes, &guest, &name));
    }
    measured("revoke: live traffic to all others cut after", spread(cuts));
    let all: Vec<&Node> = nodes.iter().collect();
    agree(&all, nodes.len());
    let epoch = nodes[0].status()["network"]["epoch"].clone();
    assert_eq!(epoch, Value::from(runs), "one new epoch a revocation");
    carries(&nodes[1], &nodes[2]);
}

/// Lets a guest in who talks to all but the admin, revokes it, and tells how long after the act the last of them heard
/// it still.
fn live_traffic_is_cut(nodes: &[Node], guest: &Node, name: &str) -> Duration {
    let (nas, others) = nodes.split_first().unwrap();
    guest.join(&nas.invite(&[]));
    eventually("all know the guest", PATIENCE, || {
        let knows = |node: &Node| names(&node.status()).contains(name);
        others.iter().all(knows)
    });
    for other in others {
        carries(guest, other);
    }
    let traffics: Vec<_> = others
        .iter()
        .map(|other| Stream::start(guest, other))
        .collect();
    thread::sleep(Duration::from_millis(300));
    let began: Vec<_> = traffics.iter().map(|one| one.since.elapsed()).collect();
    let told = nas.ask(&["revoke", name, "--reason", "test"]);
    thread::sleep(CUT_LIMIT);
    let cuts = traffics.into_iter().zip(began).map(|(traffic, began)| {
        let last = traffic.last();
        assert!(last > Duration::ZERO, "there was traffic");
        last.saturating_sub(began)
    });
    let cut = cuts.max().unwrap();
    assert!(cut < CUT_LIMIT, "traffic came for {cut:?} after the act");
    assert_eq!(told["heard_n"], others.len(), "{told}");
    assert_eq!(told["op"]["kind"], "revoke", "{told}");
    eventually("the guest itself knows that it is out", PATIENCE, || {
        guest.status()["state"] == "revoked"
    });
    for node in nodes {
        assert!(!names(&node.status()).contains(name));
    }
    cut
}

pub(crate) fn who_was_off_obeys_when_it_is_back(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, mut pi, tablet] = home(&lab, &lan, ["nas", "pi", "tablet"]);
    agree(&[&nas, &pi, &tablet], 3);
    carries(&tablet, &pi);
    let ours = pi.addresses()[0];
    pi.switch_off();
    let told = nas.ask(&["revoke", "tablet", "--wait", "1s"]);
    assert_eq!(
        (&told["heard_n"], &told["of_n"]),
        (&0.into(), &1.into()),
        "{told}"
    );
    let watch = Stopwatch::start();
    pi.switch_on();
    eventually("pi has heard", PATIENCE, || {
        !names(&pi.status()).contains("tablet")
    });
    measured(
        "revoke: obeyed after a start",
        format!("{} ms", watch.elapsed().as_millis()),
    );
    assert!(pi.owns(ours));
    assert!(pi.ping("nas").is_some() || pi.reaches("nas") < PATIENCE);
    eventually("nas knows that pi has heard", PATIENCE, || {
        let status = nas.status();
        let warnings = status["warnings"].as_array().unwrap();
        warnings
            .iter()
            .all(|warning| warning["code"] != "unheard_revoke")
    });
    agree(&[&nas, &pi], 2);
}

pub(crate) fn who_waits_is_approved_or_refused_by_an_admin(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let nas = node_on(&lab, &lan, "nas", 1);
    nas.init("home");
    let code = nas.invite(&["--uses", "2"]);
    let [good, bad] = [("good", 2), ("bad", 3)].map(|(name, host)| node_on(&lab, &lan, name, host));
    let waiting = |node: &Node| node.command(&["join", &code]).start().unwrap();
    let (mut good_join, mut bad_join) = (waiting(&good), waiting(&bad));
    let list = || nas.ask(&["pending"])["pending"].as_array().unwrap().clone();
    eventually("two wait", PATIENCE, || list().len() == 2);
    let fingerprint = |name: &str| {
        let all = list();
        text(
            all.iter().find(|joiner| joiner["name"] == name).unwrap(),
            "/fingerprint",
        )
    };
    nas.ask(&["approve", &fingerprint("good")]);
    let ended = good_join.wait(COMMAND_LIMIT).unwrap().expect("it ends");
    assert!(ended.success(), "{}", good_join.stdout());
    good.reaches("nas");
    nas.ask(&["deny", "bad", "--reason", "not ours"]);
    let ended = bad_join.wait(COMMAND_LIMIT).unwrap().expect("it ends");
    assert_eq!(ended.code(), Some(6), "{}", bad_join.stdout());
    assert_eq!(list().len(), 0);
    let invites = nas.ask(&["invite", "list", "--all"]);
    assert_eq!(invites["invites"][0]["used"], 1, "{invites}");
    // An open code is cancelled: it lets nobody in any more.
    let code = nas.invite(&[]);
    let open = nas.ask(&["invite", "list"]);
    nas.ask(&["invite", "cancel", &text(&open, "/invites/0/id")]);
    let (exit, said) = node_on(&lab, &lan, "late", 4).refused(&["join", &code]);
    assert_eq!(exit, 8, "{said}");
}

pub(crate) fn a_second_admin_carries_on_when_the_founder_is_off(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, pi, tablet] = home(&lab, &lan, ["nas", "pi", "tablet"]);
    agree(&[&nas, &pi, &tablet], 3);
    let (exit, said) = pi.refused(&["revoke", "tablet"]);
    assert_eq!(exit, 6, "{said}");
    nas.ask(&["admin", "add", "pi"]);
    eventually("pi signs", PATIENCE, || {
        pi.ask(&["admin"])["admins"].as_array().unwrap().len() == 2
    });
    let (exit, said) = pi.refused(&["revoke", "nas", "--yes"]);
    assert_eq!(exit, 6, "{said}");
    assert!(said.contains("senior"), "{said}");
    nas.switch_off();
    pi.ask(&["revoke", "tablet"]);
    eventually("tablet is out", PATIENCE, || {
        tablet.status()["state"] == "revoked"
    });
    pi.invite(&[]);
    nas.switch_on();
    agree(&[&nas, &pi], 2);
}

pub(crate) fn the_phrase_makes_another_node_an_admin(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let mut nas = node_on(&lab, &lan, "nas", 1);
    let phrase = text(&nas.init("home"), "/recovery_phrase");
    let [pi, tablet] =
        [("pi", 2), ("tablet", 3)].map(|(name, host)| node_on(&lab, &lan, name, host));
    for node in [&pi, &tablet] {
        node.join(&nas.invite(&[]));
    }
    agree(&[&nas, &pi, &tablet], 3);
    // The copy on the founder's disk goes when the phrase was typed back, and only then.
    let wrong = "abandon amount liar amount expire adjust cage candy arch gather drum buyer";
    assert_eq!(typed(&nas, "check", wrong).status.code(), Some(6));
    assert!(nas.state_dir().join("recovery-phrase").exists());
    let checked = typed(&nas, "check", &phrase);
    assert!(checked.status.success(), "{}", checked.stderr);
    assert!(!nas.state_dir().join("recovery-phrase").exists());
    // The founder's machine is lost with its disk.
    nas.kill();
    fs::remove_dir_all(nas.state_dir()).unwrap();
    eventually("nas is away", PATIENCE, || {
        let status = pi.status();
        let peers = status["peers"].as_array().unwrap();
        peers
            .iter()
            .any(|peer| peer["name"] == "nas" && peer["online"] == false)
    });
    assert_eq!(typed(&pi, "use", wrong).status.code(), Some(6));
    let used = typed(&pi, "use --lost nas", &phrase);
    assert!(used.status.success(), "{}{}", used.stdout, used.stderr);
    assert!(!used.stdout.contains(&phrase) && !pi.whole_log().contains(&phrase));
    eventually("tablet sees one admin, pi", PATIENCE, || {
        let admins = tablet.ask(&["admin"])["admins"].clone();
        admins.as_array().unwrap().len() == 1 && admins[0]["name"] == "pi"
    });
    let desk = node_on(&lab, &lan, "desk", 4);
    desk.join(&pi.invite(&[]));
    desk.reaches("tablet");
    agree(&[&pi, &tablet, &desk], 3);
}

/// Admins with an owner, one of them, and a third who stays.
fn people(lab: &Lab, lan: &Switch, names: [&str; 3]) -> [Node; 4] {
    let nas = node_on(lab, lan, "nas", 1);
    nas.init("home");
    let [a, b, c] = [(names[0], 2), (names[1], 3), (names[2], 4)]
        .map(|(name, host)| node_on(lab, lan, name, host));
    a.join(&nas.invite(&["--owner", "carol", "--tag", "lab"]));
    b.join(&nas.invite(&["--owner", "carol"]));
    c.join(&nas.invite(&["--owner", "ben"]));
    agree(&[&nas, &a, &b, &c], 4);
    [nas, a, b, c]
}

pub(crate) fn all_nodes_of_an_owner_are_put_out_in_one_act(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, phone, desk, mut tablet] = people(&lab, &lan, ["phone", "desk", "tablet"]);
    let card = |name: &str| {
        let status = nas.status();
        let mut peers = status["peers"].as_array().unwrap().iter();
        peers.find(|peer| peer["name"] == name).unwrap().clone()
    };
    assert_eq!(card("phone")["owner"], "carol");
    assert_eq!(card("phone")["tags"], serde_json::json!(["lab"]));
    let (exit, _) = nas.refused(&["revoke", "--owner", "carol"]);
    assert_eq!(exit, 2, "it asks, and nobody can be asked");
    let dry = nas.ask(&["revoke", "--owner", "carol", "--dry-run"]);
    assert_eq!(dry["dry_run"], true);
    assert_eq!(names(&nas.status()).len(), 4);
    // It does not come back until the last has heard.
    tablet.switch_off();
    let words = ["revoke", "--owner", "carol", "--watch", "--yes"];
    let mut watching = nas.command(&words).start().unwrap();
    for node in [&phone, &desk] {
        eventually("who is carol's is out", PATIENCE, || {
            node.status()["state"] == "revoked"
        });
    }
    assert!(watching.wait(Duration::from_secs(2)).unwrap().is_none());
    tablet.switch_on();
    let ended = watching.wait(PATIENCE).unwrap().expect("all have heard");
    assert!(ended.success(), "{}", watching.stdout());
    agree(&[&nas, &tablet], 2);
    carries(&nas, &tablet);
    let (exit, _) = nas.refused(&["revoke", "--owner", "nobody", "--yes"]);
    assert_eq!(exit, 2);
}

pub(crate) fn what_a_stolen_admin_signed_since_then_falls_with_it(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, pi, tablet] = home(&lab, &lan, ["nas", "pi", "tablet"]);
    agree(&[&nas, &pi, &tablet], 3);
    nas.ask(&["admin", "add", "pi"]);
    eventually("pi signs", PATIENCE, || {
        pi.ask(&["admin"])["admins"].as_array().unwrap().len() == 2
    });
    let guest = node_on(&lab, &lan, "guest", 4);
    guest.join(&pi.invite(&[]));
    agree(&[&nas, &pi, &tablet, &guest], 4);
    // From here on somebody else types on pi.
    let code = pi.invite(&["--name", "thief"]);
    let bad = nas.lines(&["log", "--kind", "invite", "--node", "pi"]);
    let bad = text(bad.last().unwrap(), "/id");
    pi.ask(&["revoke", "tablet"]);
    eventually("nas hears it", PATIENCE, || {
        !names(&nas.status()).contains("tablet")
    });
    let words = ["revoke", "pi", "--since", &bad, "--stolen", "--yes"];
    let dry: Vec<&str> = words.iter().chain(&["--dry-run"]).copied().collect();
    let plan = nas.ask(&dry)["plan"].to_string();
    assert!(plan.contains("tablet"), "{plan}");
    nas.ask(&words);
    eventually("tablet is in again", PATIENCE, || {
        names(&nas.status()) == ["guest", "nas", "tablet"].map(str::to_owned).into()
    });
    agree(&[&nas, &tablet, &guest], 3);
    // The stolen machine still answers for its code, but nobody lets anybody in by it.
    let thief = node_on(&lab, &lan, "thief", 5);
    let (exit, said) = thief.refused(&["join", &code, "--timeout", "5s"]);
    assert!([1, 7, 8].contains(&exit), "{exit}: {said}");
    assert!(!names(&nas.status()).contains("thief"));
    let (exit, _) = nas.refused(&["revoke", "guest", "--since", &"a".repeat(52), "--yes"]);
    assert_eq!(exit, 2);
}

pub(crate) fn two_of_three_trustees_bring_a_network_back(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let mut nas = node_on(&lab, &lan, "nas", 1);
    let made = nas.ask(&["init", "--name", "home", "--recovery", "2-of-3"]);
    let phrases: Vec<String> = (0..3)
        .map(|at| text(&made, &format!("/recovery_phrases/{at}")))
        .collect();
    let [pi, tablet] =
        [("pi", 2), ("tablet", 3)].map(|(name, host)| node_on(&lab, &lan, name, host));
    for node in [&pi, &tablet] {
        node.join(&nas.invite(&[]));
    }
    agree(&[&nas, &pi, &tablet], 3);
    nas.kill();
    fs::remove_dir_all(nas.state_dir()).unwrap();
    let petition = pi.machine().directory().join("petition.mesh");
    let file = petition.to_str().unwrap();
    let began = typed(&pi, &format!("use --lost nas --out {file}"), &phrases[0]);
    assert!(began.status.success(), "{}{}", began.stdout, began.stderr);
    assert_eq!(
        pi.ask(&["admin"])["admins"][0]["name"],
        "nas",
        "one phrase does nothing"
    );
    // One phrase twice is still one.
    let again = typed(&pi, &format!("sign {file}"), &phrases[0]);
    let signed =
        serde_json::from_str::<Value>(again.stdout.lines().last().unwrap_or("{}")).unwrap();
    assert_ne!(signed["signed"], 2, "{}{}", again.stdout, again.stderr);
    // The file goes to another trustee, who is no admin either.
    let copy = tablet.machine().directory().join("petition.mesh");
    fs::copy(&petition, &copy).unwrap();
    let wrong = "abandon amount liar amount expire adjust cage candy arch gather drum buyer";
    let sign = format!("sign {}", copy.display());
    assert_eq!(typed(&tablet, &sign, wrong).status.code(), Some(6));
    let done = typed(&tablet, &sign, &phrases[2]);
    assert!(done.status.success(), "{}{}", done.stdout, done.stderr);
    let left = copy.with_file_name("petition.mesh.part");
    assert!(!left.exists());
    fs::copy(&copy, &petition).unwrap();
    let used = typed(&pi, &format!("use --petition {file}"), &phrases[0]);
    assert!(used.status.success(), "{}{}", used.stdout, used.stderr);
    eventually("tablet sees one admin, pi", PATIENCE, || {
        let admins = tablet.ask(&["admin"])["admins"].clone();
        admins.as_array().unwrap().len() == 1 && admins[0]["name"] == "pi"
    });
    let desk = node_on(&lab, &lan, "desk", 4);
    desk.join(&pi.invite(&[]));
    agree(&[&pi, &tablet, &desk], 3);
    for phrase in &phrases {
        assert!(!pi.whole_log().contains(phrase) && !tablet.whole_log().contains(phrase));
    }
}

pub(crate) fn a_new_network_key_reaches_everybody_and_traffic_goes_on(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, mut pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    carries(&nas, &pi);
    let epoch = |node: &Node| node.status()["network"]["epoch"].as_u64().unwrap();
    assert_eq!((epoch(&nas), epoch(&pi)), (0, 0));
    let traffic = Stream::start(&pi, &nas);
    let told = nas.ask(&["rotate", "--network-key"]);
    assert_eq!(text(&told, "/op/kind"), "rekey");
    eventually("pi has the new epoch", PATIENCE, || epoch(&pi) == 1);
    thread::sleep(Duration::from_secs(1));
    let passed = traffic.since.elapsed();
    let last = traffic.last();
    assert!(
        passed.saturating_sub(last) < CUT_LIMIT,
        "{passed:?} {last:?}"
    );
    let (exit, _) = pi.refused(&["rotate", "--network-key"]);
    assert_eq!(exit, 6);
    // Who was off at the time gets it when it is back.
    pi.switch_off();
    nas.ask(&["rotate", "--network-key", "--wait", "0s"]);
    pi.switch_on();
    eventually("pi has the next one", PATIENCE, || epoch(&pi) == 2);
    agree(&[&nas, &pi], 2);
    carries(&nas, &pi);
}
