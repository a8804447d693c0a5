//! What concerns this machine alone: its settings, being down, and what is seen of a network that is down.

use std::collections::BTreeSet;

use meshnode_protocol::io::{Input, Snapshot, Warning};
use meshnode_protocol::node::Node;
use meshnode_protocol::peering::Mailbox;
use tokio::task::block_in_place;

use super::{Daemon, fresh_seed, phrase, ports, roads, store_failure};
use crate::config::settings::{Key, Settings};
use crate::control::convert::LocalFacts;
use crate::control::netcheck::NetcheckReport;
use crate::control::relays::CarriedReport;
use crate::control::report::{NodeState, StatusReport};
use crate::control::server::People;
use crate::control::{Response, SettingReport};
use crate::failure::{Exit, Failure};
use crate::host::Host;
use crate::store::Store as _;

/// Who may ask, by these settings.
pub(super) fn people(settings: &Settings) -> People {
    People {
        operator: settings.operator(),
        group: settings.group_rights(),
    }
}

impl Daemon {
    pub(super) async fn status(&mut self) -> Result<StatusReport, Failure> {
        let now = self.clock.now();
        let down = self.switch.is_down();
        if down && self.resting.is_none() {
            self.resting = self.look_at_rest()?;
        }
        let machine = self.machine.as_ref();
        let mut local = LocalFacts {
            local_name: self.config.local_name.clone(),
            tun: machine.map(|machine| machine.device().to_owned()),
            port: machine.map(super::machine::Machine::port),
            down,
            default_route: None,
            down_for_s: self.switch.left_s(&self.clock),
            blocked: BTreeSet::new(),
        };
        let live = machine.and_then(|machine| machine.node.snapshot(now));
        if let (Some(machine), Some(snapshot)) = (machine, &live) {
            let peers = snapshot.peers.iter().map(|peer| peer.member.id);
            local.blocked = peers.filter(|id| machine.node.is_blocked(id)).collect();
        }
        let mut live = live;
        if let (Some(snapshot), true) = (&mut live, phrase::is_kept(&self.config.state_dir)) {
            snapshot.warnings.push(Warning::RecoveryUnchecked);
        }
        match live.as_ref().or(self.resting.as_deref()) {
            Some(snapshot) => {
                let mut report = StatusReport::of_snapshot(snapshot, local);
                if report.state == NodeState::Isolated {
                    report.default_route = default_route().await;
                }
                if let Some(machine) = &self.machine {
                    roads::tell(&mut report, machine, now);
                }
                Ok(report)
            }
            None if machine.is_some() || local.down => {
                Ok(StatusReport::without_network(local, machine.is_some()))
            }
            None => Err(Failure::no_network()),
        }
    }

    /// What the core and the router's adapter know of the network around this machine.
    pub(super) fn netcheck(&self) -> Result<Response, Failure> {
        let now = self.clock.now();
        let machine = self.machine.as_ref().ok_or_else(Failure::no_network)?;
        let around = machine.node.surroundings(now);
        let around = around.ok_or_else(Failure::no_network)?;
        let travelled = machine.travelled();
        let proxy = roads::proxy(&self.config.settings);
        let proxy = proxy.map(|proxy| roads::proxy_report(&proxy, &travelled));
        let report = NetcheckReport::of(around, machine.router(), proxy, |key| {
            roads::road(&travelled.peers, key)
        });
        Ok(Response::Netcheck(Box::new(report)))
    }

    /// What this node carried for other members.
    pub(super) fn carried(&self) -> Result<Response, Failure> {
        let machine = self.machine.as_ref().ok_or_else(Failure::no_network)?;
        let name = |mailbox: &Mailbox| machine.node.name_at(mailbox);
        let report = machine.carried();
        let report = report.map(|report| CarriedReport::of(report, name));
        Ok(Response::Carried(report))
    }

    /// A look at a network that was down already when the daemon started: the stored set is enough for that.
    fn look_at_rest(&mut self) -> Result<Option<Box<Snapshot>>, Failure> {
        let stored = block_in_place(|| self.store.load()).map_err(store_failure)?;
        let now = self.clock.now();
        let node = Node::resume(&stored, ports::setup(0), fresh_seed()?, now).ok();
        Ok(node.and_then(|node| node.snapshot(now)).map(Box::new))
    }

    pub(super) async fn down(&mut self, for_s: Option<u64>) -> Result<Response, Failure> {
        if !self.has_membership()? {
            return Err(Failure::no_network());
        }
        let now = self.clock.now();
        let until_ms = for_s.map(|s| now.wall.ms().saturating_add(s.saturating_mul(1000)));
        self.switch
            .down(until_ms)
            .map_err(|error| Failure::world("cannot remember that it is down", &error))?;
        let machine = self.machine.as_ref();
        let last = machine.and_then(|machine| machine.node.snapshot(now));
        self.resting = last.map(Box::new).or(self.resting.take());
        self.halt(&Failure::down()).await;
        Ok(Response::Done)
    }

    pub(super) async fn up(&mut self) -> Result<Response, Failure> {
        self.switch.up();
        self.resting = None;
        if self.machine.is_none() {
            let stored = self.store.load().map_err(store_failure)?;
            if stored.secrets.is_none() {
                return Err(Failure::no_network());
            }
            self.resume(stored).await?;
        }
        Ok(Response::Done)
    }

    /// The time of a `down --for` is over.
    pub(super) async fn up_again(&mut self) {
        if let Err(failure) = self.up().await {
            tracing::error!(error = failure.text, "the network does not come up again");
        }
    }

    /// Stops the machine; who waits for something of it is told why nothing comes any more.
    async fn halt(&mut self, why: &Failure) {
        if let Some(machine) = self.machine.take() {
            machine.stop().await;
        }
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            let _gone = waiting.call.send(Response::Failed(why.clone()));
        }
    }

    /// What is set, key by key.
    pub(super) fn settings(&self) -> Response {
        let report = |key: Key| {
            let (setting, from) = self.config.settings.get(key);
            let machine = self.machine.as_ref();
            let value = match (key, setting) {
                (_, Some(setting)) => Some(setting.value()),
                (Key::ListenPort, None) => machine.map(|machine| machine.port().to_string()),
                (
                    Key::TunName
                    | Key::Mdns
                    | Key::PortMapping
                    | Key::Proxy
                    | Key::Relay
                    | Key::RelayRate
                    | Key::Punch
                    | Key::Operator
                    | Key::GroupRights,
                    None,
                ) => None,
            };
            SettingReport {
                key,
                value,
                from: from.to_string(),
            }
        };
        Response::Settings(Key::ALL.into_iter().map(report).collect())
    }

    /// Changes settings, all or none of them, at once.
    pub(super) async fn set(
        &mut self,
        changes: &[(Key, Option<String>)],
    ) -> Result<Response, Failure> {
        let mut wanted = self.config.settings.clone();
        wanted.change(changes)?;
        let before = self.config.settings.clone();
        self.adopt(wanted).await?;
        if let Err(failure) = self.config.settings.save() {
            // What is not kept would be another thing after the next start.
            self.adopt(before).await?;
            return Err(failure);
        }
        let keys: Vec<String> = changes.iter().map(|(key, _)| key.to_string()).collect();
        tracing::info!(keys = keys.join(" "), "settings changed");
        Ok(self.settings())
    }

    /// Reads the settings' files again; what is wrong in them changes nothing.
    pub(super) async fn reread(&mut self) {
        let mut wanted = self.config.settings.clone();
        let read = match wanted.reload() {
            Ok(()) => self.adopt(wanted).await,
            Err(failure) => Err(failure),
        };
        match read {
            Ok(()) => tracing::info!("the settings were read again"),
            Err(failure) => {
                tracing::error!(error = failure.text, "the settings stay as they were");
            }
        }
    }

    /// Puts settings in force; if the machine does not start with them, the ones before stay.
    async fn adopt(&mut self, wanted: Settings) -> Result<(), Failure> {
        let same = wanted.same_machine(&self.config.settings);
        let running = self.machine.as_ref();
        let joining =
            running.is_some_and(|machine| machine.node.snapshot(self.clock.now()).is_none());
        if joining && !same {
            let text = "this node is just joining its network";
            return Err(Failure::new(Exit::Refused, "joining", text).hint("set it after that"));
        }
        let restarts = running.is_some() && !same;
        let before = std::mem::replace(&mut self.config.settings, wanted);
        if restarts && let Err(failure) = self.restart().await {
            self.config.settings = before;
            self.restart().await?;
            return Err(failure);
        }
        self.tell_wishes().await;
        self.server.admit(people(&self.config.settings))
    }

    /// Tells the node what of the settings is its own.
    pub(super) async fn tell_wishes(&mut self) {
        let settings = &self.config.settings;
        let wishes = [
            Input::Carrying(settings.carrying()),
            Input::Punch(settings.punch()),
        ];
        if let Some(machine) = &mut self.machine {
            for wish in wishes {
                machine.node.handle(wish, self.clock.now());
            }
            self.carry().await;
        }
    }

    /// Device, sockets and links anew.
    async fn restart(&mut self) -> Result<(), Failure> {
        let text = "the network started anew on this machine: a setting changed";
        self.halt(&Failure::new(Exit::Refused, "restarted", text))
            .await;
        let stored = self.store.load().map_err(store_failure)?;
        self.resume(stored).await
    }
}

/// Whether this machine has a default route; `None` when the kernel does not tell.
async fn default_route() -> Option<bool> {
    let asked = Host::open().ok()?.has_default_route().await;
    asked.ok()
}
