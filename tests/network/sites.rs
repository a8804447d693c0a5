//! The sites prove themselves with plain sockets: each kind of NAT is what it says, and every option does what it says.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use meshnode::lab::{Machine, World};

use crate::internet::Internet;
use crate::internet::igd::{self, Speaks};
use crate::internet::plan::{Nat, Plan, V6, WayOut};
use crate::internet::uplinks::Uplink;
use crate::internet::vantage::{PORT, Vantage};
use crate::lab;
use crate::node::{measured, ms};
use crate::traffic::{arrives, is_lost, listen, seen_from, socket};

/// How long a TCP connection may take before it counts as forbidden.
const CONNECT_LIMIT: Duration = Duration::from_millis(400);

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
    let far = internet.site("far", Plan::of(Nat::FullCone));
    let outside = socket(&far.host(&lab, "far-host"), 7000);
    let door = vantage.mapping(&outside).unwrap().to_string();
    internet.part(&far, &cafe);
    assert!(is_lost(&inside, &door, &outside), "no way between the two");
    assert!(
        vantage.mapping_now(&inside).is_some(),
        "and to all others as before"
    );
    internet.unite();
    assert!(arrives(&inside, &door, &outside));
}

pub(crate) fn a_nat_that_counts_is_foreseen(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    for easy in [Nat::PubFw, Nat::Port, Nat::PortRand, Nat::SymSeq] {
        let plans = [("easy", easy), ("hard", Nat::SymSeq)];
        let [ann, ben] = plans.map(|(kind, nat)| {
            let name = format!("{easy}-{kind}");
            let site = internet.site(&name, Plan::of(nat));
            let host = site.host(&lab, &format!("{name}-host"));
            (socket(&host, 7000), site, host)
        });
        let [ours, theirs] = [&ann, &ben].map(|(socket, ..)| vantage.mapping(socket).unwrap());
        // Who does not count has one port for all; who counts has the next one for whom it writes to next.
        let next = |seen: SocketAddr, step| SocketAddr::new(seen.ip(), seen.port() + step);
        for step in 1..=24 {
            let to = if easy == Nat::SymSeq { step } else { 0 };
            ben.0.send_to(b"punch", next(ours, to)).unwrap();
            ann.0.send_to(b"punch", next(theirs, step)).unwrap();
        }
        let came = (0..24).find_map(|_| ben.0.recv_from(&mut [0; 64]).ok());
        let (_, from) = came.unwrap_or_else(|| panic!("{easy}: none of the 24 came"));
        assert!(
            arrives(&ben.0, &from.to_string(), &ann.0),
            "{easy}: and back"
        );
    }
}

pub(crate) fn many_sockets_meet_many_ports(world: &World) {
    /// Sockets behind the NAT whose ports nobody foresees.
    const SOCKETS: usize = 256;
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    for (easy, hard) in [
        (Nat::PubFw, Nat::Sym),
        (Nat::Port, Nat::Sym),
        (Nat::PortRand, Nat::SymAddr),
    ] {
        let name = |side| format!("{easy}-{hard}-{side}");
        let [here, there] = [("here", easy), ("there", hard)]
            .map(|(side, nat)| internet.site(&name(side), Plan::of(nat)));
        let (ann, ben) = (
            here.host(&lab, &name("ann")),
            there.host(&lab, &name("ben")),
        );
        let ann = socket(&ann, 7000);
        let ours = vantage.mapping(&ann).unwrap();
        let many: Vec<UdpSocket> = (0..SOCKETS).map(|_| socket_of_v4(&ben)).collect();
        for one in &many {
            one.set_nonblocking(true).unwrap();
            one.send_to(b"open", ours).unwrap();
        }
        // Ports in an order that knows nothing of the other side: steps by a number without a common divisor.
        let ports = (0..64_512_u32).map(|step| 1024 + step * 40_505 % 64_512);
        let theirs = there.wan();
        let mut met = None;
        for (tries, port) in ports.enumerate() {
            ann.send_to(b"punch", (theirs, u16::try_from(port).unwrap()))
                .unwrap();
            if tries % 64 == 63 {
                thread::sleep(Duration::from_millis(2));
                met = many.iter().find_map(|one| {
                    let (_, from) = one.recv_from(&mut [0; 64]).ok()?;
                    Some((one, from))
                });
            }
            if met.is_some() {
                measured(&format!("ports tried, {easy} x {hard}"), tries + 1);
                break;
            }
        }
        let (one, from) = met.unwrap_or_else(|| panic!("{easy} x {hard}: no socket met"));
        assert!(arrives(one, &from.to_string(), &ann), "and back");
    }
}

pub(crate) fn an_uplink_delays_loses_and_narrows_as_told(world: &World) {
    let lab = lab(world);
    let internet = Internet::new(&lab);
    let vantage = Vantage::new(&internet, &lab, V6::Off);
    let far = Plan {
        uplink: Uplink::of_ms(30),
        ..Plan::of(Nat::Port)
    };
    let site = internet.site("far", far);
    let inside = socket(&site.host(&lab, "host"), 0);
    vantage.mapping(&inside).expect("a way out");
    let trips: Vec<Duration> = (0..10).map(|_| vantage.round_trip(&inside)).collect();
    let fastest = *trips.iter().min().unwrap();
    measured("round trip over an uplink of 30 ms each way", ms(fastest));
    assert!(fastest >= Duration::from_millis(60), "{trips:?}");
    assert!(fastest < Duration::from_millis(100), "{trips:?}");
    internet.set_uplink(
        &site,
        Uplink {
            loss_percent: 30,
            ..Uplink::IDEAL
        },
    );
    let (arrived, _) = vantage.burst(&inside, 400, 100, Duration::from_micros(500));
    measured("of 400 packets over an uplink that loses 30 %", arrived);
    assert!((240..320).contains(&arrived), "{arrived}");
    let jitter_ms = 40;
    internet.set_uplink(
        &site,
        Uplink {
            jitter_ms,
            ..Uplink::IDEAL
        },
    );
    let trips: Vec<Duration> = (0..20).map(|_| vantage.round_trip(&inside)).collect();
    let spread = *trips.iter().max().unwrap() - *trips.iter().min().unwrap();
    assert!(spread >= Duration::from_millis(20), "{trips:?}");
    // A packet of 1028 bytes takes 2056 us; a tenth of a second of them waits, and what is more is lost.
    let narrow = Uplink {
        rate_mbit: Some(4),
        ..Uplink::IDEAL
    };
    internet.set_uplink(&site, narrow);
    let (arrived, took) = vantage.burst(&inside, 200, 1000, Duration::ZERO);
    measured("of 200 kB at once over an uplink of 4 Mbit/s", arrived);
    assert!(arrived >= 48, "{arrived}");
    let at_most = took.as_micros() / 2056 + 1;
    assert!(arrived as u128 <= at_most, "{arrived} in {took:?}");
    internet.set_uplink(&site, Uplink::IDEAL);
    let (arrived, _) = vantage.burst(&inside, 100, 1000, Duration::from_millis(1));
    assert_eq!(arrived, 100);
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
