//! A network that has been for long: the invites, grants and records that years of joins left, and everybody's disk.
//!
//! To let a thousand machines join costs a million checks of each step. Here the founder's own node founds and
//! invites, then its key signs the grants that its daemon would have signed, and every item goes through the ledger
//! of the core, which refuses what a node would refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use meshnode_protocol::address::ipv4_candidate;
use meshnode_protocol::body::{Body, Caps, Grant, Level, Tags};
use meshnode_protocol::claim::{Claim, ClaimTerms};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::custody::Custody;
use meshnode_protocol::id::{Digest, NodeId, OpId, TransportKey};
use meshnode_protocol::identity::{Keys, Secret};
use meshnode_protocol::invite::InviteCode;
use meshnode_protocol::io::Write;
use meshnode_protocol::ledger::{Change, Ledger};
use meshnode_protocol::op::{Draft, Op};
use meshnode_protocol::record::{Candidate, CandidateKind, Endpoints, Nat, NodeRecord};
use meshnode_protocol::record::{Record, RecordBody};
use meshnode_protocol::time::Timestamp;

use crate::chance::seed;
use crate::disk::{Base, Disk};
use crate::machine::{MachineId, Stop, WALL_START_MS};
use crate::network::PORT;
use crate::people::Terms;
use crate::scenarios::site;
use crate::world::{Broken, World};

/// Newcomers of one invite; more have the next.
const USES: usize = 1000;
/// When the endpoints that everybody knows were published: an hour ago.
const PUBLISHED: Timestamp = Timestamp::from_ms(WALL_START_MS - 3_600_000);

/// The network while it is written.
struct Charter {
    ledger: Ledger,
    change: Change,
    founder: Secret,
    custody: Custody,
    taken: BTreeSet<Ipv4Addr>,
}

/// An invite that was printed.
struct Invite {
    key: Secret,
    id: OpId,
}

impl World {
    /// A network of so many members, all off; the first is the founder.
    pub(crate) fn charter(&mut self, members: usize) -> Result<MachineId, Broken> {
        let site_of_founder = self.network.add_public();
        let founder = self.found(site_of_founder);
        self.run_for(100)?;
        let mut codes = Vec::new();
        for _ in 0..members.div_ceil(USES) {
            codes.push(self.invite(founder, Terms::uses(USES))?);
        }
        self.stop(founder, Stop::Kill);
        let mut charter = Charter::read(&self.machine(founder).disk);
        let invites: Vec<_> = codes.iter().map(|code| charter.invite(code)).collect();
        let mut secrets = BTreeMap::new();
        secrets.insert(founder, charter.custody.to_bytes());
        for number in 1..members {
            let site = site(self);
            let id = self.add_machine(site);
            let custody = self.let_in(id, &mut charter, &invites[number / USES]);
            secrets.insert(id, custody.to_bytes());
        }
        let heads = charter.ledger.authority.heads();
        charter.ledger.records.share(self.library.clone());
        let base = Arc::new(charter.base());
        for (id, secrets) in secrets {
            self.machine_mut(id).disk = Disk::of_a_member(&base, secrets, heads.clone());
        }
        Ok(founder)
    }

    /// What a join leaves of a machine: its grant, its records, its secrets.
    fn let_in(&mut self, id: MachineId, charter: &mut Charter, invite: &Invite) -> Custody {
        let keys = Keys::generate(&mut self.rng);
        let transcript = Digest::new(seed(&mut self.rng));
        let network = charter.ledger.authority.network();
        let terms = ClaimTerms {
            version: 1,
            network,
            invite: invite.id,
            device: keys.node(),
            transport: keys.transport_binding(&network),
            tunnel: keys.tunnel_binding(&network),
            name: Self::name(id.0),
            time: Timestamp::from_ms(WALL_START_MS),
            witness: NodeId::new(charter.founder.public()),
            transcript,
            ext: Ext::NONE,
        };
        charter.grant(Claim::sign(terms, &invite.key, &keys.device));
        let node = NodeRecord {
            transport: keys.transport_binding(&network),
            tunnel: keys.tunnel_binding(&network),
            tunnel_next: None,
            os: self.setup().os,
            version: self.version.clone(),
            ext: Ext::NONE,
        };
        let machine = self.machine_mut(id);
        machine.key = TransportKey::new(keys.transport.public());
        let host = Candidate {
            kind: CandidateKind::Host,
            address: (machine.place.address, PORT).into(),
        };
        let endpoints = Endpoints {
            tunnel: vec![host],
            control: machine.listening(),
            nat: Nat::Unknown,
            homes: Vec::new(),
            carries: false,
            ttl_s: 7200,
            ext: Ext::NONE,
        };
        for body in [
            RecordBody::Node(Box::new(node)),
            RecordBody::Endpoints(endpoints),
        ] {
            let record = Record::sign(network, PUBLISHED.ms(), body, &keys.device);
            charter
                .ledger
                .insert_record(record.bytes(), &mut charter.change);
        }
        let mut custody = Custody::new(&keys);
        custody.genesis.clone_from(&charter.custody.genesis);
        custody.epochs.clone_from(&charter.custody.epochs);
        custody.joined = true;
        custody
    }
}

impl Charter {
    /// Begins with what the founder's disk has.
    fn read(disk: &Disk) -> Self {
        let stored = disk.stored();
        let secrets = stored.secrets.expect("a founder's secrets are on its disk");
        let custody = Custody::parse(&secrets).expect("a founder's secrets are readable");
        let (genesis, realm) =
            Op::parse_genesis(&custody.genesis).expect("the secrets hold the genesis");
        let mut change = Change::default();
        let mut ledger = Ledger::new(genesis.clone(), realm);
        change
            .writes
            .push(Write::Op(genesis.id(), genesis.bytes().to_vec()));
        // An invite waits for the one before it.
        for _ in 0..stored.ops.len() {
            for bytes in &stored.ops {
                ledger.insert_op(bytes, &mut change);
            }
        }
        change.held = false;
        for bytes in &stored.records {
            ledger.insert_record(bytes, &mut change);
        }
        let taken = BTreeSet::from([ledger.authority.genesis().founder_ipv4]);
        Self {
            founder: custody.keys().device,
            ledger,
            change,
            custody,
            taken,
        }
    }

    /// The invite that a code is of.
    fn invite(&self, code: &str) -> Invite {
        let code = InviteCode::parse(code).expect("the code was printed by an invite");
        let keys = code.secret().stretch();
        let public = keys.public();
        let is_it =
            |op: &&Op| matches!(op.body(), Body::Invite(invite) if invite.terms.key == public);
        let op = self.ledger.authority.ops().find(is_it);
        Invite {
            key: keys.key,
            id: op.expect("the invite's op is on the founder's disk").id(),
        }
    }

    /// The founder settles a claim.
    fn grant(&mut self, claim: Claim) {
        let authority = &self.ledger.authority;
        let (network, genesis) = (authority.network(), authority.realm().genesis);
        let range = authority.genesis().ipv4_range;
        let device = claim.terms.device;
        let ipv4 = (0..)
            .map(|i| ipv4_candidate(range, &network, &device, i))
            .find(|address| !self.taken.contains(address))
            .expect("four million addresses are enough");
        self.taken.insert(ipv4);
        let grant = Grant {
            device,
            level: Level::MEMBER,
            caps: Caps::NONE,
            may_tag: Tags::default(),
            owner: None,
            tags: Tags::default(),
            name: claim.terms.name.clone(),
            ipv4,
            expires: None,
            claim: Some(Box::new(claim)),
            ext: Ext::NONE,
        };
        let draft = Draft {
            network,
            authority: genesis,
            time: Timestamp::from_ms(WALL_START_MS),
            parents: authority.heads(),
        };
        let op = Op::sign(Body::Grant(Box::new(grant)), draft, &self.founder);
        self.ledger.insert_op(op.bytes(), &mut self.change);
    }

    /// What all disks have in common.
    fn base(self) -> Base {
        let (mut ops, mut records) = (BTreeMap::new(), BTreeMap::new());
        assert!(
            self.change.refused == 0 && !self.change.held,
            "a charter holds nothing that a node would refuse"
        );
        for write in self.change.writes {
            match write {
                Write::Op(id, bytes) => {
                    ops.insert(id, bytes);
                }
                Write::Record(key, bytes) => {
                    records.insert(key, bytes);
                }
                Write::Admit(..)
                | Write::DropAdmit(_)
                | Write::DropRecord(_)
                | Write::Secrets(_)
                | Write::Heads(_)
                | Write::Heard(..)
                | Write::Blocked(_)
                | Write::Trial(_) => {}
            }
        }
        Base {
            ops,
            records,
            ledger: self.ledger,
        }
    }
}
