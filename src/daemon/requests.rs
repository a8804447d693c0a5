//! What a person asks, as commands of the core and acts on this machine.

use std::net::IpAddr;
use std::time::Duration;

use meshnode_protocol::body::{Ipv4Range, Tags};
use meshnode_protocol::id::NodeId;
use meshnode_protocol::invite::InviteCode;
use meshnode_protocol::io::{Command, InviteOptions, RestrictedInvite, Snapshot};
use meshnode_protocol::name::NetworkName;
use meshnode_protocol::node::{Founding, HintAddress, Joining, Node, StartError};
use meshnode_protocol::policy::Service;
use meshnode_protocol::recovery::RecoveryPhrase;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::attempt::CodeMark;
use super::{Daemon, fresh_seed, phrase, ports, store_failure};
use crate::control::convert::{acts, policy};
use crate::control::server::Call;
use crate::control::{
    InitRequest, Inited, InviteRequest, JoinRequest, Joined, Membership, PingRequest, Request,
    Response, SecretText,
};
use crate::failure::{Exit, Failure};
use crate::store::Store as _;

/// How long the name of a hint may take to resolve.
const RESOLVE: Duration = Duration::from_secs(3);
/// Addresses of one hint that are tried.
const HINT_ADDRESSES_MAX: usize = 4;
/// Probes of one ping.
const PROBES_MAX: u32 = 100_000;
/// Between two probes of one ping: 100 a second.
const PROBE_INTERVAL_MS_MIN: u64 = 10;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// How long a probe's answer is waited for.
const PROBE_TIMEOUT_MS_MAX: u64 = 60_000;
/// Ranges for a new network: the first of which no other address of this machine is a part.
const RANGES: [([u8; 4], u8); 4] = [
    ([100, 64, 0, 0], 10),
    ([10, 112, 0, 0], 12),
    ([172, 24, 0, 0], 14),
    ([10, 240, 0, 0], 16),
];

impl Daemon {
    pub(super) async fn on_call(&mut self, call: Call) {
        let answer = match call.request.clone() {
            Request::Status => self.status().await.map(Box::new).map(Response::Status),
            Request::Settings => Ok(self.settings()),
            Request::Netcheck => self.netcheck(),
            Request::Carried => self.carried(),
            Request::Set(changes) => self.set(&changes).await,
            // The socket's end took its wrapping off.
            Request::Logged(_) => Err(Failure::usage("a request is logged once")),
            Request::Whois(node) => return self.obey(call, Ok(Command::Whois(node))).await,
            Request::Block { node, blocked } => {
                return self.obey(call, Ok(block(node, blocked))).await;
            }
            Request::Init(request) => self.init(request).await,
            Request::Join(request) => match self.join(request).await {
                Ok(Some(response)) => Ok(response),
                Ok(None) => return self.command(call, Command::WatchJoin, true).await,
                Err(failure) => Err(failure),
            },
            Request::Up { .. } => self.up().await,
            Request::Down { for_s } => self.down(for_s).await,
            Request::Stop => {
                self.stopping = true;
                Ok(Response::Done)
            }
            Request::Leave { force, wait_ms } => {
                let leave = Command::Leave { wait_ms, force };
                return self.obey(call, Ok(leave)).await;
            }
            Request::Invite(request) => {
                return self.obey(call, invitation(request)).await;
            }
            Request::Export => return self.export(&call),
            Request::Log { skip } => return self.log(&call, skip),
            Request::Import(request) => {
                let items = self.items(request);
                let import = items.map(|items| Command::Import(Box::new(items)));
                return self.obey(call, import).await;
            }
            Request::Act(request) => {
                let command = tokio::task::block_in_place(|| acts::command(*request));
                return self.obey(call, command).await;
            }
            Request::RecoverySign { petition, phrases } => {
                let roots = tokio::task::block_in_place(|| acts::roots(&phrases));
                let command = roots.map(|roots| Command::RecoverySign {
                    petition: acts::petition(petition),
                    roots,
                });
                return self.obey(call, command).await;
            }
            Request::Recovery => self.recovery_facts().map(Response::Recovery),
            Request::RecoveryShow => self.recovery_show(),
            Request::RecoveryCheck { phrases } => self.recovery_check(&phrases),
            Request::Policy(ask) => return self.obey(call, Ok(policy::command(ask))).await,
            Request::PolicyKeep => return self.obey(call, Ok(Command::PolicyKeep)).await,
            Request::Pending => return self.obey(call, Ok(Command::Pending)).await,
            Request::Invites => return self.obey(call, Ok(Command::InviteList)).await,
            Request::Admins => return self.obey(call, Ok(Command::AdminList)).await,
            Request::Relay(ask) => return self.obey(call, Ok(ask.command())).await,
            Request::Rotate { transport } => {
                return self.obey(call, Ok(Command::Rotate { transport })).await;
            }
            Request::Ping(ping) => return self.obey(call, Ok(bounded(&ping))).await,
        };
        let _gone = call.send(answer.unwrap_or_else(Response::Failed));
        if self.stopping {
            call.finish().await;
        }
    }

    /// Gives the core a command if there is a network to give it to.
    async fn obey(&mut self, call: Call, command: Result<Command, Failure>) {
        match self.require_network().and(command) {
            Ok(command) => self.command(call, command, false).await,
            Err(failure) => {
                let _gone = call.send(Response::Failed(failure));
            }
        }
    }

    pub(super) fn require_network(&self) -> Result<(), Failure> {
        match (&self.machine, self.switch.is_down()) {
            (Some(_), _) => Ok(()),
            (None, true) => Err(Failure::down()),
            (None, false) => Err(Failure::no_network()),
        }
    }

    /// Whether a membership lives in the state directory, running or not.
    pub(super) fn has_membership(&mut self) -> Result<bool, Failure> {
        if self.machine.is_some() {
            return Ok(true);
        }
        let stored = self.store.load().map_err(store_failure)?;
        let Some(secrets) = stored.secrets else {
            return Ok(false);
        };
        let custody = meshnode_protocol::custody::Custody::parse(&secrets);
        Ok(custody.map_or(true, |custody| custody.joined))
    }

    async fn init(&mut self, request: InitRequest) -> Result<Response, Failure> {
        if self.has_membership()? {
            return Err(self.already_here(false));
        }
        let range = match &request.ipv4_range {
            Some(text) => parse_range(text)?,
            None => self.free_range().await,
        };
        let network = request.name.unwrap_or_else(|| {
            let text = format!("{}-net", request.node_name);
            NetworkName::from_text(&text, "home-net")
        });
        let founding = Founding {
            network,
            node: request.node_name,
            ipv4_range: range,
            owner: None,
            phrases: request.recovery.0,
            threshold: request.recovery.1,
        };
        let port = ports::choose(&self.config).await?;
        let founded = Node::found(
            founding,
            ports::setup(port),
            fresh_seed()?,
            self.clock.now(),
        );
        self.switch.up();
        self.start(founded.node, port).await?;
        if self.disk_failed {
            // What is still in memory must not become a network when the disk has room again.
            self.give_up_attempt().await;
            return Err(Failure::new(
                Exit::Refused,
                "disk",
                "the disk does not take the new network's keys",
            )
            .hint("make room, then try again"));
        }
        let this = self.this_member()?;
        let words = |phrase: &RecoveryPhrase| {
            let words: Vec<_> = phrase.words().collect();
            SecretText::new(words.join(" "))
        };
        let phrases: Vec<SecretText> = founded.phrases.iter().map(words).collect();
        if request.keep_phrases
            && let Err(error) = phrase::keep(&self.config.state_dir, &phrases)
        {
            // They are shown now all the same; only a second look is not possible.
            tracing::warn!(%error, "the recovery phrase is not kept for recovery check");
        }
        Ok(Response::Inited(Box::new(Inited {
            this,
            phrases,
            threshold: usize::from(request.recovery.1),
        })))
    }

    fn already_here(&self, joining: bool) -> Failure {
        let local = &self.config.local_name;
        match self.this_member() {
            Ok(this) => Failure::other_network(&this.network, local, joining),
            Err(_) => {
                let text = format!("this machine is already in a network ({local})");
                Failure::new(Exit::Refused, "other_network", text)
                    .hint("sudo meshnode up, or for another network: -n NAME")
            }
        }
    }

    pub(super) fn this_member(&self) -> Result<Membership, Failure> {
        let now = self.clock.now();
        let snapshot = self
            .machine
            .as_ref()
            .and_then(|machine| machine.node.snapshot(now));
        snapshot
            .map(|s| Membership::of_snapshot(&s))
            .ok_or_else(Failure::no_network)
    }

    /// A range that no other address of this machine is in: another VPN's, say.
    async fn free_range(&self) -> Ipv4Range {
        let used = match crate::host::Host::open() {
            Ok(host) => host.addresses(&[]).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let free = |range: &Ipv4Range| {
            !used
                .iter()
                .any(|ip| matches!(ip, IpAddr::V4(v4) if range.contains(*v4)))
        };
        RANGES
            .into_iter()
            .filter_map(|(base, prefix)| Ipv4Range::new(base.into(), prefix).ok())
            .find(free)
            .unwrap_or(Ipv4Range::DEFAULT)
    }

    /// Starts a join; `None` when the end of it is to be waited for.
    async fn join(&mut self, request: JoinRequest) -> Result<Option<Response>, Failure> {
        let code = InviteCode::parse(request.code.reveal())
            .map_err(|error| Failure::usage(error.to_string()))?;
        let mark = CodeMark::of(&code);
        if let Some(machine) = &self.machine {
            if let Some(snapshot) = machine.node.snapshot(self.clock.now()) {
                return self.already_in(&code, &snapshot).map(Some);
            }
            if self.joining == Some(mark) && !machine.node.join_is_over() {
                // This caller follows it too.
                return Ok(None);
            }
            self.supersede_join().await;
        }
        if self.has_membership()? {
            return Err(self.already_here(true));
        }
        let secrets = self.store.load().map_err(store_failure)?.secrets;
        let hints = resolve(&code).await;
        let joining = Joining {
            code,
            hints,
            name: request.name,
            timeout_ms: request.timeout_ms,
            secrets,
        };
        let port = ports::choose(&self.config).await?;
        let seed = fresh_seed()?;
        let node = Node::join(joining, ports::setup(port), seed, self.clock.now());
        let node = node.map_err(|error: StartError| {
            Failure::world("cannot use the keys of the last attempt", &error)
        })?;
        self.switch.up();
        self.joining = Some(mark);
        self.start(node, port).await?;
        Ok(None)
    }

    /// The answer to a code where a network is: done, if it is that network's.
    fn already_in(&self, code: &InviteCode, here: &Snapshot) -> Result<Response, Failure> {
        let machine = self.machine.as_ref();
        if !machine.is_some_and(|machine| machine.node.knows_code(code)) {
            let (network, local_name) = (&here.network_name, &self.config.local_name);
            return Err(Failure::other_network(network, local_name, true));
        }
        let joined = Joined {
            this: Membership::of_snapshot(here),
            wished: None,
            witness: None,
            settled: true,
        };
        Ok(Response::AlreadyJoined(Box::new(joined)))
    }
}

const fn block(node: NodeId, blocked: bool) -> Command {
    if blocked {
        Command::Block(node)
    } else {
        Command::Unblock(node)
    }
}

/// The probes that are asked for, as many and as often as anybody may ask: this needs no right to change anything.
fn bounded(ping: &PingRequest) -> Command {
    Command::Ping {
        node: ping.node,
        count: ping.count.clamp(1, PROBES_MAX),
        interval_ms: ping.interval_ms.clamp(PROBE_INTERVAL_MS_MIN, DAY_MS),
        timeout_ms: ping.timeout_ms.min(PROBE_TIMEOUT_MS_MAX),
    }
}

fn invitation(mut request: InviteRequest) -> Result<Command, Failure> {
    let only = std::mem::take(&mut request.only);
    let invite = options(request)?;
    if only.is_empty() {
        return Ok(Command::Invite(invite));
    }
    let mut services = Vec::new();
    for one in only {
        let parsed = Service::parse(&one.service);
        let parsed = parsed.map_err(|error| Failure::usage(error.to_string()))?;
        services.extend(parsed.into_iter().map(|service| (one.node, service)));
    }
    let only = services;
    Ok(Command::InviteOnly(Box::new(RestrictedInvite {
        invite,
        only,
    })))
}

fn options(request: InviteRequest) -> Result<InviteOptions, Failure> {
    let tags =
        Tags::new(request.tags).map_err(|_| Failure::usage("an invite gives at most 16 tags"))?;
    Ok(InviteOptions {
        name: request.name,
        tags,
        owner: request.owner,
        ttl_ms: request.ttl_ms,
        uses: request.uses,
        approve: request.approve,
        hints: request.hints,
        replaces: request.replaces,
        member_for_ms: request.member_for_ms,
        dry_run: request.dry_run,
    })
}

fn parse_range(text: &str) -> Result<Ipv4Range, Failure> {
    let parsed = text
        .split_once('/')
        .and_then(|(base, prefix)| Ipv4Range::new(base.parse().ok()?, prefix.parse().ok()?).ok());
    parsed.ok_or_else(|| {
        Failure::usage(format!("{text} is not an IPv4 range of 8 to 24 bits"))
            .hint("like 100.64.0.0/10, with zeros behind the prefix")
    })
}

/// The addresses of a code's hints.
async fn resolve(code: &InviteCode) -> Vec<HintAddress> {
    let mut found = Vec::new();
    for hint in code.hints() {
        let place = hint.place();
        match timeout(RESOLVE, lookup_host(place.clone())).await {
            Ok(Ok(addresses)) => {
                let addresses = addresses.take(HINT_ADDRESSES_MAX);
                found.extend(addresses.map(|address| HintAddress {
                    place: place.clone(),
                    address,
                    member: hint.member().copied(),
                }));
            }
            Ok(Err(_)) | Err(_) => tracing::warn!("a hint's name does not resolve"),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use meshnode_protocol::identity::Secret;

    use super::*;

    #[test]
    fn every_range_for_a_new_network_is_a_range() {
        for (base, prefix) in RANGES {
            assert!(
                Ipv4Range::new(base.into(), prefix).is_ok(),
                "{base:?}/{prefix}"
            );
        }
        assert!(parse_range("100.64.0.0/10").is_ok());
        assert!(parse_range("100.64.0.1/10").is_err());
        assert!(parse_range("here").is_err());
    }

    #[test]
    fn nobody_can_ask_for_more_probes_than_a_person_types() {
        let node = NodeId::new(Secret::from_seed(&[1; 32]).public());
        let ping = |count, interval_ms, timeout_ms| {
            bounded(&PingRequest {
                node,
                count,
                interval_ms,
                timeout_ms,
            })
        };
        let command = |count, interval_ms, timeout_ms| Command::Ping {
            node,
            count,
            interval_ms,
            timeout_ms,
        };
        assert_eq!(ping(u32::MAX, 0, u64::MAX), command(100_000, 10, 60_000));
        assert_eq!(ping(0, u64::MAX, 0), command(1, DAY_MS, 0));
        assert_eq!(ping(4, 1000, 5000), command(4, 1000, 5000));
    }
}
