//! Routers that map ports: a real miniupnpd leads packets from outside to a node, and forgets it when the node stops.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Process, Router as Nat, Stopwatch, Switch, World};
use meshnode::mapping::{Finding, Lease, Mapping, MappingConfig, Method, Report, Router};
use tokio::runtime::{Builder, Runtime};

use crate::lab;
use crate::node::{Node, PATIENCE, agree, carries, eventually, measured, ms, text};

/// What is mapped where there is no daemon; the kernel gives no such port to anybody by itself.
const PORT: u16 = 20_641;
/// Who owns the mappings where there is no daemon.
const NONCE: [u32; 3] = [1, 2, 3];
/// A UPnP search that nobody answers is over after 5 s.
const ASKED: Duration = Duration::from_secs(15);

/// The router's side of the home, and a machine there.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);

pub(crate) fn a_router_with_upnp_alone_leads_packets_here_until_the_end(world: &World) {
    let home = Home::new(lab(world), &["enable_natpmp=no"]);
    let kept = home.keep(NONCE);
    let silent = Finding::Silent;
    home.serves(&kept, Method::Upnp, [silent, silent, Finding::Serves]);
    home.give_back(kept);
}

pub(crate) fn a_router_with_pcp_and_nat_pmp_leads_packets_here_until_the_end(world: &World) {
    let home = Home::new(lab(world), &["enable_upnp=no"]);
    let kept = home.keep(NONCE);
    let serves = Finding::Serves;
    home.serves(&kept, Method::Pcp, [serves, serves, Finding::Silent]);
    home.give_back(kept);
}

pub(crate) fn a_router_with_every_method_maps_once(world: &World) {
    let home = Home::new(lab(world), &[]);
    let kept = home.keep(NONCE);
    home.serves(&kept, Method::Pcp, [Finding::Serves; 3]);
    home.give_back(kept);
}

pub(crate) fn a_router_that_does_not_know_pcp_is_asked_by_nat_pmp(world: &World) {
    let home = Home::new(lab(world), &["enable_upnp=no"]);
    // What begins with version 2 never gets there.
    let deaf = "
        table inet deaf {
            chain input {
                type filter hook input priority -10;
                udp dport 5351 @th,64,8 2 drop
            }
        }
    ";
    nft(home.router.machine(), deaf);
    let kept = home.keep(NONCE);
    let found = [Finding::Silent, Finding::Serves, Finding::Silent];
    home.serves(&kept, Method::NatPmp, found);
    home.give_back(kept);
}

pub(crate) fn a_program_that_was_killed_has_its_mapping_again(world: &World) {
    let home = Home::new(lab(world), &["enable_upnp=no"]);
    // The runtime goes before the task can give anything back.
    let Kept {
        runtime, mapping, ..
    } = home.keep(NONCE);
    drop(runtime);
    drop(mapping);
    assert_eq!(home.mapped_ports(), 2);
    let kept = home.keep(NONCE);
    let serves = Finding::Serves;
    home.serves(&kept, Method::Pcp, [serves, serves, Finding::Silent]);
    home.give_back(kept);
}

pub(crate) fn a_router_within_another_one_maps_nothing(world: &World) {
    let home = Home::at(lab(world), Ipv4Addr::new(192, 168, 0, 2), &[]);
    let kept = home.keep(NONCE);
    assert_eq!(kept.report.lease, None);
    assert_eq!(found(&kept.report), [Finding::Refuses; 3]);
    assert_eq!(home.mapped_ports(), 0);
    home.give_back(kept);
}

pub(crate) fn what_a_router_answers_is_believed_only_where_it_makes_sense(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let router = site(&lab, &inet, "house", [25, 0, 0, 2], 1);
    let machine = machine_behind(&lab, &router, "nas", 1);
    let liar = router.machine().inside(|| {
        let liar = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5351)).unwrap();
        liar.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        liar
    });
    let liar = liar.unwrap();
    let lies = std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        let mut count = 0;
        while let Ok((length, from)) = liar.recv_from(&mut buffer) {
            // NAT-PMP's question for the outer address has two bytes; it gets one of a second home.
            let truth = [0, 128, 0, 0, 0, 0, 0, 1, 192, 168, 0, 2];
            let answer: &[u8] = if length == 2 { &truth } else { &[0x80; 1400] };
            liar.send_to(answer, from).unwrap();
            count += 1;
        }
        count
    });
    let kept = keep(&machine, GATEWAY, NONCE);
    assert_eq!(kept.report.lease, None);
    let inside = Finding::Inside(Ipv4Addr::new(192, 168, 0, 2));
    assert_eq!(
        found(&kept.report),
        [Finding::Silent, inside, Finding::Silent]
    );
    assert!(lies.join().unwrap() >= 2);
}

pub(crate) fn a_upnp_device_that_is_not_the_router_is_not_believed(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let house = site(&lab, &inet, "house", [25, 0, 0, 2], 1);
    let machine = machine_behind(&lab, &house, "nas", 1);
    // It is of this LAN, has an outer side, and would map ports for whoever asks.
    let device = lab.machine("device").unwrap();
    device.attach(house.lan(), "192.168.1.66/24", None).unwrap();
    device.attach(&inet, "25.0.0.66/24", None).unwrap();
    let sides = ["ext_ifname=eth1", "listening_ip=eth0", "enable_natpmp=no"];
    let _maps = serve_mappings(&device, &sides);
    let kept = keep(&machine, GATEWAY, NONCE);
    assert_eq!(found(&kept.report), [Finding::Silent; 3]);
    assert_eq!((kept.report.lease, mapped_ports(&device)), (None, 0));
    drop(kept);
    // Were it the router, it would be.
    let kept = keep(&machine, Ipv4Addr::new(192, 168, 1, 66), NONCE);
    assert_eq!(kept.report.found[&Method::Upnp], Finding::Serves);
    assert_eq!(mapped_ports(&device), 2);
}

pub(crate) fn a_node_behind_a_router_that_maps_is_joined_from_behind_another_nat(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let house = site(&lab, &inet, "house", [25, 0, 0, 2], 1);
    let _maps = serve_mappings(house.machine(), &[]);
    let cabin = site(&lab, &inet, "cabin", [25, 0, 0, 3], 2);
    let mut nas = Node::on(machine_behind(&lab, &house, "nas", 1));
    nas.init("home");
    let port = nas.status()["self"]["port"].as_u64().unwrap();
    // Nobody typed a hint, and no machine of this network has a public address.
    let leads = |nas: &Node, to: &str| {
        let code = nas.invite(&[]);
        code.ends_with(&format!("@{to}:{port}")).then_some(code)
    };
    let mut code = None;
    let watch = Stopwatch::start();
    eventually("a code leads to the mapped port", PATIENCE, || {
        code = leads(&nas, "25.0.0.2");
        code.is_some()
    });
    measured("a founded node has its port mapped", ms(watch.elapsed()));
    let pi = Node::on(machine_behind(&lab, &cabin, "pi", 2));
    pi.join(&code.unwrap());
    eventually("pi reaches nas at its mapping", PATIENCE, || {
        let line = pi.ping("nas");
        line.is_some_and(|line| text(&line, "/path/endpoint") == format!("25.0.0.2:{port}"))
    });
    agree(&[&nas, &pi], 2);
    carries(&pi, &nas);
    carries(&nas, &pi);
    assert_eq!(mapped_ports(house.machine()), 2);
    // It moves, and with it the way in; the router that it left is told if it can be.
    let cafe = site(&lab, &inet, "cafe", [25, 0, 0, 4], 3);
    let _maps_too = serve_mappings(cafe.machine(), &[]);
    nas.machine().detach("eth0").unwrap();
    let there = nas.machine();
    there
        .attach(cafe.lan(), "192.168.3.10/24", Some("192.168.3.1"))
        .unwrap();
    eventually("a code leads to the new router", PATIENCE, || {
        leads(&nas, "25.0.0.4").is_some()
    });
    nas.switch_off();
    assert_eq!(
        mapped_ports(cafe.machine()),
        0,
        "a clean stop gives it back"
    );
}

pub(crate) fn a_node_that_is_told_not_to_asks_no_router(world: &World) {
    let lab = lab(world);
    let inet = lab.switch("inet").unwrap();
    let house = site(&lab, &inet, "house", [25, 0, 0, 2], 1);
    let _maps = serve_mappings(house.machine(), &[]);
    let nas = Node::on(machine_behind(&lab, &house, "nas", 1));
    nas.init("home");
    let maps = |count| {
        let claim = format!("{count} ports are mapped");
        eventually(&claim, PATIENCE, || mapped_ports(house.machine()) == count);
    };
    maps(2);
    nas.run(&["set", "port-mapping=off"]);
    maps(0);
    assert!(!nas.invite(&[]).contains('@'));
    nas.run(&["set", "port-mapping=on"]);
    maps(2);
}

/// A home with a router that maps ports, one machine in it, and one outside.
struct Home {
    machine: Machine,
    stranger: Machine,
    router: Nat,
    wan: Ipv4Addr,
    _maps: Process,
    _lab: Lab,
}

/// A task that keeps a port mapped, and who listens there.
struct Kept {
    runtime: Runtime,
    mapping: Mapping,
    tunnel: UdpSocket,
    control: TcpListener,
    report: Report,
}

impl Home {
    fn new(lab: Lab, options: &[&str]) -> Self {
        Self::at(lab, Ipv4Addr::new(25, 0, 0, 2), options)
    }

    fn at(lab: Lab, wan: Ipv4Addr, options: &[&str]) -> Self {
        let outer = lab.switch("outer").unwrap();
        let router = site(&lab, &outer, "house", wan.octets(), 1);
        let stranger = lab.machine("stranger").unwrap();
        let [a, b, c, _] = wan.octets();
        let address = format!("{a}.{b}.{c}.9/24");
        stranger.attach(&outer, &address, None).unwrap();
        Self {
            machine: machine_behind(&lab, &router, "nas", 1),
            stranger,
            _maps: serve_mappings(router.machine(), options),
            router,
            wan,
            _lab: lab,
        }
    }

    fn keep(&self, nonce: [u32; 3]) -> Kept {
        keep(&self.machine, GATEWAY, nonce)
    }
    /// One mapping by this method, each method with this finding, and a stranger's packets come in by both protocols.
    fn serves(&self, kept: &Kept, method: Method, each: [Finding; 3]) {
        assert_eq!(found(&kept.report), each);
        let outside = SocketAddrV4::new(self.wan, PORT);
        let lease = Lease {
            method,
            tunnel: outside,
            control: Some(outside),
        };
        assert_eq!(kept.report.lease, Some(lease));
        assert_eq!(self.mapped_ports(), 2);
        kept.tunnel.set_read_timeout(Some(PATIENCE)).unwrap();
        let knock = move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(b"unasked", outside).unwrap();
            let stream = TcpStream::connect_timeout(&outside.into(), PATIENCE);
            (stream.unwrap().local_addr().unwrap(), socket)
        };
        let (caller, _socket) = self.stranger.inside(knock).unwrap();
        let mut buffer = [0; 64];
        let (length, source) = kept.tunnel.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"unasked");
        assert_eq!(source.ip(), caller.ip(), "the router hides no sender");
        let accepted: SocketAddr = kept.control.accept().unwrap().1;
        assert_eq!(accepted, caller);
    }

    fn give_back(&self, kept: Kept) {
        let end = move || kept.runtime.block_on(kept.mapping.stop());
        self.machine.inside(end).unwrap();
        assert_eq!(self.mapped_ports(), 0, "the router has forgotten them");
    }

    fn mapped_ports(&self) -> usize {
        mapped_ports(self.router.machine())
    }
}

/// Has a port mapped and waits until every method was tried.
fn keep(machine: &Machine, gateway: Ipv4Addr, nonce: [u32; 3]) -> Kept {
    let begin = move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let tunnel = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        let control = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        let (mapping, report) = runtime.block_on(async {
            let mapping = Mapping::start(MappingConfig {
                port: NonZeroU16::new(PORT).unwrap(),
                nonce,
            });
            mapping.point_at(Some(Router { gateway, own: OWN }));
            let asked = async {
                while mapping.report().found.len() < 3 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let all = tokio::time::timeout(ASKED, asked).await;
            let report = mapping.report();
            assert!(all.is_ok(), "{report:?}");
            (mapping, report)
        });
        Kept {
            runtime,
            mapping,
            tunnel,
            control,
            report,
        }
    };
    machine.inside(begin).unwrap()
}

fn found(report: &Report) -> [Finding; 3] {
    [Method::Pcp, Method::NatPmp, Method::Upnp].map(|method| report.found[&method])
}

fn site(lab: &Lab, inet: &Switch, name: &str, wan: [u8; 4], net: u8) -> Nat {
    let router = lab.router(name);
    let router = router.wan(inet, &format!("{}/24", Ipv4Addr::from(wan)));
    let router = router.lan(&format!("192.168.{net}.1/24")).build().unwrap();
    // What is led in by whatever rule may pass.
    let passes = "insert rule ip lab forward ct status dnat accept";
    nft(router.machine(), passes);
    router
}

fn machine_behind(lab: &Lab, router: &Nat, name: &str, net: u8) -> Machine {
    let machine = lab.machine(name).unwrap();
    let (address, gateway) = (format!("192.168.{net}.10/24"), format!("192.168.{net}.1"));
    machine
        .attach(router.lan(), &address, Some(&gateway))
        .unwrap();
    machine
}

/// What a home router runs: miniupnpd, with tables of its own.
fn serve_mappings(router: &Machine, options: &[&str]) -> Process {
    let tables = "
        table inet upnp {
            chain upnp_forward { }
            chain upnp_in { }
            chain upnp_out { }
            chain forward { type filter hook forward priority -5; jump upnp_forward; }
            chain prerouting { type nat hook prerouting priority -105; jump upnp_in; }
            chain postrouting { type nat hook postrouting priority 95; jump upnp_out; }
        }
    ";
    nft(router, tables);
    let settings = "
        ipv6_disable=yes
        secure_mode=yes
        min_lifetime=60
        max_lifetime=86400
        upnp_table_name=upnp
        upnp_nat_table_name=upnp
        upnp_forward_chain=upnp_forward
        upnp_nat_chain=upnp_in
        upnp_nat_postrouting_chain=upnp_out
        uuid=00000000-0000-4000-8000-000000000001
        allow 1024-65535 0.0.0.0/0 1024-65535
        deny 0-65535 0.0.0.0/0 0-65535
    ";
    let defaults = [
        "enable_upnp=yes",
        "enable_natpmp=yes",
        "ext_ifname=wan",
        "listening_ip=lan",
    ];
    let key = |option: &str| option.split('=').next().unwrap().to_owned();
    let kept = defaults.iter().filter(|default| {
        let same = |option: &&str| key(option) == key(default);
        !options.iter().any(same)
    });
    let lines = settings.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty());
    let all: Vec<&str> = kept.chain(options).copied().chain(lines).collect();
    let file = router.directory().join("miniupnpd.conf");
    std::fs::write(&file, all.join("\n") + "\n").unwrap();
    let program = router.command("miniupnpd").arg("-d").arg("-f").arg(&file);
    let mut process = program
        .arg("-P")
        .arg(router.directory().join("miniupnpd.pid"))
        .start()
        .unwrap();
    eventually("miniupnpd listens", PATIENCE, || {
        let ended = process.wait(Duration::ZERO).unwrap();
        assert!(ended.is_none(), "{}", process.stderr());
        let listens = router.inside(|| {
            let tables = ["/proc/thread-self/net/udp", "/proc/thread-self/net/tcp"];
            // 5351 and 1900 in hexadecimal.
            let text: String = tables.map(|t| std::fs::read_to_string(t).unwrap()).concat();
            text.contains(":14E7 ") || text.contains(":076C ")
        });
        listens.unwrap()
    });
    process
}

fn nft(router: &Machine, rules: &str) {
    let file = router.directory().join("rules.nft");
    std::fs::write(&file, rules).unwrap();
    let program = router.command("nft").arg("-f").arg(&file);
    let ended = program.output(PATIENCE).unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
}

/// How many ports the router leads in, of either protocol.
fn mapped_ports(router: &Machine) -> usize {
    let nft = router
        .command("nft")
        .args(["list", "chain", "inet", "upnp", "upnp_in"]);
    let ended = nft.output(PATIENCE).unwrap();
    assert!(ended.status.success(), "{}", ended.stderr);
    ended.stdout.matches("dnat").count()
}
