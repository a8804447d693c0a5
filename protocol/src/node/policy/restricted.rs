//! Invites whose newcomer reaches little: the rule that says so is signed in the same act.

use std::collections::BTreeSet;

use crate::body::{Body, Tags};
use crate::id::{NodeId, OpId};
use crate::io::{CommandId, InviteOptions, InvitePolicy, Refusal, Reply, RestrictedInvite};
use crate::name::Tag;
use crate::node::Node;
use crate::node::acts::Batch;
use crate::node::policy::change::checked;
use crate::policy::{
    Directory, Policy, Rule, Selector, Service, Terms, Troubles, difference, render,
};
use crate::time::Moment;
use crate::wire::Items;

/// Said above the rule among those who reached each other without a policy.
const BEFORE_NOTE: &str = "Everybody who was here reaches everybody, as without a policy.";
/// Tags that are tried when the one after the newcomer's name means somebody else.
const TAGS_TRIED_MAX: u32 = 1000;

/// What an invite needs of the policy.
pub(in crate::node) struct Rules {
    /// The op that says it; none: it says so already.
    pub(in crate::node) body: Option<Body>,
    /// What to tell.
    pub(in crate::node) told: InvitePolicy,
}

impl Node {
    pub(in crate::node) fn invite_only(
        &mut self,
        command: CommandId,
        asked: &RestrictedInvite,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.policy_hand()?;
        self.require_no_trial(now)?;
        let net = self.member_net()?;
        let directory = net.directory();
        let first = !net.view.policy().exists;
        let version = net.view.policy().ops.len();
        let (before, _) = net.editable_policy()?;
        let known = |node| directory.listings().contains_key(node);
        if asked.only.is_empty() || !asked.only.iter().all(|(node, _)| known(node)) {
            return Err(Refusal::UnknownNode);
        }
        let mut options = asked.invite.clone();
        let tag = tag(&mut options, &before, &directory)?;
        let mut wanted = before.clone();
        close(&mut wanted, &directory, first);
        admit(&mut wanted, &tag, &asked.only);
        let tags: BTreeSet<Tag> = options.tags.as_slice().iter().cloned().collect();
        let newcomer = (&tags, options.owner.as_ref());
        let rendered = render(&wanted, &directory);
        if let Some(stray) = wanted.stray(&directory, newcomer, &asked.only) {
            let line = rendered.lines.rules.get(stray).copied().unwrap_or(1);
            let text = rendered.text.lines().nth(line.saturating_sub(1) as usize);
            let text = text.unwrap_or_default().trim().trim_end_matches(',');
            return Err(Refusal::Stray(tag, text.to_owned()));
        }
        let (_, findings) = checked(&rendered.text, &directory);
        if !findings.is_sound() {
            self.reply(command, Reply::PolicyChecked(Box::new(findings)));
            return Ok(());
        }
        let none = Policy::default();
        let old = if first { &none } else { &before };
        let lines = difference(old, &wanted, &directory);
        let body = self.policy_body(&wanted, Troubles::Keep)?;
        let told = InvitePolicy {
            tag,
            version: version + usize::from(body.is_some()),
            first,
            lines,
        };
        self.invite_under(command, &options, Some(Rules { body, told }), now)
    }

    /// Signs an invite, and before it the rules that it needs: nobody hears of it without them.
    pub(in crate::node) fn sign_invite(
        &mut self,
        invite: Body,
        rules: Option<Body>,
        now: Moment,
    ) -> Result<(OpId, Items), Refusal> {
        let Some(rules) = rules else {
            let op = self.author(invite, now)?;
            let items = Items {
                ops: vec![op.bytes().to_vec()],
                ..Items::default()
            };
            return Ok((op.id(), items));
        };
        self.require_understanding()?;
        let hand = self.policy_hand()?;
        let mut batch = Batch::new(self.member_net()?, now);
        batch.sign(rules, &hand)?;
        let id = batch.sign(invite, &hand)?;
        Ok((id, self.commit(batch, now)?))
    }
}

/// The tag that the rule is for: the first that the invite gives, else one after the newcomer's name that means nobody.
fn tag(
    options: &mut InviteOptions,
    policy: &Policy,
    directory: &Directory,
) -> Result<Tag, Refusal> {
    if let Some(tag) = options.tags.as_slice().first() {
        return Ok(tag.clone());
    }
    let unnamed = Refusal::Limit("who reaches little needs a name or a tag");
    let name = options.name.as_ref().ok_or(unnamed.clone())?;
    let pinned = directory.pinned(&policy.nodes);
    let mut used: BTreeSet<Tag> = BTreeSet::new();
    used.extend(
        pinned
            .listings()
            .values()
            .flat_map(|node| node.tags.clone()),
    );
    used.extend(policy.tag_owners.keys().cloned());
    used.extend(selectors(policy).filter_map(|selector| {
        let Selector::Tag(tag) = selector else {
            return None;
        };
        Some(tag.clone())
    }));
    let tried = (1..=TAGS_TRIED_MAX).map(|number| match number {
        1 => name.to_string(),
        more => format!("{name}-{more}"),
    });
    let tag = tried
        .filter_map(|text| Tag::parse(&text).ok())
        .find(|tag| !used.contains(tag))
        .ok_or(unnamed.clone())?;
    options.tags = Tags::new(vec![tag.clone()]).map_err(|_| unnamed)?;
    Ok(tag)
}

fn selectors(policy: &Policy) -> impl Iterator<Item = &Selector> {
    let rules = policy.rules.iter();
    let groups = policy.groups.values().flat_map(|members| &members.of);
    let rules = rules.flat_map(|rule| {
        let terms: Vec<&Selector> = match &rule.terms {
            Terms::Acl { dst, .. } => dst.iter().map(|target| &target.who).collect(),
            Terms::Grant { dst, .. } => dst.iter().collect(),
        };
        rule.src.iter().chain(terms)
    });
    rules.chain(groups)
}

/// Says of every rule that begins with everybody who that is today, so that it does not mean who comes.
fn close(policy: &mut Policy, directory: &Directory, first: bool) {
    let pinned = directory.pinned(&policy.nodes);
    let tags: BTreeSet<Tag> = pinned
        .listings()
        .values()
        .flat_map(|node| node.tags.clone())
        .collect();
    let everybody: Vec<Selector> = [Selector::Member]
        .into_iter()
        .chain(tags.into_iter().map(Selector::Tag))
        .collect();
    for rule in &mut policy.rules {
        if !rule.src.contains(&Selector::All) {
            continue;
        }
        // Who could be reached by nobody in particular was reached by everybody; so it is with who is here.
        if let Terms::Grant { dst, ip } = &mut rule.terms
            && *dst == [Selector::All]
            && *ip == [Service::All]
        {
            dst.clone_from(&everybody);
        }
        rule.src.retain(|source| *source != Selector::All);
        for one in &everybody {
            if !rule.src.contains(one) {
                rule.src.push(one.clone());
            }
        }
        if first {
            BEFORE_NOTE.clone_into(&mut rule.note);
        }
    }
}

/// A rule for each node that may be reached.
fn admit(policy: &mut Policy, tag: &Tag, only: &[(NodeId, Service)]) {
    let nodes: BTreeSet<_> = only.iter().map(|(node, _)| *node).collect();
    for node in nodes {
        let services = only.iter().filter(|(other, _)| *other == node);
        let services: BTreeSet<Service> = services.map(|(_, service)| *service).collect();
        let rule = Rule {
            src: vec![Selector::Tag(tag.clone())],
            terms: Terms::Grant {
                dst: vec![Selector::Node(node)],
                ip: services.into_iter().collect(),
            },
            note: String::new(),
        };
        if !policy.rules.contains(&rule) {
            policy.rules.push(rule);
        }
    }
}
