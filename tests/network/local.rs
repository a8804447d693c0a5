//! What one machine decides for itself: whom it blocks, whom it waits for, and what it tells of the others.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use meshnode::lab::World;
use serde_json::Value;

use crate::joining::{home, node_on};
use crate::lab;
use crate::node::{COMMAND_LIMIT, Node, PATIENCE, PROGRAM, agree, carries, eventually, text};

/// How long silence is listened to before it counts.
const SILENCE: Duration = Duration::from_secs(2);

fn peer(node: &Node, name: &str) -> Value {
    let status = node.status();
    let mut peers = status["peers"].as_array().unwrap().iter();
    peers.find(|peer| peer["name"] == name).unwrap().clone()
}

/// Whether a datagram of a program on `from` comes to a program on `to`, by IPv6 or IPv4, within a while.
fn leaks(from: &Node, to: &Node) -> bool {
    let (ours, theirs) = (from.addresses(), to.addresses());
    ours.into_iter().zip(theirs).any(|(ours, theirs)| {
        let sender = from
            .machine()
            .inside(move || UdpSocket::bind((ours, 0)).unwrap());
        let receiver = to
            .machine()
            .inside(move || UdpSocket::bind((theirs, 0)).unwrap());
        let (sender, receiver) = (sender.unwrap(), receiver.unwrap());
        let at = receiver.local_addr().unwrap();
        receiver.set_read_timeout(Some(SILENCE / 10)).unwrap();
        (0..10).any(|_| {
            // Without a route it is not even sent.
            let _ = sender.send_to(b"leak", at);
            receiver.recv_from(&mut [0; 16]).is_ok()
        })
    })
}

pub(crate) fn a_blocked_node_has_no_traffic_until_it_is_unblocked_and_its_word_still_comes(
    world: &World,
) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    carries(&nas, &pi);
    assert_eq!(nas.ask(&["block", "pi"])["changed"], true);
    let is_blocked = |nas: &Node, pi: &Node| {
        let card = peer(nas, "pi");
        assert_eq!(
            (&card["blocked"], &card["path"]["kind"]),
            (&true.into(), &"none".into())
        );
        assert_eq!(text(&card, "/path/reason_code"), "blocked");
        assert!(
            !leaks(nas, pi) && !leaks(pi, nas),
            "nothing comes through, either way"
        );
        assert_eq!(nas.refused(&["ping", "pi", "-c", "1"]).0, 1);
    };
    is_blocked(&nas, &pi);
    assert_eq!(nas.ask(&["block", "pi"])["changed"], false);
    nas.kill();
    nas.switch_on();
    eventually("pi is known again", PATIENCE, || {
        !nas.status()["peers"][0].is_null()
    });
    is_blocked(&nas, &pi);
    // What the blocked one lets in, nas hears from nobody else.
    let code = nas.invite(&[]);
    eventually("pi holds the invite", PATIENCE, || {
        pi.status()["network"]["ops"] == nas.status()["network"]["ops"]
    });
    let late = node_on(&lab, &lan, "late", 9);
    late.join(&code);
    agree(&[&nas, &pi, &late], 3);
    carries(&late, &pi);
    assert_eq!(nas.ask(&["unblock", "pi"])["changed"], true);
    carries(&nas, &pi);
    assert_eq!(peer(&nas, "pi")["blocked"], false);
    nas.kill();
    nas.switch_on();
    carries(&pi, &nas);
}

pub(crate) fn probes_of_a_node_that_is_blocked_or_down_come_to_an_end(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, _pi] = home(&lab, &lan, ["nas", "pi"]);
    nas.reaches("pi");
    let endless = || {
        let ping = nas.command(&["ping", "pi", "-c", "100000", "-i", "50ms"]);
        let ping = ping.start().unwrap();
        eventually("probes are answered", PATIENCE, || {
            ping.stdout().lines().count() > 2
        });
        ping
    };
    let mut ping = nas
        .command(&["ping", "pi", "-c", "60", "-i", "50ms"])
        .start()
        .unwrap();
    eventually("probes are answered", PATIENCE, || {
        ping.stdout().lines().count() > 2
    });
    nas.ask(&["block", "pi"]);
    assert!(
        ping.wait(PATIENCE).unwrap().is_some(),
        "its probes are silent, and it ends"
    );
    let last: Value = serde_json::from_str(ping.stdout().lines().last().unwrap()).unwrap();
    let (sent, received) = (&last["summary"]["sent"], &last["summary"]["received"]);
    assert!(sent == 60 && received.as_u64() < Some(60), "{last}");
    nas.ask(&["unblock", "pi"]);
    nas.reaches("pi");
    let mut ping = endless();
    nas.ask(&["down"]);
    let ended = ping.wait(PATIENCE).unwrap().expect("down ends it");
    assert_eq!(ended.code(), Some(1), "{}", ping.stderr());
    assert!(
        ping.stderr()
            .contains("the network is down on this machine"),
        "{}",
        ping.stderr()
    );
}

pub(crate) fn a_card_says_by_which_invite_witness_and_admin_a_node_is_in(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [mut nas, pi] = home(&lab, &lan, ["nas", "pi"]);
    agree(&[&nas, &pi], 2);
    let made = nas.ask(&["invite"]);
    eventually("pi holds the invite", PATIENCE, || {
        pi.status()["network"]["ops"] == nas.status()["network"]["ops"]
    });
    nas.switch_off();
    let late = node_on(&lab, &lan, "late", 9);
    late.join(&text(&made, "/code"));
    let card = late.ask(&["whoami"]);
    assert_eq!(text(&card, "/standing"), "provisional");
    assert_eq!(text(&card, "/let_in_by/witness/name"), "pi");
    assert_eq!(card["let_in_by"]["settled_by"], Value::Null);
    nas.switch_on();
    eventually("the admin settles it", PATIENCE, || {
        text(&pi.ask(&["whois", "late"]), "/standing") == "settled"
    });
    let cards = [
        pi.ask(&["whois", "late"]),
        nas.ask(&["whois", &text(&card, "/ipv4")]),
    ];
    for card in cards {
        let let_in = &card["let_in_by"];
        assert_eq!(let_in["invite"], made["id"]);
        assert_eq!(text(let_in, "/issuer/name"), "nas");
        assert_eq!(text(let_in, "/witness/name"), "pi");
        assert_eq!(text(let_in, "/settled_by/name"), "nas");
        assert_eq!(let_in["settled_by"]["founder"], true);
        assert_eq!(text(&card, "/keys/wireguard").len(), 44);
    }
}

pub(crate) fn waiting_ends_when_a_node_answers_and_not_before(world: &World) {
    let lab = lab(world);
    let lan = lab.switch("lan").unwrap();
    let [nas, mut pi] = home(&lab, &lan, ["nas", "pi"]);
    nas.ask(&["wait"]);
    nas.ask(&["wait", "pi", "--timeout", "20s"]);
    pi.switch_off();
    let isolated = || {
        let status = nas.machine().command(PROGRAM).arg("status");
        let status = status.arg("--state-dir").arg(nas.state_dir());
        let status = status.arg("--socket").arg(nas.socket());
        status.output(COMMAND_LIMIT).unwrap().stdout
    };
    let no_route = "0 of 1 reachable: no default route, nobody on this LAN answers.\n";
    eventually("it says why it is alone", PATIENCE * 2, || {
        isolated().contains(no_route)
    });
    let (code, said) = nas.refused(&["wait", "pi", "--timeout", "2s"]);
    assert_eq!((code, said.as_str()), (7, "pi does not answer after 2 s"));
    let mut wait = nas
        .command(&["wait", "pi", "--timeout", "60s"])
        .start()
        .unwrap();
    thread::sleep(Duration::from_secs(1));
    assert!(
        wait.wait(Duration::ZERO).unwrap().is_none(),
        "nobody answers yet"
    );
    pi.switch_on();
    let ended = wait.wait(PATIENCE).unwrap().expect("pi answers");
    assert!(ended.success(), "{}", wait.stderr());
    assert_eq!(nas.refused(&["wait", "nobody"]).0, 2);
}
