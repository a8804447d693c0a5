//! The loop that ties the core to the machine: wait for one input, hand it to the node, carry out what follows.
//!
//! Only this room knows all adapters. It decides nothing: what a person asks becomes a command of the core, what the
//! core wants becomes a call of an adapter.

mod attempt;
mod history;
mod local;
mod log;
mod machine;
mod notices;
mod phrase;
mod ports;
mod requests;
mod roads;
mod switch;
mod withheld;

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use meshnode_protocol::io::{Command, CommandId, Input, Refusal, Reply, Snapshot, Stored};
use meshnode_protocol::node::{Node, StartError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use self::attempt::CodeMark;
use self::machine::{Carried, Event, Machine};
use self::switch::Switch;
use crate::clock::Clock;
use crate::config::DaemonConfig;
use crate::control::Response;
use crate::control::convert::response;
use crate::control::server::{Call, Server};
use crate::failure::refusal::About;
use crate::failure::{Exit, Failure};
use crate::store::{Opened, SledStore, Store as _};

/// How often callers that went away are looked for, and a failing disk or a lost device is tried again.
const TICK: Duration = Duration::from_secs(1);

/// How long a start waits for its own sockets to say where they listen.
const LISTENERS_PATIENCE: Duration = Duration::from_millis(500);

/// Runs until it is told to stop.
///
/// # Errors
/// When another daemon has the directory or the socket, the store is unusable, or the device cannot be had.
pub(crate) fn run(config: DaemonConfig) -> Result<(), Failure> {
    let lines = log::start(&config);
    // Everything this process makes is its owner's alone; the socket widens itself.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::world("cannot start the runtime", &error))?;
    let done = runtime.block_on(async {
        let server = Server::bind(&config.socket, local::people(&config.settings), lines)?;
        let mut daemon = Daemon::open(config, server).await?;
        daemon.run().await
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    done
}

/// A call that waits for the core.
#[derive(Debug)]
pub(super) struct Waiting {
    call: Call,
    since_ms: u64,
    /// Whether the call is the one that started the join.
    joins: bool,
}

/// Everything of one daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    config: DaemonConfig,
    server: Server,
    store: SledStore,
    clock: Clock,
    switch: Switch,
    machine: Option<Machine>,
    /// Which code the running join, or the last one, is by.
    joining: Option<CodeMark>,
    waiting: BTreeMap<CommandId, Waiting>,
    commands: u64,
    disk_failed: bool,
    stopping: bool,
    /// What the network looked like when it was last up, while it is down.
    resting: Option<Box<Snapshot>>,
}

impl Daemon {
    async fn open(config: DaemonConfig, server: Server) -> Result<Self, Failure> {
        let (mut store, opened) = SledStore::open(&config.state_dir).map_err(store_failure)?;
        let suspect = log_opened(&opened);
        let stored = store.load().map_err(store_failure)?;
        let switch = Switch::load(&config.state_dir);
        let mut daemon = Self {
            config,
            server,
            store,
            clock: Clock::new(),
            switch,
            machine: None,
            joining: None,
            waiting: BTreeMap::new(),
            commands: 0,
            disk_failed: false,
            stopping: false,
            resting: None,
        };
        if stored.secrets.is_some() && !daemon.switch.is_down() {
            daemon.resume(Stored { suspect, ..stored }).await?;
        }
        Ok(daemon)
    }

    /// Starts the node of the stored membership, if there is one that is through.
    pub(super) async fn resume(&mut self, stored: Stored) -> Result<(), Failure> {
        let port = ports::choose(&self.config).await?;
        let setup = ports::setup(port);
        match Node::resume(&stored, setup, fresh_seed()?, self.clock.now()) {
            Ok(node) => self.start(node, port).await,
            Err(StartError::NoMembership) => Ok(()),
            Err(StartError::Unfinished) => {
                tracing::info!(
                    "the last join did not come to its end; it goes on with 'meshnode join'"
                );
                Ok(())
            }
            Err(error @ StartError::Secrets) => Err(Failure::world(
                "cannot use the keys of this network",
                &error,
            )),
        }
    }

    /// Gives a node its adapters and carries out what it already wants.
    pub(super) async fn start(&mut self, node: Node, port: u16) -> Result<(), Failure> {
        let machine = Machine::start(node, &self.config, port).await?;
        self.machine = Some(machine);
        self.tell_wishes().await;
        self.hear_listeners().await;
        Ok(())
    }

    /// Who asks right after the start is told where this node listens; its sockets say so within moments.
    async fn hear_listeners(&mut self) {
        let over = sleep(LISTENERS_PATIENCE);
        tokio::pin!(over);
        while self.machine.as_ref().is_some_and(|m| !m.node.listens()) {
            tokio::select! {
                event = next_event(&mut self.machine, &self.clock) => self.on_event(event).await,
                () = &mut over => return,
            }
        }
    }

    async fn run(&mut self) -> Result<(), Failure> {
        let broken = |error| Failure::world("cannot listen for signals", &error);
        let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(broken)?;
        let mut ticks = tokio::time::interval(TICK);
        tracing::info!("ready");
        while !self.stopping {
            tokio::select! {
                call = self.server.accept() => self.on_call(call?).await,
                event = next_event(&mut self.machine, &self.clock) => self.on_event(event).await,
                () = self.switch.due(&self.clock) => self.up_again().await,
                _ = ticks.tick() => self.on_tick().await,
                _ = hangup.recv() => self.reread().await,
                _ = terminate.recv() => self.stopping = true,
                _ = interrupt.recv() => self.stopping = true,
            }
        }
        tracing::info!("stopping");
        if let Some(machine) = self.machine.take() {
            machine.stop().await;
        }
        tokio::task::block_in_place(|| self.store.write(&[], true)).map_err(store_failure)
    }

    async fn on_event(&mut self, event: Event) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        let input = match event {
            Event::Input(input) => input,
            Event::InterfacesChanged => {
                machine.point_mapping().await;
                Input::Interfaces(machine.addresses().await)
            }
        };
        machine.node.handle(input, self.clock.now());
        self.carry().await;
    }

    async fn on_tick(&mut self) {
        let gone: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, w)| w.call.is_closed())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.waiting.remove(&id);
            self.input(Input::Hangup(id)).await;
        }
        if let Some(machine) = &mut self.machine {
            machine.mend().await;
        }
        if self.disk_failed && tokio::task::block_in_place(|| self.store.write(&[], true)).is_ok() {
            tracing::info!("the disk takes writes again");
            self.disk_failed = false;
            self.input(Input::PersistWorks).await;
        }
    }

    pub(super) async fn input(&mut self, input: Input) {
        if let Some(machine) = &mut self.machine {
            machine.node.handle(input, self.clock.now());
            self.carry().await;
        }
    }

    /// Gives the core a person's command; its replies go to the call.
    pub(super) async fn command(&mut self, call: Call, command: Command, joins: bool) {
        self.commands += 1;
        let id = CommandId(self.commands);
        let since_ms = self.clock.now().uptime_ms();
        self.waiting.insert(
            id,
            Waiting {
                call,
                since_ms,
                joins,
            },
        );
        self.input(Input::Command(id, command)).await;
    }

    /// Carries out everything that the node wants.
    async fn carry(&mut self) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        let Carried {
            replies,
            erase,
            disk,
        } = machine.carry(&mut self.store, &self.clock).await;
        self.disk_failed |= disk;
        if erase {
            if let Some(machine) = self.machine.take() {
                machine.stop().await;
            }
            if let Err(error) = tokio::task::block_in_place(|| self.store.erase()) {
                tracing::error!(%error, "the membership is over but its files could not be removed");
            }
            if let Err(error) = phrase::wipe(&self.config.state_dir) {
                tracing::error!(%error, "the recovery phrase could not be removed");
            }
            ports::forget(&self.config);
        }
        for (id, reply) in replies {
            self.answer(id, reply).await;
        }
        if erase {
            // Nobody is left who could answer the others.
            for waiting in std::mem::take(&mut self.waiting).into_values() {
                let _gone = waiting.call.send(Response::Failed(Failure::no_network()));
            }
        }
    }

    async fn answer(&mut self, id: CommandId, reply: Reply) {
        let Some(waiting) = self.waiting.get(&id) else {
            return;
        };
        let ends_join = waiting.joins
            && matches!(&reply, Reply::Refused(refusal) if !matches!(refusal, Refusal::StillWaiting(_)));
        let now = self.clock.now();
        let snapshot = self
            .machine
            .as_ref()
            .and_then(|machine| machine.node.snapshot(now));
        let about = About {
            network: snapshot
                .as_ref()
                .map(|snapshot| snapshot.network_name.clone()),
            this: snapshot.as_ref().map(|snapshot| snapshot.this.name.clone()),
            waited_ms: now.uptime_ms().saturating_sub(waiting.since_ms),
            now: now.wall,
        };
        let last = match &reply {
            Reply::Joining(_) | Reply::Pong { .. } | Reply::Silence { .. } | Reply::Heard(_) => {
                false
            }
            Reply::Acted(acted) => acted.dry_run,
            Reply::Invited(_)
            | Reply::Left { .. }
            | Reply::PingDone
            | Reply::Joined(_)
            | Reply::HeardDone { .. }
            | Reply::Imported(_)
            | Reply::Blocked(_)
            | Reply::RelayChanged(_)
            | Reply::Relays(_)
            | Reply::Card(_)
            | Reply::Pending(_)
            | Reply::Invites(_)
            | Reply::Admins(_)
            | Reply::Petition(_)
            | Reply::Rotated { .. }
            | Reply::Policy(_)
            | Reply::PolicyChecked(_)
            | Reply::PolicyExplained(_)
            | Reply::PolicyDiff(_)
            | Reply::PolicyLog(_)
            | Reply::PolicyDraft(_)
            | Reply::PolicyBlame(_)
            | Reply::PolicyKept
            | Reply::Refused(_) => true,
        };
        let response = response(reply, snapshot.as_ref(), &about);
        if waiting.call.send(response).is_err() || last {
            self.waiting.remove(&id);
        }
        if ends_join {
            self.give_up_attempt().await;
        }
    }
}

async fn next_event(machine: &mut Option<Machine>, clock: &Clock) -> Event {
    match machine {
        Some(machine) => machine.event(clock).await,
        None => pending().await,
    }
}

/// Says what the store's door found; whether the store may lack more than can be told.
fn log_opened(opened: &Opened) -> bool {
    match opened {
        Opened::Fresh | Opened::Whole => false,
        Opened::Mended(mended) => {
            let (skipped, missing) = (mended.skipped, mended.missing);
            tracing::warn!(
                skipped,
                missing,
                "the store was damaged; what is missing comes from members"
            );
            mended.heads_lost
        }
        Opened::Damaged { moved_to, reason } => {
            let moved_to = moved_to.display();
            tracing::warn!(%moved_to, reason, "the store cannot be read; it is rebuilt from members");
            true
        }
    }
}

pub(super) fn store_failure(error: crate::store::StoreError) -> Failure {
    Failure::new(Exit::Refused, "store", error.to_string())
}

/// Seed for a node: 32 bytes of the system's randomness.
pub(super) fn fresh_seed() -> Result<[u8; 32], Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::world("the system gives no randomness", &error))?;
    Ok(seed)
}

/// Sleeps until an uptime; for ever without one.
pub(super) async fn sleep_until_ms(at_ms: Option<u64>, clock: &Clock) {
    match at_ms {
        Some(at_ms) => {
            let wait = at_ms.saturating_sub(clock.now().uptime_ms());
            sleep(Duration::from_millis(wait)).await;
        }
        None => pending().await,
    }
}
