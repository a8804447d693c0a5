//! What a site's router does to packets, as text for `nft`.
//!
//! Endpoint-independent mapping without keeping ports is a hash of the inner socket; per destination, the destination
//! is hashed, too; per socket, the kernel's own `masquerade` takes a port anew. Who may come in through a mapping is a
//! map that the router learns from what goes out. The hash goes through a table of ports, because a number that `nft`
//! computes is in the machine's byte order.

use std::fmt::Write;
use std::net::IpAddr;

use super::plan::{Nat, Plan, V6, WayOut};

/// The router's interfaces.
pub(crate) const WAN: &str = "eth0";
pub(crate) const LAN: &str = "eth1";

/// Ports that hashes choose from, and the first of them.
const PORTS: u32 = 8192;
const FIRST_PORT: u32 = 20_000;

/// How long a mapping of UDP lives without `udp_seconds`: what Linux does for a stream.
const UDP_SECONDS: u32 = 120;

/// Ports that go into one transaction: an ordinary user's socket takes no more than some 200 KB at once.
const PORTS_AT_ONCE: u32 = 2048;

/// How a router translates, as transactions; what it had learned is gone. `wan` is its outer address if it has IPv4,
/// `seed` differs with every loss of memory.
pub(crate) fn translation(plan: &Plan, wan: Option<&str>, seed: u32) -> Vec<String> {
    let mut all = vec![begin("ip nat")];
    let Some(wan) = wan.filter(|_| plan.nat.translates()) else {
        return all;
    };
    let port = port(plan.nat, seed);
    all[0] += &nat(plan, wan, port.as_deref());
    if port.is_some() {
        // Who counts goes on elsewhere after a loss of memory, or yesterday's ports would be good today.
        let begin = if plan.nat == Nat::SymSeq { seed } else { 0 };
        let numbers: Vec<u32> = (0..PORTS).collect();
        all.extend(numbers.chunks(PORTS_AT_ONCE as usize).map(|numbers| {
            let pairs = numbers
                .iter()
                .map(|number| format!("{number} : {}", FIRST_PORT + (begin + number) % PORTS));
            let pairs: Vec<String> = pairs.collect();
            format!("add element ip nat ports {{ {} }}\n", pairs.join(", "))
        }));
    }
    all
}

/// An empty table; made before it is deleted, so that the deletion never fails.
fn begin(table: &str) -> String {
    format!("table {table}\ndelete table {table}\ntable {table}\n")
}

fn nat(plan: &Plan, wan: &str, port: Option<&str>) -> String {
    let udp = match (port, plan.nat) {
        (Some(port), _) => format!("masquerade to :{port}"),
        (None, Nat::Sym) => "masquerade fully-random".to_owned(),
        (None, _) => "masquerade".to_owned(),
    };
    let tcp = if plan.nat == Nat::Sym {
        "masquerade fully-random"
    } else {
        "masquerade"
    };
    let (learn, come_in, back) = holes(plan, wan, port);
    format!(
        "table ip nat {{
            map ports {{
                typeof numgen inc mod {PORTS} : udp dport
            }}
            {learn}
            chain come_in {{
                type nat hook prerouting priority -100
                {come_in}
            }}
            chain go_out {{
                type nat hook postrouting priority 100
                oifname {WAN} meta l4proto udp {udp}
                oifname {WAN} {tcp}
                {back}
            }}
        }}\n"
    )
}

/// The expression that chooses the outer port of a UDP mapping; nothing: the kernel does.
fn port(nat: Nat, seed: u32) -> Option<String> {
    let chosen = match nat {
        Nat::FullCone | Nat::Addr | Nat::PortRand => {
            format!("jhash ip saddr . udp sport mod {PORTS} seed {seed}")
        }
        Nat::SymAddr => format!("jhash ip saddr . udp sport . ip daddr mod {PORTS} seed {seed}"),
        Nat::SymSeq => format!("numgen inc mod {PORTS}"),
        Nat::Public | Nat::PubFw | Nat::Port | Nat::Sym => return None,
    };
    Some(format!("{chosen} map @ports"))
}

/// What lets packets in through a mapping: maps and the chain that fills them, rules on the way in, rules on the way
/// back to the same side.
fn holes(plan: &Plan, wan: &str, port: Option<&str>) -> (String, String, String) {
    let filter = plan.nat;
    let cone = matches!(filter, Nat::FullCone | Nat::Addr);
    if !cone && !plan.hairpin {
        return (String::new(), String::new(), String::new());
    }
    let seconds = plan.udp_seconds.unwrap_or(UDP_SECONDS);
    let map = |name: &str, key: &str| {
        format!(
            "map {name} {{
                type {key} : ipv4_addr . inet_service
                flags timeout,dynamic
                size 65535
                timeout {seconds}s
            }}\n"
        )
    };
    let mut learn = map("holes", "inet_service") + &map("known", "inet_service . ipv4_addr");
    learn += "chain learn {\ntype filter hook postrouting priority 300\n";
    for way in ["original", "reply"] {
        let inner = format!("ct {way} ip saddr . ct {way} proto-src");
        for (map, key) in [("holes", "udp sport"), ("known", "udp sport . ip daddr")] {
            let _ = writeln!(
                learn,
                "oifname {WAN} meta l4proto udp ct direction {way} update @{map} {{ {key} : {inner} }}"
            );
        }
    }
    let _ = writeln!(
        learn,
        "iifname {LAN} oifname {LAN} meta l4proto udp ct status snat ct direction original \
         update @holes {{ udp sport : ct original ip saddr . ct original proto-src }}"
    );
    learn += "}\n";
    let mut come_in = match filter {
        Nat::FullCone => format!("iifname {WAN} meta l4proto udp dnat to udp dport map @holes\n"),
        Nat::Addr => {
            format!("iifname {WAN} meta l4proto udp dnat to udp dport . ip saddr map @known\n")
        }
        Nat::Public
        | Nat::PubFw
        | Nat::Port
        | Nat::PortRand
        | Nat::SymAddr
        | Nat::SymSeq
        | Nat::Sym => String::new(),
    };
    let mut back = String::new();
    if plan.hairpin {
        let _ = writeln!(
            come_in,
            "iifname {LAN} ip daddr {wan} meta l4proto udp dnat to udp dport map @holes"
        );
        let to = port.map_or_else(|| wan.to_owned(), |port| format!("{wan}:{port}"));
        let _ = writeln!(
            back,
            "iifname {LAN} oifname {LAN} ct status dnat meta l4proto udp snat to {to}"
        );
    }
    (learn, come_in, back)
}

/// What a router lets pass at all.
pub(crate) fn gate(plan: &Plan, wan: Option<&str>) -> String {
    let own = wan.map_or_else(String::new, |wan| {
        // Without hairpin: silence, as from most routers.
        format!("iifname {LAN} ip daddr {wan} meta l4proto udp drop")
    });
    let black_hole = if plan.black_hole {
        "icmp type destination-unreachable icmp code 4 drop\nicmpv6 type packet-too-big drop"
    } else {
        ""
    };
    let way_out = way_out(&plan.way_out);
    let open4 = if plan.nat == Nat::Public {
        "meta nfproto ipv4 accept"
    } else {
        ""
    };
    let open6 = match plan.v6 {
        V6::Open => "meta nfproto ipv6 accept",
        V6::Off | V6::Firewalled => "",
    };
    let begin = begin("inet gate");
    format!(
        "{begin}table inet gate {{
            chain input {{
                type filter hook input priority 0
                ct state established,related accept
                meta l4proto {{ icmp, ipv6-icmp }} accept
                iifname {WAN} drop
                {own}
            }}
            chain output {{
                type filter hook output priority 0
                {black_hole}
            }}
            chain forward {{
                type filter hook forward priority 0
                {way_out}
                ct state established,related accept
                ct status dnat accept
                iifname {LAN} accept
                {open4}
                {open6}
                iifname {WAN} drop
            }}
        }}\n"
    )
}

/// Before what is established, so that a change cuts what runs.
fn way_out(way_out: &WayOut) -> String {
    let out = format!("iifname {LAN} oifname {WAN}");
    let only = |hosts: &[IpAddr], ports: &str| {
        let mut text = String::new();
        for host in hosts {
            let family = if host.is_ipv4() { "ip" } else { "ip6" };
            let _ = writeln!(text, "{out} {family} daddr {host} {ports} accept");
        }
        text + &format!("{out} drop")
    };
    match way_out {
        WayOut::All => String::new(),
        WayOut::NoUdp => format!("{out} meta l4proto udp drop"),
        WayOut::Tcp443 => format!("{out} tcp dport 443 accept\n{out} drop"),
        WayOut::Only(hosts) => only(hosts, ""),
        WayOut::Only443(hosts) => only(hosts, "tcp dport 443"),
    }
}
