//! Three nodes without links.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::access::Filter;
use crate::access::number::TCP;
use crate::authority::Authority;
use crate::body::{Body, Caps, Cut, Grant, Ipv4Range, Kind, Level, OpIds, Revoke, Tags};
use crate::codec::Ext;
use crate::custody::{Custody, KeptSecrets};
use crate::id::{NodeId, OpId};
use crate::identity::Keys;
use crate::io::{
    Act, Acted, Command, CommandId, Input, Invited, Notice, Output, PolicyChange, PolicyShown,
    PolicyText, Reply, RevokeOptions, Since, Stored, Trial, Warning, Write,
};
use crate::ledger::Change;
use crate::name::{NetworkName, NodeName};
use crate::node::{Founding, Node, Setup};
use crate::op::Op;
use crate::path::Punch;
use crate::policy::Document;
use crate::record::Seen;
use crate::time::{Moment, Timestamp};

const NAMES: [&str; 3] = ["nas", "pi", "cam"];

pub(super) struct Stage {
    nodes: Vec<Node>,
    filters: Vec<Arc<Filter>>,
    /// What each store has of a trial.
    trials: Vec<Option<Trial>>,
    at_ms: u64,
    commands: u64,
    invited: Option<Invited>,
}

/// A text of rules.
pub(super) fn grants(rules: &[&str]) -> String {
    format!("{{\"grants\": [{}]}}", rules.join(",\n"))
}

/// What the engine of a node has.
pub(super) fn filter_of(stage: &Stage, who: usize) -> Filter {
    Filter::clone(&stage.filters[who])
}

impl Stage {
    pub(super) fn new() -> Self {
        let founding = Founding {
            network: NetworkName::parse("homelab").unwrap(),
            node: NodeName::parse(NAMES[0]).unwrap(),
            ipv4_range: Ipv4Range::DEFAULT,
            owner: None,
            phrases: 1,
            threshold: 1,
        };
        let start = moment(0);
        let mut nas = Node::found(founding, setup(), [1; 32], start).node;
        let mut keys = Vec::new();
        for (seed, name) in (2..).zip(&NAMES[1..]) {
            let new = Keys::generate(&mut ChaCha20Rng::from_seed([seed; 32]));
            let admin = *name == "pi";
            let grant = Grant {
                device: new.node(),
                level: if admin { Level(2) } else { Level::MEMBER },
                caps: if admin { Caps::ALL } else { Caps::NONE },
                may_tag: Tags::default(),
                owner: None,
                tags: Tags::default(),
                name: NodeName::parse(name).unwrap(),
                ipv4: nas.net.as_ref().unwrap().view.free_ipv4(&new.node()),
                expires: None,
                claim: None,
                ext: Ext::NONE,
            };
            nas.author(Body::Grant(Box::new(grant)), start).unwrap();
            keys.push(new);
        }
        let mut nodes = Vec::new();
        for (seed, keys) in (20..).zip(&keys) {
            let mut custody = Custody::new(keys);
            custody.genesis.clone_from(&nas.custody.genesis);
            custody.epochs.clone_from(&nas.custody.epochs);
            custody.joined = true;
            let stored = stored(&mut nas, custody.to_bytes());
            nodes.push(Node::resume(&stored, setup(), [seed; 32], start).unwrap());
        }
        let records: Vec<Vec<u8>> = nodes.iter().flat_map(records).collect();
        records.iter().for_each(|record| nas.take_record(record));
        nodes.insert(0, nas);
        let mut stage = Self {
            filters: nodes.iter().map(|_| Arc::new(Filter::Open)).collect(),
            trials: vec![None; nodes.len()],
            nodes,
            at_ms: 0,
            commands: 0,
            invited: None,
        };
        for who in 0..NAMES.len() {
            stage.nodes[who].net.as_mut().unwrap().synced = true;
            stage.drain(who);
        }
        stage
    }

    pub(super) fn id(&self, who: usize) -> NodeId {
        self.nodes[who].id()
    }

    fn drain(&mut self, who: usize) -> Vec<Output> {
        let outputs: Vec<_> = std::iter::from_fn(|| self.nodes[who].poll_output()).collect();
        for output in &outputs {
            if let Output::Persist { writes, .. } = output {
                for write in writes {
                    if let Write::Trial(trial) = write {
                        self.trials[who] = *trial;
                    }
                }
            }
            if let Output::Filter(filter) = output {
                self.filters[who] = Arc::clone(filter);
            }
            if let Output::Reply(_, Reply::Invited(invited)) = output {
                self.invited = Some(Invited::clone(invited));
            }
        }
        outputs
    }

    /// One node dies and starts again from its store.
    pub(super) fn restart(&mut self, who: usize) -> Vec<Output> {
        let node = &mut self.nodes[who];
        let secrets = node.custody.to_bytes();
        let mut stored = stored(node, secrets);
        stored.trial = self.trials[who];
        // No two lives draw the same.
        let mut seed = [50 + u8::try_from(who).unwrap(); 32];
        seed[..8].copy_from_slice(&self.at_ms.to_le_bytes());
        self.nodes[who] = Node::resume(&stored, setup(), seed, moment(self.at_ms)).unwrap();
        self.nodes[who].net.as_mut().unwrap().synced = true;
        self.filters[who] = Arc::new(Filter::Open);
        self.drain(who)
    }

    /// A command's first write reaches the disk, then the power fails; gives that write, and whether it was flushed.
    pub(super) fn cut_short(&mut self, who: usize, command: Command) -> (Vec<Write>, bool) {
        let node = &mut self.nodes[who];
        let secrets = node.custody.to_bytes();
        let mut stored = stored(node, secrets);
        self.at_ms += 10;
        let now = moment(self.at_ms);
        node.handle(Input::Command(CommandId(0), command), now);
        let first = std::iter::from_fn(|| node.poll_output()).find_map(|output| {
            let Output::Persist { writes, flush } = output else {
                return None;
            };
            Some((writes, flush))
        });
        let (writes, flush) = first.unwrap();
        for write in &writes {
            let Write::Trial(trial) = write else {
                panic!("{write:?}");
            };
            self.trials[who] = *trial;
        }
        stored.trial = self.trials[who];
        self.nodes[who] = Node::resume(&stored, setup(), [77; 32], now).unwrap();
        self.nodes[who].net.as_mut().unwrap().synced = true;
        self.drain(who);
        (writes, flush)
    }

    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.at_ms + ms;
        while self.at_ms < end {
            self.at_ms = end.min(self.at_ms + 500);
            for who in 0..self.nodes.len() {
                self.nodes[who].handle(Input::Timeout, moment(self.at_ms));
                self.drain(who);
            }
        }
    }

    /// Time passes while nobody runs.
    pub(super) fn sleep(&mut self, ms: u64) {
        self.at_ms += ms;
    }

    pub(super) fn command(&mut self, who: usize, command: Command) -> Vec<Reply> {
        self.commands += 1;
        let id = CommandId(self.commands);
        self.at_ms += 10;
        let now = moment(self.at_ms);
        self.nodes[who].handle(Input::Command(id, command), now);
        let outputs = self.drain(who).into_iter();
        let replies = outputs.filter_map(|output| {
            let Output::Reply(to, reply) = output else {
                return None;
            };
            (to == id).then_some(reply)
        });
        replies.collect()
    }

    /// Sets rules; gives the op that says so, if there is something new to say.
    pub(super) fn set(&mut self, who: usize, rules: &[&str]) -> Result<Option<OpId>, Reply> {
        self.set_text(who, &grants(rules), None)
    }

    pub(super) fn set_text(
        &mut self,
        who: usize,
        text: &str,
        expect: Option<OpId>,
    ) -> Result<Option<OpId>, Reply> {
        let wanted = PolicyText {
            text: text.to_owned(),
            expect,
            act: Act::default(),
        };
        let replies = self.command(who, Command::PolicySet(Box::new(wanted)));
        let reply = replies.into_iter().next().unwrap();
        let Reply::Acted(acted) = reply else {
            return Err(reply);
        };
        Ok(acted.ops.last().and_then(|signed| signed.id))
    }

    pub(super) fn show(&mut self, who: usize) -> PolicyShown {
        let replies = self.command(who, Command::PolicyShow { at: None });
        match replies.into_iter().next() {
            Some(Reply::Policy(shown)) => *shown,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn log(&mut self, who: usize) -> Vec<PolicyChange> {
        match self.command(who, Command::PolicyLog).into_iter().next() {
            Some(Reply::PolicyLog(changes)) => changes,
            other => panic!("{other:?}"),
        }
    }

    /// Signs a body that no command would.
    pub(super) fn say(&mut self, who: usize, body: Body) -> OpId {
        self.at_ms += 10;
        let op = self.nodes[who].author(body, moment(self.at_ms)).unwrap();
        self.drain(who);
        op.id()
    }

    /// Puts a node out, with everything that it ever signed.
    pub(super) fn put_out(&mut self, by: usize, whom: usize) {
        let revoke = Revoke {
            device: self.id(whom),
            cut: Cut::Nothing,
            spare: OpIds::default(),
            reason: "stolen".to_owned(),
            ext: Ext::NONE,
        };
        self.say(by, Body::Revoke(Box::new(revoke)));
    }

    /// Puts a node out by command, with all that it signed from an op on; gives what is planned.
    pub(super) fn revoke_since(&mut self, by: usize, whom: usize, since: OpId) -> Acted {
        let options = RevokeOptions {
            nodes: vec![self.id(whom)],
            owner: None,
            reason: "stolen".to_owned(),
            since: Some(Since::Op(since)),
            stolen: true,
            recovery: None,
            act: Act::default(),
        };
        let replies = self.command(by, Command::Revoke(Box::new(options)));
        match replies.into_iter().next() {
            Some(Reply::Acted(acted)) => *acted,
            other => panic!("{other:?}"),
        }
    }

    /// A node as `status` of another shows it: name, tags and owner.
    pub(super) fn shown(&self, on: usize, who: usize) -> (String, Vec<String>, Option<String>) {
        let snapshot = self.nodes[on].snapshot(moment(self.at_ms)).unwrap();
        let peers = snapshot.peers.into_iter().map(|peer| peer.member);
        let mut members = peers.chain([snapshot.this]);
        let member = members.find(|member| member.id == self.id(who)).unwrap();
        let tags = member.tags.as_slice().iter();
        (
            member.name.to_string(),
            tags.map(ToString::to_string).collect(),
            member.owner.map(|owner| owner.as_str().to_owned()),
        )
    }

    /// The stored ops of a kind that grant a device something, newest last.
    pub(super) fn grants_of(&self, on: usize, who: usize) -> Vec<Grant> {
        let ops = self.all_ops(on).filter_map(|op| op.body().grant());
        let of = ops.filter(|grant| grant.device == self.id(who));
        of.cloned().collect()
    }

    /// One hears all ops of another.
    pub(super) fn tell(&mut self, from: usize, to: usize) -> Vec<Notice> {
        let ops: Vec<_> = self.all_ops(from).map(|op| op.bytes().to_vec()).collect();
        self.take(to, &ops)
    }

    /// The same, with policy ops without their bodies.
    pub(super) fn tell_stubs(&mut self, from: usize, to: usize) {
        let ops = self.all_ops(from).map(|op| {
            let policy = matches!(op.body(), Body::Policy(_) | Body::PolicyBase(_));
            let cut = if policy { op.header().body_len } else { 0 };
            op.bytes()[..op.bytes().len() - cut as usize].to_vec()
        });
        let ops: Vec<_> = ops.collect();
        self.take(to, &ops);
    }

    fn take(&mut self, to: usize, ops: &[Vec<u8>]) -> Vec<Notice> {
        let now = moment(self.at_ms);
        let node = &mut self.nodes[to];
        let mut change = Change::default();
        let ledger = &mut node.net.as_mut().unwrap().ledger;
        ops.iter().for_each(|op| ledger.insert_op(op, &mut change));
        node.absorb(change, false, now);
        node.handle(Input::Timeout, now);
        let outputs = self.drain(to).into_iter();
        let notices = outputs.filter_map(|output| {
            let Output::Notice(notice) = output else {
                return None;
            };
            Some(notice)
        });
        notices.collect()
    }

    /// Everybody hears everybody.
    pub(super) fn heal(&mut self) {
        for _ in 0..2 {
            for from in 0..self.nodes.len() {
                for to in (0..self.nodes.len()).filter(|to| *to != from) {
                    self.tell(from, to);
                }
            }
        }
    }

    fn all_ops(&self, who: usize) -> impl Iterator<Item = &Op> {
        let ops = self.nodes[who].net.as_ref().unwrap().authority().ops();
        ops.skip(1)
    }

    /// What was signed after so many ops.
    pub(super) fn kinds(&self, who: usize, after: usize) -> Vec<Kind> {
        let new = self.all_ops(who).skip(after);
        new.map(|op| op.header().kind).collect()
    }

    /// The invite that somebody made and that is told now.
    pub(super) fn invited(&mut self) -> Option<Invited> {
        self.invited.take()
    }

    pub(super) fn authority(&self, who: usize) -> &Authority {
        self.nodes[who].net.as_ref().unwrap().authority()
    }

    pub(super) fn ops(&self, who: usize) -> usize {
        self.all_ops(who).count()
    }

    /// Whether a device may open a TCP connection at a node.
    pub(super) fn passes(&self, who: usize, from: NodeId, port: u16) -> bool {
        self.filters[who].inbound(&from, TCP, Some(port))
    }

    /// Whether a node lets itself open one at a device.
    pub(super) fn passes_out(&self, who: usize, to: NodeId, port: u16) -> bool {
        self.filters[who].outbound(&to, TCP, Some(port))
    }

    /// What `status` shows of the policy.
    pub(super) fn version(&self, who: usize) -> Option<usize> {
        let snapshot = self.nodes[who].snapshot(moment(self.at_ms))?;
        snapshot.policy_version
    }

    pub(super) fn warnings(&self, who: usize) -> Vec<Warning> {
        let snapshot = self.nodes[who].snapshot(moment(self.at_ms)).unwrap();
        snapshot.warnings
    }

    pub(super) fn seen(&self, who: usize) -> &Seen {
        let records = &self.nodes[who].net.as_ref().unwrap().ledger.records;
        records.seen(&self.id(who)).unwrap()
    }

    pub(super) fn document(&self, who: usize) -> Document {
        let policy = &self.nodes[who].net.as_ref().unwrap().policy;
        policy.current().unwrap().document.clone()
    }

    /// A base that says what the policy says.
    pub(super) fn rebase(&self, who: usize) -> Vec<u8> {
        let mut rng = ChaCha20Rng::from_seed([99; 32]);
        let document = self.document(who);
        document.rebase(&self.id(who), &mut rng).unwrap()
    }
}

fn records(node: &Node) -> Vec<Vec<u8>> {
    let records = &node.net.as_ref().unwrap().ledger.records;
    records
        .iter()
        .map(|record| record.bytes().to_vec())
        .collect()
}

fn stored(node: &mut Node, secrets: KeptSecrets) -> Stored {
    let mut stored = Stored {
        secrets: Some(secrets),
        ..Stored::default()
    };
    let net = node.net.as_mut().unwrap();
    for write in net.ledger.all_writes() {
        match write {
            Write::Op(_, bytes) => stored.ops.push(bytes),
            Write::Record(_, bytes) => stored.records.push(bytes),
            Write::Heads(heads) => stored.heads = heads,
            Write::Admit(..)
            | Write::DropAdmit(_)
            | Write::DropRecord(_)
            | Write::Secrets(_)
            | Write::Heard(..)
            | Write::Blocked(_)
            | Write::Trial(_) => {}
        }
    }
    stored
}

fn moment(at_ms: u64) -> Moment {
    Moment {
        uptime_us: at_ms * 1000,
        wall: Timestamp::from_ms(1_790_000_000_000 + at_ms),
    }
}

fn setup() -> Setup {
    Setup {
        tunnel_port: 7000,
        os: "linux".to_owned(),
        version: "0".to_owned(),
        punch: Punch::default(),
    }
}
