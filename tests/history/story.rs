//! Random networks from a seed: partitions, revocations with every cut, joiners, and many who may not what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use meshnode_protocol::authority::Inserted;
use meshnode_protocol::body::{
    Body, Caps, Cut, Genesis, Grant, Invite, InviteClose, InviteTerms, Ipv4Range, Level, OpIds,
    Policy, PolicyBase, Rekey, Revoke, Tags, net_fields,
};
use meshnode_protocol::claim::{Admit, AdmitTerms, Claim, ClaimTerms};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{Digest, InviteKey, NodeId, OpId, RootKey};
use meshnode_protocol::identity::{Context, Keys, Secret, hash};
use meshnode_protocol::ledger::{Change, Ledger};
use meshnode_protocol::name::{NetworkName, NodeName, Owner, Tag};
use meshnode_protocol::op::{Author, Draft, Header, Op};
use meshnode_protocol::record::{NodeRecord, Record, RecordBody, Seen};
use meshnode_protocol::time::Timestamp;

const ACTORS: u8 = 12;
const PARTITIONS: usize = 3;
const NAMES: [&str; 4] = ["nas", "pi", "tv", "phone"];
const NOW: Timestamp = Timestamp::from_ms(1_795_284_240_500);

/// A network that is written into.
pub(crate) struct Story {
    pub(crate) ledger: Ledger,
    pub(crate) keys: Vec<Keys>,
    dice: u64,
    root: Secret,
    invites: BTreeMap<OpId, Secret>,
    claims: Vec<Claim>,
    heard: Vec<BTreeSet<OpId>>,
}

impl Story {
    /// A network with a history of so many steps.
    pub(crate) fn tell(seed: u64, steps: usize) -> Self {
        let mut story = Self::founded(seed);
        for (actor, level) in [(1, 10), (2, 20), (3, 20)] {
            let mut grant = story.grant(actor, Level(level));
            (grant.caps, grant.ext) = (Caps::ALL, Ext::NONE);
            let genesis = story.ledger.authority.realm().genesis;
            story.say(0, 0, genesis, Body::Grant(Box::new(grant)));
        }
        story.heard = vec![story.heard[0].clone(); PARTITIONS];
        for _ in 0..steps {
            story.step();
        }
        story.records();
        story
    }

    fn founded(seed: u64) -> Self {
        let keys: Vec<Keys> = (0..ACTORS).map(actor).collect();
        let root = Secret::from_seed(&[200; 32]);
        let genesis = Genesis {
            random: [seed.to_le_bytes()[0]; 32],
            roots: vec![RootKey::new(root.public())],
            threshold: 1,
            name: NetworkName::parse("homelab").unwrap(),
            ipv4_range: Ipv4Range::new(Ipv4Addr::new(10, 7, 0, 0), 24).unwrap(),
            founder: keys[0].node(),
            founder_name: NodeName::parse("nas").unwrap(),
            founder_ipv4: Ipv4Addr::new(10, 7, 0, 70),
            owner: Owner::parse("alice").ok(),
            epoch_commitment: Digest::ZERO,
            closed: false,
            ext: Ext::NONE,
        };
        let op = Op::found(genesis, NOW, std::slice::from_ref(&root), &keys[0].device);
        let (op, realm) = Op::parse_genesis(op.bytes()).unwrap();
        Self {
            heard: vec![BTreeSet::from([op.id()]); PARTITIONS],
            ledger: Ledger::new(op, realm),
            keys,
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            root,
            invites: BTreeMap::new(),
            claims: Vec::new(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 33) as usize % bound
    }

    fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    fn step(&mut self) {
        let partition = self.below(PARTITIONS);
        if self.one_in(3) {
            let other = self.below(PARTITIONS);
            let heard = self.heard[other].clone();
            self.heard[partition].extend(heard);
        }
        let (author, authority) = self.speaker(partition);
        let body = match self.below(16) {
            0..=3 => self.some_grant(),
            4..=6 => self.revoke(partition),
            7 => self.invite(author),
            8 => self.close(),
            9 => Body::Noop,
            10 => self.rekey(),
            11 => self.policy(),
            12 => return self.unknown(partition, author, authority),
            _ => return self.join(partition),
        };
        self.say(partition, author, authority, body);
    }

    /// Somebody with a title of its own; seldom with another's.
    fn speaker(&mut self, partition: usize) -> (usize, OpId) {
        let titles: Vec<(usize, OpId)> = self.heard[partition]
            .iter()
            .filter_map(|id| {
                let op = self.ledger.authority.op(id).unwrap();
                let device = match op.body() {
                    Body::Genesis(genesis) => genesis.founder,
                    Body::Grant(grant) if grant.level.is_admin() => grant.device,
                    Body::Grant(_)
                    | Body::Invite(_)
                    | Body::Revoke(_)
                    | Body::InviteClose(_)
                    | Body::Policy(_)
                    | Body::PolicyBase(_)
                    | Body::Rekey(_)
                    | Body::Noop
                    | Body::Opaque => return None,
                };
                let actor = self.keys.iter().position(|keys| keys.node() == device)?;
                Some((actor, *id))
            })
            .collect();
        let (actor, title) = titles[self.below(titles.len())];
        if self.one_in(10) {
            return (self.below(ACTORS.into()), title);
        }
        (actor, title)
    }

    /// Says something over the heads of a partition, or over an older op; true if it passed.
    pub(crate) fn say(
        &mut self,
        partition: usize,
        author: usize,
        authority: OpId,
        body: Body,
    ) -> bool {
        let draft = Draft {
            network: self.ledger.authority.network(),
            authority,
            time: NOW,
            parents: self.parents(partition, authority),
        };
        let op = if author == 0 && self.one_in(5) {
            let set = self.ledger.authority.realm().roots.clone();
            Op::sign_as_root(body, draft, std::slice::from_ref(&self.root), &set)
        } else {
            Op::sign(body, draft, &self.keys[author].device)
        };
        self.store(partition, &op.id(), op.bytes())
    }

    fn store(&mut self, partition: usize, id: &OpId, bytes: &[u8]) -> bool {
        let passed = matches!(
            self.ledger.authority.insert_op(bytes),
            Ok(Inserted::Added(_))
        );
        if passed {
            self.heard[partition].insert(*id);
        }
        passed
    }

    fn parents(&mut self, partition: usize, authority: OpId) -> Vec<OpId> {
        let heard: Vec<OpId> = self.heard[partition].iter().copied().collect();
        if self.one_in(4) {
            return vec![authority, heard[self.below(heard.len())]];
        }
        let mut heads = self.heard[partition].clone();
        for id in &heard {
            for parent in &self.ledger.authority.op(id).unwrap().header().parents {
                heads.remove(parent);
            }
        }
        heads.into_iter().take(16).collect()
    }

    fn some_grant(&mut self) -> Body {
        let actor = self.below(ACTORS.into());
        let level = [10, 20, 30, 255, 255][self.below(5)];
        let mut grant = self.grant(actor, Level(level));
        if !self.claims.is_empty() && self.one_in(2) {
            let place = self.below(self.claims.len());
            let claim = self.claims[place].clone();
            grant.device = claim.terms.device;
            grant.claim = Some(Box::new(claim));
        }
        Body::Grant(Box::new(grant))
    }

    fn grant(&mut self, actor: usize, level: Level) -> Grant {
        let caps = [Caps::ALL, Caps::ALL, Caps::MEMBERS][self.below(3)];
        let host = [70, 71, 72, 73, 3][self.below(5)];
        Grant {
            device: self.keys[actor].node(),
            level,
            caps: if level.is_admin() { caps } else { Caps::NONE },
            may_tag: Tags::default(),
            owner: self.one_in(4).then(|| Owner::parse("ben").unwrap()),
            tags: self.tags(),
            name: self.name(),
            ipv4: Ipv4Addr::new(10, 7, 0, host),
            expires: self.one_in(6).then_some(NOW),
            claim: None,
            ext: self.ext(),
        }
    }

    fn name(&mut self) -> NodeName {
        NodeName::parse(NAMES[self.below(NAMES.len())]).unwrap()
    }

    fn tags(&mut self) -> Tags {
        let tags = if self.one_in(4) {
            vec!["prod", "ci"]
        } else {
            vec![]
        };
        Tags::new(tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect()).unwrap()
    }

    fn ext(&mut self) -> Ext {
        match self.below(24) {
            0 => Ext::new(vec![(0x8000, vec![1])]).unwrap(),
            1 => Ext::new(vec![(1, vec![1])]).unwrap(),
            _ => Ext::NONE,
        }
    }

    fn revoke(&mut self, partition: usize) -> Body {
        let heard: Vec<OpId> = self.heard[partition].iter().copied().collect();
        let some = |story: &mut Self| heard[story.below(heard.len())];
        let cut = match self.below(3) {
            0 => Cut::Parents,
            1 => Cut::Heads(OpIds::new(vec![some(self), some(self)]).unwrap()),
            _ => Cut::Nothing,
        };
        let spare = if self.one_in(2) {
            vec![some(self), some(self)]
        } else {
            vec![]
        };
        let actor = self.below(ACTORS.into());
        Body::Revoke(Box::new(Revoke {
            device: self.keys[actor].node(),
            cut,
            spare: OpIds::new(spare).unwrap(),
            reason: "sold".to_owned(),
            ext: self.ext(),
        }))
    }

    fn invite(&mut self, author: usize) -> Body {
        let seed = [self.below(255) as u8; 32];
        let secret = Secret::from_seed(&seed);
        let terms = InviteTerms {
            key: InviteKey::new(secret.public()),
            rendezvous: seed,
            psk: seed,
            uses: 1 + self.below(3) as u16,
            not_after: NOW,
            approve: self.one_in(5),
            ephemeral: false,
            owner: None,
            tags: self.tags(),
            name: self.one_in(3).then(|| NodeName::parse("guest").unwrap()),
            replaces: None,
            member_for_ms: None,
            ext: Ext::NONE,
        };
        let genesis = self.ledger.authority.realm().genesis;
        let fields = net_fields(&genesis, &self.keys[author].node(), &terms);
        let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
        let net_signature = secret.sign(Context::Net, &fields);
        Body::Invite(Box::new(Invite {
            terms,
            net_signature,
        }))
    }

    /// An invite of the story, or zero.
    fn known_invite(&mut self) -> OpId {
        let ops = self.ledger.authority.ops();
        let known: Vec<OpId> = ops
            .filter(|op| op.body().invite().is_some())
            .map(Op::id)
            .collect();
        match known.len() {
            0 => OpId::ZERO,
            count => known[self.below(count)],
        }
    }

    fn close(&mut self) -> Body {
        Body::InviteClose(InviteClose {
            invite: self.known_invite(),
            ext: Ext::NONE,
        })
    }

    fn rekey(&mut self) -> Body {
        Body::Rekey(Rekey {
            epoch: 1 + self.below(4) as u32,
            commitment: Digest::new([7; 32]),
            ext: Ext::NONE,
        })
    }

    fn policy(&mut self) -> Body {
        let ops = self.ledger.authority.ops();
        let bases: Vec<OpId> = ops
            .filter(|op| op.body().policy_base().is_some())
            .map(Op::id)
            .collect();
        let base = bases.get(self.below(bases.len() + 1)).copied();
        let change = vec![1; 1 + self.below(40)];
        let ext = Ext::NONE;
        match base {
            Some(base) if !self.one_in(3) => Body::Policy(Policy { base, change, ext }),
            previous => Body::PolicyBase(PolicyBase {
                previous,
                change,
                ext,
            }),
        }
    }

    /// A kind from the future, a policy that is none, or one whose text was left out.
    fn unknown(&mut self, partition: usize, author: usize, authority: OpId) {
        let kind = [0x00FF, 77, 0x9000, 6, 7][self.below(5)];
        let body = b"from the future".as_slice();
        let header = Header {
            kind: meshnode_protocol::body::Kind(kind),
            network: self.ledger.authority.network(),
            author: Author::Device(self.keys[author].node()),
            authority,
            time: NOW,
            parents: self
                .parents(partition, authority)
                .into_iter()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            body_len: body.len() as u32,
            body_hash: hash(body),
            ext: self.ext(),
        };
        let head = header.to_bytes();
        let id = Op::peek_id(&head).unwrap();
        let signature = self.keys[author].device.sign(Context::Op, &[id.as_bytes()]);
        let stub = (kind == 6 || kind == 7) && self.one_in(2);
        let body = if stub { &[][..] } else { body };
        let bytes = [&head, signature.as_bytes().as_slice(), body].concat();
        self.store(partition, &id, &bytes);
    }

    fn join(&mut self, partition: usize) {
        let invite = self.known_invite();
        let Some(op) = self.ledger.authority.op(&invite) else {
            return;
        };
        let secret = Secret::from_seed(&op.body().invite().unwrap().terms.psk);
        self.invites.insert(invite, secret);
        let joiner = usize::from(ACTORS) - 1 - self.below(8);
        let witness = self.below(5);
        let network = self.ledger.authority.network();
        let terms = ClaimTerms {
            version: 1,
            network,
            invite,
            device: self.keys[joiner].node(),
            transport: self.keys[joiner].transport_binding(&network),
            tunnel: self.keys[joiner].tunnel_binding(&network),
            name: self.name(),
            time: NOW,
            witness: self.keys[witness].node(),
            transcript: Digest::ZERO,
            ext: self.ext(),
        };
        let claim = Claim::sign(terms, &self.invites[&invite], &self.keys[joiner].device);
        self.claims.push(claim.clone());
        let terms = AdmitTerms {
            version: 1,
            network,
            claim,
            heads: self.heard[partition].iter().copied().take(2).collect(),
            ext: Ext::NONE,
        };
        let admit = Admit::sign(terms, &self.keys[witness].device);
        self.ledger
            .insert_admit(admit.bytes(), &mut Change::default());
    }

    /// What the devices say of themselves; some left.
    fn records(&mut self) {
        let network = self.ledger.authority.network();
        // Ops that were given to the authority alone are unknown to the ledger's own list of devices.
        let ops: Vec<_> = self
            .ledger
            .authority
            .ops()
            .map(|op| op.bytes().clone())
            .collect();
        let admits: Vec<_> = self
            .ledger
            .authority
            .admits()
            .map(|a| a.bytes().to_vec())
            .collect();
        let realm = self.ledger.authority.realm().clone();
        let (genesis, _) = Op::parse_genesis(&ops[0]).unwrap();
        let mut ledger = Ledger::new(genesis, realm);
        let mut change = Change::default();
        ops[1..]
            .iter()
            .for_each(|op| ledger.insert_op(op, &mut change));
        admits
            .iter()
            .for_each(|admit| ledger.insert_admit(admit, &mut change));
        for actor in 0..usize::from(ACTORS) {
            let keys = self.keys[actor].clone();
            let node = NodeRecord {
                transport: keys.transport_binding(&network),
                tunnel: keys.tunnel_binding(&network),
                tunnel_next: self.one_in(2).then(|| keys.tunnel_binding(&network)),
                os: "linux".to_owned(),
                version: "0.1.0".to_owned(),
                ext: self.ext(),
            };
            let seen = Seen {
                heads: ledger.authority.heads().into_iter().take(16).collect(),
                ops: 1,
                epoch: 0,
                policy: None,
                ext: Ext::NONE,
            };
            let mut bodies = vec![RecordBody::Node(Box::new(node)), RecordBody::Seen(seen)];
            bodies.extend(self.one_in(8).then_some(RecordBody::Left));
            for body in bodies {
                let record = Record::sign(network, 1, body, &keys.device);
                ledger.insert_record(record.bytes(), &mut change);
            }
        }
        self.ledger = ledger;
    }

    /// The founder and the second admin.
    pub(crate) fn node(&self, actor: usize) -> NodeId {
        self.keys[actor].node()
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
