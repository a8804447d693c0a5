//! Random networks from a seed: admins in partitions, joiners, and liars who sign what they may not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use meshnode_protocol::authority::{Authority, Inserted};
use meshnode_protocol::body::{Body, Caps, Genesis, Grant, Ipv4Range, Kind, Level, Tags};
use meshnode_protocol::claim::Claim;
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{Digest, NodeId, OpId, RootKey};
use meshnode_protocol::identity::{Context, Keys, Secret, hash, hash_as};
use meshnode_protocol::name::{NetworkName, NodeName, Owner, Tag};
use meshnode_protocol::op::{Author, Draft, Header, Op, Realm};
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::view::View;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Devices of a scenario; the first founds the network.
pub(crate) const ACTORS: usize = 14;
/// The wall clock of all views here.
pub(crate) const NOW: Timestamp = Timestamp::from_ms(1_000_000);
const STEPS: usize = 48;
pub(crate) const PARTITIONS: usize = 3;
const NAMES: [&str; 4] = ["nas", "pi", "tv", "phone"];

/// Making keys is slow: they are the same in all networks.
static CAST: LazyLock<(Vec<Keys>, Vec<NodeId>)> = LazyLock::new(|| {
    let keys: Vec<Keys> = (0..ACTORS as u8).map(actor).collect();
    let nodes = keys.iter().map(Keys::node).collect();
    (keys, nodes)
});

/// A network that is written into.
pub(crate) struct Scenario {
    /// Where it began.
    pub(crate) seed: u64,
    /// The source of all choices.
    pub(crate) rng: ChaCha8Rng,
    /// The devices.
    pub(crate) keys: Vec<Keys>,
    /// Their ids.
    pub(crate) nodes: Vec<NodeId>,
    /// The root key.
    pub(crate) root: Secret,
    /// Everything that passed, as one replica holds it.
    pub(crate) authority: Authority,
    /// The bytes of everything said, in causal order: also what was refused.
    pub(crate) ops: Vec<Vec<u8>>,
    /// The bytes of every admit.
    pub(crate) admits: Vec<Vec<u8>>,
    /// Devices that left.
    pub(crate) left: BTreeSet<NodeId>,
    /// The secret key of each invite.
    pub(crate) invites: BTreeMap<OpId, Secret>,
    /// How many words of those who were put out were stored.
    pub(crate) late: usize,
    /// What was claimed.
    pub(crate) claims: Vec<Claim>,
    /// Whether everybody asks for what nobody has.
    pub(crate) calm: bool,
    /// What each partition has heard.
    pub(crate) heard: Vec<BTreeSet<OpId>>,
}

impl Scenario {
    /// A network of a founder alone.
    pub(crate) fn founded(seed: u64) -> Self {
        let (keys, nodes) = CAST.clone();
        let root = Secret::from_seed(&[200; 32]);
        let genesis = Genesis {
            random: [1; 32],
            roots: vec![RootKey::new(root.public())],
            threshold: 1,
            name: NetworkName::parse("homelab").unwrap(),
            ipv4_range: Ipv4Range::new(Ipv4Addr::new(10, 7, 0, 0), 24).unwrap(),
            founder: nodes[0],
            founder_name: NodeName::parse("nas").unwrap(),
            founder_ipv4: Ipv4Addr::new(10, 7, 0, 70),
            owner: None,
            epoch_commitment: Digest::ZERO,
            closed: false,
            ext: Ext::NONE,
        };
        let roots = std::slice::from_ref(&root);
        let op = Op::found(genesis, NOW, roots, &keys[0].device);
        let (op, realm) = Op::parse_genesis(op.bytes()).unwrap();
        let heard = vec![BTreeSet::from([op.id()]); PARTITIONS];
        Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            keys,
            nodes,
            root,
            authority: Authority::found(op, realm),
            ops: Vec::new(),
            admits: Vec::new(),
            left: BTreeSet::new(),
            invites: BTreeMap::new(),
            late: 0,
            claims: Vec::new(),
            calm: false,
            heard,
        }
    }

    /// A network with a history.
    pub(crate) fn random(seed: u64) -> Self {
        Self::founded(seed).with_a_history()
    }

    /// A network to which something happened.
    pub(crate) fn with_a_history(self) -> Self {
        let mut scenario = self;
        // Two admins in every history, else most of what is said is void.
        for (actor, level) in [(1, 10), (2, 20)] {
            let mut grant = scenario.grant(actor, Level(level));
            grant.caps = Caps::ALL;
            let genesis = scenario.authority.realm().genesis;
            scenario.say(0, 0, genesis, Body::Grant(Box::new(grant)));
            scenario.merge(1, 0);
            scenario.merge(2, 0);
        }
        for _ in 0..STEPS {
            scenario.step();
        }
        for actor in 0..ACTORS {
            if scenario.one_in(16) {
                scenario.left.insert(scenario.nodes[actor]);
            }
        }
        // What came before the grant of its witness is no part of the set until somebody sends it again.
        for admit in scenario.admits.clone() {
            let _ = scenario.authority.insert_admit(&admit);
        }
        scenario
    }

    /// The view of everything.
    pub(crate) fn view(&self) -> View {
        View::compute(&self.authority, &self.left, NOW)
    }

    /// An empty replica of the same network.
    pub(crate) fn replica(&self) -> Authority {
        let realm: Realm = self.authority.realm().clone();
        let genesis = self.authority.op(&realm.genesis).unwrap().clone();
        Authority::found(genesis, realm)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.rng.next_u32() as usize % bound
    }

    /// True once in `odds` times.
    pub(crate) fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    /// One thing happens somewhere.
    fn step(&mut self) {
        let partition = self.below(PARTITIONS);
        if self.one_in(3) {
            let other = self.below(PARTITIONS);
            self.merge(partition, other);
        }
        match self.below(24) {
            0..=4 => self.say_grant(partition),
            5 | 6 => self.say_invite(partition),
            7 => self.say_body(partition, Body::Noop),
            8 => self.say_unknown(partition),
            9..=12 if self.calm && !self.one_in(8) => self.join(partition),
            9..=12 => self.say_revoke(partition),
            13 | 14 => self.say_again(partition),
            15 => self.say_close(partition),
            16 => self.say_rekey(partition),
            17 | 18 => self.say_policy(partition),
            19 | 20 => self.say_late(partition),
            _ => self.join(partition),
        }
    }

    /// What one partition hears of another.
    fn merge(&mut self, to: usize, from: usize) {
        let heard = self.heard[from].clone();
        self.heard[to].extend(heard);
    }

    /// An author, and mostly a title of its own that it heard of; seldom somebody else's.
    pub(crate) fn speaker(&mut self, partition: usize) -> (usize, OpId) {
        if self.one_in(6) {
            let heard: Vec<OpId> = self.heard[partition].iter().copied().collect();
            return (self.below(ACTORS), heard[self.below(heard.len())]);
        }
        let titles: Vec<(usize, OpId)> = self.heard[partition]
            .iter()
            .filter_map(|id| {
                let device = match self.authority.op(id).unwrap().body() {
                    Body::Genesis(genesis) => genesis.founder,
                    Body::Grant(grant) if grant.level.is_admin() => grant.device,
                    _ => return None,
                };
                let actor = self.nodes.iter().position(|node| *node == device)?;
                Some((actor, *id))
            })
            .collect();
        titles[self.below(titles.len())]
    }

    pub(crate) fn say_body(&mut self, partition: usize, body: Body) {
        let (author, authority) = self.speaker(partition);
        self.say(partition, author, authority, body);
    }

    /// A device says something over the heads of its partition, or over an older op; true if it passed.
    pub(crate) fn say(
        &mut self,
        partition: usize,
        author: usize,
        authority: OpId,
        body: Body,
    ) -> bool {
        let parents = self.parents(partition, authority);
        self.say_over(partition, (author, authority), parents, body)
    }

    /// A device says something over these parents; true if it passed.
    pub(crate) fn say_over(
        &mut self,
        partition: usize,
        (author, authority): (usize, OpId),
        parents: Vec<OpId>,
        body: Body,
    ) -> bool {
        let draft = Draft {
            network: self.authority.network(),
            authority,
            time: NOW,
            parents,
        };
        let op = if author == 0 && self.one_in(6) {
            let set = self.authority.realm().roots.clone();
            Op::sign_as_root(body, draft, std::slice::from_ref(&self.root), &set)
        } else {
            Op::sign(body, draft, &self.keys[author].device)
        };
        let body = op.header().body_len as usize;
        if op.header().kind.may_be_stub() && body > 0 && self.one_in(4) {
            let stub = op.bytes()[..op.bytes().len() - body].to_vec();
            let passed = self.tell(partition, op.id(), &stub);
            if self.one_in(2) {
                return passed;
            }
        }
        self.tell(partition, op.id(), op.bytes())
    }

    /// Gives bytes to a partition; true if they passed.
    pub(crate) fn tell(&mut self, partition: usize, id: OpId, bytes: &[u8]) -> bool {
        self.ops.push(bytes.to_vec());
        let passed = matches!(self.authority.insert_op(bytes), Ok(Inserted::Added(_)));
        if passed {
            self.heard[partition].insert(id);
        }
        passed
    }

    pub(crate) fn parents(&mut self, partition: usize, authority: OpId) -> Vec<OpId> {
        if self.one_in(4) {
            let heard: Vec<OpId> = self.heard[partition].iter().copied().collect();
            return vec![authority, heard[self.below(heard.len())]];
        }
        if self.one_in(24) {
            // Mostly it has not the authority in its past.
            let heard: Vec<OpId> = self.heard[partition].iter().copied().collect();
            return vec![heard[self.below(heard.len())]];
        }
        let heard = &self.heard[partition];
        let mut heads = heard.clone();
        for id in heard {
            for parent in &self.authority.op(id).unwrap().header().parents {
                heads.remove(parent);
            }
        }
        heads.into_iter().take(16).collect()
    }

    fn say_grant(&mut self, partition: usize) {
        let actor = self.below(ACTORS);
        let level = [1, 10, 20, 30, 255, 255][self.below(6)];
        let mut grant = self.grant(actor, Level(level));
        if !self.claims.is_empty() && self.one_in(2) {
            let place = self.below(self.claims.len());
            let claim = self.claims[place].clone();
            if !self.one_in(6) {
                grant.device = claim.terms.device;
            }
            grant.claim = Some(Box::new(claim));
        }
        self.say_body(partition, Body::Grant(Box::new(grant)));
    }

    /// A grant with random attributes.
    pub(crate) fn grant(&mut self, actor: usize, level: Level) -> Grant {
        let admin = level.is_admin();
        let caps = [Caps::ALL, Caps::MEMBERS, Caps::NONE][self.below(3)];
        let ipv4 = match self.below(8) {
            0 => Ipv4Addr::new(10, 7, 0, 3),
            1 => Ipv4Addr::new(8, 8, 8, 8),
            _ if self.calm => Ipv4Addr::new(10, 7, 0, 71 + self.below(160) as u8),
            _ => Ipv4Addr::new(10, 7, 0, 70 + self.below(5) as u8),
        };
        Grant {
            device: self.nodes[actor],
            level,
            caps: if admin { caps } else { Caps::NONE },
            may_tag: if admin { self.tags() } else { Tags::default() },
            owner: self.owner(),
            tags: self.tags(),
            name: self.name(),
            ipv4,
            expires: [None, None, Some(Timestamp::from_ms(5)), Some(NOW)][self.below(4)],
            claim: None,
            ext: self.ext(),
        }
    }

    pub(crate) fn name(&mut self) -> NodeName {
        if self.calm {
            let number = self.below(1000);
            return NodeName::parse(&format!("node-{number}")).unwrap();
        }
        // The name that a device gets when it loses `nas` is worth stealing too.
        if self.one_in(8) {
            let actor = self.below(ACTORS);
            let suffix = &self.nodes[actor].short()[..4];
            return NodeName::parse("nas").unwrap().with_suffix(suffix);
        }
        NodeName::parse(NAMES[self.below(NAMES.len())]).unwrap()
    }

    pub(crate) fn tags(&mut self) -> Tags {
        let tags = match self.below(6) {
            0 => vec![Tag::parse("prod").unwrap()],
            _ => Vec::new(),
        };
        Tags::new(tags).unwrap()
    }

    pub(crate) fn owner(&mut self) -> Option<Owner> {
        self.one_in(8).then(|| Owner::parse("alice").unwrap())
    }

    pub(crate) fn ext(&mut self) -> Ext {
        match self.below(24) {
            0 => Ext::new(vec![(0x8000, vec![1])]).unwrap(),
            1 => Ext::new(vec![(1, vec![1])]).unwrap(),
            _ => Ext::NONE,
        }
    }

    fn say_unknown(&mut self, partition: usize) {
        let (author, authority) = self.speaker(partition);
        let kind = [Kind::RULES, Kind(77), Kind(0x9000)][self.below(3)];
        self.unknown(partition, author, authority, kind);
    }

    /// An op of a kind that nobody knows; its id if it passed.
    pub(crate) fn unknown(
        &mut self,
        partition: usize,
        author: usize,
        authority: OpId,
        kind: Kind,
    ) -> Option<OpId> {
        let ext = self.ext();
        let parents = self.parents(partition, authority);
        let said = (kind, b"from the future".as_slice());
        let (id, bytes) = self.craft(parents, author, authority, said, ext);
        self.tell(partition, id, &bytes).then_some(id)
    }

    /// The id and the bytes of an op with any body, soundly signed.
    pub(crate) fn craft(
        &self,
        mut parents: Vec<OpId>,
        author: usize,
        authority: OpId,
        (kind, body): (Kind, &[u8]),
        ext: Ext,
    ) -> (OpId, Vec<u8>) {
        parents.sort_unstable();
        parents.dedup();
        let header = Header {
            kind,
            network: self.authority.network(),
            author: Author::Device(self.nodes[author]),
            authority,
            time: NOW,
            parents,
            body_len: body.len() as u32,
            body_hash: hash(body),
            ext,
        };
        let head = header.to_bytes();
        let id = OpId::new(*hash_as("meshnode op id 1", &head).as_bytes());
        let device = &self.keys[author].device;
        let signature = device.sign(Context::Op, &[id.as_bytes()]);
        (id, [&head, signature.as_bytes().as_slice(), body].concat())
    }
}

fn actor(number: u8) -> Keys {
    let secret = |kind: u8| {
        let mut seed = [number; 32];
        seed[0] = kind;
        Secret::from_seed(&seed)
    };
    Keys {
        device: secret(1),
        transport: secret(2),
        tunnel: secret(3),
    }
}
