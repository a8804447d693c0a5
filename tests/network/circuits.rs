//! By a relay: two that no packet of either reaches the other, and a volunteer that both can call by TCP at port 443.

use std::net::SocketAddr;
use std::time::Duration;

use meshnode::carrier::Carrier;
use meshnode::lab::{Lab, Machine, Process, Stopwatch, Switch, World};
use meshnode::swarm::{Swarm, SwarmConfig};
use meshnode_protocol::id::{TransportKey, base32_parse};
use meshnode_protocol::link::{CallId, DialId, LinkInput, LinkOutput, Service};
use meshnode_protocol::record::{ControlAddress, Transport};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::joining::home;
use crate::lab;
use crate::node::{Node, PATIENCE, PROGRAM, carries, eventually, measured, ms, text};

/// Where the members' links listen.
const PORT: u16 = 4100;

/// What the firewall of a member's site lets out, and in as an answer.
const ONLY_TCP_443: &str = "add table inet site
add chain inet site out { type filter hook output priority 0; policy drop; }
add rule inet site out oif lo accept
add rule inet site out oifname \"mn-*\" accept
add rule inet site out tcp dport 443 accept
add chain inet site in { type filter hook input priority 0; policy drop; }
add rule inet site in iif lo accept
add rule inet site in iifname \"mn-*\" accept
add rule inet site in tcp sport 443 accept";

/// A firewall that keeps two sites apart, and lets both reach the volunteer in every way.
const ONLY_THE_VOLUNTEER: &str = "add table inet site
add chain inet site out { type filter hook output priority 0; policy drop; }
add rule inet site out oif lo accept
add rule inet site out oifname \"mn-*\" accept
add rule inet site out ip daddr 192.168.1.250 accept
add chain inet site in { type filter hook input priority 0; policy drop; }
add rule inet site in iif lo accept
add rule inet site in iifname \"mn-*\" accept
add rule inet site in ip saddr 192.168.1.250 accept";

pub(crate) fn two_that_may_only_call_tcp_443_are_linked_by_a_volunteers_circuit(world: &World) {
    let lab = lab(world);
    let town = Town::new(&lab);
    let (mut a, mut b) = (town.member("a", 11, 1), town.member("b", 12, 2));
    // Nothing of theirs gets through but what goes to the relay.
    a.act(LinkOutput::Dial {
        dial: DialId(1),
        peer: None,
        addresses: vec![tcp([203, 0, 113, 12], PORT)],
    });
    a.next(|input| matches!(input, LinkInput::DialFailed { .. }).then_some(()));
    let relay = tcp([203, 0, 113, 1], 443);
    let watch = Stopwatch::start();
    b.act(LinkOutput::Homes(vec![(town.key, vec![relay])]));
    b.next(|input| matches!(input, LinkInput::Reserved { stands: true, .. }).then_some(()));
    measured("reservation by TCP 443", ms(watch.elapsed()));
    let watch = Stopwatch::start();
    a.act(LinkOutput::DialBy {
        dial: DialId(2),
        peer: b.key,
        relay: town.key,
        addresses: vec![relay],
    });
    let by = a.next(|input| match input {
        LinkInput::Up {
            dial: Some(DialId(2)),
            by,
            ..
        } => Some(by),
        _ => None,
    });
    measured(
        "circuit by TCP 443, relay called first",
        ms(watch.elapsed()),
    );
    assert_eq!(by, Some(town.key));
    a.act(LinkOutput::Ask {
        call: CallId(1),
        peer: b.key,
        service: Service::Hello,
        bytes: b"who?".to_vec(),
    });
    let answer = b.next(|input| match input {
        LinkInput::Asked { answer, bytes, .. } => (bytes == b"who?").then_some(answer),
        _ => None,
    });
    let bytes = b"me".to_vec();
    b.act(LinkOutput::Answer { answer, bytes });
    let got = a.next(|input| match input {
        LinkInput::Answered { result, .. } => Some(result),
        _ => None,
    });
    assert_eq!(got, Ok(b"me".to_vec()));
    let told = town.status();
    assert_eq!(
        (&told["circuits_n"], &told["clients_n"]),
        (&1.into(), &1.into())
    );
}

pub(crate) fn a_relay_that_was_killed_is_home_again_when_it_is_back(world: &World) {
    let lab = lab(world);
    let mut town = Town::new(&lab);
    let mut b = town.member("b", 12, 2);
    let relay = tcp([203, 0, 113, 1], 443);
    b.act(LinkOutput::Homes(vec![(town.key, vec![relay])]));
    b.next(|input| matches!(input, LinkInput::Reserved { stands: true, .. }).then_some(()));
    town.program.take().unwrap().stop(PATIENCE).unwrap();
    b.next(|input| matches!(input, LinkInput::Reserved { stands: false, .. }).then_some(()));
    let watch = Stopwatch::start();
    town.program = Some(start(&town.machine));
    b.next(|input| matches!(input, LinkInput::Reserved { stands: true, .. }).then_some(()));
    measured("reservation after the relay's start", ms(watch.elapsed()));
}

pub(crate) fn two_nodes_that_reach_a_volunteer_alone_talk_by_it(world: &World) {
    let lab = lab(world);
    let (volunteer, _program, [nas, pi]) = parted(&lab, ONLY_THE_VOLUNTEER);
    let watch = Stopwatch::start();
    eventually("their packets go by the relay's UDP port", LONG, || {
        let line = pi.ping("nas");
        line.is_some_and(|line| text(&line, "/path/tier") == "udp-relay")
    });
    measured(
        "from the last direct packet to a ping by UDP relay",
        ms(watch.elapsed()),
    );
    carries(&pi, &nas);
    carries(&nas, &pi);
    assert_eq!(status(&volunteer)["pairs"].as_array().unwrap().len(), 1);
    // What is signed there is heard, too: the control plane calls through the tunnel.
    nas.ask(&["rename", "pi", "attic"]);
    eventually("pi heard of its new name", LONG, || {
        text(&pi.status(), "/self/name") == "attic"
    });
}

pub(crate) fn two_nodes_that_may_only_call_tcp_443_talk_by_a_circuit(world: &World) {
    let lab = lab(world);
    let (volunteer, _program, [nas, pi]) = parted(&lab, ONLY_TCP_443);
    let watch = Stopwatch::start();
    eventually("their packets go by a circuit", LONG, || {
        let line = pi.ping("nas");
        line.is_some_and(|line| text(&line, "/path/tier") == "circuit")
    });
    measured(
        "from the last direct packet to a ping by circuit",
        ms(watch.elapsed()),
    );
    assert_eq!(status(&volunteer)["circuits_n"], 1);
    carries(&pi, &nas);
    carries(&nas, &pi);
}

/// Two nodes that are at home at a volunteer, and from now on behind firewalls with these rules.
fn parted(lab: &Lab, rules: &str) -> (Machine, Process, [Node; 2]) {
    let inet = lab.switch("inet").unwrap();
    let volunteer = lab.machine("volunteer").unwrap();
    volunteer.attach(&inet, "192.168.1.250/24", None).unwrap();
    let program = start(&volunteer);
    let key = status(&volunteer)["key"].as_str().unwrap().to_owned();
    let [nas, pi] = home(lab, &inet, ["nas", "pi"]);
    carries(&nas, &pi);
    let address = format!("{}@192.168.1.250:443", &key[..10]);
    let added = nas.ask(&["relay", "add", &address, "--name", "oak"]);
    assert_eq!(
        (&added["name"], &added["changed"]),
        (&"oak".into(), &true.into())
    );
    for node in [&nas, &pi] {
        eventually("the relay is everybody's home", LONG, || {
            let told = node.ask(&["relay", "list"]);
            let relays = told["relays"].as_array().unwrap();
            relays
                .iter()
                .any(|relay| relay["name"] == "oak" && relay["home"] == true)
        });
    }
    eventually("both are reachable by it", LONG, || {
        status(&volunteer)["clients_n"] == 2
    });
    // Each tells the other where it is to be found, and nobody shows that to people.
    std::thread::sleep(TOLD);
    for node in [&nas, &pi] {
        shut(node.machine(), rules);
    }
    (volunteer, program, [nas, pi])
}

/// How long a record takes from one node to another that it is linked with, and more.
const TOLD: Duration = Duration::from_secs(8);

/// How long nodes may take to find out that nothing gets through any more.
const LONG: Duration = Duration::from_secs(120);

fn shut(machine: &Machine, rules: &str) {
    for line in rules.lines() {
        let ended = machine.command("nft").arg(line).output(PATIENCE).unwrap();
        assert!(ended.status.success(), "{line}: {}", ended.stderr);
    }
}

/// A volunteer, and sites that can only reach it.
struct Town<'a> {
    lab: &'a Lab,
    inet: Switch,
    machine: Machine,
    program: Option<Process>,
    key: TransportKey,
}

impl<'a> Town<'a> {
    fn new(lab: &'a Lab) -> Self {
        let inet = lab.switch("inet").unwrap();
        let machine = lab.machine("volunteer").unwrap();
        machine.attach(&inet, "203.0.113.1/24", None).unwrap();
        let program = Some(start(&machine));
        let told = status(&machine);
        let key = base32_parse(told["key"].as_str().unwrap()).unwrap();
        let key = TransportKey::parse(key.try_into().unwrap()).unwrap();
        Self {
            lab,
            inet,
            machine,
            program,
            key,
        }
    }

    fn status(&self) -> Value {
        status(&self.machine)
    }

    fn member(&self, name: &str, host: u8, seed: u8) -> Member {
        let machine = self.lab.machine(name).unwrap();
        let address = format!("203.0.113.{host}/24");
        machine.attach(&self.inet, &address, None).unwrap();
        shut(&machine, ONLY_TCP_443);
        Member::start(machine, seed)
    }
}

pub(crate) fn start(machine: &Machine) -> Process {
    let state = machine.directory().join("relay");
    let program = machine
        .command(PROGRAM)
        .args(["relay", "run", "--listen", ":443", "--state-dir"])
        .arg(&state)
        .start()
        .unwrap();
    eventually("the relay answers its operator", PATIENCE, || {
        ask(machine).is_some()
    });
    program
}

fn ask(machine: &Machine) -> Option<Value> {
    let state = machine.directory().join("relay");
    let ended = machine
        .command(PROGRAM)
        .args(["relay", "status", "--json", "--state-dir"])
        .arg(&state)
        .output(PATIENCE)
        .unwrap();
    let told = ended.status.success().then_some(ended.stdout)?;
    serde_json::from_str(&told).ok()
}

pub(crate) fn status(machine: &Machine) -> Value {
    ask(machine).expect("the relay runs")
}

fn tcp(ip: [u8; 4], port: u16) -> ControlAddress {
    ControlAddress {
        transport: Transport::Tcp,
        address: SocketAddr::from((ip, port)),
    }
}

/// A member's links, without a member.
struct Member {
    runtime: Option<Runtime>,
    swarm: Swarm,
    inputs: mpsc::Receiver<LinkInput>,
    key: TransportKey,
    _machine: Machine,
}

impl Member {
    fn start(machine: Machine, seed: u8) -> Self {
        let started = machine.inside(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let (events, inputs) = mpsc::channel(64);
            let config = SwarmConfig {
                seed: Zeroizing::new([seed; 32]),
                port: PORT,
                mdns: false,
                carrier: Carrier::new().unwrap(),
            };
            let swarm = runtime.block_on(async { Swarm::start(config, events).unwrap() });
            (runtime, swarm, inputs)
        });
        let (runtime, swarm, inputs) = started.unwrap();
        let key = meshnode_protocol::identity::Secret::from_seed(&[seed; 32]);
        Self {
            runtime: Some(runtime),
            swarm,
            inputs,
            key: TransportKey::new(key.public()),
            _machine: machine,
        }
    }

    fn act(&self, order: LinkOutput) {
        self.swarm.act(order);
    }

    fn next<T>(&mut self, wanted: impl Fn(LinkInput) -> Option<T>) -> T {
        let runtime = self.runtime.as_ref().expect("it runs until it is dropped");
        let inputs = &mut self.inputs;
        runtime.block_on(async {
            let search = async {
                loop {
                    let input = inputs.recv().await.expect("the links run");
                    if let Some(found) = wanted(input) {
                        return found;
                    }
                }
            };
            let found = tokio::time::timeout(Duration::from_secs(60), search).await;
            found.expect("it happens in time")
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
