//! What admins do to nodes: revoked ones are cut, joiners are approved or refused, the phrase brings a network back.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use meshnode::lab::{Stopwatch, World};
use serde_json::Value;

use crate::joining::{home, node_on};
use crate::lab;
use crate::node::{
    COMMAND_LIMIT, Node, PATIENCE, PROGRAM, agree, carries, eventually, measured, names, spread,
    text,
};

/// How long live traffic of a revoked node may go on at a node that is reachable.
const CUT_LIMIT: Duration = Duration::from_secs(2);
/// How many nodes are revoked one after the other, unless `MESHNODE_RUNS` says more.
const RUNS: usize = 2;
/// How many nodes the network has beside the revoked one, unless `MESHNODE_NODES` says more.
const NODES: usize = 3;
/// Between two datagrams of the traffic that is cut.
const BEAT: Duration = Duration::from_millis(5);

/// Datagrams over the overlay from one node to another, until they are stopped; and when the last one came.
struct Traffic {
    since: Stopwatch,
    stop: Arc<AtomicBool>,
    receiver: thread::JoinHandle<Duration>,
    sender: thread::JoinHandle<()>,
}

impl Traffic {
    fn start(from: &Node, to: &Node) -> Self {
        let (ours, theirs) = (from.addresses()[0], to.addresses()[0]);
        let bind = |node: &Node, ip| node.machine().inside(move || UdpSocket::bind((ip, 0)));
        let sender = bind(from, ours).unwrap().unwrap();
        let receiver = bind(to, theirs).unwrap().unwrap();
        receiver.set_read_timeout(Some(BEAT)).unwrap();
        let at: SocketAddr = receiver.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mine, its) = (Arc::clone(&stop), Arc::clone(&stop));
        let since = Stopwatch::start();
        let receiver = thread::spawn(move || {
            let (mut last, mut buffer) = (Duration::ZERO, [0; 16]);
            while !mine.load(Ordering::Relaxed) {
                if receiver.recv_from(&mut buffer).is_ok() {
                    last = since.elapsed();
                }
            }
            last
        });
        let sender = thread::spawn(move || {
            while !its.load(Ordering::Relaxed) {
                // Once it is cut there is no route any more: that is what the receiver sees as silence.
                let _ = sender.send_to(b"beat", at);
                thread::sleep(BEAT);
            }
        });
        Self {
            stop,
            since,
            receiver,
            sender,
        }
    }

    /// How long after the start the last datagram came; zero if none did.
    fn last(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().unwrap();
        self.receiver.join().unwrap()
    }
}

/// A number of the environment, for who measures more than a test needs.
fn wished(name: &str, usual: usize) -> usize {
    let wished = std::env::var(name).ok();
    wished
        .and_then(|number| number.parse().ok())
        .unwrap_or(usual)
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
        .map(|other| Traffic::start(guest, other))
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
    let typed = |node: &Node, words: &str, phrase: &str| {
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
    };
    // The copy on the founder's disk goes when the phrase was typed back, and only then.
    let wrong = "abandon amount liar amount expire adjust cage candy arch gather drum buyer";
    assert_eq!(typed(&nas, "check", wrong).status.code(), Some(1));
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
