//! Who appears in these tests: a founder, admins, members, and what they say over which parents.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use meshnode_protocol::authority::{Authority, AuthorityError, Inserted};
use meshnode_protocol::body::{
    Body, Caps, Cut, Genesis, Grant, Invite, InviteClose, InviteTerms, Ipv4Range, Level, OpIds,
    Policy, PolicyBase, Rekey, Revoke, Tags, net_fields,
};
use meshnode_protocol::claim::{Admit, AdmitTerms, Claim, ClaimTerms};
use meshnode_protocol::codec::Ext;
use meshnode_protocol::id::{Digest, InviteKey, NodeId, OpId, RootKey};
use meshnode_protocol::identity::{Context, Keys, Secret};
use meshnode_protocol::io::Standing;
use meshnode_protocol::name::{NetworkName, NodeName};
use meshnode_protocol::op::{Draft, Op};
use meshnode_protocol::time::Timestamp;
use meshnode_protocol::view::View;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The founder.
pub(crate) const F: usize = 0;
/// Admins, most of the time.
pub(crate) const A: usize = 1;
pub(crate) const B: usize = 2;
pub(crate) const C: usize = 3;
/// Members and joiners.
pub(crate) const X: usize = 4;
pub(crate) const Y: usize = 5;
pub(crate) const Z: usize = 6;
/// The root set.
pub(crate) const ROOT: usize = usize::MAX;

const ACTORS: usize = 7;
const NOW: Timestamp = Timestamp::from_ms(1_000_000);
const ORDERS: u64 = 6;

/// A network and everything that was said in it.
pub(crate) struct Cast {
    /// The devices.
    pub(crate) keys: Vec<Keys>,
    /// The stored set of one that heard everything at once.
    pub(crate) authority: Authority,
    /// The newest title of each device: what it cites.
    pub(crate) titles: Vec<OpId>,
    /// Devices that left.
    pub(crate) left: BTreeSet<NodeId>,
    root: Secret,
    invites: BTreeMap<OpId, Secret>,
    said: u64,
}

impl Cast {
    /// A founder alone.
    pub(crate) fn founded() -> Self {
        let keys: Vec<Keys> = (1..=ACTORS as u8).map(actor).collect();
        let root = Secret::from_seed(&[200; 32]);
        let genesis = Genesis {
            random: [1; 32],
            roots: vec![RootKey::new(root.public())],
            threshold: 1,
            name: NetworkName::parse("homelab").unwrap(),
            ipv4_range: Ipv4Range::DEFAULT,
            founder: keys[F].node(),
            founder_name: name(F),
            founder_ipv4: address(F),
            owner: None,
            epoch_commitment: Digest::ZERO,
            closed: false,
            ext: Ext::NONE,
        };
        let op = Op::found(genesis, NOW, std::slice::from_ref(&root), &keys[F].device);
        let (op, realm) = Op::parse_genesis(op.bytes()).unwrap();
        Self {
            keys,
            titles: vec![op.id(); ACTORS],
            authority: Authority::found(op, realm),
            left: BTreeSet::new(),
            root,
            invites: BTreeMap::new(),
            said: 0,
        }
    }

    /// A founder and admins of these levels, from [`A`] on.
    pub(crate) fn with_admins(levels: &[u8]) -> Self {
        let mut cast = Self::founded();
        for (admin, level) in (A..).zip(levels) {
            cast.grant(F, admin, *level);
        }
        cast
    }

    /// The genesis.
    pub(crate) fn genesis(&self) -> OpId {
        self.authority.realm().genesis
    }

    /// Says something over everything that was said.
    pub(crate) fn say(&mut self, author: usize, body: Body) -> OpId {
        let heads = self.authority.heads();
        self.say_over(author, &heads, body)
    }

    /// Says something over these parents.
    pub(crate) fn say_over(&mut self, author: usize, parents: &[OpId], body: Body) -> OpId {
        let cited = if author == ROOT {
            self.genesis()
        } else {
            self.titles[author]
        };
        self.say_under(author, cited, parents, body)
    }

    /// Says something under a title over these parents.
    pub(crate) fn say_under(
        &mut self,
        author: usize,
        cited: OpId,
        parents: &[OpId],
        body: Body,
    ) -> OpId {
        let device = body.grant().map(|grant| grant.device);
        let op = self.sign(author, cited, parents, body);
        let added = self.authority.insert_op(op.bytes());
        assert_eq!(added, Ok(Inserted::Added(vec![op.id()])));
        let granted = self
            .keys
            .iter()
            .position(|keys| Some(keys.node()) == device);
        if let Some(actor) = granted {
            self.titles[actor] = op.id();
        }
        op.id()
    }

    /// What becomes of something that may be refused.
    pub(crate) fn refused(
        &mut self,
        author: usize,
        parents: &[OpId],
        body: Body,
    ) -> AuthorityError {
        let cited = if author == ROOT {
            self.genesis()
        } else {
            self.titles[author]
        };
        let op = self.sign(author, cited, parents, body);
        self.authority.insert_op(op.bytes()).unwrap_err()
    }

    /// Signs something and keeps it back.
    pub(crate) fn sign(&mut self, author: usize, cited: OpId, parents: &[OpId], body: Body) -> Op {
        self.said += 1;
        let draft = Draft {
            network: self.authority.network(),
            authority: cited,
            time: Timestamp::from_ms(self.said),
            parents: parents.to_vec(),
        };
        if author == ROOT {
            let set = self.authority.realm().roots.clone();
            Op::sign_as_root(body, draft, std::slice::from_ref(&self.root), &set)
        } else {
            Op::sign(body, draft, &self.keys[author].device)
        }
    }

    /// A grant over everything that was said.
    pub(crate) fn grant(&mut self, author: usize, device: usize, level: u8) -> OpId {
        let body = self.grant_body(device, level);
        self.say(author, body)
    }

    /// What a plain grant says: an admin gets all caps.
    pub(crate) fn grant_body(&self, device: usize, level: u8) -> Body {
        Body::Grant(Box::new(self.plain_grant(device, level)))
    }

    /// A grant to be changed.
    pub(crate) fn plain_grant(&self, device: usize, level: u8) -> Grant {
        let admin = Level(level).is_admin();
        Grant {
            device: self.keys[device].node(),
            level: Level(level),
            caps: if admin { Caps::ALL } else { Caps::NONE },
            may_tag: Tags::default(),
            owner: None,
            tags: Tags::default(),
            name: name(device),
            ipv4: address(device),
            expires: None,
            claim: None,
            ext: Ext::NONE,
        }
    }

    /// A revocation with a cut.
    pub(crate) fn revoke(&self, device: usize, cut: Cut) -> Body {
        self.sparing(device, cut, Vec::new())
    }

    /// A revocation that spares some ops.
    pub(crate) fn sparing(&self, device: usize, cut: Cut, spare: Vec<OpId>) -> Body {
        Body::Revoke(Box::new(Revoke {
            device: self.keys[device].node(),
            cut,
            spare: OpIds::new(spare).unwrap(),
            reason: String::new(),
            ext: Ext::NONE,
        }))
    }

    /// An invite over everything that was said.
    pub(crate) fn invite(&mut self, author: usize, uses: u16, approve: bool) -> OpId {
        let secret = Secret::from_seed(&[100 + self.said as u8; 32]);
        let terms = InviteTerms {
            key: InviteKey::new(secret.public()),
            rendezvous: [0; 32],
            psk: [0; 32],
            uses,
            not_after: NOW,
            approve,
            ephemeral: false,
            owner: None,
            tags: Tags::default(),
            name: None,
            replaces: None,
            member_for_ms: None,
            ext: Ext::NONE,
        };
        let fields = net_fields(&self.genesis(), &self.keys[author].node(), &terms);
        let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
        let net_signature = secret.sign(Context::Net, &fields);
        let body = Body::Invite(Box::new(Invite {
            terms,
            net_signature,
        }));
        let id = self.say(author, body);
        self.invites.insert(id, secret);
        id
    }

    /// What a device claims at a witness.
    pub(crate) fn claim(&self, invite: OpId, joiner: usize, witness: usize) -> Claim {
        let (network, keys) = (self.authority.network(), &self.keys[joiner]);
        self.claim_of(invite, keys, network, witness)
    }

    /// What any device claims at a witness.
    pub(crate) fn claim_of(
        &self,
        invite: OpId,
        keys: &Keys,
        network: meshnode_protocol::id::NetworkId,
        witness: usize,
    ) -> Claim {
        let terms = ClaimTerms {
            version: 1,
            network,
            invite,
            device: keys.node(),
            transport: keys.transport_binding(&network),
            tunnel: keys.tunnel_binding(&network),
            name: NodeName::parse("guest").unwrap(),
            time: NOW,
            witness: self.keys[witness].node(),
            transcript: Digest::ZERO,
            ext: Ext::NONE,
        };
        Claim::sign(terms, &self.invites[&invite], &keys.device)
    }

    /// A device redeems an invite at a member.
    pub(crate) fn admit(&mut self, invite: OpId, joiner: usize, witness: usize) {
        let claim = self.claim(invite, joiner, witness);
        let admit = self.admit_of(claim, witness);
        self.authority.insert_admit(admit.bytes()).unwrap();
    }

    /// What a witness signs.
    pub(crate) fn admit_of(&self, claim: Claim, witness: usize) -> Admit {
        let terms = AdmitTerms {
            version: 1,
            network: self.authority.network(),
            claim,
            heads: Vec::new(),
            ext: Ext::NONE,
        };
        Admit::sign(terms, &self.keys[witness].device)
    }

    /// A grant that settles a claim.
    pub(crate) fn settling(&self, invite: OpId, joiner: usize, witness: usize) -> Body {
        let mut grant = self.plain_grant(joiner, 255);
        grant.claim = Some(Box::new(self.claim(invite, joiner, witness)));
        Body::Grant(Box::new(grant))
    }

    /// The view of everything, once replicas that heard it in other orders agree in every point.
    pub(crate) fn view(&self) -> View {
        let view = View::compute(&self.authority, &self.left, NOW);
        let mut ops: Vec<&[u8]> = self.authority.ops().map(|op| &**op.bytes()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..ORDERS {
            for place in (1..ops.len()).rev() {
                ops.swap(place, rng.next_u32() as usize % (place + 1));
            }
            let realm = self.authority.realm().clone();
            let genesis = self.authority.op(&realm.genesis).unwrap().clone();
            let mut replica = Authority::found(genesis, realm);
            for op in &ops {
                let _genesis_is_refused = replica.insert_op(op);
            }
            for admit in self.authority.admits() {
                replica.insert_admit(admit.bytes()).unwrap();
            }
            assert_eq!(replica.op_count(), self.authority.op_count());
            assert_eq!(View::compute(&replica, &self.left, NOW), view);
        }
        view
    }

    /// Who is in, by number.
    pub(crate) fn live(&self) -> Vec<usize> {
        let view = self.view();
        let live = |actor: &usize| view.live(&self.keys[*actor].node()).is_some();
        (0..ACTORS).filter(live).collect()
    }

    /// How far a device is in.
    pub(crate) fn standing(&self, actor: usize) -> Option<Standing> {
        let view = self.view();
        let member = view.members().get(&self.keys[actor].node())?;
        Some(member.standing)
    }

    /// Whether an op counts.
    pub(crate) fn counts(&self, op: OpId) -> bool {
        assert!(self.authority.contains(&op));
        !self.view().voids().contains_key(&op)
    }
}

/// A cut at these ops.
pub(crate) fn at(heads: &[OpId]) -> Cut {
    Cut::Heads(OpIds::new(heads.to_vec()).unwrap())
}

/// Ends an invite.
pub(crate) fn close(invite: OpId) -> Body {
    Body::InviteClose(InviteClose {
        invite,
        ext: Ext::NONE,
    })
}

/// A fresh start of the policy.
pub(crate) fn base(previous: Option<OpId>, text: &str) -> Body {
    Body::PolicyBase(PolicyBase {
        previous,
        change: text.as_bytes().to_vec(),
        ext: Ext::NONE,
    })
}

/// A change of the policy.
pub(crate) fn change(base: OpId, text: &str) -> Body {
    Body::Policy(Policy {
        base,
        change: text.as_bytes().to_vec(),
        ext: Ext::NONE,
    })
}

/// A new epoch; its commitment repeats a number.
pub(crate) fn rekey(epoch: u32, commitment: u8) -> Body {
    Body::Rekey(Rekey {
        epoch,
        commitment: Digest::new([commitment; 32]),
        ext: Ext::NONE,
    })
}

/// The name that a plain grant claims.
pub(crate) fn name(actor: usize) -> NodeName {
    NodeName::parse(&format!("node-{actor}")).unwrap()
}

/// The address that a plain grant claims.
pub(crate) fn address(actor: usize) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 1, 1 + actor as u8)
}

/// The keys of a number.
pub(crate) fn actor(number: u8) -> Keys {
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
