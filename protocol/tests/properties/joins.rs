//! Invites in a random network, and who redeems them.

use std::collections::BTreeSet;

use meshnode_protocol::body::{Body, Invite, InviteTerms, net_fields};
use meshnode_protocol::claim::{Admit, AdmitTerms, Claim, ClaimTerms};
use meshnode_protocol::id::{Digest, InviteKey, OpId};
use meshnode_protocol::identity::{Context, Secret};
use rand_core::Rng;

use crate::scenario::{ACTORS, NOW, Scenario};

impl Scenario {
    pub(crate) fn say_invite(&mut self, partition: usize) {
        let (author, authority) = self.speaker(partition);
        let uses = 1 + self.below(3) as u16;
        self.invite(partition, author, authority, uses);
    }

    /// An invite; true if it passed.
    pub(crate) fn invite(
        &mut self,
        partition: usize,
        author: usize,
        authority: OpId,
        uses: u16,
    ) -> bool {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let secret = Secret::from_seed(&seed);
        let terms = InviteTerms {
            key: InviteKey::new(secret.public()),
            rendezvous: seed,
            psk: seed,
            uses,
            not_after: NOW,
            approve: self.one_in(5),
            ephemeral: false,
            owner: self.owner(),
            tags: self.tags(),
            name: if self.one_in(3) {
                Some(self.name())
            } else {
                None
            },
            replaces: None,
            member_for_ms: None,
            ext: self.ext(),
        };
        // Seldom the invite is signed for another issuer.
        let issuer = if self.one_in(8) { 9 } else { author };
        let genesis = self.authority.realm().genesis;
        let fields = net_fields(&genesis, &self.nodes[issuer], &terms);
        let fields: Vec<&[u8]> = fields.iter().map(<[u8; 32]>::as_slice).collect();
        let net_signature = secret.sign(Context::Net, &fields);
        let body = Body::Invite(Box::new(Invite {
            terms,
            net_signature,
        }));
        let before: BTreeSet<OpId> = self.heard[partition].clone();
        let passed = self.say(partition, author, authority, body);
        let new = self.heard[partition].difference(&before).next().copied();
        if let Some(invite) = new {
            self.invites.insert(invite, secret);
        }
        passed
    }

    pub(crate) fn join(&mut self, partition: usize) {
        let known: Vec<OpId> = self.invites.keys().copied().collect();
        if known.is_empty() {
            return;
        }
        let invite = known[self.below(known.len())];
        // Mostly a stranger at somebody who may be an admin.
        let joiner = ACTORS - 1 - self.below(ACTORS - 3);
        let witness = if self.one_in(4) {
            self.below(ACTORS)
        } else {
            self.below(3)
        };
        self.admit(partition, invite, joiner, witness);
    }

    /// A device redeems an invite at a witness.
    pub(crate) fn admit(&mut self, partition: usize, invite: OpId, joiner: usize, witness: usize) {
        let network = self.authority.network();
        let terms = ClaimTerms {
            version: 1,
            network,
            invite,
            device: self.nodes[joiner],
            transport: self.keys[joiner].transport_binding(&network),
            tunnel: self.keys[joiner].tunnel_binding(&network),
            name: self.name(),
            time: NOW,
            witness: self.nodes[witness],
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
            ext: self.ext(),
        };
        let admit = Admit::sign(terms, &self.keys[witness].device);
        self.admits.push(admit.bytes().to_vec());
        // A refusal is part of the scenario.
        let _ = self.authority.insert_admit(admit.bytes());
    }
}
