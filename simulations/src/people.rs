//! What people and fate do: found, invite, join, command, pull the plug, switch on, cut the world and mend it.

use std::net::SocketAddr;

use meshnode_protocol::body::{Ipv4Range, Tags};
use meshnode_protocol::id::TransportKey;
use meshnode_protocol::identity::Secret;
use meshnode_protocol::invite::{CodeText, InviteCode};
use meshnode_protocol::io::{Command, CommandId, Input, InviteOptions, Reply, Snapshot};
use meshnode_protocol::link::LinkInput;
use meshnode_protocol::name::{NetworkName, NodeName};
use meshnode_protocol::node::{Founding, HintAddress, Joining, Node, Setup, StartError};
use meshnode_protocol::path::Punch;

use crate::chance::{below, seed};
use crate::machine::{Code, Machine, MachineId, Stop};
use crate::network::{PORT, Place, SiteId};
use crate::world::{Broken, Event, World};

/// How long a newcomer tries.
const JOIN_MS: u64 = 120_000;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// What an invite is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) uses: u16,
    pub(crate) approve: bool,
    pub(crate) ttl_ms: u64,
}

impl Terms {
    /// For so many machines, for a day, without anybody's approval.
    pub(crate) fn uses(uses: usize) -> Self {
        Self {
            uses: u16::try_from(uses).unwrap_or(u16::MAX),
            approve: false,
            ttl_ms: DAY_MS,
        }
    }
}

impl World {
    pub(crate) fn setup(&self) -> Setup {
        Setup {
            tunnel_port: PORT,
            os: "simulated".to_owned(),
            version: self.version.clone(),
            punch: Punch::default(),
        }
    }

    pub(crate) fn name(number: usize) -> NodeName {
        NodeName::parse(&format!("n{number:03}")).expect("a letter and digits make a name")
    }

    /// Founds a network on a new machine.
    pub(crate) fn found(&mut self, site: SiteId) -> MachineId {
        let number = self.machines.len();
        let founding = Founding {
            network: NetworkName::parse("homelab").expect("a word makes a name"),
            node: Self::name(number),
            ipv4_range: Ipv4Range::DEFAULT,
            owner: None,
            phrases: 1,
            threshold: 1,
        };
        let id = self.add_machine(site);
        let now = self.machine(id).moment(self.now_us);
        let seed = seed(&mut self.rng);
        let founded = Node::found(founding, self.setup(), seed, now);
        self.phrase = founded.phrases.into_iter().next();
        self.start(id, founded.node);
        id
    }

    /// Puts a machine somewhere, off.
    pub(crate) fn add_machine(&mut self, site: SiteId) -> MachineId {
        let number = self.machines.len();
        let place = self.network.place(site, MachineId(number));
        let stand_in = TransportKey::new(Secret::from_seed(&[0; 32]).public());
        let name = Self::name(number).as_str().to_owned();
        let mut machine = Machine::new(name, place, stand_in);
        machine.skew_ms = self.slept_ms;
        self.machines.push(machine);
        MachineId(number)
    }

    fn start(&mut self, id: MachineId, node: Node) {
        let machine = self.machine_mut(id);
        let key = Secret::from_seed(&node.danger_transport_seed()).public();
        machine.key = TransportKey::new(key);
        machine.node = Some(node);
        let (interfaces, listening) = (machine.interfaces(), machine.listening());
        self.drain(id);
        self.feed(id, Input::Interfaces(interfaces));
        self.feed(id, Input::Link(LinkInput::Listening(listening)));
        let life = self.machine(id).life;
        let delay = 10_000 + below(&mut self.rng, 50_000);
        self.after(delay, Event::Announce(id, life));
    }

    /// A person types a command.
    pub(crate) fn command(&mut self, id: MachineId, command: Command) -> CommandId {
        let machine = self.machine_mut(id);
        machine.commands += 1;
        let number = CommandId(machine.commands);
        self.feed(id, Input::Command(number, command));
        number
    }

    pub(crate) fn reply(&self, id: MachineId, command: CommandId) -> Option<&Reply> {
        let replies = self.machine(id).replies.iter().rev();
        let mut own = replies.filter(|(number, _)| *number == command);
        own.next().map(|(_, reply)| reply)
    }

    /// Makes an invite and waits for it.
    pub(crate) fn invite(&mut self, id: MachineId, terms: Terms) -> Result<String, Broken> {
        let options = InviteOptions {
            name: None,
            tags: Tags::default(),
            owner: None,
            ttl_ms: terms.ttl_ms,
            uses: terms.uses,
            approve: Some(terms.approve),
            hints: Vec::new(),
            replaces: None,
            member_for_ms: None,
            dry_run: false,
        };
        let command = self.command(id, Command::Invite(options));
        self.run_until("an invite is answered", 3000, |world| {
            world.reply(id, command).is_some()
        })?;
        match self.reply(id, command) {
            Some(Reply::Invited(invited)) => {
                let code = invited.code.as_ref().map(CodeText::reveal);
                Ok(code.unwrap_or_default().to_owned())
            }
            other => {
                let what = format!("an invite was not made: {other:?}");
                self.fail(what.clone());
                Err(Broken(what))
            }
        }
    }

    /// A new machine joins with a code, by way of the machines that the person names (and of its LAN).
    pub(crate) fn join(&mut self, site: SiteId, text: &str, via: &[MachineId]) -> MachineId {
        let id = self.add_machine(site);
        if let Some(member) = via.first() {
            self.machine_mut(id).place.group = self.machine(*member).place.group;
        }
        let at = |id: &MachineId| SocketAddr::from((self.machine(*id).place.address, PORT));
        let code = Code {
            text: text.to_owned(),
            name: Self::name(id.0),
            hints: via.iter().map(at).collect(),
        };
        self.machine_mut(id).code = Some(code);
        self.redeem(id);
        id
    }

    /// The same, with the name that others might like, too, and a clock that is off.
    pub(crate) fn join_as(
        &mut self,
        (name, skew_ms): (&str, i64),
        site: SiteId,
        text: &str,
        via: MachineId,
    ) -> MachineId {
        let id = self.add_machine(site);
        let machine = self.machine(via);
        let (group, hint) = (machine.place.group, machine.place.address);
        let machine = self.machine_mut(id);
        machine.place.group = group;
        machine.skew_ms = skew_ms;
        machine.code = Some(Code {
            text: text.to_owned(),
            name: NodeName::parse(name).expect("a word makes a name"),
            hints: vec![(hint, PORT).into()],
        });
        self.redeem(id);
        id
    }

    /// Types the code again on a machine that is not in yet.
    fn redeem(&mut self, id: MachineId) {
        let machine = self.machine(id);
        let Some(code) = machine.code.clone() else {
            return;
        };
        let parsed = InviteCode::parse(&code.text).expect("the code was printed by an invite");
        let hints = code.hints.iter().map(|hint| HintAddress {
            place: hint.to_string(),
            address: *hint,
            member: None,
        });
        let joining = Joining {
            code: parsed,
            hints: hints.collect(),
            name: code.name.clone(),
            timeout_ms: JOIN_MS,
            secrets: machine.disk.stored().secrets,
        };
        let now = machine.moment(self.now_us);
        let seed = seed(&mut self.rng);
        match Node::join(joining, self.setup(), seed, now) {
            Ok(node) => {
                self.start(id, node);
                self.command(id, Command::WatchJoin);
            }
            Err(error) => self.fail(format!("a join does not start: {error}")),
        }
    }

    /// Whether a machine is a member by its own account.
    pub(crate) fn is_in(&self, id: MachineId) -> bool {
        self.machine(id).interface.is_some()
    }

    pub(crate) fn snapshot(&self, id: MachineId) -> Option<Snapshot> {
        let machine = self.machine(id);
        machine.node.as_ref()?.snapshot(machine.moment(self.now_us))
    }

    /// Stops a machine.
    pub(crate) fn stop(&mut self, id: MachineId, stop: Stop) {
        if self.machine(id).node.is_none() {
            return;
        }
        let machine = &mut self.machines[id.0];
        match stop {
            Stop::Kill => machine.disk.settle(),
            Stop::PowerCut => {
                machine.disk.cut(&mut self.rng);
            }
        }
        machine.forget();
        machine.life += 1;
        self.drop_connections(id, stop == Stop::Kill);
        self.drop_reservations(id, stop == Stop::Kill);
    }

    /// Switches a machine on again.
    pub(crate) fn boot(&mut self, id: MachineId) {
        if self.machine(id).node.is_some() || self.machine(id).erased {
            return;
        }
        self.machine_mut(id).boot_us = self.now_us;
        // Those that had a connection with its last life learn of its end by the new one's first packet.
        self.drop_connections(id, true);
        let machine = self.machine(id);
        let (stored, now) = (machine.disk.stored(), machine.moment(self.now_us));
        let read = machine.disk.read();
        let seed = seed(&mut self.rng);
        let resumed = match read {
            Some(ledger) => Node::resume_over(ledger, &stored, self.setup(), seed, now),
            None => Node::resume(&stored, self.setup(), seed, now),
        };
        match resumed {
            Ok(node) => self.start(id, node),
            Err(StartError::NoMembership | StartError::Unfinished) => self.redeem(id),
            Err(StartError::Secrets) => {
                let name = self.machine(id).name.clone();
                self.fail(format!("{name} cannot read its own secrets"));
            }
        }
    }

    /// Everybody sleeps: dates go on, and nothing else.
    pub(crate) fn let_clocks_pass(&mut self, ms: i64) {
        for machine in &mut self.machines {
            machine.skew_ms += ms;
        }
        self.slept_ms += ms;
    }

    /// A machine that runs gets another address: its connections break, and it is told.
    pub(crate) fn relocate(&mut self, id: MachineId) {
        self.move_off(id);
        self.drop_connections(id, true);
        let machine = self.machine(id);
        let (interfaces, listening) = (machine.interfaces(), machine.listening());
        self.feed(id, Input::Interfaces(interfaces));
        self.feed(id, Input::Link(LinkInput::Listening(listening)));
    }

    /// A machine stands elsewhere, in public.
    pub(crate) fn move_off(&mut self, id: MachineId) {
        let site = self.network.add_public();
        let old = self.machine(id).place;
        self.network.vacate(old);
        let place = self.network.place(site, id);
        self.machine_mut(id).place = Place {
            group: old.group,
            ..place
        };
    }

    /// Cuts the world: machines hear only those of their own group.
    pub(crate) fn cut(&mut self, group_of: impl Fn(MachineId) -> u32) {
        for id in self.all() {
            self.machine_mut(id).place.group = group_of(id);
        }
        self.drop_cut_connections();
    }

    /// Mends the world; LANs announce themselves again.
    pub(crate) fn heal(&mut self) {
        self.cut(|_| 0);
        for id in self.running() {
            let life = self.machine(id).life;
            let delay = below(&mut self.rng, 2_000_000);
            self.after(delay, Event::Announce(id, life));
        }
    }

    /// Notes how long something took.
    pub(crate) fn milestone(&mut self, what: &'static str, ms: u64) {
        self.milestones.push((what, ms));
    }
}
