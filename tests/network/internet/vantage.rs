//! A place from where NATs are looked at: two addresses with two ports each, as RFC 5780 wants them, and plain sockets.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use meshnode::lab::{Lab, Machine, Stopwatch};

use super::plan::{Nat, Plan, V6};
use super::{Internet, Site};
use crate::traffic::{arrives, is_lost, listen, receive, seen_from, send, socket, token};

/// The port of everything that is asked here.
pub(crate) const PORT: u16 = 3478;

/// Another one on the same address.
const OTHER_PORT: u16 = 3479;

/// What a NAT looks like from outside.
pub(crate) struct Found {
    pub(crate) mapping: &'static str,
    pub(crate) filtering: &'static str,
    pub(crate) keeps_port: bool,
    pub(crate) ports: Vec<u16>,
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
pub(crate) struct Vantage {
    pub(crate) addresses: [IpAddr; 2],
    /// Address and port; then the other port, then the other address with both.
    pub(crate) sockets: [UdpSocket; 4],
    pub(crate) of_v6: UdpSocket,
    _doors: [TcpListener; 2],
    _machine: Machine,
    _site: Site,
}

impl Vantage {
    pub(crate) fn new(internet: &Internet<'_>, lab: &Lab, v6: V6) -> Self {
        let site = internet.site(
            "vantage",
            Plan {
                v6,
                ..Plan::of(Nat::Public)
            },
        );
        Self::at(site, lab, "watcher")
    }

    pub(crate) fn at(site: Site, lab: &Lab, name: &str) -> Self {
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
    pub(crate) fn mapping(&self, from: &UdpSocket) -> Option<SocketAddr> {
        self.seen_at(from, 0)
    }

    fn seen_at(&self, from: &UdpSocket, vantage: usize) -> Option<SocketAddr> {
        let to = self.sockets[vantage].local_addr().unwrap().to_string();
        seen_from(from, &to, &self.sockets[vantage])
    }

    /// The same, by one packet.
    pub(crate) fn mapping_now(&self, from: &UdpSocket) -> Option<()> {
        let to = self.sockets[0].local_addr().unwrap().to_string();
        (!is_lost(from, &to, &self.sockets[0])).then_some(())
    }

    pub(crate) fn classify(&self, host: &Machine) -> Found {
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
    pub(crate) fn round_trip(&self, inside: &UdpSocket) -> Duration {
        let to = &self.sockets[0];
        let at = to.local_addr().unwrap();
        // Late packets of whatever was before must not be taken for this one.
        let word = token();
        let watch = Stopwatch::start();
        send(inside, &at.to_string(), &word);
        let from = receive(to, &word).expect("a packet comes through");
        send(to, &from.to_string(), &word);
        receive(inside, &word).expect("and back");
        watch.elapsed()
    }

    /// Sends packets; how many arrive, and how long it is from the first that is sent to the last that comes.
    pub(crate) fn burst(
        &self,
        inside: &UdpSocket,
        count: usize,
        bytes: usize,
        pause: Duration,
    ) -> (usize, Duration) {
        let to = &self.sockets[0];
        let at = to.local_addr().unwrap();
        let from = inside.try_clone().unwrap();
        let mut packet = token().into_bytes();
        packet.resize(bytes, b' ');
        let watch = Stopwatch::start();
        let sent = packet.clone();
        let sender = thread::spawn(move || {
            for _ in 0..count {
                from.send_to(&sent, at).unwrap();
                thread::sleep(pause);
            }
        });
        let (mut arrived, mut last) = (0, Duration::ZERO);
        loop {
            let over = sender.is_finished();
            let mut buffer = [0; 2048];
            match to.recv_from(&mut buffer) {
                Ok((length, _)) if buffer[..length] == packet => {
                    arrived += 1;
                    last = watch.elapsed();
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && over => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("receiving fails: {error}"),
            }
        }
        sender.join().unwrap();
        (arrived, last)
    }
}
