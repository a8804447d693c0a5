//! A relay for strangers, in the foreground: it passes on sealed packets within a budget and is a member of nothing.
//!
//! This room ties the circuits of `swarm` and the datagrams of `tunnel` to one budget, and answers its operator at a
//! socket of its own.

mod identity;
pub(crate) mod look;
mod month;
mod pairs;
pub(crate) mod report;
pub(crate) mod socket;

use std::path::{Path, PathBuf};
use std::time::Duration;

use meshnode_protocol::id::TransportKey;
use meshnode_protocol::io::CarryTerms;
use meshnode_protocol::time::Moment;
use tokio::signal::unix::{SignalKind, signal};

use self::month::Month;
use self::pairs::Pairs;
use self::report::{Budget, Report};
use self::socket::Socket;
use crate::clock::Clock;
use crate::config::lock::Lock;
use crate::config::relay::RelaySettings;
use crate::config::{LogFormat, state_dir};
use crate::failure::{Exit, Failure};
use crate::swarm::{self, VolunteerConfig};
use crate::tunnel;

/// How often budgets are looked at.
const ROUND: Duration = Duration::from_secs(1);
/// How often the volume of the month is written down.
const SAVE_S: u64 = 60;
/// How often pairs are looked at, in seconds.
const LOOK_S: u64 = 10;
/// Seconds over which a rate is shown.
const RATE_S: usize = 10;

/// Runs until it is stopped; `ready` hears the key as soon as the relay answers.
///
/// # Errors
/// When the state directory, a port or the socket cannot be used.
pub(crate) fn run(
    dir: &Path,
    settings: &RelaySettings,
    ready: impl FnOnce(&TransportKey),
) -> Result<(), Failure> {
    state_dir::prepare(dir)?;
    let _lock = Lock::take(dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::world("the system gives no threads", &error))?;
    let done = runtime.block_on(async {
        let relay = Relay::open(dir, settings)?;
        ready(relay.circuits.key());
        relay.run().await
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    done
}

/// Starts the log, to stderr.
pub(crate) fn start_log(format: LogFormat, filter: &str) {
    // The libraries tell addresses and ordinary time-outs louder than this program does.
    let filter = format!("libp2p=error,{filter}");
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr);
    // A second one in one process is a test's.
    let _set = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// A running relay.
struct Relay {
    dir: PathBuf,
    settings: RelaySettings,
    circuits: swarm::Volunteer,
    datagrams: tunnel::Volunteer,
    socket: Socket,
    clock: Clock,
    started: Moment,
    month: Month,
    pairs: Pairs,
    /// What circuits had brought at the end of each of the last seconds, newest last.
    history: Vec<u64>,
}

impl Relay {
    fn open(dir: &Path, settings: &RelaySettings) -> Result<Self, Failure> {
        let config = VolunteerConfig {
            seed: identity::load(dir)?,
            port: settings.port,
            certificate: certificate(dir, settings)?,
            allowed: settings.allowed.clone(),
            rate: settings.rate_bps / 8,
            pair_rate: settings.pair_bps / 8,
            circuits: settings.pairs,
            introduces_only: settings.introduces_only,
        };
        let failed = |error| port_failure(settings.port, &error);
        let circuits = swarm::Volunteer::start(config).map_err(failed)?;
        let terms = terms(*circuits.key(), settings, settings.month_bytes);
        let datagrams =
            tunnel::Volunteer::start(settings.port, terms, month::load(dir)).map_err(failed)?;
        let clock = Clock::new();
        Ok(Self {
            dir: dir.to_owned(),
            settings: settings.clone(),
            circuits,
            datagrams,
            socket: Socket::bind(dir)?,
            clock,
            started: clock.now(),
            month: Month::default(),
            pairs: Pairs::default(),
            history: Vec::new(),
        })
    }

    async fn run(mut self) -> Result<(), Failure> {
        let broken = |error| Failure::world("cannot listen for signals", &error);
        let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
        let mut round = tokio::time::interval(ROUND);
        let mut rounds = 0;
        let end = loop {
            tokio::select! {
                _ = terminate.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                called = self.socket.accept() => match called {
                    Ok(caller) => caller.answer(self.report()),
                    Err(failure) => break Err(failure),
                },
                _ = round.tick() => {
                    self.count(rounds);
                    rounds += 1;
                }
            }
        };
        month::save(&self.dir, self.month.all(self.datagrams.report().volume));
        self.circuits.stop().await;
        self.datagrams.stop();
        end
    }

    /// Notes what came since, and ends what the month has no room for.
    fn count(&mut self, rounds: u64) {
        let came = self.circuits.report().bytes;
        self.history.push(came);
        if self.history.len() > RATE_S + 1 {
            self.history.remove(0);
        }
        let udp = self.datagrams.report();
        self.month.note(came, udp.volume);
        let all = self.month.all(udp.volume);
        self.circuits.allow(all.bytes < self.settings.month_bytes);
        if rounds.is_multiple_of(LOOK_S) {
            self.pairs.note(&udp.pairs, self.uptime_s());
            // What circuits took is not there for datagrams.
            let left = self
                .settings
                .month_bytes
                .saturating_sub(self.month.circuits());
            let terms = terms(*self.circuits.key(), &self.settings, left);
            if let Err(error) = self.datagrams.set_terms(terms) {
                tracing::error!(error = format!("{error:#}"), "The budget cannot be set");
            }
        }
        if rounds % SAVE_S == SAVE_S - 1 {
            month::save(&self.dir, all);
        }
    }

    fn uptime_s(&self) -> u64 {
        let since_us = self.clock.now().uptime_us - self.started.uptime_us;
        since_us / 1_000_000
    }

    fn report(&self) -> Report {
        let carried = self.circuits.report();
        let udp = self.datagrams.report();
        let settings = &self.settings;
        let (now_s, now) = (self.uptime_s(), self.clock.now());
        let seconds = self.history.len().saturating_sub(1).max(1) as u64;
        let came = match (self.history.first(), self.history.last()) {
            (Some(first), Some(last)) => last - first,
            (None, _) | (_, None) => 0,
        };
        Report {
            key: self.circuits.key().to_string(),
            public: settings.public.clone(),
            port: settings.port,
            uptime_s: now_s,
            now_ms: now.wall.ms(),
            // Most come both ways.
            clients: carried.clients.max(udp.clients),
            circuits: carried.circuits,
            rate_bps: udp.rate_bps + came * 8 / seconds,
            month_bytes: self.month.all(udp.volume).bytes,
            slowed: self.pairs.slowed(),
            introduces_only: settings.introduces_only,
            budget: budget(settings),
            pairs: self.pairs.report(now_s),
        }
    }
}

/// The operator's own certificate, or one that is made at the first start.
fn certificate(dir: &Path, settings: &RelaySettings) -> Result<swarm::Certificate, Failure> {
    let found = match &settings.tls {
        Some((chain, key)) => swarm::Certificate::read(chain, key),
        None => swarm::Certificate::of(dir),
    };
    found.map_err(|error| Failure::new(Exit::Refused, "certificate", format!("{error:#}")))
}

/// The budget as an operator is told it.
pub(crate) const fn budget(settings: &RelaySettings) -> Budget {
    Budget {
        rate_bps: settings.rate_bps,
        pair_bps: settings.pair_bps,
        month_bytes: settings.month_bytes,
        pairs: settings.pairs,
    }
}

fn terms(key: TransportKey, settings: &RelaySettings, month_bytes: u64) -> CarryTerms {
    let pairs = if settings.introduces_only {
        0
    } else {
        settings.pairs
    };
    CarryTerms {
        key,
        clients: settings.allowed.clone(),
        rate: (settings.rate_bps / 8, settings.pair_bps / 8),
        pairs,
        month_bytes: Some(month_bytes),
    }
}

fn port_failure(port: u16, error: &anyhow::Error) -> Failure {
    let text = format!("cannot listen at port {port}: {error:#}");
    Failure::new(Exit::Refused, "port", text).hint("meshnode relay run --listen :4443")
}
