//! A node with its adapters: what happens outside becomes its inputs, its outputs happen outside, in their order.

mod opening;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use meshnode_protocol::access::Filter;
use meshnode_protocol::id::WireGuardKey;
use meshnode_protocol::io::{CarryTerms, CommandId, Input, Interface, Mapped, Output, Reply};
use meshnode_protocol::link::{CallError, CallId, LinkInput, LinkOutput};
use meshnode_protocol::node::Node;
use meshnode_protocol::peering::{Path, PeerChange, PeerConfig, TunnelInput};
use meshnode_protocol::record::Transport;
use meshnode_protocol::relay::exchange::Report;
use tokio::sync::mpsc;
use tokio::task::block_in_place;

use self::opening::{carry, open_tunnel, port_failure};
use super::withheld::Withheld;
use super::{notices, roads, sleep_until_ms};
use crate::carrier::Carrier;
use crate::clock::Clock;
use crate::config::DaemonConfig;
use crate::control::netcheck::{MethodReport, RouterReport};
use crate::endpoints::Changes;
use crate::failure::{Exit, Failure};
use crate::host::Host;
use crate::mapping::{Finding, Mapping, MappingConfig, Router};
use crate::store::{SledStore, Store as _};
use crate::swarm::{Swarm, SwarmConfig, Travelled};
use crate::tunnel::Tunnel;

/// Inputs that may wait for the loop; a fuller queue slows the links down and drops the engine's reports.
const QUEUE: usize = 1024;
/// Bytes of the largest packet inside the tunnel, where the path is proven to carry it: fills an Ethernet frame over
/// either family. The engine makes those of a TCP stream shorter for other paths, and answers the rest.
const MTU: u16 = 1420;

/// A node and everything it acts through.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) node: Node,
    swarm: Swarm,
    links: mpsc::Receiver<LinkInput>,
    tunnel: Option<Tunnel>,
    tun_name: String,
    port: u16,
    reports: mpsc::Receiver<TunnelInput>,
    reporter: mpsc::Sender<TunnelInput>,
    /// Between the engine, also one that comes later, and the links.
    carrier: Carrier,
    host: Host,
    changes: Changes,
    /// None when a person does not want it.
    mapping: Option<Mapping>,
    peers: BTreeMap<WireGuardKey, PeerConfig>,
    /// The path of each peer, and how long a packet passes on it, if more is known than what passes on every one.
    paths: BTreeMap<WireGuardKey, (Path, Option<u16>)>,
    /// What the engine lets through, also an engine that comes later.
    filter: Arc<Filter>,
    /// The same of relays, of what is carried for others, and of sockets.
    relays: Vec<SocketAddr>,
    carry: Option<CarryTerms>,
    extras: Vec<u16>,
    /// The device should be there and is not.
    lost: bool,
    interface: Option<Interface>,
    /// Questions that were not asked for want of a disk; they end as if their connection had broken.
    unasked: VecDeque<CallId>,
}

/// What happened outside.
#[derive(Debug)]
pub(super) enum Event {
    /// An input for the node.
    Input(Input),
    /// The machine's addresses may have changed.
    InterfacesChanged,
}

/// What carrying out the outputs leaves to the loop.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// For the callers.
    pub(super) replies: Vec<(CommandId, Reply)>,
    /// The membership is over.
    pub(super) erase: bool,
    /// The disk refused a write.
    pub(super) disk: bool,
}

impl Machine {
    /// Opens the device, the sockets and the links for a node.
    pub(super) async fn start(
        node: Node,
        config: &DaemonConfig,
        port: u16,
    ) -> Result<Self, Failure> {
        let (reporter, reports) = mpsc::channel(QUEUE);
        let (link_events, links) = mpsc::channel(QUEUE);
        let carrier = Carrier::new()
            .map_err(|error| Failure::new(Exit::Refused, "carrier", error.to_string()))?;
        let name = config.settings.tun_name();
        let tunnel = open_tunnel(&node, &name, port, &reporter, &carrier)?;
        let seed = node.danger_transport_seed();
        let mapping = config.settings.port_mapping();
        let mapping = mapping.then(|| NonZeroU16::new(port)).flatten();
        let mapping = mapping.map(|port| Mapping::start(mapping_config(port, &seed)));
        let swarm = Swarm::start(
            SwarmConfig {
                seed,
                port,
                mdns: config.settings.mdns(),
                carrier: carrier.clone(),
                certificate: roads::certificate(&config.state_dir)?,
                proxy: roads::proxy(&config.settings),
            },
            link_events,
        );
        let swarm = swarm.map_err(|error| port_failure(port, &error))?;
        let broken =
            |error: anyhow::Error| Failure::new(Exit::Refused, "netlink", format!("{error:#}"));
        let mut machine = Self {
            node,
            swarm,
            links,
            tun_name: tunnel.device().to_owned(),
            tunnel: Some(tunnel),
            port,
            reports,
            reporter,
            carrier,
            host: Host::open().map_err(broken)?,
            changes: Changes::watch().map_err(broken)?,
            mapping,
            peers: BTreeMap::new(),
            paths: BTreeMap::new(),
            filter: Arc::new(Filter::Open),
            relays: Vec::new(),
            carry: None,
            extras: Vec::new(),
            lost: false,
            interface: None,
            unasked: VecDeque::new(),
        };
        machine.point_mapping().await;
        let addresses = machine.addresses().await;
        machine
            .node
            .handle(Input::Interfaces(addresses), Clock::new().now());
        Ok(machine)
    }

    /// The next thing that happens outside. May be dropped and called again without loss.
    pub(super) async fn event(&mut self, clock: &Clock) -> Event {
        if let Some(call) = self.unasked.pop_front() {
            let (link, result) = (None, Err(CallError::Broken));
            return Event::Input(Input::Link(LinkInput::Answered { call, link, result }));
        }
        let due = self.node.poll_timeout();
        tokio::select! {
            Some(input) = self.links.recv() => Event::Input(Input::Link(input)),
            Some(input) = self.reports.recv() => Event::Input(Input::Tunnel(input)),
            Some(()) = self.changes.next() => Event::InterfacesChanged,
            Some(mapped) = mapped(&mut self.mapping) => Event::Input(Input::Mapped(mapped)),
            () = sleep_until_ms(due, clock) => Event::Input(Input::Timeout),
        }
    }

    /// The machine's addresses without the overlay's.
    pub(super) async fn addresses(&self) -> Vec<IpAddr> {
        match self.host.addresses(&[self.tun_name.as_str()]).await {
            Ok(addresses) => addresses,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the machine's addresses are unknown"
                );
                Vec::new()
            }
        }
    }

    /// Has the ports mapped at the router that leads to the world now, as long as the engine is there to be reached.
    pub(super) async fn point_mapping(&self) {
        let Some(mapping) = &self.mapping else { return };
        let gateway = if self.tunnel.is_some() {
            self.host.gateway().await
        } else {
            Ok(None)
        };
        match gateway {
            Ok(gateway) => mapping.point_at(gateway.map(|gateway| Router {
                gateway: gateway.router,
                own: gateway.own,
            })),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the router is unknown");
            }
        }
    }

    /// Carries out everything that the node wants now, in order.
    pub(super) async fn carry(&mut self, store: &mut SledStore, clock: &Clock) -> Carried {
        let mut carried = Carried::default();
        let mut withheld = Withheld::default();
        while let Some(output) = self.node.poll_output() {
            let Some(output) = withheld.sift(output) else {
                continue;
            };
            match output {
                Output::Persist { writes, flush } => {
                    if let Err(error) = block_in_place(|| store.write(&writes, flush)) {
                        tracing::error!(%error, "the disk does not take what must be kept");
                        carried.disk = true;
                        withheld.fail(error.to_string());
                        let input = Input::PersistFailed(error.to_string());
                        self.node.handle(input, clock.now());
                    }
                }
                Output::Link(output) => {
                    self.open_way(&output);
                    self.swarm.act(output);
                }
                Output::Peer(change) => self.on_peer(change).await,
                Output::Datagram { path, bytes } => {
                    if let Some(tunnel) = &self.tunnel {
                        tunnel.send(path, &bytes);
                    }
                }
                Output::Relays(relays) => {
                    self.relays.clone_from(&relays);
                    if let Some(tunnel) = &self.tunnel {
                        tunnel.relays(relays);
                    }
                }
                Output::Carry(terms) => {
                    self.carry.clone_from(&terms);
                    if let Some(tunnel) = &self.tunnel {
                        carry(tunnel, terms);
                    }
                }
                Output::Sockets(extras) => {
                    if let Some(tunnel) = &self.tunnel {
                        tunnel.sockets(&extras);
                    }
                    self.extras = extras;
                }
                Output::Interface(interface) => self.on_interface(interface).await,
                Output::Filter(filter) => {
                    self.filter = Arc::clone(&filter);
                    if let Some(tunnel) = &self.tunnel {
                        block_in_place(|| tunnel.filter(filter));
                    }
                }
                Output::TunnelKey => self.on_tunnel_key(),
                Output::Reply(id, reply) => carried.replies.push((id, reply)),
                Output::Notice(notice) => notices::log(&notice),
                Output::Erase => carried.erase = true,
            }
        }
        self.unasked.extend(withheld.into_unasked());
        carried
    }

    /// The control plane calls members through the tunnel too: the engine learns where, before the first packet.
    fn open_way(&self, output: &LinkOutput) {
        if let (LinkOutput::Dial { addresses, .. }, Some(tunnel)) = (output, &self.tunnel) {
            let tcp = addresses.iter().filter(|a| a.transport == Transport::Tcp);
            tcp.for_each(|control| tunnel.calls(control.address));
        }
    }

    async fn on_peer(&mut self, change: PeerChange) {
        match &change {
            PeerChange::Set(config) => {
                let before = self.peers.insert(config.key, config.clone());
                let before = before.map(|config| config.allowed_ips).unwrap_or_default();
                self.unroute(before.iter().filter(|ip| !config.allowed_ips.contains(ip)))
                    .await;
                self.route(&config.allowed_ips).await;
            }
            PeerChange::Remove(key) => {
                self.paths.remove(key);
                if let Some(config) = self.peers.remove(key) {
                    self.unroute(config.allowed_ips.iter()).await;
                }
            }
            PeerChange::Path(key, Some(path)) => {
                self.paths.insert(*key, (*path, None));
            }
            PeerChange::Mtu(key, bytes) => {
                if let Some((_, mtu)) = self.paths.get_mut(key) {
                    *mtu = Some(*bytes);
                }
            }
            PeerChange::Path(key, None) => {
                self.paths.remove(key);
            }
        }
        if let Some(tunnel) = &self.tunnel {
            tunnel.apply(change);
        }
    }

    async fn route(&self, hosts: &[IpAddr]) {
        if self.interface.is_none() {
            return;
        }
        for host in hosts {
            if let Err(error) = self.host.route_add(&self.tun_name, *host).await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a peer's address has no route"
                );
            }
        }
    }

    async fn unroute(&self, hosts: impl Iterator<Item = &IpAddr>) {
        for host in hosts {
            if let Err(error) = self.host.route_remove(&self.tun_name, *host).await {
                tracing::debug!(error = format!("{error:#}"), "a route was gone already");
            }
        }
    }

    async fn on_interface(&mut self, interface: Option<Interface>) {
        self.interface.clone_from(&interface);
        let Some(interface) = interface else {
            // The device goes, and its addresses and routes with it.
            self.lost = false;
            if let Some(tunnel) = self.tunnel.take() {
                block_in_place(|| tunnel.stop());
            }
            self.point_mapping().await;
            return;
        };
        if self.tunnel.is_none()
            && let Err(failure) = self.reopen()
        {
            tracing::error!(error = failure.text, "the device cannot be made");
            self.lost = true;
            return;
        }
        self.equip(&interface).await;
        self.point_mapping().await;
    }

    /// The engine goes on under the node's new key; its peers are set again after this, their routes stay.
    fn on_tunnel_key(&mut self) {
        self.paths.clear();
        let Some(mut tunnel) = self.tunnel.take() else {
            return;
        };
        let secret = self.node.danger_tunnel_secret();
        match block_in_place(|| tunnel.rekey(&secret)) {
            Ok(()) => self.tunnel = Some(tunnel),
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the tunnel does not go on under its new key; it is made anew"
                );
                self.lost = true;
            }
        }
    }

    /// Makes the device anew when somebody took it away, or when it could not be made before.
    pub(super) async fn mend(&mut self) {
        if let Some(tunnel) = self.tunnel.take_if(|tunnel| tunnel.failed()) {
            block_in_place(|| tunnel.stop());
            self.lost = true;
        }
        if !self.lost {
            return;
        }
        if let Err(failure) = self.reopen() {
            tracing::debug!(error = failure.text, "the device cannot be made yet");
            return;
        }
        tracing::info!("the device is there again");
        if let Some(interface) = self.interface.clone() {
            self.equip(&interface).await;
        }
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        let (name, port) = (&self.tun_name, self.port);
        let tunnel = open_tunnel(&self.node, name, port, &self.reporter, &self.carrier)?;
        tunnel.device().clone_into(&mut self.tun_name);
        self.tunnel = Some(tunnel);
        self.lost = false;
        Ok(())
    }

    /// Gives the device its addresses and the engine all peers with their paths.
    async fn equip(&self, interface: &Interface) {
        let Some(tunnel) = &self.tunnel else { return };
        tunnel.interface(Some(interface));
        block_in_place(|| tunnel.filter(Arc::clone(&self.filter)));
        tunnel.relays(self.relays.clone());
        tunnel.sockets(&self.extras);
        carry(tunnel, self.carry.clone());
        if let Err(error) = self.host.configure(&self.tun_name, interface, MTU).await {
            tracing::error!(error = format!("{error:#}"), "the device has no addresses");
        }
        for (key, config) in &self.peers {
            self.route(&config.allowed_ips).await;
            tunnel.apply(PeerChange::Set(config.clone()));
            let path = self.paths.get(key);
            tunnel.apply(PeerChange::Path(*key, path.map(|(path, _)| *path)));
            if let Some(mtu) = path.and_then(|(_, mtu)| *mtu) {
                tunnel.apply(PeerChange::Mtu(*key, mtu));
            }
        }
    }

    /// How calls by TCP got through.
    pub(super) fn travelled(&self) -> Travelled {
        self.swarm.travelled()
    }

    /// What the router says about mapping ports, if one is asked.
    pub(super) fn router(&self) -> Option<RouterReport> {
        let report = self.mapping.as_ref()?.report();
        let methods = report.found.iter().map(|(method, finding)| {
            let found = match finding {
                Finding::Silent => MethodReport::Silent,
                Finding::Serves => MethodReport::Serves,
                Finding::Refuses => MethodReport::Refuses,
                Finding::Inside(at) => MethodReport::Inside((*at).into()),
            };
            (method.to_string(), found)
        });
        Some(RouterReport {
            gateway: report.router?.gateway.into(),
            methods: methods.collect(),
            mapped: report.lease.map(|lease| lease.tunnel.into()),
        })
    }

    /// The device's name.
    pub(super) fn device(&self) -> &str {
        &self.tun_name
    }

    /// What the tunnel carried for other members, if it does.
    pub(super) fn carried(&self) -> Option<Report> {
        self.tunnel.as_ref()?.carried()
    }

    /// The tunnel's UDP port.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Closes everything.
    pub(super) async fn stop(self) {
        if let Some(tunnel) = self.tunnel {
            block_in_place(|| tunnel.stop());
        }
        if let Some(mapping) = self.mapping {
            mapping.stop().await;
        }
        // The links' task may be waiting for room in the queue.
        drop(self.links);
        self.swarm.stop().await;
    }
}

async fn mapped(mapping: &mut Option<Mapping>) -> Option<Mapped> {
    match mapping {
        Some(mapping) => mapping.changed().await,
        None => None,
    }
}

/// The router knows the owner of a mapping again after a restart, and learns nothing by that of the seed.
fn mapping_config(port: NonZeroU16, seed: &[u8; 32]) -> MappingConfig {
    let secret = blake3::derive_key("meshnode port mapping v1", seed);
    let word = |at: usize| {
        let bytes = secret[at..at + 4].try_into();
        u32::from_le_bytes(bytes.expect("four bytes"))
    };
    MappingConfig {
        port,
        nonce: [word(0), word(4), word(8)],
    }
}
