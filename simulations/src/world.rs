//! The world: machines, virtual time, and one heap of events in the order of time and birth.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use meshnode_protocol::id::{Digest, TransportKey};
use meshnode_protocol::identity::hash_as;
use meshnode_protocol::io::{Input, Notice, Output};
use meshnode_protocol::link::{CallId, LinkInput};
use meshnode_protocol::node::Node;
use meshnode_protocol::recovery::RecoveryPhrase;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::control::{Control, Established};
use crate::film::Film;
use crate::invariants;
use crate::liar::Memory;
use crate::library::{Library, Pages};
use crate::machine::{Machine, MachineId, Stop};
use crate::network::Network;
use crate::trace::Trace;

/// Starts of a timer in one virtual millisecond that count as a loop without end.
const SPINS_MAX: u32 = 200;

/// A broken invariant, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// Something that happens to a machine, in the given life of it.
#[derive(Debug)]
pub(crate) enum Event {
    Wake(MachineId, u32),
    Link(MachineId, u32, Box<LinkInput>),
    Established(Box<Established>),
    Severed(u64),
    CallTimeout(MachineId, u32, CallId),
    Datagram {
        from: SocketAddr,
        sender: MachineId,
        to: SocketAddr,
        bytes: Arc<[u8]>,
    },
    Rumour {
        to: MachineId,
        life: u32,
        from: TransportKey,
        bytes: Arc<[u8]>,
        hash: Digest,
    },
    Announce(MachineId, u32),
}

/// The world.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) now_us: u64,
    births: u64,
    events: BTreeMap<(u64, u64), Event>,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    pub(crate) library: Arc<Library>,
    pub(crate) pages: Pages,
    pub(crate) control: Control,
    /// Who has which overlay address.
    pub(crate) overlay: BTreeMap<IpAddr, MachineId>,
    /// Views that no two members share a name or an address in.
    pub(crate) sound: BTreeSet<Digest>,
    pub(crate) trace: Trace,
    pub(crate) film: Option<Film>,
    /// What was sent before the machines' counters began anew: control plane with gossip, and probes.
    pub(crate) sent_before: [u64; 2],
    pub(crate) memory: Memory,
    /// How long everybody slept, milliseconds: what dates have gained on virtual time.
    pub(crate) slept_ms: i64,
    /// The program version that machines start with.
    pub(crate) version: String,
    /// What a person wrote on paper when the network was founded.
    pub(crate) phrase: Option<RecoveryPhrase>,
    pub(crate) milestones: Vec<(&'static str, u64)>,
    pub(crate) figures: Vec<(&'static str, u64)>,
    pub(crate) broken: Option<Broken>,
}

impl World {
    /// An empty world; everything that happens by chance in it follows from the seed.
    #[must_use]
    pub fn new(seed: u64, trace: Trace) -> Self {
        Self {
            seed,
            now_us: 0,
            births: 0,
            events: BTreeMap::new(),
            rng: ChaCha20Rng::seed_from_u64(seed),
            machines: Vec::new(),
            network: Network::default(),
            library: Arc::default(),
            pages: Pages::default(),
            control: Control::default(),
            overlay: BTreeMap::new(),
            sound: BTreeSet::new(),
            trace,
            film: None,
            sent_before: [0; 2],
            memory: Memory::default(),
            slept_ms: 0,
            version: "1".to_owned(),
            phrase: None,
            milestones: Vec::new(),
            figures: Vec::new(),
            broken: None,
        }
    }

    pub(crate) fn machine(&self, id: MachineId) -> &Machine {
        &self.machines[id.0]
    }

    pub(crate) fn machine_mut(&mut self, id: MachineId) -> &mut Machine {
        &mut self.machines[id.0]
    }

    pub(crate) fn all(&self) -> Vec<MachineId> {
        (0..self.machines.len()).map(MachineId).collect()
    }

    /// The machines whose node runs.
    pub(crate) fn running(&self) -> Vec<MachineId> {
        let runs = |id: &MachineId| self.machine(*id).node.is_some();
        self.all().into_iter().filter(runs).collect()
    }

    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    pub(crate) fn after(&mut self, delay_us: u64, event: Event) {
        self.births += 1;
        self.events
            .insert((self.now_us + delay_us, self.births), event);
    }

    pub(crate) fn link_after(&mut self, delay_us: u64, to: MachineId, input: LinkInput) {
        let life = self.machine(to).life;
        self.after(delay_us, Event::Link(to, life, Box::new(input)));
    }

    pub(crate) fn fail(&mut self, what: String) {
        let at = self.now_ms();
        self.broken
            .get_or_insert_with(|| Broken(format!("at {at} ms: {what}")));
    }

    /// Lets so many milliseconds pass.
    pub(crate) fn run_for(&mut self, ms: u64) -> Result<(), Broken> {
        self.run_for_us(ms * 1000)
    }

    pub(crate) fn run_for_us(&mut self, us: u64) -> Result<(), Broken> {
        let end = self.now_us + us;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.film_until(at);
            self.now_us = at;
            self.happen(event);
            if let Some(broken) = self.broken.clone() {
                return Err(broken);
            }
        }
        self.film_until(end);
        self.now_us = end;
        Ok(())
    }

    /// Lets time pass until something holds; gives how many milliseconds that took.
    pub(crate) fn run_until(
        &mut self,
        what: &'static str,
        ms_max: u64,
        holds: impl Fn(&mut Self) -> bool,
    ) -> Result<u64, Broken> {
        const STEP_MS: u64 = 50;
        let start = self.now_ms();
        while !holds(self) {
            if self.now_ms() - start >= ms_max {
                self.fail(format!("not within {ms_max} ms: {what}"));
                return Err(self.broken.clone().expect("it was just set"));
            }
            self.run_for(STEP_MS)?;
        }
        Ok(self.now_ms() - start)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(id, life) => self.wake(id, life),
            Event::Link(id, life, input) => {
                if self.machine(id).life == life {
                    self.trace.link(self.now_us, &self.machines[id.0], &input);
                    self.feed(id, Input::Link(*input));
                }
            }
            Event::Established(established) => self.establish(*established),
            Event::Severed(connection) => self.sever(connection),
            Event::CallTimeout(id, life, call) => self.time_out(id, life, call),
            Event::Datagram {
                from,
                sender,
                to,
                bytes,
            } => self.datagram_arrives(from, sender, to, &bytes),
            Event::Rumour {
                to,
                life,
                from,
                bytes,
                hash,
            } => {
                if self.machine(to).life == life {
                    self.rumour_arrives(to, from, bytes, hash);
                }
            }
            Event::Announce(id, life) => {
                if self.machine(id).life == life {
                    self.announce(id);
                }
            }
        }
    }

    fn wake(&mut self, id: MachineId, life: u32) {
        let now_us = self.now_us;
        let machine = self.machine_mut(id);
        if machine.life != life || machine.wake_us != Some(now_us) {
            return;
        }
        machine.wake_us = None;
        machine.sent.wakes += 1;
        self.trace.wake(now_us, &self.machines[id.0]);
        self.feed(id, Input::Timeout);
        let machine = self.machine_mut(id);
        if machine.wake_us == Some(now_us) {
            machine.spins += 1;
            if machine.spins > SPINS_MAX {
                let name = machine.name.clone();
                self.fail(format!("{name} asks to be woken at once, again and again"));
            }
        } else {
            machine.spins = 0;
        }
    }

    /// One input, then a complete drain.
    pub(crate) fn feed(&mut self, id: MachineId, input: Input) {
        let now_us = self.now_us;
        let machine = self.machine_mut(id);
        let now = machine.moment(now_us);
        if let Some(node) = &mut machine.node {
            node.handle(input, now);
            self.drain(id);
        }
    }

    /// Carries out everything that a node wants, in order; a planned crash comes between two.
    pub(crate) fn drain(&mut self, id: MachineId) {
        loop {
            let machine = self.machine_mut(id);
            if let Some((left, stop)) = &mut machine.crash {
                if *left == 0 {
                    let stop = *stop;
                    self.stop(id, stop);
                    return;
                }
                *left -= 1;
            }
            let Some(output) = machine.node.as_mut().and_then(Node::poll_output) else {
                break;
            };
            self.carry(id, output);
        }
        if std::mem::take(&mut self.machine_mut(id).touched) {
            invariants::check_machine(self, id);
        }
        self.plan_wake(id);
    }

    fn plan_wake(&mut self, id: MachineId) {
        let now_us = self.now_us;
        let machine = self.machine_mut(id);
        let Some(timeout_ms) = machine.node.as_ref().and_then(Node::poll_timeout) else {
            return;
        };
        let at = timeout_ms
            .saturating_mul(1000)
            .saturating_add(machine.boot_us)
            .max(now_us);
        // An earlier wake stays planned: it finds nothing due and plans the next.
        if machine.wake_us.is_none_or(|planned| planned > at) {
            machine.wake_us = Some(at);
            let life = machine.life;
            self.births += 1;
            self.events.insert((at, self.births), Event::Wake(id, life));
        }
    }

    fn carry(&mut self, id: MachineId, output: Output) {
        match output {
            Output::Persist { writes, flush } => {
                let disk = &mut self.machines[id.0].disk;
                disk.write(writes, flush, &mut self.pages);
            }
            Output::Link(output) => self.carry_link(id, output),
            Output::Peer(change) => {
                if let Err(reason) = self.machine_mut(id).change_peer(change) {
                    let name = &self.machine(id).name;
                    self.fail(format!("{name}: {reason}"));
                }
            }
            Output::Datagram { path, bytes } => self.send_datagram(id, path, bytes),
            // Nobody carries for others in this world yet.
            Output::Relays(_) | Output::Carry(_) | Output::Sockets(_) => {}
            Output::Interface(interface) => {
                if let Some(interface) = &interface {
                    self.overlay.insert(IpAddr::V6(interface.ipv6), id);
                }
                let machine = self.machine_mut(id);
                machine.interface = interface;
                machine.touched = true;
            }
            // Packets are not simulated: what would pass is asked of the filter itself.
            Output::Filter(filter) => self.machine_mut(id).filter = Some(filter),
            Output::TunnelKey => self.machine_mut(id).forget_peers(),
            Output::Reply(command, reply) => self.machine_mut(id).replies.push((command, reply)),
            Output::Notice(notice) => {
                self.trace
                    .notice(self.now_us, &self.machines[id.0], &notice);
                let machine = self.machine_mut(id);
                // A way that changes is no matter of who is in.
                if !matches!(notice, Notice::PathChanged(..)) {
                    machine.touched = true;
                    machine.notices.push(notice);
                }
            }
            Output::Erase => {
                let machine = self.machine_mut(id);
                machine.disk.erase();
                machine.erased = true;
                self.stop(id, Stop::Kill);
            }
        }
    }

    /// The digest of everything that happened so far.
    #[must_use]
    pub fn trace_hash(&self) -> Digest {
        hash_as(
            "meshnode simulation end 1",
            &[
                self.trace.hash().as_bytes().as_slice(),
                &self.now_us.to_le_bytes(),
            ]
            .concat(),
        )
    }
}
