//! The sites prove themselves with plain sockets: each kind of NAT is what it says, and every option does what it says.

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Stopwatch, World};

use crate::internet::igd::{self, Speaks};
use crate::internet::lines::Line;
use crate::internet::plan::{Nat, Plan, V6, WayOut};
use crate::internet::{Internet, Site};
use crate::lab;
use crate::node::{measured, ms};
use crate::traffic::{arrives, is_lost, listen, seen_from, socket};

/// How long a TCP connection may take before it counts as forbidden.
const CONNECT_LIMIT: Duration = Duration::from_millis(400);

/// The port of everything that is asked here.
const PORT: u16 = 3478;

/// Another one on the same address.
const OTHER_PORT: u16 = 3479;

pub(crate) fn each_kind_of_nat_is_what_it_says(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    for nat in Nat::ALL {
        let name = nat.to_string();
        let site = internet.site(&name, Plan::of(nat));
        let host = site.host(&lab, &format!("{name}-host"));
        let found = vantage.classify(&host);
        measured(&format!("{name}, seen from outside"), &found);
        assert_eq!(
            (found.mapping, found.filtering),
            said(nat),
            "{name}: {found}"
        );
        let keeps = matches!(nat, Nat::Public | Nat::PubFw | Nat::Port);
        assert_eq!(found.keeps_port, keeps, "{name}: {found}");
        if nat == Nat::SymSeq {
            let steps = found
                .ports
                .windows(2)
                .map(|two| two[1].wrapping_sub(two[0]));
            let steps: Vec<u16> = steps.collect();
            assert_eq!(steps, [1, 1, 1], "{name}: {found}");
        }
    }
}

/// Mapping and filtering by the book.
const fn said(nat: Nat) -> (&'static str, &'static str) {
    match nat {
        Nat::Public => ("none", "EIF"),
        Nat::PubFw => ("none", "APDF"),
        Nat::FullCone => ("EIM", "EIF"),
        Nat::Addr => ("EIM", "ADF"),
        Nat::Port | Nat::PortRand => ("EIM", "APDF"),
        Nat::SymAddr => ("ADM", "APDF"),
        Nat::SymSeq | Nat::Sym => ("APDM", "APDF"),
    }
}

pub(crate) fn a_mapping_is_reached_from_inside_only_with_hairpin(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    for nat in [Nat::FullCone, Nat::Port, Nat::PortRand, Nat::Sym] {
        for hairpin in [false, true] {
            let name = format!("{nat}-{hairpin}");
            let site = internet.site(
                &name,
                Plan {
                    hairpin,
                    ..Plan::of(nat)
                },
            );
            let hosts = ["x", "y"].map(|host| site.host(&lab, &format!("{name}-{host}")));
            let [from, to] =
                [(&hosts[0], 7000), (&hosts[1], 7001)].map(|(host, port)| socket(host, port));
            let mapped = vantage.mapping(&to).expect("a way out").to_string();
            let seen = if hairpin {
                seen_from(&from, &mapped, &to)
            } else {
                assert!(is_lost(&from, &mapped, &to), "{name}");
                None
            };
            let outside = seen.map(|seen| seen.ip());
            assert_eq!(outside, hairpin.then(|| site.wan()), "{name}");
        }
    }
}

pub(crate) fn only_what_may_leave_a_site_leaves_it(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    let other = internet.site("other", Plan::of(Nat::Public));
    let other = Vantage::at(other, &lab, "elsewhere");
    let site = internet.site("site", Plan::of(Nat::Port));
    let host = site.host(&lab, "host");
    // UDP, TCP 443 and TCP 80 of the one, TCP 443 of the other.
    let passes = || {
        let from = socket(&host, 0);
        let udp = vantage.mapping_now(&from).is_some();
        let tcp = |to: &Vantage, port| connects(&host, SocketAddr::new(to.addresses[0], port));
        [udp, tcp(&vantage, 443), tcp(&vantage, 80), tcp(&other, 443)]
    };
    let only = vec![vantage.addresses[0]];
    for (way_out, expected) in [
        (WayOut::All, [true, true, true, true]),
        (WayOut::NoUdp, [false, true, true, true]),
        (WayOut::Tcp443, [false, true, false, true]),
        (WayOut::Only(only.clone()), [true, true, true, false]),
        (WayOut::Only443(only), [false, true, false, false]),
        (WayOut::Only(Vec::new()), [false, false, false, false]),
        (WayOut::All, [true, true, true, true]),
    ] {
        site.change(|plan| plan.way_out = way_out.clone());
        assert_eq!(passes(), expected, "{way_out:?}");
    }
}

pub(crate) fn two_nats_in_a_row_count_as_the_stricter(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    let carrier = |nat| Plan {
        lan: Some([100, 64, 1]),
        ..Plan::of(nat)
    };
    for (name, nat, mapping) in [("cgn", Nat::PortRand, "EIM"), ("hard", Nat::Sym, "APDM")] {
        let isp = internet.site(name, carrier(nat));
        let home = internet.site_behind(&isp, &format!("{name}-home"), Plan::of(Nat::Port));
        assert!(home.wan().to_string().starts_with("100.64.1."));
        let found = vantage.classify(&home.host(&lab, &format!("{name}-host")));
        assert_eq!(
            (found.mapping, found.filtering),
            (mapping, "APDF"),
            "{found}"
        );
    }
}

pub(crate) fn ipv6_needs_no_nat_and_passes_as_the_site_says(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Open);
    let outside = &vantage.of_v6;
    let at = outside.local_addr().unwrap().to_string();
    for (name, v4, v6) in [
        ("open", true, V6::Open),
        ("walled", true, V6::Firewalled),
        ("alone", false, V6::Firewalled),
    ] {
        let site = internet.site(
            name,
            Plan {
                v4,
                v6,
                ..Plan::of(Nat::Port)
            },
        );
        let machine = lab.machine(&format!("{name}-host")).unwrap();
        let own = site.connect(&machine).pop().expect("IPv6 comes last");
        let bind = move || UdpSocket::bind((own, PORT)).unwrap();
        let inside = machine.inside(bind).unwrap();
        listen(&inside);
        let own = SocketAddr::new(own, PORT);
        // A door that is open is open before anybody knocked from inside.
        if v6 == V6::Open {
            assert!(arrives(outside, &own.to_string(), &inside), "{name}");
        } else {
            assert!(is_lost(outside, &own.to_string(), &inside), "{name}");
        }
        assert_eq!(seen_from(&inside, &at, outside), Some(own), "{name}");
        assert!(
            arrives(outside, &own.to_string(), &inside),
            "{name}: an answer"
        );
        let any = socket_of_v4(&machine).send_to(b"x", (vantage.addresses[0], PORT));
        assert_eq!(any.is_ok(), v4, "{name}");
    }
}

pub(crate) fn mappings_end_when_they_should(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    let short = Plan {
        udp_seconds: Some(1),
        ..Plan::of(Nat::Port)
    };
    let sites = [
        internet.site("short", short),
        internet.site("long", Plan::of(Nat::Port)),
    ];
    let sockets = [0, 1].map(|at| socket(&sites[at].host(&lab, &format!("host{at}")), 7000));
    let mapped = [0, 1].map(|at: usize| vantage.mapping(&sockets[at]).unwrap().to_string());
    thread::sleep(Duration::from_millis(2_500));
    assert!(
        is_lost(&vantage.sockets[0], &mapped[0], &sockets[0]),
        "forgotten"
    );
    assert!(
        arrives(&vantage.sockets[0], &mapped[1], &sockets[1]),
        "kept"
    );
    // Whatever makes a router forget gives new mappings other ports, where ports are not kept.
    for nat in [Nat::PortRand, Nat::SymSeq] {
        let site = internet.site(&format!("{nat}"), Plan::of(nat));
        let inside = socket(&site.host(&lab, &format!("{nat}-host")), 7000);
        let mut seen = BTreeSet::from([vantage.mapping(&inside).unwrap()]);
        site.forget();
        seen.insert(vantage.mapping(&inside).unwrap());
        site.reboot(Duration::from_millis(100));
        seen.insert(vantage.mapping(&inside).unwrap());
        site.unplug();
        assert!(vantage.mapping_now(&inside).is_none(), "no provider");
        site.plug();
        let address = site.renumber();
        let last = vantage.mapping(&inside).unwrap();
        assert_eq!(last.ip(), address);
        seen.insert(last);
        assert_eq!(seen.len(), 4, "{seen:?}");
    }
}

pub(crate) fn a_machine_moves_to_another_site_with_its_sockets(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    // Two homes with one network: nobody outside can tell, nobody inside meets the other.
    let same = Plan {
        lan: Some([192, 168, 1]),
        ..Plan::of(Nat::Port)
    };
    let (home, cafe) = (
        internet.site("home", same.clone()),
        internet.site("cafe", same),
    );
    let (roamer, other) = (home.host(&lab, "roamer"), cafe.host(&lab, "other"));
    let (inside, stranger) = (socket(&roamer, 7000), socket(&other, 7000));
    assert_eq!(vantage.mapping(&inside).unwrap().ip(), home.wan());
    assert_eq!(vantage.mapping(&stranger).unwrap().ip(), cafe.wan());
    assert!(
        is_lost(&stranger, "192.168.1.11:7000", &inside),
        "another LAN"
    );
    assert_eq!(
        home.take_in(&roamer),
        ["192.168.1.11".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(vantage.mapping(&inside).unwrap().ip(), home.wan());
    assert_eq!(
        cafe.take_in(&roamer),
        ["192.168.1.11".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(vantage.mapping(&inside).unwrap().ip(), cafe.wan());
    assert!(
        arrives(&stranger, "192.168.1.11:7000", &inside),
        "the same LAN now"
    );
}

pub(crate) fn a_line_delays_loses_and_narrows_as_told(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    let far = Plan {
        line: Line::of_ms(30),
        ..Plan::of(Nat::Port)
    };
    let site = internet.site("far", far);
    let inside = socket(&site.host(&lab, "host"), 0);
    vantage.mapping(&inside).expect("a way out");
    let trips: Vec<Duration> = (0..10).map(|_| vantage.round_trip(&inside)).collect();
    let fastest = *trips.iter().min().unwrap();
    measured("round trip over a line of 30 ms each way", ms(fastest));
    assert!(fastest >= Duration::from_millis(60), "{trips:?}");
    assert!(fastest < Duration::from_millis(75), "{trips:?}");
    internet.set_line(
        &site,
        Line {
            loss_percent: 30,
            ..Line::IDEAL
        },
    );
    let arrived = vantage.burst(&inside, 400, 100, Duration::from_micros(500));
    measured("of 400 packets over a line that loses 30 %", arrived);
    assert!((240..320).contains(&arrived), "{arrived}");
    // 200 packets of 1000 bytes are 1.6 Mbit and more; what does not fit into a tenth of a second is lost.
    internet.set_line(
        &site,
        Line {
            rate_mbit: Some(4),
            ..Line::IDEAL
        },
    );
    let arrived = vantage.burst(&inside, 200, 1000, Duration::ZERO);
    measured("of 200 kB at once over a line of 4 Mbit/s", arrived);
    assert!((40..80).contains(&arrived), "{arrived}");
    internet.set_line(&site, Line::IDEAL);
    assert_eq!(
        vantage.burst(&inside, 100, 1000, Duration::from_millis(1)),
        100
    );
}

pub(crate) fn a_narrow_link_says_so_unless_it_is_a_black_hole(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    for (name, black_hole) in [("honest", false), ("silent", true)] {
        let plan = Plan {
            mtu: Some(1400),
            black_hole,
            ..Plan::of(Nat::Port)
        };
        let site = internet.site(name, plan);
        let host = site.host(&lab, &format!("{name}-host"));
        let to = vantage.addresses[0].to_string();
        let ping = |bytes: &str| {
            let words = ["-c", "1", "-W", "1", "-M", "do", "-s", bytes, &to];
            let ended = host
                .command("ping")
                .args(words)
                .output(Duration::from_secs(5));
            ended.unwrap()
        };
        // 28 bytes of headers come on top.
        assert!(ping("1372").status.success(), "{name}");
        let said = ping("1373");
        assert!(!said.status.success(), "{name}");
        let told = (said.stdout + &said.stderr).contains("mtu");
        assert_eq!(told, !black_hole, "{name}");
    }
}

pub(crate) fn a_router_that_maps_ports_lets_strangers_in(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    let site = internet.site("home", Plan::of(Nat::Sym));
    let _igd = igd::serve_site(&site, Speaks::All);
    let inside = socket(&site.host(&lab, "host"), 7000);
    let gateway = site.network().replace(".0/24", ".1");
    let answer = ask_for_port(&inside, &gateway, 7000, 17_000);
    // RFC 6886 §3.3: version, 128 + what was asked, no error; then when, which port inside, which outside.
    assert_eq!(answer[..4], [0, 129, 0, 0], "{answer:?}");
    assert_eq!(answer[8..12], [27, 88, 66, 104], "{answer:?}");
    let mapped = SocketAddr::new(site.wan(), 17_000).to_string();
    assert!(arrives(&vantage.sockets[3], &mapped, &inside));
    // A router that speaks the other protocol only does not answer this one.
    let other = internet.site("other", Plan::of(Nat::Port));
    let _igd = igd::serve_site(&other, Speaks::Igd);
    let inside = socket(&other.host(&lab, "other-host"), 7000);
    inside
        .connect((other.network().replace(".0/24", ".1"), 5351))
        .unwrap();
    // Refused, or lost.
    let _ = inside.send(&[0; 2]);
    assert!(inside.recv(&mut [0; 16]).is_err());
}

/// NAT-PMP: map UDP `inner` to `outer` for an hour.
fn ask_for_port(from: &UdpSocket, gateway: &str, inner: u16, outer: u16) -> Vec<u8> {
    let mut question = vec![0, 1, 0, 0];
    question.extend(inner.to_be_bytes());
    question.extend(outer.to_be_bytes());
    question.extend(3600_u32.to_be_bytes());
    from.send_to(&question, (gateway, 5351)).unwrap();
    let mut answer = vec![0; 16];
    let (length, _) = from
        .recv_from(&mut answer)
        .expect("an answer of the router");
    answer.truncate(length);
    answer
}

fn socket_of_v4(machine: &Machine) -> UdpSocket {
    machine
        .inside(|| UdpSocket::bind("0.0.0.0:0"))
        .unwrap()
        .unwrap()
}

fn connects(machine: &Machine, to: SocketAddr) -> bool {
    let connect = move || TcpStream::connect_timeout(&to, CONNECT_LIMIT);
    machine.inside(connect).unwrap().is_ok()
}

/// What a NAT looks like from outside.
struct Found {
    mapping: &'static str,
    filtering: &'static str,
    keeps_port: bool,
    ports: Vec<u16>,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mapping,
            filtering,
            keeps_port,
            ports,
        } = self;
        write!(
            out,
            "mapping {mapping}, filtering {filtering}, keeps ports {keeps_port}, {ports:?}"
        )
    }
}

/// A public machine with two addresses and two ports on each, from where NATs are looked at.
struct Vantage {
    addresses: [IpAddr; 2],
    /// Address and port; then the other port, then the other address with both.
    sockets: [UdpSocket; 4],
    of_v6: UdpSocket,
    _doors: [TcpListener; 2],
    _machine: Machine,
    _site: Site,
}

impl Vantage {
    fn new(internet: &Internet<'_>, lab: &Lab, v6: V6) -> Self {
        let site = internet.site(
            "vantage",
            Plan {
                v6,
                ..Plan::of(Nat::Public)
            },
        );
        Self::at(site, lab, "watcher")
    }

    fn at(site: Site, lab: &Lab, name: &str) -> Self {
        let machine = lab.machine(name).unwrap();
        let own = site.connect(&machine);
        let IpAddr::V4(first) = own[0] else {
            panic!("IPv4 comes first");
        };
        let [a, b, c, d] = first.octets();
        let second = IpAddr::from([a, b, c, d + 100]);
        machine
            .add_address("eth0", &format!("{second}/24"))
            .unwrap();
        let addresses = [own[0], second];
        let bind = |address: IpAddr, port| {
            let bound = machine
                .inside(move || UdpSocket::bind((address, port)).unwrap())
                .unwrap();
            listen(&bound);
            bound
        };
        let [one, other] = addresses;
        let last = own.last().copied().expect("an address");
        let v6 = if last.is_ipv6() {
            (last, PORT)
        } else {
            (IpAddr::from([0; 16]), 0)
        };
        let door = |port| {
            machine
                .inside(move || TcpListener::bind((one, port)).unwrap())
                .unwrap()
        };
        Self {
            addresses,
            sockets: [
                bind(one, PORT),
                bind(one, OTHER_PORT),
                bind(other, PORT),
                bind(other, OTHER_PORT),
            ],
            of_v6: bind(v6.0, v6.1),
            _doors: [door(443), door(80)],
            _machine: machine,
            _site: site,
        }
    }

    /// As whom a socket is seen here.
    fn mapping(&self, from: &UdpSocket) -> Option<SocketAddr> {
        self.seen_at(from, 0)
    }

    fn seen_at(&self, from: &UdpSocket, vantage: usize) -> Option<SocketAddr> {
        let to = self.sockets[vantage].local_addr().unwrap().to_string();
        seen_from(from, &to, &self.sockets[vantage])
    }

    /// The same, by one packet.
    fn mapping_now(&self, from: &UdpSocket) -> Option<()> {
        let to = self.sockets[0].local_addr().unwrap().to_string();
        (!is_lost(from, &to, &self.sockets[0])).then_some(())
    }

    fn classify(&self, host: &Machine) -> Found {
        let inside = socket(host, 7000);
        let seen: Vec<SocketAddr> = (0..4).filter_map(|at| self.seen_at(&inside, at)).collect();
        assert_eq!(seen.len(), 4, "a way out to everywhere");
        let ports: Vec<u16> = seen.iter().map(SocketAddr::port).collect();
        let same_by_address = ports[0] == ports[1] && ports[2] == ports[3];
        let local = host
            .inside(move || UdpSocket::bind((seen[0].ip(), 0)).is_ok())
            .unwrap();
        let mapping = match (same_by_address, ports[0] == ports[2]) {
            _ if local => "none",
            (true, true) => "EIM",
            (true, false) => "ADM",
            (false, _) => "APDM",
        };
        // Another socket, which has written to one place only.
        let fresh = socket(host, 7001);
        let mapped = self.mapping(&fresh).expect("a way out").to_string();
        let filtering = if !is_lost(&self.sockets[3], &mapped, &fresh) {
            "EIF"
        } else if !is_lost(&self.sockets[1], &mapped, &fresh) {
            "ADF"
        } else {
            "APDF"
        };
        assert!(
            arrives(&self.sockets[0], &mapped, &fresh),
            "an answer comes in"
        );
        Found {
            mapping,
            filtering,
            keeps_port: ports.iter().all(|port| *port == 7000),
            ports,
        }
    }

    /// How long a packet takes to here and back.
    fn round_trip(&self, inside: &UdpSocket) -> Duration {
        let to = &self.sockets[0];
        let mut buffer = [0; 64];
        let watch = Stopwatch::start();
        inside.send_to(b"there", to.local_addr().unwrap()).unwrap();
        let (length, from) = to.recv_from(&mut buffer).unwrap();
        to.send_to(&buffer[..length], from).unwrap();
        inside.recv_from(&mut buffer).unwrap();
        watch.elapsed()
    }

    /// Sends packets; how many arrive.
    fn burst(&self, inside: &UdpSocket, count: usize, bytes: usize, pause: Duration) -> usize {
        let to = &self.sockets[0];
        let at = to.local_addr().unwrap();
        let from = inside.try_clone().unwrap();
        let sender = thread::spawn(move || {
            for _ in 0..count {
                from.send_to(&vec![7; bytes], at).unwrap();
                thread::sleep(pause);
            }
        });
        let mut arrived = 0;
        loop {
            match to.recv_from(&mut [0; 2048]) {
                Ok(_) => arrived += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("receiving fails: {error}"),
            }
        }
        sender.join().unwrap();
        arrived
    }
}
