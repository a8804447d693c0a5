//! The words for what the core refuses.

use meshnode_protocol::body::Level;
use meshnode_protocol::io::{InviteRefusal, Refusal};
use meshnode_protocol::name::{NetworkName, NodeName, Tag};
use meshnode_protocol::time::Timestamp;

use super::{Exit, Failure};
use crate::units;

/// What the sentences need besides the refusal.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// The network, as far as known.
    pub(crate) network: Option<NetworkName>,
    /// This node's name, as far as known.
    pub(crate) this: Option<NodeName>,
    /// How long was waited, in milliseconds.
    pub(crate) waited_ms: u64,
    /// What the clock says.
    pub(crate) now: Timestamp,
}

impl About {
    fn network(&self) -> &str {
        let name = self.network.as_ref();
        name.map_or("the network", NetworkName::as_str)
    }

    fn this(&self) -> &str {
        self.this.as_ref().map_or("this node", NodeName::as_str)
    }
}

impl Failure {
    /// The words for a refusal.
    pub(crate) fn of_refusal(refusal: &Refusal, about: &About) -> Self {
        let network = about.network();
        match refusal {
            Refusal::NotAdmin(admins) => not_admin(admins, about),
            Refusal::LastAdmin => last_admin(about),
            Refusal::NotReady => {
                let text = "this node is not through joining its network";
                Self::new(Exit::Refused, "not_ready", text).hint("meshnode status")
            }
            Refusal::UnknownNode => {
                let text = format!("no such node in {network}");
                Self::new(Exit::Usage, "unknown_node", text).hint("meshnode status lists them")
            }
            Refusal::SelfPing => Self::self_ping(about.this()),
            Refusal::StillWaiting(_) => Self::approval_pending(),
            Refusal::NobodyAnswered(asked) => nobody_answered(asked, about),
            Refusal::NotTheNetwork(address) => not_the_network(address),
            Refusal::Invite(refusal) => invite(refusal, about),
            Refusal::Clock { ours, theirs } => clock(*ours, *theirs),
            Refusal::Disk(cause) => {
                let text = format!("the disk does not take writes: {cause}");
                Self::new(Exit::Refused, "disk", text).hint("make room, then try again")
            }
            Refusal::Outdated => {
                let version = env!("CARGO_PKG_VERSION");
                let text = format!("{network} needs a newer meshnode, this is {version}");
                Self::new(Exit::Refused, "outdated", text).hint("upgrade, then try again")
            }
            Refusal::Limit(what) => {
                let text = format!("a limit of this program is reached: {what}");
                Self::new(Exit::Refused, "limit", text)
            }
            Refusal::RevokeSelf => Self::revoke_self(),
            Refusal::TooJunior {
                node,
                level,
                own,
                admins,
            } => too_junior(node, *level, *own, admins, about),
            Refusal::UnknownInvite(_) => unknown_invite(network),
            Refusal::NotPending(name) => not_pending(name),
            Refusal::AlreadyAdmin(name) => {
                let text = format!("{name} is an admin already");
                Self::new(Exit::Refused, "already_admin", text).hint("meshnode admin lists them")
            }
            Refusal::NotAnAdmin(name) => {
                let text = format!("{name} is no admin");
                Self::new(Exit::Refused, "not_an_admin", text).hint("meshnode admin lists them")
            }
            Refusal::WrongPhrase => wrong_phrase(network),
            Refusal::BadPetition => bad_petition(),
            Refusal::UnknownSince => unknown_since(),
            Refusal::UnknownVersion(_) => unknown_version(network),
            Refusal::PolicyMoved => policy_moved(),
            Refusal::PolicyUnbuilt => policy_unbuilt(network),
            Refusal::OnTrial(left_ms) => on_trial(*left_ms),
            Refusal::NoTrial => no_trial(),
            Refusal::Stray(tag, rule) => stray(tag, rule),
            Refusal::NameTaken(name) => name_taken(name),
            Refusal::PolicyTooLarge { bytes, max } => policy_too_large(*bytes, *max),
            Refusal::Revoked => {
                let text = format!("this node was put out of {network}");
                Self::new(Exit::Denied, "revoked", text)
                    .hint("meshnode leave, then join with a new invite")
            }
        }
    }

    /// A ping of oneself.
    pub(crate) fn self_ping(this: &str) -> Self {
        Self::new(Exit::Usage, "self_ping", format!("{this} is this machine"))
            .hint("name another node: meshnode status lists them")
    }

    /// A revocation of oneself.
    pub(crate) fn revoke_self() -> Self {
        let text = "a node does not revoke itself";
        Self::new(Exit::Usage, "revoke_self", text).hint("to go for ever: meshnode leave")
    }

    /// A join whose time ran out while an admin's approval is still to come.
    pub(crate) fn approval_pending() -> Self {
        let text = "still waiting for approval; the daemon goes on waiting";
        Self::new(Exit::TimedOut, APPROVAL_PENDING, text)
            .hint("meshnode status shows it; meshnode leave gives up")
    }

    /// An `init`, or a join with another network's code, where a network is already.
    pub(crate) fn other_network(network: &NetworkName, local_name: &str, joining: bool) -> Self {
        let (rest, verb) = if joining {
            (", and the code is for another network", "join")
        } else {
            ("", "init")
        };
        let text = format!("this machine is already in {network} ({local_name}){rest}");
        Self::new(Exit::Refused, "other_network", text).hint(format!("meshnode {verb} -n NAME"))
    }
}

fn unknown_invite(network: &str) -> Failure {
    let text = format!("{network} has no such open invite");
    Failure::new(Exit::Usage, "unknown_invite", text).hint("meshnode invite list --all lists them")
}

fn not_pending(name: &NodeName) -> Failure {
    let text = format!("{name} does not wait for anything");
    Failure::new(Exit::Refused, "not_pending", text).hint("meshnode pending lists who waits")
}

fn unknown_version(network: &str) -> Failure {
    let text = format!("{network} has no such version of its policy, or not here");
    Failure::new(Exit::Usage, "unknown_version", text).hint("meshnode policy log lists them")
}

fn policy_moved() -> Failure {
    let text = "somebody changed the policy meanwhile";
    Failure::new(Exit::Refused, "policy_moved", text).hint("look at it again: meshnode policy")
}

fn policy_unbuilt(network: &str) -> Failure {
    let text = format!("the policy of {network} cannot be built here");
    Failure::new(Exit::Refused, "policy_unbuilt", text)
        .hint("wait until what is missing is here, or set a whole one: meshnode policy set FILE")
}

fn on_trial(left_ms: u64) -> Failure {
    let left = units::span_s(left_ms.div_ceil(1_000));
    let text = format!("a change of the policy is on trial, for {left} more");
    Failure::new(Exit::Refused, "on_trial", text)
        .hint("let it stay: meshnode policy keep")
        .hint("or take another version: meshnode policy rollback VERSION")
}

fn no_trial() -> Failure {
    let text = "nothing is on trial here: it was kept, it is undone, or it never was";
    Failure::new(Exit::Refused, "no_trial", text).hint("meshnode policy log shows what holds")
}

fn stray(tag: &Tag, rule: &str) -> Failure {
    let rule = crate::output::clean_text(rule);
    let text = format!("tag:{tag} could reach more than that, by the rule {rule}");
    Failure::new(Exit::Refused, "stray_rule", text)
        .hint("say there who is meant: meshnode policy edit")
}

fn name_taken(name: &NodeName) -> Failure {
    let text = format!("another node is called {name}");
    Failure::new(Exit::Refused, "name_taken", text).hint("meshnode status lists the nodes")
}

fn policy_too_large(bytes: usize, max: usize) -> Failure {
    let text = format!("the policy takes {bytes} bytes, and {max} are the most");
    Failure::new(Exit::Refused, "policy_too_large", text)
        .hint("put nodes into groups, or let one rule name several")
}

fn wrong_phrase(network: &str) -> Failure {
    let text = format!("that is not the recovery phrase of {network}");
    Failure::new(Exit::Denied, "wrong_phrase", text).hint("look at every word, then try again")
}

fn bad_petition() -> Failure {
    let text = "the petition is damaged, of another network, or the network went on since";
    Failure::new(Exit::Refused, "bad_petition", text).hint("begin again: meshnode recovery use")
}

fn unknown_since() -> Failure {
    let text = "this node knows nothing of theirs from that time or op on";
    Failure::new(Exit::Usage, "unknown_since", text).hint("meshnode log shows what it knows")
}

fn too_junior(
    node: &NodeName,
    level: Level,
    own: Level,
    admins: &[(NodeName, bool)],
    about: &About,
) -> Failure {
    let (Level(level), Level(own)) = (level, own);
    let text = format!(
        "{node} is more senior (level {level}) than {} (level {own})",
        about.this()
    );
    let text = if level == own {
        format!("{node} is as senior as {} (level {own})", about.this())
    } else {
        text
    };
    let failure = Failure::new(Exit::Denied, "too_junior", text);
    let with_phrase = format!("with the recovery phrase: meshnode revoke {node} --recovery");
    if admins.is_empty() {
        return failure.hint(with_phrase);
    }
    let state = |online: &bool| if *online { "online" } else { "away" };
    let names: Vec<String> = admins
        .iter()
        .take(NAMES_MAX)
        .map(|(name, online)| format!("{name} ({})", state(online)))
        .collect();
    failure
        .hint(format!("senior enough: {}", names.join(", ")))
        .hint(with_phrase)
}

/// The code of [`Failure::approval_pending`]: the one failure after which a daemon goes on.
pub(crate) const APPROVAL_PENDING: &str = "approval_pending";

fn not_admin(admins: &[(NodeName, bool)], about: &About) -> Failure {
    let text = format!("{} is no admin of {}", about.this(), about.network());
    let failure = Failure::new(Exit::Denied, "not_admin", text);
    if admins.is_empty() {
        return failure;
    }
    let state = |online: &bool| if *online { "online" } else { "away" };
    let admins: Vec<String> = admins
        .iter()
        .take(NAMES_MAX)
        .map(|(name, online)| format!("{name} ({})", state(online)))
        .collect();
    failure.hint(format!("type it on an admin: {}", admins.join(", ")))
}

fn last_admin(about: &About) -> Failure {
    let text = format!(
        "{} is the only admin of {}: without it nobody can let a machine in",
        about.this(),
        about.network()
    );
    Failure::new(Exit::Refused, "last_admin", text)
        .hint("to leave all the same: meshnode leave --yes")
}

fn nobody_answered(asked: &[String], about: &About) -> Failure {
    let span = units::span_s(about.waited_ms.saturating_add(500) / 1_000);
    let mut text = format!("nobody answered for this code in {span}");
    if !asked.is_empty() {
        text.push_str("\nasked: ");
        text.push_str(&asked.join(", "));
    }
    Failure::new(Exit::TimedOut, "nobody_answered", text).hint(
        "is a machine of the network on? Elsewhere than its LAN the code needs its @host:port \
         part: make a new invite there",
    )
}

fn not_the_network(address: &str) -> Failure {
    let text = format!(
        "somebody answered at {address} but could not prove to be the network of this code"
    );
    Failure::new(Exit::Refused, "not_the_network", text)
        .hint("do not use that address; ask the sender")
}

fn clock(ours: Timestamp, theirs: Timestamp) -> Failure {
    let text = format!(
        "this machine's clock says {}; the network's says {}",
        units::date(ours),
        units::date(theirs)
    );
    Failure::new(Exit::Refused, "clock", text).hint("set the clock: sudo timedatectl set-ntp true")
}

fn invite(refusal: &InviteRefusal, about: &About) -> Failure {
    match refusal {
        InviteRefusal::Expired { not_after, admins } => {
            let text = format!("this invite expired {}", units::ago(*not_after, about.now));
            let hint = match names(admins) {
                Some(admins) => format!("ask for a new one; {admins} can make it"),
                None => "ask for a new one".to_owned(),
            };
            Failure::new(Exit::Invite, "invite_expired", text).hint(hint)
        }
        InviteRefusal::UsedUp { by, at, uses } => used_up(by.as_ref(), *at, *uses, about),
        InviteRefusal::Closed => {
            let text = "this invite was cancelled, or its maker is no admin any more";
            Failure::new(Exit::Invite, "invite_closed", text).hint("ask for a new one")
        }
        InviteRefusal::WitnessClock => {
            let text = "the clock of the machine that answered is too far off to judge the invite";
            Failure::new(Exit::Refused, "witness_clock", text)
                .hint("set the clock there, or try again while another member is on")
        }
        InviteRefusal::Declined { by } => {
            let by = by.as_ref().map(|name| format!(" ({name})"));
            let text = format!("an admin{} declined this machine", by.unwrap_or_default());
            Failure::new(Exit::Denied, "declined", text)
        }
        InviteRefusal::NotWitness => {
            let text = "the machine that answered cannot let anybody in: it is not confirmed \
                        itself, or its program is too old";
            Failure::new(Exit::Refused, "not_witness", text)
                .hint("try again while another member is on")
        }
    }
}

fn used_up(by: Option<&NodeName>, at: Timestamp, uses: u16, about: &About) -> Failure {
    let machines = if uses == 1 {
        "one machine".to_owned()
    } else {
        format!("{uses} machines")
    };
    let ago = units::span_s(about.now.since_ms(at) / 1_000);
    let (who, hint) = match by {
        Some(by) => (
            format!("{by} took it {ago} ago"),
            format!("if {by} is not yours, tell the sender at once; else ask for a new one"),
        ),
        None => (
            format!("it was taken {ago} ago"),
            "if that was not you, tell the sender at once; else ask for a new one".to_owned(),
        ),
    };
    let text = format!("this invite is used up: it was for {machines} and {who}");
    Failure::new(Exit::Invite, "invite_used", text).hint(hint)
}

/// `nas`, `nas and laptop`, `nas, laptop and vps`; nothing for nobody.
fn names(names: &[NodeName]) -> Option<String> {
    let names: Vec<&str> = names.iter().take(NAMES_MAX).map(NodeName::as_str).collect();
    let (last, front) = names.split_last()?;
    if front.is_empty() {
        return Some((*last).to_owned());
    }
    Some(format!("{} and {last}", front.join(", ")))
}

/// More names than these do not help.
const NAMES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn about() -> About {
        About {
            network: NetworkName::parse("homelab").ok(),
            this: NodeName::parse("laptop").ok(),
            waited_ms: 60_000,
            now: Timestamp::from_ms(1_795_190_640_000),
        }
    }

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn told(refusal: &Refusal) -> (u8, String, Vec<String>) {
        let failure = Failure::of_refusal(refusal, &about());
        (failure.exit.code(), failure.text, failure.hints)
    }

    #[test]
    fn an_expired_invite_says_when_and_who_can_make_another() {
        let not_after = Timestamp::from_ms(about().now.ms() - 3 * HOUR_MS);
        let admins = vec![node("nas"), node("laptop")];
        let (exit, text, hints) = told(&Refusal::Invite(InviteRefusal::Expired {
            not_after,
            admins,
        }));
        assert_eq!(exit, 8);
        assert!(
            text.starts_with("this invite expired 3 h ago (2026-11-20 "),
            "{text}"
        );
        assert_eq!(hints, ["ask for a new one; nas and laptop can make it"]);
    }

    #[test]
    fn a_used_invite_says_who_took_it_and_when() {
        let at = Timestamp::from_ms(about().now.ms() - 2 * HOUR_MS);
        let by = Some(node("tablet"));
        let uses = 1;
        let (exit, text, hints) = told(&Refusal::Invite(InviteRefusal::UsedUp { by, at, uses }));
        assert_eq!(exit, 8);
        assert_eq!(
            text,
            "this invite is used up: it was for one machine and tablet took it 2 h ago"
        );
        assert_eq!(
            hints,
            ["if tablet is not yours, tell the sender at once; else ask for a new one"]
        );
    }

    #[test]
    fn nobody_answering_says_who_was_asked() {
        let asked = vec!["this LAN".to_owned(), "vps.example.org:41641".to_owned()];
        let (exit, text, hints) = told(&Refusal::NobodyAnswered(asked));
        assert_eq!(exit, 7);
        assert_eq!(
            text,
            "nobody answered for this code in 60 s\nasked: this LAN, vps.example.org:41641"
        );
        assert_eq!(hints.len(), 1);
    }

    #[test]
    fn every_refusal_has_its_exit_code() {
        let ours = Timestamp::from_ms(0);
        let theirs = about().now;
        let cases = [
            (Refusal::NotAdmin(vec![(node("nas"), true)]), 6),
            (Refusal::LastAdmin, 1),
            (Refusal::NotReady, 1),
            (Refusal::UnknownNode, 2),
            (Refusal::SelfPing, 2),
            (Refusal::NotTheNetwork("203.0.113.9:41641".to_owned()), 1),
            (Refusal::Invite(InviteRefusal::Closed), 8),
            (Refusal::Invite(InviteRefusal::WitnessClock), 1),
            (Refusal::Invite(InviteRefusal::NotWitness), 1),
            (Refusal::Clock { ours, theirs }, 1),
            (Refusal::Disk("no space".to_owned()), 1),
            (Refusal::Outdated, 1),
            (Refusal::Limit("invites"), 1),
        ];
        for (refusal, exit) in cases {
            assert_eq!(told(&refusal).0, exit, "{refusal:?}");
        }
    }

    #[test]
    fn a_wrong_clock_shows_both_dates() {
        let (ours, theirs) = (Timestamp::from_ms(0), about().now);
        let (_, text, _) = told(&Refusal::Clock { ours, theirs });
        assert_eq!(
            text,
            "this machine's clock says 1970-01-01; the network's says 2026-11-20"
        );
    }

    #[test]
    fn who_may_not_is_told_who_may() {
        let admins = vec![(node("nas"), true), (node("vps"), false)];
        let (_, text, hints) = told(&Refusal::NotAdmin(admins));
        assert_eq!(text, "laptop is no admin of homelab");
        assert_eq!(hints, ["type it on an admin: nas (online), vps (away)"]);
    }
}
