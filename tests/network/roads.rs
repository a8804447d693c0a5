//! Where only HTTPS passes: a middlebox that cuts what is no TLS, and proxies of HTTP, with a volunteer at port 443.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Stopwatch, Switch, World};
use socket2::{Domain, SockRef, Socket, Type};

use crate::circuits::{LONG, at_home, shut, start, status};
use crate::internet::{Site, tools};
use crate::lab;
use crate::node::{Node, PATIENCE, PROGRAM, carries, eventually, measured, ms, text};

/// Where the volunteer is.
const RELAY: ([u8; 4], u16) = ([192, 168, 1, 250], 443);
/// Where the proxy of the site listens.
const PROXY_PORT: u16 = 3128;
/// Of what the middlebox itself sends.
const MARK: u32 = 7;
/// Where the middlebox takes connections.
const BOX_PORT: u16 = 9443;

/// Only TCP to port 443 leaves, and the middlebox has it first; what it lets through carries its mark.
const STRICT_TLS: &str = "add table inet site
add chain inet site turn { type nat hook output priority -100; }
add rule inet site turn meta mark 7 accept
add rule inet site turn oifname != \"lo\" tcp dport 443 redirect to :9443
add chain inet site out { type filter hook output priority 0; policy drop; }
add rule inet site out oif lo accept
add rule inet site out oifname \"mn-*\" accept
add rule inet site out meta mark 7 tcp dport 443 accept
add rule inet site out tcp sport 9443 accept
add rule inet site out tcp dport 9443 accept
add chain inet site in { type filter hook input priority 0; policy drop; }
add rule inet site in iif lo accept
add rule inet site in iifname \"mn-*\" accept
add rule inet site in tcp sport 443 accept";

/// What a router does to have the middlebox on it see all that leaves to port 443.
const TURN_ALL: &str = "
table ip strict {
    chain turn { type nat hook prerouting priority -110
        iifname eth1 tcp dport 443 redirect to :9443
    }
}
";

/// Nothing leaves but what goes to the proxy.
const ONLY_THE_PROXY: &str = "add table inet site
add chain inet site out { type filter hook output priority 0; policy drop; }
add rule inet site out oif lo accept
add rule inet site out oifname \"mn-*\" accept
add rule inet site out ip daddr 192.168.1.251 tcp dport 3128 accept
add rule inet site out counter reject with icmpx type admin-prohibited
add chain inet site in { type filter hook input priority 0; policy drop; }
add rule inet site in iif lo accept
add rule inet site in iifname \"mn-*\" accept
add rule inet site in ip saddr 192.168.1.251 accept";

pub(crate) fn two_nodes_behind_a_box_that_passes_tls_alone_talk_by_a_circuit(world: &World) {
    let lab = lab(world);
    let (_inet, volunteer, _program, [mut nas, mut pi]) = at_home(&lab);
    let mut boxes = Vec::new();
    for node in [&mut nas, &mut pi] {
        node.switch_off();
        boxes.push(Door::open(node.machine(), BOX_PORT, only_tls));
        shut(node.machine(), STRICT_TLS);
    }
    nas.switch_on();
    let watch = Stopwatch::start();
    pi.switch_on();
    by_circuit(&pi, "nas");
    measured(
        "from a start where only TLS passes to a ping by circuit",
        ms(watch.elapsed()),
    );
    assert_eq!(status(&volunteer)["circuits_n"], 1);
    carries(&pi, &nas);
    carries(&nas, &pi);
    for node in [&nas, &pi] {
        assert_eq!(road(node), "tls", "{}", node.ask(&["netcheck"]));
    }
    let cut: Vec<_> = boxes.iter().map(Door::count).collect();
    assert!(cut.iter().all(|cut| *cut > 0), "{cut:?}");
    let cabin = pi.status();
    let peer = &cabin["peers"][0];
    assert_eq!(text(peer, "/path/road"), "tls", "{peer}");
}

pub(crate) fn two_nodes_that_reach_a_proxy_alone_talk_by_a_circuit(world: &World) {
    let lab = lab(world);
    let (inet, volunteer, _program, [mut nas, mut pi]) = at_home(&lab);
    let (_gate, proxy) = gate(&lab, &inet);
    // The name and the password are ben and p@ss, as a URL writes them.
    let told = "https_proxy=http://ben:p%40ss@192.168.1.251:3128".to_owned();
    for node in [&mut nas, &mut pi] {
        node.switch_off();
        shut(node.machine(), ONLY_THE_PROXY);
        node.set(std::slice::from_ref(&told));
    }
    nas.switch_on();
    let watch = Stopwatch::start();
    pi.switch_on();
    by_circuit(&pi, "nas");
    measured(
        "from a start behind a proxy to a ping by circuit",
        ms(watch.elapsed()),
    );
    assert_eq!(status(&volunteer)["circuits_n"], 1);
    carries(&pi, &nas);
    for node in [&nas, &pi] {
        let report = node.ask(&["netcheck"]);
        assert_eq!(road(node), "proxy", "{report}");
        assert_eq!(text(&report, "/proxy/state"), "leads");
        assert_eq!(text(&report, "/proxy/at"), "192.168.1.251:3128");
        let log = node.whole_log();
        assert!(!log.contains("p@ss") && !log.contains("p%40ss"), "{log}");
    }
    assert!(proxy.count() > 0);
}

pub(crate) fn a_proxy_that_refuses_is_named_with_what_would_help(world: &World) {
    let lab = lab(world);
    let (inet, _volunteer, _program, [nas, pi]) = at_home(&lab);
    drop(nas);
    let _gate = gate(&lab, &inet);
    shut(pi.machine(), ONLY_THE_PROXY);
    for (port, state, advice) in [
        (
            3128,
            "credentials",
            "https_proxy=http://USER:PASSWORD@HOST:PORT",
        ),
        (3129, "silent", "what https_proxy or the setting"),
    ] {
        pi.ask(&["set", &format!("proxy=http://192.168.1.251:{port}")]);
        eventually("netcheck says what the proxy says", LONG, || {
            let report = pi.ask(&["netcheck"]);
            let said = report["advice"].to_string();
            text(&report, "/proxy/state") == state && said.contains(advice)
        });
    }
    let (_, said) = pi.refused(&["set", "proxy=http://ben:p@192.168.1.251:3128"]);
    assert!(said.contains("proxy cannot be"), "{said}");
}

/// What strangers may send to a port that answers TLS, and that it is borne.
pub(crate) fn what_begins_as_tls_and_is_none_is_cut_and_others_are_served(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let volunteer = lab.machine("volunteer").unwrap();
    volunteer.attach(&inet, "192.168.1.250/24", None).unwrap();
    let _program = start(&volunteer);
    let key = status(&volunteer)["key"].as_str().unwrap().to_owned();
    let stranger = lab.machine("stranger").unwrap();
    stranger.attach(&inet, "192.168.1.77/24", None).unwrap();
    let visitor = lab.machine("visitor").unwrap();
    visitor.attach(&inet, "192.168.1.78/24", None).unwrap();
    let held = stranger.inside(|| {
        let call = || TcpStream::connect(SocketAddr::from(RELAY)).unwrap();
        let mut garbage = call();
        garbage.write_all(&[0x16; 4096]).unwrap();
        let cut = ended(garbage, PATIENCE);
        assert!(
            cut.is_some(),
            "garbage behind the first byte of TLS ends the connection"
        );
        // Those that say the first byte and no more hold their places for a while, and then lose them.
        let slow: Vec<_> = (0..40)
            .map(|_| {
                let mut slow = call();
                // The crowd from one source may be sent away at once.
                let _ = slow.write_all(&[0x16]);
                slow
            })
            .collect();
        slow
    });
    let address = format!("{}@192.168.1.250:443", &key[..10]);
    let test = visitor.command(PROGRAM).args(["relay", "test", &address]);
    let told = test.output(PATIENCE).unwrap();
    assert!(told.status.success(), "{}{}", told.stdout, told.stderr);
    let longest = held
        .unwrap()
        .into_iter()
        .map(|slow| ended(slow, PATIENCE).expect("a slow handshake is cut"))
        .max();
    measured("slow handshakes are cut within", ms(longest.unwrap()));
    assert!(longest.unwrap() < Duration::from_secs(8));
}

/// How long until the other end ended a connection; nothing when it did not.
fn ended(mut stream: TcpStream, limit: Duration) -> Option<Duration> {
    let watch = Stopwatch::start();
    stream.set_read_timeout(Some(limit)).unwrap();
    let mut rest = [0; 1024];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return Some(watch.elapsed()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(watch.elapsed()),
        }
    }
}

fn by_circuit(from: &Node, to: &str) {
    eventually("packets go by a circuit", LONG, || {
        let line = from.ping(to);
        line.is_some_and(|line| text(&line, "/path/tier") == "circuit")
    });
}

/// How a node calls its relay.
fn road(node: &Node) -> String {
    let report = node.ask(&["netcheck"]);
    let relays = report["relays"].as_array().unwrap();
    let oak = relays.iter().find(|relay| relay["name"] == "oak");
    oak.and_then(|oak| oak["road"].as_str())
        .unwrap_or_default()
        .to_owned()
}

/// Both directions of two streams, until one ends.
fn tie(one: TcpStream, other: TcpStream) {
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        // However it ends, the other direction ends with it.
        let _ = io::copy(&mut from, &mut to);
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    };
    let (Ok(from), Ok(to)) = (one.try_clone(), other.try_clone()) else {
        return;
    };
    thread::spawn(move || copy(from, to));
    thread::spawn(move || copy(other, one));
}

/// Something that takes connections in a machine, until it is dropped.
pub(crate) struct Door {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// `act` has each caller, in a thread of its own, and what is counted.
    fn open(machine: &Machine, port: u16, act: fn(TcpStream, &AtomicUsize)) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = machine.inside(move || {
            let door = TcpListener::bind(("0.0.0.0", port)).unwrap();
            door.set_nonblocking(true).unwrap();
            thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let Ok((caller, _)) = door.accept() else {
                        thread::sleep(Duration::from_millis(2));
                        continue;
                    };
                    caller.set_nonblocking(false).unwrap();
                    let counted = Arc::clone(&counted);
                    thread::spawn(move || act(caller, &counted));
                }
            })
        });
        let thread = Some(thread.unwrap());
        Self {
            stop,
            count,
            thread,
        }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only waits and hands on.
            let _ = thread.join();
        }
    }
}

/// A middlebox in the router of a site: TCP to port 443 alone leaves, and only as TLS.
pub(crate) fn strict_router(site: &Site) -> Door {
    tools::nft(site.router(), TURN_ALL);
    Door::open(site.router(), BOX_PORT, only_tls)
}

/// What a middlebox does that looks at the first byte and cuts what is no TLS; counts what it cut.
fn only_tls(caller: TcpStream, cut: &AtomicUsize) {
    let mut first = [0];
    if !matches!(caller.peek(&mut first), Ok(1)) || first != [0x16] {
        cut.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Ok(to) = SockRef::from(&caller).original_dst_v4() else {
        return;
    };
    let out = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    out.set_mark(MARK).unwrap();
    if out.connect(&to).is_ok() {
        tie(caller, out.into());
    }
}

/// A proxy that leads Ben to port 443 of anybody; counts whom it led.
fn proxy_of_ben(mut caller: TcpStream, led: &AtomicUsize) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 4096 || !matches!(caller.read(&mut byte), Ok(1)) {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let to = lines.next().and_then(|line| line.strip_prefix("CONNECT "));
    let to = to.and_then(|rest| rest.strip_suffix(" HTTP/1.1")).unwrap();
    let to: SocketAddr = to.parse().unwrap();
    // ben:p@ss
    let is_ben = lines.any(|line| line == "Proxy-Authorization: Basic YmVuOnBAc3M=");
    let refusal = match (is_ben, to.port()) {
        (false, _) => Some("407 Proxy Authentication Required"),
        (true, 443) => None,
        (true, _) => Some("403 Forbidden"),
    };
    let out = refusal.map_or_else(
        || TcpStream::connect(to).map_err(|_| "502 Bad Gateway"),
        Err,
    );
    match out {
        Ok(out) => {
            led.fetch_add(1, Ordering::Relaxed);
            let said = caller.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            if said.is_ok() {
                tie(caller, out);
            }
        }
        Err(status) => {
            // Whoever hung up does not want to hear it.
            let _ = write!(caller, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    }
}

/// The machine with the proxy of the site.
fn gate(lab: &Lab, inet: &Switch) -> (Machine, Door) {
    let machine = lab.machine("gate").unwrap();
    machine.attach(inet, "192.168.1.251/24", None).unwrap();
    let door = Door::open(&machine, PROXY_PORT, proxy_of_ben);
    (machine, door)
}
