//! The tunnels, and how each is set up between the two machines.

use std::fmt;
use std::fs;
use std::time::Duration;

use meshnode::lab::{Machine, Process, Stopwatch};

use super::pair::{INSIDE, OUTSIDE, Pair, shell, start, try_shell};

/// How long a product may take until its first packet passes.
const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAM: &str = env!("CARGO_BIN_EXE_meshnode");
const PORT: u16 = 51_820;
/// What a cable of 1500 bytes leaves to WireGuard over IPv6.
const MTU: u16 = 1420;

/// A tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Product {
    Bare,
    Meshnode,
    WireguardGo,
    Boringtun,
    Gotatun,
    Nebula,
    Easytier,
    Tinc,
}

/// A tunnel that carries packets.
pub(crate) struct Running {
    /// The right machine's address inside.
    pub(crate) target: String,
    _processes: Vec<Process>,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Meshnode => "meshnode",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun-cli",
            Self::Gotatun => "gotatun",
            Self::Nebula => "nebula",
            Self::Easytier => "easytier-core",
            Self::Tinc => "tincd",
        })
    }
}

impl Product {
    pub(crate) const ALL: [Self; 8] = [
        Self::Bare,
        Self::Meshnode,
        Self::WireguardGo,
        Self::Boringtun,
        Self::Gotatun,
        Self::Nebula,
        Self::Easytier,
        Self::Tinc,
    ];

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|product| product.to_string() == name);
        found.ok_or_else(|| format!("{name} is no product"))
    }

    /// Whether its program can be started here.
    pub(crate) fn is_there(&self) -> bool {
        let on_path = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        };
        match self {
            Self::Bare | Self::Meshnode => true,
            Self::WireguardGo | Self::Boringtun | Self::Gotatun => {
                on_path(&self.to_string()) && on_path("wg")
            }
            Self::Nebula => on_path("nebula") && on_path("nebula-cert"),
            Self::Easytier | Self::Tinc => on_path(&self.to_string()),
        }
    }

    /// Sets it up and waits until packets pass.
    pub(crate) fn start(self, pair: &Pair) -> Result<Running, String> {
        let (processes, target) = match self {
            Self::Bare => (Vec::new(), OUTSIDE[1].to_owned()),
            Self::Meshnode => meshnode(pair)?,
            Self::WireguardGo => wireguard(pair, "wireguard-go -f"),
            Self::Boringtun => wireguard(pair, "boringtun-cli -f --disable-drop-privileges"),
            Self::Gotatun => wireguard(pair, "gotatun -f --disable-drop-privileges"),
            Self::Nebula => nebula(pair),
            Self::Easytier => easytier(pair),
            Self::Tinc => tinc(pair),
        };
        let watch = Stopwatch::start();
        let ping = format!("ping -n -c 1 -W 1 {target}");
        while !try_shell(pair.left(), &ping).status.success() {
            if watch.elapsed() > PATIENCE {
                let said: String = processes.iter().map(Process::stderr).collect();
                return Err(format!("no packet passes. {said}"));
            }
        }
        Ok(Running {
            target,
            _processes: processes,
        })
    }
}

type Started = (Vec<Process>, String);

fn file(machine: &Machine, name: &str) -> String {
    machine.directory().join(name).display().to_string()
}

fn write(machine: &Machine, name: &str, text: &str) -> String {
    let file = file(machine, name);
    fs::write(&file, text).unwrap();
    file
}

/// Waits for a device, and gives it its address inside.
fn address(machine: &Machine, device: &str, inside: &str) {
    shell(
        machine,
        &format!(
            "until ip link show {device} >/dev/null 2>&1; do sleep 0.05; done; \
             ip addr replace {inside}/24 dev {device} && ip link set {device} mtu {MTU} up"
        ),
    );
}

fn meshnode(pair: &Pair) -> Result<Started, String> {
    let line = |machine: &Machine, words: &str| {
        let (state, socket) = (file(machine, "state"), file(machine, "socket"));
        format!("{PROGRAM} --state-dir {state} --socket {socket} {words}")
    };
    let processes = pair.machines().iter().map(|machine| {
        let process = start(machine, &line(machine, "daemon"));
        let socket = file(machine, "socket");
        shell(
            machine,
            &format!("until [ -S {socket} ]; do sleep 0.02; done"),
        );
        process
    });
    let processes: Vec<_> = processes.collect();
    shell(pair.left(), &line(pair.left(), "init --name bench"));
    let said = shell(pair.left(), &line(pair.left(), "invite"));
    let code = said.split_whitespace().next().ok_or("no code")?;
    shell(pair.right(), &line(pair.right(), &format!("join {code}")));
    let said = shell(pair.right(), &line(pair.right(), "ip"));
    let target = said.split_whitespace().next().ok_or("no address")?;
    Ok((processes, target.to_owned()))
}

fn wireguard(pair: &Pair, program: &str) -> Started {
    // The control sockets are seen by the whole machine.
    let devices = ["l", "r"].map(|end| format!("mb{end}{}", std::process::id()));
    let key = |machine: &Machine| {
        let file = file(machine, "key");
        shell(
            machine,
            &format!("umask 077; wg genkey > {file}; wg pubkey < {file}"),
        )
    };
    let keys = [key(pair.left()), key(pair.right())];
    let mut processes = Vec::new();
    for (end, machine) in pair.machines().iter().enumerate() {
        let (device, other) = (&devices[end], 1 - end);
        processes.push(start(machine, &format!("{program} {device}")));
        address(machine, device, INSIDE[end]);
        shell(
            machine,
            &format!(
                "until wg set {device} listen-port {PORT} private-key {} peer {} allowed-ips {}/32 \
                 endpoint {}:{PORT} 2>/dev/null; do sleep 0.05; done",
                file(machine, "key"),
                keys[other].trim(),
                INSIDE[other],
                OUTSIDE[other],
            ),
        );
    }
    (processes, INSIDE[1].to_owned())
}

fn nebula(pair: &Pair) -> Started {
    let home = pair.left().directory().display().to_string();
    shell(
        pair.left(),
        &format!(
            "cd {home}; nebula-cert ca -name bench; nebula-cert sign -name left -ip {}/24; \
             nebula-cert sign -name right -ip {}/24",
            INSIDE[0], INSIDE[1]
        ),
    );
    let mut processes = Vec::new();
    for (end, machine) in pair.machines().iter().enumerate() {
        let (name, other) = (["left", "right"][end], 1 - end);
        let lighthouse = if end == 0 {
            "am_lighthouse: true".to_owned()
        } else {
            format!("hosts: [\"{}\"]", INSIDE[0])
        };
        let any = "[{port: any, proto: any, host: any}]";
        let config = format!(
            "pki: {{ca: {home}/ca.crt, cert: {home}/{name}.crt, key: {home}/{name}.key}}\n\
             static_host_map: {{\"{}\": [\"{}:4242\"]}}\n\
             lighthouse: {{{lighthouse}}}\n\
             listen: {{host: 0.0.0.0, port: 4242, read_buffer: 10485760, write_buffer: 10485760}}\n\
             punchy: {{punch: false}}\n\
             tun: {{dev: tunnel, mtu: {MTU}, tx_queue: 500}}\n\
             logging: {{level: error}}\n\
             firewall: {{outbound: {any}, inbound: {any}}}\n",
            INSIDE[other], OUTSIDE[other],
        );
        let config = write(machine, "nebula.yml", &config);
        processes.push(start(machine, &format!("nebula -config {config}")));
    }
    (processes, INSIDE[1].to_owned())
}

fn easytier(pair: &Pair) -> Started {
    let mut processes = Vec::new();
    for (end, machine) in pair.machines().iter().enumerate() {
        let peer = if end == 1 {
            format!("-p udp://{}:11010", OUTSIDE[0])
        } else {
            String::new()
        };
        processes.push(start(
            machine,
            &format!(
                "easytier-core --network-name bench --network-secret bench --multi-thread -i {} \
                 -l udp://0.0.0.0:11010 --dev-name tunnel --mtu 1380 -r 127.0.0.1:15888 {peer}",
                INSIDE[end]
            ),
        ));
    }
    (processes, INSIDE[1].to_owned())
}

fn tinc(pair: &Pair) -> Started {
    let names = ["left", "right"];
    for (end, machine) in pair.machines().iter().enumerate() {
        let home = file(machine, "tinc");
        fs::create_dir_all(format!("{home}/hosts")).unwrap();
        let name = names[end];
        let connect = if end == 1 { "ConnectTo=left\n" } else { "" };
        let config = format!("Name={name}\nInterface=tunnel\nAddressFamily=ipv4\n{connect}");
        fs::write(format!("{home}/tinc.conf"), config).unwrap();
        let host = format!("Address={}\nSubnet={}/32\n", OUTSIDE[end], INSIDE[end]);
        fs::write(format!("{home}/hosts/{name}"), host).unwrap();
        shell(machine, &format!("yes '' | tincd -c {home} -K2048"));
    }
    let mut processes = Vec::new();
    for (end, machine) in pair.machines().iter().enumerate() {
        let (home, other) = (file(machine, "tinc"), 1 - end);
        let theirs = file(&pair.machines()[other], "tinc/hosts");
        let name = names[other];
        fs::copy(format!("{theirs}/{name}"), format!("{home}/hosts/{name}")).unwrap();
        let line = format!("tincd -c {home} --pidfile={home}/pid -D");
        processes.push(start(machine, &line));
        address(machine, "tunnel", INSIDE[end]);
    }
    (processes, INSIDE[1].to_owned())
}
