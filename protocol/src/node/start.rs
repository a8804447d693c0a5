//! The three ways a node begins: it founds a network, joins one, or resumes what its store holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use super::Node;
use super::errands::Errands;
use super::joiner::Joiner;
use super::links::Links;
use super::locators::Locators;
use super::net::{Net, Phase};
use super::news::Mailbox;
use super::relays::Relays;
use super::service::Served;
use super::witness::Door;
use crate::body::{Genesis, Ipv4Range};
use crate::codec::Ext;
use crate::custody::{Custody, KeptSecrets};
use crate::epochs::Epochs;
use crate::id::{NodeId, RootKey, TransportKey};
use crate::identity::{Keys, Secret};
use crate::invite::{InviteCode, locator};
use crate::io::{Mapped, Notice, Output, Stored, Write};
use crate::ledger::{Change, Ledger};
use crate::limits::ROOT_KEYS_MAX;
use crate::name::{NetworkName, NodeName, Owner};
use crate::op::{Header, Op};
use crate::path::Punch;
use crate::recovery::RecoveryPhrase;
use crate::seal::EpochKey;
use crate::time::Moment;

/// What the core must know of its surroundings.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The UDP port of the tunnel's sockets.
    pub tunnel_port: u16,
    /// Operating system, for the Node record; at most 32 bytes.
    pub os: String,
    /// Program version; at most 32 bytes.
    pub version: String,
    /// What may be done against routers that give every destination another port.
    pub punch: Punch,
}

/// A network to be.
#[derive(Debug, Clone)]
pub struct Founding {
    /// Its name.
    pub network: NetworkName,
    /// The founder's name.
    pub node: NodeName,
    /// Where IPv4 addresses come from.
    pub ipv4_range: Ipv4Range,
    /// The founder's owner.
    pub owner: Option<Owner>,
    /// How many recovery phrases there are, 1 to [`ROOT_KEYS_MAX`].
    pub phrases: u8,
    /// How many of them must sign, 1 to their number.
    pub threshold: u8,
}

/// A network that was founded.
#[derive(Debug)]
pub struct Founded {
    /// Its first node.
    pub node: Node,
    /// The way back if every admin device is lost; the core keeps them nowhere.
    pub phrases: Vec<RecoveryPhrase>,
}

/// A join to be.
#[derive(Debug)]
pub struct Joining {
    /// The code.
    pub code: InviteCode,
    /// The addresses of its hints.
    pub hints: Vec<HintAddress>,
    /// The name that the node would like.
    pub name: NodeName,
    /// Give up, uptime in milliseconds from now.
    pub timeout_ms: u64,
    /// What an earlier attempt left in the store.
    pub secrets: Option<KeptSecrets>,
}

/// Where a hint leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintAddress {
    /// The place as it stands in the code, for people.
    pub place: String,
    /// What it resolved to.
    pub address: SocketAddr,
    /// The member that is reached by a circuit, if a relay is there.
    pub member: Option<TransportKey>,
}

/// Why a store cannot be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// No secrets: there is no membership here.
    #[error("the store holds no membership")]
    NoMembership,
    /// The secrets are not readable by this version.
    #[error("the secrets file is of another version or damaged")]
    Secrets,
    /// A join that never came to an end; it starts anew with `join`.
    #[error("the last join did not come to its end")]
    Unfinished,
}

impl Node {
    /// Founds a network: works with no other node and no connection at all.
    #[must_use]
    pub fn found(founding: Founding, setup: Setup, seed: [u8; 32], now: Moment) -> Founded {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let keys = Keys::generate(&mut rng);
        let count = usize::from(founding.phrases).clamp(1, ROOT_KEYS_MAX);
        let generate = |_| RecoveryPhrase::generate(&mut rng);
        let phrases: Vec<RecoveryPhrase> = (0..count).map(generate).collect();
        let secrets: Vec<Secret> = phrases.iter().map(RecoveryPhrase::root_key).collect();
        let mut roots: Vec<RootKey> = secrets.iter().map(|s| RootKey::new(s.public())).collect();
        roots.sort_unstable();
        let threshold = usize::from(founding.threshold).clamp(1, count) as u8;
        let epoch = EpochKey::generate(&mut rng);
        let mut random = [0; 32];
        rng.fill_bytes(&mut random);
        let genesis = Genesis {
            random,
            roots,
            threshold,
            name: founding.network,
            ipv4_range: founding.ipv4_range,
            founder: keys.node(),
            founder_name: founding.node,
            founder_ipv4: founder_ipv4(founding.ipv4_range, &random),
            owner: founding.owner,
            epoch_commitment: epoch.commitment(),
            closed: false,
            ext: Ext::NONE,
        };
        let op = Op::found(genesis, now.wall, &secrets, &keys.device);
        let (op, realm) =
            Op::parse_genesis(op.bytes()).expect("a genesis of our own making parses");
        let mut epochs = Epochs::default();
        epochs.insert(0, epoch);
        let mut custody = Custody::new(&keys);
        custody.genesis = op.bytes().to_vec();
        custody.epochs = epochs.danger_keys();
        custody.joined = true;
        let mut node = Self::bare(keys, setup, custody, rng);
        let mut net = Net::new(Ledger::new(op, realm), epochs, Phase::Open, now);
        net.synced = true;
        let mut writes = net.ledger.all_writes();
        writes.push(Write::Secrets(node.custody.to_bytes()));
        node.net = Some(net);
        let heard = node.note_heard(&writes, now);
        writes.extend(heard);
        node.persist(writes, true);
        node.open(now);
        Founded { node, phrases }
    }

    /// Starts to join: the connection to a member is the driver's next work.
    ///
    /// # Errors
    /// When an earlier attempt's secrets are unreadable.
    pub fn join(
        joining: Joining,
        setup: Setup,
        seed: [u8; 32],
        now: Moment,
    ) -> Result<Self, StartError> {
        let mut rng = ChaCha20Rng::from_seed(seed);
        // The keys of an earlier attempt: if that got through, the invite is spent on them.
        let code = joining.code.secret().stretch();
        let earlier = match &joining.secrets {
            Some(bytes) => Some(Custody::parse(bytes).map_err(|_| StartError::Secrets)?),
            None => None,
        };
        let custody = earlier
            .filter(|custody| custody.code == locator(&code.rendezvous))
            .unwrap_or_else(|| Custody::new(&Keys::generate(&mut rng)));
        let keys = custody.keys();
        let joiner = Joiner::new(&joining, code, now);
        let mut node = Self::bare(keys, setup, custody, rng);
        node.joiner = Some(joiner);
        node.dial_hints();
        Ok(node)
    }

    /// Resumes a membership from what the store still has.
    ///
    /// # Errors
    /// When there is no membership to resume.
    pub fn resume(
        stored: &Stored,
        setup: Setup,
        seed: [u8; 32],
        now: Moment,
    ) -> Result<Self, StartError> {
        let custody = open_custody(stored)?;
        let (genesis, realm) =
            Op::parse_genesis(&custody.genesis).map_err(|_| StartError::Secrets)?;
        Self::resume_over(Ledger::new(genesis, realm), stored, setup, seed, now)
    }

    /// The same over a ledger that has a part of the store already: whoever runs many nodes of one network reads what
    /// their stores share once.
    ///
    /// # Errors
    /// When there is no membership to resume, or the ledger is of another network.
    pub fn resume_over(
        ledger: Ledger,
        stored: &Stored,
        setup: Setup,
        seed: [u8; 32],
        now: Moment,
    ) -> Result<Self, StartError> {
        let rng = ChaCha20Rng::from_seed(seed);
        let custody = open_custody(stored)?;
        if Op::peek_id(&custody.genesis) != Ok(ledger.authority.realm().genesis) {
            return Err(StartError::Secrets);
        }
        let mut epochs = Epochs::default();
        for (number, key) in &custody.epochs {
            epochs.insert(*number, EpochKey::from_bytes(key));
        }
        let keys = custody.keys();
        let mut node = Self::bare(keys, setup, custody, rng);
        node.blocked = stored.blocked.iter().copied().collect();
        let mut net = Net::new(ledger, epochs, Phase::Open, now);
        load(&mut net, stored);
        let missing: Vec<_> = stored
            .heads
            .iter()
            .filter(|id| !net.authority().contains(id))
            .copied()
            .collect();
        net.heads_written.clone_from(&stored.heads);
        let heard = stored.heard.iter();
        net.heard = heard
            .filter(|(id, _)| net.authority().contains(id))
            .copied()
            .collect();
        // Without an op that names this very node, everything since the genesis is lost.
        let unnamed = !net.ledger.names(&node.id);
        if stored.suspect || unnamed || !missing.is_empty() {
            node.notice(Notice::Recovering {
                missing: missing.len(),
            });
            net.phase = Phase::Recovering { goal: missing };
        }
        node.net = Some(net);
        node.resume_trial(stored.trial);
        node.open(now);
        Ok(node)
    }

    fn bare(keys: Keys, setup: Setup, custody: Custody, rng: ChaCha20Rng) -> Self {
        Self {
            id: keys.node(),
            keys,
            coming: None,
            setup,
            rng,
            custody,
            out: VecDeque::new(),
            dials: 0,
            calls: 0,
            pending: BTreeMap::new(),
            links: Links::default(),
            locators: Locators::default(),
            relays: Relays::default(),
            net: None,
            joiner: None,
            door: Door::default(),
            mailbox: Mailbox::default(),
            served: Served::default(),
            errands: Errands::default(),
            blocked: BTreeSet::new(),
            trial: None,
            interfaces: Vec::new(),
            mapped: Mapped::default(),
            listening: Vec::new(),
            disk_failure: None,
            gone: false,
        }
    }

    /// The seed of the transport key, for the driver to start the links with.
    #[must_use]
    pub fn danger_transport_seed(&self) -> Zeroizing<[u8; 32]> {
        self.keys.transport.danger_seed()
    }

    /// The X25519 secret of the tunnel key, for the driver to start the engine with.
    #[must_use]
    pub fn danger_tunnel_secret(&self) -> Zeroizing<[u8; 32]> {
        self.keys.tunnel.danger_x25519()
    }

    /// Everything that follows from being in: own records, addresses, peers.
    pub(super) fn open(&mut self, now: Moment) {
        if let Some(topic) = self.net.as_ref().and_then(|net| net.epochs.topic()) {
            self.link(crate::link::LinkOutput::Topic(topic));
        }
        self.publish_node_record(now);
        if let Some(net) = &mut self.net {
            net.dirty = true;
            net.timers.sync_ms = now.uptime_ms() + 1000;
            net.timers.endpoints_ms = Some(now.uptime_ms());
            net.timers.tip_ms = Some(now.uptime_ms() + 2000);
            net.opened_ms = now.uptime_ms();
        }
        self.refresh(now);
    }

    pub(super) fn persist(&mut self, writes: Vec<Write>, flush: bool) {
        if !writes.is_empty() {
            self.out.push_back(Output::Persist { writes, flush });
        }
    }
}

fn open_custody(stored: &Stored) -> Result<Custody, StartError> {
    let secrets = stored.secrets.as_ref().ok_or(StartError::NoMembership)?;
    let custody = Custody::parse(secrets).map_err(|_| StartError::Secrets)?;
    if custody.joined {
        Ok(custody)
    } else {
        Err(StartError::Unfinished)
    }
}

/// Inserts what a store held: ops parents first, then admits, then records.
fn load(net: &mut Net, stored: &Stored) {
    let mut change = Change::default();
    for bytes in causal(&stored.ops) {
        net.ledger.insert_op(bytes, &mut change);
    }
    for bytes in &stored.admits {
        net.ledger.insert_admit(bytes, &mut change);
    }
    for bytes in &stored.records {
        net.ledger.insert_record(bytes, &mut change);
    }
}

/// Sorts ops so that parents stand before children, without checking anything.
fn causal(ops: &[Vec<u8>]) -> Vec<&[u8]> {
    let mut waiting = BTreeMap::new();
    for bytes in ops {
        if let (Ok((header, _)), Ok(id)) = (Header::parse(bytes), Op::peek_id(bytes)) {
            waiting.insert(id, (header.parents, bytes.as_slice()));
        }
    }
    let mut sorted = Vec::with_capacity(waiting.len());
    let mut stack: Vec<_> = waiting.keys().copied().collect();
    while let Some(id) = stack.pop() {
        let Some((parents, _)) = waiting.get(&id) else {
            continue;
        };
        let missing: Vec<_> = parents
            .iter()
            .filter(|p| waiting.contains_key(p))
            .copied()
            .collect();
        if missing.is_empty() {
            let (_, bytes) = waiting.remove(&id).expect("it was just looked at");
            sorted.push(bytes);
        } else {
            stack.push(id);
            stack.extend(missing);
        }
    }
    sorted
}

/// The founder's address: a random one, so that two homes that meet some day rarely collide.
fn founder_ipv4(range: Ipv4Range, random: &[u8; 32]) -> std::net::Ipv4Addr {
    let network = crate::id::NetworkId::ZERO;
    let stand_in = Secret::from_seed(random);
    crate::address::ipv4_candidate(range, &network, &NodeId::new(stand_in.public()), 0)
}
